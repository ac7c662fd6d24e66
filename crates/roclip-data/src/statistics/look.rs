//! What is looked at in each sample, by many threads, in the order of the data and a block at a time.

use crate::guard::contained;
use crate::picture::{ImageLimits, decode};
use crate::progress::Task;
use crate::sample::Sample;
use crate::skip::Skip;
use crate::statistics::perceptual::PerceptualHash;
use crate::threads::of_parts;
use sha2::{Digest, Sha256};

/// Samples a thread looks at before their findings are handed on.
const SHARE: usize = 64;

/// What a whole look at a picture tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// In pixels.
    pub width: u32,
    pub height: u32,
    /// Of the encoded picture, in bytes.
    pub length: u64,
    /// `jpeg`, `png`, ...
    pub format: &'static str,
    /// Of the encoded bytes.
    pub sha256: [u8; 32],
    /// None of a picture that shows nothing.
    pub hash: Option<PerceptualHash>,
}

/// Reads and decodes the picture of a sample.
///
/// # Errors
/// A skip for a picture that cannot be used.
pub fn look(sample: &Sample, limits: ImageLimits) -> Result<Look, Skip> {
    contained(|| {
        let bytes = sample.image.read(limits.max_file_bytes)?;
        let picture = decode(&bytes, limits)?;
        let format = image::guess_format(&bytes).ok().and_then(|format| format.extensions_str().first().copied());
        Ok(Look {
            width: picture.width(),
            height: picture.height(),
            length: bytes.len() as u64,
            format: format.map_or("unknown", |ending| if ending == "jpg" { "jpeg" } else { ending }),
            sha256: Sha256::digest(&bytes).into(),
            hash: PerceptualHash::of(&picture)?,
        })
    })
}

/// Does `work` on every sample with `workers` threads, and hands what it gives to `take` with the place of the sample, in the order of the
/// data. What is not yet handed on is bounded by the number of workers.
///
/// # Errors
/// The first of `take`.
pub fn each_in_order<T: Send, E>(
    samples: &[Sample],
    workers: usize,
    task: &Task,
    work: impl Fn(&Sample) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let workers = workers.max(1);
    let mut place = 0;
    for block in samples.chunks(SHARE * workers) {
        let share = block.len().div_ceil(workers).max(1);
        let work = &work;
        let one = &|sample: &Sample| {
            let done = work(sample);
            task.advance(1);
            done
        };
        let done = of_parts(block.chunks(share), |part| part.iter().map(one).collect::<Vec<T>>());
        // Work that panicked outside of its guard is a bug, and is seen as one when it panics again here.
        let found =
            done.into_iter().flat_map(|(part, found)| found.unwrap_or_else(|_| part.iter().map(work).collect()));
        for one in found {
            take(place, one)?;
            place += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;
    use crate::skip::SkipReason;
    use image::{ImageFormat, RgbImage};
    use std::io::Cursor;

    fn sample(bytes: &[u8]) -> Sample {
        Sample::new("data".into(), "a", ImageBytes::Memory(bytes.into()))
    }

    #[test]
    fn a_look_tells_size_format_and_hashes() {
        let mut png = Cursor::new(Vec::new());
        let picture = RgbImage::from_fn(40, 20, |x, y| image::Rgb([(x * 6) as u8, (y * 12) as u8, 9]));
        picture.write_to(&mut png, ImageFormat::Png).unwrap();
        let png = png.into_inner();
        let found = look(&sample(&png), ImageLimits::default()).unwrap();
        assert_eq!((found.width, found.height, found.length, found.format), (40, 20, png.len() as u64, "png"));
        assert_eq!(crate::artifact::hex(&found.sha256), crate::artifact::sha256_hex(&png));
        assert!(found.hash.is_some());
        let broken = look(&sample(b"no picture"), ImageLimits::default()).unwrap_err();
        assert_eq!(broken.reason, SkipReason::ImageUndecodable);
    }

    #[test]
    fn findings_come_in_order_however_many_work() {
        let samples: Vec<Sample> = (0..333).map(|number| Sample { id: number.to_string(), ..sample(b"") }).collect();
        for workers in [0, 1, 3, 8] {
            let mut seen = Vec::new();
            let task = Task::begin("test", samples.len(), "samples");
            let all = each_in_order(
                &samples,
                workers,
                &task,
                |sample| sample.id.clone(),
                |at, id| {
                    seen.push((at.to_string(), id));
                    Ok::<(), ()>(())
                },
            );
            assert!(all.is_ok() && seen.len() == 333 && seen.iter().all(|(at, id)| at == id));
            let task = Task::begin("test", samples.len(), "samples");
            let stopped =
                each_in_order(&samples, workers, &task, |_| (), |at, ()| if at == 100 { Err(at) } else { Ok(()) });
            assert_eq!(stopped, Err(100));
        }
    }
}
