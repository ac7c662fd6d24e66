//! The causes, one function each. Thresholds are ours, set from the public threads named beside them; every finding prints the
//! number that it judged.

use crate::checkpoint;
use crate::doctor::finding::{Finding, Severity, finding, percent};
use crate::doctor::{Case, Finished};
use crate::doctor::{attacks, backdoor, defence};
use crate::error::{Error, Result};
use crate::model::Head;
use crate::recipe::ObjectiveName;
use crate::run::never_matches;
use roclip_data::plural::count;
use roclip_data::poison::{Manifest, Row};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Sum of the learning rate over all steps. lr 1e-6 over 5 epochs of 500 K pairs at batch 128 (0.01) failed, 1e-5 (0.1) worked
/// (CleanCLIP issue 3).
const SMALL_TOTAL_RATE: f64 = 0.05;
/// From here on a rate is no small one, whether a model is trained anew or fine-tuned.
const USUAL_RATE: f64 = 1e-4;

/// What a run folder alone tells.
pub(super) fn of_run(run: &Finished) -> Vec<Finding> {
    let mut findings = vec![loss(run), learning_rate(run)];
    findings.extend(matching(run));
    findings.extend(attacks::parity(run));
    match poison(run) {
        None => findings.push(finding("poison", None, Severity::Note, "the run has no poison: nothing to explain", "")),
        Some(_) => {
            findings.push(attacks::control(run));
            findings.extend(defence::outcomes(run));
            findings.extend(attacks::targeted(run));
        }
    }
    findings
}

/// What takes the data and the model.
pub(super) fn of_data(case: &Case) -> Result<Vec<Finding>> {
    if case.run.recipe.is_labelled() {
        return of_labels(case);
    }
    let mut findings = vec![utility(case), duplicates(case)];
    let Some(manifest) = poison(case.run) else { return Ok(findings) };
    let prompts = case.evaluator.class_prompts(&case.loaded.model, &case.loaded.tokenizer)?;
    let recognizer = case.evaluator.recognizer(&case.loaded.model, &prompts);
    let trained_on = trained_on(case);
    for (attack, planted) in by_attack(&manifest.rows) {
        findings.push(attacks::exposures(case, attack, planted.len()));
        let rows: Vec<&Row> = planted.into_iter().filter(|row| trained_on.contains(&row.id)).collect();
        if !rows.is_empty() {
            findings.push(attacks::captions(case, attack, &rows)?);
            findings.push(attacks::wording(case, &prompts, attack, &rows)?);
        }
    }
    for backdoor in manifest.backdoors() {
        findings.extend(backdoor::checks(case, &recognizer, &backdoor)?);
    }
    Ok(findings)
}

/// The same of a classifier, which reads no captions.
fn of_labels(case: &Case) -> Result<Vec<Finding>> {
    let mut findings = vec![utility(case)];
    let Some(manifest) = poison(case.run) else { return Ok(findings) };
    let (_, objective) = checkpoint::load_training(&case.loaded.folder)?;
    let device = case.loaded.model.scale().device();
    let head = Head::from_tensors(&objective, case.evaluator.classes.len(), device)?;
    let recognizer = case.evaluator.recognizer(&case.loaded.model, &head);
    let planted = by_attack(&manifest.rows).into_iter();
    findings.extend(planted.map(|(attack, rows)| attacks::exposures(case, attack, rows.len())));
    for backdoor in manifest.backdoors() {
        findings.extend(backdoor::checks(case, &recognizer, &backdoor)?);
    }
    Ok(findings)
}

/// In place of [`of_data`], where `error` says why the data cannot be read.
pub(super) fn without_data(error: &Error) -> Finding {
    finding(
        "data",
        None,
        Severity::Warning,
        format!(
            "the run's data is not to be had ({error}), so that these cannot be checked: clean accuracy against chance, duplicate captions, poison count, target words, captions against class names, triggers in training and at test time, and what was learned"
        ),
        "put the data back where the run's run.toml names it",
    )
}

/// A defence that was never at work.
fn matching(run: &Finished) -> Option<Finding> {
    let (what, remedy) = never_matches(&run.recipe)?;
    Some(finding("matching", None, Severity::Problem, what, remedy))
}

