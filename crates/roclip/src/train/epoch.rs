//! One epoch: its passes and their steps.

use crate::embed::Embedder;
use crate::error::{Error, Result};
use crate::objective::{Pass, Place};
use crate::train::engine::{Host, Position, StepDone, Trainer};
use crate::train::shared_batch::SharedBatch;
use crate::train::tally::EpochTally;
use crate::train::watch::Standing;
use roclip_data::batch::PassPlan;
use roclip_data::plural::count;
use std::time::Instant;

impl Trainer {
    /// Goes on from the trainer's position to the end of the epoch.
    pub fn epoch(&mut self, host: &mut dyn Host) -> Result<()> {
        let epoch = self.position.epoch;
        if !self.position.within_epoch() {
            self.tally = EpochTally::begin();
            let embedder = Embedder { model: &self.model, loader: &self.loader, device: self.device };
            let pairs = self.pairs.len();
            self.objective.begin_epoch(epoch, pairs, &mut Standing { embedder, pairs, epoch, world: &self.world })?;
        }
        host.epoch_begun(self)?;
        for (number, pass) in (0u64..).zip(self.objective.passes(epoch)) {
            if number >= self.position.pass {
                self.position.pass = number;
                self.pass(pass, host)?;
                self.position.step_in_pass = 0;
            }
        }
        self.check_something_was_read()?;
        // What all measure now is the model that the first process saves.
        self.share_statistics()?;
        self.position = Position { epoch: epoch + 1, pass: 0, step_in_pass: 0, ..self.position };
        Ok(())
    }

    /// # Errors
    /// An epoch of which no row of a batch had a pair, whatever share of the data may be lost: its model has learned nothing.
    fn check_something_was_read(&self) -> Result<()> {
        let planned: u64 = self.tally.passes.iter().map(|pass| pass.steps).sum();
        let rows = planned.saturating_mul(self.config.batch_size as u64);
        if planned == 0 || (self.tally.left_out as u64) < rows {
            return Ok(());
        }
        Err(Error::setting(
            format!(
                "nothing was read: none of the {} of epoch {} has a pair that can be used: {}",
                count(planned, "batch"),
                self.position.epoch,
                self.skips.summary()
            ),
            "repair the data, or name other data with --train-data",
        ))
    }

    fn pass(&mut self, pass: Pass, host: &mut dyn Host) -> Result<()> {
        let Pass { phase, pairs, max_steps, two_views } = pass;
        let (epoch, number) = (self.position.epoch, self.position.pass);
        let order = self.loader.order(epoch, number, pairs);
        let steps = self.loader.steps(order.len()).min(max_steps.unwrap_or(u64::MAX));
        let plan = PassPlan { epoch, pass: number, two_views, first_step: self.position.step_in_pass, steps };
        let mut waiting = Instant::now();
        for batch in self.loader.pass(order, plan) {
            let batch = SharedBatch::new(&self.world, batch?, self.config.batch_size, host.stop())?;
            let stop = batch.stop;
            let waited = waiting.elapsed().as_secs_f64();
            let skipped = batch.skips.total();
            if skipped > 0 {
                self.skips.merge(batch.skips.clone());
                host.pairs_skipped(self, self.tally.skipped + skipped, stop)?;
            }
            self.tally.skipped += skipped;
            self.tally.left_out += self.config.batch_size.saturating_sub(batch.pairs.len());
            self.tally.data_seconds += waited;
            if !batch.can_train() {
                // Nothing could take their places. The step counts, so that a run and its resumption agree on where they are.
                self.tally.pass_over();
                self.position.step += 1;
                self.position.step_in_pass += 1;
                waiting = Instant::now();
                continue;
            }
            let place = Place { phase, epoch, step: self.position.step_in_pass, steps };
            let metrics = self.step(&batch, place)?;
            self.tally.loss_sum += metrics.loss;
            self.tally.steps += 1;
            self.position.step += 1;
            self.position.step_in_pass += 1;
            let seconds = waiting.elapsed().as_secs_f64();
            host.step_done(self, &StepDone { metrics, steps, waited, seconds, stop })?;
            waiting = Instant::now();
        }
        self.tally.finish_pass(phase, steps);
        Ok(())
    }
}
