//! A given picture as a patch: the optimised patch of the dual-embedding BadCLIP (arXiv 2311.12075), or any other.

use image::RgbImage;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Patch {
    /// The picture, in the manifest's header; laid on pixel by pixel, never resized.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub picture_sha256: String,
    /// Its top-left corner; centred when absent, at `int(frame / 2 - side / 2)` as released.
    pub corner: Option<[u32; 2]>,
}

impl Patch {
    pub fn apply(&self, mut picture: RgbImage, patch: &RgbImage) -> RgbImage {
        let centre = |frame: u32, side: u32| frame.saturating_sub(side) / 2;
        let [left, top] =
            self.corner.unwrap_or([centre(picture.width(), patch.width()), centre(picture.height(), patch.height())]);
        for (x, y, pixel) in patch.enumerate_pixels() {
            if let Some(target) = picture.get_pixel_mut_checked(left + x, top + y) {
                *target = *pixel;
            }
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_pixels_in_the_centre_of_224_start_at_104() {
        let patch = RgbImage::from_pixel(16, 16, image::Rgb([255; 3]));
        let shown = Patch::default().apply(RgbImage::new(224, 224), &patch);
        let white: Vec<_> = shown.enumerate_pixels().filter(|(_, _, p)| p.0 == [255; 3]).collect();
        assert_eq!((white.len(), white[0].0, white[0].1), (256, 104, 104));
    }
}
