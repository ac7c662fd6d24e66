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
    /// Batches of the pass under way that were passed over. Absent in older checkpoints.
    #[serde(default)]
    passed_over_in_pass: Option<u64>,
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
            passed_over_in_pass: Some(0),
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

    /// Steps of the pass under way that lie behind it: those that were trained, and those that were passed over.
    pub fn steps_of_pass(&self) -> u64 {
        self.steps + self.passed_over_in_pass()
    }

    /// In the first pass of an epoch all that were passed over are of it, which older checkpoints say, too.
    fn passed_over_in_pass(&self) -> u64 {
        let of_first_pass = if self.passes.is_empty() { self.passed_over } else { 0 };
        self.passed_over_in_pass.unwrap_or(of_first_pass)
    }

    /// Counts a batch that no step could be taken on. It has no part in the mean of the losses.
    pub(super) fn pass_over(&mut self) {
        self.passed_over_in_pass = Some(self.passed_over_in_pass() + 1);
        self.passed_over += 1;
    }

    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.steps.max(1) as f64
    }

    pub fn finish_pass(&mut self, phase: Phase, steps: u64) {
        self.passes.push(PassMetrics { phase, steps, loss: self.mean_loss() });
        (self.loss_sum, self.steps, self.passed_over_in_pass) = (0.0, 0, Some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_are_passed_over_are_steps_of_their_pass_and_no_part_of_its_loss() {
        let mut tally = EpochTally::begin();
        (tally.loss_sum, tally.steps) = (6.0, 2);
        tally.pass_over();
        assert_eq!((tally.steps_of_pass(), tally.passed_over, tally.mean_loss()), (3, 1, 3.0));
        let mut saved = serde_json::to_value(tally.so_far()).unwrap();
        let read = |saved: &serde_json::Value| serde_json::from_value::<EpochTally>(saved.clone()).unwrap();
        assert_eq!(read(&saved).steps_of_pass(), 3);
        // As older checkpoints have it.
        saved.as_object_mut().unwrap().remove("passed_over_in_pass");
        let mut older = read(&saved);
        assert_eq!(older.steps_of_pass(), 3, "all that the first pass passed over");
        older.pass_over();
        assert_eq!((older.steps_of_pass(), older.passed_over), (4, 2));
        saved["passes"] = serde_json::to_value([PassMetrics { phase: Phase::Clip, steps: 3, loss: 1.0 }]).unwrap();
        assert_eq!(read(&saved).steps_of_pass(), 2, "nobody knows of which pass they were");
        tally.finish_pass(Phase::Clip, 3);
        assert_eq!((tally.steps_of_pass(), tally.passed_over, tally.passes[0].loss), (0, 1, 3.0));
    }
}
