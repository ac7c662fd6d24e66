//! Tuning on instructions over what the frozen tower sees, which is looked at once. The order of each epoch and the rate of each step follow
//! from the seed and the step alone, so that a tuning that goes on ends where the whole one does.

use crate::error::{Error, Result};
use crate::instruct::{Asked, Forced, Tuned, VisionLanguage};
use crate::model::Part;
use crate::objective::{Update, warmup_cosine};
use crate::settings::{MANY, count, number, positive, share};
use crate::train::{Optimizer, WeightDecayGroups};
use rand::seq::SliceRandom;
use roclip_data::random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use torch_bridge::AdamW;

/// How long and how fast.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TuneConfig {
    pub epochs: u64,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    /// Share of all steps in which the rate rises; it falls along a cosine behind them.
    pub warmup_fraction: f64,
}

impl Default for TuneConfig {
    fn default() -> Self {
        TuneConfig {
            epochs: 6,
            batch_size: 64,
            learning_rate: 2e-3,
            beta2: 0.98,
            weight_decay: 0.01,
            warmup_fraction: 0.05,
        }
    }
}

impl TuneConfig {
    /// Of a model whose bridge is tuned alone, on few instructions.
    pub fn of_a_bridge() -> Self {
        TuneConfig { epochs: 8, batch_size: 32, learning_rate: 3e-3, ..TuneConfig::default() }
    }

    pub fn check(&self) -> Result<()> {
        count("epochs", self.epochs, 1, MANY)?;
        count("batch_size", self.batch_size as u64, 1, 1 << 20)?;
        positive("learning_rate", self.learning_rate)?;
        number("beta2", self.beta2, |value| (0.0..1.0).contains(&value), "0 or more and below 1")?;
        crate::settings::not_negative("weight_decay", self.weight_decay)?;
        share("warmup_fraction", self.warmup_fraction)
    }
}

/// One instruction as it is learned.
#[derive(Debug, Clone)]
pub struct Item {
    /// Row of what the tower saw.
    pub seen: usize,
    pub asked: Asked,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps that were done.
    pub step: u64,
    pub steps: u64,
    pub loss: f64,
    /// Whether an epoch ended with it.
    pub epoch_ends: bool,
}

pub struct Tuner<'a> {
    pub model: &'a VisionLanguage,
    config: &'a TuneConfig,
    seed: u64,
    optimizer: Optimizer,
    done: u64,
}

impl<'a> Tuner<'a> {
    /// Stands before the first step. What does not learn has no gradients from here on, until the next tuner is made.
    ///
    /// # Errors
    /// Numbers that cannot be.
    pub fn new(model: &'a VisionLanguage, config: &'a TuneConfig, tuned: Tuned, seed: u64) -> Result<Self> {
        config.check()?;
        let mut parameters = model.captioner().parameters().by_part();
        for parameter in &parameters {
            let learns = tuned == Tuned::All || VisionLanguage::is_bridge(&parameter.name);
            let _ = parameter.tensor.set_requires_grad(learns);
        }
        parameters.retain(|parameter| parameter.tensor.requires_grad());
        let adamw = AdamW {
            learning_rate: config.learning_rate,
            beta1: 0.9,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            epsilon: 1e-8,
        };
        Ok(Tuner {
            model,
            config,
            seed,
            optimizer: Optimizer::new(parameters, WeightDecayGroups::ByRank, adamw),
            done: 0,
        })
    }

    /// What it takes beside the model's weights to go on.
    pub fn state(&self) -> (u64, BTreeMap<String, Tensor>) {
        (self.done, self.optimizer.state())
    }

    /// # Errors
    /// The state of another model.
    pub fn load_state(&mut self, done: u64, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.done = done;
        self.optimizer.load_state(state)
    }

