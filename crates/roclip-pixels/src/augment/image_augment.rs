//! The released image pipeline: flip, random resized crop, colour jitter, grayscale, blur
//! (RoCLIP repository, `utils/augment_image.py`), with torchvision's parameter draws and PIL's arithmetic.
//!
//! Drawing and applying are apart: [`ImageAugment::draw`] decides, [`ImageAugment::apply`] is a pure function, which is what the
//! golden files check.

use crate::augment::auto_augment::{self, Operation};
use crate::augment::check::Section;
use crate::augment::{blur, color};
use crate::error::Result;
use crate::picture::preprocess;
use crate::skip::Skip;
use fast_image_resize::FilterType;
use image::{RgbImage, imageops};
use rand::RngExt;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Changes the pictures that are trained on at random: flip, crop, colour jitter, grayscale, blur. The defaults are the released settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ImageAugmentConfig {
    /// Whether AutoAugment's ImageNet policy is used on the whole picture instead of everything below, as for CleanCLIP's second view.
    pub auto_augment: bool,
    /// Probability of a horizontal flip.
    pub flip_probability: f32,
    /// Smallest share of the area that a random crop keeps; the largest is 1. The released 0.08 suits photographs of 224 pixels; 32-pixel
    /// pictures need about 0.6.
    pub crop_min_area: f32,
    /// Probability that brightness, contrast, saturation and hue change.
    pub jitter_probability: f32,
    /// Largest change of brightness, as a share: 0.5 draws a factor from 0.5 to 1.5.
    pub brightness: f32,
    /// Largest change of contrast, as a share.
    pub contrast: f32,
    /// Largest change of saturation, as a share.
    pub saturation: f32,
    /// Largest change of hue, in turns of the colour circle, at most 0.5.
    pub hue: f32,
    /// Probability that a picture loses its colours.
    pub grayscale_probability: f32,
    /// Side of the Gaussian blur's kernel, an odd number of pixels; 0 is no blur.
    pub blur_kernel: u32,
    /// Smallest standard deviation of the blur, in pixels.
    pub blur_sigma_min: f32,
    /// Largest standard deviation of the blur, in pixels; 0 is no blur.
    pub blur_sigma_max: f32,
}

impl Default for ImageAugmentConfig {
    fn default() -> Self {
        ImageAugmentConfig {
            auto_augment: false,
            flip_probability: 0.5,
            crop_min_area: 0.08,
            jitter_probability: 0.8,
            brightness: 0.5,
            contrast: 0.5,
            saturation: 0.5,
            hue: 0.1,
            grayscale_probability: 0.2,
            blur_kernel: 21,
            blur_sigma_min: 0.1,
            blur_sigma_max: 2.0,
        }
    }
}

impl ImageAugmentConfig {
    /// Kernels beyond this blur any picture that a model takes to one colour, at a cost that grows with them.
    const LARGEST_KERNEL: u32 = 255;
    const LARGEST_SIGMA: f32 = 1000.0;
    const LARGEST_STRENGTH: f32 = 100.0;

    /// Fails where a setting makes no sense, and names it below `key`.
    pub fn check(&self, key: &str) -> Result<()> {
        let section = Section(key);
        section.probability("flip_probability", self.flip_probability)?;
        section.area("crop_min_area", self.crop_min_area)?;
        section.probability("jitter_probability", self.jitter_probability)?;
        section.within("brightness", self.brightness, 0.0..=Self::LARGEST_STRENGTH)?;
        section.within("contrast", self.contrast, 0.0..=Self::LARGEST_STRENGTH)?;
        section.within("saturation", self.saturation, 0.0..=Self::LARGEST_STRENGTH)?;
        section.within("hue", self.hue, 0.0..=0.5)?;
        section.probability("grayscale_probability", self.grayscale_probability)?;
        section.within("blur_kernel", self.blur_kernel, 0..=Self::LARGEST_KERNEL)?;
        if self.blur_kernel > 0 && self.blur_kernel.is_multiple_of(2) {
            return Err(section.refuse(
                "blur_kernel",
                self.blur_kernel,
                "choose an odd number of pixels, or 0 for no blur",
            ));
        }
        section.within("blur_sigma_max", self.blur_sigma_max, 0.0..=Self::LARGEST_SIGMA)?;
        if self.blurs() {
            if self.blur_sigma_min.is_nan() || self.blur_sigma_min <= 0.0 {
                let remedy = format!("choose it above 0 (or turn the blur off by {key}.blur_kernel = 0)");
                return Err(section.refuse("blur_sigma_min", self.blur_sigma_min, remedy));
            }
            section.ordered(("blur_sigma_min", self.blur_sigma_min), ("blur_sigma_max", self.blur_sigma_max))?;
        }
        Ok(())
    }

