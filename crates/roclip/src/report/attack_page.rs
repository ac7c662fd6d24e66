//! The page of an attack on captions: its table, and pictures with their captions before and after.

use crate::attack::aicattack::{Goal, MeanInterval, Strategy};
use crate::error::Result;
use crate::report::html::frame;
use crate::report::next_steps::NextStep;
use crate::run::{AttackResults, AttackSettings, InstructSettings, attacked_pictures, picture_url};
use maud::{Markup, html};
use roclip_data::artifact;
use std::path::{Path, PathBuf};

/// Side of a shown picture, in pixels.
const SIDE: u32 = 160;
/// Pictures of the first strategy that are shown.
const SHOWN: usize = 8;

/// Writes `attack.html` into the folder of the attack, with what to do `next`.
///
/// # Errors
/// A page that cannot be written.
pub fn write_attack_page(results: &AttackResults, folder: &Path, next: &NextStep) -> Result<PathBuf> {
    let path = folder.join("attack.html");
    artifact::write(&path, frame("Attack on captions", body(results, folder, next)?).into_string().as_bytes())?;
    Ok(path)
}

/// What counts as a success of an attack, in words; ours, since the paper does not say what its own is.
pub fn success_in_words(goal: &Goal) -> &'static str {
    match goal {
        Goal::Untargeted => {
            "Success is our own definition: the caption changed, and half of its BLEU-4 with the references, or a content word that it shares with them, is gone."
        }
        Goal::Targeted(_) => {
            "Success is our own definition: the caption is the one that is attacked towards, word by word."
        }
    }
}

