//! ABD, Adversarial Backdoor Defense (arXiv 2409.15968). **Reconstructed**: its repository has figures and no code, its settings are not
//! known; the patch's loss is AdvCLIP's (repository CGCL-codes/AdvCLIP), which it builds on.
//!
//! 1. One universal patch, searched on the trusted pairs, that drives the victim's image features away from picture and caption:
//!    `L_patch = -(InfoNCE(clean, patched) + text_weight * InfoNCE(patched, text))` at temperature 0.1. In a backdoored model such a patch
//!    finds what triggers use. AdvCLIP's generator, discriminator and neighbourhood term are left out (the patch is optimised directly).
//!    ABD's backdoor term, `L_bd = -InfoNCE(patched, the patched pictures to a clean model)`, is added where such a model is given: a
//!    defender who has one seldom needs to clean.
//! 2. Fine-tuning with the plain CLIP objective on patched pictures and EDA captions.

use crate::attack::{Patch, PatchSearch, PatchStep, Place};
use crate::checkpoint;
use crate::clean::{CleanConfig, Setup, cleanclip};
use crate::error::{Error, Result};
use crate::model::{Clip, unit};
use crate::objective::{ClipObjective, Objective, RunShape, info_nce};
use crate::settings;
use crate::train::TrainConfig;
use image::RgbImage;
use rand::{Rng, RngExt};
use roclip_data::artifact;
use roclip_data::augment::{TextAugment, TextAugmentConfig, TextRefresh};
use roclip_data::batch::{Loader, Overlay, PassPlan, Transform, ViewAugment};
use roclip_data::pairs::Pairs;
use roclip_data::picture::{ImageLimits, decode};
use roclip_data::random;
use roclip_data::trigger::Material;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Where the patch lies, in the search and in the pictures learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PatchPlace {
    /// Near the lower right corner, as in AdvCLIP. A vision transformer does not carry over what it learns there to a trigger elsewhere.
    Corner,
    /// Ours: somewhere else in each batch of the search, and on each picture of each epoch.
    #[default]
    Anywhere,
}

/// ABD's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AbdConfig {
    /// Where the patch lies.
    pub patch_place: PatchPlace,
    /// Share of the area of the image that the patch takes (AdvCLIP: 0.03).
    pub patch_area: f64,
    /// Distance from the bottom and the right with `patch_place = "corner"`, as a share of the side (AdvCLIP: 14 of 224).
    pub patch_margin: f64,
    /// Passes of the search for the patch (AdvCLIP: 20).
    pub patch_epochs: u64,
    /// Learning rate of the search. Ours: the patch itself is stepped, where AdvCLIP steps a generator at 2e-4.
    pub patch_learning_rate: f64,
    /// Weight of the captions in the search (AdvCLIP: 5).
    pub text_weight: f64,
    /// Run or checkpoint of a clean CLIP with as many dimensions, for the backdoor term; the term is left out when absent.
    #[schemars(example = &"runs/clean")]
    pub reference: Option<PathBuf>,
    /// Weight of the backdoor term. It is not known; ours.
    pub backdoor_weight: f64,
    /// Temperature of the losses of the search (AdvCLIP: 0.1).
    pub temperature: f64,
    /// When the EDA variant of a caption is drawn.
    pub text_refresh: TextRefresh,
}

impl Default for AbdConfig {
    fn default() -> Self {
        AbdConfig {
            patch_place: PatchPlace::default(),
            patch_area: 0.03,
            patch_margin: 14.0 / 224.0,
            patch_epochs: 20,
            patch_learning_rate: 0.01,
            text_weight: 5.0,
            reference: None,
            backdoor_weight: 1.0,
            temperature: 0.1,
            text_refresh: TextRefresh::PerEpoch,
        }
    }
}

/// The patch that a run searched.
pub(crate) const PATCH: &str = "patch.png";

pub(super) struct Method;