    /// A largest sigma of 0 is no blur, as a kernel of 0 is.
    fn blurs(&self) -> bool {
        self.blur_kernel > 0 && self.blur_sigma_max > 0.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    Hue(f32),
}

/// The crop box in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// One draw of everything that is random.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageAugment {
    /// AutoAugment's operations; where there are any to draw, nothing else happens.
    pub policy: Option<Vec<Operation>>,
    pub flip: bool,
    pub crop: Crop,
    /// In the order of application.
    pub jitter: Vec<Jitter>,
    pub grayscale: bool,
    /// Kernel and sigma.
    pub blur: Option<(u32, f32)>,
}

impl ImageAugment {
    pub fn draw(config: &ImageAugmentConfig, (width, height): (u32, u32), random: &mut impl rand::Rng) -> Self {
        if config.auto_augment {
            let crop = Crop { left: 0, top: 0, width, height };
            let policy = Some(auto_augment::draw(random));
            return ImageAugment { policy, flip: false, crop, jitter: Vec::new(), grayscale: false, blur: None };
        }
        let flip = random.random::<f32>() < config.flip_probability;
        let crop = draw_crop(config.crop_min_area, width, height, random);
        let mut jitter = Vec::new();
        if random.random::<f32>() < config.jitter_probability {
            let mut factor = |strength: f32| random.random_range((1.0 - strength).max(0.0)..=1.0 + strength);
            jitter = vec![
                Jitter::Brightness(factor(config.brightness)),
                Jitter::Contrast(factor(config.contrast)),
                Jitter::Saturation(factor(config.saturation)),
            ];
            jitter.push(Jitter::Hue(random.random_range(-config.hue..=config.hue)));
            jitter.shuffle(random);
        }
        let grayscale = random.random::<f32>() < config.grayscale_probability;
        let blur = config
            .blurs()
            .then(|| (config.blur_kernel, random.random_range(config.blur_sigma_min..=config.blur_sigma_max)));
        ImageAugment { policy: None, flip, crop, jitter, grayscale, blur }
    }

    /// The augmented picture, `size` x `size`.
    pub fn apply(&self, picture: &RgbImage, size: u32) -> std::result::Result<RgbImage, Skip> {
        if let Some(operations) = &self.policy {
            let changed = operations.iter().fold(picture.clone(), |picture, operation| operation.apply(&picture));
            return preprocess::resize_and_crop(&changed, size);
        }
        let Crop { left, top, width, height } = self.crop;
        // Flipping after the crop of the mirrored box is the released order (flip, then crop) at the cost of the crop alone.
        let left = if self.flip { picture.width().saturating_sub(left + width) } else { left };
        let mut cropped = preprocess::cut(picture, (left, top), (width, height));
        if self.flip {
            imageops::flip_horizontal_in_place(&mut cropped);
        }
        let mut out = preprocess::resize(&cropped, size, size, FilterType::Bilinear)?;
        self.recolour(&mut out);
        Ok(out)
    }

