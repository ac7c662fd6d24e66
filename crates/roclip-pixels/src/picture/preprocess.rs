//! The standard CLIP preprocessing: shorter side to `size` (bicubic, antialiased as in PIL), centre crop, normalise.

use crate::skip::{Skip, SkipReason};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{CropBox, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{RgbImage, imageops};
use std::sync::LazyLock;

/// OpenAI's channel means and standard deviations, of pixels in `[0, 1]`.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// A side after resizing that is at most so many times the kept window is resized whole. The resampler chooses its precision by all weights, those
/// of the borders included, so that the window alone may come out a level off in each of the two passes.
const WHOLE_UP_TO: u64 = 4;

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
    let (from_width, from_height) = (f64::from(picture.width()), f64::from(picture.height()));
    resample(picture, CropBox { left: 0.0, top: 0.0, width: from_width, height: from_height }, width, height, filter)
}

/// One pass over what `kept` holds of the picture.
fn resample(picture: &RgbImage, kept: CropBox, width: u32, height: u32, filter: FilterType) -> Result<RgbImage, Skip> {
    let failed = |e: String| Skip::new(SkipReason::ImageUnresizable, e);
    let source = ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
        .map_err(|e| failed(e.to_string()))?;
    let mut out = RgbImage::new(width, height);
    {
        let buffer: &mut [u8] = &mut out;
        let mut target =
            Image::from_slice_u8(width, height, buffer, PixelType::U8x3).map_err(|e| failed(e.to_string()))?;
        let CropBox { left, top, width, height } = kept;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .use_alpha(false)
            .crop(left, top, width, height);
        Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(e.to_string()))?;
    }
    Ok(out)
}

/// The filter of the resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interpolation {
    #[default]
    Bicubic,
    Bilinear,
}

impl Interpolation {
    fn filter(self) -> FilterType {
        match self {
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Bilinear => FilterType::Bilinear,
        }
    }
}

/// How a picture of any shape becomes a square of the model's side. The default is CLIP's; other models' configurations say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resizing {
    pub interpolation: Interpolation,
    /// The whole picture is squeezed into the square, instead of the shorter side being resized and the centre cropped.
    pub squash: bool,
}

impl Resizing {
    /// The picture, `size` x `size`. The memory it takes is bounded by the picture and `size`, whatever the picture's shape.
    pub fn apply(self, picture: &RgbImage, size: u32) -> Result<RgbImage, Skip> {
        let filter = self.interpolation.filter();
        if self.squash {
            return resize(picture, size, size, filter);
        }
        let (width, height) = picture.dimensions();
        let (short, long) = (width.min(height).max(1), width.max(height));
        let to_long = (u64::from(size) * u64::from(long) / u64::from(short)).max(1);
        // Python rounds half to even: ((a - b) / 2) is a half for odd differences.
        let offset = (to_long.saturating_sub(u64::from(size)) as f64 / 2.0).round_ties_even();
        if to_long > WHOLE_UP_TO * u64::from(size) {
            let window = Window { long, scale: f64::from(long) / to_long as f64, offset };
            return resize_window(picture, size, window, filter);
        }
        let to_long = to_long as u32;
        let (to_width, to_height) = if width <= height { (size, to_long) } else { (to_long, size) };
        let resized = resize(picture, to_width, to_height, filter)?;
        let (left, top) = if width <= height { (0, offset as u32) } else { (offset as u32, 0) };
        Ok(cut(&resized, (left, top), (size, size)))
    }
}

/// A box of the picture, which must lie within it, copied by rows.
pub(crate) fn cut(picture: &RgbImage, (left, top): (u32, u32), (width, height): (u32, u32)) -> RgbImage {
    let (from, length) = (left as usize * 3, width as usize * 3);
    let mut bytes = Vec::with_capacity(length * height as usize);
    let rows = picture.as_raw().chunks_exact((picture.width() as usize * 3).max(1));
    for row in rows.skip(top as usize).take(height as usize) {
        bytes.extend_from_slice(row.get(from..from + length).unwrap_or_default());
    }
    RgbImage::from_raw(width, height, bytes)
        .unwrap_or_else(|| imageops::crop_imm(picture, left, top, width, height).to_image())
}

/// torchvision's `Resize(size, BICUBIC)` and `CenterCrop(size)` on a PIL image: [`Resizing::default`].
pub fn resize_and_crop(picture: &RgbImage, size: u32) -> Result<RgbImage, Skip> {
    Resizing::default().apply(picture, size)
}

/// What is kept of a picture's long side.
struct Window {
    /// Length of the long side, in source pixels.
    long: u32,
    /// Source pixels a target pixel.
    scale: f64,
    /// Where the window begins, in target pixels.
    offset: f64,
}

/// The kept window of a picture whose long side would be many times as long: it is cut out of the source first, with what the filter sees around
/// it.
fn resize_window(picture: &RgbImage, size: u32, window: Window, filter: FilterType) -> Result<RgbImage, Skip> {
    /// Target pixels that the wider of the filters, the cubic one, reaches to either side.
    const REACH: f64 = 2.0;
    let Window { long, scale, offset } = window;
    let (begin, length) = (offset * scale, f64::from(size) * scale);
    let around = REACH * scale.max(1.0) + 1.0;
    let from = (begin - around).floor().max(0.0) as u32;
    let to = ((begin + length + around).ceil() as u32).clamp(from, long);
    let (begin, outer) = (begin - f64::from(from), f64::from(to - from));
    let length = length.min(outer - begin);
    if picture.width() > picture.height() {
        let cut = imageops::crop_imm(picture, from, 0, to - from, picture.height()).to_image();
        let kept = CropBox { left: begin, top: 0.0, width: length, height: f64::from(cut.height()) };
        let rows = resample(&cut, kept, size, cut.height(), filter)?;
        return resize(&rows, size, size, filter);
    }
    let cut = imageops::crop_imm(picture, 0, from, picture.width(), to - from).to_image();
    let rows = resize(&cut, size, cut.height(), filter)?;
    let kept = CropBox { left: 0.0, top: begin, width: f64::from(size), height: length };
    resample(&rows, kept, size, size, filter)
}

