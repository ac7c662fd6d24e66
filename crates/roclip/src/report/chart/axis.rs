//! Where an axis begins, ends and has its ticks: at round numbers.

/// Most intervals between ticks.
const INTERVALS: f64 = 6.0;

#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    step: f64,
}

impl Axis {
    /// From a round number at or below `low` to one at or above `high`, with ticks at 1, 2 or 5 times a power of ten.
    pub fn over(low: f64, high: f64) -> Axis {
        let (low, high) = if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 1.0) };
        let range = if high > low { high - low } else { low.abs().max(1.0) };
        Axis::stepped(low, low + range, round_step(range / INTERVALS))
    }

    /// [`Axis::over`] with ticks at whole numbers, beginning at the first of them: epochs.
    pub fn whole(low: f64, high: f64) -> Axis {
        let step = round_step((high - low) / INTERVALS).max(1.0);
        let Axis { high, .. } = Axis::stepped(low, high.max(low + 1.0), 1.0);
        Axis { low, high, step }
    }

    fn stepped(low: f64, high: f64, step: f64) -> Axis {
        let tolerance = 1e-9;
        Axis { low: (low / step + tolerance).floor() * step, high: (high / step - tolerance).ceil() * step, step }
    }

    /// Each tick with its text.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let digits = (-self.step.log10()).ceil().max(0.0) as usize;
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last.min(first + 50))
            .map(|at| (at as f64 * self.step, format!("{:.digits$}", at as f64 * self.step)))
            .collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is no less than `wanted`.
fn round_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= wanted * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(texts(&Axis::over(0.0, 4.12)), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(texts(&Axis::over(0.0, 100.0)), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(texts(&Axis::over(-0.13, 0.31)), ["-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(texts(&Axis::over(9.4, 37.7)), ["5", "10", "15", "20", "25", "30", "35", "40"]);
        for same in [0.0, 7.0, -2.5] {
            let axis = Axis::over(same, same);
            assert!(axis.low <= same && axis.high > same && axis.ticks().len() > 1, "{axis:?}");
        }
        assert_eq!(Axis::over(f64::NAN, f64::INFINITY), Axis::over(0.0, 1.0));
    }

    #[test]
    fn epochs_are_whole() {
        assert_eq!(texts(&Axis::whole(1.0, 2.0)), ["1", "2"]);
        assert_eq!(texts(&Axis::whole(1.0, 1.0)), ["1", "2"]);
        assert_eq!(texts(&Axis::whole(1.0, 20.0)), ["5", "10", "15", "20"]);
    }
}
