//! TA-Cleaner, later CleanerCLIP (arXiv 2409.17601). **Reconstructed**: the abstract says what is done, equations and settings are not
//! known. Ours, on top of CleanCLIP, for `k` pairs of each batch with a positive sub-caption `S+` and a counterfactual `S-`:
//!
//! `L = L_CleanCLIP + weight * (L_pos + L_neg)`, `I` the augmented pictures, with `L_pos = 1/2 [CE(s I S+^T) + CE(s S+ I^T)]`, and `L_neg` the image-to-text and the
//! text-to-text softmax against the positives with the counterfactuals as further negatives.

use crate::clean::{CleanClip, CleanClipConfig};
use crate::error::Result;
use crate::objective::{LossOutput, Objective, Phase, StepInputs, SubCaptionFeatures, Views, info_nce};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// All of it ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaCleanerConfig {
    /// k, pairs of a batch that get sub-captions.
    pub pairs_per_batch: usize,
    pub weight: f64,
    /// Sub-captions are matched to CleanCLIP's augmented pictures, in which triggers are seldom whole; otherwise to the plain ones.
    /// The paper does not say which; plain ones leave an optimised patch almost untouched.
    pub augmented_pictures: bool,
}

impl Default for TaCleanerConfig {
    fn default() -> Self {
        TaCleanerConfig { pairs_per_batch: 16, weight: 1.0, augmented_pictures: true }
    }
}

pub struct TaCleaner {
    config: TaCleanerConfig,
    cleanclip: CleanClip,
}

impl TaCleaner {
    pub fn new(config: TaCleanerConfig, cleanclip: CleanClipConfig) -> Self {
        TaCleaner { config, cleanclip: CleanClip::new(cleanclip) }
    }
}

impl Objective for TaCleaner {
    fn name(&self) -> &'static str {
        "ta-cleaner"
    }

    fn views(&self, phase: Phase) -> Views {
        self.cleanclip.views(phase)
    }

    fn loss(&mut self, phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        let LossOutput { loss, matches } = self.cleanclip.loss(phase, inputs)?;
        // A batch whose captions have no known word has none.
        let Some(sub_captions) = inputs.sub_captions else { return Ok(LossOutput { loss, matches }) };
        let SubCaptionFeatures { rows, positive, counterfactual } = sub_captions;
        let pictures = match inputs.second {
            Some((augmented, _)) if self.config.augmented_pictures => augmented,
            _ => inputs.image,
        };
        let (image, text) = (pictures.index_select(0, rows), inputs.text.index_select(0, rows));
        let pull = info_nce(&image, positive, inputs.scale);
        let push = with_negatives(&image, positive, counterfactual, inputs.scale)
            + with_negatives(&text, positive, counterfactual, inputs.scale);
        Ok(LossOutput { loss: loss + (pull + push) * self.config.weight, matches })
    }
}

/// Cross-entropy of rows `a` `[k, dim]` against `[positives; negatives]` `[2k, dim]`, each row's own positive being right.
fn with_negatives(a: &Tensor, positives: &Tensor, negatives: &Tensor, scale: &Tensor) -> Tensor {
    let columns = Tensor::cat(&[positives, negatives], 0);
    let logits = a.matmul(&columns.transpose(0, 1)) * scale;
    let targets = Tensor::arange(crate::model::extent(a, 0), (Kind::Int64, a.device()));
    logits.cross_entropy_for_logits(&targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit;
    use tch::Device;

    #[test]
    fn a_counterfactual_that_the_image_agrees_with_costs() {
        let rows = |values: &[f32]| unit(&Tensor::from_slice(values).view([2, 2]));
        let image = rows(&[1.0, 0.0, 0.0, 1.0]);
        let scale = Tensor::from(10f32);
        let cost = |negatives: &[f32]| with_negatives(&image, &image, &rows(negatives), &scale).double_value(&[]);
        let far = cost(&[-1.0, 0.0, 0.0, -1.0]);
        let near = cost(&[1.0, 0.0, 0.0, 1.0]);
        assert!(far < 1e-3, "{far}");
        // The positive and its twin share the probability.
        assert!((near - 2f64.ln()).abs() < 1e-3, "{near}");
    }

    #[test]
    fn without_weight_it_is_cleanclip() {
        tch::manual_seed(3);
        let [image, text, image_2, text_2, positive, counterfactual] =
            [(); 6].map(|()| unit(&Tensor::randn([4, 8], (Kind::Float, Device::Cpu))));
        let scale = Tensor::from(5f32);
        let chosen = Tensor::from_slice(&[2i64, 0]);
        let pick = |t: &Tensor| t.narrow(0, 0, 2);
        let (positive, counterfactual) = (pick(&positive), pick(&counterfactual));
        let sub_captions =
            Some(SubCaptionFeatures { rows: &chosen, positive: &positive, counterfactual: &counterfactual });
        let one = StepInputs::of(&image, &text, &scale, &[0, 1, 2, 3]);
        let inputs = StepInputs { second: Some((&image_2, &text_2)), sub_captions, ..one };
        let value =
            |objective: &mut dyn Objective| objective.loss(Phase::Clip, &inputs).unwrap().loss.double_value(&[]);
        let plain = value(&mut CleanClip::new(CleanClipConfig::default()));
        let weighed = |weight, augmented_pictures| {
            let config = TaCleanerConfig { weight, augmented_pictures, ..TaCleanerConfig::default() };
            value(&mut TaCleaner::new(config, CleanClipConfig::default()))
        };
        assert!((weighed(0.0, true) - plain).abs() < 1e-6);
        let added = [true, false].map(|augmented| {
            let (one, two) = (weighed(1.0, augmented) - plain, weighed(2.0, augmented) - plain);
            assert!(one > 0.1 && (two - 2.0 * one).abs() < 1e-4, "{one} {two}");
            one
        });
        assert!((added[0] - added[1]).abs() > 1e-3, "other pictures, another loss: {added:?}");
    }
}
