//! What the processes of a run measure together. The first says what, the others make the same calls, and all share what is encoded; what
//! is done with it, the first does alone.

use crate::error::{Error, Result};
use crate::run::context::Context;
use crate::train::Trainer;

/// What is measured next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Together {
    /// Nothing: training goes on.
    Training,
    Evaluation,
    Similarities,
    Teacher,
    Triggers,
    Probe,
    Details,
}

impl Together {
    const ALL: [Together; 7] = [
        Together::Training,
        Together::Evaluation,
        Together::Similarities,
        Together::Teacher,
        Together::Triggers,
        Together::Probe,
        Together::Details,
    ];
}

/// As the first process: says what all do next. The others have heard it already.
pub(super) fn tell(trainer: &Trainer, what: Together) -> Result<()> {
    match trainer.world.is_first() {
        true => trainer.world.tell(what as i64),
        false => Ok(()),
    }
}

/// As another process: helps the first one until it goes on.
pub(super) fn help(context: &Context, trainer: &Trainer) -> Result<()> {
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
