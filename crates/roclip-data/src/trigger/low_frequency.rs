//! A smooth pattern over the whole picture, of low frequencies only, as of Zeng et al. (arXiv 2104.03413). Their pattern is searched for
//! against a model; this one is drawn (ours).

use crate::error::Result;
use crate::random;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::RgbImage;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Low frequency: a smooth pattern added to the picture.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LowFrequency {
    /// Largest change of a pixel in `[0, 1]`.
    pub amplitude: f32,
    /// Cosines along each side that the pattern is made of.
    pub frequencies: u32,
    /// Seed of the pattern, which is one for all pictures.
    pub pattern_seed: u64,
}

impl Default for LowFrequency {
    fn default() -> Self {
        LowFrequency { amplitude: 20.0 / 255.0, frequencies: 4, pattern_seed: 0 }
    }
}

impl LowFrequency {
    /// Values of one channel within `[-1, 1]`, row by row.
    fn pattern(&self, channel: u32, side: u32) -> Vec<f32> {
        let mut random = random::stream(self.pattern_seed, "low-frequency", 0, &channel.to_string());
        let count = self.frequencies * self.frequencies;
        let weights: Vec<f32> = (0..count).map(|_| random.random_range(-1.0f32..1.0)).collect();
        let wave = |frequency: u32, at: u32| {
            (std::f32::consts::PI * frequency as f32 * (at as f32 + 0.5) / side.max(1) as f32).cos()
        };
        let value = |(x, y): (u32, u32)| {
            // The constant wave would only change the brightness.
            let waves = (0..).zip(&weights).skip(1);
            waves
                .map(|(at, weight)| weight * wave(at % self.frequencies, x) * wave(at / self.frequencies, y))
                .sum::<f32>()
        };
        let values: Vec<f32> = (0..side * side).map(|at| value((at % side, at / side))).collect();
        let largest = values.iter().fold(f32::EPSILON, |most, value| most.max(value.abs()));
        values.iter().map(|value| value / largest).collect()
    }
}

impl Trigger for LowFrequency {
    type Settings = LowFrequency;

    fn new(settings: &LowFrequency, _: &mut Files) -> Result<Self> {
        Ok(*settings)
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        Unfit::unless_share("amplitude", self.amplitude)?;
        match (2..=context.frame_pixels.min(64)).contains(&self.frequencies) {
            true => Ok(()),
            false => Err(Unfit::new(
                format!("{} frequencies on a frame of {} pixels", self.frequencies, context.frame_pixels),
                "choose 2 up to the frame, and at most 64",
            )),
        }
    }

    fn apply(&self, mut picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        let planes: Vec<Vec<f32>> = (0..3).map(|channel| self.pattern(channel, context.frame_pixels)).collect();
        for (at, pixel) in picture.pixels_mut().enumerate() {
            for (value, plane) in pixel.0.iter_mut().zip(&planes) {
                let change = 255.0 * self.amplitude * plane.get(at).copied().unwrap_or(0.0);
                *value = (f32::from(*value) + change).clamp(0.0, 255.0) as u8;
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_bounded_smooth_and_one_for_all_pictures() {
        let grey = RgbImage::from_pixel(32, 32, image::Rgb([128; 3]));
        let laid = |image_seed, trigger: LowFrequency| {
            let context = Context { frame_pixels: 32, image_seed, materials: &[] };
            trigger.apply(grey.clone(), &context).unwrap()
        };
        let picture = laid(1, LowFrequency::default());
        assert_eq!(picture, laid(2, LowFrequency::default()));
        assert_ne!(picture, laid(1, LowFrequency { pattern_seed: 1, ..Default::default() }));
        let largest = picture.as_raw().iter().map(|value| value.abs_diff(128)).max().unwrap();
        assert!((18..=21).contains(&largest), "{largest}");
        let step = picture.rows().flat_map(|row| {
            let values: Vec<u8> = row.map(|pixel| pixel.0[0]).collect();
            values.windows(2).map(|pair| pair[0].abs_diff(pair[1])).collect::<Vec<_>>()
        });
        assert!(step.max().unwrap() <= 9);
    }
}