impl super::Method for Method {
    fn name(&self) -> &'static str {
        "abd"
    }

    fn title(&self) -> &'static str {
        "ABD"
    }

    fn about(&self) -> &'static str {
        "An adversarial patch, then CLIP on patched pictures and EDA captions (reconstructed: no public code)"
    }

    fn training(&self) -> TrainConfig {
        cleanclip::released_training()
    }

    fn check(&self, clean: &CleanConfig) -> Result<()> {
        clean.abd.check()
    }

    /// The patch is searched once, and kept in the run as [`PATCH`].
    fn views(&self, setup: &mut Setup) -> Result<[ViewAugment; 2]> {
        let config = &setup.clean.abd;
        let path = setup.run.join(PATCH);
        let patch = match path.is_file() {
            true => decode(&artifact::read(&path)?, ImageLimits::default())
                .map_err(|skip| Error::file(&path, skip.detail, "remove it, and it is searched again"))?,
            false => {
                let found = config.search_for(setup)?;
                artifact::write(&path, Material::of_picture(&found)?.bytes())?;
                found
            }
        };
        Ok([config.view(patch, setup.plain.image_size)?, ViewAugment::default()])
    }

    fn objective(
        &self,
        _clean: &CleanConfig,
        _shape: RunShape,
        _pairs: &Pairs,
        _classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        Ok(Box::new(ClipObjective::named("abd")))
    }
}

impl AbdConfig {
    fn check(&self) -> Result<()> {
        let key = |name: &str| format!("clean.abd.{name}");
        let area = |value: f64| value > 0.0 && value <= 1.0;
        settings::number(&key("patch_area"), self.patch_area, area, "a share above 0 and at most 1")?;
        settings::share(&key("patch_margin"), self.patch_margin)?;
        settings::count(&key("patch_epochs"), self.patch_epochs, 0, settings::MANY)?;
        settings::not_negative(&key("patch_learning_rate"), self.patch_learning_rate)?;
        settings::not_negative(&key("text_weight"), self.text_weight)?;
        settings::not_negative(&key("backdoor_weight"), self.backdoor_weight)?;
        settings::positive(&key("temperature"), self.temperature)
    }

    fn search_for(&self, setup: &mut Setup) -> Result<RgbImage> {
        // Searching freezes weights, so it gets a copy of its own.
        let victim = setup.clean.load_victim(setup.device)?.model;
        let reference = self.clean_reference(&victim, setup.device)?;
        let plain = Transform {
            views: Default::default(),
            sub_captions: None,
            tokenizer: Arc::clone(&setup.plain.tokenizer),
            ..*setup.plain
        };
        let loader = Loader::new(Arc::clone(setup.pairs), plain, setup.batch_size, setup.workers)?;
        self.search(&victim, reference.as_ref(), &loader, setup.plain.seed, setup.device, setup.progress)
    }

    /// The clean model of the backdoor term.
    pub(super) fn clean_reference(&self, victim: &Clip, device: Device) -> Result<Option<Clip>> {
        let Some(path) = &self.reference else { return Ok(None) };
        let remedy = "give a clean model of the victim's kind as clean.abd.reference, or none";
        let loaded = checkpoint::load(path, device)?;
        loaded.origin.provenance.must_not_be_attacked(path, remedy)?;
        let reference = loaded.model;
        let shape = |model: &Clip| (model.config().embed_dim, model.config().image_size());
        let ((dim, size), (wanted_dim, wanted_size)) = (shape(&reference), shape(victim));
        if (dim, size) != (wanted_dim, wanted_size) {
            return Err(Error::file(
                path,
                format!(
                    "has features of {dim} dimensions of {size} pixels, and the victim {wanted_dim} of {wanted_size}"
                ),
                remedy,
            ));
        }
        Ok(Some(reference))
    }

    fn place(&self, image_size: u32) -> Place {
        let size = f64::from(image_size);
        let side = ((self.patch_area * size * size).sqrt() as u32).clamp(1, image_size);
        let corner = image_size.saturating_sub(side + (self.patch_margin * size).round() as u32);
        Place { side, left: corner, top: corner }
    }

    /// The patched view with EDA captions.
    pub fn view(&self, patch: RgbImage, image_size: u32) -> Result<ViewAugment> {
        let Place { left, top, .. } = self.place(image_size);
        let corner = (self.patch_place == PatchPlace::Corner).then_some([left, top]);
        let overlay = Some(Overlay::Patch { patch: Arc::new(patch), corner });
        let text = Some(TextAugment::new(TextAugmentConfig { refresh: self.text_refresh })?);
        Ok(ViewAugment { image: None, overlay, text })
    }

