//! Learned prompts: accuracy on seen and unseen classes with their harmonic mean, and what a trigger does on either side.

use crate::error::Result;
use crate::prompt::{Detection, PromptMeasures, SideMeasures, TriggerMeasures};
use crate::report::group::Study;
use crate::report::table::scrolling;
use crate::results::RunRecord;
use crate::run::kept_detection;
use maud::{Markup, html};
use roclip_data::rate::Rate;

fn rate(rate: &Rate) -> Markup {
    match rate.measured() {
        Some(rate) => html! { (format!("{:.1} %", 100.0 * rate.rate)) small { (format!("{}/{}", rate.hits, rate.n)) } },
        None => html! { "–" },
    }
}

fn of(run: &RunRecord) -> Option<&PromptMeasures> {
    run.summary.prompt.as_ref()
}

/// Whether any run of `study` learned prompts.
pub fn any(study: &Study) -> bool {
    study.runs().any(|run| of(run).is_some())
}

/// What inversion said of the learners that it was asked about.
pub fn detections(study: &Study) -> Result<Markup> {
    let mut found: Vec<(&RunRecord, Detection)> = Vec::new();
    for run in study.runs() {
        found.extend(kept_detection(&run.folder)?.map(|detection| (run, detection)));
    }
    if found.is_empty() {
        return Ok(html! {});
    }
    let levels = |eps: f64| format!("{eps}/255");
    Ok(html! {
        p.note {
            "Detection (" code { "roclip prompt detect" } "): for every seen class one change of the pictures, the same for all of them, is optimised that carries them to the class. \
             Carried: of held-out pictures that are not read as the class anyway, those that are with the change. Statistic: how far the largest share lies above the mean \
             of the others, in their standard deviations; above the threshold a learner is flagged. \
             Cannot tell: where nearly every class carries nearly all pictures (90 % and more, of 80 % of the classes and more), none can stand out. The attack's own bound is what the learner says of itself."
        }
        (scrolling(html! {
            table {
                thead { tr { th { "detection" } th { "seed" } th { "verdict" } th { "statistic" } th { "threshold" } th { "largest" } th { "carried" } th { "next class" } th { "pictures" } th { "classes" } th { "bound" } th { "the attack's own" } } }
                tbody {
                    @for (run, detection) in &found {
                        tr {
                            th { (run.row.label) } td { (run.row.seed) }
                            td {
                                (detection.words())
                                @if !detection.unjudged.is_empty() { small { "not judged: " (detection.unjudged.join(", ")) } }
                            }
                            td { (format!("{:.2}", detection.statistic)) } td { (format!("{:.2}", detection.threshold)) }
                            @match detection.classes.first() {
                                Some(first) => { td { (first.class) } td { (rate(&first.carried)) } },
                                None => { td { "–" } td { "–" } },
                            }
                            td { @if let Some(next) = detection.classes.get(1) { (rate(&next.carried)) } @else { "–" } }
                            td { (detection.pictures) } td { (detection.classes.len()) }
                            td { (levels(detection.eps)) }
                            td { (of(run).and_then(|measures| measures.eps).map_or_else(|| "–".to_owned(), levels)) }
                        }
                    }
                }
            }
        }))
    })
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
