//! Rows over their seeds: means with ranges, and pooled counts with Wilson intervals.

use crate::report::results::{Hits, ResultRow, Scores};
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A mean with its extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Option<Spread> {
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        (!values.is_empty()).then(|| Spread { mean: values.iter().sum::<f64>() / values.len() as f64, low, high })
    }
}

/// All seeds of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedSummary {
    pub label: String,
    pub seeds: Vec<u64>,
    pub zero_shot_top1: Option<Spread>,
    pub zero_shot_top5: Option<Spread>,
    /// Mean per-class recall of the zero-shot classifier.
    pub per_class: Option<Spread>,
    pub linear_probe: Option<Spread>,
    pub linear_probe_per_class: Option<Spread>,
    /// Over the targets of all seeds.
    pub psr: Option<Rate>,
    /// Over the test images of all seeds, by attack.
    pub asr: BTreeMap<String, Rate>,
    /// The worst seed's rate, by attack.
    pub asr_range: BTreeMap<String, Spread>,
    /// The same images without the trigger, over all seeds, by attack.
    pub asr_base_rate: BTreeMap<String, Rate>,
    /// Those that the trigger turned, over all seeds, by attack.
    pub asr_turned: BTreeMap<String, Rate>,
}

/// One summary a row, in the order of the rows.
pub fn over_seeds(rows: &[ResultRow]) -> Vec<SeedSummary> {
    by_label(rows, ResultRow::label).into_iter().map(|(label, rows)| summary(label, &rows)).collect()
}

/// Members under each label, in the order of first appearance.
pub fn by_label<T>(items: &[T], label: impl Fn(&T) -> String) -> Vec<(String, Vec<&T>)> {
    let mut groups: Vec<(String, Vec<&T>)> = Vec::new();
    for item in items {
        let own = label(item);
        match groups.iter_mut().find(|(label, _)| *label == own) {
            Some((_, members)) => members.push(item),
            None => groups.push((own, vec![item])),
        }
    }
    groups
}

/// Counts of several seeds as one rate; none without counts.
pub fn pool(hits: &[Hits]) -> Option<Rate> {
    let rate = || Rate::new(hits.iter().map(|h| h.hits).sum(), hits.iter().map(|h| h.n).sum());
    (!hits.is_empty()).then(rate)
}

fn summary(label: String, rows: &[&ResultRow]) -> SeedSummary {
    let spread = |value: &dyn Fn(&ResultRow) -> f64| Spread::of(&rows.iter().map(|r| value(r)).collect::<Vec<_>>());
    let targets: Vec<Hits> = rows.iter().filter_map(|r| r.last.psr).collect();
    let asr = by_attack(rows, |scores| &scores.asr);
    let rates = |hits: &[Hits]| hits.iter().map(|h| h.hits as f64 / h.n.max(1) as f64).collect::<Vec<_>>();
    let probe =
        |value: fn(&ResultRow) -> Option<f64>| Spread::of(&rows.iter().filter_map(|r| value(r)).collect::<Vec<_>>());
    SeedSummary {
        label,
        seeds: rows.iter().map(|r| r.seed).collect(),
        zero_shot_top1: spread(&|r| r.last.zero_shot_top1),
        zero_shot_top5: spread(&|r| r.last.zero_shot_top5),
        per_class: spread(&|r| r.last.mean_per_class_recall),
        linear_probe: probe(|r| r.linear_probe),
        linear_probe_per_class: probe(|r| r.linear_probe_mean_per_class_recall),
        psr: pool(&targets),
        asr_range: asr.iter().filter_map(|(a, hits)| Some((a.clone(), Spread::of(&rates(hits))?))).collect(),
        asr: pooled(asr),
        asr_base_rate: pooled(by_attack(rows, |scores| &scores.asr_base_rate)),
        asr_turned: pooled(by_attack(rows, |scores| &scores.asr_turned)),
    }
}

fn by_attack(rows: &[&ResultRow], counts: fn(&Scores) -> &BTreeMap<String, Hits>) -> BTreeMap<String, Vec<Hits>> {
    let mut all: BTreeMap<String, Vec<Hits>> = BTreeMap::new();
    for (attack, hits) in rows.iter().flat_map(|row| counts(&row.last)) {
        all.entry(attack.clone()).or_default().push(*hits);
    }
    all
}

fn pooled(by_attack: BTreeMap<String, Vec<Hits>>) -> BTreeMap<String, Rate> {
    by_attack.into_iter().filter_map(|(attack, hits)| Some((attack, pool(&hits)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_a_row_are_pooled_and_rows_are_not() {
        let row = |control: Option<&str>, seed: u64, top1: f64, hits: usize| ResultRow {
            objective: "clip".into(),
            control: control.map(str::to_owned),
            seed,
            pairs_per_picture: None,
            linear_probe: Some(top1),
            linear_probe_mean_per_class_recall: Some(top1),
            last: Scores {
                epoch: 1,
                zero_shot_top1: top1,
                zero_shot_top5: top1,
                mean_per_class_recall: top1,
                psr: Some(Hits { hits, n: 16 }),
                asr: BTreeMap::from([("badnets".to_owned(), Hits { hits: 10 * hits, n: 100 })]),
                asr_base_rate: BTreeMap::from([("badnets".to_owned(), Hits { hits: 3, n: 100 })]),
                asr_turned: BTreeMap::new(),
                poisoned_accuracy: BTreeMap::new(),
            },
            after: BTreeMap::new(),
            seconds: 0.0,
            peak_memory_bytes: 0,
        };
        let rows = [row(Some("undefended"), 0, 0.2, 4), row(Some("undefended"), 1, 0.4, 8), row(None, 0, 0.5, 1)];
        let [undefended, defended] = over_seeds(&rows).try_into().unwrap();
        assert_eq!(undefended.seeds, [0, 1]);
        let top1 = undefended.zero_shot_top1.unwrap();
        assert!((top1.mean - 0.3).abs() < 1e-12 && (top1.low, top1.high) == (0.2, 0.4));
        assert_eq!(undefended.psr.map(|p| (p.hits, p.n)), Some((12, 32)));
        assert_eq!(undefended.asr["badnets"].hits, 120);
        assert_eq!(undefended.asr_range["badnets"].high, 0.8);
        assert_eq!((undefended.asr_base_rate["badnets"].hits, undefended.asr_base_rate["badnets"].n), (6, 200));
        assert!(undefended.asr_turned.is_empty(), "an old run has no such count");
        assert_eq!(defended.seeds, [0]);
        let [first, second, _] = rows;
        let limited = ResultRow { pairs_per_picture: Some(1), ..second };
        assert_eq!(over_seeds(&[first, limited]).len(), 2, "a row with fewer pairs a picture is a row of its own");
    }
}
