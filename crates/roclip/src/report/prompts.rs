//! Learned prompts: accuracy on seen and unseen classes with their harmonic mean, and what a trigger does on either side.

use crate::prompt::{PromptMeasures, SideMeasures, TriggerMeasures};
use crate::report::group::Study;
use crate::report::table::scrolling;
use crate::results::RunRecord;
use maud::{Markup, html};
use roclip_data::rate::Rate;

fn rate(rate: &Rate) -> Markup {
    html! { (format!("{:.1} %", 100.0 * rate.rate)) small { (format!("{}/{}", rate.hits, rate.n)) } }
}

fn of(run: &RunRecord) -> Option<&PromptMeasures> {
    run.summary.prompt.as_ref()
}

/// Whether any run of `study` learned prompts.
pub fn any(study: &Study) -> bool {
    study.runs().any(|run| of(run).is_some())
}

/// A run a row, with what it was before where it repaired a learner.
pub fn prompts(study: &Study) -> Markup {
    let mut rows: Vec<(String, u64, &PromptMeasures)> = Vec::new();
    for run in study.runs() {
        if let Some(before) = &run.summary.prompt_before {
            rows.push((format!("{}, before the repair", before.method), run.row.seed, before));
        }
        rows.extend(of(run).map(|measures| (run.row.label.clone(), run.row.seed, measures)));
    }
    html! {
        p.note {
            "Prompts are learned on the seen classes alone; unseen ones are measured with the attacker's class among them. Strict ASR leaves the target's own pictures out; \"all\" is the released figure, which counts them. Base rate: without the trigger."
        }
        (accuracies(&rows))
        @if rows.iter().any(|(_, _, measures)| measures.seen.trigger.is_some()) {
            (attacks(&rows))
            (branches(&rows))
            (transforms(&rows))
        }
    }
}

fn accuracies(rows: &[(String, u64, &PromptMeasures)]) -> Markup {
    scrolling(html! {
        table {
            thead { tr { th { "learner" } th { "seed" } th { "accuracy, seen" } th { "accuracy, unseen" } th { "harmonic mean" } th { "plain words, seen" } th { "plain words, unseen" } } }
            tbody {
                @for (label, seed, measures) in rows {
                    tr {
                        th { (label) } td { (seed) }
                        td { (rate(&measures.seen.accuracy)) } td { (rate(&measures.unseen.accuracy)) }
                        td { (format!("{:.1} %", 100.0 * measures.harmonic_mean)) }
                        td { (rate(&measures.seen.zero_shot)) } td { (rate(&measures.unseen.zero_shot)) }
                    }
                }
            }
        }
    })
}

/// `(label, seed, side, what its trigger does)`.
fn triggered<'a>(
    rows: &'a [(String, u64, &'a PromptMeasures)],
) -> impl Iterator<Item = (&'a str, u64, &'static str, &'a TriggerMeasures)> {
    let sides = |measures: &'a PromptMeasures| -> [(&'static str, &'a SideMeasures); 2] {
        [("seen", &measures.seen), ("unseen", &measures.unseen)]
    };
    rows.iter().flat_map(move |(label, seed, measures)| {
        sides(measures)
            .into_iter()
            .filter_map(move |(name, side)| Some((label.as_str(), *seed, name, side.trigger.as_ref()?)))
    })
}

fn attacks(rows: &[(String, u64, &PromptMeasures)]) -> Markup {
    scrolling(html! {
        table {
            thead { tr { th { "learner" } th { "seed" } th { "classes" } th { "ASR strict" } th { "ASR all" } th { "base rate" } th { "random change" } th { "direction out" } th { "direction alone" } } }
            tbody {
                @for (label, seed, side, trigger) in triggered(rows) {
                    tr {
                        th { (label) } td { (seed) } td { (side) }
                        td { (rate(&trigger.outcome.success)) } td { (rate(&trigger.outcome.success_all)) }
                        td { (rate(&trigger.outcome.base_rate)) } td { (rate(&trigger.random)) }
                        td { (rate(&trigger.without_direction)) } td { (rate(&trigger.only_direction)) }
                    }
                }
            }
        }
    })
}

fn branches(rows: &[(String, u64, &PromptMeasures)]) -> Markup {
    scrolling(html! {
        table {
            thead { tr { th { "which branch sees the trigger" } th { "seed" } th { "classes" } th { "picture and prompt" } th { "picture alone" } th { "prompt alone" } th { "neither" } } }
            tbody {
                @for (label, seed, side, trigger) in triggered(rows) {
                    tr {
                        th { (label) } td { (seed) } td { (side) }
                        td { (rate(&trigger.branches.triggered_image_triggered_prompt)) }
                        td { (rate(&trigger.branches.triggered_image_clean_prompt)) }
                        td { (rate(&trigger.branches.clean_image_triggered_prompt)) }
                        td { (rate(&trigger.branches.clean_image_clean_prompt)) }
                    }
                }
            }
        }
    })
}

fn transforms(rows: &[(String, u64, &PromptMeasures)]) -> Markup {
    let names: Vec<&String> =
        triggered(rows).next().into_iter().flat_map(|(_, _, _, trigger)| trigger.outcome.after.keys()).collect();
    scrolling(html! {
        table {
            thead { tr { th { "ASR after" } th { "seed" } th { "classes" } @for name in &names { th { (name) } } } }
            tbody {
                @for (label, seed, side, trigger) in triggered(rows) {
                    tr {
                        th { (label) } td { (seed) } td { (side) }
                        @for name in &names { td { @if let Some(after) = trigger.outcome.after.get(*name) { (rate(after)) } } }
                    }
                }
            }
        }
    })
}
