//! Causes of a failed backdoor: its trigger does not reach the model, or reaches it otherwise in training than at test time, or was not
//! learned, or was learned and does not carry over. Thresholds are ours; every finding prints the number that it judged.

use crate::doctor::Case;
use crate::doctor::defence::works_without;
use crate::doctor::finding::{Finding, Severity, WORKS, finding, percent};
use crate::doctor::learned::{Learned, measure};
use crate::doctor::survival::{Survival, survival};
use crate::error::Result;
use crate::eval::Recognizer;
use roclip_data::plural::count;
use roclip_data::poison::Backdoor;
use roclip_data::rate::Rate;

/// Share of a trigger's difference that must be left, and agreement of differences that a model can learn from.
const KEPT: f64 = 0.5;
const CONSISTENT: f64 = 0.25;
/// What gives a backdoor pictures to be tested on.
const MORE_PICTURES: &str = "give the attacks fewer `targets`, or name more labelled pictures that are not of the backdoor's target (--val-data)";
/// Share of its own training pictures that a backdoor which was learned turns.
const LEARNED: f64 = 0.5;

pub(super) fn checks(case: &Case, recognizer: &Recognizer, backdoor: &Backdoor) -> Result<Vec<Finding>> {
    let mut findings = trigger(case, backdoor)?;
    findings.extend(learned(case, recognizer, backdoor)?);
    findings.extend(outcome(case, backdoor));
    Ok(findings)
}

fn trigger(case: &Case, backdoor: &Backdoor) -> Result<Vec<Finding>> {
    let samples: Vec<_> = case.evaluator.samples.iter().collect();
    let image_size = case.loaded.model.config().image_size();
    let (recipe, seed) = (&case.run.recipe, case.run.record.row.seed);
    let augment = recipe.augment.image.as_ref();
    let measured: Survival = survival(&backdoor.trigger, &samples, recipe.data.limits, augment, image_size, seed)?;
    let name = Some(backdoor.attack.as_str());
    let success = case.run.record.summary.evaluation.asr.get(&backdoor.attack).map(|outcome| outcome.success.rate);
    let severity = trigger_severity(&measured, success);
    let training = finding(
        "trigger in training",
        name,
        severity,
        format!(
            "changes the input by {:.1} levels of 255 (root mean square over {} pictures); augmentation keeps {:.0} % of that at the median and under a quarter in {:.0} % of draws; agreement of the pattern {:.2} ({:.2} without augmentation)",
            measured.signal_levels,
            measured.pictures,
            100.0 * measured.kept_in_training,
            100.0 * measured.lost_in_training,
            measured.consistency,
            measured.consistency_plain
        ),
        "a larger, more central or whole-image trigger survives crops; a fixed pattern and place agree where fresh noise does not",
    );
    let severity = if measured.kept_after_jpeg_75 < KEPT { Severity::Warning } else { Severity::Ok };
    let test = finding(
        "trigger at test time",
        name,
        severity,
        format!(
            "JPEG of quality 75 keeps {:.0} % of the change; resizing and the centre crop are included",
            100.0 * measured.kept_after_jpeg_75
        ),
        "train and test must see the same trigger: re-encode both or neither (jpeg_quality)",
    );
    Ok(vec![training, test])
}

