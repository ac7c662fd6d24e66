//! How fast a run goes, and what is left of it.

use std::collections::VecDeque;

/// Steps that the mean is taken over: enough to be steady, few enough to follow a machine that gets busy.
const RECENT_STEPS: usize = 100;

/// Means over what a session has done so far.
#[derive(Default)]
pub(super) struct Pace {
    /// Seconds of each.
    recent: VecDeque<f64>,
    /// Sum of the seconds between epochs and their number, with and without an evaluation.
    evaluated: (f64, u32),
    unevaluated: (f64, u32),
}

/// What a run has before it.
pub(super) struct Left {
    pub steps: u64,
    /// Epochs that end with an evaluation, and those that do not.
    pub evaluated: u64,
    pub unevaluated: u64,
}

impl Pace {
    pub fn step(&mut self, seconds: f64) {
        if self.recent.len() == RECENT_STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(seconds);
    }

    /// What was done between two epochs took `seconds`.
    pub fn epoch(&mut self, evaluated: bool, seconds: f64) {
        let (sum, count) = if evaluated { &mut self.evaluated } else { &mut self.unevaluated };
        *sum += seconds;
        *count += 1;
    }

    pub fn seconds_a_step(&self) -> f64 {
        self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64
    }

    /// What has not been measured yet (the first evaluation, as a rule) counts as nothing.
    pub fn seconds_left(&self, left: &Left) -> f64 {
        let mean = |(sum, count): (f64, u32)| sum / f64::from(count.max(1));
        left.steps as f64 * self.seconds_a_step()
            + left.evaluated as f64 * mean(self.evaluated)
            + left.unevaluated as f64 * mean(self.unevaluated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_a_mean_over_recent_steps_with_the_evaluations_to_come() {
        let mut pace = Pace::default();
        let left = Left { steps: 10, evaluated: 2, unevaluated: 3 };
        for seconds in [1.0, 3.0] {
            pace.step(seconds);
        }
        assert_eq!(pace.seconds_left(&left), 20.0);
        pace.epoch(true, 5.0);
        pace.epoch(true, 7.0);
        pace.epoch(false, 1.0);
        assert_eq!(pace.seconds_left(&left), 20.0 + 12.0 + 3.0);
        for _ in 0..RECENT_STEPS {
            pace.step(0.5);
        }
        assert_eq!(pace.seconds_a_step(), 0.5, "what is long ago is forgotten");
    }
}
