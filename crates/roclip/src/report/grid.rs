//! A sweep over settings: each figure over the plane of two keys, and a point a cell in the plane of accuracy and attack success.

use crate::report::chart::{Dot, scatter};
use crate::report::group::{Group, Study, asr, attacks, legend, psr, zero_shot};
use crate::report::table::{percent, scrolling};
use crate::report::verdict::{PSR, Verdict};
use crate::results::{RunRecord, by_size, is_recipe_key};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// Steps of shade, from none to full: the style sheet names `heat-0` to `heat-10`.
const SHADES: f64 = 10.0;

type Figure = Box<dyn Fn(&RunRecord) -> Option<f64>>;

/// What a figure tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What an attack achieves.
    Attack,
    /// What may help it: more is worse.
    Harm,
    Accuracy,
}

/// A figure of a row.
struct Measure {
    title: String,
    /// What [`Verdict::grey`] calls it; none of accuracies, which are never grey.
    rate: Option<String>,
    kind: Kind,
    of: Figure,
}

/// Rows that share a name, and the keys by which they differ.
struct Family<'a, 'b> {
    name: &'a str,
    members: Vec<&'b Group<'a>>,
    /// Of a recipe.
    keys: Vec<&'b String>,
    /// By which they differ besides: they span nothing.
    besides: Vec<&'b String>,
}

impl Family<'_, '_> {
    /// Two rows are a grid where one key tells them apart.
    fn is_grid(&self) -> bool {
        match self.keys.len() {
            0 => false,
            // Two values of one key are two runs; fewer than three span no plane of several.
            1 => self.members.len() > 1,
            _ => self.members.len() > 2,
        }
    }
}

/// Whether rows of a name differ by their settings as the cells of a grid do.
pub fn is_grid(study: &Study) -> bool {
    !families(study).is_empty()
}

fn families<'a, 'b>(study: &'b Study<'a>) -> Vec<Family<'a, 'b>> {
    let mut names: Vec<&str> = Vec::new();
    for group in &study.groups {
        let name = group.row().name.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let family = |name| {
        let members: Vec<&Group> = study.groups.iter().filter(|group| group.row().name == name).collect();
        let keys: BTreeSet<&String> = members.iter().flat_map(|group| group.row().settings.keys()).collect();
        let number = |key: &String| values(&members, key).len();
        let (mut keys, besides): (Vec<&String>, Vec<&String>) = keys.into_iter().partition(|key| is_recipe_key(key));
        // What is named of all rows, and is the same in these, tells nothing of them.
        keys.retain(|key| number(key) > 1);
        // Keys of most values span the plane.
        keys.sort_by_key(|key| std::cmp::Reverse(number(key)));
        Family { name, members, keys, besides }
    };
    names.into_iter().map(family).filter(Family::is_grid).collect()
}

fn value<'a>(group: &Group<'a>, key: &str) -> &'a str {
    group.row().settings.get(key).map_or("absent", String::as_str)
}

/// The values of `key`, numbers by their size.
fn values<'a>(groups: &[&Group<'a>], key: &str) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for group in groups {
        let own = value(group, key);
        if !found.contains(&own) {
            found.push(own);
        }
    }
    found.sort_by(|one, other| by_size(one, other));
    found
}

fn measures(study: &Study) -> Vec<Measure> {
    let mut found = Vec::new();
    let mut add = |title: &str, kind, rate: Option<&str>, of: Figure| {
        found.push(Measure { title: title.to_owned(), rate: rate.map(str::to_owned), kind, of });
    };
    if study.runs().any(|run| psr(run).is_some()) {
        add("PSR", Kind::Attack, Some(PSR), Box::new(|run| Some(psr(run)?.rate)));
    }
    for attack in attacks(&study.groups) {
        let of = attack.clone();
        add(&format!("ASR {attack}"), Kind::Attack, Some(&attack), Box::new(move |run| Some(asr(&of)(run)?.rate)));
    }
    add(study.accuracy_word(), Kind::Accuracy, None, Box::new(|run| Some(zero_shot(run)?.rate)));
    if study.runs().any(|run| run.summary.linear_probe.is_some()) {
        add("linear probe", Kind::Accuracy, None, Box::new(|run| Some(run.summary.linear_probe?.top1.rate)));
    }
    if study.runs().any(|run| confirmed(run).is_some()) {
        add("poison matched with its own class", Kind::Harm, None, Box::new(confirmed));
    }
    found
}

