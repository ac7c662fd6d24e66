//! How the rows came about: curves over epochs, the frontier, and what images were matched with.

use crate::report::chart::{Axis, LineChart, Series};
use crate::report::group::{Group, Study, attacks, capitalised};
use crate::results::{EpochRecord, Scores};
use crate::train::NeighbourShares;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// One line an experiment, of its first seed.
fn series(groups: &[Group], value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<Series> {
    let lines = groups.iter().map(|group| {
        let epochs = group.first.epochs.iter().zip(1..);
        let points = epochs.filter_map(|(epoch, n)| Some((f64::from(n), value(epoch)?))).collect();
        Series {
            name: group.label.to_owned(),
            short: group.short(),
            class: group.style.class(),
            marker: group.style.marker,
            points,
            point_names: Vec::new(),
        }
    });
    lines.filter(|series: &Series| !series.points.is_empty()).collect()
}

fn psr(scores: &Scores) -> Option<f64> {
    Some(100.0 * scores.psr?.rate()?)
}

/// The longest run's epochs.
fn epochs(groups: &[Group]) -> Axis {
    Axis::whole(1.0, groups.iter().map(|group| group.first.epochs.len()).max().unwrap_or(1) as f64)
}

fn highest(series: &[Series]) -> f64 {
    series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(1e-9, f64::max)
}

pub fn section(study: &Study) -> Markup {
    let groups = &study.groups;
    let matching = |group: &Group| -> Vec<u32> {
        let epochs = group.first.epochs.iter().zip(1..);
        epochs.filter(|(epoch, _)| epoch.phase == "matching").map(|(_, number)| number).collect()
    };
    let bands: BTreeSet<u32> = groups.iter().flat_map(matching).collect();
    let bands: Vec<f64> = bands.into_iter().map(f64::from).collect();
    let draw = |title: &str, y_label: &str, whole: bool, lines: Vec<Series>| {
        if lines.is_empty() {
            return html! {};
        }
        let y = Axis::over(0.0, if whole { 100.0 } else { highest(&lines) });
        let (x, x_label) = (epochs(groups), "epoch");
        LineChart { title, x_label, y_label, series: &lines, x, y, bands: &bands, path: false, diagonal: false }.draw()
    };
    let accuracy_title = match study.accuracy_word() {
        "zero-shot" => "Zero-shot top-1".to_owned(),
        word => capitalised(word),
    };
    let accuracy = |epoch: &EpochRecord| Some(100.0 * epoch.scores.as_ref()?.zero_shot_top1?);
    html! {
        p.note {
            "First seed. Lines that coincide are drawn a hair apart. " @if !bands.is_empty() { "Shaded: matching epochs of a defended run." }
        }
        div.charts {
            (draw("Training loss", "loss", false, series(groups, |epoch| Some(epoch.loss))))
            (draw(&accuracy_title, "%", false, series(groups, accuracy)))
            (draw("Targets fooled (PSR)", "%", true, series(groups, |epoch| psr(epoch.scores.as_ref()?))))
            @for attack in attacks(groups) {
                (draw(
                    &format!("Trigger success (ASR {attack})"),
                    "%",
                    true,
                    series(groups, |epoch| Some(100.0 * epoch.scores.as_ref()?.asr.get(&attack)?.rate()?)),
                ))
            }
        }
    }
}

/// What an attack achieves at each accuracy that training passes through; none where nothing is attacked.
pub fn frontier(study: &Study) -> Option<Markup> {
    let line = |group: &Group, value: &dyn Fn(&Scores) -> Option<f64>| {
        let scored =
            group.first.epochs.iter().zip(1..).filter_map(|(epoch, number)| Some((epoch.scores.as_ref()?, number)));
        let placed: Vec<((f64, f64), i32)> = scored
            .filter_map(|(scores, number)| Some(((100.0 * scores.zero_shot_top1?, value(scores)?), number)))
            .collect();
        Series {
            name: format!("{}, seed {}", group.label, group.row().seed),
            short: group.short(),
            class: group.style.class(),
            marker: group.style.marker,
            points: placed.iter().map(|(point, _)| *point).collect(),
            point_names: placed.iter().map(|(_, number)| number.to_string()).collect(),
        }
    };
    let x_label = match study.accuracy_word() {
        "zero-shot" => "zero-shot top-1, %".to_owned(),
        word => format!("{word}, %"),
    };
    let draw = |title: &str, y_label: &str, value: &dyn Fn(&Scores) -> Option<f64>| {
        let series: Vec<Series> =
            study.groups.iter().map(|group| line(group, value)).filter(|s| !s.points.is_empty()).collect();
        let furthest = series.iter().flat_map(|series| &series.points).map(|point| point.0).fold(1e-9, f64::max);
        if series.is_empty() {
            return None;
        }
        let chart = LineChart {
            title,
            x_label: &x_label,
            y_label,
            series: &series,
            x: Axis::over(0.0, furthest),
            y: Axis::over(0.0, 100.0),
            bands: &[],
            path: true,
            diagonal: false,
        };
        Some(chart.draw())
    };
    let mut charts: Vec<Markup> = draw("PSR against accuracy", "PSR, %", &psr).into_iter().collect();
    for attack in attacks(&study.groups) {
        let asr = |scores: &Scores| Some(100.0 * scores.asr.get(&attack)?.rate()?);
        charts.extend(draw(&format!("ASR {attack} against accuracy"), "ASR, %", &asr));
    }
    if charts.is_empty() {
        return None;
    }
    Some(html! {
        p.note {
            "Lower right is better. Numbers are epochs, arrows run with time, the large mark is the last epoch; first seed. A defence earns \
             credit only where its line lies below that of augmentation alone: otherwise stopping augmentation-only training early would \
             have done as well."
        }
        div.charts { @for chart in charts { (chart) } }
    })
}

/// What matching found in the pool, over epochs; empty where no row matches.
pub fn neighbours(study: &Study) -> Markup {
    let matching: Vec<&Group> =
        study.groups.iter().filter(|group| group.first.epochs.iter().any(|epoch| epoch.matches.is_some())).collect();
    html! { @for group in matching { (neighbours_of(group)) } }
}

fn neighbours_of(group: &Group) -> Markup {
    type Share = fn(&NeighbourShares) -> f64;
    let shares: [(&str, Share); 4] = [
        ("its true concept", |shares| shares.true_concept),
        ("the attacker's class", |shares| shares.adversarial),
        ("its own caption", |shares| shares.own_caption),
        ("a poisoned caption", |shares| shares.poisoned_caption),
    ];
    let mut kinds: BTreeMap<&str, Vec<(f64, &NeighbourShares)>> = BTreeMap::new();
    for (epoch, number) in group.first.epochs.iter().zip(1..) {
        let Some(summary) = &epoch.matches else { continue };
        kinds.entry("clean").or_default().push((f64::from(number), &summary.clean));
        for (name, shares) in &summary.poisoned {
            kinds.entry(name).or_default().push((f64::from(number), shares));
        }
    }
    let draw = |title: &str, share: Share, clean: bool| {
        let lines = kinds.iter().filter(|(kind, _)| clean || **kind != "clean").zip(0usize..);
        let series: Vec<Series> = lines
            .map(|((kind, points), number)| Series {
                name: (*kind).to_owned(),
                short: (*kind).to_owned(),
                class: format!("{} dash-{}", super::detector::kind_class(group.first, kind), number % 6),
                marker: super::detector::kind_marker(group.first, kind),
                points: points.iter().map(|(epoch, shares)| (*epoch, 100.0 * share(shares))).collect(),
                point_names: Vec::new(),
            })
            .collect();
        if series.is_empty() {
            return html! {};
        }
        let (x, y) = (epochs(std::slice::from_ref(group)), Axis::over(0.0, highest(&series).max(1.0)));
        LineChart {
            title,
            x_label: "epoch",
            y_label: "%",
            series: &series,
            x,
            y,
            bands: &[],
            path: false,
            diagonal: false,
        }
        .draw()
    };
    html! {
        p.note {
            (group.label) ", seed " (group.row().seed) ": share of pool neighbours, by what their captions speak of. Images that meet their true \
             concept learn it again; poisoned ones that meet the attacker's class go on learning the attack."
        }
        div.charts {
            @for (what, share) in shares {
                (draw(&format!("Matched with {what}"), share, what != "the attacker's class"))
            }
        }
    }
}