fn percent(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

fn range(found: Option<MeanInterval>) -> String {
    found.map_or_else(|| "-".to_owned(), |found| format!("[{}, {}]", percent(found.low), percent(found.high)))
}

fn difference(found: Option<MeanInterval>) -> String {
    found.map_or_else(|| "-".to_owned(), |own| format!("{:+.1} {}", 100.0 * own.mean, range(found)))
}

/// The question, behind a run that is asked it. Captioners and programs get none.
fn asked(settings: &AttackSettings, run: &str) -> Markup {
    match settings.question.as_ref().filter(|_| InstructSettings::is_of(Path::new(run))) {
        Some(question) => html! { " (asked \u{201c}" (question) "\u{201d})" },
        None => html! {},
    }
}

fn body(results: &AttackResults, folder: &Path, next: &NextStep) -> Result<Markup> {
    let settings = &results.settings;
    let goal = match &settings.goal {
        Goal::Untargeted => "an unlike caption".to_owned(),
        Goal::Targeted(caption) => format!("the caption \u{201c}{caption}\u{201d}"),
    };
    let examples = examples(results, folder)?;
    Ok(html! {
        h1 { "Attack on captions" }
        p {
            "AICAttack against " code { (settings.victim) } (asked(settings, &settings.victim)) ", attention from "
            @match &settings.attention {
                Some(attention) => { code { (attention) } (asked(settings, attention)) }
                None => "the victim itself",
            }
            ", after " (goal) ". "
            (results.pictures) " pictures of " (settings.side.unwrap_or_default()) " pixels a side, "
            (settings.budget.pixels) " pixels changed by up to " (settings.budget.amplitude) " of 255, " (settings.budget.queries)
            " queries, seed " (settings.budget.seed)
            "; " (results.skipped) " pictures could not be used. " code { "as-released" } " is the public code, a version from before the paper. "
            "Drops are in points, over the pictures that could be attacked; std is the standard deviation of the BLEU-4 drop over these pictures, and the interval that of its mean (95 %, bootstrap over the pictures). "
            "Against random: the drop less that of " code { (Strategy::RANDOM.word()) } ", picture by picture; an interval across 0 does not tell it from chance on so many pictures. "
            (success_in_words(&settings.goal))
        }
        div.scroll tabindex="0" { (table(results)) }
        p.note { "A table that is wider than the page scrolls to the right." }
        @if !settings.defences.is_empty() {
            h2 { "Behind defences" }
            p {
                "Drop of BLEU-4 in points / success in %. Behind a defence both are against the caption of the clean picture behind the same defence: what the defence itself costs is in neither."
            }
            div.scroll tabindex="0" { (defences(results)) }
        }
        h2 { "Next" }
        p { (next.reason()) }
        @for command in &next.commands { pre { code { (command) } } }
        @if !examples.is_empty() {
            h2 { "Pictures" }
            div.scroll tabindex="0" {
                table.left.large {
                    thead { tr { th { "before" } th { "after" } th { "caption before" } th { "caption after" } th { "a reference" } } }
                    tbody { @for example in examples { (example) } }
                }
            }
        }
    })
}

fn table(results: &AttackResults) -> Markup {
    let heads = [
        "strategy",
        "success",
        "BLEU-4 drop",
        "± std",
        "95 % interval",
        "against random",
        "n",
        "unattackable",
        "queries",
        "smoothed",
        "BLEU-1",
        "BLEU-2",
        "ROUGE-1 P",
        "ROUGE-2 P",
        "BLEUROUGE",
        "ROUGE-L F",
        "L0",
        "L∞",
        "L2",
    ];
    html! {
        table {
            thead { tr { @for head in heads { th { (head) } } } }
            tbody {
                @for row in &results.rows {
                    tr {
                        th { (row.strategy) }
                        td { (percent(row.success.rate)) " [" (percent(row.success.low)) ", " (percent(row.success.high)) "]" }
                        td { (percent(row.drop.bleu4)) }
                        td { (percent(row.bleu4_drop_deviation)) }
                        td { (range(row.bleu4_drop_interval)) }
                        td { (difference(row.bleu4_drop_against_random)) }
                        td { (row.attacked) }
                        td { (row.unattackable) }
                        td { (format!("{:.0}", row.queries)) }
                        @for value in [
                            row.drop.bleu4_smoothed, row.drop.bleu1, row.drop.bleu2, row.drop.rouge1_precision,
                            row.drop.rouge2_precision, row.drop.bleu_rouge, row.drop.rouge_l_f,
                        ] {
                            td { (percent(value)) }
                        }
                        td { (format!("{:.1}", row.l0)) }
                        td { (format!("{:.1}", row.l_inf)) }
                        td { (format!("{:.2}", row.l2)) }
                    }
                }
            }
        }
    }
}

fn defences(results: &AttackResults) -> Markup {
    let all: Vec<_> = results.rows.first().map(|row| row.defended.keys().copied().collect()).unwrap_or_default();
    html! {
        table {
            thead {
                tr {
                    th { "strategy" }
                    th { "undefended: drop / success" }
                    @for defence in &all { th { (defence.word()) } }
                }
            }
            tbody {
                @for row in &results.rows {
                    tr {
                        th { (row.strategy) }
                        td { (percent(row.drop.bleu4)) " / " (percent(row.success.rate)) }
                        @for defence in &all {
                            @if let Some(defended) = row.defended.get(defence) {
                                td { (percent(defended.bleu4_drop)) " / " (percent(defended.success.rate)) }
                            } @else { td { "-" } }
                        }
                    }
                }
            }
        }
    }
}

/// Rows of the first strategy's pictures.
fn examples(results: &AttackResults, folder: &Path) -> Result<Vec<Markup>> {
    let first = results.rows.first().and_then(|row| Strategy::named(&row.strategy));
    let Some(strategy) = first else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for outcome in results.outcomes.iter().filter(|outcome| outcome.strategy == strategy) {
        if rows.len() == SHOWN {
            break;
        }
        let Some([clean, attacked]) = attacked_pictures(folder, &outcome.id, strategy) else { continue };
        let (clean, attacked) = (picture_url(&clean, SIDE)?, picture_url(&attacked, SIDE)?);
        rows.push(html! {
            tr {
                td { img src=(clean) width=(SIDE) height=(SIDE) alt="before"; }
                td { img src=(attacked) width=(SIDE) height=(SIDE) alt="after"; }
                td { (outcome.clean) }
                td { (outcome.attacked) }
                td { (outcome.references.first().map_or("", String::as_str)) }
            }
        });
    }
    Ok(rows)
}
