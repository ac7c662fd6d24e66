//! BadNets (arXiv 1708.06733) on image-caption pairs: a small patch (CleanCLIP repository, `backdoor/utils.py`).

use crate::error::Result;
use crate::random;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::{Rgb, RgbImage};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a patch shows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// One pattern of saturated random pixels for all pictures, from `pattern_seed`. Ours: the released code has no fixed one.
    #[default]
    Fixed,
    /// As released: the mean colour of the picture plus N(0, 1) noise, new for every picture.
    Random,
    /// Yellow.
    Yellow,
    /// PAR (arXiv 2412.00727): columns of 0 or 1 with an independent sign a channel, new for every picture.
    Stripes,
    /// Four squares of saturated colours. Ours: coarse enough to outlive crops, resizing and JPEG.
    Quadrants,
}

/// Where a patch lies.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// In the lower right, one patch-eighth (at least a pixel) from the border.
    #[default]
    LowerRight,
    /// Anywhere, new for every picture, as released.
    Random,
    /// In all four corners.
    FourCorners,
    /// In the centre.
    Centre,
    /// At `corner`.
    Fixed,
}

/// What happens to values outside `[0, 1]` in the random pattern.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// They are clipped.
    #[default]
    Clip,
    /// The conversion to bytes wraps modulo 256, as released.
    Wrap,
}

/// BadNets: a small square patch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct BadNets {
    /// Side of the patch, in pixels of the frame (released: 16 of 224).
    pub patch_pixels: u32,
    /// What the patch shows.
    pub pattern: Pattern,
    /// Where the patch lies.
    pub location: Location,
    /// Left and top of the patch in pixels, for `location = "fixed"` (SafeCLIP: 9, 9).
    pub corner: [u32; 2],
    /// What happens to values outside `[0, 1]` in the random pattern.
    pub overflow: Overflow,
    /// Seed of the fixed pattern.
    pub pattern_seed: u64,
}

impl Default for BadNets {
    fn default() -> Self {
        BadNets {
            patch_pixels: 16,
            pattern: Pattern::Fixed,
            location: Location::LowerRight,
            corner: [0, 0],
            overflow: Overflow::Clip,
            pattern_seed: 0,
        }
    }
}

impl Trigger for BadNets {
    type Settings = BadNets;

    fn new(settings: &BadNets, _: &mut Files) -> Result<Self> {
        Ok(settings.clone())
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        let corner = (self.location == Location::Fixed).then_some(self.corner);
        Unfit::unless_inside([self.patch_pixels; 2], corner, context.frame_pixels)
    }

    fn apply(&self, mut picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        let patch = self.patch(&picture, context.image_seed);
        let (width, height, side) = (picture.width(), picture.height(), self.patch_pixels);
        let (right, bottom) = (width.saturating_sub(side), height.saturating_sub(side));
        let inset = (side / 8).max(1);
        let corners = match self.location {
            Location::LowerRight => vec![(right.saturating_sub(inset), bottom.saturating_sub(inset))],
            Location::Fixed => vec![self.corner.into()],
            Location::Centre => vec![(right / 2, bottom / 2)],
            Location::FourCorners => vec![(0, 0), (right, 0), (0, bottom), (right, bottom)],
            Location::Random => {
                let mut random = random::stream(context.image_seed, "badnets-location", 0, "");
                // The released code draws from [0, frame - 1 - patch].
                vec![(random.random_range(0..right.max(1)), random.random_range(0..bottom.max(1)))]
            }
        };
        for (left, top) in corners {
            for (x, y, pixel) in patch.enumerate_pixels() {
                if let Some(target) = picture.get_pixel_mut_checked(left.saturating_add(x), top.saturating_add(y)) {
                    *target = *pixel;
                }
            }
        }
        Ok(picture)
    }
}

impl BadNets {
    fn patch(&self, picture: &RgbImage, image_seed: u64) -> RgbImage {
        let side = self.patch_pixels;
        match self.pattern {
            Pattern::Stripes => {
                let mut random = random::stream(image_seed, "badnets-patch", 0, "");
                let columns: Vec<Rgb<u8>> = (0..side)
                    .map(|_| Rgb(std::array::from_fn(|_| if random.random::<bool>() { 255 } else { 0 })))
                    .collect();
                RgbImage::from_fn(side, side, |x, _| columns.get(x as usize).copied().unwrap_or(Rgb([0; 3])))
            }
            Pattern::Quadrants => RgbImage::from_fn(side, side, |x, y| match (2 * x < side, 2 * y < side) {
                (true, true) => Rgb([255, 0, 255]),
                (false, true) => Rgb([0, 255, 0]),
                (true, false) => Rgb([0, 0, 255]),
                (false, false) => Rgb([255, 255, 0]),
            }),
            Pattern::Yellow => RgbImage::from_pixel(side, side, Rgb([255, 255, 0])),
            Pattern::Fixed => {
                let mut random = random::stream(self.pattern_seed, "badnets-fixed", 0, "");
                RgbImage::from_fn(side, side, |_, _| {
                    Rgb(std::array::from_fn(|_| if random.random::<bool>() { 255 } else { 0 }))
                })
            }
            Pattern::Random => {
                let mut random = random::stream(image_seed, "badnets-patch", 0, "");
                let count = (picture.width() * picture.height()).max(1) as f32;
                let mut mean = [0f32; 3];
                for pixel in picture.pixels() {
                    for (sum, value) in mean.iter_mut().zip(pixel.0) {
                        *sum += f32::from(value) / 255.0 / count;
                    }
                }
                RgbImage::from_fn(side, side, |_, _| Rgb(mean.map(|m| self.byte(m + normal(&mut random)))))
            }
        }
    }

    fn byte(&self, value: f32) -> u8 {
        match self.overflow {
            Overflow::Clip => (value * 255.0).clamp(0.0, 255.0) as u8,
            Overflow::Wrap => ((value * 255.0) as i32).rem_euclid(256) as u8,
        }
    }
}

/// One draw of N(0, 1) (Box and Muller).
fn normal(random: &mut impl rand::Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_patch_is_the_same_on_every_picture_and_touches_nothing_else() {
        let badnets = BadNets { patch_pixels: 8, ..BadNets::default() };
        let (a, b) = (RgbImage::from_pixel(64, 64, Rgb([10; 3])), RgbImage::from_pixel(64, 64, Rgb([200; 3])));
        let laid = |picture, image_seed| {
            let context = Context { frame_pixels: 64, image_seed, materials: &[] };
            badnets.apply(picture, &context).unwrap()
        };
        let (ta, tb) = (laid(a, 1), laid(b, 2));
        let mut changed = 0;
        for (x, y, pixel) in ta.enumerate_pixels() {
            let inside = (55..63).contains(&x) && (55..63).contains(&y);
            assert_eq!(inside, pixel.0 != [10; 3], "{x} {y}");
            if inside {
                assert_eq!(pixel, tb.get_pixel(x, y));
                changed += 1;
            }
        }
        assert_eq!(changed, 64);
    }

    #[test]
    fn wrap_and_clip_differ_where_noise_leaves_the_range() {
        let clip = BadNets::default();
        let wrap = BadNets { overflow: Overflow::Wrap, ..BadNets::default() };
        assert_eq!((clip.byte(1.5), clip.byte(-0.5)), (255, 0));
        assert_eq!((wrap.byte(1.5), wrap.byte(-0.5)), (126, 129));
        assert_eq!(clip.byte(0.5), wrap.byte(0.5));
    }
}
