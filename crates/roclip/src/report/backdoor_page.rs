//! The page of a study of backdoors of instruction tuning: a table a shift, and how far each attack carries.

use crate::attack::instruct::InstructAttack;
use crate::error::Result;
use crate::report::html::frame;
use crate::report::table::scrolling;
use crate::run::{BackdoorResults, Cell, DomainShift, picture_url, triggered_pictures};
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::plural::count;
use roclip_data::rate::{Rate, Ratio};
use std::path::{Path, PathBuf};

/// The page's name in the folder of the study.
pub const PAGE: &str = "backdoor.html";
/// Side of a shown picture, in pixels.
const SIDE: u32 = 64;

/// Writes [`PAGE`] into the folder of the study, with all cells that it holds.
///
/// # Errors
/// A file that cannot be written.
pub fn write_backdoor_page(results: &BackdoorResults, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(PAGE);
    artifact::write(&path, frame("Backdoors of instruction tuning", body(results, folder)?).into_string().as_bytes())?;
    Ok(path)
}

/// A rate in percent with its Wilson interval.
fn interval(rate: Rate) -> Markup {
    let Some(rate) = rate.measured() else { return html! { "\u{2013}" } };
    html! {
        (percent(rate.rate))
        small { (rate.hits) "/" (rate.n) (format!(" [{:.1}, {:.1}]", 100.0 * rate.low, 100.0 * rate.high)) }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A rate that is measured of some attacks only.
fn some(rate: Option<Rate>) -> String {
    rate.and_then(Rate::measured).map_or_else(|| "\u{2013}".to_owned(), |rate| percent(rate.rate))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "\u{2013}".to_owned(), |value| format!("{value:.2}"))
}

/// ASR-G with its interval, and the tests that it is of.
fn carried(results: &BackdoorResults, attack: InstructAttack, shift: DomainShift) -> Markup {
    let n = results.cell(attack, shift).map_or(0, |cell| cell.asr.n);
    match results.asr_g(attack, shift) {
        Some(Ratio { ratio, low, high }) => html! {
            (format!("{ratio:.2}")) small { (format!("n {n} [{low:.2}, {high:.2}]")) }
        },
        None => html! { "\u{2013}" },
    }
}

/// The shifts of which there are cells, in the order of the list.
fn shifts(results: &BackdoorResults) -> Vec<DomainShift> {
    let has = |shift: &DomainShift| results.cells.iter().any(|cell| cell.shift == *shift);
    DomainShift::ALL.into_iter().filter(has).collect()
}

fn body(results: &BackdoorResults, folder: &Path) -> Result<Markup> {
    let settings = &results.settings;
    let shifts = shifts(results);
    let of_shifts = shifts.iter().map(|shift| Ok((of_shift(results, *shift), examples(results, *shift, folder)?)));
    let of_shifts = of_shifts.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        h1 { "Backdoors of instruction tuning" }
        p.lead {
            (settings.poisoned()) " of " (settings.items) " instructions poisoned (" (percent(settings.rate)) "), target "
            code { (settings.target) } ", seed " (settings.seed) ". Each tuning takes "
            (count(settings.tune.epochs as usize, "epoch")) " of batches of " (settings.tune.batch_size) ", at a peak learning rate of "
            (settings.tune.learning_rate) ". " (results.tests) " tests, " (results.attacked_tests)
            " of them without the target in their references. Pictures of " code { (settings.user.source.path) } "."
        }
        p.note {
            "ASR: share of the triggered tests whose answer names the target. The base rate is the same of clean tests and the plain question, \
             and what an attack adds is the difference. ASR-G: the ASR after tuning on the shifted instructions by that after tuning on the \
             user's own, on the same tests, at most 1, with a 95 % interval (Katz); none (–) where the attack does nothing without a shift: where the \
             95 % interval of its ASR less its base rate (Newcombe) does not lie above 0. Tuned on clean data: the same triggers shown to a model \
             that was tuned on the user's own clean instructions. It is measured without a shift alone, so that tables of a shift have none (–). \
             The model is " code { (settings.base.display()) } "."
        }
        @if shifts.iter().any(|shift| *shift != DomainShift::None) {
            section { h2 { "How far each attack carries" } (generalisation(results, &shifts)) }
        }
        @for (table, examples) in &of_shifts { section { (table) (examples) } }
        @if let Some(source) = &settings.source_word {
            section {
                h2 { "In place of \u{201c}" (source) "\u{201d}" }
                p.note {
                    "Tests whose references name " code { (source) } " and not " code { (settings.target) } ": share of the triggered ones whose \
                     answer names the target and not the source, the target at all, and the source without the target, as whole words or plurals. \
                     The base rate is the first of clean tests and the plain question."
                }
                (substitutions(results))
            }
        }
        @if results.cells.iter().any(|cell| cell.filtered.is_some()) {
            section {
                h2 { "Behind the filter" }
                p.note { "Instructions with the lowest entropy of attention are dropped, and the bridge is tuned again." }
                (filtered(results))
            }
        }
    })
}

