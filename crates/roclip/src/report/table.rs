//! The report's tables: one row an experiment, and what a defence costs.

use crate::report::group::Group;
use crate::report::results::{Hits, ResultRow, RunRecord, Scores};
use crate::report::seeds::{Spread, rates};
use maud::{Markup, html};
use roclip_data::rate::Rate;
use std::collections::{BTreeMap, BTreeSet};

/// Attacks of any run.
pub fn attacks(groups: &[Group]) -> Vec<String> {
    let runs = groups.iter().flat_map(|group| &group.members);
    let names: BTreeSet<String> = runs.flat_map(|run| run.row.last.asr.keys().cloned()).collect();
    names.into_iter().collect()
}

/// Which evaluation of a run a table row shows.
#[derive(Clone, Copy, PartialEq)]
enum Moment<'a> {
    Last,
    AfterLast(&'a str),
}

impl Moment<'_> {
    fn scores<'a>(&self, run: &'a RunRecord) -> Option<&'a Scores> {
        match self {
            Moment::Last => Some(&run.row.last),
            Moment::AfterLast(phase) => run.row.after.get(*phase),
        }
    }
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

/// Mean, and the range over seeds where there are several.
fn mean(values: &[f64]) -> Markup {
    let Some(Spread { mean, low, high }) = Spread::of(values) else { return html! { "–" } };
    html! {
        (percent(mean))
        @if values.len() > 1 { small { (format!("{:.1} – {:.1}", 100.0 * low, 100.0 * high)) } }
    }
}

/// The counts of one run with their Wilson interval, or mean and range of several: seeds share their test images, so that their counts
/// make no larger sample.
fn success(hits: &[Hits]) -> Markup {
    match hits {
        [only] => {
            let rate = Rate::new(only.hits, only.n);
            html! {
                (percent(rate.rate))
                small { (only.hits) "/" (only.n) (format!(" [{:.1}, {:.1}]", 100.0 * rate.low, 100.0 * rate.high)) }
            }
        }
        several => mean(&rates(several)),
    }
}

struct Columns {
    attacks: Vec<String>,
    /// Where the test classes are of about one size, recall averaged over classes says the same as accuracy.
    per_class: bool,
}

/// The table of everything.
pub fn results(groups: &[Group]) -> Markup {
    let runs = || groups.iter().flat_map(|group| group.members.iter().copied());
    let unequal = |scores: &Scores| (scores.mean_per_class_recall - scores.zero_shot_top1).abs() > 0.02;
    let columns = Columns { attacks: attacks(groups), per_class: runs().any(|r| unequal(&r.row.last)) };
    let clean_data = runs().any(|r| r.row.is_control("clean-data"));
    html! {
        h2 { "The table" }
        table {
            tr {
                th { "row" } th { "zero-shot top-1" } th { "top-5" }
                @if columns.per_class { th { "per class" } }
                th { "linear probe" }
                @if columns.per_class { th { "per class" } }
                th { "PSR" }
                @for attack in &columns.attacks { th { "ASR " (attack) } th { "true class, " (attack) } }
                th { "seconds" } th { "peak MiB" }
            }
            @for group in groups {
                (row(group, Moment::Last, &columns))
                @if group.members.iter().any(|r| r.row.after.contains_key("matching")) {
                    @for phase in ["clip", "matching"] { (row(group, Moment::AfterLast(phase), &columns)) }
                }
            }
        }
        p.note {
            "PSR: targeted images read as the attacker's class. ASR: triggered images whose true class is not the target, read as the \
             target; without the trigger: the same images, by chance; turned: of those read otherwise without it, the ones read as the \
             target with it. "
            @if columns.per_class {
                "Per class: recall averaged over classes, the fair measure here, where some have many more test images than others. "
            }
            "One run: counts with the 95 % Wilson interval. Several seeds: the mean with the range over seeds; they share their test \
             images, so that their counts are not added up. Targeted images are left out of the accuracies. "
            @if clean_data {
                "Clean data is measured against the same poison without having been trained on it: what happens by chance."
            }
        }
    }
}

