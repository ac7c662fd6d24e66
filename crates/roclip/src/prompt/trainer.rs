//! The loop of prompt learning: a frozen model, a few pictures, a step of one picture or a few. What happens between steps is up to the
//! [`PromptHost`].

use crate::attack::{DeltaRule, Perturbation, UniversalDelta};
use crate::error::{Error, Result, TorchContext};
use crate::model::{Clip, tensors};
use crate::prompt::{ClassTokens, PromptConfig, PromptLearner, PromptStep, Stage};
use crate::train::Sgd;
use roclip_data::batch::Loader;
use roclip_data::skip::SkipReport;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptPosition {
    /// Finished steps.
    pub step: u64,
    /// The epoch of the next step, from 1.
    pub epoch: u64,
    pub step_in_epoch: u64,
}

/// What an epoch has added up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct PromptTally {
    pub loss_sum: f64,
    pub steps: u64,
    /// Sum over steps of the trigger's mean change by its bound.
    pub moved_sum: f64,
    /// Of all the warm-up so far: the same sum, and its steps.
    pub warmup_moved_sum: f64,
    pub warmup_steps: u64,
}

impl PromptTally {
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.steps.max(1) as f64
    }

    /// Mean change of the trigger's pixels in a step, as a share of its bound.
    pub fn moved(&self) -> f64 {
        self.moved_sum / self.steps.max(1) as f64
    }

    /// The same over the warm-up; none where there was none.
    pub fn warmup_moved(&self) -> Option<f64> {
        (self.warmup_steps > 0).then(|| self.warmup_moved_sum / self.warmup_steps as f64)
    }
}

/// What is done between steps.
pub trait PromptHost {
    /// A step is done, with this loss, at this rate of the prompts.
    ///
    /// # Errors
    /// Those of writing it down, and [`Error::Stopped`].
    fn step_done(&mut self, trainer: &PromptTrainer, loss: f64, learning_rate: f64) -> Result<()>;
}

/// A learner in training.
pub struct PromptTrainer<'a> {
    /// Frozen.
    pub model: &'a Clip,
    pub config: PromptConfig,
    pub classes: ClassTokens,
    pub loader: Loader,
    /// Of each pair of the loader.
    pub labels: Vec<i64>,
    pub learner: PromptLearner,
    /// Of an attack, the one that is learned; of a repair, the one that was inverted.
    pub trigger: Option<UniversalDelta>,
    pub sgd: Sgd,
    /// Place of the attacker's class.
    pub target: i64,
    pub device: Device,
    pub position: PromptPosition,
    pub tally: PromptTally,
    pub skips: SkipReport,
}

impl PromptTrainer<'_> {
    pub fn steps_per_epoch(&self) -> u64 {
        self.labels.len().div_ceil(self.config.batch_size.max(1)) as u64
    }

    /// Share of the peak rate in `epoch` (from 1) of Dassl's cosine behind one constant epoch; none in that first one.
    fn share_of_peak(&self, epoch: u64) -> Option<f64> {
        let warmup = self.config.stages().iter().filter(|stage| **stage == Stage::TriggerWarmup).count() as u64;
        // The epoch behind the constant one has the peak: Dassl's cosine begins to count there.
        let behind = epoch.saturating_sub(warmup + 2) as f64;
        let fall = std::f64::consts::PI * behind / self.config.epochs.max(1) as f64;
        (epoch >= warmup + 2).then(|| 0.5 * (1.0 + fall.cos()))
    }

    /// Goes on from where the run stands to the end of the epoch.
    ///
    /// # Errors
    /// Data that can no longer be read, a loss that is no number, and what the host refuses.
    pub fn epoch(&mut self, host: &mut dyn PromptHost) -> Result<()> {
        let PromptPosition { epoch, step_in_epoch, .. } = self.position;
        if step_in_epoch == 0 {
            let PromptTally { warmup_moved_sum, warmup_steps, .. } = self.tally;
            self.tally = PromptTally { warmup_moved_sum, warmup_steps, ..PromptTally::default() };
        }
        let stage = self.config.stages().get(epoch as usize - 1).copied().unwrap_or(Stage::Prompts);
        let share = self.share_of_peak(epoch);
        let rate = |peak: f64| share.map_or(self.config.first_epoch_learning_rate, |share| peak * share);
        let (rate, trigger_rate) = (rate(self.config.learning_rate), rate(self.config.trigger_learning_rate));
        if let Some(trigger) = &mut self.trigger {
            trigger.rule = match stage {
                Stage::TriggerWarmup => DeltaRule::RawGradient { step: self.config.warmup_step },
                Stage::Prompts => DeltaRule::Sgd { learning_rate: trigger_rate },
            };
        }
        let batch_size = self.config.batch_size.max(1);
        let order = self.loader.order(epoch, 0, None);
        let left = order.get(step_in_epoch as usize * batch_size..).unwrap_or_default().to_vec();
        for batch in self.loader.look(left, Some(epoch), batch_size) {
            let batch = batch?;
            self.skips.merge(batch.skips.clone());
            let loss = match batch.pairs.is_empty() {
                true => None,
                false => {
                    let labels: Vec<i64> =
                        batch.pairs.iter().filter_map(|pair| self.labels.get(*pair)).copied().collect();
                    let side = i64::from(self.model.config().image_size());
                    let (images, _) = tensors(&batch.view, batch.pairs.len(), side, self.device);
                    Some(self.step(&images, &Tensor::from_slice(&labels).to_device(self.device), stage, rate)?)
                }
            };
            self.position.step += 1;
            self.position.step_in_epoch += 1;
            if let Some(loss) = loss {
                self.tally.loss_sum += loss;
                self.tally.steps += 1;
                host.step_done(self, loss, if stage == Stage::Prompts { rate } else { 0.0 })?;
            }
        }
        self.position = PromptPosition { epoch: epoch + 1, step_in_epoch: 0, ..self.position };
        Ok(())
    }

    /// One step on `images` `[batch, 3, size, size]` with `labels` `[batch]`. The loss.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn step(&mut self, images: &Tensor, labels: &Tensor, stage: Stage, learning_rate: f64) -> Result<f64> {
        let method = self.config.method();
        let loss = method.loss(&PromptStep {
            model: self.model,
            learner: &self.learner,
            classes: &self.classes,
            images,
            labels,
            target: self.target,
            trigger: self.trigger.as_ref(),
        })?;
        let number = loss.f_double_value(&[]).torch("reading the loss")?;
        if !number.is_finite() {
            return Err(Error::Diverged {
                what: format!("the loss of step {} is not finite", self.position.step + 1),
                remedy: "lower prompt.learning_rate or prompt.trigger_learning_rate".into(),
                samples: Vec::new(),
            });
        }
        loss.backward();
        match stage {
            Stage::TriggerWarmup => self.sgd.forget_gradients(),
            Stage::Prompts => self.sgd.step(learning_rate),
        }
        if let Some(trigger) = &mut self.trigger {
            if !method.attacks() {
                trigger.optimizer_mut().forget_gradients();
                return Ok(number);
            }
            let before = trigger.values().detach().copy();
            trigger.update()?;
            let moved = trigger.moved(&before);
            self.tally.moved_sum += moved;
            if stage == Stage::TriggerWarmup {
                self.tally.warmup_moved_sum += moved;
                self.tally.warmup_steps += 1;
            }
        }
        Ok(number)
    }
}
