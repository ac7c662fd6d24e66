//! Where BatchNorm takes its statistics from.

use crate::world::Collectives;

/// Means and variances of BatchNorm. Towers without it do not look at this.
#[derive(Clone, Copy)]
pub enum Statistics<'a> {
    /// Those that training kept: evaluation.
    Running,
    /// Those of the rows at hand.
    Rows,
    /// Those of the rows of all processes. Where this one's only stand in for none, they do not count.
    WholeBatch { collectives: &'a dyn Collectives, counts: bool },
}

impl Statistics<'_> {
    /// Of one process, in training or not.
    pub fn of_process(train: bool) -> Self {
        if train { Statistics::Rows } else { Statistics::Running }
    }
}
