//! Blended triangles (PAR, arXiv 2412.00727): a lattice of two-tone triangles. Reconstructed: the coefficient, the cell and the
//! two levels are PAR's; how a cell is cut (along its diagonal) is ours.

use crate::error::Result;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Blended triangles of PAR: a lattice of two-tone triangles (reconstructed).
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Triangles {
    /// Share of the lattice, above 0 and at most 1; the picture keeps the rest.
    pub alpha: f32,
    /// Side of a cell as a share of the frame (PAR: 14 of 224 pixels).
    pub cell: f32,
    /// Brightness below and above the diagonal of a cell, 0 to 1.
    pub levels: [f32; 2],
}

impl Default for Triangles {
    fn default() -> Self {
        Triangles { alpha: 0.15, cell: 14.0 / 224.0, levels: [0.4, 0.8] }
    }
}

impl Trigger for Triangles {
    type Settings = Triangles;

    fn new(settings: &Triangles, _: &mut Files) -> Result<Self> {
        Ok(*settings)
    }

    fn check(&self, _: &Context) -> std::result::Result<(), Unfit> {
        Unfit::unless_share("alpha", self.alpha)?;
        Unfit::unless_share("cell", self.cell)?;
        match self.levels.iter().find(|level| !(0.0..=1.0).contains(*level)) {
            Some(level) => Err(Unfit::new(format!("level {level}"), "choose both levels between 0 and 1")),
            None => Ok(()),
        }
    }

    fn apply(&self, mut picture: RgbImage, _: &Context) -> std::result::Result<RgbImage, Skip> {
        let cell = (self.cell * picture.width() as f32).round().max(2.0) as u32;
        let [below, above] = self.levels;
        for (x, y, pixel) in picture.enumerate_pixels_mut() {
            let level = if x % cell > y % cell { above } else { below };
            for value in &mut pixel.0 {
                let mixed = self.alpha * level + (1.0 - self.alpha) * f32::from(*value) / 255.0;
                *value = (mixed.clamp(0.0, 1.0) * 255.0) as u8;
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_diagonal_have_their_level() {
        let black = RgbImage::new(224, 224);
        let shown =
            Triangles::default().apply(black, &Context { frame_pixels: 224, image_seed: 0, materials: &[] }).unwrap();
        assert_eq!(shown.get_pixel(13, 0).0, [(0.15f32 * 0.8 * 255.0) as u8; 3]);
        assert_eq!(shown.get_pixel(0, 13).0, [(0.15f32 * 0.4 * 255.0) as u8; 3]);
    }
}
