//! PAR's picture pipeline (repository nmndeep/PerturbAndRecover): brightening noise and random erasing, on the picture that the model
//! will see. Pixels are 8-bit here, floats there: a rounding of at most half a level.

use crate::augment::check::Section;
use crate::error::Result;
use crate::picture::preprocess::MEAN;
use image::{Rgb, RgbImage};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What PAR does to pictures: brightening noise and random erasing. The defaults are the released settings.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PerturbConfig {
    /// Probability that a picture gets noise.
    pub noise_probability: f32,
    /// Standard deviation of the noise, of pixels in `[0, 1]`. The noise is clipped to `[0, 1]` before it is added, so that it only
    /// brightens, and half of it is 0.
    pub noise_deviation: f32,
    /// Probability that a rectangle of a picture is erased. Its aspect ratio is 0.3 to 3.3, as in torchvision, and it gets the mean colour.
    pub erase_probability: f32,
    /// Smallest share of the area that is erased.
    pub erase_min_area: f32,
    /// Largest share of the area that is erased.
    pub erase_max_area: f32,
}

impl Default for PerturbConfig {
    fn default() -> Self {
        PerturbConfig {
            noise_probability: 0.5,
            noise_deviation: 0.2,
            erase_probability: 0.5,
            erase_min_area: 0.005,
            erase_max_area: 0.01,
        }
    }
}

impl PerturbConfig {
    const LARGEST_DEVIATION: f32 = 100.0;

    /// Fails where a setting makes no sense, and names it below `key`.
    pub fn check(&self, key: &str) -> Result<()> {
        let section = Section(key);
        section.probability("noise_probability", self.noise_probability)?;
        section.within("noise_deviation", self.noise_deviation, 0.0..=Self::LARGEST_DEVIATION)?;
        section.probability("erase_probability", self.erase_probability)?;
        section.area("erase_min_area", self.erase_min_area)?;
        section.area("erase_max_area", self.erase_max_area)?;
        section.ordered(("erase_min_area", self.erase_min_area), ("erase_max_area", self.erase_max_area))
    }
}

/// The picture, perturbed.
pub fn perturb(config: &PerturbConfig, mut picture: RgbImage, random: &mut impl rand::Rng) -> RgbImage {
    if random.random::<f32>() < config.noise_probability {
        for value in picture.iter_mut() {
            let normal: f32 = StandardNormal.sample(random);
            let noise = (config.noise_deviation * normal).clamp(0.0, 1.0);
            *value = (f32::from(*value) + 255.0 * noise).round_ties_even().min(255.0) as u8;
        }
    }
    if random.random::<f32>() < config.erase_probability {
        erase(config, &mut picture, random);
    }
    picture
}

/// torchvision's `RandomErasing`: ten tries for a rectangle that fits, then nothing.
fn erase(config: &PerturbConfig, picture: &mut RgbImage, random: &mut impl rand::Rng) {
    let (width, height) = picture.dimensions();
    let mean = Rgb(MEAN.map(|mean| (255.0 * mean).round() as u8));
    for _ in 0..10 {
        let area = (width * height) as f32 * random.random_range(config.erase_min_area..=config.erase_max_area);
        let aspect = random.random_range(0.3f32.ln()..=3.3f32.ln()).exp();
        let (h, w) = ((area * aspect).sqrt().round() as u32, (area / aspect).sqrt().round() as u32);
        if h < height && w < width && h > 0 && w > 0 {
            let (top, left) = (random.random_range(0..=height - h), random.random_range(0..=width - w));
            for (x, y) in (left..left + w).flat_map(|x| (top..top + h).map(move |y| (x, y))) {
                picture.put_pixel(x, y, mean);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn noise_only_brightens_about_half_of_the_pixels() {
        let config = PerturbConfig { noise_probability: 1.0, erase_probability: 0.0, ..PerturbConfig::default() };
        let grey = RgbImage::from_pixel(32, 32, Rgb([100; 3]));
        let noisy = perturb(&config, grey, &mut random::stream(0, "test", 0, ""));
        let brighter = noisy.iter().filter(|value| **value > 100).count() as f64 / 3072.0;
        assert!((0.45..0.52).contains(&brighter), "{brighter}");
        // The mean of a half-normal of deviation 0.2: 0.2 / sqrt(2 pi) = 0.0798 (20.3 levels).
        let mean = noisy.iter().map(|value| f64::from(*value)).sum::<f64>() / 3072.0 - 100.0;
        assert!((18.5..22.0).contains(&mean), "{mean}");
        assert!(noisy.iter().all(|value| *value >= 100));
    }

    #[test]
    fn erasing_covers_its_share_with_the_mean_colour() {
        let config = PerturbConfig { noise_probability: 0.0, erase_probability: 1.0, ..PerturbConfig::default() };
        let mut random = random::stream(0, "test", 0, "");
        let mut total = 0;
        for _ in 0..50 {
            let erased = perturb(&config, RgbImage::new(224, 224), &mut random);
            let touched = erased.pixels().filter(|pixel| pixel.0 == [123, 117, 104]).count();
            assert_eq!(touched, erased.pixels().filter(|pixel| pixel.0 != [0; 3]).count());
            assert!((200..=560).contains(&touched), "{touched}");
            total += touched;
        }
        assert!((320..440).contains(&(total / 50)), "{total}");
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let released = PerturbConfig::default;
        released().check("clean.par.perturb").unwrap();
        let nonsense = [
            ("noise_probability", PerturbConfig { noise_probability: 2.0, ..released() }),
            ("noise_deviation", PerturbConfig { noise_deviation: -0.2, ..released() }),
            ("noise_deviation", PerturbConfig { noise_deviation: f32::NAN, ..released() }),
            ("erase_probability", PerturbConfig { erase_probability: -1.0, ..released() }),
            ("erase_min_area", PerturbConfig { erase_min_area: 0.02, ..released() }),
            ("erase_min_area", PerturbConfig { erase_min_area: 0.0, ..released() }),
            ("erase_max_area", PerturbConfig { erase_max_area: 1.5, ..released() }),
        ];
        for (name, config) in nonsense {
            let message = config.check("clean.par.perturb").unwrap_err().to_string();
            assert!(message.contains(&format!("clean.par.perturb.{name} = ")), "{message}");
        }
    }
}
