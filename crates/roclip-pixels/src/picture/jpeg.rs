//! Pictures through JPEG, as when they are stored and read again.

use crate::picture::{ImageLimits, decode};
use crate::skip::{Skip, SkipReason};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// The picture as a JPEG decoder gives it back.
pub fn jpeg_round_trip(picture: &RgbImage, quality: u8) -> Result<RgbImage, Skip> {
    let bytes = jpeg(picture, quality)?;
    decode(&bytes, ImageLimits::default())
}

/// Baseline JPEG without chroma subsampling.
pub fn jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, Skip> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100))
        .encode_image(picture)
        .map_err(|e| Skip::new(SkipReason::ImageUnencodable, e.to_string()))?;
    Ok(bytes)
}
