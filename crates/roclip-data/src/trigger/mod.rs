//! A trigger is a pure function (picture, seed, parameters) -> picture; training and evaluation call the same one.

mod badnets;
mod blended;
mod material;
mod patch;
mod sig;
mod triangles;
mod wanet;

pub use badnets::{BadNets, Location, Overflow, Pattern};
pub use blended::{BlendSource, Blended};
pub use material::{Material, StoredMaterial};
pub use patch::Patch;
pub use sig::{Sig, SigMode};
pub use triangles::Triangles;
pub use wanet::{RELEASED_GRID_SHA256, WaNet};

use crate::picture::{jpeg_round_trip, preprocess};
use crate::skip::{Skip, SkipReason};
use fast_image_resize::FilterType;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum TriggerKind {
    Badnets(BadNets),
    Blended(Blended),
    Sig(Sig),
    Wanet(WaNet),
    Triangles(Triangles),
    Patch(Patch),
}

/// A trigger ready to be laid on one picture.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Trigger {
    /// The picture is first resized to this square, aspect ignored, as the released code does with 224
    /// (CleanCLIP repository, `backdoor/utils.py`).
    pub frame_pixels: u32,
    /// Of this picture's random patch, place or noise.
    pub image_seed: u64,
    /// Laid on one after the other.
    pub layers: Vec<TriggerKind>,
    /// The triggered picture goes through JPEG of this quality, as when it is stored in a .jpg file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jpeg_quality: Option<u8>,
    /// The pictures and grids that layers refer to; they come from the manifest's header.
    #[serde(skip)]
    pub materials: Arc<Vec<Material>>,
}

impl Trigger {
    pub fn with_seed(&self, image_seed: u64) -> Trigger {
        Trigger { image_seed, ..self.clone() }
    }

    /// The triggered picture, `frame_pixels` square, quantised to 8 bits after each layer.
    pub fn apply(&self, picture: &RgbImage) -> Result<RgbImage, Skip> {
        let side = self.frame_pixels;
        let framed = preprocess::resize(picture, side, side, FilterType::CatmullRom)?;
        let triggered = self.layers.iter().try_fold(framed, |picture, layer| self.lay(layer, picture))?;
        match self.jpeg_quality {
            Some(quality) => jpeg_round_trip(&triggered, quality),
            None => Ok(triggered),
        }
    }

    fn lay(&self, layer: &TriggerKind, picture: RgbImage) -> Result<RgbImage, Skip> {
        let missing = |sha256: &str| Skip::new(SkipReason::TriggerPictureMissing, format!("sha256 {sha256}"));
        let material =
            |sha256: &str| self.materials.iter().find(|m| m.sha256() == sha256).ok_or_else(|| missing(sha256));
        Ok(match layer {
            TriggerKind::Badnets(badnets) => badnets.apply(picture, self.image_seed),
            TriggerKind::Blended(blended) => match &blended.picture_sha256 {
                Some(sha256) => blended.mix(picture, material(sha256)?.picture()?),
                None => blended.apply(picture, self.image_seed),
            },
            TriggerKind::Sig(sig) => sig.apply(picture),
            TriggerKind::Wanet(wanet) => match &wanet.grid_sha256 {
                Some(sha256) => wanet.warp(&picture, material(sha256)?.grid()?),
                None => wanet.apply(&picture),
            },
            TriggerKind::Triangles(triangles) => triangles.apply(picture),
            TriggerKind::Patch(patch) => patch.apply(picture, material(&patch.picture_sha256)?.picture()?),
        })
    }
}
