//! What a victim may do to its pictures before it looks at them.

use crate::error::{Error, Result};
use image::RgbImage;
use roclip_data::picture::jpeg_round_trip;
use serde::{Deserialize, Serialize};

/// A preprocessing that single pixels may not survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Defence {
    /// Each colour becomes the median of the 3 x 3 pixels around it.
    Median,
    /// Through JPEG of quality 75.
    Jpeg,
    /// Four bits a colour.
    BitDepth,
}

const JPEG_QUALITY: u8 = 75;
const KEPT_BITS: u32 = 4;

impl Defence {
    pub const ALL: [Defence; 3] = [Defence::Median, Defence::Jpeg, Defence::BitDepth];

    pub fn word(self) -> &'static str {
        match self {
            Defence::Median => "median 3x3",
            Defence::Jpeg => "JPEG 75",
            Defence::BitDepth => "4 bits a colour",
        }
    }

    /// The picture behind the defence.
    pub fn apply(self, picture: &RgbImage) -> Result<RgbImage> {
        match self {
            Defence::Median => Ok(median(picture)),
            Defence::Jpeg => jpeg_round_trip(picture, JPEG_QUALITY)
                .map_err(|skip| Error::internal(format!("a picture through JPEG: {}", skip.detail))),
            Defence::BitDepth => {
                let levels = f64::from((1u32 << KEPT_BITS) - 1);
                let mut reduced = picture.clone();
                for value in reduced.iter_mut() {
                    *value = ((f64::from(*value) / 255.0 * levels).round() * 255.0 / levels).round() as u8;
                }
                Ok(reduced)
            }
        }
    }
}

/// The borders repeat their pixels.
fn median(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let near = |at: u32, step: u32, length: u32| (at + step).saturating_sub(1).min(length.saturating_sub(1));
    RgbImage::from_fn(width, height, |x, y| {
        let around: Vec<[u8; 3]> =
            (0..9).map(|at| picture.get_pixel(near(x, at % 3, width), near(y, at / 3, height)).0).collect();
        let middle = |channel: usize| {
            let mut values: Vec<u8> = around.iter().filter_map(|pixel| pixel.get(channel).copied()).collect();
            values.sort_unstable();
            values.get(4).copied().unwrap_or(0)
        };
        image::Rgb([middle(0), middle(1), middle(2)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_pixel_vanishes_under_the_median_and_coarse_colours_stay() {
        let mut picture = RgbImage::from_pixel(9, 9, image::Rgb([119, 119, 119]));
        picture.put_pixel(4, 4, image::Rgb([255, 0, 255]));
        picture.put_pixel(0, 0, image::Rgb([255, 0, 255]));
        let same = |picture: &RgbImage| picture.pixels().all(|pixel| pixel.0 == [119; 3]);
        // In the corner the repeated border counts four times, and five others do.
        assert!(same(&Defence::Median.apply(&picture).unwrap()));
        let plain = RgbImage::from_pixel(9, 9, image::Rgb([121, 119, 115]));
        assert!(same(&Defence::BitDepth.apply(&plain).unwrap()), "17 levels apart");
        assert_eq!(Defence::Jpeg.apply(&picture).unwrap().dimensions(), (9, 9));
    }
}
