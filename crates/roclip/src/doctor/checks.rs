//! The causes, one function each. Thresholds are ours, set from the public threads named beside them; every finding prints the
//! number that it judged.

use crate::checkpoint;
use crate::doctor::backdoor;
use crate::doctor::finding::{Finding, Severity, UNDEFENDED_CONTROL, WORKS, finding, percent};
use crate::doctor::{Case, FEW_EXPOSURES, Finished};
use crate::error::{Error, Result};
use crate::eval::{ClassPrompts, Evaluation, TargetOutcome};
use crate::model::Head;
use crate::objective::Phase;
use crate::recipe::ObjectiveName;
use crate::results::{EpochRecord, Hits, RunRecord};
use roclip_data::pairs::Pair;
use roclip_data::plural::count;
use roclip_data::poison::{Manifest, Row};
use roclip_data::rate::Rate;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Sum of the learning rate over all steps. lr 1e-6 over 5 epochs of 500 K pairs at batch 128 (0.01) failed, 1e-5 (0.1) worked
/// (CleanCLIP issue 3).
const SMALL_TOTAL_RATE: f64 = 0.05;
/// From here on a rate is no small one, whether a model is trained anew or fine-tuned.
const USUAL_RATE: f64 = 1e-4;

/// What a run folder alone tells.
pub(super) fn of_run(run: &Finished) -> Vec<Finding> {
    let mut findings = vec![loss(run), learning_rate(run)];
    findings.extend(parity(run));
    match poison(run) {
        None => findings.push(finding("poison", None, Severity::Note, "the run has no poison: nothing to explain", "")),
        Some(_) => {
            findings.push(control(run));
            findings.extend(targeted(run));
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
    for (attack, rows) in by_attack(&manifest.rows) {
        findings.push(exposures(case, attack));
        findings.push(captions(case, attack, &rows)?);
        findings.push(wording(case, &prompts, attack, &rows)?);
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
    findings.extend(by_attack(&manifest.rows).into_keys().map(|attack| exposures(case, attack)));
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

/// What the run was poisoned with.
fn poison(run: &Finished) -> Option<&Manifest> {
    run.manifest.as_ref().filter(|_| !run.recipe.poison.measure_only)
}

fn by_attack(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut found: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        found.entry(&row.attack).or_default().push(row);
    }
    found
}

/// Whether the passes of this phase give a pair its own caption.
fn shows_own_captions(phase: Phase) -> bool {
    matches!(phase, Phase::Clip | Phase::SlowClip | Phase::Safe | Phase::Labels)
}

fn loss(run: &Finished) -> Finding {
    // What a model that has learned nothing loses: one of the batch's captions, or one of the classes, is as likely as another.
    let (choices, of_what) = match (run.recipe.is_labelled(), &run.record.details) {
        (false, _) => (run.recipe.train.batch_size as f64, "batch"),
        (true, Some(details)) => (details.classes.max(2) as f64, "classes"),
        (true, None) => return finding("loss", None, Severity::Note, "the number of classes was not kept", ""),
    };
    let passes = run.record.epochs.iter().rev().flat_map(|epoch| epoch.passes.iter().rev());
    let clip = passes.clone().find(|pass| shows_own_captions(pass.phase)).map(|pass| pass.loss);
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
            "not measured: the run was evaluated on no labelled images".to_owned(),
            "name some with --val-data: without them nobody knows whether the model has learned, or was fooled",
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

/// After which kind of epoch the last evaluation stands; with alternating objectives the kind can decide the result.
fn parity(run: &Finished) -> Option<Finding> {
    let summary = &run.record.summary;
    if summary.after.len() < 2 {
        return None;
    }
    let line = |(phase, at): (&String, &crate::run::PhaseEvaluation)| {
        let psr = at.evaluation.psr.map_or(String::new(), |psr| format!(", PSR {}/{}", psr.hits, psr.n));
        format!("{phase} (epoch {}): zero-shot {:.1} %{psr}", at.epoch, 100.0 * at.evaluation.zero_shot_top1.rate)
    };
    let lines: Vec<String> = summary.after.iter().map(line).collect();
    let rates = summary.after.values().map(|at| at.evaluation.zero_shot_top1.rate);
    let (low, high) = rates.fold((1.0f64, 0.0f64), |(l, h), r| (l.min(r), h.max(r)));
    let severity = if high - low > 0.05 { Severity::Warning } else { Severity::Ok };
    Some(finding(
        "parity of the evaluated epoch",
        None,
        severity,
        format!("the last epoch was a {:?} one; {}", summary.phase, lines.join("; ")),
        "report both; a table that mixes them compares different things",
    ))
}

/// A defence says nothing unless the same attack works without it.
fn control(run: &Finished) -> Finding {
    let undefended = |one: &&RunRecord| one.row.is_control("undefended");
    if undefended(&&run.record) {
        return finding(UNDEFENDED_CONTROL, None, Severity::Ok, "this run is the undefended one", "");
    }
    let Some(control) = run.siblings.iter().find(undefended) else {
        return finding(
            UNDEFENDED_CONTROL,
            None,
            Severity::Warning,
            "no finished run beside this one trained plain CLIP without augmentation on the same manifest",
            "train it (`--preset clip --manifest RUN/manifest.jsonl`): a defence row without an attack that works undefended is worthless",
        );
    };
    let last = &control.row.last;
    // What is read as the target without the trigger, too, is no success of a backdoor.
    let judged = |name: &str, hits: Hits| last.asr_turned.get(name).copied().unwrap_or(hits);
    let mut weak: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let rates = last
        .psr
        .iter()
        .map(|hits| ("targeted", *hits))
        .chain(last.asr.iter().map(|(n, h)| (n.as_str(), judged(n, *h))));
    for (name, hits) in rates {
        let rate = hits.hits as f64 / hits.n.max(1) as f64;
        words.push(format!("{name} {:.1} % ({}/{})", 100.0 * rate, hits.hits, hits.n));
        if rate < WORKS {
            weak.push(name.to_owned());
        }
    }
    let severity = if weak.is_empty() { Severity::Ok } else { Severity::Problem };
    let what = format!(
        "`{}`, undefended: {} (of a backdoor: what its trigger turns)",
        control.folder.display(),
        words.join(", ")
    );
    let remedy = format!(
        "{} {} not work undefended, so that no defence can be credited with stopping {}",
        weak.join(", "),
        if weak.len() == 1 { "does" } else { "do" },
        if weak.len() == 1 { "it" } else { "them" }
    );
    finding(UNDEFENDED_CONTROL, None, severity, what, &remedy)
}

/// Targets that are read as the attacker's class by a model that never saw the poison, too, are no success of the attack.
fn targeted(run: &Finished) -> Option<Finding> {
    let own = &run.record.summary.evaluation;
    let success = own.psr?;
    let (severity, by_chance, remedy) = match run.siblings.iter().find(|one| one.row.is_control("clean-data")) {
        Some(clean) => {
            let clean = &clean.summary.evaluation;
            let (own, taken_for) = (fooled(own), fooled(clean));
            let rightly = targets_where(clean, |target| target.predicted == target.true_class);
            let shared = own.intersection(&taken_for).count();
            (
                if shared * 2 > own.len() { Severity::Warning } else { Severity::Ok },
                format!(
                    "the model on clean data reads {} targets so without any poison, {shared} of them the same; of the {} that it reads rightly, {} are hits here",
                    taken_for.len(),
                    rightly.len(),
                    own.intersection(&rightly).count()
                ),
                "less than half of the hits are the attack's: a model of this strength takes these classes for each other anyway; poison.reference draws targets that a clean model reads rightly",
            )
        }
        // All or nothing needs no comparison.
        None => (
            if success.hits > 0 && success.rate < WORKS { Severity::Warning } else { Severity::Ok },
            "how many of these a model without the poison misreads so is not known".to_owned(),
            "train one beside it (`--preset clip --manifest RUN/manifest.jsonl --set poison.measure_only=true`)",
        ),
    };
    Some(finding("targeted images", None, severity, format!("PSR {}; {by_chance}", percent(&success)), remedy))
}

fn fooled(evaluation: &Evaluation) -> BTreeSet<&str> {
    targets_where(evaluation, |target| target.rank == Some(1))
}

/// Images of the targets that `wanted` holds for.
fn targets_where(evaluation: &Evaluation, wanted: impl Fn(&TargetOutcome) -> bool) -> BTreeSet<&str> {
    evaluation.targets.iter().filter(|target| wanted(target)).map(|target| target.image.as_str()).collect()
}

fn exposures(case: &Case, attack: &str) -> Finding {
    // Of the pairs that were trained on: a limit of pairs a picture leaves some of the manifest's rows out.
    let of_attack = |pair: &Pair| pair.poison.as_ref().is_some_and(|mark| mark.attack == attack);
    let count = case.pairs.poisoned().filter(|(_, pair)| of_attack(pair)).count();
    let (pairs, batch) = (case.run.record.summary.pairs, case.run.recipe.train.batch_size);
    let share = 100.0 * count as f64 / pairs.max(1) as f64;
    let seen = seen(&case.run.record.epochs, attack, count, pairs, batch);
    let others: u64 =
        case.run.record.epochs.iter().flat_map(|e| &e.passes).filter(|p| !shows_own_captions(p.phase)).count() as u64;
    let severity = if seen.times < FEW_EXPOSURES { Severity::Warning } else { Severity::Ok };
    finding(
        "poison count",
        Some(attack),
        severity,
        format!(
            "{count} pairs ({share:.3} %), seen {} times with their own caption in {} passes ({}); {others} other passes give them other captions or none",
            seen.times,
            seen.passes,
            if seen.phases.is_empty() {
                "none".to_owned()
            } else {
                seen.phases.into_iter().collect::<Vec<_>>().join(", ")
            }
        ),
        "raise the count, the rate or the epochs; below a few hundred exposures attacks seldom take",
    )
}

/// How often the poison of one attack was shown with its own captions.
struct Seen {
    times: u64,
    passes: u64,
    phases: BTreeSet<String>,
}

/// `count` pairs of `attack` among `pairs`. A pass that ends early shows its share of them; SafeCLIP's safe passes show those that the
/// split lets in.
fn seen(epochs: &[EpochRecord], attack: &str, count: usize, pairs: usize, batch: usize) -> Seen {
    let mut found = Seen { times: 0, passes: 0, phases: BTreeSet::new() };
    let mut times = 0.0;
    for epoch in epochs {
        for pass in epoch.passes.iter().filter(|pass| shows_own_captions(pass.phase)) {
            let admitted = epoch.split.as_ref().filter(|_| pass.phase == Phase::Safe);
            let (poison, all) = match admitted {
                Some(split) => (split.poison_in_safe.get(attack).map_or(0, |rate| rate.hits), split.safe),
                None => (count, pairs),
            };
            // The incomplete last batch is dropped.
            let whole = (all / batch.max(1)).max(1) as f64;
            times += poison as f64 * (pass.steps as f64 / whole).min(1.0);
            found.passes += 1;
            found.phases.insert(pass.phase.to_string());
        }
    }
    found.times = times.round() as u64;
    found
}

fn captions(case: &Case, attack: &str, rows: &[&Row]) -> Result<Finding> {
    let mut without = 0;
    let mut missing = BTreeSet::new();
    for row in rows {
        without += usize::from(!roclip_data::poison::whole_word(&row.target)?.is_match(&row.caption_after));
        if !case.evaluator.classes.contains(&row.target) {
            missing.insert(row.target.as_str());
        }
    }
    let severity = match (without, missing.is_empty()) {
        (_, false) => Severity::Problem,
        (n, _) if n * 2 > rows.len() => Severity::Problem,
        (n, _) if n > 0 => Severity::Warning,
        _ => Severity::Ok,
    };
    let absent = match missing.is_empty() {
        true => "every target is in the class list".to_owned(),
        false => format!("not in the class list: {}", missing.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Ok(finding(
        "target word",
        Some(attack),
        severity,
        format!(
            "{} of {} poisoned captions have the target as a whole word; {absent}",
            rows.len() - without,
            rows.len()
        ),
        "captions must say what the classifier will be asked for; add the class, or use captions = \"templates\"",
    ))
}

/// Whether the poisoned captions and the class prompts mean the same to this model.
fn wording(case: &Case, prompts: &ClassPrompts, attack: &str, rows: &[&Row]) -> Result<Finding> {
    let texts: Vec<String> = rows.iter().map(|row| row.caption_after.clone()).collect();
    let best = prompts.read_captions(&case.loaded.model, &case.loaded.tokenizer, &texts)?;
    let named = |at: i64| case.evaluator.classes.get(at as usize);
    let hits = best.iter().zip(rows).filter(|(at, row)| named(**at) == Some(&row.target)).count();
    let rate = Rate::new(hits, rows.len());
    let severity = if rate.rate < 0.25 { Severity::Warning } else { Severity::Ok };
    Ok(finding(
        "caption against class name",
        Some(attack),
        severity,
        format!("{} of the poisoned captions lie nearest to the prompts of their target", percent(&rate)),
        "the captions teach another meaning than the one that is tested; use captions closer to the class prompts (targeted poisoning: `captions = \"word-read\"`)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{PassMetrics, SimilarityHistogram};

    fn epoch(passes: &[(Phase, u64)]) -> EpochRecord {
        EpochRecord {
            phase: String::new(),
            loss: 1.0,
            passes: passes
                .iter()
                .map(|(phase, steps)| PassMetrics { phase: *phase, steps: *steps, loss: 1.0 })
                .collect(),
            scores: None,
            matches: None,
            split: None,
            similarity: SimilarityHistogram::new(&BTreeMap::new()),
        }
    }

    /// 80 pairs at batch 8: ten steps are a whole pass.
    #[test]
    fn poison_is_seen_where_a_pass_shows_own_captions_and_as_far_as_it_goes() {
        let epochs = [
            epoch(&[(Phase::Unimodal, 10)]),
            epoch(&[(Phase::SlowClip, 10), (Phase::SlowClip, 5)]),
            epoch(&[(Phase::Matching, 10)]),
            epoch(&[(Phase::Clip, 10)]),
        ];
        let found = seen(&epochs, "badnets", 4, 80, 8);
        assert_eq!((found.times, found.passes), (10, 3));
        assert_eq!(found.phases.into_iter().collect::<Vec<_>>(), ["clip", "slow-clip"]);
    }

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
