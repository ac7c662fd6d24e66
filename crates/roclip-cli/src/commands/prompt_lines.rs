//! What `roclip prompt` prints for people.

use roclip::prompt::{DetectionVerdict, PromptMeasures, SideMeasures, TriggerMeasures, area_under_curve};
use roclip::run::{CountsAs, Inspected};
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use roclip_data::rate::Rate;

fn percent(rate: &Rate) -> String {
    if rate.measured().is_none() {
        return format!("{:>5} (0/0)", "-");
    }
    format!(
        "{:5.1} % ({}/{}) [{:.1}, {:.1}]",
        100.0 * rate.rate,
        rate.hits,
        rate.n,
        100.0 * rate.low,
        100.0 * rate.high
    )
}

/// Everything that was measured, on seen and unseen classes side by side, and below that on other data.
pub fn print_measures(measures: &PromptMeasures) {
    println!("{}", heading(measures));
    let (seen, unseen) = (&measures.seen, &measures.unseen);
    println!(
        "{:34} {:34} unseen, {} candidates: the target is one",
        "",
        format!("seen, {} classes", seen.classes),
        unseen.classes
    );
    rows(&[seen, unseen]);
    println!("{:34} {:5.1} %", "harmonic mean of the accuracies", 100.0 * measures.harmonic_mean);
    if let Some(cosine) = measures.shift_cosine {
        println!("{:34} {cosine:.3}", "cosine of the mean shifts");
    }
    if let Some(moved) = measures.warmup_moved {
        println!("{:34} {:.2} % of its bound a step", "the trigger moved in the warm-up", 100.0 * moved);
    }
    for (name, side) in &measures.others {
        println!("on {}, {} candidates: the target is one", for_terminal(name), side.classes);
        rows(&[side]);
    }
}

/// Prompts that nobody attacked have no target: their figures are of a class all the same.
fn heading(measures: &PromptMeasures) -> String {
    let (method, class) = (&measures.method, for_terminal(&measures.target));
    match measures.seen.trigger.is_some() || measures.attack.is_some() {
        true => format!("{method} prompts, target `{class}`"),
        false => format!("{method} prompts; unseen classes are measured with `{class}` among them"),
    }
}

/// One line a figure, one column a side.
fn rows(sides: &[&SideMeasures]) {
    let line = |name: &str, rates: Vec<&Rate>| {
        let columns: Vec<String> = rates.iter().map(|rate| format!("{:34}", percent(rate))).collect();
        println!("{:34} {}", for_terminal(name), columns.join(" ").trim_end());
    };
    line("accuracy", sides.iter().map(|side| &side.accuracy).collect());
    line("frozen model by plain words", sides.iter().map(|side| &side.zero_shot).collect());
    let triggers: Vec<_> = sides.iter().filter_map(|side| side.trigger.as_ref()).collect();
    if triggers.len() < sides.len() {
        return;
    }
    line("ASR strict", triggers.iter().map(|trigger| &trigger.outcome.success).collect());
    line("ASR as released (all pictures)", triggers.iter().map(|trigger| &trigger.outcome.success_all).collect());
    line("base rate", triggers.iter().map(|trigger| &trigger.outcome.base_rate).collect());
    line("base rate, all pictures", triggers.iter().map(|trigger| &trigger.base_rate_all).collect());
    line("random change of the same bound", triggers.iter().map(|trigger| &trigger.random).collect());
    println!("which branch sees the trigger (target rate):");
    line("  image and prompt", triggers.iter().map(|t| &t.branches.triggered_image_triggered_prompt).collect());
    line("  image alone", triggers.iter().map(|t| &t.branches.triggered_image_clean_prompt).collect());
    line("  prompt alone", triggers.iter().map(|t| &t.branches.clean_image_triggered_prompt).collect());
    line("  neither", triggers.iter().map(|t| &t.branches.clean_image_clean_prompt).collect());
    line("shared direction taken out", triggers.iter().map(|trigger| &trigger.without_direction).collect());
    line("shared direction alone", triggers.iter().map(|trigger| &trigger.only_direction).collect());
    let levels: Vec<f64> = triggers
        .first()
        .into_iter()
        .flat_map(|trigger| trigger.by_eps.keys())
        .filter_map(|level| level.parse().ok())
        .collect();
    let mut levels = levels;
    levels.sort_by(f64::total_cmp);
    for level in levels {
        line(
            &format!("clipped to eps {level}"),
            triggers.iter().filter_map(|trigger| trigger.by_eps.get(&level.to_string())).collect(),
        );
    }
    let names: Vec<&String> = triggers.first().into_iter().flat_map(|trigger| trigger.outcome.after.keys()).collect();
    for name in names {
        line(
            &format!("ASR after {name}"),
            triggers.iter().filter_map(|trigger| trigger.outcome.after.get(name)).collect(),
        );
        line(
            &format!("  accuracy after {name}"),
            triggers.iter().filter_map(|trigger| trigger.accuracy_after.get(name)).collect(),
        );
    }
}

