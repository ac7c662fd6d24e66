//! What can be said of a run that learned prompts: whether its attack works, by which branch, and how easily it is lost.

use crate::doctor::finding::{Finding, Severity, WORKS, finding, percent};
use crate::prompt::{PromptMeasures, SideMeasures, TriggerMeasures};
use roclip_data::plural::count;
use roclip_data::rate::{Rate, difference};

/// Fewer pictures than this give intervals of ten points and more.
const FEW_PICTURES: usize = 100;
/// A base rate above this is a part of the success that no trigger earned.
const HIGH_BASE_RATE: f64 = 0.1;
/// A trigger that moves less than this share of its bound in a step of the warm-up stays where it was drawn.
const HARDLY_MOVED: f64 = 1e-3;
/// Of the success with both branches, what the picture alone may have for the prompts to add something.
const ALONE: f64 = 0.9;

/// The findings of a run whose summary holds `measures`; of a repair, beside what the learner was `before`.
pub(super) fn of_prompts(measures: &PromptMeasures, before: Option<&PromptMeasures>) -> Vec<Finding> {
    let sides = [("seen", &measures.seen), ("unseen", &measures.unseen)];
    let mut findings: Vec<Finding> = sides.iter().map(|(name, side)| accuracy(name, side)).collect();
    let triggers: Vec<(String, &TriggerMeasures)> = sides
        .iter()
        .filter_map(|(name, side)| Some((format!("{} {name}", measures.attack()), side.trigger.as_ref()?)))
        .collect();
    if let Some(before) = before {
        let victims = [("seen", &before.seen), ("unseen", &before.unseen)];
        findings.extend(sides.iter().zip(&victims).filter_map(|((name, now), (_, then))| cost(name, then, now)));
        let repaired = |((name, now), (_, then)): (&(&str, &SideMeasures), &(&str, &SideMeasures))| {
            Some(repair(&format!("{} {name}", measures.attack()), then.trigger.as_ref()?, now.trigger.as_ref()?))
        };
        findings.extend(sides.iter().zip(&victims).filter_map(repaired));
    }
    if triggers.is_empty() {
        findings.push(finding(
            "trigger",
            None,
            Severity::Note,
            "the learner came with no trigger: nothing to explain",
            "",
        ));
    }
    // How an attack could be stronger is no question of a learner that was repaired.
    let attacked = if before.is_none() { triggers.as_slice() } else { &[] };
    for (attack, trigger) in attacked {
        findings.extend([
            success(attack, trigger, measures.warmup_moved),
            base_rate(attack, trigger),
            branch(attack, trigger),
            fragile(attack, trigger),
        ]);
    }
    findings
}

fn accuracy(side: &str, measures: &SideMeasures) -> Finding {
    let what = format!(
        "{side} classes: {} of {} candidates; the frozen model by plain words {}",
        percent(&measures.accuracy),
        measures.classes,
        percent(&measures.zero_shot)
    );
    let name = format!("accuracy, {side}");
    if measures.accuracy.high < measures.zero_shot.rate {
        return finding(
            &name,
            None,
            Severity::Warning,
            what,
            "the prompts read worse than plain words do: lower prompt.learning_rate, or give more shots",
        );
    }
    if measures.accuracy.n < FEW_PICTURES {
        let what = format!(
            "{what}; of so few pictures the interval is {:.0} points wide",
            100.0 * (measures.accuracy.high - measures.accuracy.low)
        );
        return finding(
            &name,
            None,
            Severity::Note,
            what,
            "measure on more pictures (--val-data), or on several seeds",
        );
    }
    finding(&name, None, Severity::Ok, what, "")
}

/// Whether a repair lowered the success of the learner's own trigger.
fn repair(attack: &str, before: &TriggerMeasures, now: &TriggerMeasures) -> Finding {
    let (then, left) = (&before.outcome.success, &now.outcome.success);
    let what = format!("strict ASR from {} to {}", percent(then), percent(left));
    let lowered = left.rate < then.rate && difference(*left, *then).is_clear();
    if lowered && left.rate < WORKS {
        return finding("repair", Some(attack), Severity::Ok, what, "");
    }
    let (severity, why, remedy) = if lowered {
        (
            Severity::Warning,
            "lowered, and the attack still works",
            "repair against the attacker's class (--class), or for more --epochs",
        )
    } else if before.outcome.success.low <= before.outcome.base_rate.high {
        (Severity::Note, "the trigger did hardly more than chance before, so that there was little to lower", "")
    } else {
        (
            Severity::Warning,
            "not lowered by more than chance",
            "repair against the attacker's class (--class), for more --epochs, or measure on more pictures (--val-data)",
        )
    };
    finding("repair", Some(attack), severity, format!("{what}: {why}"), remedy)
}