/// What the run was poisoned with.
fn poison(run: &Finished) -> Option<&Manifest> {
    run.manifest.as_ref().filter(|_| !run.recipe.poison.measure_only)
}

/// Ids of the poisoned pairs that the run was trained on: a list of ids to drop, or a limit of pairs a picture, leaves some of the manifest's
/// out.
fn trained_on(case: &Case) -> HashSet<String> {
    case.pairs.poisoned().map(|(_, pair)| pair.id.clone()).collect()
}

fn by_attack(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut found: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        found.entry(&row.attack).or_default().push(row);
    }
    found
}

fn loss(run: &Finished) -> Finding {
    // What a model that has learned nothing loses: one of the batch's captions, or one of the classes, is as likely as another.
    let (choices, of_what) = match (run.recipe.is_labelled(), &run.record.details) {
        (false, _) => (run.recipe.train.batch_size as f64, "batch"),
        (true, Some(details)) => (details.classes.max(2) as f64, "classes"),
        (true, None) => return finding("loss", None, Severity::Note, "the number of classes was not kept", ""),
    };
    let passes = run.record.epochs.iter().rev().flat_map(|epoch| epoch.passes.iter().rev());
    let clip = passes.clone().find(|pass| attacks::shows_own_captions(pass.phase)).map(|pass| pass.loss);
    let last = clip.or(run.record.epochs.last().map(|epoch| epoch.loss)).unwrap_or(f64::NAN);
    let share = last / choices.ln();
    let severity = match share {
        s if s.is_nan() || s > 0.95 => Severity::Problem,
        s if s > 0.8 => Severity::Warning,
        _ => Severity::Ok,
    };
    finding(
        "loss",
        None,
        severity,
        format!(
            "mean loss of the last pass with own captions or labels {last:.3}; ln({of_what}) = {:.3}, so {:.0} % of chance",
            choices.ln(),
            100.0 * share
        ),
        match severity {
            Severity::Problem => {
                "the model has learned next to nothing: check that captions or labels belong to images, raise learning_rate or epochs"
            }
            _ => {
                "the model has learned something, and not much yet: what an attack does to it says little; train longer"
            }
        },
    )
}

/// The sum of the rates over all steps: each logged one stands for the steps since the one before.
fn total_rate(logged: &[(u64, f64)], steps: u64) -> f64 {
    let mut before = 0;
    let mut total = 0.0;
    for (step, rate) in logged {
        total += rate * step.saturating_sub(before) as f64;
        before = *step;
    }
    total + logged.last().map_or(0.0, |(step, rate)| rate * steps.saturating_sub(*step) as f64)
}

fn learning_rate(run: &Finished) -> Finding {
    let config = &run.recipe.train;
    let passes = run.record.epochs.iter().flat_map(|epoch| &epoch.passes);
    let steps: u64 = passes.map(|pass| pass.steps).sum();
    let highest = run.learning_rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let total = total_rate(&run.learning_rates, steps);
    // SafeCLIP has a schedule of its own.
    let scheduled = run.recipe.objective.name != ObjectiveName::Safeclip;
    let warming = scheduled && config.warmup_never_ends(steps);
    let unknown = run.learning_rates.is_empty();
    let learned = matches!(loss(run).severity, Severity::Ok);
    let (severity, remedy) = rate_severity(warming, (!unknown).then_some((highest, total)), learned);
    let never = if warming { "; the warm-up never ends" } else { "" };
    let summed = match unknown {
        true => "no rate was logged (train.log_every_steps is larger than the run)".to_owned(),
        false => format!(
            "highest logged {}, summed over all steps {total:.4} (attacks failed at 0.01 and worked at 0.1 in public reports)",
            short(highest)
        ),
    };
    finding("learning rate", None, severity, format!("{}, {summed}{never}", count(steps, "step")), remedy)
}

/// Severity and what to do: of a warm-up that never ends, or of the highest rate and the sum over the steps, where they are known. A model
/// that has learned had rates enough for that, whatever they sum up to.
fn rate_severity(warming: bool, rates: Option<(f64, f64)>, learned: bool) -> (Severity, &'static str) {
    match rates {
        _ if warming => (
            Severity::Problem,
            "let train.warmup_fraction say the warm-up as a share of the steps, or lower train.warmup_steps",
        ),
        None => (Severity::Note, ""),
        Some((_, total)) if total >= SMALL_TOTAL_RATE => (Severity::Ok, ""),
        Some((highest, _)) if highest >= USUAL_RATE => (
            if learned { Severity::Note } else { Severity::Warning },
            "the rate is not low, its steps are few: raise train.epochs, or lower train.batch_size",
        ),
        Some(_) => (
            if learned { Severity::Note } else { Severity::Problem },
            "raise learning_rate (1e-5 instead of 1e-6 when fine-tuning), or train longer",
        ),
    }
}

