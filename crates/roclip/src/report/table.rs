//! The report's tables: one row an experiment. The short one is the result; the long one, folded, is all that was measured.

use crate::clean::moved_percent;
use crate::report::group::{Group, Study, accuracy_unseen, asr, attacks, psr, zero_shot};
use crate::report::verdict::{PSR, Verdict};
use crate::results::{ResultRow, RunRecord, Scores};
use maud::{Markup, html};
use roclip_data::rate::Rate;
use std::collections::{BTreeMap, BTreeSet};

pub fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

/// A wide table in a box of its own, which scrolls where the page is narrow.
pub fn scrolling(table: Markup) -> Markup {
    html! { div.scroll tabindex="0" { (table) } }
}

/// Counts and Wilson interval of one run, or mean and range of several: seeds share their test images, so that their counts make no
/// larger sample.
fn rates(rates: &[Rate]) -> Markup {
    let low = rates.iter().map(|rate| rate.rate).fold(f64::INFINITY, f64::min);
    let high = rates.iter().map(|rate| rate.rate).fold(f64::NEG_INFINITY, f64::max);
    match rates {
        [] => html! { "–" },
        [one] => html! {
            (percent(one.rate))
            small { (one.hits) "/" (one.n) (format!(" [{:.1}, {:.1}]", 100.0 * one.low, 100.0 * one.high)) }
        },
        several => html! {
            (percent(several.iter().map(|rate| rate.rate).sum::<f64>() / several.len() as f64))
            small { (format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)) }
        },
    }
}

fn means(values: &[f64]) -> Markup {
    if values.is_empty() {
        html! { "–" }
    } else {
        html! { (percent(values.iter().sum::<f64>() / values.len() as f64)) }
    }
}

fn of_members<T>(group: &Group, value: impl Fn(&RunRecord) -> Option<T>) -> Vec<T> {
    group.members.iter().filter_map(|run| value(run)).collect()
}

/// The result.
pub fn results(study: &Study, verdicts: &[Verdict]) -> Markup {
    let (groups, attacks) = (&study.groups, attacks(&study.groups));
    let settings = study.keys();
    let has_psr = study.runs().any(|run| run.row.last.psr.is_some());
    let has_probe = study.runs().any(|run| run.summary.linear_probe.is_some());
    let has_unseen = study.runs().any(|run| accuracy_unseen(run).is_some());
    let grey = |verdict: &Verdict, name: &str| verdict.grey.contains(name);
    // What all rows were trained on stands in the page's first line.
    let trained_on = study.runs().map(|run| (run.row.pairs, run.row.poisoned_pairs)).collect::<BTreeSet<_>>();
    let differ = trained_on.len() > 1;
    let of_what = if study.runs().all(|run| run.recipe.is_labelled()) { "pictures" } else { "pairs" };
    scrolling(html! {
        table {
            thead {
                tr {
                    th { "row" }
                    @for (_, short) in &settings { th { (short) } }
                    @if differ { th { (of_what) } th { "poisoned" } }
                    @if has_psr { th { "PSR" } }
                    @for attack in &attacks { th { "ASR" small { (attack) } } }
                    th { (study.accuracy_word()) }
                    @if has_unseen { th { "accuracy, unseen classes" } }
                    @if has_probe { th { "probe" } }
                    th { "seeds" } th { "training + evaluation" } th { "peak memory" }
                }
            }
            tbody {
                @for (group, verdict) in groups.iter().zip(verdicts) {
                    tr {
                        th { (group.key()) " " (group.row().name) }
                        @for (key, _) in &settings { td { (group.row().settings.get(key).map_or("", String::as_str)) } }
                        @if differ { td { (counts(group, |run| run.row.pairs)) } td { (counts(group, |run| run.row.poisoned_pairs)) } }
                        @if has_psr { td.grey[grey(verdict, PSR)] { (rates(&of_members(group, psr))) } }
                        @for attack in &attacks {
                            td.grey[grey(verdict, attack)] { (rates(&of_members(group, asr(attack)))) }
                        }
                        td { (rates(&of_members(group, zero_shot))) }
                        @if has_unseen { td { (rates(&of_members(group, accuracy_unseen))) } }
                        @if has_probe { td { (rates(&of_members(group, |run| Some(run.summary.linear_probe?.top1)))) } }
                        td { (seeds(group)) }
                        td { (duration(group.mean(|run| Some(run.row.seconds)).unwrap_or(0.0))) }
                        td { (group.members.iter().map(|run| run.row.peak_memory_bytes).max().unwrap_or(0) >> 20) " MiB" }
                    }
                }
            }
        }
    })
}

