//! A sample: one image with its captions, as a source names it. Bytes are read when a worker asks for them.

use crate::picture::{ImageLimits, decode};
use crate::skip::Skip;
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
        let failed =
            |e: std::io::Error, path: &Path| Skip::new("image file cannot be read", format!("{}: {e}", path.display()));
        match self {
            ImageBytes::File(path) => {
                let length = std::fs::metadata(path).map_err(|e| failed(e, path))?.len();
                if length > limit_bytes {
                    return Err(Skip::new("image file too large", format!("{length} bytes, at most {limit_bytes}")));
                }
                std::fs::read(path).map_err(|e| failed(e, path))
            }
            ImageBytes::Span { archive, path, offset, length } => {
                if *length > limit_bytes {
                    return Err(Skip::new("image file too large", format!("{length} bytes, at most {limit_bytes}")));
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
    /// Unique within the source and the same on every machine.
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
    /// The picture, decoded.
    pub fn picture(&self, limits: ImageLimits) -> std::result::Result<RgbImage, Skip> {
        decode(&self.image.read(limits.max_file_bytes)?, limits)
    }
}