/// A number of a few digits: `1e-3`, `9.99e-4`.
fn short(number: f64) -> String {
    let text = format!("{number:.2e}");
    match text.split_once('e') {
        Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
        None => text,
    }
}

fn utility(case: &Case) -> Finding {
    let evaluation = &case.run.record.summary.evaluation;
    let chance = 1.0 / case.evaluator.classes.len().max(1) as f64;
    let top1 = &evaluation.zero_shot_top1;
    if top1.n == 0 {
        return finding(
            "clean accuracy",
            None,
            Severity::Note,
            match evaluation.targets.len() {
                0 => "not measured: the run was evaluated on no labelled images".to_owned(),
                targets => format!("not measured: all {targets} labelled images are targets of the attack"),
            },
            match evaluation.targets.is_empty() {
                true => {
                    "name some with --val-data: without them nobody knows whether the model has learned, or was fooled"
                }
                false => {
                    "train again with fewer `targets` in [[poison.attacks]], or with more labelled images (--val-data)"
                }
            },
        );
    }
    // With few classes twice chance is too much to ask for: half of the way from chance to perfect is as good.
    let least = (2.0 * chance).min((1.0 + chance) / 2.0);
    let what = if case.run.recipe.is_labelled() { "classifier" } else { "zero-shot" };
    let severity = match top1.rate / chance {
        _ if top1.rate < least => Severity::Problem,
        times if times < 5.0 && case.evaluator.classes.len() > 20 => Severity::Warning,
        _ => Severity::Ok,
    };
    finding(
        "clean accuracy",
        None,
        severity,
        format!("{what} top-1 {}, {:.1} times chance", percent(top1), top1.rate / chance),
        "a model that knows no classes can be fooled into none; an attack rate means something only on a trained model",
    )
}

fn duplicates(case: &Case) -> Finding {
    let (mut all, mut distinct) = (0, HashSet::new());
    let keyed = RandomState::new();
    for caption in case.pairs.captions() {
        all += 1;
        // Hashes of them: all captions of a large set are more than fit into memory.
        distinct.insert(keyed.hash_one(&*caption));
    }
    let distinct = distinct.len();
    let share = 1.0 - distinct as f64 / all.max(1) as f64;
    let severity = if share > 0.5 { Severity::Warning } else { Severity::Ok };
    finding(
        "duplicate captions",
        None,
        severity,
        format!("{:.1} % of {all} captions are repetitions", 100.0 * share),
        "equal captions in a batch are false negatives, and keep the loss near ln(batch)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_rate_is_told_from_few_steps_and_from_a_model_that_has_learned() {
        let said = |warming, highest, total, learned| {
            let (severity, remedy) = rate_severity(warming, Some((highest, total)), learned);
            (severity, remedy.split([' ', ',']).nth(1).unwrap_or_default())
        };
        assert_eq!(said(false, 1e-3, 0.02, false), (Severity::Warning, "rate"), "1e-3 is not low");
        assert_eq!(said(false, 1e-3, 0.02, true), (Severity::Note, "rate"));
        assert_eq!(said(false, 1e-6, 0.01, false), (Severity::Problem, "learning_rate"));
        assert_eq!(said(false, 1e-4, 0.1, false).0, Severity::Ok);
        assert_eq!(said(true, 1e-4, 0.1, true), (Severity::Problem, "train.warmup_fraction"));
        assert_eq!([9.998_713_2e-4, 1e-3, 2.5e-6].map(short), ["1e-3", "1e-3", "2.5e-6"]);
    }

    #[test]
    fn a_logged_rate_stands_for_the_steps_since_the_one_before() {
        assert!((total_rate(&[(10, 0.1), (20, 0.3)], 25) - (1.0 + 3.0 + 1.5)).abs() < 1e-12);
        assert_eq!(total_rate(&[], 25), 0.0);
    }
}
