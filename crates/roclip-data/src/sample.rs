//! A sample: one image with its captions, as a source names it. Bytes are read when a worker asks for them.

use crate::picture::{ImageLimits, decode};
use crate::skip::{Skip, SkipReason};
use image::RgbImage;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the encoded bytes of an image are.
#[derive(Debug, Clone)]
pub enum ImageBytes {
    File(PathBuf),
    /// A member of an uncompressed tar, read in place.
    Span {
        archive: Arc<File>,
        path: Arc<Path>,
        offset: u64,
        length: u64,
    },
    Memory(Arc<[u8]>),
}

impl ImageBytes {
    /// The encoded bytes; an error names the file. `limit_bytes` guards memory against an absurd file.
    pub fn read(&self, limit_bytes: u64) -> std::result::Result<Vec<u8>, Skip> {
        let failed = |e: std::io::Error, path: &Path| {
            Skip::new(SkipReason::ImageFileUnreadable, format!("{}: {e}", path.display()))
        };
        match self {
            ImageBytes::File(path) => {
                let length = std::fs::metadata(path).map_err(|e| failed(e, path))?.len();
                if length > limit_bytes {
                    return Err(Skip::new(
                        SkipReason::ImageFileTooLarge,
                        format!("{length} bytes, at most {limit_bytes}"),
                    ));
                }
                std::fs::read(path).map_err(|e| failed(e, path))
            }
            ImageBytes::Span { archive, path, offset, length } => {
                if *length > limit_bytes {
                    return Err(Skip::new(
                        SkipReason::ImageFileTooLarge,
                        format!("{length} bytes, at most {limit_bytes}"),
                    ));
                }
                let mut bytes = vec![0; *length as usize];
                archive.read_exact_at(&mut bytes, *offset).map_err(|e| failed(e, path))?;
                Ok(bytes)
            }
            ImageBytes::Memory(bytes) => Ok(bytes.to_vec()),
        }
    }
}

/// One image with its captions, as a source names it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The part of the data that lists it: a path as the recipe names it, or `emoji`. Source and key together say which picture this is.
    pub source: Arc<str>,
    /// Its name within the source.
    pub key: String,
    /// Unique within the data and the same on every machine: the key, with the end of the source's path before it where several parts
    /// are joined. Random streams, manifests and skips name a sample so.
    pub id: String,
    pub image: ImageBytes,
    pub captions: Vec<String>,
    /// The class of the image, where the source knows it (for evaluation and diagnostics, never for training).
    pub class: Option<String>,
    /// A coarser class, where there is one.
    pub group: Option<String>,
    /// `train`, `val`, `test`, ... where the source says so.
    pub split: Option<String>,
}

impl Sample {
    /// A sample without captions and class, whose id is its key.
    pub fn new(source: Arc<str>, key: impl Into<String>, image: ImageBytes) -> Self {
        let key = key.into();
        Sample { source, id: key.clone(), key, image, captions: Vec::new(), class: None, group: None, split: None }
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