    /// Jitter, grayscale and blur, at whatever size the picture has.
    pub fn recolour(&self, out: &mut RgbImage) {
        for step in &self.jitter {
            match *step {
                Jitter::Brightness(factor) => color::brightness(out, factor),
                Jitter::Contrast(factor) => color::contrast(out, factor),
                Jitter::Saturation(factor) => color::saturation(out, factor),
                Jitter::Hue(factor) => color::hue(out, factor),
            }
        }
        if self.grayscale {
            color::grayscale(out);
        }
        if let Some((kernel, sigma)) = self.blur {
            blur::gaussian(out, kernel, sigma);
        }
    }
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest central crop within the aspect limits.
fn draw_crop(min_area: f32, width: u32, height: u32, random: &mut impl rand::Rng) -> Crop {
    let (lowest, highest) = (3.0f64 / 4.0, 4.0f64 / 3.0);
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * random.random_range(f64::from(min_area)..=1.0);
        let aspect = random.random_range(lowest.ln()..=highest.ln()).exp();
        let w = (target * aspect).sqrt().round_ties_even() as u32;
        let h = (target / aspect).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = random.random_range(0..=height - h);
            let left = random.random_range(0..=width - w);
            return Crop { left, top, width: w, height: h };
        }
    }
    let ratio = f64::from(width) / f64::from(height);
    let (w, h) = if ratio < lowest {
        (width, ((f64::from(width) / lowest).round_ties_even() as u32).clamp(1, height))
    } else if ratio > highest {
        (((f64::from(height) * highest).round_ties_even() as u32).clamp(1, width), height)
    } else {
        (width, height)
    };
    Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn crops_stay_inside_and_cover_the_whole_range() {
        let mut random = random::stream(0, "test", 0, "");
        let mut smallest = 1.0f64;
        for _ in 0..2000 {
            let c = draw_crop(0.08, 90, 60, &mut random);
            assert!(c.left + c.width <= 90 && c.top + c.height <= 60);
            smallest = smallest.min(f64::from(c.width * c.height) / 5400.0);
        }
        assert!((0.05..0.12).contains(&smallest), "{smallest}");
    }

    #[test]
    fn settings_that_make_no_sense_are_named_and_the_others_draw_without_a_panic() {
        let released = ImageAugmentConfig::default;
        let sound = [
            released(),
            ImageAugmentConfig { blur_sigma_max: 0.0, ..released() },
            ImageAugmentConfig { blur_kernel: 0, blur_sigma_min: -1.0, ..released() },
            ImageAugmentConfig { crop_min_area: 1.0, hue: 0.5, brightness: 3.0, ..released() },
            ImageAugmentConfig { hue: 0.0, brightness: 0.0, blur_sigma_min: 2.0, ..released() },
            ImageAugmentConfig { auto_augment: true, ..released() },
        ];
        let picture = RgbImage::from_pixel(20, 9, image::Rgb([200, 100, 50]));
        for config in sound {
            config.check("augment.image").unwrap();
            for draw in 0..50 {
                let mut random = random::stream(draw, "test", 0, "");
                let augmented =
                    ImageAugment::draw(&config, picture.dimensions(), &mut random).apply(&picture, 8).unwrap();
                assert!(augmented.iter().any(|value| *value > 0), "{config:?} gives black pictures");
            }
        }
        let nonsense = [
            ("crop_min_area", ImageAugmentConfig { crop_min_area: 1.5, ..released() }),
            ("crop_min_area", ImageAugmentConfig { crop_min_area: 0.0, ..released() }),
            ("crop_min_area", ImageAugmentConfig { crop_min_area: f32::NAN, ..released() }),
            ("flip_probability", ImageAugmentConfig { flip_probability: -0.1, ..released() }),
            ("jitter_probability", ImageAugmentConfig { jitter_probability: 1.1, ..released() }),
            ("grayscale_probability", ImageAugmentConfig { grayscale_probability: f32::NAN, ..released() }),
            ("brightness", ImageAugmentConfig { brightness: -0.5, ..released() }),
            ("contrast", ImageAugmentConfig { contrast: f32::INFINITY, ..released() }),
            ("saturation", ImageAugmentConfig { saturation: f32::NAN, ..released() }),
            ("hue", ImageAugmentConfig { hue: -0.1, ..released() }),
            ("hue", ImageAugmentConfig { hue: 0.6, ..released() }),
            ("blur_kernel", ImageAugmentConfig { blur_kernel: 4, ..released() }),
            ("blur_kernel", ImageAugmentConfig { blur_kernel: u32::MAX, ..released() }),
            ("blur_sigma_min", ImageAugmentConfig { blur_sigma_min: 3.0, ..released() }),
            ("blur_sigma_min", ImageAugmentConfig { blur_sigma_min: 0.0, ..released() }),
            ("blur_sigma_max", ImageAugmentConfig { blur_sigma_max: f32::NAN, ..released() }),
        ];
        for (name, config) in nonsense {
            let message = config.check("augment.image").unwrap_err().to_string();
            assert!(message.contains(&format!("augment.image.{name} = ")), "{message}");
        }
    }
}
