//! The page of `roclip detect pairs`: what is suspicious, with pictures, and how well each method did where poison is known.

use crate::error::Result;
use crate::report::chart::{Marker, Series, detectors, precisions};
use crate::report::html::frame;
use crate::report::table::{percent, scrolling};
use crate::run::{COMBINED, Judged, MethodScores, Suspects, picture_url};
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
    let of = |at: usize| found.order.get(at).copied().unwrap_or(f64::NAN);
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    let most: Vec<usize> = order.iter().copied().take(SHOWN).collect();
    let poison = |at: &usize| found.attacks.get(*at).is_some_and(Option::is_some);
    // Poison that goes is not missed, however little suspicious it looks.
    let goes = |at: &usize| found.dropped.as_ref().is_some_and(|dropped| dropped.rows.contains(at));
    let missed: Vec<usize> = order.iter().rev().copied().filter(|at| poison(at) && !goes(at)).take(SHOWN).collect();
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
            (head(found))
            @if knows { section { h2 { "How well each method did" } (table(found)) div.charts { @for attack in attacks(found) { (roc(found, &attack)) (precision(found, &attack)) } } } }
            section {
                h2 { "The most suspicious" }
                p.note { (ordered_by(found)) " Whether a pair is poison is for you to say" @if knows { "; where this data's manifest knows, it stands below" } "." }
                (gallery(found, &most, limits)?)
            }
            @if !missed.is_empty() {
                section {
                    h2 { @if found.dropped.is_some() { "Poison that stays, the least suspicious" } @else { "Poison that looks the least suspicious" } }
                    (gallery(found, &missed, limits)?)
                }
            }
        },
    );
    Ok(artifact::write(out, (page.into_string() + "\n").as_bytes())?)
}

/// What looked at which data, and how.
fn head(found: &Suspects) -> Markup {
    let looked = &found.looked;
    let model =
        looked.model.as_ref().map_or_else(|| "features of a folder".to_owned(), |model| model.display().to_string());
    let at = found.looked_at.as_ref();
    let trusted = at.and_then(|at| at.trusted.as_ref());
    html! {
        p.note {
            "Model: " (model) "."
            @if let Some(at) = at {
                " Data: " (at.train_data)
                @if let Some(manifest) = &at.manifest { ", with the poison of " (manifest.display().to_string()) }
                "."
            }
            " Methods: " (looked.methods.join(", ")) ". Ordered by " (found.ordered_by) ". To leave out: " (looked.drop) "."
            @if let Some(trusted) = trusted {
                " Trusted: " (count(trusted.pairs, "pair")) " of " (trusted.path)
                @if trusted.also_looked_at > 0 { ", of which " (count(trusted.also_looked_at, "picture")) " are looked at, too" }
                "."
            }
        }
    }
}

