//! TA-Cleaner, later CleanerCLIP (arXiv 2409.17601). **Reconstructed**: the abstract says what is done, equations and settings are not
//! known. Ours, on top of CleanCLIP, for `k` pairs of each batch with a positive sub-caption `S+` and a counterfactual `S-`:
//!
//! `L = L_CleanCLIP + weight * (L_pos + L_neg(I)) + text_weight * L_neg(T)`, `I` the augmented pictures, with `L_pos = 1/2 [CE(s I S+^T) + CE(s S+ I^T)]`,
//! and `L_neg` the softmax of pictures, or of captions, against the positives with the counterfactuals as further negatives.
//! The sub-captions of the first two are fixed points, and the last is off: an optimised trigger lives in the image tower, at the place
//! where the text tower puts its target, and a text tower that may move instead leaves it there. bench/README.md has what each does.

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
    /// Of what sub-captions say of pictures.
    pub weight: f64,
    /// Of what they say of captions, the abstract's text self-supervision. Off: it moves the text tower, too, and on some of the measured
    /// victims an optimised patch outlives that.
    pub text_weight: f64,
    /// Pictures move the text tower, too, when it encodes sub-captions.
    pub sub_captions_move: bool,
    /// Sub-captions are matched to CleanCLIP's augmented pictures, in which triggers are seldom whole; otherwise to the plain ones.
    /// The paper does not say which; plain ones leave an optimised patch almost untouched.
    pub augmented_pictures: bool,
}

impl Default for TaCleanerConfig {
    fn default() -> Self {
        TaCleanerConfig {
            pairs_per_batch: 16,
            weight: 4.0,
            text_weight: 0.0,
            sub_captions_move: false,
            augmented_pictures: true,
        }
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
        let image = pictures.index_select(0, rows);
        let for_pictures = |features: &Tensor| match self.config.sub_captions_move {
            true => features.shallow_clone(),
            false => features.detach(),
        };
        let [seen, denied] = [positive, counterfactual].map(for_pictures);
        let pictures = info_nce(&image, &seen, inputs.scale) + with_negatives(&image, &seen, &denied, inputs.scale);
        let loss = loss + pictures * self.config.weight;
        // At weight 0 the term would still take the way back through the text tower.
        if self.config.text_weight == 0.0 {
            return Ok(LossOutput { loss, matches });
        }
        let text = inputs.text.index_select(0, rows);
        let captions = with_negatives(&text, positive, counterfactual, inputs.scale);
        Ok(LossOutput { loss: loss + captions * self.config.text_weight, matches })
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
    use rand::RngExt;
    use roclip_data::random;

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

    /// Loss of `objective` on four pairs with two sub-captions, and the gradients of the augmented pictures, the captions and the positives.
    fn loss_and_gradients(objective: &mut dyn Objective) -> (f64, [Option<f64>; 3]) {
        // Not libtorch's generator: tests beside this one draw from it, too, and every call must see the same features.
        let mut stream = random::stream(3, "test", 0, "");
        let mut random = |rows: i64| {
            let values: Vec<f32> = (0..rows * 8).map(|_| stream.random_range(-1.0..1.0)).collect();
            unit(&Tensor::from_slice(&values).view([rows, 8])).set_requires_grad(true)
        };
        let [image, text, image_2, text_2] = [4; 4].map(&mut random);
        let [positive, counterfactual] = [2; 2].map(&mut random);
        let scale = Tensor::from(5f32);
        let rows = Tensor::from_slice(&[2i64, 0]);
        let sub_captions =
            Some(SubCaptionFeatures { rows: &rows, positive: &positive, counterfactual: &counterfactual });
        let one = StepInputs::of(&image, &text, &scale, &[0, 1, 2, 3]);
        let inputs = StepInputs { second: Some((&image_2, &text_2)), sub_captions, ..one };
        let loss = objective.loss(Phase::Clip, &inputs).unwrap().loss;
        loss.backward();
        let gradient = |of: &Tensor| Some(of.grad()).filter(Tensor::defined).map(|it| it.abs().sum(None));
        let gradients = [&image_2, &text, &positive].map(|of| gradient(of).map(|sum| sum.double_value(&[])));
        (loss.double_value(&[]), gradients)
    }

    fn with(config: TaCleanerConfig) -> (f64, [Option<f64>; 3]) {
        loss_and_gradients(&mut TaCleaner::new(config, CleanClipConfig::default()))
    }

    #[test]
    fn each_weight_adds_its_own_terms_to_cleanclip() {
        let (plain, _) = loss_and_gradients(&mut CleanClip::new(CleanClipConfig::default()));
        let added = |weight, text_weight, augmented_pictures| {
            let config = TaCleanerConfig { weight, text_weight, augmented_pictures, ..TaCleanerConfig::default() };
            with(config).0 - plain
        };
        assert!(added(0.0, 0.0, true).abs() < 1e-6);
        let (pictures, captions) = (added(1.0, 0.0, true), added(0.0, 1.0, true));
        assert!(pictures > 0.1 && captions > 0.1, "{pictures} {captions}");
        assert!((added(2.0, 3.0, true) - 2.0 * pictures - 3.0 * captions).abs() < 1e-4);
        let others = added(1.0, 0.0, false);
        assert!((pictures - others).abs() > 1e-3, "other pictures, another loss: {pictures} {others}");
    }

    #[test]
    fn pictures_learn_from_sub_captions_and_sub_captions_only_from_captions() {
        let gradients = |weight, text_weight, sub_captions_move| {
            with(TaCleanerConfig { weight, text_weight, sub_captions_move, ..TaCleanerConfig::default() }).1
        };
        let [cleanclip, fixed, moving] =
            [(0.0, false), (1.0, false), (1.0, true)].map(|(w, move_)| gradients(w, 0.0, move_));
        assert!(fixed[0] != cleanclip[0], "the pictures learn: {fixed:?} {cleanclip:?}");
        assert!(fixed[2].unwrap_or(0.0) == 0.0 && moving[2].unwrap() > 0.0, "{fixed:?} {moving:?}");
        assert!(gradients(0.0, 1.0, false)[2].unwrap() > 0.0);
    }
}
