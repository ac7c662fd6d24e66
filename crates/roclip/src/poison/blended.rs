//! Blended (arXiv 1712.05526): noise mixed into the whole picture (CleanCLIP repository, `backdoor/utils.py`).

use crate::random;
use image::RgbImage;
use rand::RngExt;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BlendSource {
    /// One noise picture for all, from `pattern_seed`.
    #[default]
    FixedNoise,
    /// As released: U[0, 1) noise, new for every picture.
    FreshNoise,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Blended {
    /// Share of the noise; the picture keeps the rest.
    pub alpha: f32,
    pub source: BlendSource,
    pub pattern_seed: u64,
}

impl Default for Blended {
    fn default() -> Self {
        Blended { alpha: 0.2, source: BlendSource::FixedNoise, pattern_seed: 0 }
    }
}

impl Blended {
    pub fn apply(&self, mut picture: RgbImage, image_seed: u64) -> RgbImage {
        let seed = match self.source {
            BlendSource::FixedNoise => self.pattern_seed,
            BlendSource::FreshNoise => image_seed,
        };
        let mut random = random::stream(seed, "blended-noise", 0, "");
        for value in picture.iter_mut() {
            let mixed = self.alpha * random.random::<f32>() + (1.0 - self.alpha) * f32::from(*value) / 255.0;
            *value = (mixed * 255.0).clamp(0.0, 255.0) as u8;
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_noise_repeats_and_fresh_noise_does_not() {
        let grey = RgbImage::from_pixel(16, 16, image::Rgb([128; 3]));
        let fixed = Blended::default();
        assert_eq!(fixed.apply(grey.clone(), 1), fixed.apply(grey.clone(), 2));
        let fresh = Blended { source: BlendSource::FreshNoise, ..Blended::default() };
        assert_ne!(fresh.apply(grey.clone(), 1), fresh.apply(grey.clone(), 2));
        let darkest = fixed.apply(grey, 0).iter().copied().min().unwrap();
        assert!(darkest >= 102, "0.8 x 128 is the least there can be, not {darkest}");
    }
}