    /// Learns `items` about `seen` `[pictures, places, channels]` to the end. `each` is called behind every step, and may end it by an error.
    ///
    /// # Errors
    /// Those of `each`, and a loss that is not finite.
    pub fn run(
        &mut self,
        seen: &Tensor,
        items: &[Item],
        each: &mut dyn FnMut(&Self, Progress) -> Result<()>,
    ) -> Result<()> {
        let per_epoch = items.len().div_ceil(self.config.batch_size).max(1) as u64;
        let steps = per_epoch.saturating_mul(self.config.epochs);
        let warmup = (self.config.warmup_fraction * steps as f64).ceil();
        let mut order: Vec<usize> = Vec::new();
        let mut ordered = None;
        while self.done < steps {
            let (epoch, within) = (self.done / per_epoch, self.done % per_epoch);
            if ordered != Some(epoch) {
                order = (0..items.len()).collect();
                order.shuffle(&mut random::stream(self.seed, "instruction-order", epoch + 1, ""));
                ordered = Some(epoch);
            }
            let from = within as usize * self.config.batch_size;
            let batch: Vec<&Item> =
                order.iter().skip(from).take(self.config.batch_size).filter_map(|at| items.get(*at)).collect();
            let places: Vec<i64> = batch.iter().map(|item| item.seen as i64).collect();
            let rows: Vec<&Asked> = batch.iter().map(|item| &item.asked).collect();
            let seen = seen.index_select(0, &Tensor::from_slice(&places).to_device(seen.device()));
            let Forced { scores, within, .. } = self.model.forced(&seen, &rows);
            let loss = -(scores * &within).sum(Kind::Float) / within.sum(Kind::Float).clamp_min(1.0);
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                return Err(Error::Diverged {
                    what: format!("the loss of step {} is {value}", self.done + 1),
                    remedy: "lower the learning rate (--lr)".into(),
                    samples: Vec::new(),
                });
            }
            loss.backward();
            let rate = self.config.learning_rate * warmup_cosine(self.done as f64, warmup, steps as f64);
            self.optimizer.step(rate, &|_: Part| Update::ByGradient)?;
            self.done += 1;
            let epoch_ends = self.done.is_multiple_of(per_epoch);
            each(self, Progress { step: self.done, steps, loss: value, epoch_ends })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    fn items(model: &VisionLanguage) -> Vec<Item> {
        let answers = ["a red square", "a blue box", "banana"];
        let item = |at: usize| Item { seen: at % 3, asked: model.asked("What is it?", answers[at % 3]).unwrap() };
        (0..9).map(item).collect()
    }

    fn seen(model: &VisionLanguage) -> Tensor {
        let colour = |at: u8| image::RgbImage::from_pixel(32, 32, image::Rgb([at * 100, 90, 200 - at * 90]));
        model.see(&[colour(0), colour(1), colour(2)]).unwrap()
    }

    #[test]
    fn the_bridge_alone_moves_and_a_tuning_that_goes_on_ends_where_the_whole_one_does() {
        let model = small(Bridge::CrossAttention);
        let start = model.weights();
        let (seen, items) = (seen(&model), items(&model));
        let config = TuneConfig { epochs: 3, batch_size: 2, learning_rate: 1e-2, ..TuneConfig::default() };
        let mut kept = None;
        let mut losses = Vec::new();
        let mut whole = Tuner::new(&model, &config, Tuned::Bridge, 5).unwrap();
        whole
            .run(&seen, &items, &mut |tuner, progress| {
                losses.push(progress.loss);
                if progress.step == 7 {
                    let copied = |(name, tensor): (String, Tensor)| (name, tensor.copy());
                    let (done, state) = tuner.state();
                    kept = Some((done, state.into_iter().map(copied).collect::<BTreeMap<_, _>>(), model.weights()));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(losses.len(), 15);
        let end = model.weights();
        for (name, tensor) in &end {
            assert_eq!(VisionLanguage::is_bridge(name), *tensor != start[name], "{name}");
        }
        let (done, state, weights) = kept.unwrap();
        model.load(&weights).unwrap();
        let mut rest = Tuner::new(&model, &config, Tuned::Bridge, 5).unwrap();
        rest.load_state(done, &state).unwrap();
        let mut more = Vec::new();
        rest.run(&seen, &items, &mut |_, progress| {
            more.push(progress.loss);
            Ok(())
        })
        .unwrap();
        assert_eq!(more, losses[7..]);
        assert!(end.iter().all(|(name, tensor)| *tensor == model.weights()[name]));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let wrong = |change: fn(&mut TuneConfig)| {
            let mut config = TuneConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(wrong(|config| config.epochs = 0).contains("epochs"));
        assert!(wrong(|config| config.batch_size = 0).contains("batch_size"));
        assert!(wrong(|config| config.learning_rate = f64::NAN).contains("learning_rate"));
        assert!(wrong(|config| config.warmup_fraction = 2.0).contains("warmup_fraction"));
    }
}
