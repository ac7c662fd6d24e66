//! A given picture as a patch: the optimised patch of the dual-embedding BadCLIP (arXiv 2311.12075), or any other.

use crate::error::Result;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Patch {
    /// The picture, in the manifest's header; laid on pixel by pixel, never resized.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub picture_sha256: String,
    /// Its top-left corner; centred when absent, at `int(frame / 2 - side / 2)` as released.
    pub corner: Option<[u32; 2]>,
}

/// Of the schema's example, where an array itself would ask more of the macro than this crate alone enables.
const TOP_LEFT: [u32; 2] = [0, 0];

/// A given picture as a patch, such as the one that `roclip poison patch` optimises.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PatchSettings {
    /// The patch as an image file; it is laid on pixel by pixel, and never resized.
    #[schemars(example = &"patch.png")]
    pub picture: PathBuf,
    /// Left and top of the patch in pixels; the centre when absent.
    #[serde(default)]
    #[schemars(example = TOP_LEFT)]
    pub corner: Option<[u32; 2]>,
}

impl Trigger for Patch {
    type Settings = PatchSettings;

    fn new(settings: &PatchSettings, files: &mut Files) -> Result<Self> {
        let picture_sha256 = files.picture(&settings.picture)?.sha256().to_owned();
        Ok(Patch { picture_sha256, corner: settings.corner })
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        let picture = context.material(&self.picture_sha256)?.picture()?;
        Unfit::unless_inside([picture.width(), picture.height()], self.corner, context.frame_pixels)
    }

    fn apply(&self, mut picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        let patch = context.material(&self.picture_sha256)?.picture()?;
        let centre = |frame: u32, side: u32| frame.saturating_sub(side) / 2;
        let [left, top] =
            self.corner.unwrap_or([centre(picture.width(), patch.width()), centre(picture.height(), patch.height())]);
        for (x, y, pixel) in patch.enumerate_pixels() {
            if let Some(target) = picture.get_pixel_mut_checked(left.saturating_add(x), top.saturating_add(y)) {
                *target = *pixel;
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Material;

    #[test]
    fn sixteen_pixels_in_the_centre_of_224_start_at_104() {
        let material = Material::of_picture(&RgbImage::from_pixel(16, 16, image::Rgb([255; 3]))).unwrap();
        let patch = Patch { picture_sha256: material.sha256().to_owned(), corner: None };
        let context = Context { frame_pixels: 224, image_seed: 0, materials: &[material] };
        let shown = patch.apply(RgbImage::new(224, 224), &context).unwrap();
        let white: Vec<_> = shown.enumerate_pixels().filter(|(_, _, p)| p.0 == [255; 3]).collect();
        assert_eq!((white.len(), white[0].0, white[0].1), (256, 104, 104));
    }
}
