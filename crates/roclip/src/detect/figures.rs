//! How well a score tells poison from clean pairs.

use serde::{Deserialize, Serialize};

/// Figures of a detector, on pairs of which some are known to be poison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub poisoned: usize,
    pub clean: usize,
    /// Area under the receiver operating characteristic; ties count half. 0.5 is chance.
    pub auroc: f64,
    /// Share of clean pairs that are at least as suspicious as the most suspicious 95 % of the poison.
    pub false_positives_at_95: f64,
    /// The same for all of the poison.
    pub false_positives_at_100: f64,
}

/// Figures of `scores`; a pair is `poisoned` or clean, or neither counts. Scores that are no numbers count as the least. None without pairs
/// of both kinds.
pub fn figures(scores: &[f64], poisoned: &[Option<bool>]) -> Option<Figures> {
    let of = |kind: bool| -> Vec<f64> {
        let own = scores.iter().zip(poisoned).filter(|(_, is)| **is == Some(kind));
        let mut own: Vec<f64> = own.map(|(score, _)| if score.is_nan() { f64::NEG_INFINITY } else { *score }).collect();
        own.sort_by(f64::total_cmp);
        own
    };
    let (poison, clean) = (of(true), of(false));
    if poison.is_empty() || clean.is_empty() {
        return None;
    }
    let beaten = |score: &f64| {
        let below = clean.partition_point(|other| other < score);
        let tied = clean.partition_point(|other| other <= score) - below;
        below as f64 + tied as f64 / 2.0
    };
    let auroc = poison.iter().map(beaten).sum::<f64>() / (poison.len() as f64 * clean.len() as f64);
    let false_positives = |share: f64| {
        let missed = poison.len() - (share * poison.len() as f64).ceil() as usize;
        let threshold = poison.get(missed).copied().unwrap_or(f64::NEG_INFINITY);
        (clean.len() - clean.partition_point(|other| *other < threshold)) as f64 / clean.len() as f64
    };
    Some(Figures {
        poisoned: poison.len(),
        clean: clean.len(),
        auroc,
        false_positives_at_95: false_positives(0.95),
        false_positives_at_100: false_positives(1.0),
    })
}

/// The curve of a detector: `(share of clean pairs, share of poison)` that are at least as suspicious as each threshold, from (0, 0).
pub fn curve(scores: &[f64], poisoned: &[Option<bool>]) -> Vec<(f64, f64)> {
    let counted = scores.iter().zip(poisoned).filter_map(|(score, is)| Some((*score, (*is)?)));
    let mut all: Vec<(f64, bool)> =
        counted.map(|(score, is)| (if score.is_nan() { f64::NEG_INFINITY } else { score }, is)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total = |kind: bool| all.iter().filter(|(_, is)| *is == kind).count().max(1) as f64;
    let (poison, clean) = (total(true), total(false));
    let (mut found, mut alarms, mut points) = (0, 0, vec![(0.0, 0.0)]);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let hits = tied.iter().filter(|(_, is)| *is).count();
        found += hits;
        alarms += tied.len() - hits;
        points.push((alarms as f64 / clean, found as f64 / poison));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const POISON: Option<bool> = Some(true);
    const CLEAN: Option<bool> = Some(false);

    #[test]
    fn a_perfect_detector_a_wrong_one_and_a_silent_one() {
        let marks = [POISON, POISON, CLEAN, CLEAN, None];
        let perfect = figures(&[4.0, 3.0, 2.0, 1.0, 9.0], &marks).unwrap();
        assert_eq!((perfect.auroc, perfect.false_positives_at_100), (1.0, 0.0));
        let wrong = figures(&[1.0, 2.0, 3.0, 4.0, 0.0], &marks).unwrap();
        assert_eq!((wrong.auroc, wrong.false_positives_at_100), (0.0, 1.0));
        let silent = figures(&[f64::NAN; 5], &marks).unwrap();
        assert_eq!((silent.auroc, silent.false_positives_at_95), (0.5, 1.0));
        assert_eq!(figures(&[1.0], &[POISON]), None);
    }

    #[test]
    fn false_positives_are_counted_at_their_share_of_the_poison() {
        // Twenty poisoned pairs, of which the least suspicious lies below all clean ones.
        let mut scores: Vec<f64> = (0..20).map(|n| if n == 0 { -1.0 } else { 100.0 + f64::from(n) }).collect();
        let mut marks = vec![POISON; 20];
        scores.extend((0..50).map(f64::from));
        marks.extend([CLEAN; 50]);
        let found = figures(&scores, &marks).unwrap();
        assert_eq!((found.false_positives_at_95, found.false_positives_at_100), (0.0, 1.0));
        assert!((found.auroc - 0.95).abs() < 1e-12);
        let points = curve(&scores, &marks);
        assert_eq!((points[0], *points.last().unwrap()), ((0.0, 0.0), (1.0, 1.0)));
        assert!(points.iter().any(|(alarms, found)| *alarms == 0.0 && (*found - 0.95).abs() < 1e-12));
    }
}
