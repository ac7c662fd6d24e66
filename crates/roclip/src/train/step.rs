//! One optimizer step: the objective encodes the batch, and the parameters move.

use crate::error::{Error, Result};
use crate::objective::{LearningRate, Place};
use crate::train::batch_towers::BatchTowers;
use crate::train::engine::Trainer;
use crate::train::metrics::StepMetrics;
use crate::train::shared_batch::SharedBatch;

/// Samples of a batch that an error names.
const SHOWN_SAMPLES: usize = 3;

impl Trainer {
    /// One optimizer step on `batch`.
    ///
    /// # Errors
    /// A batch of fewer than two pairs, and a loss or a gradient that is not finite.
    pub fn step(&mut self, batch: &SharedBatch, place: Place) -> Result<StepMetrics> {
        if batch.pairs.len() < 2 {
            return Err(Error::setting(
                format!(
                    "fewer than two samples of step {} can be used ({})",
                    self.position.step,
                    batch.skips.summary()
                ),
                "repair the data",
            ));
        }
        let phase = place.phase;
        let learning_rate = match self.objective.learning_rate(place) {
            LearningRate::Scheduled(scale) => self.schedule.rate(self.position.step) * scale,
            LearningRate::Absolute(rate) => rate,
        };
        let towers = BatchTowers::new(&self.model, batch, self.device, &self.config);
        let output = self.objective.loss(phase, &towers)?;
        // Not before the others have come as far: a loss that is no number is everybody's.
        self.world.collectives().backward(&output.loss)?;
        towers.backward()?;
        self.optimizer.complete_gradients()?;
        let loss = self.world.average(&self.optimizer.gradients(), &output.loss)?;
        // Of the weights that made the loss.
        let scale = tch::no_grad(|| self.model.scale());
        let (gradient_norm, [loss, scale]) = self.optimizer.gradient_norm_and([&loss, &scale])?;
        if !loss.is_finite() {
            return Err(self.diverged("the loss".into(), batch));
        }
        if !gradient_norm.is_finite() {
            let name = self.optimizer.non_finite_gradient().unwrap_or("the norm").to_owned();
            return Err(self.diverged(format!("the gradient of `{name}`"), batch));
        }
        if let Some(most) = self.config.gradient_clip_norm {
            self.optimizer.clip_gradients(gradient_norm, most);
        }
        let objective = &self.objective;
        self.optimizer.step(learning_rate, &|part| objective.update(phase, part))?;
        self.model.clamp_scale();
        if let Some(matches) = output.matches {
            self.tally.matches.add(&self.pairs, &matches.read()?);
        }
        Ok(StepMetrics { loss, learning_rate, scale, gradient_norm, phase })
    }

    fn diverged(&self, what: String, batch: &SharedBatch) -> Error {
        let samples: Vec<String> =
            batch.pairs.iter().filter_map(|at| self.pairs.get(*at)).map(|pair| pair.id.clone()).collect();
        let shown: Vec<&str> = samples.iter().take(SHOWN_SAMPLES).map(String::as_str).collect();
        let more = match samples.len().saturating_sub(SHOWN_SAMPLES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Error::Diverged {
            what: format!(
                "{what} is not finite at epoch {} step {}; samples of the batch: {}{more}",
                self.position.epoch,
                self.position.step,
                shown.join(" ")
            ),
            remedy: "lower learning_rate, raise warmup_steps, or look at these samples; the last checkpoint is intact"
                .into(),
            samples,
        }
    }
}
