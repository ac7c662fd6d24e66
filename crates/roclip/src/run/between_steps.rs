//! What a run does between the steps of an epoch: it logs, saves, and ends where it is asked to or where too much of its data is lost.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::run::pace::Left;
use crate::run::session::Session;
use crate::train::{Host, Position, StepDone, TrainConfig, Trainer, split_lines};
use roclip_data::artifact;

impl Session<'_> {
    /// What the run has before it, were all its epochs whole passes.
    fn left(&self, trainer: &Trainer, steps_of_pass: u64) -> Left {
        let (position, epochs) = (trainer.position, trainer.config.epochs);
        let to_come = epochs.saturating_sub(position.epoch);
        let evaluated =
            (position.epoch..=epochs).filter(|epoch| self.context.recipe.evaluates_after(*epoch)).count() as u64;
        Left {
            steps: trainer.schedule.steps_per_epoch * to_come + steps_of_pass.saturating_sub(position.step_in_pass),
            evaluated,
            unevaluated: (to_come + 1).saturating_sub(evaluated),
        }
    }

    /// `agreed` is the stop that all processes know of. One that came to this process alone since then is theirs at the next step.
    fn end_if_wanted(&mut self, trainer: &Trainer, agreed: i32) -> Result<()> {
        let code = if trainer.world.is_alone() { self.stop.code() } else { agreed };
        if code == 0 {
            return Ok(());
        }
        self.stop.ask(code);
        self.save_under_way(trainer)?;
        trainer.world.wait_for_first()?;
        Err(Error::Stopped { run: self.folder.path().to_owned(), step: trainer.position.step })
    }

    /// Saves where the epoch under way stands. One without a step begins again from the checkpoint that lies at its start: what its objective has
    /// settled since, as a split, must not be settled a second time on top of that.
    fn save_under_way(&mut self, trainer: &Trainer) -> Result<()> {
        if trainer.position.within_epoch() { self.save(trainer) } else { Ok(()) }
    }

    pub(super) fn save(&mut self, trainer: &Trainer) -> Result<()> {
        self.folder.check_there()?;
        self.skips.write(&trainer.skips)?;
        self.journal.sync()?;
        self.context.save(trainer, self.folder.path())?;
        self.stop.set_saved(self.folder.path(), trainer.position.step);
        // The others go on until they have heard of the end, at a step.
        self.stop.set_unsaved(!trainer.world.is_alone());
        Ok(())
    }
}

impl Host for Session<'_> {
    fn stop(&self) -> i32 {
        self.stop.code()
    }

    /// Writes `splits/epoch_N.jsonl`: every pair with its score and side.
    fn epoch_begun(&mut self, trainer: &Trainer) -> Result<()> {
        // Several processes end together, at a step: none leaves at once, though nothing be lost by it.
        self.stop.set_unsaved(!trainer.world.is_alone());
        let Some((scores, split)) = trainer.objective.split() else { return Ok(()) };
        let path = self.folder.file(&format!("splits/epoch_{}.jsonl", trainer.position.epoch));
        Ok(artifact::write(&path, split_lines(&trainer.pairs, scores, split).as_bytes())?)
    }

    fn pairs_skipped(&mut self, trainer: &Trainer, in_epoch: usize, stop: i32) -> Result<()> {
        // A run of unreadable batches takes no step.
        self.end_if_wanted(trainer, stop)?;
        check_skipped(self.context.recipe, trainer, in_epoch).or_else(|error| {
            // The batch is not trained on, so that the run can go on with it once the data is repaired or the limit raised.
            self.save_under_way(trainer)?;
            trainer.world.wait_for_first()?;
            Err(error)
        })
    }

    fn step_done(&mut self, trainer: &Trainer, done: &StepDone) -> Result<()> {
        self.stop.set_unsaved(true);
        let (position, config) = (trainer.position, &trainer.config);
        let left = self.left(trainer, done.steps);
        self.journal.step(trainer, done, &left)?;
        self.end_if_wanted(trainer, done.stop)?;
        if saves_after(config, position, done.steps) {
            self.save(trainer)?;
            trainer.world.wait_for_first()?;
        }
        Ok(())
    }
}

/// Whether a checkpoint is due within the pass of `steps` steps.
pub(super) fn saves_after(config: &TrainConfig, position: Position, steps: u64) -> bool {
    let every = config.save_every_steps;
    every > 0 && position.step.is_multiple_of(every) && position.step_in_pass < steps
}

/// # Errors
/// Where so many pairs of an epoch cannot be used that the run is none of this data.
pub(super) fn check_skipped(recipe: &Recipe, trainer: &Trainer, in_epoch: usize) -> Result<()> {
    let pairs = trainer.pairs.len();
    if in_epoch as f64 <= recipe.data.max_skip_fraction * pairs as f64 {
        return Ok(());
    }
    Err(Error::setting(
        format!("{in_epoch} of {pairs} pairs could not be used in one epoch: {}", trainer.skips.summary()),
        "repair the data, or raise data.max_skip_fraction, and go on with --resume",
    ))
}
