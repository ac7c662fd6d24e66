//! PAR, Perturb and Recover (arXiv 2412.00727; repository nmndeep/PerturbAndRecover): push the model's features away from those of the
//! poisoned model, up to a distance, while the CLIP loss keeps it useful.
//!
//! `L = L_CLIP - 1/2 (S_img [S_img <= tau] + S_txt [S_txt <= tau])`, `S` the batch's mean squared distance between the unit features of the
//! model and of a frozen copy of the victim. Above `tau` a term and its gradient vanish, and the CLIP loss alone recovers. The logit scale
//! gets no gradient.

use crate::clean::{CleanConfig, Setup, cleanclip};
use crate::error::Result;
use crate::model::Clip;
use crate::objective::{BatchView, LearningRate, LossOutput, Objective, Phase, Place, RunShape, Towers, info_nce};
use crate::settings;
use crate::train::TrainConfig;
use roclip_data::augment::PerturbConfig;
use roclip_data::batch::{Overlay, ViewAugment};
use roclip_data::pairs::Pairs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// PAR's settings. The defaults are the released ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParConfig {
    /// Squared distance between unit vectors up to which features are pushed away (tau, 0 to 4).
    pub distance: f64,
    /// Share of the peak learning rate at half of the run: the rate falls to it in a line, then as a cosine to nothing.
    pub middle_rate: f64,
    /// What is done to pictures.
    pub perturb: PerturbConfig,
}

impl Default for ParConfig {
    fn default() -> Self {
        ParConfig { distance: 2.15, middle_rate: 0.1, perturb: PerturbConfig::default() }
    }
}

pub(super) struct Method;

impl super::Method for Method {
    fn name(&self) -> &'static str {
        "par"
    }

    fn title(&self) -> &'static str {
        "PAR"
    }

    fn about(&self) -> &'static str {
        "Push features away from the victim's, and recover"
    }

    /// PAR repository, scripts.
    fn training(&self) -> TrainConfig {
        TrainConfig {
            epochs: 2,
            batch_size: 512,
            learning_rate: 3e-5,
            warmup_steps: Some(0),
            beta2: 0.98,
            weight_decay: 1e-4,
            ..cleanclip::released_training()
        }
    }

    fn check(&self, clean: &CleanConfig) -> Result<()> {
        settings::not_negative("clean.par.distance", clean.par.distance)?;
        settings::share("clean.par.middle_rate", clean.par.middle_rate)?;
        Ok(clean.par.perturb.check("clean.par.perturb")?)
    }

    fn views(&self, setup: &mut Setup) -> Result<[ViewAugment; 2]> {
        let overlay = Some(Overlay::Perturb(setup.clean.par.perturb));
        Ok([ViewAugment { overlay, ..ViewAugment::default() }, ViewAugment::default()])
    }

    fn objective(
        &self,
        clean: &CleanConfig,
        shape: RunShape,
        _pairs: &Pairs,
        _classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        let victim = clean.load_victim(shape.device)?.model;
        Ok(Box::new(Par::new(clean.par, shape.epochs, shape.learning_rate, victim)))
    }
}

pub struct Par {
    config: ParConfig,
    epochs: u64,
    peak: f64,
    victim: Clip,
}

impl Par {
    /// `peak` is the learning rate of the first step, `victim` the poisoned model as it was.
    pub fn new(config: ParConfig, epochs: u64, peak: f64, victim: Clip) -> Self {
        Par { config, epochs, peak, victim }
    }

    /// The term of one tower: `-1/2 S` while `S` is at most `tau`.
    fn push(&self, features: &Tensor, reference: &Tensor) -> Tensor {
        let squared = (features - reference).square().sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
        let distance = squared.mean(Kind::Float);
        let within = distance.detach().le(self.config.distance).to_kind(Kind::Float);
        distance * within * -0.5
    }
}

impl Objective for Par {
    fn name(&self) -> &'static str {
        "par"
    }

    fn learning_rate(&self, place: Place) -> LearningRate {
        let within = place.step as f64 / place.steps.max(1) as f64;
        let progress = ((place.epoch.saturating_sub(1)) as f64 + within) / self.epochs.max(1) as f64;
        let middle = self.config.middle_rate;
        let share = match progress < 0.5 {
            true => 1.0 + (middle - 1.0) * progress / 0.5,
            false => middle * 0.5 * (1.0 + (std::f64::consts::PI * (progress - 0.5) / 0.5).cos()),
        };
        LearningRate::Absolute(self.peak * share)
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let text = towers.text(BatchView::First)?;
        let image = towers.image(BatchView::First)?;
        let [image_before, text_before] = towers.through(&self.victim, BatchView::First)?;
        let clip = info_nce(&image, &text, &towers.scale().detach());
        let loss = clip + self.push(&image, &image_before) + self.push(&text, &text_before);
        Ok(LossOutput { loss, matches: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, unit};
    use crate::objective::known_towers::KnownBatch;
    use tch::Device;

    /// Tests say themselves what the victim sees.
    fn victim() -> Clip {
        let mut config = ModelConfig::named("ViT-tiny-32").unwrap();
        config.text_cfg.vocab_size = 8;
        Clip::new(config, Device::Cpu, 0).unwrap()
    }

    #[test]
    fn it_pushes_away_up_to_the_distance_and_then_only_recovers() {
        let own = |values: [f32; 2]| Tensor::from_slice(&values).view([1, 2]);
        let reference = own([1.0, 0.0]);
        let gradient = |distance: f64| {
            let leaf = own([0.8, 0.6]).set_requires_grad(true);
            let image = unit(&leaf);
            let text = own([0.0, 1.0]);
            let through = Some([reference.shallow_clone(), text.shallow_clone()]);
            let batch = KnownBatch { through, ..KnownBatch::new(&image, &text, 10.0, &[0]) };
            let config = ParConfig { distance, ..ParConfig::default() };
            let loss = Par::new(config, 2, 1.0, victim()).loss(Phase::Clip, &batch).unwrap().loss;
            loss.backward();
            // One pair: the CLIP loss is 0. The squared distance is 0.2^2 + 0.6^2 = 0.4.
            (loss.double_value(&[]), leaf.grad().abs().sum(Kind::Float).double_value(&[]))
        };
        let (loss, moved) = gradient(2.15);
        assert!((loss + 0.2).abs() < 1e-6 && moved > 0.1, "{loss} {moved}");
        let (loss, moved) = gradient(0.39);
        assert!(loss.abs() < 1e-6 && moved < 1e-6, "{loss} {moved}");
    }

    #[test]
    fn the_rate_falls_to_a_tenth_and_then_to_nothing() {
        let par = Par::new(ParConfig::default(), 2, 3e-5, victim());
        let rate = |epoch, step| match par.learning_rate(Place { phase: Phase::Clip, epoch, step, steps: 100 }) {
            LearningRate::Absolute(rate) => rate,
            LearningRate::Scheduled(_) => f64::NAN,
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(rate(1, 0), 3e-5);
        close(rate(1, 50), 1.65e-5);
        close(rate(2, 0), 3e-6);
        close(rate(2, 50), 1.5e-6);
        assert!(rate(2, 99) < 1e-9);
    }
}
