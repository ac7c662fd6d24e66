//! A process of a run beside the first: it computes its share of every step and writes nothing.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::run::agreement::{agree_on_data, agree_on_run};
use crate::run::between_steps::{check_skipped, saves_after};
use crate::run::build::build;
use crate::run::caller::Caller;
use crate::run::context::Context;
use crate::run::device::machine;
use crate::run::session::{FINISHED, prepare};
use crate::run::stop::Stop;
use crate::run::together::Together;
use crate::train::{Host, StepDone, Trainer};
use std::path::Path;

/// Trains with the first process of `caller.world`, which does [`train`](crate::run::train) in the folder `run`. Nothing is read or written there: where
/// the run goes on, the first process says from where.
///
/// # Errors
/// Those of the first process that all find, and the end of any other process.
pub fn follow(recipe: &Recipe, run: &Path, caller: &Caller) -> Result<()> {
    recipe.check_training()?;
    let world = caller.world;
    agree_on_run(world, recipe, caller.commit)?;
    if world.broadcast_text("")? == FINISHED {
        return Ok(());
    }
    let device = machine(recipe)?;
    // The first process says what there is to say.
    let silent = &mut |_: &str| {};
    let (mut trainer, context) = build(recipe, prepare(recipe, silent)?, (device, world), run, silent)?;
    agree_on_data(world, &context)?;
    trainer.share()?;
    help(&context, &trainer)?;
    // From here on a signal ends all processes together.
    caller.stop.set_unsaved(true);
    let mut follower = Follower { recipe, run, stop: caller.stop };
    while trainer.position.epoch <= recipe.train.epochs {
        trainer.epoch(&mut follower)?;
        // The first process saves and writes, and measures with all.
        help(&context, &trainer)?;
    }
    help(&context, &trainer)
}

/// Helps the first process to measure until it goes on.
fn help(context: &Context, trainer: &Trainer) -> Result<()> {
    loop {
        let told = trainer.world.told()?;
        match Together::ALL.get(told as usize) {
            Some(Together::Training) => return Ok(()),
            Some(Together::Evaluation) => drop(context.evaluate(trainer)?),
            Some(Together::Similarities) => drop(context.similarities(trainer)?),
            Some(Together::Teacher) => drop(context.evaluate_teacher(trainer)?),
            Some(Together::Triggers) => drop(context.trigger_measures(trainer)?),
            Some(Together::Probe) => drop(context.probe(trainer)?),
            Some(Together::Details) => drop(context.details(trainer)?),
            None => return Err(Error::internal("the first process asks for what no process knows")),
        }
    }
}

struct Follower<'a> {
    recipe: &'a Recipe,
    run: &'a Path,
    stop: &'a Stop,
}

impl Follower<'_> {
    fn end_if_wanted(&self, trainer: &Trainer, stop: i32) -> Result<()> {
        if stop == 0 {
            return Ok(());
        }
        self.stop.ask(stop);
        // A launcher ends what is left when the first of its processes ends: not before the checkpoint is there.
        trainer.world.wait_for_first()?;
        Err(Error::Stopped { run: self.run.to_owned(), step: trainer.position.step })
    }
}

impl Host for Follower<'_> {
    fn stop(&self) -> i32 {
        self.stop.code()
    }

    fn epoch_begun(&mut self, _: &Trainer) -> Result<()> {
        Ok(())
    }

    fn pairs_skipped(&mut self, trainer: &Trainer, in_epoch: usize, stop: i32) -> Result<()> {
        self.end_if_wanted(trainer, stop)?;
        check_skipped(self.recipe, trainer, in_epoch).or_else(|error| {
            trainer.world.wait_for_first()?;
            Err(error)
        })
    }

    fn step_done(&mut self, trainer: &Trainer, done: &StepDone) -> Result<()> {
        self.end_if_wanted(trainer, done.stop)?;
        if saves_after(&trainer.config, trainer.position, done.steps) {
            trainer.world.wait_for_first()?;
        }
        Ok(())
    }
}
