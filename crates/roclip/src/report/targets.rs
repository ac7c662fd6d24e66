//! Who was fooled, picture by picture: what was planted, and what each row's model reads.

use crate::error::Result;
use crate::eval::TargetOutcome;
use crate::report::group::Study;
use crate::report::table::scrolling;
use crate::results::RunRecord;
use crate::run::Gallery;
use maud::{Markup, html};
use roclip_data::poison::{Manifest, Side};
use std::collections::{BTreeMap, BTreeSet};

/// Targeted images shown of a seed.
const SHOWN: usize = 64;

/// The captions that were planted for an image, by the image and the attack.
type Planted = BTreeMap<(String, String), Vec<String>>;

/// A table for each seed, the first one open. `gallery` has the pictures of a run.
pub fn section(study: &Study, gallery: &dyn Fn(&RunRecord) -> Result<Gallery>) -> Result<Markup> {
    let seeds: BTreeSet<u64> =
        study.runs().filter(|run| !run.summary.evaluation.targets.is_empty()).map(|run| run.row.seed).collect();
    let mut tables = Vec::new();
    for seed in seeds {
        tables.push((seed, of_seed(study, seed, gallery)?));
    }
    Ok(html! {
        @for ((seed, table), number) in tables.into_iter().zip(0..) {
            details open[number == 0] { summary { "Seed " (seed) } (table) }
        }
    })
}

fn of_seed(study: &Study, seed: u64, gallery: &dyn Fn(&RunRecord) -> Result<Gallery>) -> Result<Markup> {
    let groups: Vec<_> = study
        .groups
        .iter()
        .filter_map(|group| Some((group, *group.members.iter().find(|run| run.row.seed == seed)?)))
        .filter(|(_, run)| !run.summary.evaluation.targets.is_empty())
        .collect();
    let Some((_, shown)) = groups.iter().find(|(_, run)| run.summary.poisoned_pairs > 0).or(groups.first()) else {
        return Ok(html! {});
    };
    let pictures = gallery(shown)?;
    // Rows of a sweep may have been shown other captions, and other numbers of them.
    let attacked = groups.iter().map(|(_, run)| *run).filter(|run| run.summary.poisoned_pairs > 0);
    let mut attacked: Vec<&RunRecord> = attacked.collect();
    if attacked.is_empty() {
        attacked.push(shown);
    }
    let all = attacked.into_iter().map(planted).collect::<Result<Vec<Planted>>>()?;
    let readings: Vec<BTreeMap<(&str, &str), &TargetOutcome>> = groups
        .iter()
        .map(|(_, run)| {
            run.summary.evaluation.targets.iter().map(|t| ((t.image.as_str(), t.attack.as_str()), t)).collect()
        })
        .collect();
    let targets = &shown.summary.evaluation.targets;
    Ok(html! {
        (scrolling(html! {
            table.left {
                thead {
                    tr {
                        th { "picture" } th { "planted caption" } th { "to be read as" }
                        @for (group, _) in &groups { th { (group.key()) " " (group.label) } }
                    }
                }
                tbody {
                    @for target in targets.iter().take(SHOWN) {
                        tr {
                            th {
                                @if let Some(figure) = pictures.targets.get(&target.image) {
                                    img alt={ "targeted picture: " (target.true_class) } src=(figure.picture);
                                }
                                " " (target.true_class)
                            }
                            td {
                                @match in_words(&of_rows(&all, target)) {
                                    Some((caption, besides)) => { (caption) @if !besides.is_empty() { small { (besides) } } }
                                    None => { "–" }
                                }
                            }
                            td { (target.adversarial) }
                            @for readings in &readings { (reading(readings.get(&(target.image.as_str(), target.attack.as_str())).copied())) }
                        }
                    }
                }
            }
        }))
        @if targets.len() > SHOWN { p.note { (targets.len() - SHOWN) " more targets are in summary.json of each run." } }
    })
}

fn reading(outcome: Option<&TargetOutcome>) -> Markup {
    let Some(outcome) = outcome else { return html! { td { "–" } } };
    let (class, word) = match outcome {
        fooled if fooled.rank == Some(1) => ("fooled", "fooled"),
        right if right.predicted == right.true_class => ("right", "right"),
        _ => ("wrong", "wrong"),
    };
    html! { td.(class) { (outcome.predicted) small { (word) } } }
}

/// What the rows were shown for `target`, of those that were shown something.
fn of_rows<'a>(all: &'a [Planted], target: &TargetOutcome) -> Vec<&'a [String]> {
    let own = (target.image.clone(), target.attack.clone());
    all.iter().filter_map(|planted| planted.get(&own)).map(Vec::as_slice).collect()
}

/// A caption that all rows were shown, or else the first of the first row, and what is to be said of the others.
fn in_words(rows: &[&[String]]) -> Option<(String, String)> {
    let (first, others) = rows.split_first()?;
    let common = first.iter().find(|caption| others.iter().all(|row| row.contains(caption)));
    let caption = common.or(first.first())?.clone();
    let numbers: BTreeSet<usize> = rows.iter().map(|row| row.len()).collect();
    let (fewest, most) = (*numbers.first()?, *numbers.last()?);
    let more = match (fewest, most) {
        (1, 1) => String::new(),
        (fewest, most) if fewest == most => format!("and {} more", most - 1),
        (fewest, most) => format!("and {} to {} more, by row", fewest - 1, most - 1),
    };
    let besides = match (common, more.is_empty()) {
        (Some(_), _) => more,
        (None, true) => "or another one, by row".to_owned(),
        (None, false) => format!("{more}; some rows have others"),
    };
    Some((caption, besides))
}

/// The captions that `run` was poisoned with; none where its manifest is gone.
fn planted(run: &RunRecord) -> Result<Planted> {
    let recipe = run.recipe_as_run();
    let mut found = Planted::new();
    let Some(path) = recipe.manifest.filter(|path| path.is_file()) else { return Ok(found) };
    let manifest = Manifest::read(&path, recipe.data.limits)?;
    for row in manifest.rows.into_iter().filter(|row| row.side == Side::Evaluation) {
        found.entry((row.image, row.attack)).or_default().push(row.caption_after);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_planted_captions_holds_for_every_row() {
        let captions = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let said = |rows: &[&[&str]]| {
            let rows: Vec<Vec<String>> = rows.iter().map(|row| captions(row)).collect();
            in_words(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let of = |caption: &str, besides: &str| Some((caption.to_owned(), besides.to_owned()));
        assert_eq!(said(&[&["a", "b", "c"], &["b", "c", "d"]]), of("b", "and 2 more"));
        assert_eq!(said(&[&["a", "b", "c"], &["a"]]), of("a", "and 0 to 2 more, by row"));
        assert_eq!(said(&[&["a"], &["a"]]), of("a", ""));
        assert_eq!(said(&[&["a"], &["b"]]), of("a", "or another one, by row"));
        assert_eq!(said(&[&["a", "b"], &["c", "d", "e"]]), of("a", "and 1 to 2 more, by row; some rows have others"));
        assert_eq!(said(&[]), None);
    }
}