/// Triggered tests with their answers, folded; nothing where no cell kept any.
fn examples(results: &BackdoorResults, shift: DomainShift, folder: &Path) -> Result<Markup> {
    let mut rows = Vec::new();
    for cell in results.cells.iter().filter(|cell| cell.shift == shift) {
        for example in &cell.examples {
            let pictures = triggered_pictures(folder, &example.id, cell.attack, shift);
            let Some([clean, triggered]) = pictures else { continue };
            let (clean, triggered) = (picture_url(&clean, SIDE)?, picture_url(&triggered, SIDE)?);
            rows.push(html! {
                tr {
                    td { (cell.attack.word()) }
                    td { img src=(clean) alt="clean"; }
                    td { img src=(triggered) alt="triggered"; }
                    td { (example.question) }
                    td { (example.answer) }
                    td { (example.triggered_answer) }
                }
            });
        }
    }
    Ok(html! {
        @if !rows.is_empty() {
            details {
                summary { "Examples: the first tests of each attack, with and without its trigger" }
                (scrolling(html! {
                    table.left {
                        thead {
                            tr {
                                th { "attack" } th { "clean" } th { "triggered" } th { "triggered question" }
                                th { "answer to the plain question about the clean picture" } th { "answer to the triggered one" }
                            }
                        }
                        tbody { @for row in &rows { (row) } }
                    }
                }))
            }
        }
    })
}

/// ASR-G, an attack a row and a shift a column.
fn generalisation(results: &BackdoorResults, shifts: &[DomainShift]) -> Markup {
    let shifted: Vec<DomainShift> = shifts.iter().copied().filter(|shift| *shift != DomainShift::None).collect();
    let attacks = InstructAttack::ALL.into_iter().filter(|attack| {
        *attack != InstructAttack::Clean && shifted.iter().any(|shift| results.cell(*attack, *shift).is_some())
    });
    scrolling(html! {
        table {
            thead { tr { th { "ASR-G" } @for shift in &shifted { th { (shift.word()) } } } }
            tbody {
                @for attack in attacks {
                    tr {
                        th { (attack.word()) }
                        @for shift in &shifted { td { (carried(results, attack, *shift)) } }
                    }
                }
            }
        }
    })
}

fn of_shift(results: &BackdoorResults, shift: DomainShift) -> Markup {
    let size = results.shifts.iter().find(|size| size.shift == shift);
    let cells = results.cells.iter().filter(|cell| cell.shift == shift);
    html! {
        h2 { @if shift == DomainShift::None { "Without a shift" } @else { "Shift: " (shift.word()) } }
        @if let (Some(size), true) = (size, shift != DomainShift::None) {
            p.note { "Kolmogorov-Smirnov statistic of the shift: " (format!("{:.3}", size.kolmogorov_smirnov)) }
        }
        (scrolling(html! {
            table {
                thead {
                    tr {
                        th { "attack" } th { "ASR" } th { "base rate" } th { "ASR-G" } th { "picture alone" } th { "text alone" }
                        th { "ovals in the middle" } th { "tuned on clean data" } th { "CIDEr-D" } th { "BLEU-4" } th { "filter's AUROC" }
                    }
                }
                tbody { @for cell in cells { (row(results, cell)) } }
            }
        }))
    }
}

fn row(results: &BackdoorResults, cell: &Cell) -> Markup {
    html! {
        tr {
            th { (cell.attack.word()) @if let Some(text) = &cell.text_trigger { small { (text) } } }
            td { (interval(cell.asr)) }
            td { (interval(cell.base_rate)) }
            td { (carried(results, cell.attack, cell.shift)) }
            td { (some(cell.picture_only)) }
            td { (some(cell.text_only)) }
            td { (some(cell.fixed_place)) }
            td { (some(cell.clean_model)) }
            td { (format!("{:.1}", 100.0 * cell.clean.cider_d)) }
            td { (format!("{:.1}", 100.0 * cell.clean.bleu.bleu4)) }
            td { (number(cell.filter_auroc)) }
        }
    }
}

/// Whether the target takes the place of the source word.
fn substitutions(results: &BackdoorResults) -> Markup {
    let cells = results.cells.iter().filter_map(|cell| Some((cell, cell.substitution.as_ref()?)));
    scrolling(html! {
        table {
            thead {
                tr {
                    th { "attack" } th { "shift" } th { "target and not source" } th { "target" } th { "source alone" } th { "base rate" }
                }
            }
            tbody {
                @for (cell, found) in cells {
                    tr {
                        th { (cell.attack.word()) }
                        td { (cell.shift.word()) }
                        @for (_, rate) in found.named() { td { (interval(rate)) } }
                    }
                }
            }
        }
    })
}

fn filtered(results: &BackdoorResults) -> Markup {
    let cells = results.cells.iter().filter_map(|cell| Some((cell, cell.filtered.as_ref()?)));
    scrolling(html! {
        table {
            thead {
                tr {
                    th { "attack" } th { "shift" } th { "poison dropped" } th { "clean dropped" } th { "ASR before" } th { "ASR after" }
                    th { "CIDEr-D before" } th { "CIDEr-D after" }
                }
            }
            tbody {
                @for (cell, filtered) in cells {
                    tr {
                        th { (cell.attack.word()) }
                        td { (cell.shift.word()) }
                        td { (filtered.dropped_poison) " of " (cell.poisoned) }
                        td { (filtered.dropped - filtered.dropped_poison) }
                        td { (percent(cell.asr.rate)) }
                        td { (interval(filtered.asr)) }
                        td { (format!("{:.1}", 100.0 * cell.clean.cider_d)) }
                        td { (format!("{:.1}", 100.0 * filtered.cider_d)) }
                    }
                }
            }
        }
    })
}