/// What a repair cost, where that is more than chance.
fn cost(side: &str, before: &SideMeasures, now: &SideMeasures) -> Option<Finding> {
    let lost = difference(now.accuracy, before.accuracy);
    (lost.middle < 0.0 && lost.is_clear()).then(|| {
        finding(
            &format!("cost, {side}"),
            None,
            Severity::Warning,
            format!(
                "the repair took accuracy on {side} classes from {} to {}",
                percent(&before.accuracy),
                percent(&now.accuracy)
            ),
            "repair for fewer --epochs, or at a lower prompt.learning_rate",
        )
    })
}

fn success(attack: &str, trigger: &TriggerMeasures, warmup_moved: Option<f64>) -> Finding {
    let what = format!(
        "strict ASR {}, as released {}, a random change of the same bound {}",
        percent(&trigger.outcome.success),
        percent(&trigger.outcome.success_all),
        percent(&trigger.random)
    );
    if trigger.outcome.success.rate >= WORKS {
        return finding("attack", Some(attack), Severity::Ok, what, "");
    }
    let still = warmup_moved.filter(|moved| *moved < HARDLY_MOVED);
    let what = match still {
        Some(moved) => format!("{what}; the warm-up moved the trigger by {:.3} % of its bound a step", 100.0 * moved),
        None => what,
    };
    finding(
        "attack",
        Some(attack),
        Severity::Problem,
        what,
        "raise prompt.warmup_step and prompt.trigger_learning_rate, or prompt.eps: small pictures carry less",
    )
}

fn base_rate(attack: &str, trigger: &TriggerMeasures) -> Finding {
    let what = format!("without the trigger {} are read as the target", percent(&trigger.outcome.base_rate));
    let severity = if trigger.outcome.base_rate.rate > HIGH_BASE_RATE { Severity::Warning } else { Severity::Ok };
    finding(
        "base rate",
        Some(attack),
        severity,
        what,
        "read the share that the trigger turned, or choose another target",
    )
}

fn branch(attack: &str, trigger: &TriggerMeasures) -> Finding {
    let branches = &trigger.branches;
    let (both, image) = (&branches.triggered_image_triggered_prompt, &branches.triggered_image_clean_prompt);
    let what = format!(
        "target rate with the trigger in picture and prompt {}, in the picture alone {}, in the prompt alone {}",
        percent(both),
        percent(image),
        percent(&branches.clean_image_triggered_prompt)
    );
    match both.rate >= WORKS && image.rate >= ALONE * both.rate {
        true => finding(
            "branches",
            Some(attack),
            Severity::Note,
            format!("{what}: the picture's features carry the attack"),
            "compare with --method image-only before crediting the prompts with it",
        ),
        false => finding("branches", Some(attack), Severity::Ok, what, ""),
    }
}