/// Why a trigger hardly reaches the model: too little of it is left of what training shows, or nothing that agrees from picture to picture;
/// none where it does reach it.
pub(super) fn hardly_reaches_the_model(measured: &Survival) -> Option<String> {
    let mut reasons = Vec::new();
    if measured.signal_levels < 1.0 {
        reasons.push(format!("it changes the picture by {:.1} of 255 levels", measured.signal_levels));
    }
    if measured.kept_in_training < KEPT || measured.lost_in_training > 0.5 {
        reasons.push(format!(
            "augmentation leaves {:.0} % of its change at the median, and less than a quarter in {:.0} % of the draws",
            100.0 * measured.kept_in_training,
            100.0 * measured.lost_in_training
        ));
    }
    if measured.consistency < CONSISTENT {
        reasons.push(format!(
            "what it changes agrees from draw to draw by {:.2} (1 is always the same, {CONSISTENT} can be learned)",
            measured.consistency
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join(", and "))
}

/// A trigger that hardly reaches the model explains a failed attack. Where the attack works all the same (a scrambled picture has a look
/// of its own, though no two changes agree) it is worth a note.
fn trigger_severity(measured: &Survival, success: Option<f64>) -> Severity {
    match hardly_reaches_the_model(measured).is_some() {
        false => Severity::Ok,
        true if success.is_some_and(|rate| rate >= WORKS) => Severity::Note,
        true => Severity::Problem,
    }
}

/// Where a backdoor failed: was it never learned, were its pictures learned by heart, or does what was learned not carry over?
fn learned(case: &Case, recognizer: &Recognizer, backdoor: &Backdoor) -> Result<Option<Finding>> {
    let Some(measured) = measure(case, recognizer, backdoor)? else { return Ok(None) };
    let row = &case.run.record.row;
    let success = row.last.asr.get(&backdoor.attack).map_or(Rate::new(0, 0), |hits| Rate::new(hits.hits, hits.n));
    let concluded = conclusion(&measured, &success, row.is_control("undefended"));
    let (severity, so, remedy) = match works_without(case.run, &backdoor.attack) {
        true => of_a_defence(concluded, &success),
        false => concluded,
    };
    let percent = |rate: &Rate| match rate.measured() {
        Some(rate) => format!("{:.0} % [{:.0}, {:.0}]", 100.0 * rate.rate, 100.0 * rate.low, 100.0 * rate.high),
        None => "nothing".to_owned(),
    };
    Ok(Some(finding(
        "learned in training",
        Some(&backdoor.attack),
        severity,
        format!(
            "of {} of its training pictures the model reads as `{}` {} as training showed them, {} with the plain trigger, {} without it; of {} with the trigger {}: {so}",
            measured.plain.n,
            backdoor.target,
            percent(&measured.in_training),
            percent(&measured.plain),
            percent(&measured.without),
            count(success.n, "test picture"),
            percent(&success)
        ),
        remedy,
    )))
}

/// Severity, what the shares say, and what to do. `success` is the strict ASR on test pictures. Few training pictures leave wide intervals:
/// what these do not tell apart is not called different.
fn conclusion(measured: &Learned, success: &Rate, undefended: bool) -> (Severity, &'static str, &'static str) {
    let Learned { in_training, plain, without } = measured;
    let best = if in_training.rate > plain.rate { in_training } else { plain };
    let shown = best.rate;
    if success.n == 0 {
        (Severity::Warning, "nothing can be said of other pictures: none is left that could be tested", MORE_PICTURES)
    } else if success.rate >= WORKS {
        (Severity::Ok, "the attack works", "")
    } else if shown < LEARNED && best.low > without.high {
        let remedy = if undefended { "raise the rate, the epochs or the trigger's strength" } else { "" };
        let severity = if undefended { Severity::Warning } else { Severity::Note };
        (severity, "learned in part, even where it was shown", remedy)
    } else if shown < LEARNED && undefended {
        let remedy = "raise the rate, the epochs or the trigger's strength";
        (Severity::Problem, "not learned even where it was shown", remedy)
    } else if shown < LEARNED {
        (Severity::Note, "not learned even where it was shown; the undefended run says whether it can be", "")
    } else if without.rate > 0.5 * shown {
        let remedy = "more poisoned pictures, or a clearer trigger, make the trigger the easier lesson";
        (Severity::Warning, "its pictures were learned by heart, trigger or not", remedy)
    } else if plain.rate < 0.5 * shown && plain.high < in_training.low {
        let remedy = "use a trigger that augmentation leaves alone";
        (Severity::Warning, "the trigger was learned as augmentation distorts it, not as a test shows it", remedy)
    } else if success.high < plain.low {
        let remedy = "more poisoned pictures, or a clearer trigger";
        (Severity::Warning, "learned on its own pictures, and does not carry over to others as well", remedy)
    } else {
        let remedy = "raise the rate, the epochs or the trigger's strength";
        (Severity::Warning, "learned in part, and carries over to other pictures about as well as to its own", remedy)
    }
}

/// What was concluded, where the attack works undefended: what is weaker about it here is the defence's doing, and nobody is advised to
/// strengthen it.
fn of_a_defence(
    (severity, so, remedy): (Severity, &'static str, &'static str),
    success: &Rate,
) -> (Severity, &'static str, &'static str) {
    if success.n == 0 || severity == Severity::Ok { (severity, so, remedy) } else { (Severity::Note, so, "") }
}

fn outcome(case: &Case, backdoor: &Backdoor) -> Option<Finding> {
    let outcome = case.run.record.summary.evaluation.asr.get(&backdoor.attack)?;
    if outcome.success.n == 0 {
        let what = format!("not measured: no labelled picture is left that is not of the target `{}`", backdoor.target);
        return Some(finding("outcome", Some(&backdoor.attack), Severity::Warning, what, MORE_PICTURES));
    }
    let chance = 1.0 / case.evaluator.classes.len().max(1) as f64;
    let left_out = left_out_by_list(case, &backdoor.attack);
    let (severity, remedy) = match left_out {
        0 => outcome_severity(&outcome.success, &outcome.base_rate, chance),
        _ => (Severity::Note, ""),
    };
    let without = match left_out {
        0 => String::new(),
        1 => "; its 1 poisoned pair is left out by data.drop, so that the model was not trained on it".to_owned(),
        many => {
            format!(
                "; all its {many} poisoned pairs are left out by data.drop, so that the model was not trained on it"
            )
        }
    };
    Some(finding(
        "outcome",
        Some(&backdoor.attack),
        severity,
        format!(
            "strict ASR {} for `{}`; without the trigger {}{}; true class kept {}; guessing among the classes gives {:.1} %{without}",
            percent(&outcome.success),
            backdoor.target,
            percent(&outcome.base_rate),
            outcome.turned.map_or_else(String::new, |rate| format!("; turned by it {}", percent(&rate))),
            percent(&outcome.true_class),
            100.0 * chance
        ),
        remedy,
    ))
}

/// Poisoned pairs of `attack`, where the run's list of ids to drop has left none of them.
fn left_out_by_list(case: &Case, attack: &str) -> usize {
    let run = case.run;
    if run.recipe.data.drop.is_none() || case.pairs.poison_by_attack().contains_key(attack) {
        return 0;
    }
    let rows = run.manifest.iter().flat_map(|manifest| &manifest.rows);
    rows.filter(|row| row.attack == attack).count()
}

/// What a success rate is worth beside the base rate, where guessing gives `chance`.
fn outcome_severity(success: &Rate, base_rate: &Rate, chance: f64) -> (Severity, &'static str) {
    match base_rate.rate > 0.5 * success.rate && success.hits > 0 {
        false => (Severity::Note, ""),
        // The target is named more often than by guessing, and not by accident.
        true if base_rate.low > chance && base_rate.rate > 2.0 * chance => (
            Severity::Warning,
            "the base rate explains much of the success: the target is a favourite class of this model",
        ),
        true => (Severity::Note, "the trigger adds little to what a model names by chance: the attack did not take"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faint_trigger_is_a_problem_unless_its_attack_works() {
        let clear = Survival {
            pictures: 1,
            signal_levels: 30.0,
            kept_in_training: 0.9,
            lost_in_training: 0.0,
            kept_after_jpeg_75: 1.0,
            consistency: 0.8,
            consistency_plain: 0.8,
        };
        let vague = Survival { consistency: 0.1, ..clear.clone() };
        assert_eq!(trigger_severity(&clear, Some(0.0)), Severity::Ok);
        assert_eq!(trigger_severity(&vague, Some(0.1)), Severity::Problem);
        assert_eq!(trigger_severity(&vague, None), Severity::Problem);
        assert_eq!(trigger_severity(&vague, Some(0.9)), Severity::Note);
    }

    #[test]
    fn a_rate_at_chance_makes_no_favourite_class() {
        let said =
            |success, without, chance| outcome_severity(&Rate::new(success, 200), &Rate::new(without, 200), chance).0;
        assert_eq!(said(21, 19, 0.1), Severity::Note, "10 % of 10 classes");
        assert_eq!(said(100, 90, 0.1), Severity::Warning);
        assert_eq!(said(190, 4, 0.1), Severity::Note);
        assert_eq!(said(0, 0, 0.1), Severity::Note);
    }

    #[test]
    fn the_shares_of_a_backdoors_own_pictures_say_where_it_failed() {
        let said = |in_training, plain, without, success, undefended| {
            let [in_training, plain, without, success] =
                [in_training, plain, without, success].map(|hits| Rate::new(hits, 100));
            let (severity, so, _) = conclusion(&Learned { in_training, plain, without }, &success, undefended);
            (severity, so.split([' ', ',']).next().unwrap_or_default())
        };
        assert_eq!(said(100, 100, 4, 98, true), (Severity::Ok, "the"));
        assert_eq!(said(8, 6, 6, 2, false), (Severity::Note, "not"));
        assert_eq!(said(8, 6, 6, 2, true), (Severity::Problem, "not"));
        assert_eq!(said(40, 40, 6, 38, true), (Severity::Warning, "learned"));
        assert_eq!(said(90, 90, 80, 10, false), (Severity::Warning, "its"));
        assert_eq!(said(90, 20, 1, 10, false), (Severity::Warning, "the"));
        assert_eq!(said(90, 85, 1, 10, false), (Severity::Warning, "learned"));
        let [shown, without, none] = [Rate::new(8, 100), Rate::new(6, 100), Rate::new(0, 0)];
        let (_, so, remedy) = conclusion(&Learned { in_training: shown, plain: shown, without }, &none, true);
        assert!(so.contains("none is left") && remedy.contains("fewer `targets`"), "{so}");
    }

    #[test]
    fn a_rate_on_other_pictures_within_the_interval_of_its_own_carries_over() {
        let [in_training, plain, without] = [8, 8, 2].map(|hits| Rate::new(hits, 14));
        let said = |success| conclusion(&Learned { in_training, plain, without }, &success, true).1;
        assert!(said(Rate::new(99, 177)).contains("carries over to other pictures about as well"));
        assert!(said(Rate::new(8, 177)).contains("does not carry over"));
        // Of a defence the attacker is not advised.
        let (success, none) = (Rate::new(8, 177), Rate::new(0, 0));
        let concluded = conclusion(&Learned { in_training, plain, without }, &success, false);
        assert_eq!((concluded.0, of_a_defence(concluded, &success).0), (Severity::Warning, Severity::Note));
        assert_eq!(of_a_defence(concluded, &success).2, "");
        assert_eq!(of_a_defence(concluded, &none), concluded);
    }
}
