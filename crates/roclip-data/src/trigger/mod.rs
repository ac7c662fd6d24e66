//! A trigger is a pure function (picture, seed, settings) -> picture; training and evaluation call the same one.
//!
//! A new trigger is a file with an implementation of [`Trigger`], and a line in the list below.

#[macro_use]
mod registry;
mod material;
mod settings;
mod unfit;

pub use badnets::{Location, Overflow, Pattern};
pub use blended::{BlendSource, BlendedSettings};
pub use ellipses::Gap;
pub use ink_reconstructed::{InkMode, VarianceTail};
pub use material::{Material, StoredMaterial};
pub use patch::PatchSettings;
pub use registry::{Context, Files, Framed, Trigger};
pub use settings::AttackTriggers;
pub use sig::SigMode;
pub use unfit::Unfit;
pub use wanet::{RELEASED_GRID_SHA256, WaNetSettings};

use crate::error::Result;
use crate::picture::{jpeg_round_trip, preprocess};
use crate::skip::Skip;
use fast_image_resize::FilterType;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

// An attack of several lays them on in this order. rustfmt does not look into the modules that a macro declares: `make lint` names them.
triggers! {
    badnets: Badnets(BadNets),
    blended: Blended(Blended),
    sig: Sig(Sig),
    wanet: Wanet(WaNet),
    triangles: Triangles(Triangles),
    patch: Patch(Patch),
    ink_reconstructed: InkReconstructed(InkReconstructed),
    low_frequency: LowFrequency(LowFrequency),
    ellipses: Ellipses(Ellipses),
    residue: Residue(Residue),
}

/// The largest frame. Triggers need memory in proportion to its square, and no model of this kind sees more.
pub const MAX_FRAME_PIXELS: u32 = 2048;
/// The most triggers on one picture.
pub const MAX_LAYERS: usize = 16;

/// Triggers ready to be laid on one picture, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TriggerStack {
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

impl TriggerStack {
    pub fn with_seed(&self, image_seed: u64) -> TriggerStack {
        TriggerStack { image_seed, ..self.clone() }
    }

    /// Whether every setting makes sense: the frame and its number of layers, each layer on that frame, and the JPEG quality.
    pub fn check(&self) -> std::result::Result<(), Unfit> {
        if !(1..=MAX_FRAME_PIXELS).contains(&self.frame_pixels) {
            return Err(Unfit::new(
                format!("frame_pixels {}", self.frame_pixels),
                format!("choose it between 1 and {MAX_FRAME_PIXELS}"),
            ));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(Unfit::new(
                format!("{} triggers on one picture", self.layers.len()),
                format!("use at most {MAX_LAYERS}"),
            ));
        }
        if let Some(quality) = self.jpeg_quality.filter(|quality| !(1..=100).contains(quality)) {
            return Err(Unfit::new(format!("jpeg_quality {quality}"), "choose it between 1 and 100"));
        }
        self.layers.iter().try_for_each(|layer| layer.check(&self.context()))
    }

