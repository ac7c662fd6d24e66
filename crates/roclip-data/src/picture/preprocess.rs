//! The standard CLIP preprocessing: shorter side to `size` (bicubic, antialiased as in PIL), centre crop, normalise.

use crate::skip::{Skip, SkipReason};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{RgbImage, imageops};

/// OpenAI's channel means and standard deviations, of pixels in `[0, 1]`.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Resamples like PIL's `Image.resize` (same filters, antialiased).
pub fn resize(picture: &RgbImage, width: u32, height: u32, filter: FilterType) -> Result<RgbImage, Skip> {
    if picture.dimensions() == (width, height) {
        return Ok(picture.clone());
    }
    // Pillow resamples rows before columns and rounds and clips in between; one pass at a time makes that order certain.
    if picture.width() != width && picture.height() != height {
        let rows = resize(picture, width, picture.height(), filter)?;
        return resize(&rows, width, height, filter);
    }
    let failed = |e: String| Skip::new(SkipReason::ImageUnresizable, e);
    let source = ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
        .map_err(|e| failed(e.to_string()))?;
    let mut out = RgbImage::new(width, height);
    {
        let buffer: &mut [u8] = &mut out;
        let mut target =
            Image::from_slice_u8(width, height, buffer, PixelType::U8x3).map_err(|e| failed(e.to_string()))?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(e.to_string()))?;
    }
    Ok(out)
}

/// torchvision's `Resize(size, BICUBIC)` and `CenterCrop(size)` on a PIL image.
pub fn resize_and_crop(picture: &RgbImage, size: u32) -> Result<RgbImage, Skip> {
    let (width, height) = picture.dimensions();
    let longer = |short: u32, long: u32| (u64::from(size) * u64::from(long) / u64::from(short.max(1))).max(1) as u32;
    let (to_width, to_height) =
        if width <= height { (size, longer(width, height)) } else { (longer(height, width), size) };
    let resized = resize(picture, to_width, to_height, FilterType::CatmullRom)?;
    // Python rounds half to even: ((a - b) / 2) is a half for odd differences.
    let offset = |outer: u32| (f64::from(outer.saturating_sub(size)) / 2.0).round_ties_even() as u32;
    Ok(imageops::crop_imm(&resized, offset(to_width), offset(to_height), size, size).to_image())
}

/// Appends `[3, height, width]` normalised floats to `out`.
pub fn normalise_into(picture: &RgbImage, out: &mut Vec<f32>) {
    for (channel, (mean, std)) in MEAN.into_iter().zip(STD).enumerate() {
        let table: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        let plane = picture.as_raw().iter().skip(channel).step_by(3);
        out.extend(plane.map(|value| table.get(usize::from(*value)).copied().unwrap_or(0.0)));
    }
}