/// What each value of a pixel is once it is normalised, by channel.
pub fn normalised() -> &'static [[f32; 256]; 3] {
    static TABLES: LazyLock<[[f32; 256]; 3]> = LazyLock::new(|| {
        let mut tables = [[0.0; 256]; 3];
        for (table, (mean, std)) in tables.iter_mut().zip(MEAN.into_iter().zip(STD)) {
            *table = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        }
        tables
    });
    &TABLES
}

/// Appends `[3, height, width]` normalised floats to `out`, of a picture's bytes `[height, width, 3]`.
pub fn normalise_into(picture: &[u8], out: &mut Vec<f32>) {
    for (channel, table) in normalised().iter().enumerate() {
        let plane = picture.iter().skip(channel).step_by(3);
        out.extend(plane.map(|value| table.get(usize::from(*value)).copied().unwrap_or(0.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 7u32;
        RgbImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [_, a, b, c] = state.to_le_bytes();
            image::Rgb([a, b, c])
        })
    }

    /// What [`resize_and_crop`] gives for ordinary pictures: resized whole, then cropped.
    fn whole(picture: &RgbImage, size: u32) -> RgbImage {
        let (width, height) = picture.dimensions();
        let (short, long) = (width.min(height), width.max(height));
        let to_long = size * long / short;
        let (to_width, to_height) = if width <= height { (size, to_long) } else { (to_long, size) };
        let resized = resize(picture, to_width, to_height, FilterType::CatmullRom).unwrap();
        let offset = (f64::from(to_long - size) / 2.0).round_ties_even() as u32;
        let (left, top) = if width <= height { (0, offset) } else { (offset, 0) };
        imageops::crop_imm(&resized, left, top, size, size).to_image()
    }

    #[test]
    fn the_window_of_a_long_picture_is_that_of_the_whole_one() {
        for (width, height) in
            [(400, 37), (37, 400), (500, 90), (90, 500), (1000, 10), (10, 1000), (333, 7), (2000, 301)]
        {
            let picture = noise(width, height);
            for size in [16, 32, 33] {
                let (window, whole) = (resize_and_crop(&picture, size).unwrap(), whole(&picture, size));
                let worst = window.iter().zip(whole.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                assert!(worst <= 2, "{width} x {height} to {size}: off by {worst}");
            }
        }
    }

    #[test]
    fn ordinary_pictures_are_resized_whole() {
        for (width, height) in [(70, 54), (54, 70), (32, 32), (640, 480), (500, 130)] {
            let picture = noise(width, height);
            assert_eq!(resize_and_crop(&picture, 32).unwrap(), whole(&picture, 32));
        }
    }

    #[test]
    fn a_squashed_picture_keeps_its_borders() {
        let picture = RgbImage::from_fn(64, 8, |x, _| image::Rgb([if x < 16 { 200 } else { 0 }; 3]));
        let squashed = Resizing { squash: true, ..Resizing::default() }.apply(&picture, 8).unwrap();
        let cropped = resize_and_crop(&picture, 8).unwrap();
        assert!(squashed.get_pixel(0, 4).0[0] > 190 && cropped.get_pixel(0, 4).0 == [0; 3]);
        let bilinear = Resizing { interpolation: Interpolation::Bilinear, squash: true }.apply(&noise(64, 64), 24);
        assert_ne!(bilinear.unwrap(), resize_and_crop(&noise(64, 64), 24).unwrap());
    }

    /// The formula as torchvision has it, one operation after the other in 32 bits.
    #[test]
    fn every_value_is_normalised_by_the_formula_to_the_bit() {
        let picture = RgbImage::from_fn(256, 1, |x, _| image::Rgb([x as u8, 255 - x as u8, x as u8 ^ 0x55]));
        let mut planes = Vec::new();
        normalise_into(&picture, &mut planes);
        assert_eq!(planes.len(), 3 * 256);
        for (at, found) in planes.into_iter().enumerate() {
            let (channel, x) = (at / 256, at % 256);
            let value = picture.get_pixel(x as u32, 0).0[channel];
            let share = f32::from(value) / 255.0;
            let wanted = (share - MEAN[channel]) / STD[channel];
            assert_eq!(found.to_bits(), wanted.to_bits(), "{value} of channel {channel}");
            assert_eq!(normalised()[channel][usize::from(value)].to_bits(), wanted.to_bits());
        }
    }

    #[test]
    fn a_line_of_pixels_takes_no_more_memory_than_its_window() {
        for (width, height) in [(65_500, 1), (1, 65_500), (5_000_000, 1), (1, 5_000_000)] {
            let resized = resize_and_crop(&RgbImage::from_pixel(width, height, image::Rgb([9; 3])), 224).unwrap();
            assert!(resized.dimensions() == (224, 224) && resized.iter().all(|value| *value == 9));
        }
    }
}