    /// Searches the patch on the plain pairs of `loader`. Freezes `victim`, so give a copy, and `reference`, the clean model of the backdoor
    /// term. `progress` receives a line an epoch.
    pub fn search(
        &self,
        victim: &Clip,
        reference: Option<&Clip>,
        loader: &Loader,
        seed: u64,
        device: Device,
        progress: &mut dyn FnMut(&str),
    ) -> Result<RgbImage> {
        let size = victim.config().image_size();
        let place = self.place(size);
        if let Some(reference) = reference {
            reference.freeze();
        }
        let mut random = random::stream(seed, "abd-patch", 0, "");
        tch::manual_seed(random.next_u64() as i64);
        let side = i64::from(place.side);
        let start = Tensor::rand([3, side, side], (Kind::Float, Device::Cpu));
        let patch = Patch::new(place, size, &start.to_device(device), self.patch_learning_rate)?;
        let mut search = PatchSearch::new(victim, device, patch);
        for epoch in 1..=self.patch_epochs {
            let steps = loader.steps_per_epoch();
            let plan = PassPlan { epoch, pass: 0, two_views: false, first_step: 0, steps };
            let mut total = 0.0;
            for batch in loader.pass(loader.order(epoch, 0, None), plan) {
                let batch = batch?;
                if batch.pairs.is_empty() {
                    continue;
                }
                if self.patch_place == PatchPlace::Anywhere {
                    let [left, top] = [(); 2].map(|()| random.random_range(0..=size.saturating_sub(place.side)));
                    search.perturbation.move_to(left, top)?;
                }
                total += search.step(&batch.view, batch.pairs.len(), &mut |step| self.patch_loss(step, reference))?;
            }
            progress(&format!("patch epoch {epoch}/{}: loss {:.4}", self.patch_epochs, total / steps.max(1) as f64));
        }
        search.perturbation.picture()
    }

    fn patch_loss(&self, step: &PatchStep, reference: Option<&Clip>) -> Result<Tensor> {
        let scale = Tensor::from(1.0 / self.temperature).to_kind(Kind::Float).to_device(step.triggered.device());
        let away = |other: &Tensor| info_nce(step.triggered, other, &scale);
        let adversarial = away(step.plain) + away(step.text) * self.text_weight;
        let Some(reference) = reference else { return Ok(-adversarial) };
        let clean = unit(&reference.image_features(step.triggered_images, false)?);
        Ok(-(adversarial + away(&clean) * self.backdoor_weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn the_patch_lies_where_advclip_puts_it() {
        assert_eq!(AbdConfig::default().place(224), Place { side: 38, left: 172, top: 172 });
        assert_eq!(AbdConfig::default().place(32), Place { side: 5, left: 25, top: 25 });
    }

    #[test]
    fn the_backdoor_term_drives_apart_what_victim_and_reference_see() {
        let model = |seed| Clip::new(ModelConfig::named("ViT-tiny-32").unwrap(), Device::Cpu, seed).unwrap();
        let (victim, reference) = (model(0), model(1));
        reference.freeze();
        let float = (Kind::Float, Device::Cpu);
        let images = Tensor::rand([4, 3, 32, 32], float).set_requires_grad(true);
        let seen = |model: &Clip| unit(&model.image_features(&images, false).unwrap());
        let triggered = seen(&victim);
        let plain = unit(&triggered.detach().randn_like());
        let step = PatchStep {
            triggered_images: &images,
            triggered: &triggered,
            plain: &plain,
            text: &plain,
            scale: &Tensor::from(1f32),
        };
        let config = AbdConfig { backdoor_weight: 3.0, temperature: 0.5, ..AbdConfig::default() };
        let added = config.patch_loss(&step, Some(&reference)).unwrap() - config.patch_loss(&step, None).unwrap();
        let wanted = info_nce(&triggered, &seen(&reference), &Tensor::from(2f32)) * -3.0;
        assert!((added.double_value(&[]) - wanted.double_value(&[])).abs() < 1e-4);
        added.backward();
        assert!(images.grad().abs().max().double_value(&[]) > 0.0, "the pictures shape what the reference sees");
        assert!(reference.parameters().trainable().values().all(|parameter| !parameter.grad().defined()));
    }
}
