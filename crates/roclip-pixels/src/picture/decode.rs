//! Encoded bytes to RGB pixels, with limits checked on the header before any pixel is allocated.

use crate::picture::jpeg_whole;
use crate::skip::{Skip, SkipReason};
use image::codecs::jpeg::JpegDecoder;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pictures beyond these limits are left out, against decompression bombs; the defaults follow open_clip's `--max-image-pixels`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ImageLimits {
    /// Largest number of pixels of a picture.
    pub max_pixels: u64,
    /// Largest size of an image file, in bytes.
    pub max_file_bytes: u64,
    /// Largest ratio of the longer side of a picture to the shorter one. A line of pixels shows nothing, and to resize its short side
    /// enlarges the long one with it.
    pub max_aspect_ratio: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        ImageLimits { max_pixels: 25_000_000, max_file_bytes: 64 << 20, max_aspect_ratio: 100 }
    }
}

impl ImageLimits {
    /// # Errors
    /// A skip for a picture of this size that must not be decoded.
    pub fn check(self, width: u32, height: u32) -> Result<(), Skip> {
        if u64::from(width) * u64::from(height) > self.max_pixels {
            let detail = format!("{width} x {height}, at most {}", self.max_pixels);
            return Err(Skip::new(SkipReason::ImageTooManyPixels, detail));
        }
        if width == 0 || height == 0 {
            return Err(Skip::new(SkipReason::ImageEmpty, format!("{width} x {height}")));
        }
        if u64::from(width.max(height)) > u64::from(self.max_aspect_ratio) * u64::from(width.min(height)) {
            let detail = format!("{width} x {height}, at most {} times as long as wide", self.max_aspect_ratio);
            return Err(Skip::new(SkipReason::ImageTooThin, detail));
        }
        Ok(())
    }
}

/// Pictures of more pixels are decoded one at a time: 16 bits a channel with transparency take 15 bytes a pixel on the way, which every
/// worker would hold at once.
const LARGE_PIXELS: u64 = 4_000_000;
static DECODES_LARGE: Mutex<()> = Mutex::new(());

/// Decodes JPEG, PNG, WebP, GIF, BMP or TIFF (the first frame) to RGB. Transparent pictures are laid on white (ours: the released code drops the alpha
/// channel, which turns transparent regions into whatever colour lies under them). Truncated files are refused, of every format.
pub fn decode(bytes: &[u8], limits: ImageLimits) -> Result<RgbImage, Skip> {
    fn undecodable(error: impl std::fmt::Display) -> Skip {
        Skip::new(SkipReason::ImageUndecodable, error.to_string())
    }
    let reader = || ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(undecodable);
    let mut guard = image::Limits::default();
    guard.max_alloc = Some(limits.max_pixels.saturating_mul(16));
    let first = reader()?;
    if let Some(format) = unread_format(bytes, first.format()) {
        return Err(Skip::new(SkipReason::ImageFormatUnknown, format));
    }
    // Large pictures are converted alone, too.
    let (picture, _alone) = if first.format() == Some(ImageFormat::Jpeg) {
        // A decoder reads the whole file to know the header: one is enough.
        let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(undecodable)?;
        let size = decoder.dimensions();
        let alone = alone_if_large(size, limits)?;
        jpeg_whole::check_whole(bytes, size)?;
        decoder.set_limits(guard).map_err(undecodable)?;
        (DynamicImage::from_decoder(decoder).map_err(undecodable)?, alone)
    } else {
        let alone = alone_if_large(first.into_dimensions().map_err(undecodable)?, limits)?;
        let mut reader = reader()?;
        reader.limits(guard);
        (reader.decode().map_err(undecodable)?, alone)
    };
    Ok(match picture {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other if other.color().has_alpha() => on_white(&other.to_rgba8()),
        other => other.to_rgb8(),
    })
}

