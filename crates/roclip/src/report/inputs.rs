//! The page of `roclip detect inputs`: which pictures look as if they carried a trigger, and how well each method tells it where triggers are
//! known.

use crate::error::Result;
use crate::report::chart::{Marker, Series, detectors};
use crate::report::html::frame;
use crate::report::table::{percent, scrolling};
use crate::run::{InputJudged, InputScore, SuspectInputs, TrustedInputs, picture_url};
use maud::{Markup, html};
use roclip_data::picture::ImageLimits;
use roclip_data::plural::count;
use std::collections::BTreeSet;

/// Pictures shown in each gallery.
const SHOWN: usize = 24;
/// Side of a shown picture, in pixels.
const SIDE: u32 = 112;
/// Colours of curves, from the style sheet.
const COLOURS: [&str; 7] = ["vermillion", "blue", "green", "orange", "sky", "purple", "black"];

/// The page.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn inputs_page(found: &SuspectInputs, limits: ImageLimits) -> Result<String> {
    let attacks: BTreeSet<&str> = found.judged.iter().map(|judged| judged.attack.as_str()).collect();
    let most = suspicious(found);
    let page = frame(
        "Suspicious inputs",
        html! {
            h1 { "Suspicious inputs" }
            p.lead { (lead(found)) }
            section {
                h2 { @if attacks.is_empty() { "What each method flags" } @else { "How well each method tells a trigger" } }
                (table(found, &attacks))
                div.charts { @for attack in &attacks { (roc(found, attack)) } }
            }
            section {
                h2 { "The most suspicious" }
                p.note { "Pictures as they are, by " (order(found)) ". Whether they carry a trigger is for you to say." }
                (gallery(found, &most, limits)?)
            }
            @for attack in &attacks {
                @let missed = missed(found, attack);
                @if !missed.is_empty() {
                    section {
                        h2 { "Missed: " (attack) }
                        p.note {
                            @if found.trusted.is_some() { "Triggered pictures that are not flagged by " (order(found)) ", the least suspicious first." }
                            @else { "Triggered pictures that look the least suspicious, by " (order(found)) "." }
                        }
                        (gallery(found, &missed, limits)?)
                    }
                }
            }
        },
    );
    Ok(page.into_string() + "\n")
}

fn order(found: &SuspectInputs) -> Markup {
    html! { @if found.methods.len() > 1 { "the mean rank over all methods" } @else { (found.ordered_by()) } }
}

fn lead(found: &SuspectInputs) -> Markup {
    let flagged = found.methods.last().and_then(|method| method.flagged);
    html! {
        (count(found.looked_at, "picture")) " looked at"
        @if found.unreadable > 0 { ", of which " (found.unreadable) " cannot be read (inputs.jsonl names them)" }
        ". "
        @match (&found.trusted, flagged) {
            (Some(TrustedInputs { statistics, held_out, copies, level }), Some(flagged)) => {
                "Of " (count(found.clean, "trusted picture")) " " (statistics) " say how clean ones vary, and " (held_out)
                " how rare a score is" @if *copies > 0 { "; copies of them, " (copies) ", are left out" } ". " (flagged) " are flagged by " (order(found)) @if flagged > 0 { " (flagged.txt)" }
                ", at a level of " (level) ": about " (percent(*level)) " of the clean ones are, on average, where the trusted ones are such as they are."
            }
            _ => {
                (found.clean) " others, a random half of what was named, are taken for clean; nothing is flagged without pictures \
                 that are known to be (--trusted-data)."
            }
        }
    }
}

/// The pictures as they are, the most suspicious first.
fn suspicious(found: &SuspectInputs) -> Vec<&InputScore> {
    let method = found.ordered_by();
    let mut order: Vec<&InputScore> = found.inputs.iter().filter(|input| input.laid.is_none()).collect();
    order.sort_by(|a, b| b.score(method, "").total_cmp(&a.score(method, "")));
    order.truncate(SHOWN);
    order
}

/// What carries the trigger of `attack` and is not flagged, the least suspicious first; without a level, whatever carries it.
fn missed<'a>(found: &'a SuspectInputs, attack: &str) -> Vec<&'a InputScore> {
    let method = found.ordered_by();
    let is_flagged = |input: &&InputScore| found.trusted.is_some_and(|trusted| input.is_flagged(method, trusted.level));
    let own = found.inputs.iter().filter(|input| input.attack.as_deref() == Some(attack));
    let mut order: Vec<&InputScore> = own.filter(|input| !is_flagged(input)).collect();
    order.sort_by(|a, b| a.score(method, attack).total_cmp(&b.score(method, attack)));
    order.truncate(SHOWN);
    order
}

