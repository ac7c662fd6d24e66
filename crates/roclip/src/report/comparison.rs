//! One row against another: a difference, and whether it is more than chance.

use crate::report::group::{Group, RateOf};
use crate::report::statistics::over_seeds;
use crate::results::RunRecord;
use roclip_data::rate::{Interval, Rate, difference};

/// In percentage points.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub points: f64,
    /// Absent where the rows have no seed in common, and several of their own.
    pub interval: Option<Interval>,
    /// One a seed that both have.
    pub by_seed: Vec<f64>,
}

impl Comparison {
    /// `one` less `other` on the rate `of`: over the seeds that both have, or of the counts of a single one.
    pub fn of(one: &Group, other: &Group, of: &RateOf) -> Option<Comparison> {
        let pairs: Vec<_> =
            one.paired(other).into_iter().filter_map(|(own, twin)| Some((of(own)?, of(twin)?))).collect();
        let by_seed = points_of(&pairs);
        let single = match (pairs.as_slice(), one.members.as_slice(), other.members.as_slice()) {
            ([pair], ..) => Some(*pair),
            ([], [own], [twin]) => of(own).zip(of(twin)),
            _ => None,
        };
        let mean = |group: &Group| group.mean(|run| of(run).map(|rate| 100.0 * rate.rate));
        let interval = over_seeds(&by_seed).or(single.map(of_counts));
        let points = match interval {
            Some(interval) => interval.middle,
            None => mean(one)? - mean(other)?,
        };
        Some(Comparison { points, interval, by_seed })
    }

    /// What the runs of `group` have now less what they came from, a victim or a teacher, both of one run: over its seeds, or of the counts
    /// of a single one. None where no run has both.
    pub fn within(group: &Group, of: &dyn Fn(&RunRecord) -> Option<(Rate, Rate)>) -> Option<Comparison> {
        let pairs: Vec<(Rate, Rate)> = group.members.iter().filter_map(|run| of(run)).collect();
        let by_seed = points_of(&pairs);
        let single = match pairs.as_slice() {
            [pair] => Some(*pair),
            _ => None,
        };
        let interval = over_seeds(&by_seed).or(single.map(of_counts))?;
        Some(Comparison { points: interval.middle, interval: Some(interval), by_seed })
    }

    /// Whether it is more than chance, by its interval.
    pub fn words(&self) -> &'static str {
        match self.interval {
            Some(interval) if !interval.is_clear() => "within chance",
            Some(_) if self.points > 0.0 => "clearly more",
            Some(_) => "clearly less",
            None => "no common seed",
        }
    }
}

/// Differences in percentage points.
fn points_of(pairs: &[(Rate, Rate)]) -> Vec<f64> {
    pairs.iter().map(|(own, twin)| 100.0 * (own.rate - twin.rate)).collect()
}

/// The difference of two rates in percentage points, by their counts.
fn of_counts((own, twin): (Rate, Rate)) -> Interval {
    let Interval { middle, low, high } = difference(own, twin);
    Interval { middle: 100.0 * middle, low: 100.0 * low, high: 100.0 * high }
}
