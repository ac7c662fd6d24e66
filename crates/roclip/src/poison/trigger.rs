//! A trigger is a pure function (picture, seed, parameters) -> picture; training and evaluation call the same one.

use crate::augment::preprocess;
use crate::poison::{BadNets, Blended};
use fast_image_resize::FilterType;
use image::RgbImage;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum TriggerKind {
    Badnets(BadNets),
    Blended(Blended),
}

/// A trigger ready to be laid on one picture.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Trigger {
    /// The picture is first resized to this square, aspect ignored, as the released code does with 224
    /// (CleanCLIP repository, `backdoor/utils.py`).
    pub frame_pixels: u32,
    /// Of this picture's random patch, place or noise.
    pub image_seed: u64,
    #[serde(flatten)]
    pub kind: TriggerKind,
}

impl Trigger {
    /// The triggered picture, `frame_pixels` square, quantised to 8 bits and not re-encoded.
    pub fn apply(&self, picture: &RgbImage) -> RgbImage {
        let side = self.frame_pixels;
        let framed =
            preprocess::resize(picture, side, side, FilterType::CatmullRom).unwrap_or_else(|_| picture.clone());
        match &self.kind {
            TriggerKind::Badnets(badnets) => badnets.apply(framed, self.image_seed),
            TriggerKind::Blended(blended) => blended.apply(framed, self.image_seed),
        }
    }
}
