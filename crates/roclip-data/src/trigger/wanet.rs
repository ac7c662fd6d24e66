//! WaNet (arXiv 2102.10369): a warp instead of a patch. Two fields: the paper's smooth one (a coarse grid, upsampled), and the
//! per-pixel jitter that CleanCLIP's released code makes of it (`backdoor/utils.py`).

use crate::error::Result;
use crate::random;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::RgbImage;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// sha256 of the released field's raw storage (100,352 f32; an x plane, then a y plane, each 224 x 224).
pub const RELEASED_GRID_SHA256: &str = "91ce614a9a7cfef0e1462b7ebe8189fea248c1830ac7cbd399202057da3ce204";

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct WaNet {
    /// Side of the random grid; 0 = one value a pixel, as released (there k = 224).
    pub grid: u32,
    /// Strength: mean displacement in units of about half a pixel. Paper: 0.5 with grid 4; released: 1.
    pub strength: f32,
    /// Of the grid. The same field serves training and test.
    pub grid_seed: u64,
    /// A field from a file, kept in the manifest's header instead of `grid` and `grid_seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid_sha256: Option<String>,
}

impl Default for WaNet {
    fn default() -> Self {
        WaNet { grid: 4, strength: 0.5, grid_seed: 0, grid_sha256: None }
    }
}

/// WaNet: the picture is warped a little.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct WaNetSettings {
    /// Side of the random grid of displacements; 0 is one a pixel, as released. 4 when absent.
    #[schemars(example = 4)]
    pub grid: Option<u32>,
    /// Mean displacement in units of about half a pixel; 0.5 when absent, as in the paper (released: 1).
    #[schemars(example = 0.5)]
    pub strength: Option<f32>,
    /// Seed of the grid. The same field serves training and test.
    pub grid_seed: u64,
    /// A field from a file: raw little-endian f32, an x plane and a y plane of `frame_pixels` squared. The `data/0` member of the released
    /// `.pt` file is one.
    #[schemars(example = &"grid.f32")]
    pub grid_file: Option<PathBuf>,
}

impl Trigger for WaNet {
    type Settings = WaNetSettings;

    fn new(settings: &WaNetSettings, files: &mut Files) -> Result<Self> {
        let default = WaNet::default();
        let grid = settings.grid_file.as_deref().map(|path| files.grid(path)).transpose()?;
        Ok(WaNet {
            grid: settings.grid.unwrap_or(default.grid),
            strength: settings.strength.unwrap_or(default.strength),
            grid_seed: settings.grid_seed,
            grid_sha256: grid.map(|grid| grid.sha256().to_owned()),
        })
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        let frame = context.frame_pixels;
        if !self.strength.is_finite() || self.strength == 0.0 {
            return Err(Unfit::new(format!("strength {}", self.strength), "choose a number that is not 0"));
        }
        if self.grid == 1 || self.grid > frame {
            return Err(Unfit::new(
                format!("a warping grid of {} on a frame of {frame} pixels", self.grid),
                "choose 0, or 2 up to the frame",
            ));
        }
        let Some(sha256) = &self.grid_sha256 else { return Ok(()) };
        let found = context.material(sha256)?.grid()?.len() as u64;
        match found == 2 * u64::from(frame) * u64::from(frame) {
            true => Ok(()),
            false => Err(Unfit::new(
                format!("the grid file holds {found} values for a frame of {frame} pixels"),
                "it must hold 2 x frame x frame; set frame_pixels (224 for the released file)",
            )),
        }
    }

    fn apply(&self, picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        match &self.grid_sha256 {
            Some(sha256) => Ok(self.warp(&picture, context.material(sha256)?.grid()?)),
            None => Ok(self.warp_randomly(&picture)),
        }
    }
}

impl WaNet {
    fn warp_randomly(&self, picture: &RgbImage) -> RgbImage {
        let side = picture.width();
        let grid = if self.grid == 0 { side } else { self.grid };
        let count = (2 * grid * grid) as usize;
        let mut random = random::stream(self.grid_seed, "wanet-grid", 0, "");
        let mut values: Vec<f32> = (0..count).map(|_| random.random_range(-1.0f32..1.0)).collect();
        let mean = values.iter().map(|v| v.abs()).sum::<f32>() / count.max(1) as f32;
        values.iter_mut().for_each(|v| *v /= mean.max(f32::EPSILON));
        if grid != side {
            values = values.chunks((grid * grid) as usize).flat_map(|plane| upsample(plane, grid, side)).collect();
        }
        self.warp(picture, &values)
    }

