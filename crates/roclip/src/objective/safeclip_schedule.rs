//! SafeCLIP's learning rates. The released code's go wrong after the warm-up (`src/scheduler.py`, `src/main.py`): the safe pass climbs
//! back to its peak in the last epoch. The corrected schedule needs no set sizes, falls monotonely and ends at zero.

use crate::objective::schedule::warmup_cosine;
use crate::objective::{Phase, Place};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SafeClipSchedule {
    /// Ours: warm-up and cosine over the unimodal epochs, and again over the split epochs.
    #[default]
    Corrected,
    /// The schedule of the released code.
    AsReleased,
    /// The restart at zero that the authors' own mock of the schedule shows.
    AuthorsMock,
}

/// Everything the rates depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub schedule: SafeClipSchedule,
    /// A, M and E: unimodal, slow and all epochs.
    pub unimodal_epochs: u64,
    pub slow_epochs: u64,
    pub epochs: u64,
    pub warmup_steps: u64,
    /// Share of the split epochs that warms up, in the corrected schedule.
    pub warmup_share: f64,
    /// Steps of a pass over all pairs.
    pub steps_per_epoch: u64,
    pub unimodal: f64,
    pub slow: f64,
    pub safe: f64,
    /// Growth of the safe share an epoch.
    pub growth: f64,
    /// Share of the first split, once it is known.
    pub first_share: Option<f64>,
}

impl Rates {
    pub fn rate(&self, place: Place) -> f64 {
        match place.phase {
            Phase::SlowClip => self.slow,
            Phase::Unimodal => self.unimodal * self.unimodal_factor(place),
            Phase::Risky => self.unimodal * self.split_factor(place),
            _ => self.safe * self.split_factor(place),
        }
    }

    fn unimodal_factor(&self, place: Place) -> f64 {
        match self.schedule {
            SafeClipSchedule::Corrected => {
                let total = (self.unimodal_epochs * self.steps_per_epoch) as f64;
                let warmup = (self.warmup_steps as f64).min(0.1 * total);
                let t = ((place.epoch - 1) * self.steps_per_epoch + place.step) as f64;
                warmup_cosine(t, warmup, total)
            }
            _ => {
                let total = ((self.unimodal_epochs + self.slow_epochs) * self.steps_per_epoch) as f64;
                let t = (self.steps_per_epoch * place.epoch + place.step) as f64;
                warmup_cosine(t, self.warmup_steps as f64, total)
            }
        }
    }

    fn split_factor(&self, place: Place) -> f64 {
        let before = self.unimodal_epochs + self.slow_epochs;
        let split_epochs = self.epochs.saturating_sub(before).max(1);
        if self.schedule == SafeClipSchedule::Corrected {
            let within = place.step as f64 / place.steps.max(1) as f64;
            let progress = ((place.epoch.saturating_sub(before + 1)) as f64 + within) / split_epochs as f64;
            if progress < self.warmup_share {
                return progress / self.warmup_share;
            }
            let fall = (progress - self.warmup_share) / (1.0 - self.warmup_share).max(f64::EPSILON);
            return 0.5 * (1.0 + (std::f64::consts::PI * fall).cos());
        }
        // The horizon counts steps of safe passes only, and ignores the cap.
        let first = self.first_share.unwrap_or(0.0);
        let shares = (0..split_epochs).map(|j| first + j as f64 * self.growth).sum::<f64>();
        let total = shares * self.steps_per_epoch as f64;
        let mean_steps = (total / split_epochs as f64).floor();
        let epoch = match self.schedule {
            SafeClipSchedule::AuthorsMock => place.epoch.saturating_sub(before) as f64,
            _ => place.epoch as f64,
        };
        let pass = if place.phase == Phase::Risky { place.steps as f64 } else { mean_steps };
        warmup_cosine(pass * epoch + place.step as f64, self.warmup_steps as f64, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: SafeClipSchedule) -> Rates {
        Rates {
            schedule,
            unimodal_epochs: 5,
            slow_epochs: 1,
            epochs: 32,
            warmup_steps: 10_000,
            warmup_share: 0.02,
            steps_per_epoch: 1953,
            unimodal: 1.0,
            slow: 5e-6,
            safe: 1.0,
            growth: 0.01,
            first_share: Some(0.1525),
        }
    }

    fn ends(rates: &Rates, phase: Phase, epoch: u64, steps: u64) -> (f64, f64) {
        let at = |step| rates.rate(Place { phase, epoch, step, steps });
        (at(0), at(steps - 1))
    }

    /// The released schedule of a million pairs at batch 512, simulated from the released code: (first, last) factor of a pass.
    #[test]
    fn as_released_rises_until_epoch_18_and_climbs_back_at_the_end() {
        let rates = rates(SafeClipSchedule::AsReleased);
        let close = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 2e-3 && (b - d).abs() < 2e-3;
        for (epoch, share, safe, risky) in [
            (7, 0.1525, (0.379, 0.408), (0.673, 0.103)),
            (14, 0.2225, (0.757, 0.801), (0.146, 0.036)),
            (25, 0.3325, (0.046, 0.001), (0.529, 0.936)),
            (32, 0.4025, (0.893, 0.999), (0.237, 0.004)),
        ] {
            let safe_steps = (share * 1_000_000.0 / 512.0f64).floor() as u64;
            let risky_steps = ((1.0 - share) * 1_000_000.0 / 512.0f64).floor() as u64;
            let found = ends(&rates, Phase::Safe, epoch, safe_steps);
            assert!(close(found, safe), "epoch {epoch} safe: {found:?}, not {safe:?}");
            let found = ends(&rates, Phase::Risky, epoch, risky_steps);
            assert!(close(found, risky), "epoch {epoch} risky: {found:?}, not {risky:?}");
        }
        let (first, last) = ends(&rates, Phase::Unimodal, 1, 1953);
        assert!((first - 0.195).abs() < 1e-3 && (last - 0.391).abs() < 1e-3);
        assert_eq!(ends(&rates, Phase::SlowClip, 6, 1953), (5e-6, 5e-6));
    }

    #[test]
    fn corrected_rises_once_falls_and_ends_at_zero_for_both_passes() {
        let rates = rates(SafeClipSchedule::Corrected);
        for phase in [Phase::Safe, Phase::Risky] {
            let factors: Vec<f64> = (7..=32)
                .flat_map(|epoch| (0..50).map(move |step| (epoch, step)))
                .map(|(epoch, step)| rates.rate(Place { phase, epoch, step, steps: 50 }))
                .collect();
            let peak = factors.iter().position(|f| *f > 0.999).unwrap();
            assert!(factors[..peak].windows(2).all(|w| w[0] <= w[1]));
            assert!(factors[peak + 1..].windows(2).all(|w| w[0] >= w[1]));
            assert!(factors.last().unwrap() < &1e-3);
        }
        assert!(ends(&rates, Phase::Unimodal, 5, 1953).1 < 1e-3);
    }
}
