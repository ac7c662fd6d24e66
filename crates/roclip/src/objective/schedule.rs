//! Linear warm-up, then cosine to zero (RoCLIP repository, `src/scheduler.py`).

/// The learning-rate schedule, as a function of the step.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pub peak: f64,
    pub warmup_steps: u64,
    pub steps_per_epoch: u64,
    pub epochs: u64,
    /// 0, or 1 as released: the first epoch's steps are skipped, and the last epoch runs past the end of the cosine.
    pub epoch_offset: u64,
}

impl Schedule {
    /// The rate of the `step`-th optimizer step of the run, from 0.
    pub fn rate(&self, step: u64) -> f64 {
        let t = (step + self.epoch_offset * self.steps_per_epoch) as f64;
        let (warmup, total) = (self.warmup_steps as f64, (self.steps_per_epoch * self.epochs) as f64);
        self.peak * warmup_cosine(t, warmup, total)
    }
}

/// Share of the peak: linear over `warmup` steps, then cosine to zero at `total`, and up again beyond it.
pub(crate) fn warmup_cosine(t: f64, warmup: f64, total: f64) -> f64 {
    if t < warmup {
        return (t + 1.0) / warmup;
    }
    let fall = if total == warmup { 1.0 } else { (t - warmup) / (total - warmup) };
    0.5 * (1.0 + (std::f64::consts::PI * fall).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `roclip.md` section 12: one million pairs at 512 start at 19.5 % of the peak under the released counter.
    #[test]
    fn the_released_counter_starts_at_a_fifth_of_the_peak() {
        let released =
            Schedule { peak: 5e-5, warmup_steps: 10_000, steps_per_epoch: 1_953, epochs: 24, epoch_offset: 1 };
        assert!((released.rate(0) / released.peak - 0.1954).abs() < 1e-4);
        let mended = Schedule { epoch_offset: 0, ..released };
        assert!((mended.rate(0) / mended.peak - 1e-4).abs() < 1e-9);
        assert!((mended.rate(9_999) - mended.peak).abs() < 1e-12);
        assert!(mended.rate(1_953 * 24) < 1e-12);
    }
}
