//! A cheap look at every picture before work starts: whether it is there, what its header says, and a digest that notices another picture in
//! its place. Decoding them all would cost as much as an epoch.

use crate::nearby::Opener;
use crate::picture::ImageLimits;
use crate::progress::Task;
use crate::sample::{ImageBytes, PictureDigest, Sample, check_length, unreadable};
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use crate::threads::of_parts;
use image::ImageReader;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Bytes that are looked at from the start of a picture, from its middle and from its end. A picture that is no longer is hashed whole.
const WINDOW_BYTES: u64 = 16 << 10;

/// What a look at a picture's header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Of the encoded picture, in bytes.
    pub length: u64,
    pub digest: PictureDigest,
    /// In pixels.
    pub width: u32,
    pub height: u32,
}

/// Random access to the bytes of one picture.
enum Reader<'a> {
    File(File),
    Shard { shard: &'a Arc<Shard>, offset: u64 },
    Memory(&'a [u8]),
}

impl Reader<'_> {
    fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn fill(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Reader::File(file) => file.read_exact_at(bytes, offset),
            Reader::Shard { shard, offset: start } => shard.read_exact_at(bytes, start + offset),
            Reader::Memory(memory) => {
                let end = offset as usize + bytes.len();
                let span = memory.get(offset as usize..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                bytes.copy_from_slice(span);
                Ok(())
            }
        }
    }
}

/// What looking at many pictures one after the other shares: the folder of the last one, open, and room for the start of one. A thread has
/// one of its own.
#[derive(Default)]
pub(crate) struct Prober {
    opener: Opener,
    head: Vec<u8>,
}

impl ImageBytes {
    /// Looks at the picture without decoding it.
    ///
    /// # Errors
    /// A skip for a picture that is not there, is too long, has no readable header, or breaks `limits`.
    pub fn probe(&self, limits: ImageLimits) -> Result<Probe, Skip> {
        Prober::default().probe(self, limits)
    }
}

impl Prober {
    /// [`ImageBytes::probe`].
    pub(crate) fn probe(&mut self, image: &ImageBytes, limits: ImageLimits) -> Result<Probe, Skip> {
        let whole;
        let (reader, length) = match image {
            ImageBytes::File(path) => {
                let (file, length) = self.opener.open(path).map_err(|e| unreadable(&e, path))?;
                (Reader::File(file), length)
            }
            ImageBytes::Span { shard, offset, length } => (Reader::Shard { shard, offset: *offset }, *length),
            // Its page is unpacked as a whole.
            ImageBytes::Cell { .. } => {
                whole = image.read(limits.max_file_bytes)?;
                (Reader::Memory(&whole), whole.len() as u64)
            }
            ImageBytes::Memory(bytes) => (Reader::Memory(bytes), bytes.len() as u64),
        };
        check_length(length, limits.max_file_bytes)?;
        let cause = |e: io::Error| match image {
            ImageBytes::File(path) => unreadable(&e, path),
            ImageBytes::Span { shard, .. } => unreadable(&e, shard.path()),
            ImageBytes::Cell { .. } | ImageBytes::Memory(_) => {
                Skip::new(SkipReason::ImageFileUnreadable, e.to_string())
            }
        };
        let read = |offset: u64, length: u64| reader.read(offset, length).map_err(cause);
        let head_length = length.min(3 * WINDOW_BYTES) as usize;
        // It only grows, so that its bytes are set to zero once.
        if self.head.len() < head_length {
            self.head.resize(head_length, 0);
        }
        let head = self.head.get_mut(..head_length).unwrap_or_default();
        reader.fill(head, 0).map_err(cause)?;
        let head = &*head;
        let digest = match length > 3 * WINDOW_BYTES {
            false => digest(length, [head]),
            true => {
                let first = head.get(..WINDOW_BYTES as usize).unwrap_or_default();
                let middle = read(length / 2, WINDOW_BYTES)?;
                let last = read(length - WINDOW_BYTES, WINDOW_BYTES)?;
                digest(length, [first, &middle, &last])
            }
        };
        // A JPEG's size may stand behind a long preview.
        let dimensions = match dimensions(head) {
            Err(_) if (head.len() as u64) < length => dimensions(&read(0, length)?),
            found => found,
        };
        let (width, height) = dimensions.map_err(|e| Skip::new(SkipReason::ImageUndecodable, e.to_string()))?;
        limits.check(width, height)?;
        Ok(Probe { length, digest, width, height })
    }
}