/// What a repair changed: the learner as it was beside the repaired one, and a line that says it in a sentence.
pub fn print_repair(before: &PromptMeasures, after: &PromptMeasures) {
    let line = |name: &str, then: &str, now: &str| println!("{:38} {then:34} {now}", for_terminal(name));
    let rates = |name: &str, then: Option<&Rate>, now: Option<&Rate>| {
        if let Some((then, now)) = then.zip(now) {
            line(name, &percent(then), &percent(now));
        }
    };
    println!("{} prompts, target `{}`, and what the repair made of them", before.method, for_terminal(&before.target));
    line("", "before", "after");
    let sides = [("seen", &before.seen, &after.seen), ("unseen", &before.unseen, &after.unseen)];
    for (side, then, now) in sides {
        rates(&format!("accuracy, {side} classes"), Some(&then.accuracy), Some(&now.accuracy));
    }
    let [then, now] = [before, after].map(|measures| format!("{:5.1} %", 100.0 * measures.harmonic_mean));
    line("harmonic mean of the accuracies", &then, &now);
    for (side, then, now) in sides {
        let (then, now) = (then.trigger.as_ref(), now.trigger.as_ref());
        let of = |name: &str, rate: fn(&TriggerMeasures) -> &Rate| {
            rates(&format!("{name}, {side}"), then.map(rate), now.map(rate));
        };
        of("ASR strict", |trigger| &trigger.outcome.success);
        of("ASR as released (all pictures)", |trigger| &trigger.outcome.success_all);
        of("base rate", |trigger| &trigger.outcome.base_rate);
        of("trigger in the picture alone", |trigger| &trigger.branches.triggered_image_clean_prompt);
    }
    println!("{}", repaired(before, after));
}

/// ASR and accuracy before and after, in a sentence.
fn repaired(before: &PromptMeasures, after: &PromptMeasures) -> String {
    let from_to =
        |side: &str, then: &Rate, now: &Rate| format!("from {} to {} % on {side}", then.percent(1), now.percent(1));
    let sides = [("seen", &before.seen, &after.seen), ("unseen", &before.unseen, &after.unseen)];
    let success: Vec<String> = sides
        .iter()
        .filter_map(|(side, then, now)| {
            let (then, now) = (then.trigger.as_ref()?, now.trigger.as_ref()?);
            Some(from_to(side, &then.outcome.success, &now.outcome.success))
        })
        .collect();
    let attack = match success.is_empty() {
        true => "the learner came with no trigger to measure".to_owned(),
        false => format!("strict ASR {} classes", success.join(" and ")),
    };
    let accuracy = sides.map(|(side, then, now)| from_to(side, &then.accuracy, &now.accuracy));
    format!("{attack}; accuracy {} classes", accuracy.join(" and "))
}

/// Clean and attacked learners from which on a share of pairs in order says something.
const ENOUGH_LEARNERS: usize = 3;

