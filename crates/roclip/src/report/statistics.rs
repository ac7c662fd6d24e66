//! Intervals of differences over seeds, and how well a score tells poison from clean pairs.

use roclip_data::rate::Interval;

/// Quantiles of Student's t at 0.975, from one degree of freedom on.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The mean of differences, one a seed, with its t interval; none of less than two.
pub fn over_seeds(differences: &[f64]) -> Option<Interval> {
    let freedom = differences.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
    let count = differences.len() as f64;
    let middle = differences.iter().sum::<f64>() / count;
    let variance = differences.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / freedom as f64;
    let half = T.get(freedom - 1).copied().unwrap_or(1.96) * (variance / count).sqrt();
    Some(Interval { middle, low: middle - half, high: middle + half })
}

/// A receiver operating characteristic: `(false alarms, poison found)` as fractions, from (0, 0) to (1, 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Roc {
    pub points: Vec<(f64, f64)>,
    /// Area under the curve: 0.5 is chance, below it poison looks better than clean pairs.
    pub area: f64,
}

/// The detector that calls a pair poison when its score lies in a low bin. `clean` and `poison` are histograms over the same bins;
/// scores in one bin count as equal. None where one of them is empty.
pub fn low_score_detector(clean: &[u32], poison: &[u32]) -> Option<Roc> {
    let total = |bins: &[u32]| bins.iter().map(|count| f64::from(*count)).sum::<f64>();
    let (all_clean, all_poison) = (total(clean), total(poison));
    if all_clean == 0.0 || all_poison == 0.0 || clean.len() != poison.len() {
        return None;
    }
    let (mut alarms, mut found, mut area) = (0.0, 0.0, 0.0);
    let mut points = vec![(0.0, 0.0)];
    for (clean, poison) in clean.iter().zip(poison).filter(|(clean, poison)| **clean + **poison > 0) {
        let (width, height) = (f64::from(*clean) / all_clean, f64::from(*poison) / all_poison);
        area += width * (found + height / 2.0);
        alarms += width;
        found += height;
        points.push((alarms, found));
    }
    Some(Roc { points, area })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with scipy's `t.interval(0.95, 2, mean, sem)`.
    #[test]
    fn differences_over_seeds() {
        let found = over_seeds(&[1.0, 2.0, 4.0]).unwrap();
        assert!((found.middle - 7.0 / 3.0).abs() < 1e-12);
        assert!((found.low + 1.4611).abs() < 2e-3 && (found.high - 6.1278).abs() < 2e-3, "{found:?}");
        assert_eq!(over_seeds(&[1.0]), None);
    }

    #[test]
    fn a_detector_is_judged_by_its_area() {
        let areas =
            [([0, 0, 5, 5], [9, 1, 0, 0], 1.0), ([4, 4, 4, 4], [1, 1, 1, 1], 0.5), ([9, 1, 0, 0], [0, 0, 5, 5], 0.0)];
        for (clean, poison, area) in areas {
            let roc = low_score_detector(&clean, &poison).unwrap();
            assert!((roc.area - area).abs() < 1e-12, "{roc:?}");
            let last = roc.points.last().unwrap();
            assert!((last.0 - 1.0).abs() < 1e-12 && (last.1 - 1.0).abs() < 1e-12);
        }
        assert_eq!(low_score_detector(&[1], &[0]), None);
    }
}
