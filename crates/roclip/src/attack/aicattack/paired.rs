//! Means over pictures with 95 % intervals by the bootstrap. All strategies attack the same pictures, so that what one does better than another
//! is looked at picture by picture.

use rand::RngExt;
use roclip_data::random;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Draws of the pictures, with replacement.
const DRAWS: usize = 1000;

/// A mean over pictures with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanInterval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Pictures.
    pub n: usize,
}

impl MeanInterval {
    /// Of the mean of `values`: from the 2.5 % to the 97.5 % quantile of the means of draws by the seed. None of fewer than two pictures, of
    /// which nothing says how much they differ.
    pub fn of(values: &[f64], seed: u64) -> Option<MeanInterval> {
        let n = values.len();
        if n < 2 {
            return None;
        }
        let mut random = random::stream(seed, "attack-interval", 0, "");
        let mut draw = || -> f64 {
            let value = |_| values.get(random.random_range(0..n)).copied().unwrap_or_default();
            (0..n).map(value).sum::<f64>() / n as f64
        };
        let mut means: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
        means.sort_by(f64::total_cmp);
        let cut = DRAWS / 40;
        let at = |place: usize| means.get(place).copied().unwrap_or_default();
        let mean = values.iter().sum::<f64>() / n as f64;
        Some(MeanInterval { mean, low: at(cut), high: at(DRAWS - 1 - cut), n })
    }

    /// Of the mean of `own` less `other`, picture by picture, over the pictures that both have.
    pub fn of_difference(own: &BTreeMap<&str, f64>, other: &BTreeMap<&str, f64>, seed: u64) -> Option<MeanInterval> {
        let differences: Vec<f64> = own.iter().filter_map(|(id, value)| Some(value - other.get(id)?)).collect();
        MeanInterval::of(&differences, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_normal_distribution_where_there_are_many_pictures() {
        let values: Vec<f64> = (0..400).map(|at| f64::from(at % 2) + 1e-7 * f64::from(at)).collect();
        let found = MeanInterval::of(&values, 0).unwrap();
        // 0.5 ± 1.96 * 0.5 / sqrt(400).
        assert!((found.low - 0.451).abs() < 0.01 && (found.high - 0.549).abs() < 0.01, "{found:?}");
        assert!((found.mean - 0.5).abs() < 1e-4 && found.n == 400, "{found:?}");
        assert_eq!(MeanInterval::of(&values, 0), Some(found), "drawn by the seed");
        assert_ne!(MeanInterval::of(&values, 1), Some(found));
        assert_eq!(MeanInterval::of(&[0.3], 0), None);
    }

    #[test]
    fn what_is_the_same_for_every_picture_is_certain_however_much_pictures_differ() {
        let names: Vec<String> = (0..20).map(|at| at.to_string()).collect();
        let of = |more: f64| -> BTreeMap<&str, f64> {
            (0..20u32).zip(&names).map(|(at, name)| (name.as_str(), f64::from(at * at) + more)).collect()
        };
        let (own, mut other) = (of(2.0), of(0.0));
        other.remove("7");
        let found = MeanInterval::of_difference(&own, &other, 0).unwrap();
        assert!((found.low - 2.0).abs() < 1e-9 && (found.high - 2.0).abs() < 1e-9 && found.n == 19, "{found:?}");
    }
}