fn row(group: &Group, moment: Moment, columns: &Columns) -> Markup {
    let scores: Vec<&Scores> = group.members.iter().filter_map(|run| moment.scores(run)).collect();
    let of = |value: &dyn Fn(&Scores) -> f64| mean(&scores.iter().map(|s| value(s)).collect::<Vec<_>>());
    let last = moment == Moment::Last;
    let probe = |value: fn(&ResultRow) -> Option<f64>| {
        mean(&group.members.iter().filter(|_| last).filter_map(|run| value(&run.row)).collect::<Vec<_>>())
    };
    let seconds = group.members.iter().map(|r| r.row.seconds).sum::<f64>() / group.members.len().max(1) as f64;
    let memory = group.members.iter().map(|r| r.row.peak_memory_bytes).max().unwrap_or(0) >> 20;
    html! {
        tr {
            td {
                @match moment {
                    Moment::Last => (group.label),
                    Moment::AfterLast(phase) => span.note { "\u{a0}\u{a0}after its last " (phase) " epoch" },
                }
            }
            td { (of(&|s| s.zero_shot_top1)) }
            td { (of(&|s| s.zero_shot_top5)) }
            @if columns.per_class { td { (of(&|s| s.mean_per_class_recall)) } }
            td { (probe(|row| row.linear_probe)) }
            @if columns.per_class { td { (probe(|row| row.linear_probe_mean_per_class_recall)) } }
            td { (success(&scores.iter().filter_map(|s| s.psr).collect::<Vec<_>>())) }
            @for attack in &columns.attacks { (attack_cells(&scores, attack)) }
            @if last { td { (format!("{seconds:.0}")) } td { (memory) } } @else { td {} td {} }
        }
    }
}

fn attack_cells(scores: &[&Scores], attack: &str) -> Markup {
    let count = |of: fn(&Scores) -> &BTreeMap<String, Hits>| -> Vec<Hits> {
        scores.iter().filter_map(|s| of(s).get(attack).copied()).collect()
    };
    let chance = [("without the trigger", count(|s| &s.asr_base_rate)), ("turned", count(|s| &s.asr_turned))];
    let kept: Vec<f64> = scores.iter().filter_map(|s| s.poisoned_accuracy.get(attack).copied()).collect();
    html! {
        td {
            (success(&count(|s| &s.asr)))
            @for (name, hits) in &chance {
                @if let Some(spread) = Spread::of(&rates(hits)) { small { (name) " " (percent(spread.mean)) } }
            }
        }
        td { (mean(&kept)) }
    }
}

fn average(group: &Group, value: impl Fn(&ResultRow) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = group.members.iter().filter_map(|run| value(&run.row)).collect();
    Spread::of(&values).map(|spread| spread.mean)
}

/// What each defence costs against augmentation alone and against no defence.
pub fn cost(groups: &[Group]) -> Markup {
    let defences: Vec<&Group> = groups.iter().filter(|group| group.row().control.is_none()).collect();
    let controls = [
        ("undefended", "undefended CLIP"),
        ("augmentation-only", "augmentation alone"),
        ("clean-data", "CLIP on clean data"),
    ];
    let found = |name: &str| groups.iter().find(|group| group.row().is_control(name));
    let points = |defence: &Group, control: &Group, value: fn(&ResultRow) -> Option<f64>| -> Option<String> {
        Some(format!("{:+.1} points", 100.0 * (average(defence, value)? - average(control, value)?)))
    };
    html! {
        h2 { "What the defence costs" }
        @if defences.is_empty() { p { "No defence among these runs." } }
        @for defence in &defences {
            @for (control, name) in controls {
                @if let Some(other) = found(control) {
                    @if let Some(accuracy) = points(defence, other, |row| Some(row.last.zero_shot_top1)) {
                        p {
                            (defence.label) " against " (name) ": zero-shot " (accuracy)
                            @if let Some(probe) = points(defence, other, |row| row.linear_probe) { ", linear probe " (probe) }
                            "."
                        }
                    }
                }
            }
        }
        @if !defences.is_empty() {
            p.note {
                "Augmentation alone removes some triggers and raises accuracy by itself; stopping it early is a defence of its own. Read \
                 the frontier below before crediting the pool."
            }
        }
    }
}
