//! What the processes of a run measure together. The first says what, the others make the same calls, and all share what is encoded. Each
//! computes the figures from it; the first alone keeps and writes them.

use crate::error::Result;
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
    pub const ALL: [Together; 7] = [
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
