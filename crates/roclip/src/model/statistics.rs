//! Where BatchNorm takes its statistics from.

use crate::world::Collectives;

/// Means and variances of BatchNorm. Towers without it do not look at this.
#[derive(Clone, Copy)]
pub enum Statistics<'a> {
    /// Those that training kept: evaluation.
    Running,
    /// Those of the rows at hand.
    Rows,
    /// Those of the rows of all processes. Where this one's only stand in for none, they do not count. A pass that is made `again` leaves the
    /// running statistics alone.
    WholeBatch { collectives: &'a dyn Collectives, counts: bool, again: bool },
    /// Those of the rows at hand, which are a part of a batch that is encoded part by part. The parts update the running statistics
    /// together as one batch does, by their mean; a part that is encoded again leaves them alone, and is none of the batch's.
    Chunk(Option<ChunkShare>),
}

/// A part of a batch.
#[derive(Debug, Clone, Copy)]
pub struct ChunkShare {
    /// Of the batch's rows, above 0.
    pub share: f64,
    /// What the parts have that come behind it; 0 for the last.
    pub later: f64,
}

impl ChunkShare {
    /// The momentum of this part's update where the batch's is `momentum`: what is left of it after the later updates is
    /// `momentum * share`, and all parts together leave `1 - momentum` of what was there before.
    pub fn momentum(self, momentum: f64) -> f64 {
        momentum * self.share / (1.0 - momentum * self.later)
    }
}

impl Statistics<'_> {
    /// The same for a pass that is made a second time, in which the running statistics do not move.
    pub fn again(self) -> Self {
        match self {
            Statistics::Running => Statistics::Running,
            Statistics::Rows | Statistics::Chunk(_) => Statistics::Chunk(None),
            Statistics::WholeBatch { collectives, counts, .. } => {
                Statistics::WholeBatch { collectives, counts, again: true }
            }
        }
    }

    /// Of one process, in training or not.
    pub fn of_process(train: bool) -> Self {
        if train { Statistics::Rows } else { Statistics::Running }
    }
}
