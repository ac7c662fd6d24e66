//! What `roclip prompt` prints for people.

use roclip::prompt::{PromptMeasures, SideMeasures, area_under_curve};
use roclip::run::Inspected;
use roclip_data::escape::for_terminal;
use roclip_data::rate::Rate;

fn percent(rate: &Rate) -> String {
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
pub fn print_measures(title: &str, measures: &PromptMeasures) {
    let title = if title.is_empty() { String::new() } else { format!("{title}: ") };
    println!("{title}{} prompts, target `{}`", measures.method, for_terminal(&measures.target));
    let (seen, unseen) = (&measures.seen, &measures.unseen);
    println!("{:34} {:34} unseen, {} candidates", "", format!("seen, {} classes", seen.classes), unseen.classes);
    rows(&[seen, unseen]);
    println!("{:34} {:5.1} %", "harmonic mean of the accuracies", 100.0 * measures.harmonic_mean);
    if let Some(cosine) = measures.shift_cosine {
        println!("{:34} {cosine:.3}", "cosine of the mean shifts");
    }
    if let Some(moved) = measures.warmup_moved {
        println!("{:34} {:.2} % of its bound a step", "the trigger moved in the warm-up", 100.0 * moved);
    }
    for (name, side) in &measures.others {
        println!("on {}, {} candidates", for_terminal(name), side.classes);
        rows(&[side]);
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

/// A line a learner, and how well clean and attacked ones are told apart where there are both.
pub fn print_detections(all: &[Inspected]) {
    for found in all {
        let detection = &found.detection;
        let verdict = if detection.flagged { "FLAGGED" } else { "not flagged" };
        let first = detection.classes.first();
        let class = first.map(|first| for_terminal(&first.class).into_owned()).unwrap_or_default();
        let carried = first.map(|first| percent(&first.carried)).unwrap_or_default();
        println!(
            "{}: {verdict}: statistic {:.2} (threshold {:.2}); `{class}` carries {carried}, the next class {}",
            for_terminal(&found.learner.display().to_string()),
            detection.statistic,
            detection.threshold,
            detection.classes.get(1).map(|class| percent(&class.carried)).unwrap_or_default()
        );
    }
    let statistics = |attacked: bool| -> Vec<f64> {
        all.iter().filter(|found| found.is_attacked() == attacked).map(|found| found.detection.statistic).collect()
    };
    let (clean, attacked) = (statistics(false), statistics(true));
    if let Some(area) = area_under_curve(&clean, &attacked) {
        let flagged =
            |wanted: bool| all.iter().filter(|found| found.is_attacked() == wanted && found.detection.flagged).count();
        let named = all.iter().filter(|found| found.is_attacked() && found.names_target()).count();
        println!(
            "{} clean and {} attacked learners (by what they say of themselves): AUROC {area:.3}; flagged {} clean and {} attacked; the attacker's class named in {named}",
            clean.len(),
            attacked.len(),
            flagged(false),
            flagged(true)
        );
    }
}
