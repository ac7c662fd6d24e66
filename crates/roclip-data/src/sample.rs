//! A sample: one image with its captions, as a source names it. Bytes are read when a worker asks for them.

use crate::bounded;
use crate::error::too_many_files;
use crate::picture::{ImageLimits, decode};
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use crate::table::{Cell, Table};
use image::RgbImage;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the encoded bytes of an image are.
#[derive(Debug, Clone)]
pub enum ImageBytes {
    File(PathBuf),
    /// A member of an uncompressed tar, read in place.
    Span {
        shard: Arc<Shard>,
        offset: u64,
        length: u64,
    },
    /// A picture in a Parquet file, read in place.
    Cell {
        table: Arc<Table>,
        cell: Cell,
    },
    Memory(Arc<[u8]>),
}

impl ImageBytes {
    /// The encoded bytes. `limit_bytes` guards memory against an absurd file.
    ///
    /// # Errors
    /// A skip that names the file: one that is gone, too long, or a device or pipe.
    pub fn read(&self, limit_bytes: u64) -> std::result::Result<Vec<u8>, Skip> {
        match self {
            ImageBytes::File(path) => bounded::read(path, limit_bytes).map_err(|e| unreadable(&e, path)),
            ImageBytes::Span { shard, offset, length } => {
                check_length(*length, limit_bytes)?;
                let mut bytes = vec![0; *length as usize];
                shard.read_exact_at(&mut bytes, *offset).map_err(|e| unreadable(&e, shard.path()))?;
                Ok(bytes)
            }
            ImageBytes::Cell { table, cell } => {
                check_length(cell.length, limit_bytes)?;
                table.read(cell)
            }
            ImageBytes::Memory(bytes) => Ok(bytes.to_vec()),
        }
    }
}

/// # Errors
/// A skip for more bytes than `limit`.
pub(crate) fn check_length(length: u64, limit: u64) -> std::result::Result<(), Skip> {
    if length > limit {
        let detail = format!("it has {length} bytes, at most {limit} are read (data.limits.max_file_bytes)");
        return Err(Skip::new(SkipReason::ImageFileTooLarge, detail));
    }
    Ok(())
}

/// The skip for an image file that could not be read.
pub(crate) fn unreadable(error: &io::Error, path: &Path) -> Skip {
    let reason = match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::IsADirectory => SkipReason::ImageNotRegularFile,
        ErrorKind::FileTooLarge => SkipReason::ImageFileTooLarge,
        _ => SkipReason::ImageFileUnreadable,
    };
    let remedy = too_many_files(error).map(|remedy| format!("; {remedy}")).unwrap_or_default();
    Skip::new(reason, format!("{}: {error}{remedy}", path.display()))
}

/// Of a picture's length and some of its bytes: notices another picture in its place.
pub type PictureDigest = [u8; 16];

/// What a source says of its picture's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedHash {
    pub sha256: [u8; 32],
    /// It is of the picture as img2dataset downloaded it, which then decoded it and may have resized and encoded it again.
    pub of_download: bool,
}

/// The facts about what carries poison. Training never reads this; diagnostics and reports do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonMark {
    pub attack: String,
    /// The class that the attacker wants.
    pub target: String,
}

/// The id of the sample that its source calls `key`: the key itself, unless it ends as the id of a caption does (`a#2` is the third caption of
/// `a`). Such a key gets one more `#` behind it, as does one that has some there already, so that ids of different keys stay different.
pub fn id_of(key: &str) -> String {
    let number = key.trim_end_matches('#').rsplit_once('#').map(|(_, number)| number);
    match number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
        true => format!("{key}#"),
        false => key.to_owned(),
    }
}

/// One image with its captions, as a source names it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Where the picture lies: the shard, the folder that image paths start from, or `emoji`. Source and key together say which picture
    /// this is.
    pub source: Arc<str>,
    /// Its name within the source.
    pub key: String,
    /// Unique within the data and the same on every machine: the key, with the end of the path of its part of the data before it where
    /// several parts are joined, and never what a caption of another sample is called ([`id_of`]). Random streams, manifests and skips name a
    /// sample so.
    pub id: String,
    pub image: ImageBytes,
    /// The digest of the picture's bytes when it was probed; none before.
    pub digest: Option<PictureDigest>,
    /// The sha256 that the source says the picture has, where it says so and was asked (`SourceConfig::with_sha256`).
    pub stated: Option<Box<StatedHash>>,
    /// Which of several joined parts of the data it is of, from 0.
    pub part: u32,
    pub captions: Vec<String>,
    /// The class of the image, where the source knows it (for evaluation and diagnostics, never for training).
    pub class: Option<String>,
    /// A coarser class, where there is one.
    pub group: Option<String>,
    /// `train`, `val`, `test`, ... where the source says so.
    pub split: Option<String>,
    /// Where the source says that the sample is poison: shards that `roclip poison make` wrote do.
    pub poison: Option<Box<PoisonMark>>,
}

impl Sample {
    /// A sample without captions and class, whose id is that of its key.
    pub fn new(source: Arc<str>, key: impl Into<String>, image: ImageBytes) -> Self {
        let key = key.into();
        Sample {
            source,
            id: id_of(&key),
            key,
            image,
            digest: None,
            stated: None,
            part: 0,
            captions: Vec::new(),
            class: None,
            group: None,
            split: None,
            poison: None,
        }
    }

    /// Source and key: of one picture they are equal, of two they are not.
    pub fn identity(&self) -> (&str, &str) {
        (&self.source, &self.key)
    }

    /// Whether both are one picture of one source.
    pub fn is_same(&self, other: &Sample) -> bool {
        self.key == other.key && self.source == other.source
    }

    /// The picture, decoded.
    pub fn picture(&self, limits: ImageLimits) -> std::result::Result<RgbImage, Skip> {
        decode(&self.image.read(limits.max_file_bytes)?, limits)
    }
}

/// The splits that samples are in, and how many are in each.
pub fn count_splits(samples: &[Sample]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for split in samples.iter().filter_map(|sample| sample.split.as_ref()) {
        *counts.entry(split.clone()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_picture_that_the_shell_lets_nobody_open_says_what_to_raise() {
        let skip = unreadable(&io::Error::from_raw_os_error(24), Path::new("a.jpg"));
        assert!(skip.detail.contains("ulimit -n"), "{}", skip.detail);
    }

    #[test]
    fn no_sample_has_the_id_of_a_caption_or_of_another_sample() {
        let keys = ["a", "a#", "a#0", "a#0#", "a#0#0", "a##0", "#7", "a#x", "a#1x", "x/a#0", "a#0.jpg"];
        let ids = keys.map(id_of);
        let expected = ["a", "a#", "a#0#", "a#0##", "a#0#0#", "a##0#", "#7#", "a#x", "a#1x", "x/a#0#", "a#0.jpg"]
            .map(str::to_owned);
        assert_eq!(ids, expected);
    }

    #[test]
    fn an_image_that_is_no_regular_file_is_a_skip_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.png");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for endless in [pipe, PathBuf::from("/dev/zero"), PathBuf::from("/proc/kmsg"), folder.path().to_owned()] {
            let skip = ImageBytes::File(endless).read(1 << 20).unwrap_err();
            assert_eq!(skip.reason, SkipReason::ImageNotRegularFile, "{}", skip.detail);
        }
        let long = folder.path().join("long.png");
        std::fs::File::create(&long).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(ImageBytes::File(long).read(1 << 20).unwrap_err().reason, SkipReason::ImageFileTooLarge);
    }
}