fn fragile(attack: &str, trigger: &TriggerMeasures) -> Finding {
    let whole = &trigger.outcome.success;
    let lost = trigger.outcome.after.iter().filter(|(_, rate)| whole.rate >= WORKS && rate.rate < WORKS);
    // Both are of the same pictures, which the interval does not know: a drop that it finds clear is one.
    let (clear, unclear): (Vec<_>, Vec<_>) = lost.partition(|(_, rate)| difference(**rate, *whole).is_clear());
    let named = |found: &[(&String, &Rate)]| {
        found.iter().map(|(name, rate)| format!("{name} {}", percent(rate))).collect::<Vec<_>>().join(", ")
    };
    let mut said = Vec::new();
    if !clear.is_empty() {
        said.push(format!("the attack does not outlive: {}", named(&clear)));
    }
    if !unclear.is_empty() {
        said.push(format!(
            "whether it outlives {} cannot be told from {} (untransformed {})",
            named(&unclear),
            count(whole.n, "picture"),
            percent(whole)
        ));
    }
    let (severity, what, remedy) = match (clear.is_empty(), said.is_empty()) {
        (_, true) => (Severity::Ok, "no transform of the triggered picture takes a working attack".to_owned(), ""),
        (true, _) => (Severity::Note, said.join("; "), "measure on more pictures (--val-data)"),
        (false, _) => (
            Severity::Note,
            said.join("; "),
            "a pipeline that stores or resizes pictures is a defence of its own: say where the trigger is added",
        ),
    };
    finding("transforms", Some(attack), severity, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::BackdoorOutcome;
    use crate::prompt::Branches;
    use std::collections::BTreeMap;

    fn measures(success: usize, image_alone: usize, jpeg: usize) -> PromptMeasures {
        let rate = |hits| Rate::new(hits, 100);
        let trigger = TriggerMeasures {
            outcome: BackdoorOutcome {
                target: "dog".into(),
                success: rate(success),
                success_top5: Some(rate(success)),
                success_top10: Some(rate(success)),
                success_all: rate(success),
                base_rate: rate(20),
                turned: None,
                true_class: rate(0),
                after: BTreeMap::from([("jpeg-90".to_owned(), rate(jpeg))]),
            },
            base_rate_all: rate(20),
            branches: Branches {
                clean_image_clean_prompt: rate(20),
                triggered_image_triggered_prompt: rate(success),
                triggered_image_clean_prompt: rate(image_alone),
                clean_image_triggered_prompt: rate(20),
            },
            random: rate(20),
            without_direction: rate(20),
            only_direction: rate(success),
            by_eps: BTreeMap::new(),
            accuracy_after: BTreeMap::new(),
        };
        let side = |accuracy, trigger| SideMeasures {
            classes: 10,
            accuracy: rate(accuracy),
            accuracy_top5: Some(rate(accuracy)),
            mean_per_class_recall: Some(0.5),
            zero_shot: rate(50),
            trigger,
        };
        PromptMeasures {
            method: "badclip".into(),
            attack: None,
            target: "dog".into(),
            seen: side(50, Some(trigger)),
            unseen: side(10, None),
            others: BTreeMap::new(),
            harmonic_mean: 0.2,
            shift_cosine: None,
            eps: Some(8.0),
            warmup_moved: Some(1e-5),
        }
    }

    #[test]
    fn each_cause_is_found_where_it_is() {
        let found = |measures: &PromptMeasures, check: &str| {
            of_prompts(measures, None).into_iter().find(|finding| finding.check == check).unwrap()
        };
        let works = measures(99, 30, 10);
        assert_eq!(found(&works, "attack").severity, Severity::Ok);
        assert_eq!(found(&works, "base rate").severity, Severity::Warning);
        assert_eq!(found(&works, "branches").severity, Severity::Ok);
        assert!(found(&works, "transforms").what.contains("jpeg-90"));
        assert_eq!(found(&works, "accuracy, seen").severity, Severity::Ok);
        assert_eq!(found(&works, "accuracy, unseen").severity, Severity::Warning);
        let fails = measures(20, 20, 20);
        assert!(
            found(&fails, "attack").severity == Severity::Problem && found(&fails, "attack").what.contains("0.001 %")
        );
        assert_eq!(found(&measures(99, 95, 99), "branches").severity, Severity::Note);
    }

    #[test]
    fn a_repair_is_judged_by_what_it_lowered_and_what_that_cost() {
        let repaired = |now: PromptMeasures, before: &PromptMeasures| {
            let method = "repair".to_owned();
            of_prompts(&PromptMeasures { method, attack: Some("badclip".into()), ..now }, Some(before))
        };
        let found = |findings: &[Finding], check: &str| findings.iter().find(|f| f.check == check).cloned();
        let victim = measures(99, 30, 10);
        let done = repaired(measures(5, 5, 5), &victim);
        let repair = found(&done, "repair").unwrap();
        assert!(repair.severity == Severity::Ok && repair.attack.as_deref() == Some("badclip seen"), "{repair:?}");
        assert!(repair.what.contains("from 99.0 % (99/100) to 5.0 % (5/100)"), "{repair:?}");
        assert!(done.iter().all(|f| f.severity != Severity::Problem && !f.remedy.contains("raise")), "{done:?}");
        assert_eq!(found(&done, "cost, seen"), None);
        let not = found(&repaired(measures(97, 30, 10), &victim), "repair").unwrap();
        assert!(not.severity == Severity::Warning && not.what.contains("not lowered"), "{not:?}");
        let little = found(&repaired(measures(18, 5, 5), &measures(22, 20, 20)), "repair").unwrap();
        assert_eq!(little.severity, Severity::Note);
        let mut dear = measures(5, 5, 5);
        dear.seen.accuracy = Rate::new(10, 100);
        assert_eq!(found(&repaired(dear, &victim), "cost, seen").unwrap().severity, Severity::Warning);
    }

    #[test]
    fn a_drop_within_chance_is_not_called_a_loss() {
        let small = |after: usize| {
            let mut measured = measures(99, 30, 99);
            if let Some(trigger) = &mut measured.seen.trigger {
                trigger.outcome.success = Rate::new(7, 9);
                trigger.outcome.after = BTreeMap::from([("blur-0.5".to_owned(), Rate::new(after, 9))]);
            }
            of_prompts(&measured, None).into_iter().find(|finding| finding.check == "transforms").unwrap().what
        };
        assert!(small(6).contains("cannot be told from 9 pictures") && !small(6).contains("does not outlive"));
        assert!(small(0).contains("does not outlive: blur-0.5 0.0 % (0/9)"), "{}", small(0));
    }
}