/// Of the poisoned pairs that were matched in the last matching epoch, the share that met the attacker's class, by attack and pair.
fn confirmed(run: &RunRecord) -> Option<f64> {
    let last = run.epochs.iter().filter_map(|epoch| epoch.matches.as_ref()).next_back()?;
    let (matched, hits) = last.poisoned.values().fold((0.0, 0.0), |(matched, hits), shares| {
        let own = shares.matched as f64;
        (matched + own, hits + own * shares.adversarial)
    });
    (matched > 0.0).then(|| hits / matched)
}

pub fn section(study: &Study, verdicts: &[Verdict]) -> Markup {
    let measures = measures(study);
    let doubts = Doubts { study, verdicts };
    let (families, short) = (families(study), study.keys().into_iter().collect::<BTreeMap<_, _>>());
    let in_families: Vec<&str> = families.iter().map(|family| family.name).collect();
    let others: Vec<&Group> =
        study.groups.iter().filter(|group| !in_families.contains(&group.row().name.as_str())).collect();
    html! {
        p.note {
            "Means over seeds; darker is more, red where more is worse. A row has no axis for a setting that changes nothing of it: its \
             one run stands for all values. \
             Poison matched with its own class: of the poisoned pairs in the last matching epoch, those whose match speaks of the \
             attacker's class; there matching confirms the poison. Grey cells prove nothing (see the verdict)."
        }
        @for family in &families {
            h3 { (family.name) }
            @for plane in planes(family, &short) { (planes_of(&plane, &measures, &doubts)) }
        }
        @if !others.is_empty() {
            h3 { "Other rows, the same in every cell but for the settings that they name" }
            (one_by_one(&others, &measures, &doubts))
        }
        (legend(&study.groups))
        div.charts { @for measure in measures.iter().filter(|measure| measure.kind == Kind::Attack) { (frontier(study, measure)) } }
    }
}

/// Which figures prove nothing.
struct Doubts<'a, 'b> {
    study: &'b Study<'a>,
    verdicts: &'b [Verdict],
}

impl Doubts<'_, '_> {
    fn greys(&self, group: &Group, measure: &Measure) -> bool {
        let mut of_groups = self.study.groups.iter().zip(self.verdicts);
        let verdict = of_groups.find(|(known, _)| std::ptr::eq(*known, group)).map(|(_, verdict)| verdict);
        verdict.zip(measure.rate.as_ref()).is_some_and(|(verdict, rate)| verdict.grey.contains(rate))
    }
}

/// Rows that span no plane, a line each.
fn one_by_one(groups: &[&Group], measures: &[Measure], doubts: &Doubts) -> Markup {
    scrolling(html! {
        table {
            thead { tr { th { "row" } @for measure in measures { th { (measure.title) } } } }
            tbody {
                @for group in groups {
                    tr {
                        th { (group.key()) " " (group.label) }
                        @for measure in measures {
                            td.grey[doubts.greys(group, measure)] { (group.mean(&measure.of).map_or_else(|| "–".to_owned(), percent)) }
                        }
                    }
                }
            }
        }
    })
}

/// A key, and what it is called.
#[derive(Clone, Copy)]
struct Axis<'a> {
    key: &'a str,
    short: &'a str,
}

/// Cells that agree in all keys but two.
struct Plane<'a, 'b> {
    /// What they agree in, in words.
    fixed: String,
    members: Vec<&'b Group<'a>>,
    down: Axis<'b>,
    across: Option<Axis<'b>>,
}

