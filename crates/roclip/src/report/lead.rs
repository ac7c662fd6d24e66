//! The first line of the page: what was trained on what. What differs between runs is a range, or a list.

use crate::results::{RunRecord, Runs};
use maud::{Markup, html};
use roclip_data::plural::count;
use std::collections::BTreeSet;

pub fn lead(runs: &Runs) -> Markup {
    let facts: Vec<Facts> = runs.records.iter().map(Facts::of).collect();
    html! {
        p.lead { (words(&facts)) }
        @if !runs.repeated.is_empty() {
            p.note {
                "Left out, because a run of the same recipe and seed is here already: "
                (runs.repeated.iter().map(|run| run.display().to_string()).collect::<Vec<_>>().join(", ")) "."
            }
        }
    }
}

/// What the line says of a run.
#[derive(Debug, Clone, Default)]
struct Facts {
    seed: u64,
    pairs: usize,
    poisoned: usize,
    epochs: u64,
    batch: usize,
    model: String,
    /// Whether what it trained on are pictures with labels.
    labelled: bool,
    /// Of a run that learned prompts: pictures a class. Its model is frozen.
    shots: Option<usize>,
}

impl Facts {
    fn of(run: &RunRecord) -> Facts {
        let (summary, recipe) = (&run.summary, &run.recipe);
        let facts = Facts {
            seed: run.row.seed,
            pairs: summary.pairs,
            poisoned: summary.poisoned_pairs,
            epochs: recipe.train.epochs,
            batch: recipe.train.batch_size,
            model: recipe.model.name.clone(),
            labelled: recipe.is_labelled(),
            shots: None,
        };
        match &recipe.prompt {
            None => facts,
            Some(prompt) => Facts {
                epochs: prompt.epochs,
                batch: prompt.batch_size,
                model: prompt.model.display().to_string(),
                shots: Some(prompt.shots),
                ..facts
            },
        }
    }
}

fn words(all: &[Facts]) -> String {
    let seeds: BTreeSet<u64> = all.iter().map(|run| run.seed).collect();
    let word = if seeds.len() == 1 { "seed" } else { "seeds" };
    let seeds = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let (learned, trained): (Vec<&Facts>, Vec<&Facts>) = all.iter().partition(|run| run.shots.is_some());
    let mut said = vec![format!("{}, {word} {seeds}.", count(all.len(), "run"))];
    if !trained.is_empty() {
        said.push(of_training(&trained));
    }
    if !learned.is_empty() {
        said.push(of_prompts(&learned));
    }
    said.join(" ")
}

fn of_training(runs: &[&Facts]) -> String {
    let of_what = match runs.iter().filter(|run| run.labelled).count() {
        0 => "pair",
        all if all == runs.len() => "picture",
        _ => "pair or picture",
    };
    let trained_on = match of_what {
        "pair or picture" => format!("{} pairs or pictures", range(runs, |run| run.pairs, None)),
        one => range(runs, |run| run.pairs, Some(one)),
    };
    let share = |run: &&Facts| 100.0 * run.poisoned as f64 / run.pairs.max(1) as f64;
    let highest = runs.iter().map(share).fold(0.0, f64::max);
    let lowest = runs.iter().map(share).fold(f64::INFINITY, f64::min);
    let (low, high) = (format!("{lowest:.2}"), format!("{highest:.2}"));
    let share = if low == high || lowest == 0.0 { high } else { format!("{low} to {high}") };
    let least = runs.iter().map(|run| run.poisoned).min().unwrap_or(0);
    let most = runs.iter().map(|run| run.poisoned).max().unwrap_or(0);
    let poisoned = match (least, most) {
        (_, 0) => "none of them poisoned".to_owned(),
        (0, most) => format!("up to {most} of them poisoned ({share} %)"),
        (least, most) if least == most => format!("{most} of them poisoned ({share} %)"),
        (least, most) => format!("{least} to {most} of them poisoned ({share} %)"),
    };
    format!(
        "{trained_on}, {poisoned}, {} at batch {}, {}.",
        range(runs, |run| run.epochs as usize, Some("epoch")),
        range(runs, |run| run.batch, None),
        models("model", runs)
    )
}

fn of_prompts(runs: &[&Facts]) -> String {
    format!(
        "Prompts learned from {} ({} a class), {} at batch {}, on the {}.",
        range(runs, |run| run.pairs, Some("picture")),
        range(runs, |run| run.shots.unwrap_or(0), Some("shot")),
        range(runs, |run| run.epochs as usize, Some("epoch")),
        range(runs, |run| run.batch, None),
        models("frozen model", runs)
    )
}

/// `1776 pairs` where all runs agree, else `1521 to 1776 pairs`; without the noun where there is none.
fn range(runs: &[&Facts], value: impl Fn(&Facts) -> usize, one: Option<&str>) -> String {
    let low = runs.iter().map(|run| value(run)).min().unwrap_or(0);
    let high = runs.iter().map(|run| value(run)).max().unwrap_or(0);
    let last = one.map_or_else(|| high.to_string(), |one| count(high, one));
    if low == high { last } else { format!("{low} to {last}") }
}

/// `model RN50`, `models RN50 and ViT-B-32`, in the order of the runs.
fn models(word: &str, runs: &[&Facts]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.model.as_str()) {
            names.push(&run.model);
        }
    }
    match names.as_slice() {
        [one] => format!("{word} {one}"),
        several => format!("{word}s {}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pairs: usize, poisoned: usize, epochs: u64, model: &str) -> Facts {
        Facts { pairs, poisoned, epochs, batch: 64, model: model.into(), ..Facts::default() }
    }

    #[test]
    fn what_runs_have_in_common_is_said_once_and_what_differs_is_a_range() {
        let tiny = "ViT-tiny-32";
        let one = run(1776, 73, 4, tiny);
        assert_eq!(
            words(&[one.clone(), one.clone()]),
            "2 runs, seed 0. 1776 pairs, 73 of them poisoned (4.11 %), 4 epochs at batch 64, model ViT-tiny-32."
        );
        assert_eq!(
            words(&[run(1521, 36, 12, tiny), one.clone()]),
            "2 runs, seed 0. 1521 to 1776 pairs, 36 to 73 of them poisoned (2.37 to 4.11 %), 4 to 12 epochs at batch 64, model ViT-tiny-32."
        );
        let student = Facts { labelled: true, ..run(190, 0, 1, "RN-micro-32") };
        assert_eq!(
            words(&[one, student.clone()]),
            "2 runs, seed 0. 190 to 1776 pairs or pictures, up to 73 of them poisoned (4.11 %), 1 to 4 epochs at batch 64, models ViT-tiny-32, RN-micro-32."
        );
        assert_eq!(
            words(&[student]),
            "1 run, seed 0. 190 pictures, none of them poisoned, 1 epoch at batch 64, model RN-micro-32."
        );
    }

    #[test]
    fn prompts_and_trained_models_are_said_apart() {
        let prompts = |shots| Facts { shots: Some(shots), seed: 1, ..run(64, 0, 5, "runs/base") };
        assert_eq!(
            words(&[run(1776, 73, 4, "RN50"), prompts(1), prompts(16)]),
            "3 runs, seeds 0, 1. 1776 pairs, 73 of them poisoned (4.11 %), 4 epochs at batch 64, model RN50. \
             Prompts learned from 64 pictures (1 to 16 shots a class), 5 epochs at batch 64, on the frozen model runs/base."
        );
    }
}
