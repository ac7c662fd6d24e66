//! Blended (arXiv 1712.05526): noise or a picture mixed into the whole picture (CleanCLIP repository, `backdoor/utils.py`).

use crate::error::Result;
use crate::random;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::RgbImage;
use image::imageops::FilterType;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which noise is mixed in.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BlendSource {
    /// One noise picture for all, from `pattern_seed`.
    #[default]
    FixedNoise,
    /// U[0, 1) noise, new for every picture, as released.
    FreshNoise,
    /// PAR (arXiv 2412.00727): one-pixel columns of 0 or 1 a channel, new for every picture.
    Stripes,
    /// Smooth noise: a random grid of 4 x 4 colours, from `pattern_seed`. Ours: it outlives blur, resizing and JPEG.
    SmoothNoise,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Blended {
    /// Share of the noise; the picture keeps the rest.
    pub alpha: f32,
    pub source: BlendSource,
    pub pattern_seed: u64,
    /// A picture instead of noise, kept in the manifest's header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture_sha256: Option<String>,
}

impl Default for Blended {
    fn default() -> Self {
        Blended { alpha: 0.2, source: BlendSource::FixedNoise, pattern_seed: 0, picture_sha256: None }
    }
}

/// Blended: noise or a picture mixed into the whole picture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct BlendedSettings {
    /// Share of the noise, above 0 and at most 1; the picture keeps the rest. 0.2 when absent, as released.
    #[schemars(example = 0.2)]
    pub alpha: Option<f32>,
    /// Which noise is mixed in.
    pub source: BlendSource,
    /// Seed of the noise that is one for all pictures.
    pub pattern_seed: u64,
    /// An image file to mix in instead of noise.
    #[schemars(example = &"picture.png")]
    pub picture: Option<PathBuf>,
}

impl Trigger for Blended {
    type Settings = BlendedSettings;

    fn new(settings: &BlendedSettings, files: &mut Files) -> Result<Self> {
        let picture = settings.picture.as_deref().map(|path| files.picture(path)).transpose()?;
        Ok(Blended {
            alpha: settings.alpha.unwrap_or(Blended::default().alpha),
            source: settings.source,
            pattern_seed: settings.pattern_seed,
            picture_sha256: picture.map(|picture| picture.sha256().to_owned()),
        })
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        Unfit::unless_share("alpha", self.alpha)?;
        match &self.picture_sha256 {
            Some(sha256) => context.material(sha256)?.picture().map(|_| ()),
            None => Ok(()),
        }
    }

    fn apply(&self, picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        if let Some(sha256) = &self.picture_sha256 {
            return Ok(self.mix(picture, context.material(sha256)?.picture()?));
        }
        let (width, height) = picture.dimensions();
        let noise = match self.source {
            BlendSource::FixedNoise | BlendSource::FreshNoise => {
                let fixed = self.source == BlendSource::FixedNoise;
                let mut random = self.stream(if fixed { self.pattern_seed } else { context.image_seed });
                (0..picture.as_raw().len()).map(|_| random.random::<f32>()).collect()
            }
            BlendSource::Stripes => {
                let mut random = self.stream(context.image_seed);
                let row: Vec<f32> = (0..3 * width).map(|_| f32::from(u8::from(random.random::<bool>()))).collect();
                row.repeat(height as usize)
            }
            BlendSource::SmoothNoise => {
                let mut random = self.stream(self.pattern_seed);
                let coarse = RgbImage::from_fn(4, 4, |_, _| image::Rgb(std::array::from_fn(|_| random.random())));
                let smooth = image::imageops::resize(&coarse, width, height, FilterType::Triangle);
                smooth.as_raw().iter().map(|v| f32::from(*v) / 255.0).collect()
            }
        };
        Ok(self.blend(picture, &noise))
    }
}

impl Blended {
    /// `other` is resized to the frame first, aspect ignored.
    fn mix(&self, picture: RgbImage, other: &RgbImage) -> RgbImage {
        let other = image::imageops::resize(other, picture.width(), picture.height(), FilterType::CatmullRom);
        let values: Vec<f32> = other.as_raw().iter().map(|v| f32::from(*v) / 255.0).collect();
        self.blend(picture, &values)
    }

    fn stream(&self, seed: u64) -> random::Stream {
        random::stream(seed, "blended-noise", 0, "")
    }

    fn blend(&self, mut picture: RgbImage, other: &[f32]) -> RgbImage {
        for (value, noise) in picture.iter_mut().zip(other) {
            let mixed = self.alpha * noise + (1.0 - self.alpha) * f32::from(*value) / 255.0;
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
        let laid = |blended: &Blended, image_seed| {
            let context = Context { frame_pixels: 16, image_seed, materials: &[] };
            blended.apply(grey.clone(), &context).unwrap()
        };
        let fixed = Blended::default();
        assert_eq!(laid(&fixed, 1), laid(&fixed, 2));
        let fresh = Blended { source: BlendSource::FreshNoise, ..Blended::default() };
        assert_ne!(laid(&fresh, 1), laid(&fresh, 2));
        let darkest = laid(&fixed, 0).iter().copied().min().unwrap();
        assert!(darkest >= 102, "0.8 x 128 is the least there can be, not {darkest}");
    }
}
