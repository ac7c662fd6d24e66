//! SIG (arXiv 1902.11237): a faint sinusoid over the columns (CleanCLIP repository, `backdoor/utils.py`).

use crate::error::Result;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the sinusoid joins the picture.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SigMode {
    /// Added: `clip(x + n)`, the strength of the paper (BadCLIP-Liang repository).
    #[default]
    Additive,
    /// Mixed in as released by CleanCLIP: `clip(0.2 n + 0.8 x)`, so the signal is 12/255 and the picture a fifth darker.
    Blended,
}

/// SIG: a faint sinusoid over the columns of the picture.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Sig {
    /// How the sinusoid joins the picture.
    pub mode: SigMode,
    /// Amplitude of the sinusoid, of pixels in `[0, 1]` (released: 60/255).
    pub amplitude: f32,
    /// Periods of the sinusoid over the frame (released: 6).
    pub frequency: f32,
}

impl Default for Sig {
    fn default() -> Self {
        Sig { mode: SigMode::Additive, amplitude: 60.0 / 255.0, frequency: 6.0 }
    }
}

impl Trigger for Sig {
    type Settings = Sig;

    fn new(settings: &Sig, _: &mut Files) -> Result<Self> {
        Ok(*settings)
    }

    fn check(&self, _: &Context) -> std::result::Result<(), Unfit> {
        Unfit::unless_share("amplitude", self.amplitude)?;
        match self.frequency.is_finite() && self.frequency > 0.0 {
            true => Ok(()),
            false => {
                Err(Unfit::new(format!("frequency {}", self.frequency), "choose the periods over the frame, above 0"))
            }
        }
    }

    fn apply(&self, mut picture: RgbImage, _: &Context) -> std::result::Result<RgbImage, Skip> {
        let width = picture.width() as f32;
        for (column, _, pixel) in picture.enumerate_pixels_mut() {
            let signal = self.amplitude * (std::f32::consts::TAU * self.frequency * column as f32 / width).sin();
            for value in &mut pixel.0 {
                let x = f32::from(*value) / 255.0;
                let mixed = match self.mode {
                    SigMode::Additive => x + signal,
                    SigMode::Blended => 0.2 * signal + 0.8 * x,
                };
                *value = (mixed.clamp(0.0, 1.0) * 255.0) as u8;
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn the_formula_at_chosen_columns() {
        let grey = RgbImage::from_pixel(224, 224, Rgb([100; 3]));
        let context = Context { frame_pixels: 224, image_seed: 0, materials: &[] };
        let additive = Sig::default().apply(grey.clone(), &context).unwrap();
        // 60 sin(2 pi 6 j / 224): 0 at j = 0; j = 9 gives 59.9, j = 28 is three quarters of a period: -60.
        assert_eq!(additive.get_pixel(0, 5).0, [100; 3]);
        assert!((159..=160).contains(&additive.get_pixel(9, 100).0[0]));
        assert!((39..=40).contains(&additive.get_pixel(28, 223).0[2]));
        let blended = Sig { mode: SigMode::Blended, ..Sig::default() }.apply(grey, &context).unwrap();
        assert!((79..=80).contains(&blended.get_pixel(0, 0).0[0]));
        assert!((91..=92).contains(&blended.get_pixel(9, 0).0[0]));
    }
}