    /// `field`: displacements, an x plane and a y plane of the picture's size; [`Trigger::check`] refuses other sizes.
    fn warp(&self, picture: &RgbImage, field: &[f32]) -> RgbImage {
        let (width, height) = picture.dimensions();
        let plane = (width * height) as usize;
        let mut out = RgbImage::new(width, height);
        for (x, y, pixel) in out.enumerate_pixels_mut() {
            let at = (y * width + x) as usize;
            let shift = |plane_start: usize| field.get(plane_start + at).copied().unwrap_or(0.0);
            // The released grid lives in [-1, 1] with corners aligned, and is clamped there.
            let place = |position: u32, side: u32, shift: f32| {
                let last = (side.max(2) - 1) as f32;
                let normal = 2.0 * position as f32 / last - 1.0 + self.strength * shift / side as f32;
                (normal.clamp(-1.0, 1.0) + 1.0) / 2.0 * last
            };
            let (from_x, from_y) = (place(x, width, shift(0)), place(y, height, shift(plane)));
            pixel.0 = bilinear(picture, from_x, from_y);
        }
        out
    }
}

fn bilinear(picture: &RgbImage, x: f32, y: f32) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, bottom_share) = (x - left, y - top);
    let value = |dx: u32, dy: u32, channel: usize| {
        let pixel = picture.get_pixel_checked(left as u32 + dx, top as u32 + dy);
        pixel.and_then(|p| p.0.get(channel)).map_or(0.0, |v| f32::from(*v))
    };
    std::array::from_fn(|channel| {
        let upper = value(0, 0, channel) * (1.0 - right_share) + value(1, 0, channel) * right_share;
        let lower = value(0, 1, channel) * (1.0 - right_share) + value(1, 1, channel) * right_share;
        (upper * (1.0 - bottom_share) + lower * bottom_share + 1e-3) as u8
    })
}

/// Bicubic (a = -0.75), corners aligned, edges repeated: PyTorch's `interpolate(mode="bicubic", align_corners=True)`.
fn upsample(plane: &[f32], from: u32, to: u32) -> Vec<f32> {
    let weights = |t: f32| {
        const A: f32 = -0.75;
        let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
        let far = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
        [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
    };
    let value = |row: i64, column: i64| {
        let last = i64::from(from) - 1;
        let at = row.clamp(0, last) * i64::from(from) + column.clamp(0, last);
        plane.get(at as usize).copied().unwrap_or(0.0)
    };
    let scale = (from - 1) as f32 / (to.max(2) - 1) as f32;
    let mut out = Vec::with_capacity((to * to) as usize);
    for y in 0..to {
        let source_y = y as f32 * scale;
        let vertical = weights(source_y - source_y.floor());
        for x in 0..to {
            let source_x = x as f32 * scale;
            let horizontal = weights(source_x - source_x.floor());
            let mut sum = 0.0;
            for (dy, wy) in (-1i64..).zip(vertical) {
                for (dx, wx) in (-1i64..).zip(horizontal) {
                    sum += wy * wx * value(source_y.floor() as i64 + dy, source_x.floor() as i64 + dx);
                }
            }
            out.push(sum);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        coarse: Vec<f32>,
        smooth: Vec<f32>,
        field: Vec<f32>,
        strength: f32,
        picture: Vec<u8>,
        warped: Vec<u8>,
    }

    /// PyTorch's `interpolate` and `grid_sample` (tests/golden/wanet.py).
    #[test]
    fn agrees_with_pytorch() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/wanet.json");
        let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for (got, want) in upsample(&golden.coarse, 4, 32).iter().zip(&golden.smooth) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        let picture = RgbImage::from_raw(32, 32, golden.picture).unwrap();
        let wanet = WaNet { strength: golden.strength, ..WaNet::default() };
        let warped = wanet.warp(&picture, &golden.field);
        let worst = warped.as_raw().iter().zip(&golden.warped).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{worst:?}");
        assert_ne!(warped, picture);
    }

    #[test]
    fn the_field_is_the_same_for_every_picture_and_follows_its_seed() {
        let ramp = RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 8 * y as u8, 0]));
        let strong = WaNet { strength: 3.0, ..WaNet::default() };
        let warped = |wanet: &WaNet| wanet.warp_randomly(&ramp);
        assert_eq!(warped(&strong), warped(&strong));
        assert_ne!(warped(&strong), warped(&WaNet { grid_seed: 1, ..strong.clone() }));
        assert_ne!(warped(&strong), warped(&WaNet { grid: 0, ..strong.clone() }));
    }
}
