//! The report's sections below its tables: curves, neighbours, histograms and pictures.

use crate::report::chart::{Chart, Series, histogram};
use crate::report::group::{Group, legend};
use crate::report::results::{EpochRecord, RunRecord, Scores};
use crate::report::table::attacks;
use crate::run::{Figure, Gallery};
use maud::{Markup, PreEscaped, html};
use std::collections::BTreeSet;

/// One line an experiment, of its first seed.
fn series(groups: &[Group], value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<Series> {
    let lines = groups.iter().map(|group| {
        let epochs = group.first.epochs.iter().zip(1..);
        let points = epochs.filter_map(|(epoch, n)| Some((f64::from(n), value(epoch)?))).collect();
        Series { name: group.label.to_owned(), class: group.colour.clone(), points }
    });
    lines.filter(|s: &Series| !s.points.is_empty()).collect()
}

fn psr(scores: &Scores) -> Option<f64> {
    scores.psr.map(|hits| 100.0 * hits.rate())
}

pub fn curves(groups: &[Group]) -> Markup {
    let epochs = groups.iter().flat_map(|group| &group.members).flat_map(|run| run.epochs.iter().zip(1..));
    let matching: BTreeSet<u32> = epochs.filter(|(epoch, _)| epoch.phase == "matching").map(|(_, n)| n).collect();
    let bands: Vec<f64> = matching.into_iter().map(f64::from).collect();
    let draw = |title: &str, y_label: &str, y_max: Option<f64>, lines: Vec<Series>| {
        PreEscaped(Chart { title, x_label: "epoch", y_label, series: &lines, y_max, bands: &bands, dots: false }.svg())
    };
    let accuracy = |epoch: &EpochRecord| Some(100.0 * epoch.scores.as_ref()?.zero_shot_top1);
    html! {
        h2 { "Curves" }
        p.note { "First seed. Shaded: matching epochs of the defended run." }
        (legend(groups))
        div.grid2 {
            (draw("Training loss", "loss", None, series(groups, |e| Some(e.loss))))
            (draw("Zero-shot top-1", "%", None, series(groups, accuracy)))
            (draw("Poisoned targets fooled (PSR)", "%", Some(100.0), series(groups, |e| psr(e.scores.as_ref()?))))
            @for attack in attacks(groups) {
                (draw(
                    &format!("Backdoor success (ASR {attack})"),
                    "%",
                    Some(100.0),
                    series(groups, |e| e.scores.as_ref()?.asr.get(&attack).map(|hits| 100.0 * hits.rate())),
                ))
            }
        }
    }
}

pub fn frontier(groups: &[Group]) -> Markup {
    let line = |group: &Group, run: &RunRecord| {
        let scores = run.epochs.iter().filter_map(|epoch| epoch.scores.as_ref());
        Series {
            name: format!("{}, seed {}", group.label, run.row.seed),
            class: group.colour.clone(),
            points: scores.filter_map(|s| Some((100.0 * s.zero_shot_top1, psr(s)?))).collect(),
        }
    };
    let lines: Vec<Series> = groups
        .iter()
        .flat_map(|group| group.members.iter().map(move |run| line(group, run)))
        .filter(|series| !series.points.is_empty())
        .collect();
    let chart = Chart {
        title: "PSR against zero-shot, every epoch, every seed",
        x_label: "zero-shot top-1, %",
        y_label: "PSR, %",
        series: &lines,
        y_max: Some(100.0),
        bands: &[],
        dots: true,
    };
    html! {
        h2 { "The frontier" }
        (legend(groups))
        p.note {
            "Lower right is better. The large dot is the last epoch. A defence earns credit only where its line lies below that of \
             augmentation alone: otherwise stopping augmentation-only training early would have done as well."
        }
        (PreEscaped(chart.svg().replacen("<svg", "<svg class=\"wide\"", 1)))
    }
}

pub fn neighbours(runs: &[RunRecord]) -> Markup {
    let Some(run) = runs.iter().find(|r| r.epochs.iter().any(|e| e.matches.is_some())) else { return html! {} };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    html! {
        h2 { "What images were matched with" }
        p.note {
            (run.row.label) ", seed " (run.row.seed) ": share of pool neighbours whose caption speaks of the image's true concept, of the \
             attacker's, or is the pair's own."
        }
        table {
            tr {
                th { "epoch" } th { "pairs" } th { "true concept" } th { "adversarial" } th { "own caption" }
                th { "a poisoned caption" } th { "similarity" }
            }
            @for (epoch, number) in run.epochs.iter().zip(1..) {
                @if let Some(summary) = &epoch.matches {
                    @for (name, shares) in
                        std::iter::once(("clean", &summary.clean)).chain(summary.poisoned.iter().map(|(n, s)| (n.as_str(), s)))
                    {
                        tr {
                            td { (number) }
                            td { (shares.matched) " × " (name) }
                            td { (percent(shares.true_concept)) }
                            td { @if name == "clean" { "–" } @else { (percent(shares.adversarial)) } }
                            td { (percent(shares.own_caption)) }
                            td { (percent(shares.poisoned_caption)) }
                            td { (format!("{:.2}", summary.mean_similarity)) }
                        }
                    }
                }
            }
        }
    }
}

pub fn histograms(groups: &[Group]) -> Markup {
    html! {
        h2 { "Similarity of images with their own captions" }
        p.note {
            "Cosine, without augmentation; first seed. " span.key.c1 {} "clean pairs " span.key.c0 {} "targeted poison " span.key.c3 {}
            "backdoored pairs"
        }
        @for group in groups {
            p { (group.label) }
            div.wrap {
                @for number in shown(group.first.epochs.len()) {
                    @if let Some(epoch) = group.first.epochs.get(number - 1) {
                        (PreEscaped(histogram(&format!("epoch {number}"), &bars(group.first, epoch))))
                    }
                }
            }
        }
    }
}

/// Epochs, from 1, whose histograms are shown of `count`.
fn shown(count: usize) -> BTreeSet<usize> {
    [1, 3, count / 2, count].into_iter().filter(|n| (1..=count).contains(n)).collect()
}

fn bars(run: &RunRecord, epoch: &EpochRecord) -> Vec<(String, String, Vec<u32>)> {
    let class = |name: &String| match name.as_str() {
        "clean" => "c1",
        _ if run.row.last.asr.contains_key(name) => "c3",
        _ => "c0",
    };
    epoch.similarity.bins.iter().map(|(name, bins)| (name.clone(), class(name).to_owned(), bins.clone())).collect()
}

pub fn matches(runs: &[RunRecord], gallery: &Gallery) -> Markup {
    let last =
        runs.iter().find_map(|r| r.epochs.iter().zip(1..).filter_map(|(e, n)| Some((n, e.matches.as_ref()?))).last());
    let Some((epoch, summary)) = last else { return html! {} };
    html! {
        h2 { "What targeted images met in the pool" }
        p.note { "Matching epoch " (epoch) ", one pair for each target." }
        table.left {
            tr { th {} th { "is → should become" } th { "matched caption" } th { "similarity" } }
            @for example in &summary.examples {
                @if let Some(figure) = gallery.targets.get(&example.image) {
                    tr {
                        td { img alt="" src=(figure.picture); }
                        td { (figure.caption) }
                        td { (example.matched_caption) }
                        td { (format!("{:.2}", example.similarity)) }
                    }
                }
            }
        }
    }
}

pub fn pictures(gallery: &Gallery) -> Markup {
    let figure = |figure: &Figure| {
        html! { figure { img alt="" src=(figure.picture); figcaption { (figure.caption) } } }
    };
    html! {
        @for (title, sets) in [("Poisoned pairs", &gallery.pairs), ("Triggered tests", &gallery.triggered)] {
            @if !sets.is_empty() { h2 { (title) } }
            @for (attack, list) in sets {
                p.note { (attack) }
                div.wrap { @for one in list { (figure(one)) } }
            }
        }
    }
}