fn table(found: &SuspectInputs, attacks: &BTreeSet<&str>) -> Markup {
    let with_level = found.trusted.is_some();
    let judged = |method: &str, attack: &str| -> Option<&InputJudged> {
        found.judged.iter().find(|judged| judged.method == method && judged.attack == attack)
    };
    html! {
        p.note {
            @if attacks.is_empty() { "No trigger is known here, so that nothing says how well a method tells one." }
            @else {
                "AUROC: how often a triggered picture is more suspicious than one as it is; 0.5 is chance. False positives at 95 %: the share \
                 of the pictures as they are that goes with 95 % of the triggered ones."
                @if with_level { " Behind them what the level finds: the share of the triggered pictures that is flagged, and of those as they are, which the level states." }
                @if let (true, Some(twice)) = (with_level, found.scored_twice()) { " " (twice) }
            }
        }
        (scrolling(html! {
            table {
                thead {
                    tr {
                        th { "method" }
                        @if with_level { th { "flagged" } }
                        @for attack in attacks {
                            th { "AUROC" small { (attack) } }
                            th { "false positives at 95 %" }
                            @if with_level { th { "triggered, flagged" } th { "as they are, flagged" } }
                        }
                    }
                }
                tbody {
                    @for method in &found.methods {
                        tr {
                            th { (method.method) }
                            @if let Some(flagged) = method.flagged { td { (flagged) } }
                            @for attack in attacks { (cells(judged(method.method, attack), with_level)) }
                        }
                    }
                }
            }
        }))
    }
}

fn cells(judged: Option<&InputJudged>, with_level: bool) -> Markup {
    let Some(InputJudged { figures, flagged, .. }) = judged else {
        return html! { @for _ in 0..if with_level { 4 } else { 2 } { td { "–" } } };
    };
    html! {
        td {
            (figures.auroc.map_or("–".to_owned(), |area| format!("{area:.3}")))
            small { (figures.poisoned) " beside " (figures.clean) }
        }
        td { (figures.false_positives_at_95.map_or("–".to_owned(), percent)) }
        @if let Some(flagged) = flagged {
            td { (percent(flagged.triggered_flagged as f64 / figures.poisoned.max(1) as f64)) small { (flagged.triggered_flagged) } }
            td { (percent(flagged.false_positive_rate)) small { (flagged.clean_flagged) } }
        }
    }
}

fn roc(found: &SuspectInputs, attack: &str) -> Markup {
    let line = |(method, number): (&str, usize)| {
        let judged = found.judged.iter().find(|judged| judged.method == method && judged.attack == attack)?;
        let area = judged.figures.auroc?;
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("black");
        Some(Series {
            name: format!("{method}, AUROC {area:.2}"),
            short: format!("{area:.2} {method}"),
            class: format!("colour-{colour} dash-{}", number % 6),
            marker: Marker::ALL.get(number % Marker::ALL.len()).copied().unwrap_or(Marker::Circle),
            points: judged.curve.iter().map(|(x, y)| (100.0 * x, 100.0 * y)).collect(),
            point_names: Vec::new(),
        })
    };
    let series: Vec<Series> = found.methods.iter().map(|method| method.method).zip(0..).filter_map(line).collect();
    detectors(attack, "pictures as they are taken for triggered, %", &series)
}

fn gallery(found: &SuspectInputs, shown: &[&InputScore], limits: ImageLimits) -> Result<Markup> {
    let figures = shown.iter().map(|input| figure(found, input, limits)).collect::<Result<Vec<_>>>()?;
    Ok(html! { div.wrap { @for figure in figures { (figure) } } })
}

fn figure(found: &SuspectInputs, input: &InputScore, limits: ImageLimits) -> Result<Markup> {
    let Some(sample) = found.samples.get(input.place) else { return Ok(html! {}) };
    let backdoor = input.laid.and_then(|laid| found.backdoors.get(laid));
    let picture = sample.picture(limits).and_then(|plain| match backdoor {
        Some(backdoor) => backdoor.lay_on(sample, &plain),
        None => Ok(plain),
    });
    let url = match picture {
        Ok(picture) => Some(picture_url(&picture, SIDE)?),
        Err(_) => None,
    };
    let class = sample.class.as_deref().unwrap_or_default();
    let score = input.score(found.ordered_by(), input.attack.as_deref().unwrap_or_default());
    Ok(html! {
        figure {
            @if let Some(url) = url { img alt=(class) src=(url); }
            figcaption {
                @if !class.is_empty() { (class) br; }
                small { (input.id) ", " (format!("{score:.2}")) }
                @if let Some(attack) = &input.attack { br; b.fooled { (attack) } }
                @for method in input.flagged.iter().flatten() { br; small { "flagged: " (method) } }
            }
        }
    })
}