/// A line a learner, and how well clean and attacked ones are told apart where there are both.
pub fn print_detections(all: &[Inspected]) {
    println!(
        "For every class that prompts were learned on, one change of the pictures, the same for all, is optimised that carries them to the class.\n\
         carries: of held-out pictures that are not read as the class anyway (so that each class has a number of its own), those that are with the change.\n\
         statistic: how far the largest of these shares lies above the mean of the others, in their standard deviations."
    );
    for found in all {
        let detection = &found.detection;
        let verdict = match detection.verdict() {
            DetectionVerdict::Flagged => "FLAGGED".to_owned(),
            _ => detection.words(),
        };
        let first = detection.classes.first();
        let class = first.map(|first| for_terminal(&first.class).into_owned()).unwrap_or_default();
        let carried = first.map(|first| percent(&first.carried)).unwrap_or_default();
        let next =
            detection.classes.get(1).map(|next| format!(", the next class {}", percent(&next.carried).trim_start()));
        println!(
            "{}: {verdict}: statistic {:.2} (threshold {:.2}); `{class}` carries {}{}",
            for_terminal(&found.learner.display().to_string()),
            detection.statistic,
            detection.threshold,
            carried.trim_start(),
            next.unwrap_or_default()
        );
        println!("    {}", rests_on(found));
        for class in &detection.unjudged {
            println!(
                "    `{}` cannot be judged: every held-out picture is read as it without any change, which prompts of use do not do",
                for_terminal(class)
            );
        }
    }
    let said = judged(all);
    if !said.is_empty() {
        println!("{said}");
    }
}

/// How well clean and attacked learners are told apart, and which ones say nothing about that. Empty where there is nothing to say.
fn judged(all: &[Inspected]) -> String {
    let tells = |found: &&Inspected| found.detection.verdict() != DetectionVerdict::CannotTell;
    let of = |wanted: CountsAs| all.iter().filter(tells).filter(|found| found.counts_as == wanted).collect::<Vec<_>>();
    let (clean, attacked) = (of(CountsAs::Clean), of(CountsAs::Attacked));
    let [of_clean, of_attacked] =
        [&clean, &attacked].map(|learners| learners.iter().map(|found| found.detection.statistic).collect::<Vec<_>>());
    let mut lines = Vec::new();
    if let Some(area) = area_under_curve(&of_clean, &of_attacked) {
        let flagged = |learners: &[&Inspected]| learners.iter().filter(|found| found.detection.flagged).count();
        let named = attacked.iter().filter(|found| found.names_target()).count();
        let area = match clean.len().min(attacked.len()) < ENOUGH_LEARNERS {
            true => format!("too few for an AUROC (from {ENOUGH_LEARNERS} of each on)"),
            false => format!("AUROC {area:.3}"),
        };
        lines.push(format!(
            "{} clean and {} attacked learners (by what they say of themselves): {area}; flagged {} clean and {} attacked; the attacker's class named in {named}",
            clean.len(),
            attacked.len(),
            flagged(&clean),
            flagged(&attacked)
        ));
    }
    let untold = all.len() - all.iter().filter(tells).count();
    let neither = of(CountsAs::Neither).len();
    if neither > 0 {
        lines.push(format!(
            "{} repaired or cleaned: neither clean nor attacked, and counted in no AUROC and no false positives",
            are(neither)
        ));
    }
    if untold > 0 {
        lines.push(format!(
            "{} looked at without a result: nearly every class carries nearly all pictures, and none can stand out; counted in nothing above \
             (smaller changes may tell: prompt.detector.eps, prompt.detector.steps)",
            are(untold)
        ));
    }
    lines.join("\n")
}

/// `1 learner is`, `2 learners are`.
fn are(learners: usize) -> String {
    format!("{} {}", count(learners, "learner"), if learners == 1 { "is" } else { "are" })
}

/// How much a detection rests on, and whether its changes may be as large as the attack's own.
fn rests_on(found: &Inspected) -> String {
    let detection = &found.detection;
    let held_out = detection.pictures - detection.pictures / 2;
    let own = match found.about.eps.filter(|_| found.about.target.is_some()) {
        Some(eps) if eps > detection.eps => {
            format!(
                "; its own trigger, as it says, within {eps}/255: a larger one than is looked for (prompt.detector.eps)"
            )
        }
        Some(eps) => format!("; its own trigger, as it says, within {eps}/255"),
        None => String::new(),
    };
    format!(
        "{}, {held_out} of them held out, and {}; changes within {}/255{own}",
        count(detection.pictures, "picture"),
        count(detection.classes.len() + detection.unjudged.len(), "class"),
        detection.eps
    )
}