fn ordered_by(found: &Suspects) -> String {
    match (&found.looked.by, found.looked.methods.len()) {
        (Some(by), _) => format!("By the rank of {by}; --order-by {COMBINED} takes the mean rank over all methods."),
        (None, 2..) => "By the mean rank over all methods.".to_owned(),
        (None, _) => format!("By the rank of {}.", found.ordered_by),
    }
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
                @if let Some(poison) = &dropped.poison { " " (poison.in_words()) "." }
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
             goes with 95 % and with all of the poison; no threshold finds so many where fewer have a score. Average precision: the share of \
             poison among what is as suspicious as a poisoned pair, on the mean over the poison; chance has the share of poison among the \
             pairs. A method that has nothing to say of a pair gives it no score: such poison is left out of the AUROC, and counted beside \
             it, it adds nothing to the average precision, and curves end early."
        }
        (scrolling(html! {
            table {
                thead { tr { th { "method" } @for attack in attacks(found) { th { "AUROC" small { (attack) } } th { "average precision" } th { "false positives at 95 %" } th { "at 100 %" } } } }
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
                                td { (figures.average_precision.map_or("–".to_owned(), |area| format!("{area:.3}"))) }
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
    let line = |judged: &Judged| Some(("AUROC", judged.figures.auroc?, judged.curve.clone()));
    detectors(attack, "clean pairs called poison, %", &series(found, attack, line))
}

fn precision(found: &Suspects, attack: &str) -> Markup {
    let line = |judged: &Judged| {
        Some(("average precision", judged.figures.average_precision?, judged.precision_recall.clone()))
    };
    precisions(&format!("{attack}: precision and recall"), &series(found, attack, line))
}

/// A line of each method that judges `attack`: `line` has what its figure is called, the figure and the curve, in shares.
fn series(
    found: &Suspects,
    attack: &str,
    line: impl Fn(&Judged) -> Option<(&'static str, f64, Vec<(f64, f64)>)>,
) -> Vec<Series> {
    let of_method = |(method, number): (&MethodScores, usize)| {
        let (name, area, points) = line(method.attacks.iter().find(|judged| judged.attack == attack)?)?;
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("black");
        Some(Series {
            name: format!("{}, {name} {area:.2}", method.method),
            short: format!("{area:.2} {}", method.method),
            class: format!("colour-{colour} dash-{}", number % 6),
            marker: Marker::ALL.get(number % Marker::ALL.len()).copied().unwrap_or(Marker::Circle),
            points: points.into_iter().map(|(x, y)| (100.0 * x, 100.0 * y)).collect(),
            point_names: Vec::new(),
        })
    };
    found.methods.iter().zip(0..).filter_map(of_method).collect()
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
    let score = found.order.get(at);
    Ok(html! {
        figure {
            @if let Some(url) = url { img alt=(caption) src=(url); }
            figcaption {
                (caption)
                br;
                small { (pair.id) @if let Some(score) = score { ", " @if score.is_finite() { (format!("{score:.2}")) } @else { "no score" } } }
                @if found.dropped.as_ref().is_some_and(|dropped| dropped.rows.contains(&at)) { br; b { "left out" } }
                @if let Some(attack) = found.attacks.get(at).and_then(Option::as_ref) { br; b.fooled { (attack) } }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::known_features::concepts;
    use crate::detect::{Config, Features, Method};
    use crate::run::{Drop, LookedAt, Methods, PairFeatures, TrustedPairs, suspects};
    use roclip_data::pairs::{Pair, Pairs};
    use roclip_data::sample::{ImageBytes, PoisonMark, Sample};
    use std::sync::Arc;
    use tch::{Device, Kind, Tensor};

    /// Sixteen pairs, of which the last four are poison: of two the captions contradict the pictures, of two they do not.
    fn pairs() -> PairFeatures {
        let of_images: Vec<i64> = (0..16).map(|at| at % 3).collect();
        let of_captions: Vec<i64> =
            of_images.iter().zip(0..).map(|(concept, at)| if at >= 14 { 3 } else { *concept }).collect();
        let sample = |at: usize| Sample::new("test".into(), format!("{at}"), ImageBytes::Memory(Arc::from([0u8; 4])));
        let pair = |at: usize| Pair {
            id: format!("pair-{at}-"),
            sample: at,
            captions: vec![format!("caption {at}")],
            trigger: None,
            poison: (at >= 12).then(|| PoisonMark { attack: "patch".into(), target: "cat".into() }),
        };
        let features = Features {
            image: concepts(&of_images),
            image_norms: Tensor::ones([16], (Kind::Float, Device::Cpu)),
            text: concepts(&of_captions),
            pictures: (0..16).collect(),
        };
        let data = Arc::new(Pairs::of((0..16).map(sample).collect(), (0..16).map(pair).collect()));
        PairFeatures { data, rows: (0..16).collect(), features, skips: Default::default() }
    }

    fn page(drop: &Drop) -> String {
        let methods = Methods::new(vec![Method::ClipScore, Method::Plausibility], None).unwrap();
        let config = Config { neighbours: 2, ..Config::default() };
        let mut found = suspects(&config, &methods, (drop, None), pairs()).unwrap();
        let trusted = TrustedPairs { path: "checked.csv".into(), pairs: 99, also_looked_at: 3 };
        let train_data = "shards/".to_owned();
        found.looked_at = Some(LookedAt { train_data, manifest: Some("m.jsonl".into()), trusted: Some(trusted) });
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("detect.html");
        write_suspects(&found, ImageLimits::default(), &out).unwrap();
        std::fs::read_to_string(&out).unwrap()
    }

    /// Which of the pairs stand in the part of `page` below `heading`.
    fn shown(page: &str, heading: &str) -> Vec<usize> {
        let section = page.split_once(heading).unwrap().1.split("</section>").next().unwrap();
        let place = |at: &usize| section.find(&format!("pair-{at}-"));
        let mut there: Vec<usize> = (0..16).filter(|at| place(at).is_some()).collect();
        there.sort_by_key(place);
        there
    }

    #[test]
    fn the_page_has_both_curves_the_table_and_the_galleries() {
        let page = page(&Drop::Nothing);
        assert!(page.contains("clean pairs called poison, %") && page.contains("poison among these, %"), "{page}");
        for words in ["<th>average precision</th>", "plausibility, AUROC 0.", "patch: precision and recall"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(page.contains("plausibility, average precision 0."), "{page}");
        assert!(page.contains("By the rank of plausibility; --order-by combined"), "{page}");
        let most = shown(&page, "The most suspicious");
        assert!(most.len() == 16 && most[..2].iter().all(|at| [14, 15].contains(at)), "{most:?}");
        // Nothing goes: all four are shown, the least suspicious first.
        let missed = shown(&page, "Poison that looks the least suspicious");
        assert!(missed.len() == 4 && missed[..2].iter().all(|at| [12, 13].contains(at)), "{missed:?}");
    }

    #[test]
    fn poison_that_goes_is_not_among_what_was_missed() {
        let page = page(&Drop::Fraction(0.125));
        let mut missed = shown(&page, "Poison that stays, the least suspicious");
        missed.sort_unstable();
        assert_eq!(missed, [12, 13]);
        let words = "2 of 4 poisoned pairs go (recall 50.0 %, precision 100.0 %, 50.0 % stay); of the 14 pairs that are kept 14.3 % are poison";
        assert!(page.contains(words), "{page}");
        // Above it is who looked, and each picture says whether it goes.
        for words in [
            "Model: features of a folder. Data: shards/, with the poison of m.jsonl.",
            "Methods: clip-score, plausibility. Ordered by plausibility. To leave out: fraction 0.125.",
            "Trusted: 99 pairs of checked.csv, of which 3 pictures are looked at, too.",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert_eq!(page.matches("<b>left out</b>").count(), 2, "{page}");
    }
}
