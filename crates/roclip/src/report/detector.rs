//! Could poison be found by how little an image resembles its caption? Histograms of that similarity, and the detector's curve.

use crate::report::chart::{Layer, Marker, Series, detectors, histogram};
use crate::report::group::{Group, Study};
use crate::report::statistics::low_score_detector;
use crate::results::{EpochRecord, RunRecord};
use crate::train::SimilarityHistogram;
use maud::{Markup, html};
use std::collections::BTreeSet;

pub fn section(study: &Study) -> Markup {
    let shown: Vec<&Group> = study.groups.iter().filter(|group| is_measured(group)).collect();
    html! {
        p.note {
            "Cosine similarity of training images with their own captions, without augmentation, by the row's own model; first seed. \
             The curve: call the least similar pairs poison. AUC 0.5 is chance, 1 finds all poison first; below 0.5 poison resembles its \
             caption more than clean pairs do, and filtering by similarity keeps it."
        }
        div.charts {
            @for attack in poisons(study) { (roc(study, &attack)) }
            @for group in &shown {
                @if let Some(epoch) = group.first.epochs.last() {
                    (histogram(&format!("{}, last epoch", group.short()), &layers(group.first, &epoch.similarity)))
                }
            }
        }
        details {
            summary { "Earlier epochs" }
            div.charts {
                @for group in &shown {
                    @for (number, epoch) in earlier(&group.first.epochs) {
                        (histogram(&format!("{}, epoch {number}", group.short()), &layers(group.first, &epoch.similarity)))
                    }
                }
            }
        }
    }
}

/// Whether any row has similarities: a run without known poison scores no pairs.
pub fn any(study: &Study) -> bool {
    study.groups.iter().any(is_measured)
}

fn is_measured(group: &Group) -> bool {
    group.first.epochs.last().is_some_and(|epoch| !epoch.similarity.bins.is_empty())
}

/// Attacks that any row was trained on.
fn poisons(study: &Study) -> BTreeSet<String> {
    let names = |epoch: &EpochRecord| epoch.similarity.bins.keys().cloned().collect::<Vec<_>>();
    let mut names: BTreeSet<String> =
        study.groups.iter().flat_map(|g| g.first.epochs.last().map(names)).flatten().collect();
    names.remove("clean");
    names
}

fn roc(study: &Study, attack: &str) -> Markup {
    let curve = |group: &Group| {
        let bins = &group.first.epochs.last()?.similarity.bins;
        let roc = low_score_detector(bins.get("clean")?, bins.get(attack)?)?;
        Some(Series {
            name: format!("{}, AUC {:.2}", group.label, roc.area),
            short: format!("{:.2} {}", roc.area, group.short()),
            class: group.style.class(),
            marker: group.style.marker,
            points: roc.points.iter().map(|(x, y)| (100.0 * x, 100.0 * y)).collect(),
            point_names: Vec::new(),
        })
    };
    let series: Vec<Series> = study.groups.iter().filter_map(curve).collect();
    let title = format!("Found by low similarity: {attack} (AUC)");
    detectors(&title, "clean pairs thrown away, %", &series)
}

/// Some epochs before the last one, of those after which pairs were scored, with their numbers from 1.
fn earlier(epochs: &[EpochRecord]) -> Vec<(usize, &EpochRecord)> {
    let scored: Vec<_> = (1..).zip(epochs).filter(|(_, epoch)| !epoch.similarity.bins.is_empty()).collect();
    let places: BTreeSet<usize> =
        [1, 3, scored.len() / 2].into_iter().filter(|at| (1..scored.len()).contains(at)).collect();
    places.into_iter().filter_map(|at| scored.get(at - 1).copied()).collect()
}

fn layers(run: &RunRecord, similarity: &SimilarityHistogram) -> Vec<Layer> {
    let mut layers: Vec<Layer> = similarity
        .bins
        .iter()
        .map(|(name, bins)| Layer { name: name.clone(), class: kind_class(run, name).to_owned(), bins: bins.clone() })
        .collect();
    // What is filled lies below the outlines.
    layers.sort_by_key(|layer| layer.class != "kind-clean");
    layers
}

/// The CSS class of a kind of pairs or images.
pub fn kind_class(run: &RunRecord, kind: &str) -> &'static str {
    match kind {
        "clean" => "kind-clean",
        _ if run.row.last.asr.contains_key(kind) => "kind-trigger",
        _ => "kind-target",
    }
}

/// The marker of a kind of images.
pub fn kind_marker(run: &RunRecord, kind: &str) -> Marker {
    match kind_class(run, kind) {
        "kind-clean" => Marker::Circle,
        "kind-trigger" => Marker::Cross,
        _ => Marker::Triangle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn earlier_histograms_are_of_epochs_whose_pairs_were_scored() {
        let epochs = |count: usize, every: usize| -> Vec<EpochRecord> {
            let similarity = |number: usize| match number.is_multiple_of(every) {
                true => SimilarityHistogram::new(&BTreeMap::from([("clean".into(), vec![0.5])])),
                false => SimilarityHistogram::default(),
            };
            let epoch = |number| EpochRecord {
                phase: String::new(),
                loss: 1.0,
                passes: Vec::new(),
                scores: None,
                matches: None,
                split: None,
                similarity: similarity(number),
            };
            (1..=count).map(epoch).collect()
        };
        let numbers = |all: &[EpochRecord]| earlier(all).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(numbers(&epochs(24, 1)), [1, 3, 12]);
        assert_eq!(numbers(&epochs(24, 3)), [3, 9, 12]);
        assert_eq!(numbers(&epochs(2, 1)), [1]);
        assert!(numbers(&epochs(1, 1)).is_empty() && numbers(&epochs(24, 30)).is_empty());
    }
}
