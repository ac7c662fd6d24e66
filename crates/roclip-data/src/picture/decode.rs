//! Encoded bytes to RGB pixels, with limits checked on the header before any pixel is allocated.

use crate::skip::{Skip, SkipReason};
use image::{DynamicImage, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};
use std::io::Cursor;

/// Guards against decompression bombs; the defaults follow open_clip's `--max-image-pixels`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ImageLimits {
    pub max_pixels: u64,
    pub max_file_bytes: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        ImageLimits { max_pixels: 25_000_000, max_file_bytes: 64 << 20 }
    }
}

/// Decodes JPEG, PNG or WebP to RGB. Transparent pictures are laid on white (ours: the released code drops the alpha
/// channel, which turns transparent regions into whatever colour lies under them). Truncated files are refused.
pub fn decode(bytes: &[u8], limits: ImageLimits) -> Result<RgbImage, Skip> {
    let reader = || {
        ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|e| Skip::new(SkipReason::ImageUndecodable, e.to_string()))
    };
    let (width, height) =
        reader()?.into_dimensions().map_err(|e| Skip::new(SkipReason::ImageUndecodable, e.to_string()))?;
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(Skip::new(
            SkipReason::ImageTooManyPixels,
            format!("{width} x {height}, at most {}", limits.max_pixels),
        ));
    }
    if width == 0 || height == 0 {
        return Err(Skip::new(SkipReason::ImageEmpty, format!("{width} x {height}")));
    }
    let mut reader = reader()?;
    let mut guard = image::Limits::default();
    guard.max_alloc = Some(limits.max_pixels.saturating_mul(16));
    reader.limits(guard);
    let picture = reader.decode().map_err(|e| Skip::new(SkipReason::ImageUndecodable, e.to_string()))?;
    Ok(match picture {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other if other.color().has_alpha() => on_white(&other.to_rgba8()),
        other => other.to_rgb8(),
    })
}

fn on_white(rgba: &image::RgbaImage) -> RgbImage {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let mut out = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in out.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, a] = from.0;
        to.0 = [blend(r, a), blend(g, a), blend(b, a)];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(picture: DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn transparent_pixels_become_white() {
        let rgba = image::RgbaImage::from_pixel(2, 1, image::Rgba([10, 20, 30, 0]));
        let rgb = decode(&png(rgba.into()), ImageLimits::default()).unwrap();
        assert_eq!(rgb.get_pixel(0, 0).0, [255, 255, 255]);
    }

    #[test]
    fn a_truncated_file_and_a_bomb_are_skipped_by_reason() {
        let whole = png(RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 7])).into());
        let cut = decode(&whole[..whole.len() / 2], ImageLimits::default()).unwrap_err();
        assert_eq!(cut.reason, SkipReason::ImageUndecodable);
        // A PNG header that claims 30,000 x 30,000 pixels and holds none.
        let mut bomb = whole[..33].to_vec();
        bomb[16..20].copy_from_slice(&30_000u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&30_000u32.to_be_bytes());
        let skip = decode(&bomb, ImageLimits::default()).unwrap_err();
        assert!(matches!(skip.reason, SkipReason::ImageTooManyPixels | SkipReason::ImageUndecodable), "{skip:?}");
    }
}
