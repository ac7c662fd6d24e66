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

/// What was planted for one image: the first caption, and how many there are.
type Planted = BTreeMap<(String, String), (String, usize)>;

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
    let (pictures, planted) = (gallery(shown)?, planted(shown)?);
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
                                @match planted.get(&(target.image.clone(), target.attack.clone())) {
                                    Some((caption, 1)) => { (caption) }
                                    Some((caption, several)) => { (caption) small { "and " (several - 1) " more" } }
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

/// The captions that `run` was poisoned with; none where its manifest is gone.
fn planted(run: &RunRecord) -> Result<Planted> {
    let recipe = run.recipe_as_run();
    let mut found = Planted::new();
    let Some(path) = recipe.manifest.filter(|path| path.is_file()) else { return Ok(found) };
    let manifest = Manifest::read(&path, recipe.data.limits)?;
    for row in manifest.rows.into_iter().filter(|row| row.side == Side::Evaluation) {
        found.entry((row.image, row.attack)).or_insert((row.caption_after, 0)).1 += 1;
    }
    Ok(found)
}