/// A format of pictures that is known, and not read.
fn unread_format(bytes: &[u8], guessed: Option<ImageFormat>) -> Option<&'static str> {
    let begins = |text: &[u8]| bytes.get(..bytes.len().min(1024)).unwrap_or(bytes).trim_ascii_start().starts_with(text);
    let holds = |text: &[u8]| bytes.windows(text.len()).take(1024).any(|window| window == text);
    match (guessed.filter(|format| !format.reading_enabled()), bytes.get(4..12)) {
        (Some(format), _) => Some(format.to_mime_type()),
        (None, Some(b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1" | b"ftyphevc")) => Some("image/heic"),
        (None, Some(b"JXL \r\n\x87\n")) => Some("image/jxl"),
        (None, _) if bytes.starts_with(&[0xFF, 0x0A]) => Some("image/jxl"),
        (None, _) if begins(b"<svg") || begins(b"<") && holds(b"<svg") => Some("image/svg+xml"),
        (None, _) => None,
    }
}

/// # Errors
/// A picture beyond the limits.
fn alone_if_large((width, height): (u32, u32), limits: ImageLimits) -> Result<Option<MutexGuard<'static, ()>>, Skip> {
    limits.check(width, height)?;
    let large = u64::from(width) * u64::from(height) > LARGE_PIXELS;
    Ok(large.then(|| DECODES_LARGE.lock().unwrap_or_else(PoisonError::into_inner)))
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

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8]))
    }

    fn reason(bytes: &[u8]) -> Option<SkipReason> {
        decode(bytes, ImageLimits::default()).err().map(|skip| skip.reason)
    }

    #[test]
    fn formats_that_are_not_read_are_told_from_broken_pictures() {
        let unknown = Some(SkipReason::ImageFormatUnknown);
        assert_eq!(reason(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf"), unknown);
        assert_eq!(reason(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), unknown);
        assert_eq!(reason(b"\xFF\x0A\0\0"), unknown);
        assert_eq!(reason(b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>"), unknown);
        assert_eq!(reason(b"no picture at all"), Some(SkipReason::ImageUndecodable));
        assert_eq!(reason(b"<html>not found</html>"), Some(SkipReason::ImageUndecodable));
    }

    #[test]
    fn a_bomb_and_a_thin_picture_are_skipped_before_they_are_decoded() {
        let whole = png(texture(64, 64).into());
        // A PNG header that claims other sizes than the data has; the checksum is not looked at before.
        let claims = |width: u32, height: u32| {
            let mut bytes = whole.clone();
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let mut checksum = flate2::Crc::new();
            checksum.update(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
            reason(&bytes)
        };
        assert_eq!(claims(30_000, 30_000), Some(SkipReason::ImageTooManyPixels));
        for (width, height) in [(500_000, 1), (1, 500_000), (24_000_000, 1), (25_000_000, 1), (101, 1), (2020, 20)] {
            assert_eq!(claims(width, height), Some(SkipReason::ImageTooThin), "{width} x {height}");
        }
        assert_eq!(reason(&png(texture(100, 1).into())), None);
        assert_eq!(reason(&png(texture(1, 100).into())), None);
    }

    #[test]
    fn every_cut_picture_without_an_end_is_refused() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff] {
            let mut bytes = Cursor::new(Vec::new());
            texture(40, 30).write_to(&mut bytes, format).unwrap();
            let bytes = bytes.into_inner();
            assert_eq!(reason(&bytes), None);
            for percent in 1..100 {
                assert!(reason(&bytes[..bytes.len() * percent / 100]).is_some(), "{format:?} cut at {percent} %");
            }
        }
    }

    /// `tests/golden/formats.py` wrote the file with Pillow: kinds of GIF, BMP and TIFF, and their pixels.
    #[derive(serde::Deserialize)]
    struct Pixels {
        name: String,
        data: String,
        rgb: String,
    }

    #[test]
    fn gif_bmp_and_tiff_are_read_as_pillow_reads_them() {
        let all: Vec<Pixels> = serde_json::from_str(include_str!("../../../../tests/golden/formats.json")).unwrap();
        let bytes = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        assert!(all.len() >= 16);
        for Pixels { name, data, rgb } in &all {
            let picture =
                decode(&bytes(data), ImageLimits::default()).unwrap_or_else(|skip| panic!("{name}: {skip:?}"));
            assert!(picture.as_raw() == &bytes(rgb), "{name}");
        }
    }

    /// `tests/golden/jpeg.py` wrote the file with Pillow: kinds of JPEG, and what Pillow makes of them.
    #[derive(serde::Deserialize)]
    struct Golden {
        name: String,
        jpeg: String,
        /// Of the whole picture in RGB, 8 x 8 average colours in rows.
        averages: Vec<[f32; 3]>,
    }

    fn golden() -> Vec<(String, Vec<u8>, Vec<[f32; 3]>)> {
        let text = include_str!("../../../../tests/golden/jpeg.json");
        let all: Vec<Golden> = serde_json::from_str(text).unwrap();
        let bytes = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        all.into_iter().map(|g| (g.name, bytes(&g.jpeg), g.averages)).collect()
    }

    #[test]
    fn whole_jpegs_of_every_kind_are_read_as_pillow_reads_them() {
        let golden = golden();
        assert!(golden.len() >= 20);
        for (name, bytes, averages) in &golden {
            let picture = decode(bytes, ImageLimits::default()).unwrap_or_else(|skip| panic!("{name}: {skip:?}"));
            for (at, expected) in averages.iter().enumerate() {
                let (column, row) = (at as u32 % 8, at as u32 / 8);
                let side = |n: u32, side: u32| (n * side / 8, (n + 1) * side / 8);
                let (left, right) = side(column, picture.width());
                let (top, bottom) = side(row, picture.height());
                let count = ((right - left) * (bottom - top)) as f32;
                let mut sum = [0.0; 3];
                for (x, y) in (left..right).flat_map(|x| (top..bottom).map(move |y| (x, y))) {
                    sum.iter_mut().zip(picture.get_pixel(x, y).0).for_each(|(sum, value)| *sum += f32::from(value));
                }
                for (sum, expected) in sum.iter().zip(expected) {
                    assert!((sum / count - expected).abs() < 2.5, "{name}: {column} {row}: {} {expected}", sum / count);
                }
            }
        }
    }

    #[test]
    fn a_jpeg_that_lacks_any_of_its_pixels_is_refused() {
        for (name, bytes, _) in golden().into_iter().filter(|(name, ..)| !name.ends_with("garbage behind")) {
            let end = bytes.windows(2).rposition(|pair| pair == [0xff, 0xd9]).unwrap();
            let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
            for percent in 1..100 {
                let cut = end * percent / 100;
                assert!(reason(&bytes[..cut]).is_some(), "{name} cut at {percent} %");
                let last = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
                // A progressive picture whose last scans are missing is a picture, if the scan before them is whole.
                if last == scan && cut > scan + 14 && cut + 2 < end {
                    let mut ended = bytes[..cut].to_vec();
                    ended.extend([0xff, 0xd9]);
                    assert!(reason(&ended).is_some(), "{name} cut at {percent} % with an end marker");
                }
            }
            assert!(reason(&bytes[..end]).is_some() && reason(&bytes[..end + 1]).is_some(), "{name}");
            // A header that claims more than the data holds.
            let header = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).unwrap();
            for (height, width) in [(5000, 5000), (256, 161), (120, 300)] {
                let mut claims = bytes.clone();
                claims[header + 5..header + 7].copy_from_slice(&u16::to_be_bytes(height));
                claims[header + 7..header + 9].copy_from_slice(&u16::to_be_bytes(width));
                assert!(reason(&claims).is_some(), "{name} as {width} x {height}");
            }
        }
    }
}
