//! Whether the poison was seen, was worded as the test is, and worked: what of an attack is examined beside its trigger.

use crate::doctor::defence;
use crate::doctor::finding::{Finding, Severity, UNDEFENDED_CONTROL, WORKS, finding, percent};
use crate::doctor::{Case, Finished};
use crate::error::Result;
use crate::eval::{ClassPrompts, Evaluation, TargetOutcome};
use crate::objective::Phase;
use crate::recipe::FEW_EXPOSURES;
use crate::results::EpochRecord;
use roclip_data::pairs::Pair;
use roclip_data::plural;
use roclip_data::poison::Row;
use roclip_data::rate::Rate;
use std::collections::BTreeSet;

/// After which kind of epoch the last evaluation stands; with alternating objectives the kind can decide the result.
pub(super) fn parity(run: &Finished) -> Option<Finding> {
    let summary = &run.record.summary;
    if summary.after.len() < 2 {
        return None;
    }
    let line = |(phase, at): (&String, &crate::run::PhaseEvaluation)| {
        let psr = at.evaluation.psr.map_or(String::new(), |psr| format!(", PSR {}/{}", psr.hits, psr.n));
        format!("{phase} (epoch {}): zero-shot {} %{psr}", at.epoch, at.evaluation.zero_shot_top1.percent(1))
    };
    let lines: Vec<String> = summary.after.iter().map(line).collect();
    let rates = summary.after.values().filter_map(|at| at.evaluation.zero_shot_top1.share());
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
pub(super) fn control(run: &Finished) -> Finding {
    if run.record.row.is_control("undefended") {
        return finding(UNDEFENDED_CONTROL, None, Severity::Ok, "this run is the undefended one", "");
    }
    let Some(control) = defence::undefended(run) else {
        return finding(
            UNDEFENDED_CONTROL,
            None,
            Severity::Warning,
            "no finished run beside this one trained plain CLIP without augmentation on the same manifest",
            "train it (`--preset clip --manifest RUN/manifest.jsonl`): a defence row without an attack that works undefended is worthless",
        );
    };
    let last = &control.row.last;
    let mut weak: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let rates = last
        .psr
        .iter()
        .map(|hits| ("targeted", *hits))
        .chain(last.asr.keys().filter_map(|name| Some((name.as_str(), defence::judged(last, name)?))));
    for (name, hits) in rates {
        words.push(format!("{name} {}", defence::in_words(hits)));
        if hits.rate().is_some_and(|rate| rate < WORKS) {
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
pub(super) fn targeted(run: &Finished) -> Option<Finding> {
    let own = &run.record.summary.evaluation;
    let success = own.psr?;
    let (mut severity, by_chance, mut remedy) = match run.siblings.iter().find(|one| one.row.is_control("clean-data")) {
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
        None if drawn_by_a_reference(run) => (
            Severity::Ok,
            "none is by chance: the model that they were drawn by (poison.reference) reads none of them so".to_owned(),
            "",
        ),
        // All or nothing needs no comparison.
        None => (
            if success.hits > 0 && success.rate < WORKS { Severity::Warning } else { Severity::Ok },
            "how many of these a model without the poison misreads so is not known".to_owned(),
            "train one beside it (`--preset clip --manifest RUN/manifest.jsonl --set poison.measure_only=true`)",
        ),
    };
    let in_spite = defence::is_examined(run) && success.hits > 0;
    if in_spite && severity == Severity::Ok {
        (severity, remedy) = in_spite_of_a_defence(defence::undefended(run).is_some());
    }
    let spite = if in_spite { " in spite of the defence" } else { "" };
    Some(finding("targeted images", None, severity, format!("PSR {}{spite}; {by_chance}", percent(&success)), remedy))
}

/// Whether the targets are such as a model without poison reads otherwise.
fn drawn_by_a_reference(run: &Finished) -> bool {
    run.manifest.as_ref().is_some_and(|manifest| manifest.header.reference_sha256.is_some())
}

/// Severity, and what to do, where pictures are fooled in spite of a defence. With a control beside the run it is judged by that.
fn in_spite_of_a_defence(control: bool) -> (Severity, &'static str) {
    match control {
        true => (Severity::Note, ""),
        false => (
            Severity::Warning,
            "an undefended run beside this one (`--preset clip --manifest RUN/manifest.jsonl`) says how many the defence has stopped; docs/defences.md says what else there is",
        ),
    }
}

fn fooled(evaluation: &Evaluation) -> BTreeSet<&str> {
    targets_where(evaluation, |target| target.rank == Some(1))
}

/// Images of the targets that `wanted` holds for.
fn targets_where(evaluation: &Evaluation, wanted: impl Fn(&TargetOutcome) -> bool) -> BTreeSet<&str> {
    evaluation.targets.iter().filter(|target| wanted(target)).map(|target| target.image.as_str()).collect()
}

/// How often the poison of `attack` was shown, of which `planted` pairs stand in the manifest.
pub(super) fn exposures(case: &Case, attack: &str, planted: usize) -> Finding {
    // Of the pairs that were trained on: a list of ids to drop, or a limit of pairs a picture, leaves some of the manifest's rows out.
    let of_attack = |pair: &Pair| pair.poison.as_ref().is_some_and(|mark| mark.attack == attack);
    let count = case.pairs.poisoned().filter(|(_, pair)| of_attack(pair)).count();
    let (pairs, batch) = (case.run.record.summary.pairs, case.run.recipe.train.batch_size);
    let share = 100.0 * count as f64 / pairs.max(1) as f64;
    let seen = seen(&case.run.record.epochs, attack, count, pairs, batch);
    let others: u64 =
        case.run.record.epochs.iter().flat_map(|e| &e.passes).filter(|p| !shows_own_captions(p.phase)).count() as u64;
    let took = took(&case.run.record.summary.evaluation, attack);
    let severity = match defence::works_without(case.run, attack) {
        true => stopped_exposure_severity(took),
        false => exposure_severity([count, planted], seen.times, took),
    };
    let left_out = match planted.saturating_sub(count) {
        0 => String::new(),
        left_out => format!(" of {planted} in the manifest: {left_out} left out before training"),
    };
    finding(
        "poison count",
        Some(attack),
        severity,
        format!(
            "{}{left_out} ({share:.3} % of what was trained on), seen {} with their own caption in {} ({}); {} with other captions or none",
            plural::count(count, "pair"),
            plural::count(seen.times, "time"),
            plural::count(seen.passes, "pass"),
            if seen.phases.is_empty() {
                "none".to_owned()
            } else {
                seen.phases.into_iter().collect::<Vec<_>>().join(", ")
            },
            plural::count(others, "other pass")
        ),
        match severity {
            Severity::Note => "",
            _ => "raise the count, the rate or the epochs; below a few hundred exposures attacks seldom take",
        },
    )
}

/// Whether `attack` works on the model; none where it was not measured.
fn took(evaluation: &Evaluation, attack: &str) -> Option<bool> {
    let backdoor = evaluation.asr.get(attack).map(|outcome| outcome.turned.unwrap_or(outcome.success));
    backdoor.or(evaluation.psr).map(|rate| rate.rate >= WORKS)
}

/// So many of the `planted` pairs of an attack were shown so many `times`: few of them explain an attack that did not take, and nothing of
/// one that did. Where some were left out before training that is a defence's doing, and no reason to plant more.
fn exposure_severity([pairs, planted]: [usize; 2], times: u64, took: Option<bool>) -> Severity {
    match took {
        Some(true) => Severity::Ok,
        _ if pairs < planted => Severity::Note,
        _ if times < FEW_EXPOSURES => Severity::Warning,
        _ => Severity::Ok,
    }
}

/// The same where the attack is known to work undefended: that it was seen seldom is the defence's doing, and nothing to mend.
fn stopped_exposure_severity(took: Option<bool>) -> Severity {
    if took == Some(true) { Severity::Ok } else { Severity::Note }
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

pub(super) fn captions(case: &Case, attack: &str, rows: &[&Row]) -> Result<Finding> {
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
pub(super) fn wording(case: &Case, prompts: &ClassPrompts, attack: &str, rows: &[&Row]) -> Result<Finding> {
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

/// Whether the passes of this phase give a pair its own caption.
pub(super) fn shows_own_captions(phase: Phase) -> bool {
    matches!(phase, Phase::Clip | Phase::SlowClip | Phase::Safe | Phase::Labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{PassMetrics, SimilarityHistogram};
    use std::collections::BTreeMap;

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

    #[test]
    fn few_exposures_are_blamed_for_an_attack_that_did_not_take_alone() {
        let few = FEW_EXPOSURES - 1;
        assert_eq!(exposure_severity([21, 21], few, Some(false)), Severity::Warning);
        assert_eq!(exposure_severity([21, 21], few, None), Severity::Warning);
        assert_eq!(exposure_severity([21, 21], few, Some(true)), Severity::Ok, "3 of 3 fooled");
        assert_eq!(exposure_severity([21, 21], FEW_EXPOSURES, Some(false)), Severity::Ok);
        assert_eq!(exposure_severity([12, 17], few, Some(false)), Severity::Note, "more poison would be left out, too");
        assert_eq!(stopped_exposure_severity(Some(false)), Severity::Note, "undefended it works");
        assert_eq!(in_spite_of_a_defence(false).0, Severity::Warning, "6 of 6 fooled with a defence are not all right");
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
}