fn planes<'a, 'b>(family: &Family<'a, 'b>, short: &'b BTreeMap<String, String>) -> Vec<Plane<'a, 'b>> {
    let named = |key: &'b String| Axis { key, short: short.get(key).unwrap_or(key) };
    let (mut keys, mut found) = (family.keys.iter(), Vec::<Plane>::new());
    let (Some(down), across) = (keys.next(), keys.next()) else { return found };
    let others: Vec<&&String> = keys.chain(&family.besides).collect();
    for group in &family.members {
        let fixed = others
            .iter()
            .map(|key| format!("{} = {}", named(key).short, value(group, key)))
            .collect::<Vec<_>>()
            .join(", ");
        match found.iter_mut().find(|plane| plane.fixed == fixed) {
            Some(plane) => plane.members.push(group),
            None => found.push(Plane {
                fixed,
                members: vec![group],
                down: named(down),
                across: across.map(|key| named(key)),
            }),
        }
    }
    found
}

fn planes_of(plane: &Plane, measures: &[Measure], doubts: &Doubts) -> Markup {
    html! {
        @if !plane.fixed.is_empty() { p.note { (plane.fixed) } }
        div.wrap { @for measure in measures { (heat_map(plane, measure, doubts)) } }
    }
}

fn heat_map(plane: &Plane, measure: &Measure, doubts: &Doubts) -> Markup {
    let downs = values(&plane.members, plane.down.key);
    let acrosses = plane.across.map_or(vec![""], |axis| values(&plane.members, axis.key));
    let cell = |down: &str, across: &str| {
        let here = |group: &&&Group| {
            value(group, plane.down.key) == down && plane.across.is_none_or(|axis| value(group, axis.key) == across)
        };
        let group = plane.members.iter().find(here)?;
        Some((group.mean(&measure.of)?, doubts.greys(group, measure)))
    };
    let all: Vec<f64> = plane.members.iter().filter_map(|group| group.mean(&measure.of)).collect();
    if all.is_empty() {
        return html! {};
    }
    // Rates of attacks are shaded between none and all, accuracies within their own range.
    let (low, high) = match measure.kind {
        Kind::Attack | Kind::Harm => (0.0, 1.0),
        Kind::Accuracy => (all.iter().copied().fold(1.0, f64::min), all.iter().copied().fold(0.0, f64::max)),
    };
    let shade = |rate: f64| (SHADES * (rate - low) / (high - low).max(1e-9)).round().clamp(0.0, SHADES);
    let kind = if measure.kind == Kind::Accuracy { "good" } else { "bad" };
    scrolling(html! {
        table.heat {
            caption { (measure.title) }
            thead {
                tr { th { (plane.down.short) } @for across in &acrosses { th { @if let Some(axis) = plane.across { small { (axis.short) } } (across) } } }
            }
            tbody {
                @for down in &downs {
                    tr {
                        th { (down) }
                        @for across in &acrosses {
                            @match cell(down, across) {
                                Some((rate, true)) => td.grey { (percent(rate)) },
                                Some((rate, false)) => td.(format!("{kind} heat-{}", shade(rate))) { (percent(rate)) },
                                None => td { "–" },
                            }
                        }
                    }
                }
            }
        }
    })
}

/// A point a row, in the plane of accuracy and attack success.
fn frontier(study: &Study, measure: &Measure) -> Markup {
    let word = study.accuracy_word();
    let dot = |group: &Group| {
        let (x, y) = (group.mean(|run| Some(zero_shot(run)?.rate))?, group.mean(&measure.of)?);
        Some(Dot {
            x: 100.0 * x,
            y: 100.0 * y,
            marker: group.style.marker,
            class: group.style.class(),
            title: format!("{}: {word} {}, {} {}", group.label, percent(x), measure.title, percent(y)),
        })
    };
    let dots: Vec<Dot> = study.groups.iter().filter_map(dot).collect();
    if dots.is_empty() {
        return html! {};
    }
    let title = format!("{} against accuracy, a point a row", measure.title);
    scatter(&title, [&format!("{word}, %"), &format!("{}, %", measure.title)], &dots)
}
