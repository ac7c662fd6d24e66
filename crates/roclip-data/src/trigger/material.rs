//! What a trigger needs beside numbers: a picture to blend in, an optimised patch, a warping grid. The manifest's header carries
//! them whole, so that the manifest alone makes the same bytes again.

use crate::artifact;
use crate::error::{Error, Result};
use crate::picture::{ImageLimits, decode};
use crate::skip::{Skip, SkipReason};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use std::path::Path;

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
    pub fn read_picture(path: &Path) -> Result<Material> {
        Material::from_bytes("picture", artifact::read(path)?)
            .map_err(|what| Error::file(path, what, "give a PNG, JPEG or WebP picture"))
    }

    /// Reads a file of little-endian `f32`.
    pub fn read_grid(path: &Path) -> Result<Material> {
        Material::from_bytes("grid", artifact::read(path)?).map_err(|what| {
            Error::file(path, what, "give raw little-endian f32 values (of a .pt file: its data/0 member)")
        })
    }

    /// A picture made here, kept as PNG.
    pub fn of_picture(picture: &RgbImage) -> Result<Material> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| Error::internal(format!("PNG: {e}")))?;
        Material::from_bytes("picture", bytes.into_inner()).map_err(Error::internal)
    }

    fn from_bytes(kind: &str, bytes: Vec<u8>) -> std::result::Result<Material, String> {
        let content = match kind {
            "picture" => Content::Picture(
                decode(&bytes, ImageLimits::default()).map_err(|skip| format!("{} ({})", skip.reason, skip.detail))?,
            ),
            "grid" if !bytes.is_empty() && bytes.len().is_multiple_of(4) => {
                let values = bytes.chunks_exact(4).map(|b| b.try_into().map_or(0.0, f32::from_le_bytes));
                Content::Grid(values.collect())
            }
            other => return Err(format!("{} bytes are no {other}", bytes.len())),
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

    pub fn picture(&self) -> std::result::Result<&RgbImage, Skip> {
        match &self.content {
            Content::Picture(picture) => Ok(picture),
            Content::Grid(_) => Err(Skip::new(SkipReason::TriggerPictureIsGrid, self.sha256.clone())),
        }
    }

    pub fn grid(&self) -> std::result::Result<&[f32], Skip> {
        match &self.content {
            Content::Grid(values) => Ok(values),
            Content::Picture(_) => Err(Skip::new(SkipReason::TriggerGridIsPicture, self.sha256.clone())),
        }
    }

    pub fn store(&self) -> StoredMaterial {
        let kind = match self.content {
            Content::Picture(_) => "picture",
            Content::Grid(_) => "grid",
        };
        StoredMaterial { sha256: self.sha256.clone(), kind: kind.into(), base64: STANDARD.encode(&self.bytes) }
    }

    /// The error says what does not fit.
    pub fn restore(stored: &StoredMaterial) -> std::result::Result<Material, String> {
        let bytes = STANDARD.decode(&stored.base64).map_err(|e| format!("material {}: {e}", stored.sha256))?;
        let material = Material::from_bytes(&stored.kind, bytes)?;
        if material.sha256 != stored.sha256 {
            return Err(format!("material {} has the sha256 {}", stored.sha256, material.sha256));
        }
        Ok(material)
    }
}
