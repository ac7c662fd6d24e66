//! TA-Cleaner, later CleanerCLIP (arXiv 2409.17601). **Reconstructed**: the abstract says what is done, equations and settings are not
//! known. Ours, on top of CleanCLIP, for `k` pairs of each batch with a positive sub-caption `S+` and a counterfactual `S-`:
//!
//! `L = L_CleanCLIP + weight * (L_pos + L_neg(I)) + text_weight * L_neg(T)`, `I` the augmented pictures, with `L_pos = 1/2 [CE(s I S+^T) + CE(s S+ I^T)]`,
//! and `L_neg` the softmax of pictures, or of captions, against the positives with the counterfactuals as further negatives.
//! The sub-captions of the first two are fixed points, and the last is off: an optimised trigger lives in the image tower, at the place
//! where the text tower puts its target, and a text tower that may move instead leaves it there. docs/results/cleaning.md has the effect of each.

use crate::clean::cleanclip::{Encoded, released_training};
use crate::clean::{CleanClip, CleanClipConfig, CleanConfig, Setup};
use crate::error::Result;
use crate::objective::{LossOutput, Objective, Pass, Phase, RunShape, SubCaptionFeatures, Towers, info_nce};
use crate::settings;
use crate::train::TrainConfig;
use roclip_data::augment::SubCaptions;
use roclip_data::batch::ViewAugment;
use roclip_data::pairs::Pairs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// TA-Cleaner's settings. All of it is ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaCleanerConfig {
    /// Pairs of a batch that get sub-captions (k).
    pub pairs_per_batch: usize,
    /// Weight of what sub-captions say of pictures.
    pub weight: f64,
    /// Weight of what sub-captions say of captions, the text self-supervision of the abstract. It is off: it moves the text tower, too, and
    /// on some of the measured victims an optimised patch outlives that.
    pub text_weight: f64,
    /// Whether pictures move the text tower, too, when it encodes sub-captions.
    pub sub_captions_move: bool,
    /// Whether sub-captions are matched to CleanCLIP's augmented pictures, in which triggers are seldom whole; otherwise to the plain ones.
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

pub(super) struct Method;

impl super::Method for Method {
    fn name(&self) -> &'static str {
        "ta-cleaner"
    }

    fn title(&self) -> &'static str {
        "TA-Cleaner"
    }

    fn about(&self) -> &'static str {
        "CleanCLIP with sub-captions and counterfactuals (reconstructed: its equations are not public)"
    }

    fn training(&self) -> TrainConfig {
        released_training()
    }

    fn check(&self, clean: &CleanConfig) -> Result<()> {
        let config = &clean.ta_cleaner;
        settings::count("clean.ta_cleaner.pairs_per_batch", config.pairs_per_batch as u64, 1, settings::MANY)?;
        settings::not_negative("clean.ta_cleaner.weight", config.weight)?;
        settings::not_negative("clean.ta_cleaner.text_weight", config.text_weight)?;
        clean.cleanclip.check()
    }

    fn views(&self, setup: &mut Setup) -> Result<[ViewAugment; 2]> {
        setup.clean.cleanclip.views()
    }

    fn sub_captions(&self, setup: &Setup) -> Result<Option<(Arc<SubCaptions>, usize)>> {
        Ok(Some((Arc::new(SubCaptions::new(setup.pairs.captions())?), setup.clean.ta_cleaner.pairs_per_batch)))
    }

    fn objective(
        &self,
        clean: &CleanConfig,
        _shape: RunShape,
        _pairs: &Pairs,
        _classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        Ok(Box::new(TaCleaner::new(clean.ta_cleaner, clean.cleanclip)))
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

    fn passes(&self, epoch: u64) -> Vec<Pass> {
        self.cleanclip.passes(epoch)
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let batch = Encoded::new(towers)?;
        let sub_captions = towers.sub_captions()?;
        let loss = self.cleanclip.loss_of(&batch);
        let loss = match sub_captions {
            Some(sub_captions) => self.with_sub_captions(loss, &batch, &sub_captions),
            None => loss,
        };
        Ok(LossOutput { loss, matches: None })
    }
}

impl TaCleaner {
    /// `loss` and what the sub-captions add to it.
    fn with_sub_captions(&self, loss: Tensor, batch: &Encoded, sub_captions: &SubCaptionFeatures) -> Tensor {
        let SubCaptionFeatures { rows, positive, counterfactual } = sub_captions;
        let Encoded { images: [plain, augmented], texts: [text, _], scale } = batch;
        let image = if self.config.augmented_pictures { augmented } else { plain }.index_select(0, rows);
        let for_pictures = |features: &Tensor| match self.config.sub_captions_move {
            true => features.shallow_clone(),
            false => features.detach(),
        };
        let [seen, denied] = [positive, counterfactual].map(for_pictures);
        let pictures = info_nce(&image, &seen, scale) + with_negatives(&image, &seen, &denied, scale);
        let loss = loss + pictures * self.config.weight;
        // At weight 0 the term would still take the way back through the text tower.
        if self.config.text_weight == 0.0 {
            return loss;
        }
        let captions = with_negatives(&text.index_select(0, rows), positive, counterfactual, scale);
        loss + captions * self.config.text_weight
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
    use crate::objective::known_towers::KnownBatch;
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
        let batch = KnownBatch {
            sub_captions: Some([Tensor::from_slice(&[2i64, 0]), positive.shallow_clone(), counterfactual]),
            ..KnownBatch::new(&image, &text, 5.0, &[0, 1, 2, 3]).second(&image_2, &text_2)
        };
        let loss = objective.loss(Phase::Clip, &batch).unwrap().loss;
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
