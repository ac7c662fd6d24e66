//! Experiments over their seeds: means with ranges. The seeds share their test images, so their counts are not independent trials, and
//! no interval is made of their sum.

use crate::results::record::{Hits, ResultRow, Scores};
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

/// All seeds of one experiment. Rates are fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedSummary {
    pub label: String,
    /// Of the data that the runs were measured on, as their rows have it.
    pub data: String,
    pub seeds: Vec<u64>,
    pub zero_shot_top1: Option<Spread>,
    pub zero_shot_top5: Option<Spread>,
    /// Mean per-class recall of the zero-shot classifier.
    pub per_class: Option<Spread>,
    /// Of learned prompts, on the classes that they were not learned on.
    pub accuracy_unseen: Option<Spread>,
    pub linear_probe: Option<Spread>,
    pub linear_probe_per_class: Option<Spread>,
    pub psr: Option<Spread>,
    /// By attack.
    pub asr: BTreeMap<String, Spread>,
    /// The same images without the trigger, by attack.
    pub asr_base_rate: BTreeMap<String, Spread>,
    /// Those that the trigger turned, by attack.
    pub asr_turned: BTreeMap<String, Spread>,
}

/// One summary an experiment, in the order of the rows.
pub fn over_seeds(rows: &[ResultRow]) -> Vec<SeedSummary> {
    by_experiment(rows, |row| row).into_iter().map(|rows| summary(&rows)).collect()
}

/// Members of each experiment under each name that were measured on the same data, in the order of first appearance; none is empty.
pub fn by_experiment<T>(items: &[T], row: impl Fn(&T) -> &ResultRow) -> Vec<Vec<&T>> {
    let mut groups: Vec<([&str; 3], Vec<&T>)> = Vec::new();
    for item in items {
        // Pictures may have been replaced under the names that a recipe has for them.
        let row = row(item);
        let own = [&row.name, &row.experiment, &row.data].map(String::as_str);
        match groups.iter_mut().find(|(experiment, _)| *experiment == own) {
            Some((_, members)) => members.push(item),
            None => groups.push((own, vec![item])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// The rates of counts, one a seed.
pub fn rates(hits: &[Hits]) -> Vec<f64> {
    hits.iter().filter_map(|hits| hits.rate()).collect()
}

fn summary(rows: &[&ResultRow]) -> SeedSummary {
    let spread =
        |value: fn(&Scores) -> Option<f64>| Spread::of(&rows.iter().filter_map(|r| value(&r.last)).collect::<Vec<_>>());
    let probe =
        |value: fn(&ResultRow) -> Option<f64>| Spread::of(&rows.iter().filter_map(|r| value(r)).collect::<Vec<_>>());
    SeedSummary {
        label: rows.first().map(|row| row.label.clone()).unwrap_or_default(),
        data: rows.first().map(|row| row.data.clone()).unwrap_or_default(),
        seeds: rows.iter().map(|r| r.seed).collect(),
        zero_shot_top1: spread(|scores| scores.zero_shot_top1),
        zero_shot_top5: spread(|scores| scores.zero_shot_top5),
        per_class: spread(|scores| scores.mean_per_class_recall),
        accuracy_unseen: probe(|r| r.accuracy_unseen),
        linear_probe: probe(|r| r.linear_probe),
        linear_probe_per_class: probe(|r| r.linear_probe_mean_per_class_recall),
        psr: Spread::of(&rates(&rows.iter().filter_map(|r| r.last.psr).collect::<Vec<_>>())),
        asr: by_attack(rows, |scores| &scores.asr),
        asr_base_rate: by_attack(rows, |scores| &scores.asr_base_rate),
        asr_turned: by_attack(rows, |scores| &scores.asr_turned),
    }
}

fn by_attack(rows: &[&ResultRow], counts: fn(&Scores) -> &BTreeMap<String, Hits>) -> BTreeMap<String, Spread> {
    let mut all: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
    for (attack, hits) in rows.iter().flat_map(|row| counts(&row.last)) {
        all.entry(attack).or_default().extend(hits.rate());
    }
    all.into_iter().filter_map(|(attack, rates)| Some((attack.clone(), Spread::of(&rates)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_an_experiment_are_ranged_over_and_experiments_are_kept_apart() {
        let row = |experiment: &str, seed: u64, top1: f64, hits: usize| ResultRow {
            run: "run".into(),
            objective: "clip".into(),
            label: format!("label of {experiment}"),
            name: "CLIP".into(),
            settings: BTreeMap::new(),
            data: String::new(),
            experiment: experiment.into(),
            control: None,
            seed,
            pairs: 100,
            poisoned_pairs: 3,
            pairs_per_picture: None,
            accuracy_unseen: None,
            linear_probe: Some(top1),
            linear_probe_mean_per_class_recall: Some(top1),
            last: Scores {
                epoch: 1,
                zero_shot_images: 10,
                zero_shot_top1: Some(top1),
                zero_shot_top5: Some(top1),
                mean_per_class_recall: Some(top1),
                psr: Some(Hits { hits, n: 16 }),
                asr: BTreeMap::from([("badnets".to_owned(), Hits { hits: 10 * hits, n: 100 })]),
                asr_base_rate: BTreeMap::from([("badnets".to_owned(), Hits { hits: 3, n: 100 })]),
                asr_turned: BTreeMap::new(),
                poisoned_accuracy: BTreeMap::new(),
            },
            after: BTreeMap::new(),
            inheritance: BTreeMap::new(),
            seconds: 0.0,
            peak_memory_bytes: 0,
        };
        let rows = [row("a", 0, 0.2, 4), row("b", 0, 0.5, 1), row("a", 1, 0.4, 8)];
        let [first, second] = over_seeds(&rows).try_into().unwrap();
        assert_eq!((first.label.as_str(), first.seeds.as_slice()), ("label of a", [0, 1].as_slice()));
        let top1 = first.zero_shot_top1.unwrap();
        assert!((top1.mean - 0.3).abs() < 1e-12 && (top1.low, top1.high) == (0.2, 0.4));
        assert_eq!(first.psr, Some(Spread { mean: 0.375, low: 0.25, high: 0.5 }));
        assert_eq!((first.asr["badnets"].low, first.asr["badnets"].high), (0.4, 0.8));
        assert_eq!(first.asr_base_rate["badnets"].mean, 0.03);
        assert!(first.asr_turned.is_empty(), "an old run has no such count");
        assert_eq!(second.seeds, [0]);
        let elsewhere = ResultRow { data: "other pictures".into(), ..row("a", 1, 0.4, 8) };
        let apart = over_seeds(&[row("a", 0, 0.2, 4), elsewhere]);
        assert_eq!(apart.iter().map(|summary| summary.seeds.as_slice()).collect::<Vec<_>>(), [&[0][..], &[1]]);
    }
}
