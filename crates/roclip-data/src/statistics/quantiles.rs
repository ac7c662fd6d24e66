//! Quantiles of many whole numbers.

use serde::Serialize;

/// By the nearest rank: each is one of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub min: u64,
    pub p1: u64,
    pub p5: u64,
    pub p25: u64,
    pub median: u64,
    pub p75: u64,
    pub p95: u64,
    pub p99: u64,
    pub max: u64,
}

impl Quantiles {
    /// None of no numbers.
    pub fn of(mut values: Vec<u64>) -> Option<Quantiles> {
        values.sort_unstable();
        Quantiles::at(values.len() as u64, |rank| values.get(rank as usize).copied().unwrap_or(0))
    }

    /// Of a histogram: how often each number comes, from 0 on.
    pub fn of_histogram(counts: &[u64]) -> Option<Quantiles> {
        Quantiles::at(counts.iter().sum(), |rank| {
            let mut below = 0;
            let found = counts.iter().zip(0..).find(|(count, _)| {
                below += **count;
                below > rank
            });
            found.map_or(0, |(_, value)| value)
        })
    }

    /// `value` gives the number of a rank from 0 among `count`.
    fn at(count: u64, value: impl Fn(u64) -> u64) -> Option<Quantiles> {
        let last = count.checked_sub(1)?;
        let percent = |percent: u64| value((count * percent).div_ceil(100).saturating_sub(1).min(last));
        Some(Quantiles {
            min: value(0),
            p1: percent(1),
            p5: percent(5),
            p25: percent(25),
            median: percent(50),
            p75: percent(75),
            p95: percent(95),
            p99: percent(99),
            max: value(last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numbers_that_are_there() {
        let all = Quantiles::of((1..=200).rev().collect()).unwrap();
        assert_eq!((all.min, all.p1, all.p5, all.p25, all.median), (1, 2, 10, 50, 100));
        assert_eq!((all.p75, all.p95, all.p99, all.max), (150, 190, 198, 200));
        let mut histogram = vec![0; 201];
        histogram[1..].fill(1);
        assert_eq!(Quantiles::of_histogram(&histogram), Some(all));
        assert_eq!((Quantiles::of(Vec::new()), Quantiles::of_histogram(&[0, 0])), (None, None));
        let one = Quantiles::of(vec![7]).unwrap();
        assert_eq!((one.min, one.median, one.p99, one.max), (7, 7, 7, 7));
    }
}