/// Of each run the same count, or the least and the most of them.
fn counts(group: &Group, value: impl Fn(&RunRecord) -> usize) -> String {
    let all: BTreeSet<usize> = group.members.iter().map(|run| value(run)).collect();
    match (all.first(), all.last()) {
        (Some(low), Some(high)) if low != high => format!("{low} to {high}"),
        (Some(one), _) => one.to_string(),
        _ => String::new(),
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 600.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn seeds(group: &Group) -> String {
    group.members.iter().map(|run| run.row.seed.to_string()).collect::<Vec<_>>().join(", ")
}

/// Everything that was measured, folded.
pub fn details(study: &Study) -> Markup {
    let attacks = attacks(&study.groups);
    let cleaned = study.runs().any(|run| run.summary.weights_moved.is_some());
    let phases = |group: &Group| -> BTreeSet<String> {
        let phases = group.members.iter().flat_map(|run| run.row.after.keys().cloned()).collect::<BTreeSet<_>>();
        if phases.len() > 1 { phases } else { BTreeSet::new() }
    };
    html! {
        details {
            summary { "Everything that was measured" }
            p.note {
                "Per class: recall averaged over classes, the fair measure where some classes have many more test images than others. \
                 Without the trigger: the images of the ASR read as the target anyway. Turned: of those read otherwise without the \
                 trigger, the ones read as the target with it. True class: triggered images read as what they are. Rows of a phase are \
                 of its last epoch: an objective with two kinds of epoch is fooled differently after each."
                @if cleaned { " Moved: how far a cleaning moved the weights, by the length of the victim's; below 0.1 % it did next to nothing." }
            }
            (scrolling(html! {
                table {
                    thead {
                        tr {
                            th { "row" } th { "epoch" } th { "top-1" } th { "top-5" } th { "per class" } th { "probe, per class" }
                            @if cleaned { th { "moved" } }
                            th { "PSR" }
                            @for attack in &attacks {
                                th { "ASR" small { (attack) } } th { "without the trigger" } th { "turned" } th { "true class" }
                            }
                        }
                    }
                    tbody {
                        @for group in &study.groups {
                            (detail_row(group, group.label, &attacks, &|row| Some(&row.last), (true, cleaned)))
                            @for phase in phases(group) {
                                (detail_row(group, &format!("after its last {phase} epoch"), &attacks, &|row| row.after.get(&phase), (false, cleaned)))
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// `last` is the row of the last epoch, which has what is known of the whole run; `cleaned` says that there is a column of what moved.
fn detail_row<'a>(
    group: &Group<'a>,
    label: &str,
    attacks: &[String],
    scores: &dyn Fn(&'a ResultRow) -> Option<&'a Scores>,
    (last, cleaned): (bool, bool),
) -> Markup {
    let scores: Vec<&Scores> = group.members.iter().filter_map(|run| scores(&run.row)).collect();
    let of =
        |value: &dyn Fn(&Scores) -> Option<f64>| means(&scores.iter().filter_map(|s| value(s)).collect::<Vec<_>>());
    let hits = |counts: fn(&Scores) -> &BTreeMap<String, crate::results::Hits>, attack: &String| {
        of(&|scores: &Scores| counts(scores).get(attack)?.rate())
    };
    html! {
        tr {
            th.indented[!last] { (label) }
            td { (scores.first().map(|scores| scores.epoch.to_string()).unwrap_or_default()) }
            td { (of(&|s| s.zero_shot_top1)) }
            td { (of(&|s| s.zero_shot_top5)) }
            td { (of(&|s| s.mean_per_class_recall)) }
            td { @if last { (means(&of_members(group, |run| run.row.linear_probe_mean_per_class_recall))) } }
            @if cleaned { td { @if last { (group.mean(|run| run.summary.weights_moved).map_or("–".to_owned(), moved_percent)) } } }
            td { (of(&|s| s.psr?.rate())) }
            @for attack in attacks {
                td { (hits(|s| &s.asr, attack)) }
                td { (hits(|s| &s.asr_base_rate, attack)) }
                td { (hits(|s| &s.asr_turned, attack)) }
                td { (of(&|s| s.poisoned_accuracy.get(attack).copied())) }
            }
        }
    }
}
