//! The page of `roclip detect pairs`: what is suspicious, with pictures, and how well each method did where poison is known.

use crate::error::Result;
use crate::report::chart::{Marker, Series, detectors};
use crate::report::html::frame;
use crate::report::table::{percent, scrolling};
use crate::run::{Suspects, picture_url};
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::picture::ImageLimits;
use roclip_data::plural::count;
use std::path::Path;

/// Pairs shown in each gallery.
const SHOWN: usize = 24;
/// Side of a shown picture, in pixels.
const SIDE: u32 = 112;
/// Colours of curves, from the style sheet.
const COLOURS: [&str; 7] = ["vermillion", "blue", "green", "orange", "sky", "purple", "black"];

/// Writes the page to `out`.
///
/// # Errors
/// A file that cannot be written.
pub fn write_suspects(found: &Suspects, limits: ImageLimits, out: &Path) -> Result<()> {
    let mut order: Vec<usize> = (0..found.pairs).collect();
    let of = |at: usize| found.combined().get(at).copied().unwrap_or(f64::NAN);
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    let most: Vec<usize> = order.iter().copied().take(SHOWN).collect();
    let poison = |at: &usize| found.attacks.get(*at).is_some_and(Option::is_some);
    let missed: Vec<usize> = order.iter().rev().copied().filter(poison).take(SHOWN).collect();
    let knows = found.attacks.iter().any(Option::is_some);
    let page = frame(
        "Suspicious pairs",
        html! {
            h1 { "Suspicious pairs" }
            p.lead {
                (count(found.pairs, "pair")) " looked at"
                @if found.unreadable > 0 { ", " (found.unreadable) " more cannot be read" }
                ". " (dropped(found))
            }
            @if knows { section { h2 { "How well each method did" } (table(found)) div.charts { @for attack in attacks(found) { (roc(found, &attack)) } } } }
            section {
                h2 { "The most suspicious" }
                p.note { @if found.methods.len() > 1 { "By the mean rank over all methods." } @else { "By the rank." } " Whether a pair is poison is for you to say" @if knows { "; where this data's manifest knows, it stands below" } "." }
                (gallery(found, &most, limits)?)
            }
            @if !missed.is_empty() {
                section {
                    h2 { "Poison that looks the least suspicious" }
                    (gallery(found, &missed, limits)?)
                }
            }
        },
    );
    Ok(artifact::write(out, (page.into_string() + "\n").as_bytes())?)
}

fn dropped(found: &Suspects) -> Markup {
    html! {
        @match &found.dropped {
            None => "Nothing is left out: give --drop-fraction, or --level with trusted pairs.",
            Some(dropped) => {
                (count(dropped.pairs, "pair")) " to leave out (drop.txt)"
                @if let Some(asked) = dropped.asked { ", where --drop-fraction asks for " (asked) ": the method has no score of the others" }
                @if let (Some(earlier), 1..) = (&found.earlier, dropped.pairs) { ", and the " (count(earlier.ids, "id")) " of the earlier list" }
                @for (attack, (all, left)) in &dropped.left { ", of " (attack) " " (left) " of " (all) " stay" }
                @if !dropped.left.is_empty() { ", " (dropped.clean) " of those left out are clean" }
                "."
            }
        }
    }
}

fn attacks(found: &Suspects) -> Vec<String> {
    let judged = found.methods.first().map(|method| &method.attacks);
    judged.into_iter().flatten().map(|judged| judged.attack.clone()).collect()
}

fn table(found: &Suspects) -> Markup {
    html! {
        p.note {
            "AUROC: how often a poisoned pair is more suspicious than a clean one; 0.5 is chance. False positives: the share of clean pairs that \
             goes with 95 % and with all of the poison; no threshold finds so many where fewer have a score. A method that has nothing to say \
             of a pair gives it no score: such poison is left out of the AUROC, and counted beside it, and its curve ends early."
        }
        (scrolling(html! {
            table {
                thead { tr { th { "method" } @for attack in attacks(found) { th { "AUROC" small { (attack) } } th { "false positives at 95 %" } th { "at 100 %" } } } }
                tbody {
                    @for method in &found.methods {
                        tr {
                            th { (method.method) }
                            @for judged in &method.attacks {
                                @let figures = &judged.figures;
                                td {
                                    (figures.auroc.map_or("–".to_owned(), |area| format!("{area:.3}")))
                                    small {
                                        (figures.poisoned) " beside " (figures.clean)
                                        @if figures.poisoned_without_score > 0 { ", " (figures.poisoned_without_score) " without a score" }
                                    }
                                }
                                td { (figures.false_positives_at_95.map_or("–".to_owned(), percent)) }
                                td { (figures.false_positives_at_100.map_or("–".to_owned(), percent)) }
                            }
                        }
                    }
                }
            }
        }))
    }
}

fn roc(found: &Suspects, attack: &str) -> Markup {
    let line = |(method, number): (&crate::run::MethodScores, usize)| {
        let judged = method.attacks.iter().find(|judged| judged.attack == attack)?;
        let area = judged.figures.auroc?;
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("black");
        // A curve of a million points says no more than one of hundreds.
        let every = judged.curve.len().div_ceil(400).max(1);
        let last = judged.curve.last();
        let points = judged.curve.iter().step_by(every).chain(last).map(|(x, y)| (100.0 * x, 100.0 * y)).collect();
        Some(Series {
            name: format!("{}, AUROC {area:.2}", method.method),
            short: format!("{area:.2} {}", method.method),
            class: format!("colour-{colour} dash-{}", number % 6),
            marker: Marker::ALL.get(number % Marker::ALL.len()).copied().unwrap_or(Marker::Circle),
            points,
            point_names: Vec::new(),
        })
    };
    let series: Vec<Series> = found.methods.iter().zip(0..).filter_map(line).collect();
    detectors(attack, "clean pairs called poison, %", &series)
}

fn gallery(found: &Suspects, shown: &[usize], limits: ImageLimits) -> Result<Markup> {
    let figures = shown.iter().map(|at| figure(found, *at, limits)).collect::<Result<Vec<_>>>()?;
    Ok(html! { div.wrap { @for figure in figures { (figure) } } })
}

fn figure(found: &Suspects, at: usize, limits: ImageLimits) -> Result<Markup> {
    let pair = found.rows.get(at).and_then(|row| found.data.get(*row));
    let Some((pair, sample)) =
        pair.and_then(|pair| Some((found.data.sample_of(&pair)?, pair)).map(|(sample, pair)| (pair, sample)))
    else {
        return Ok(html! {});
    };
    let picture = sample.picture(limits).and_then(|plain| match &pair.trigger {
        Some(trigger) => trigger.apply(&plain),
        None => Ok(plain),
    });
    let url = match picture {
        Ok(picture) => Some(picture_url(&picture, SIDE)?),
        Err(_) => None,
    };
    let caption = pair.captions.first().map_or("", String::as_str);
    let score = found.combined().get(at);
    Ok(html! {
        figure {
            @if let Some(url) = url { img alt=(caption) src=(url); }
            figcaption {
                (caption)
                br;
                small { (pair.id) @if let Some(score) = score { ", " @if score.is_finite() { (format!("{score:.2}")) } @else { "no score" } } }
                @if let Some(attack) = found.attacks.get(at).and_then(Option::as_ref) { br; b.fooled { (attack) } }
            }
        }
    })
}
