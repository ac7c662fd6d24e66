//! How well a score tells poison from clean pairs.

use serde::{Deserialize, Serialize};

/// Between two points of a curve, in shares: a chart shows nothing finer.
const APART: f64 = 1.0 / 200.0;

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
    /// Mean over the poison of the precision at the threshold that finds it: the area under the precision-recall curve. Poison without a score
    /// is found by no threshold and adds nothing; chance has the share of poison. None where no poisoned pair has a score.
    pub average_precision: Option<f64>,
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
    let precision = |score: &f64| {
        let at_least = |sorted: &[f64]| sorted.len() - sorted.partition_point(|other| other < score);
        let found = at_least(&poison);
        found as f64 / (found + at_least(&clean)) as f64
    };
    let average_precision = (!poison.is_empty()).then(|| poison.iter().map(precision).sum::<f64>() / all_poison as f64);
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
        average_precision,
        false_positives_at_95: false_positives(0.95),
        false_positives_at_100: false_positives(1.0),
    })
}

/// The pairs that count and have a score, the most suspicious first, each with whether it is poison; and how many count of the poison and of
/// the clean pairs.
fn descending(scores: &[f64], poisoned: &[Option<bool>]) -> (Vec<(f64, bool)>, f64, f64) {
    let counted = scores.iter().zip(poisoned).filter_map(|(score, is)| Some((*score, (*is)?)));
    let mut all: Vec<(f64, bool)> = counted.collect();
    let total = |kind: bool| all.iter().filter(|(_, is)| *is == kind).count().max(1) as f64;
    let (poison, clean) = (total(true), total(false));
    all.retain(|(score, _)| !score.is_nan());
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    (all, poison, clean)
}

/// The curve of a detector: `(share of clean pairs, share of poison)` that are at least as suspicious as each threshold, from (0, 0). It ends
/// below 1 where pairs have no score. Points nearer to each other than a chart shows are left out: as many stay of a million pairs as of
/// thousands.
pub fn curve(scores: &[f64], poisoned: &[Option<bool>]) -> Vec<(f64, f64)> {
    let (all, poison, clean) = descending(scores, poisoned);
    let (mut found, mut alarms, mut points) = (0, 0, vec![(0.0, 0.0)]);
    let mut last = (0.0, 0.0);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let hits = tied.iter().filter(|(_, is)| *is).count();
        found += hits;
        alarms += tied.len() - hits;
        last = (alarms as f64 / clean, found as f64 / poison);
        if points.last().is_none_or(|(x, y)| last.0 - x >= APART || last.1 - y >= APART) {
            points.push(last);
        }
    }
    if points.last() != Some(&last) {
        points.push(last);
    }
    points
}

/// The other curve of a detector: `(recall, precision)` at thresholds that find more poison, that is the share of all poison that is found, and
/// the share of poison among what is taken for it. It begins at the first poison, and ends below a recall of 1 where poison has no score;
/// thinned as [`curve`] is.
pub fn precision_recall(scores: &[f64], poisoned: &[Option<bool>]) -> Vec<(f64, f64)> {
    let (all, poison, _) = descending(scores, poisoned);
    let (mut found, mut called, mut points) = (0, 0, Vec::<(f64, f64)>::new());
    let mut last = None;
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let hits = tied.iter().filter(|(_, is)| *is).count();
        called += tied.len();
        found += hits;
        if hits == 0 {
            continue;
        }
        let point = (found as f64 / poison, found as f64 / called as f64);
        last = Some(point);
        if points.last().is_none_or(|(recall, _)| point.0 - recall >= APART) {
            points.push(point);
        }
    }
    if last.is_some() && points.last().copied() != last {
        points.extend(last);
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
    fn precision_is_counted_where_poison_is_found() {
        // Sorted: poison, clean, poison and clean tied, clean; one poisoned pair has no score.
        let scores = [5.0, 4.0, 3.0, 3.0, 2.0, f64::NAN, 9.0];
        let marks = [POISON, CLEAN, POISON, CLEAN, CLEAN, POISON, None];
        assert_eq!(precision_recall(&scores, &marks), [(1.0 / 3.0, 1.0), (2.0 / 3.0, 0.5)]);
        // Of three poisoned pairs one is found at a precision of 1, one at 2 of 4, one never.
        let found = figures(&scores, &marks).unwrap();
        assert!((found.average_precision.unwrap() - 0.5).abs() < 1e-12, "{found:?}");
        let perfect = figures(&[2.0, 1.0], &[POISON, CLEAN]).unwrap();
        assert_eq!(
            (perfect.average_precision, precision_recall(&[2.0, 1.0], &[POISON, CLEAN])),
            (Some(1.0), vec![(1.0, 1.0)])
        );
        let silent = [f64::NAN, 1.0];
        assert_eq!(figures(&silent, &[POISON, CLEAN]).unwrap().average_precision, None);
        assert!(precision_recall(&silent, &[POISON, CLEAN]).is_empty());
    }

    #[test]
    fn curves_of_many_pairs_have_few_points_and_keep_their_form() {
        let count = 40_000;
        // Every other pair is poison, until the last quarter, which is poison alone.
        let marks: Vec<Option<bool>> = (0..count).map(|at| Some(at % 2 == 0 || at > 3 * count / 4)).collect();
        let scores: Vec<f64> = (0..count).rev().map(f64::from).collect();
        let (roc, recalled) = (curve(&scores, &marks), precision_recall(&scores, &marks));
        assert!(
            (100..=403).contains(&roc.len()) && (100..=203).contains(&recalled.len()),
            "{} {}",
            roc.len(),
            recalled.len()
        );
        assert_eq!((roc[0], *roc.last().unwrap(), recalled.last().unwrap().0), ((0.0, 0.0), (1.0, 1.0), 1.0));
        let area: f64 = roc.windows(2).map(|two| (two[1].0 - two[0].0) * (two[0].1 + two[1].1) / 2.0).sum();
        let figures = figures(&scores, &marks).unwrap();
        assert!((area - figures.auroc.unwrap()).abs() < 0.01, "{area} {figures:?}");
        let area: f64 = recalled.windows(2).map(|two| (two[1].0 - two[0].0) * (two[0].1 + two[1].1) / 2.0).sum();
        assert!((area - figures.average_precision.unwrap()).abs() < 0.01, "{area} {figures:?}");
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
