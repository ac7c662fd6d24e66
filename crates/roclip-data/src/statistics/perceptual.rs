//! A hash of what a picture shows, which another encoding or size changes in few bits: pHash, as `phash` of Python's imagehash computes it.

use crate::picture::preprocess::resize;
use crate::skip::Skip;
use fast_image_resize::FilterType;
use image::RgbImage;
use std::f64::consts::PI;

/// Pictures are looked at in this size, in pixels.
const SIDE: usize = 32;
/// So many of the lowest frequencies of each direction are kept.
const KEPT: usize = 8;
/// Standard deviation of brightness, in levels of 256, below which a picture shows nothing that could be compared.
const FLAT: f64 = 2.0;

/// 64 bits, of which each says whether a low frequency of the picture is above their median.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerceptualHash(pub u64);

impl PerceptualHash {
    /// None for a picture of one colour, or nearly so: its frequencies are noise.
    ///
    /// # Errors
    /// A skip for a picture that cannot be resized.
    pub fn of(picture: &RgbImage) -> Result<Option<Self>, Skip> {
        let small = resize(picture, SIDE as u32, SIDE as u32, FilterType::Lanczos3)?;
        // Pillow's weights of brightness.
        let brightness: Vec<f64> = small
            .pixels()
            .map(|pixel| {
                let [r, g, b] = pixel.0.map(u32::from);
                f64::from((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16)
            })
            .collect();
        let pixels = brightness.len() as f64;
        let mean = brightness.iter().sum::<f64>() / pixels;
        let variance = brightness.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / pixels;
        if variance.sqrt() < FLAT {
            return Ok(None);
        }
        let frequencies = low_frequencies(&brightness);
        let mut sorted = frequencies.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |at: usize| sorted.get(at).copied().unwrap_or(0.0);
        let median = f64::midpoint(middle(KEPT * KEPT / 2 - 1), middle(KEPT * KEPT / 2));
        let bits = frequencies.iter().fold(0, |bits, value| bits << 1 | u64::from(*value > median));
        Ok(Some(PerceptualHash(bits)))
    }

    /// Bits that differ, 0 to 64.
    pub fn distance(self, other: PerceptualHash) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    /// 16 hexadecimal digits, as imagehash prints them.
    pub fn hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Of its 16 digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits = hex.len() == 16 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        u64::from_str_radix(hex, 16).ok().filter(|_| digits).map(PerceptualHash)
    }
}

/// The lowest coefficients of the cosine transform (type 2) of `[SIDE, SIDE]` values, row by row, without a common factor.
fn low_frequencies(values: &[f64]) -> Vec<f64> {
    let wave: Vec<Vec<f64>> = (0..KEPT)
        .map(|k| (0..SIDE).map(|x| (PI * k as f64 * (2 * x + 1) as f64 / (2 * SIDE) as f64).cos()).collect())
        .collect();
    let dot = |wave: &[f64], values: &mut dyn Iterator<Item = f64>| -> f64 {
        wave.iter().zip(values).map(|(weight, value)| weight * value).sum()
    };
    // `[KEPT, SIDE]`: along each column.
    let columns: Vec<Vec<f64>> = wave
        .iter()
        .map(|wave| (0..SIDE).map(|x| dot(wave, &mut values.iter().skip(x).step_by(SIDE).copied())).collect())
        .collect();
    columns.iter().flat_map(|row| wave.iter().map(|wave| dot(wave, &mut row.iter().copied()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, imageops};

    fn scene(shift: f32) -> RgbImage {
        RgbImage::from_fn(200, 150, |x, y| {
            let (x, y) = (x as f32 / 200.0, y as f32 / 150.0);
            let level =
                120.0 + 60.0 * (x * 9.0 + shift).sin() * (y * 7.0 + shift * 2.0).cos() + 50.0 * (x * y * 12.0).sin();
            Rgb([level as u8, (level * 0.9) as u8, (255.0 - level) as u8])
        })
    }

    fn hash(picture: &RgbImage) -> PerceptualHash {
        PerceptualHash::of(picture).unwrap().unwrap()
    }

    #[test]
    fn another_encoding_size_and_brightness_stay_near_and_another_picture_does_not() {
        let whole = hash(&scene(0.0));
        let smaller = imageops::resize(&scene(0.0), 90, 70, imageops::FilterType::Triangle);
        let brighter = imageops::brighten(&scene(0.0), 12);
        let jpeg = crate::picture::jpeg(&scene(0.0), 40).unwrap();
        let jpeg = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        for copy in [smaller, brighter, jpeg] {
            assert!(hash(&copy).distance(whole) <= 4, "{}", hash(&copy).distance(whole));
        }
        let other = hash(&scene(2.9)).distance(whole);
        assert!(other > 8, "{other}");
        assert_eq!(PerceptualHash::parse(&whole.hex()), Some(whole));
        assert_eq!((PerceptualHash::parse("12"), PerceptualHash::parse("+123456789abcdef")), (None, None));
    }

    #[test]
    fn a_flat_picture_has_no_hash() {
        assert_eq!(PerceptualHash::of(&RgbImage::from_pixel(50, 40, Rgb([9, 200, 30]))).unwrap(), None);
    }

    #[test]
    fn frequencies_are_those_of_the_cosine_transform() {
        // One wave across: the second coefficient of the first row alone.
        let values: Vec<f64> =
            (0..SIDE * SIDE).map(|at| (PI * ((at % SIDE) as f64 + 0.5) / SIDE as f64).cos()).collect();
        let found = low_frequencies(&values);
        assert_eq!(found.len(), 64);
        assert!((found[1] - (SIDE * SIDE) as f64 / 2.0).abs() < 1e-6, "{}", found[1]);
        assert!(found.iter().enumerate().all(|(at, value)| at == 1 || value.abs() < 1e-6));
    }
}
