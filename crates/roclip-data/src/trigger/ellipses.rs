//! MABA's visual trigger (arXiv 2406.18844): plain yellow ovals, mixed into the pixels of a mask. Size, spacing and colour are those of a third
//! party's code (bin015/BackdoorVLM @ 19b2ae0, there on 336 pixels), since the paper's are not known. Who has a model finds the mask; the
//! manifest keeps it for each picture.

use crate::error::Result;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{Rgb, RgbImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const YELLOW: [f32; 3] = [255.0, 216.0, 0.0];

/// What becomes of the mask's pixels between ovals.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// They stay as they are.
    #[default]
    Keep,
    /// They are mixed with black, as that code does, whose layer loses its transparency.
    Darken,
}

/// MABA: yellow ovals within a mask.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Ellipses {
    /// Share of the ovals; the picture keeps the rest.
    pub alpha: f32,
    /// Width of an oval in pixels; its height is twice that, and their corners stand three times that apart.
    pub width_pixels: u32,
    /// What becomes of the mask's pixels between ovals.
    pub gap: Gap,
    /// One bit a pixel of the frame, row by row, the first in the highest bit, as Base64; all pixels where it is empty.
    pub mask: String,
}

impl Default for Ellipses {
    fn default() -> Self {
        Ellipses { alpha: 0.5, width_pixels: 10, gap: Gap::Keep, mask: String::new() }
    }
}

impl Ellipses {
    /// The width of ovals on a frame: 10 of 336 pixels, and at least 2.
    pub fn width_on(frame_pixels: u32) -> u32 {
        ((10.0 * f64::from(frame_pixels) / 336.0).round() as u32).max(2)
    }

    /// The same with another mask, a value for each pixel of the frame.
    pub fn with_mask(&self, mask: &[bool]) -> Ellipses {
        let byte = |bits: &[bool]| (0..8).fold(0u8, |byte, at| byte << 1 | u8::from(bits.get(at) == Some(&true)));
        Ellipses { mask: STANDARD.encode(mask.chunks(8).map(byte).collect::<Vec<u8>>()), ..self.clone() }
    }

    /// Whether each pixel of the frame is in the mask.
    fn masked(&self, frame: u32) -> std::result::Result<Vec<bool>, Unfit> {
        let pixels = frame as usize * frame as usize;
        if self.mask.is_empty() {
            return Ok(vec![true; pixels]);
        }
        let bytes = STANDARD.decode(&self.mask).unwrap_or_default();
        if bytes.len() != pixels.div_ceil(8) {
            return Err(Unfit::new(
                format!("a mask of {} bytes for a frame of {frame} pixels", bytes.len()),
                "use the manifest as it was made",
            ));
        }
        let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
        Ok((0..pixels).map(bit).collect())
    }

    /// Whether an oval covers the pixel. They stand at every multiple of three widths, as their upper left corners.
    fn covers(&self, x: u32, y: u32) -> bool {
        let spacing = 3 * self.width_pixels;
        let within = |at: u32, length: u32| (f64::from(at % spacing) + 0.5) * 2.0 / f64::from(length) - 1.0;
        let (u, v) = (within(x, self.width_pixels), within(y, 2 * self.width_pixels));
        u * u + v * v <= 1.0
    }
}

impl Trigger for Ellipses {
    type Settings = Ellipses;

    fn new(settings: &Ellipses, _: &mut Files) -> Result<Self> {
        Ok(settings.clone())
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        Unfit::unless_share("alpha", self.alpha)?;
        Unfit::unless_inside([self.width_pixels, self.width_pixels.saturating_mul(2)], None, context.frame_pixels)?;
        self.masked(context.frame_pixels).map(|_| ())
    }

    fn apply(&self, mut picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        let masked = self.masked(context.frame_pixels)?;
        let mixed = |value: u8, other: f32| ((1.0 - self.alpha) * f32::from(value) + self.alpha * other).round() as u8;
        for ((x, y, pixel), masked) in picture.enumerate_pixels_mut().zip(masked) {
            let colour = match (masked, self.covers(x, y), self.gap) {
                (true, true, _) => YELLOW,
                (true, false, Gap::Darken) => [0.0; 3],
                _ => continue,
            };
            let [red, green, blue] = pixel.0;
            let [r, g, b] = colour;
            *pixel = Rgb([mixed(red, r), mixed(green, g), mixed(blue, b)]);
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(trigger: &Ellipses) -> RgbImage {
        let context = Context { frame_pixels: 30, image_seed: 0, materials: &[] };
        trigger.check(&context).unwrap();
        trigger.apply(RgbImage::from_pixel(30, 30, Rgb([100; 3])), &context).unwrap()
    }

    #[test]
    fn ovals_are_mixed_in_within_the_mask_alone() {
        let all = Ellipses { width_pixels: 4, ..Ellipses::default() };
        let count = |picture: &RgbImage, colour: [u8; 3]| picture.pixels().filter(|pixel| pixel.0 == colour).count();
        let yellow = [178, 158, 50];
        let everywhere = laid(&all);
        assert!(count(&everywhere, yellow) > 60 && count(&everywhere, [100; 3]) > 400);
        assert_eq!(everywhere.get_pixel(2, 4).0, yellow);
        assert_eq!(everywhere.get_pixel(14, 4).0, yellow, "the next one stands three widths further");
        let left: Vec<bool> = (0..900).map(|at| at % 30 < 10).collect();
        let masked = laid(&all.with_mask(&left));
        assert!(count(&masked, yellow) > 0 && masked.enumerate_pixels().all(|(x, _, p)| x < 10 || p.0 == [100; 3]));
        let dark = laid(&Ellipses { gap: Gap::Darken, ..all.with_mask(&left) });
        assert_eq!(count(&dark, [50; 3]) + count(&dark, yellow), 300);
    }

    #[test]
    fn a_mask_of_another_frame_is_refused() {
        let trigger = Ellipses { width_pixels: 2, ..Ellipses::default() }.with_mask(&[true; 64]);
        let on = |frame_pixels| trigger.check(&Context { frame_pixels, image_seed: 0, materials: &[] });
        assert!(on(8).is_ok() && on(16).unwrap_err().what.contains("mask of 8 bytes"));
        assert!(Ellipses::width_on(336) == 10 && Ellipses::width_on(32) == 2);
    }
}
