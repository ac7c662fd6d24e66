//! The sums of an epoch under way. A checkpoint within the epoch carries it, so that a resumed run reports the whole epoch.

use crate::objective::Phase;
use crate::train::diagnostics::MatchTally;
use crate::train::metrics::PassMetrics;
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct EpochTally {
    pub matches: MatchTally,
    /// Pairs that could not be used, each counted in its own place of a pass.
    pub skipped: usize,
    /// Rows of batches that had no pair, since none was found that takes the place of one that could not be used.
    #[serde(default)]
    pub left_out: usize,
    /// Batches without two good samples, which no step could be taken on.
    #[serde(default)]
    pub passed_over: u64,
    pub data_seconds: f64,
    /// Finished ones.
    pub passes: Vec<PassMetrics>,
    /// Over the steps of the pass under way.
    pub(super) loss_sum: f64,
    pub(super) steps: u64,
    /// Before `since`.
    seconds: f64,
    #[serde(skip, default = "Instant::now")]
    since: Instant,
}

impl EpochTally {
    /// Of an epoch that begins now.
    pub fn begin() -> Self {
        EpochTally {
            matches: MatchTally::default(),
            skipped: 0,
            left_out: 0,
            passed_over: 0,
            data_seconds: 0.0,
            passes: Vec::new(),
            loss_sum: 0.0,
            steps: 0,
            seconds: 0.0,
            since: Instant::now(),
        }
    }

    /// Wall-clock time of the epoch, without the time between a kill and the resume.
    pub fn seconds(&self) -> f64 {
        self.seconds + self.since.elapsed().as_secs_f64()
    }

    /// The part that a checkpoint keeps.
    pub fn so_far(&self) -> EpochTally {
        EpochTally { seconds: self.seconds(), since: Instant::now(), ..self.clone() }
    }

    /// Finished steps of the pass under way.
    pub fn steps_of_pass(&self) -> u64 {
        self.steps
    }

    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.steps.max(1) as f64
    }

    pub fn finish_pass(&mut self, phase: Phase, steps: u64) {
        self.passes.push(PassMetrics { phase, steps, loss: self.mean_loss() });
        (self.loss_sum, self.steps) = (0.0, 0);
    }
}
