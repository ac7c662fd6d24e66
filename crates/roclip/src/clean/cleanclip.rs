//! CleanCLIP (arXiv 2303.03323, ICCV 2023; repository nishadsinghi/CleanCLIP, `src/train.py`): the CLIP loss on plain pairs keeps the
//! model's knowledge, and in-modal losses against augmented views break what ties a trigger to its target.
//!
//! `L = clip_weight * 1/2 [CE(s I T^T) + CE(s T I^T)] + inmodal_weight * 1/2 [CE_rows(s I I'^T) + CE_rows(s T T'^T)]`; `I'` is AutoAugmented,
//! `T'` an EDA variant. As released the in-modal terms run one way, and the EDA variant is drawn once ([`CleanClipConfig`]).

use crate::clean::{CleanConfig, Setup};
use crate::error::Result;
use crate::objective::{BatchView, LossOutput, Objective, Pass, Phase, RunShape, Towers, cross_entropy_rows, info_nce};
use crate::settings;
use crate::train::TrainConfig;
use roclip_data::augment::{ImageAugmentConfig, TextAugment, TextAugmentConfig, TextRefresh};
use roclip_data::batch::ViewAugment;
use roclip_data::pairs::Pairs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Directions of the in-modal loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SelfLoss {
    /// Originals ask and augmented views answer, as released.
    #[default]
    OneWay,
    /// Both ways.
    Symmetric,
}

/// CleanCLIP's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CleanClipConfig {
    /// Weight of the CLIP loss (lambda 1).
    pub clip_weight: f64,
    /// Weight of the in-modal loss (lambda 2).
    pub inmodal_weight: f64,
    /// Directions of the in-modal loss.
    pub self_loss: SelfLoss,
    /// When the EDA variant of a caption is drawn; `frozen-once` as released.
    pub text_refresh: TextRefresh,
}

impl Default for CleanClipConfig {
    fn default() -> Self {
        CleanClipConfig {
            clip_weight: 1.0,
            inmodal_weight: 1.0,
            self_loss: SelfLoss::OneWay,
            text_refresh: TextRefresh::PerEpoch,
        }
    }
}

impl CleanClipConfig {
    /// Refuses numbers that no loss can be weighted with.
    pub(super) fn check(&self) -> Result<()> {
        settings::not_negative("clean.cleanclip.clip_weight", self.clip_weight)?;
        settings::not_negative("clean.cleanclip.inmodal_weight", self.inmodal_weight)
    }

    /// The first view as it is, the second one with AutoAugment and EDA.
    pub(super) fn views(&self) -> Result<[ViewAugment; 2]> {
        let image = Some(ImageAugmentConfig { auto_augment: true, ..ImageAugmentConfig::default() });
        let text = Some(TextAugment::new(TextAugmentConfig { refresh: self.text_refresh })?);
        Ok([ViewAugment::default(), ViewAugment { image, text, ..ViewAugment::default() }])
    }
}

/// CleanCLIP repository, README. Methods that build on it give no settings of their own.
pub(super) fn released_training() -> TrainConfig {
    TrainConfig { epochs: 10, batch_size: 64, learning_rate: 1e-5, warmup_steps: Some(50), ..TrainConfig::default() }
}

pub(super) struct Method;

impl super::Method for Method {
    fn name(&self) -> &'static str {
        "cleanclip"
    }

    fn title(&self) -> &'static str {
        "CleanCLIP"
    }

    fn about(&self) -> &'static str {
        "CLIP loss and in-modal losses against AutoAugment and EDA views"
    }

    fn training(&self) -> TrainConfig {
        released_training()
    }

    fn check(&self, clean: &CleanConfig) -> Result<()> {
        clean.cleanclip.check()
    }

    fn views(&self, setup: &mut Setup) -> Result<[ViewAugment; 2]> {
        setup.clean.cleanclip.views()
    }

    fn objective(
        &self,
        clean: &CleanConfig,
        _shape: RunShape,
        _pairs: &Pairs,
        _classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        Ok(Box::new(CleanClip::new(clean.cleanclip)))
    }
}

pub struct CleanClip {
    config: CleanClipConfig,
}

/// What it makes of a batch, for losses that build on it. Unit features `[batch, dim]` of both views.
pub(super) struct Encoded {
    pub images: [Tensor; 2],
    pub texts: [Tensor; 2],
    pub scale: Tensor,
}

impl Encoded {
    pub fn new(towers: &dyn Towers) -> Result<Self> {
        let images = towers.images()?;
        let texts = [towers.text(BatchView::First)?, towers.text(BatchView::Second)?];
        Ok(Encoded { images, texts, scale: towers.scale() })
    }
}

impl CleanClip {
    pub fn new(config: CleanClipConfig) -> Self {
        CleanClip { config }
    }

    pub(super) fn loss_of(&self, batch: &Encoded) -> Tensor {
        let Encoded { images: [image, image_2], texts: [text, text_2], scale } = batch;
        let inmodal = |plain, augmented| match self.config.self_loss {
            SelfLoss::OneWay => cross_entropy_rows(plain, augmented, scale),
            SelfLoss::Symmetric => info_nce(plain, augmented, scale),
        };
        let clip = info_nce(image, text, scale);
        let own = (inmodal(image, image_2) + inmodal(text, text_2)) * 0.5;
        clip * self.config.clip_weight + own * self.config.inmodal_weight
    }
}

impl Objective for CleanClip {
    fn name(&self) -> &'static str {
        "cleanclip"
    }

    fn passes(&self, epoch: u64) -> Vec<Pass> {
        vec![Pass::whole_in_two_views(self.phase(epoch))]
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        Ok(LossOutput { loss: self.loss_of(&Encoded::new(towers)?), matches: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit;
    use crate::objective::known_towers::KnownBatch;
    use tch::{Device, Kind};

    #[test]
    fn the_loss_is_the_weighted_sum_of_its_terms() {
        tch::manual_seed(0);
        let [image, text, image_2, text_2] = [(); 4].map(|()| unit(&Tensor::randn([5, 8], (Kind::Float, Device::Cpu))));
        let scale = Tensor::from(7f32);
        let batch = KnownBatch::new(&image, &text, 7.0, &[0, 1, 2, 3, 4]).second(&image_2, &text_2);
        let loss = |clip_weight: f64, inmodal_weight: f64, self_loss: SelfLoss| {
            let config = CleanClipConfig { clip_weight, inmodal_weight, self_loss, ..CleanClipConfig::default() };
            CleanClip::new(config).loss(Phase::Clip, &batch).unwrap().loss.double_value(&[])
        };
        let rows = |a: &Tensor, b: &Tensor| cross_entropy_rows(a, b, &scale).double_value(&[]);
        let clip = 0.5 * (rows(&image, &text) + rows(&text, &image));
        let own = 0.5 * (rows(&image, &image_2) + rows(&text, &text_2));
        assert!((loss(1.0, 0.0, SelfLoss::OneWay) - clip).abs() < 1e-5);
        assert!((loss(2.0, 3.0, SelfLoss::OneWay) - 2.0 * clip - 3.0 * own).abs() < 1e-4);
        let back = 0.5 * (rows(&image_2, &image) + rows(&text_2, &text));
        assert!((loss(0.0, 1.0, SelfLoss::Symmetric) - 0.5 * (own + back)).abs() < 1e-5);
    }
}