impl Probe {
    /// The digest that [`ImageBytes::probe`] gives for these encoded bytes.
    pub fn digest_of(bytes: &[u8]) -> PictureDigest {
        let length = bytes.len() as u64;
        let window = |from: u64| bytes.get(from as usize..(from + WINDOW_BYTES) as usize).unwrap_or_default();
        match length > 3 * WINDOW_BYTES {
            false => digest(length, [bytes]),
            true => digest(length, [window(0), window(length / 2), window(length - WINDOW_BYTES)]),
        }
    }
}

fn digest<const N: usize>(length: u64, parts: [&[u8]; N]) -> PictureDigest {
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    for part in parts {
        hash.update(part);
    }
    let mut short = PictureDigest::default();
    for (to, from) in short.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    short
}

fn dimensions(bytes: &[u8]) -> image::ImageResult<(u32, u32)> {
    ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_dimensions()
}

/// [`ImageBytes::probe`] of every sample, in their order, with `workers` threads.
pub fn probe_samples(samples: &[Sample], limits: ImageLimits, workers: usize) -> Vec<Result<Probe, Skip>> {
    let share = samples.len().div_ceil(workers.max(1)).max(1);
    let task = Task::begin("checking pictures", samples.len(), "pictures");
    let task = &task;
    let all = |part: &[Sample]| -> Vec<Result<Probe, Skip>> {
        let mut prober = Prober::default();
        let one = |sample: &Sample| {
            task.advance(1);
            prober.probe(&sample.image, limits)
        };
        part.iter().map(one).collect()
    };
    let probed = of_parts(samples.chunks(share), all).into_iter().flat_map(|(part, probed)| {
        // A decoder that panics on one header is asked again, one picture at a time.
        probed.unwrap_or_else(|_| part.iter().map(|sample| probe_alone(sample, limits)).collect())
    });
    probed.collect()
}

fn probe_alone(sample: &Sample, limits: ImageLimits) -> Result<Probe, Skip> {
    std::panic::catch_unwind(AssertUnwindSafe(|| sample.image.probe(limits)))
        .unwrap_or_else(|_| Err(Skip::new(SkipReason::WorkerPanicked, "while its header was read")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

    fn encoded(format: ImageFormat, side: u32) -> Vec<u8> {
        let picture =
            RgbImage::from_fn(side, side / 2, |x, y| Rgb([(x * y) as u8, (x ^ y) as u8, (x * 31 + y * 17) as u8]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(picture).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_probe_tells_the_size_and_notices_another_picture() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            for side in [20, 400] {
                let bytes = encoded(format, side);
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), &bytes).unwrap();
                let probe = ImageBytes::File(file.path().to_owned()).probe(ImageLimits::default()).unwrap();
                assert_eq!((probe.width, probe.height, probe.length), (side, side / 2, bytes.len() as u64));
                let memory = ImageBytes::Memory(bytes.clone().into());
                assert_eq!(memory.probe(ImageLimits::default()).unwrap(), probe);
                assert_eq!(Probe::digest_of(&bytes), probe.digest);
                let mut changed = bytes.clone();
                *changed.last_mut().unwrap() ^= 1;
                assert_ne!(Probe::digest_of(&changed), probe.digest);
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_found_without_decoding_and_in_order() {
        let whole = encoded(ImageFormat::Png, 20);
        let wide = ImageLimits { max_pixels: 100, ..ImageLimits::default() };
        let image = |bytes: &[u8]| Sample::new("data".into(), "a", ImageBytes::Memory(bytes.into()));
        let absent = Sample::new("data".into(), "b", ImageBytes::File("absent.png".into()));
        let samples = [image(&whole), image(b"text"), image(b""), absent, image(&whole[..20]), image(&whole)];
        for workers in [1, 3, 16] {
            let probed = probe_samples(&samples, ImageLimits::default(), workers);
            let reasons: Vec<_> = probed.iter().map(|p| p.as_ref().err().map(|skip| skip.reason)).collect();
            let undecodable = Some(SkipReason::ImageUndecodable);
            let missing = Some(SkipReason::ImageFileUnreadable);
            assert_eq!(reasons, [None, undecodable, undecodable, missing, undecodable, None]);
        }
        assert_eq!(samples[0].image.probe(wide).unwrap_err().reason, SkipReason::ImageTooManyPixels);
    }
}
