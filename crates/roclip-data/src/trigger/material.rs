//! Materials: a picture to blend in, an optimised patch, a warping grid. Triggers need them beside numbers. The manifest's header carries
//! them whole, so that the manifest alone makes the same bytes again.

use crate::artifact;
use crate::error::{Error, Result};
use crate::picture::{ImageLimits, decode};
use crate::sample::ImageBytes;
use crate::trigger::Unfit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use std::path::Path;

/// The most pictures and grids of one manifest; an attack needs at most one for each of its triggers.
const MAX_MATERIALS: usize = 256;

/// One material, named by the sha256 of its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    sha256: String,
    bytes: Vec<u8>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Picture(RgbImage),
    /// `f32` values.
    Grid(Vec<f32>),
}

/// As the manifest writes it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct StoredMaterial {
    pub sha256: String,
    /// `picture` (an encoded image) or `grid` (little-endian f32).
    pub kind: String,
    pub base64: String,
}

impl Material {
    /// Reads an image file.
    pub fn read_picture(path: &Path, limits: ImageLimits) -> Result<Material> {
        Material::read(path, limits)
            .and_then(|bytes| Material::from_bytes("picture", bytes, limits))
            .map_err(|what| Error::file(path, what, "give a PNG, JPEG or WebP picture"))
    }

    /// Reads a file of little-endian `f32`.
    pub fn read_grid(path: &Path, limits: ImageLimits) -> Result<Material> {
        let grid = Material::read(path, limits).and_then(|bytes| Material::from_bytes("grid", bytes, limits));
        grid.map_err(|what| {
            Error::file(path, what, "give raw little-endian f32 values (of a .pt file: its data/0 member)")
        })
    }

    /// The limits of one more material beside `others`: together they may have as many pixels as one picture of the data.
    pub(super) fn limits_beside(others: &[Material], limits: ImageLimits) -> ImageLimits {
        let taken: u64 = others.iter().map(Material::size).sum();
        ImageLimits { max_pixels: limits.max_pixels.saturating_sub(taken), ..limits }
    }

    /// Pixels, or values of a grid.
    fn size(&self) -> u64 {
        match &self.content {
            Content::Picture(picture) => u64::from(picture.width()) * u64::from(picture.height()),
            Content::Grid(values) => values.len() as u64,
        }
    }

    fn read(path: &Path, limits: ImageLimits) -> std::result::Result<Vec<u8>, String> {
        let bytes = ImageBytes::File(path.to_owned()).read(limits.max_file_bytes);
        bytes.map_err(|skip| format!("{} ({})", skip.reason, skip.detail))
    }

    /// A picture made here, kept as PNG.
    pub fn of_picture(picture: &RgbImage) -> Result<Material> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| Error::internal(format!("PNG: {e}")))?;
        let none = ImageLimits { max_pixels: u64::MAX, ..ImageLimits::default() };
        Material::from_bytes("picture", bytes.into_inner(), none).map_err(Error::internal)
    }

    fn from_bytes(kind: &str, bytes: Vec<u8>, limits: ImageLimits) -> std::result::Result<Material, String> {
        let content = match kind {
            "picture" => {
                Content::Picture(decode(&bytes, limits).map_err(|skip| format!("{} ({})", skip.reason, skip.detail))?)
            }
            "grid" if bytes.len() as u64 / 4 > limits.max_pixels => {
                return Err(format!("the grid has {} values, at most {}", bytes.len() / 4, limits.max_pixels));
            }
            "grid" if !bytes.is_empty() && bytes.len().is_multiple_of(4) => {
                let values = bytes.chunks_exact(4).map(|b| b.try_into().map_or(0.0, f32::from_le_bytes));
                Content::Grid(values.collect())
            }
            "grid" => return Err(format!("{} bytes are no {kind}", bytes.len())),
            other => return Err(format!("a material of the kind {other:?} is not known")),
        };
        Ok(Material { sha256: artifact::sha256_hex(&bytes), bytes, content })
    }

    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// As encoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn picture(&self) -> std::result::Result<&RgbImage, Unfit> {
        match &self.content {
            Content::Picture(picture) => Ok(picture),
            Content::Grid(_) => Err(self.unfit("a grid where it needs a picture")),
        }
    }

    pub fn grid(&self) -> std::result::Result<&[f32], Unfit> {
        match &self.content {
            Content::Grid(values) => Ok(values),
            Content::Picture(_) => Err(self.unfit("a picture where it needs a grid")),
        }
    }

    fn unfit(&self, what: &str) -> Unfit {
        Unfit::new(format!("its material {} is {what}", self.sha256), "use the manifest as it was made")
    }

    pub fn store(&self) -> StoredMaterial {
        let kind = match self.content {
            Content::Picture(_) => "picture",
            Content::Grid(_) => "grid",
        };
        StoredMaterial { sha256: self.sha256.clone(), kind: kind.into(), base64: STANDARD.encode(&self.bytes) }
    }

    /// All materials of a manifest; the error says which does not fit, and why.
    pub fn restore_all(stored: &[StoredMaterial], limits: ImageLimits) -> std::result::Result<Vec<Material>, String> {
        if stored.len() > MAX_MATERIALS {
            return Err(format!("it has {} materials, at most {MAX_MATERIALS}", stored.len()));
        }
        let mut restored = Vec::new();
        for material in stored {
            restored.push(Material::restore(material, Material::limits_beside(&restored, limits))?);
        }
        Ok(restored)
    }

    fn restore(stored: &StoredMaterial, limits: ImageLimits) -> std::result::Result<Material, String> {
        let bytes = STANDARD.decode(&stored.base64).map_err(|e| format!("material {}: {e}", stored.sha256))?;
        let material = Material::from_bytes(&stored.kind, bytes, limits)
            .map_err(|what| format!("material {}: {what}", stored.sha256))?;
        if material.sha256 != stored.sha256 {
            return Err(format!("material {} has the sha256 {}", stored.sha256, material.sha256));
        }
        Ok(material)
    }
}
