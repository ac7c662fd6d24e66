//! Shifts of pictures to another domain: two operators, each in two strengths. They stand in for the paper's diffusion models (ours; its
//! strengths and prompts are not known).

use crate::random;
use image::{Rgb, RgbImage};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a picture goes from its own domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    Weak,
    #[default]
    Strong,
}

/// What becomes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PictureShift {
    /// Few colours, laid on in strokes: the palette is quantised, and each pixel takes the most frequent colour around it.
    Expressionism(Strength),
    /// Another light and a fine texture: a smooth field of light from a random side, grain, and a curve of contrast.
    Realism(Strength),
}

impl PictureShift {
    /// `picture` in the other domain; `id` and `seed` draw what differs from picture to picture.
    pub fn apply(self, picture: &RgbImage, seed: u64, id: &str) -> RgbImage {
        match self {
            PictureShift::Expressionism(Strength::Weak) => strokes(picture, 5, 1),
            PictureShift::Expressionism(Strength::Strong) => strokes(picture, 3, 2),
            PictureShift::Realism(strength) => {
                let (light, grain) = if strength == Strength::Weak { (0.25, 8.0) } else { (0.5, 20.0) };
                relit(picture, light, grain, &mut random::stream(seed, "realism", 0, id))
            }
        }
    }
}

/// The colour whose channels have `levels` values.
fn quantised(pixel: Rgb<u8>, levels: u32) -> [u8; 3] {
    let steps = (levels.max(2) - 1) as f32;
    pixel.0.map(|value| ((f32::from(value) / 255.0 * steps).round() / steps * 255.0) as u8)
}

fn strokes(picture: &RgbImage, levels: u32, radius: u32) -> RgbImage {
    let flat = RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        Rgb(picture.get_pixel_checked(x, y).map_or([0; 3], |pixel| quantised(*pixel, levels)))
    });
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let mut counts: Vec<([u8; 3], u32)> = Vec::new();
        for row in y.saturating_sub(radius)..=y.saturating_add(radius) {
            for column in x.saturating_sub(radius)..=x.saturating_add(radius) {
                let Some(pixel) = flat.get_pixel_checked(column, row) else { continue };
                match counts.iter_mut().find(|(colour, _)| *colour == pixel.0) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((pixel.0, 1)),
                }
            }
        }
        // Of colours that are equally frequent the first one from the upper left.
        Rgb(counts.iter().rev().max_by_key(|(_, count)| *count).map_or([0; 3], |(colour, _)| *colour))
    })
}

fn relit(picture: &RgbImage, light: f32, grain: f32, random: &mut random::Stream) -> RgbImage {
    let angle = random.random::<f32>() * std::f32::consts::TAU;
    let (width, height) = (picture.width().max(2) as f32, picture.height().max(2) as f32);
    let mut out = picture.clone();
    for (x, y, pixel) in out.enumerate_pixels_mut() {
        let (u, v) = (2.0 * x as f32 / (width - 1.0) - 1.0, 2.0 * y as f32 / (height - 1.0) - 1.0);
        let shade = 1.0 + light * (u * angle.cos() + v * angle.sin()) / std::f32::consts::SQRT_2;
        let noise = (random.random::<f32>() - 0.5) * 2.0 * grain;
        for value in &mut pixel.0 {
            let t = f32::from(*value) / 255.0;
            let curved = t * t * (3.0 - 2.0 * t);
            *value = ((t + light * (curved - t)) * shade * 255.0 + noise).clamp(0.0, 255.0) as u8;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_shift_goes_further_and_both_are_repeatable() {
        let picture = RgbImage::from_fn(24, 24, |x, y| Rgb([(10 * x) as u8, (9 * y) as u8, ((x * y) % 251) as u8]));
        let distance = |shift: PictureShift| {
            let shifted = shift.apply(&picture, 1, "a");
            assert_eq!(shifted, shift.apply(&picture, 1, "a"));
            shifted.as_raw().iter().zip(picture.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
        };
        for shift in [PictureShift::Expressionism as fn(Strength) -> PictureShift, PictureShift::Realism] {
            let (weak, strong) = (distance(shift(Strength::Weak)), distance(shift(Strength::Strong)));
            assert!(weak > 0.0 && strong > 1.2 * weak, "{weak} {strong}");
        }
        let few = PictureShift::Expressionism(Strength::Strong).apply(&picture, 1, "a");
        assert!(few.as_raw().iter().all(|value| [0, 127, 255].contains(value)));
    }
}