    /// Settles what its layers leave to the pictures that they may be laid on, as [`Trigger::settle`] does: what a person should know of it.
    pub fn settle(&mut self, pictures: &Framed) -> Result<Vec<String>> {
        let layers = self.layers.iter_mut();
        Ok(layers.map(|layer| layer.settle(pictures)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Whether poisoned pairs must keep their captions (`Some(true)`), or must not; none where either will do.
    pub fn keeps_captions(&self) -> Option<bool> {
        self.layers.iter().find_map(TriggerKind::keeps_captions)
    }

    /// Whether `picture` may be poisoned with it in training; the error says why not.
    pub fn suits(&self, picture: &RgbImage) -> std::result::Result<(), String> {
        if !self.layers.iter().any(TriggerKind::settles) {
            return Ok(());
        }
        let framed = self.framed(picture).map_err(|skip| skip.detail)?;
        self.layers.iter().try_for_each(|layer| layer.suits(&framed))
    }

    /// `picture` as the first layer sees it.
    pub fn framed(&self, picture: &RgbImage) -> std::result::Result<RgbImage, Skip> {
        preprocess::resize(picture, self.frame_pixels, self.frame_pixels, FilterType::CatmullRom)
    }

    /// The triggered picture, `frame_pixels` square, quantised to 8 bits after each layer.
    pub fn apply(&self, picture: &RgbImage) -> std::result::Result<RgbImage, Skip> {
        self.check()?;
        let context = self.context();
        let framed = self.framed(picture)?;
        let triggered = self.layers.iter().try_fold(framed, |picture, layer| layer.apply(picture, &context))?;
        match self.jpeg_quality {
            Some(quality) => jpeg_round_trip(&triggered, quality),
            None => Ok(triggered),
        }
    }

    fn context(&self) -> Context<'_> {
        Context { frame_pixels: self.frame_pixels, image_seed: self.image_seed, materials: &self.materials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frame_pixels: u32, layers: &str) -> TriggerStack {
        let layers: Vec<TriggerKind> = serde_json::from_str(layers).unwrap();
        TriggerStack { frame_pixels, image_seed: 0, layers, jpeg_quality: None, materials: Arc::default() }
    }

    #[test]
    fn settings_that_cannot_be_are_refused_and_neither_panic_nor_take_memory() {
        let picture = RgbImage::from_pixel(40, 30, image::Rgb([120; 3]));
        for (frame, layers, word) in [
            (0, "[]", "frame_pixels 0"),
            (20_000, "[]", "frame_pixels 20000"),
            (u32::MAX, "[]", "frame_pixels"),
            (32, r#"[{"name":"badnets","patch_pixels":0}]"#, "patch of 0"),
            (32, r#"[{"name":"badnets","patch_pixels":100000}]"#, "patch of 100000"),
            (32, r#"[{"name":"badnets","patch_pixels":4294967295}]"#, "patch of 4294967295"),
            (32, r#"[{"name":"badnets","patch_pixels":8,"location":"fixed","corner":[25,0]}]"#, "leaves the frame"),
            (
                32,
                r#"[{"name":"badnets","patch_pixels":8,"location":"fixed","corner":[0,4294967295]}]"#,
                "corner [0, 4294967295]",
            ),
            (32, r#"[{"name":"wanet","grid":60000}]"#, "grid of 60000"),
            (32, r#"[{"name":"wanet","grid":1}]"#, "grid of 1"),
            (32, r#"[{"name":"wanet","strength":1e39}]"#, "strength"),
            (32, r#"[{"name":"wanet","grid_sha256":"00"}]"#, "missing"),
            (32, r#"[{"name":"blended","alpha":0.0}]"#, "alpha 0"),
            (32, r#"[{"name":"blended","alpha":1.5}]"#, "alpha 1.5"),
            (32, r#"[{"name":"blended","picture_sha256":"00"}]"#, "missing"),
            (32, r#"[{"name":"sig","amplitude":-1.0}]"#, "amplitude"),
            (32, r#"[{"name":"sig","frequency":1e39}]"#, "frequency"),
            (32, r#"[{"name":"triangles","cell":1e39}]"#, "cell"),
            (32, r#"[{"name":"triangles","levels":[0.4, 7.0]}]"#, "level"),
            (32, r#"[{"name":"patch","picture_sha256":"00"}]"#, "missing"),
        ] {
            let stack = stack(frame, layers);
            let unfit = stack.check().unwrap_err();
            assert!(unfit.what.contains(word), "{layers}: {unfit:?}");
            assert!(stack.apply(&picture).is_err());
        }
        let many = TriggerStack {
            layers: vec![stack(32, r#"[{"name":"sig"}]"#).layers[0].clone(); 100_000],
            ..stack(32, "[]")
        };
        assert!(many.check().unwrap_err().what.contains("100000 triggers"));
        let quality = TriggerStack { jpeg_quality: Some(0), ..stack(32, "[]") };
        assert!(quality.check().unwrap_err().what.contains("jpeg_quality 0"));
    }

    #[test]
    fn a_patch_picture_must_fit_the_frame_where_it_is_laid() {
        let material = Material::of_picture(&RgbImage::new(16, 8)).unwrap();
        let laid = |frame_pixels, corner| {
            let layers = vec![TriggerKind::Patch(Patch { picture_sha256: material.sha256().to_owned(), corner })];
            let materials = Arc::new(vec![material.clone()]);
            TriggerStack { frame_pixels, image_seed: 0, layers, jpeg_quality: None, materials }.check()
        };
        assert!(laid(16, None).is_ok() && laid(16, Some([0, 8])).is_ok());
        for (frame, corner) in [(15, None), (16, Some([1, 0])), (16, Some([0, 9])), (16, Some([u32::MAX, 0]))] {
            assert!(laid(frame, corner).is_err(), "{frame} {corner:?}");
        }
    }

    #[test]
    fn every_trigger_has_one_name_in_recipes_and_manifests() {
        for name in TriggerSettings::NAMES {
            let settings = if *name == "patch" { r#"{"picture":"p.png"}"# } else { "{}" };
            let list: AttackTriggers = serde_json::from_str(&format!(r#"{{"{name}":{settings}}}"#)).unwrap();
            assert_eq!(list.0.first().map(TriggerSettings::name), Some(*name));
            let tagged = format!(r#"{{"name":"{name}"}}"#);
            let kind: TriggerKind = serde_json::from_str(&tagged).unwrap();
            assert!(serde_json::to_string(&kind).unwrap().starts_with(tagged.trim_end_matches('}')));
        }
    }
}
