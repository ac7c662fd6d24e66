//! How far a task has come, when to say so, and how long the rest takes at its mean pace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A task under way, for whoever shows it.
pub struct Estimate {
    pub total: u64,
    units: &'static str,
    begun: Instant,
    /// Milliseconds after the beginning when it was last shown.
    shown: AtomicU64,
    every: Duration,
}

impl Estimate {
    /// Shown at most once in `every`, and not before as long has passed: a task that is done sooner needs no showing.
    pub fn new(total: u64, units: &'static str, every: Duration) -> Self {
        Estimate { total, units, begun: Instant::now(), shown: AtomicU64::new(0), every }
    }

    /// Whether it is time to show the task again; true for one thread only.
    pub fn is_due(&self) -> bool {
        let (now, shown) = (self.begun.elapsed().as_millis() as u64, self.shown.load(Ordering::Relaxed));
        now.saturating_sub(shown) >= self.every.as_millis() as u64
            && self.shown.compare_exchange(shown, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Units done and time left, as in `120/500 images, 8 s left`.
    pub fn words(&self, done: u64) -> String {
        let Estimate { total, units, .. } = self;
        if *total == 0 {
            return format!("{done} {units}");
        }
        let left = self.begun.elapsed().as_secs_f64() * total.saturating_sub(done) as f64 / done.max(1) as f64;
        format!("{done}/{total} {units}, {} left", duration(left))
    }
}

/// As in `42 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// What something took, as in `12 ms`, `2.3 s`, and beyond a minute as [`duration`] says it.
pub fn took(seconds: f64) -> String {
    match seconds {
        short if short < 1.0 => format!("{:.0} ms", 1000.0 * short),
        some if some < 60.0 => format!("{some:.1} s"),
        long => duration(long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        assert_eq!([0.0123, 2.34, 185.0].map(took), ["12 ms", "2.3 s", "3 min 05 s"]);
        let told = [0.4, 59.6, 185.0, 7_800.0, 360_000.0].map(duration);
        assert_eq!(told, ["0 s", "1 min 00 s", "3 min 05 s", "2 h 10 min", "100 h 00 min"]);
    }

    #[test]
    fn a_task_is_shown_when_it_has_lasted_and_not_too_often() {
        let soon = Estimate::new(4, "images", Duration::from_secs(3600));
        assert!(!soon.is_due());
        let now = Estimate::new(4, "images", Duration::ZERO);
        assert!(now.is_due() && now.words(2).starts_with("2/4 images, 0 s left"));
        assert_eq!(Estimate::new(0, "rows", Duration::ZERO).words(7), "7 rows");
    }
}
