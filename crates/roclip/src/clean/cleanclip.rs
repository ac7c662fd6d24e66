//! CleanCLIP (arXiv 2303.03323, ICCV 2023; repository nishadsinghi/CleanCLIP, `src/train.py`): the CLIP loss on plain pairs keeps the
//! model's knowledge, and in-modal losses against augmented views break what ties a trigger to its target.
//!
//! `L = clip_weight * 1/2 [CE(s I T^T) + CE(s T I^T)] + inmodal_weight * 1/2 [CE_rows(s I I'^T) + CE_rows(s T T'^T)]`; `I'` is AutoAugmented,
//! `T'` an EDA variant. As released the in-modal terms run one way, and the EDA variant is drawn once ([`CleanClipConfig`]).

use crate::error::{Error, Result};
use crate::objective::{LossOutput, Objective, Phase, StepInputs, Views, cross_entropy_rows, info_nce};
use roclip_data::augment::TextRefresh;
use serde::{Deserialize, Serialize};

/// Directions of the in-modal loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SelfLoss {
    /// As released: originals ask, augmented views answer.
    #[default]
    OneWay,
    Symmetric,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CleanClipConfig {
    /// lambda 1.
    pub clip_weight: f64,
    /// lambda 2.
    pub inmodal_weight: f64,
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

pub struct CleanClip {
    config: CleanClipConfig,
}

impl CleanClip {
    pub fn new(config: CleanClipConfig) -> Self {
        CleanClip { config }
    }
}

impl Objective for CleanClip {
    fn name(&self) -> &'static str {
        "cleanclip"
    }

    fn views(&self, _phase: Phase) -> Views {
        Views::Two
    }

    fn loss(&mut self, _phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        let StepInputs { image, text, second, scale, .. } = *inputs;
        let (image_2, text_2) = second.ok_or_else(|| Error::internal("cleanclip needs two views"))?;
        let inmodal = |plain, augmented| match self.config.self_loss {
            SelfLoss::OneWay => cross_entropy_rows(plain, augmented, scale),
            SelfLoss::Symmetric => info_nce(plain, augmented, scale),
        };
        let clip = info_nce(image, text, scale);
        let own = (inmodal(image, image_2) + inmodal(text, text_2)) * 0.5;
        Ok(LossOutput { loss: clip * self.config.clip_weight + own * self.config.inmodal_weight, matches: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn the_loss_is_the_weighted_sum_of_its_terms() {
        tch::manual_seed(0);
        let [image, text, image_2, text_2] = [(); 4].map(|()| unit(&Tensor::randn([5, 8], (Kind::Float, Device::Cpu))));
        let scale = Tensor::from(7f32);
        let one = StepInputs::of(&image, &text, &scale, &[0, 1, 2, 3, 4]);
        let inputs = StepInputs { second: Some((&image_2, &text_2)), ..one };
        let loss = |clip_weight: f64, inmodal_weight: f64, self_loss: SelfLoss| {
            let config = CleanClipConfig { clip_weight, inmodal_weight, self_loss, ..CleanClipConfig::default() };
            CleanClip::new(config).loss(Phase::Clip, &inputs).unwrap().loss.double_value(&[])
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
