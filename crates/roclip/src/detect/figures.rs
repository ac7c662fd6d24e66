//! How well a score tells poison from clean pairs.

use serde::{Deserialize, Serialize};

/// Figures of a detector, on pairs of which some are known to be poison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub poisoned: usize,
    pub clean: usize,
    /// Of the poisoned pairs, those that the method says nothing of.
    pub poisoned_without_score: usize,
    pub clean_without_score: usize,
    /// Area under the receiver operating characteristic of the poison that has a score; ties count half. 0.5 is chance. None where no
    /// poisoned pair has one.
    pub auroc: Option<f64>,
    /// Share of clean pairs that are at least as suspicious as the most suspicious 95 % of the poison. None where fewer of the poisoned pairs
    /// have a score: no threshold finds so many.
    pub false_positives_at_95: Option<f64>,
    /// The same for all of the poison.
    pub false_positives_at_100: Option<f64>,
}

/// Figures of `scores`; a pair is `poisoned` or clean, or neither counts. A score that is no number says nothing of its pair: such a clean
/// pair is below every threshold and no false positive, and such a poisoned one is counted apart, since it is neither found nor taken for
/// clean. None without pairs of both kinds.
pub fn figures(scores: &[f64], poisoned: &[Option<bool>]) -> Option<Figures> {
    // The scores of a kind, ascending, and how many pairs have none.
    let of = |kind: bool| -> (Vec<f64>, usize) {
        let all: Vec<f64> = scores.iter().zip(poisoned).filter(|(_, is)| **is == Some(kind)).map(|(s, _)| *s).collect();
        let mut own: Vec<f64> = all.iter().copied().filter(|score| !score.is_nan()).collect();
        own.sort_by(f64::total_cmp);
        let without = all.len() - own.len();
        (own, without)
    };
    let ((poison, poisoned_without_score), (clean, clean_without_score)) = (of(true), of(false));
    let (all_poison, all_clean) = (poison.len() + poisoned_without_score, clean.len() + clean_without_score);
    if all_poison == 0 || all_clean == 0 {
        return None;
    }
    let beaten = |score: &f64| {
        let below = clean.partition_point(|other| other < score);
        let tied = clean.partition_point(|other| other <= score) - below;
        (clean_without_score + below) as f64 + tied as f64 / 2.0
    };
    let auroc =
        (!poison.is_empty()).then(|| poison.iter().map(beaten).sum::<f64>() / (poison.len() as f64 * all_clean as f64));
    let false_positives = |share: f64| {
        let wanted = (share * all_poison as f64).ceil() as usize;
        let threshold = poison.len().checked_sub(wanted).and_then(|missed| poison.get(missed))?;
        Some((clean.len() - clean.partition_point(|other| other < threshold)) as f64 / all_clean as f64)
    };
    Some(Figures {
        poisoned: all_poison,
        clean: all_clean,
        poisoned_without_score,
        clean_without_score,
        auroc,
        false_positives_at_95: false_positives(0.95),
        false_positives_at_100: false_positives(1.0),
    })
}

/// The curve of a detector: `(share of clean pairs, share of poison)` that are at least as suspicious as each threshold, from (0, 0). It ends
/// below 1 where pairs have no score.
pub fn curve(scores: &[f64], poisoned: &[Option<bool>]) -> Vec<(f64, f64)> {
    let counted = scores.iter().zip(poisoned).filter_map(|(score, is)| Some((*score, (*is)?)));
    let mut all: Vec<(f64, bool)> = counted.collect();
    let total = |kind: bool| all.iter().filter(|(_, is)| *is == kind).count().max(1) as f64;
    let (poison, clean) = (total(true), total(false));
    all.retain(|(score, _)| !score.is_nan());
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
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
        assert_eq!((perfect.auroc, perfect.false_positives_at_100), (Some(1.0), Some(0.0)));
        let wrong = figures(&[1.0, 2.0, 3.0, 4.0, 0.0], &marks).unwrap();
        assert_eq!((wrong.auroc, wrong.false_positives_at_100), (Some(0.0), Some(1.0)));
        let silent = figures(&[f64::NAN; 5], &marks).unwrap();
        assert_eq!((silent.auroc, silent.false_positives_at_95, silent.poisoned_without_score), (None, None, 2));
        assert_eq!(figures(&[1.0], &[POISON]), None);
    }

    #[test]
    fn poison_without_a_score_is_neither_found_nor_taken_for_clean() {
        // Copies of clean pictures have scores, and of three poisoned pictures one has.
        let marks = [POISON, POISON, POISON, CLEAN, CLEAN];
        let found = figures(&[f64::NAN, f64::NAN, 3.0, 2.0, 4.0], &marks).unwrap();
        assert_eq!((found.poisoned, found.poisoned_without_score, found.auroc), (3, 2, Some(0.5)));
        assert_eq!((found.false_positives_at_95, found.false_positives_at_100), (None, None));
        let points = curve(&[f64::NAN, f64::NAN, 3.0, 2.0, 4.0], &marks);
        assert_eq!(points.last(), Some(&(1.0, 1.0 / 3.0)));
        // Clean pairs that the method says nothing of are no false positives.
        let marks = [POISON, POISON, CLEAN, CLEAN, CLEAN, CLEAN];
        let found = figures(&[3.0, 2.0, 2.5, f64::NAN, f64::NAN, f64::NAN], &marks).unwrap();
        assert_eq!((found.auroc, found.clean_without_score), (Some(7.0 / 8.0), 3));
        assert_eq!((found.false_positives_at_95, found.false_positives_at_100), (Some(0.25), Some(0.25)));
    }

    #[test]
    fn false_positives_are_counted_at_their_share_of_the_poison() {
        // Twenty poisoned pairs, of which the least suspicious lies below all clean ones.
        let mut scores: Vec<f64> = (0..20).map(|n| if n == 0 { -1.0 } else { 100.0 + f64::from(n) }).collect();
        let mut marks = vec![POISON; 20];
        scores.extend((0..50).map(f64::from));
        marks.extend([CLEAN; 50]);
        let found = figures(&scores, &marks).unwrap();
        assert_eq!((found.false_positives_at_95, found.false_positives_at_100), (Some(0.0), Some(1.0)));
        assert!((found.auroc.unwrap() - 0.95).abs() < 1e-12);
        let points = curve(&scores, &marks);
        assert_eq!((points[0], *points.last().unwrap()), ((0.0, 0.0), (1.0, 1.0)));
        assert!(points.iter().any(|(alarms, found)| *alarms == 0.0 && (*found - 0.95).abs() < 1e-12));
    }
}
