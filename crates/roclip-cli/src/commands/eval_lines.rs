//! What `roclip eval` prints for people.

use roclip::eval::Measured;
use roclip_data::escape::for_terminal;
use roclip_data::rate::Rate;

/// The cleaning method whose checkpoints are measured by their classifier.
pub const SUPERVISED: &str = "supervised";
/// What is measured by class prompts says so.
const BY_PROMPTS: &str = "by class prompts";

/// One line a data set, and below it what the attacks did where they could be measured.
pub fn print_table(all: &[Measured], about: &str) {
    println!("{about}");
    let width = all.iter().map(|set| for_terminal(&set.dataset).chars().count()).max().unwrap_or(0).clamp(3, 30);
    let probed = all.iter().any(|set| set.linear_probe.is_some());
    let probe = if probed { "   probe" } else { "" };
    println!(
        "{:width$} {:>7} {:>7}   {:<24} {:>7} {:>10}{probe}",
        "set", "n", "classes", "top-1 % [95 %]", "top-5 %", "class mean"
    );
    for set in all {
        let evaluation = &set.evaluation;
        let top1 = &evaluation.zero_shot_top1;
        let interval = match top1.measured() {
            Some(top1) => format!("{} [{:.2}, {:.2}]", top1.percent(2), 100.0 * top1.low, 100.0 * top1.high),
            None => "-".into(),
        };
        let top5 = evaluation.zero_shot_top5.map_or_else(|| "-".into(), |top5| top5.percent(2));
        let probe = match (&set.linear_probe, probed) {
            (Some(probe), _) => format!(" {:>7}", probe.top1.percent(2)),
            (None, true) => format!(" {:>7}", "-"),
            (None, false) => String::new(),
        };
        let name = for_terminal(&set.dataset);
        let recall =
            evaluation.mean_per_class_recall.map_or_else(|| "-".into(), |recall| format!("{:.2}", 100.0 * recall));
        println!("{name:width$} {:>7} {:>7}   {interval:<24} {top5:>7} {recall:>10}{probe}", top1.n, set.classes);
    }
    for set in all {
        let name = for_terminal(&set.dataset);
        let show =
            |what: &str, rate: &Rate| println!("{name}: {what} {} % ({}/{})", rate.percent(2), rate.hits, rate.n);
        if let Some(psr) = &set.evaluation.psr {
            show("targeted poisoning success (PSR)", psr);
        }
        for (attack, outcome) in &set.evaluation.asr {
            show(&format!("{}: success (strict ASR)", for_terminal(attack)), &outcome.success);
        }
    }
}

/// Everything that was measured of one data set, a line each.
pub fn print(measured: &Measured, about: &str) {
    let show = |name: &str, rate: &Rate| {
        let interval = match rate.measured() {
            Some(rate) => format!("[{:.2}, {:.2}]", 100.0 * rate.low, 100.0 * rate.high),
            None => "not measured: no picture is left to measure it on".to_owned(),
        };
        println!("{:36} {:>6} %  {}/{}  {interval}", for_terminal(name), rate.percent(2), rate.hits, rate.n);
    };
    println!("{about}");
    let evaluation = &measured.evaluation;
    let what = if measured.classified_by == BY_PROMPTS { "zero-shot" } else { "classifier" };
    show(&format!("{what} top-1"), &evaluation.zero_shot_top1);
    if let Some(top5) = &evaluation.zero_shot_top5 {
        show(&format!("{what} top-5"), top5);
    }
    let per_class = |name: &str, recall: Option<f64>| match recall {
        Some(recall) => println!("{name:36} {:6.2} %", 100.0 * recall),
        None => println!("{name:36} {:>6} %  not measured", "-"),
    };
    per_class(&format!("{what}, mean over classes"), evaluation.mean_per_class_recall);
    if let Some(probe) = &measured.linear_probe {
        show("linear probe", &probe.top1);
        per_class("linear probe, mean over classes", probe.mean_per_class_recall);
    }
    if let Some(rate) = &measured.nearest_neighbours {
        show("nearest neighbours", rate);
    }
    if let Some(retrieval) = &measured.retrieval {
        for (k, rate) in &retrieval.image_recall {
            show(&format!("image retrieval R@{k}"), rate);
        }
        for (k, rate) in &retrieval.text_recall {
            show(&format!("text retrieval R@{k}"), rate);
        }
    }
    for (name, rate) in [
        ("targeted poisoning success (PSR)", &evaluation.psr),
        ("targeted: adversarial in top 5", &evaluation.psr_top5),
    ] {
        if let Some(rate) = rate {
            show(name, rate);
        }
    }
    for (attack, rate) in evaluation.psr_by_attack.iter().filter(|_| evaluation.psr_by_attack.len() > 1) {
        show(&format!("{attack}: PSR"), rate);
    }
    for (attack, outcome) in &evaluation.asr {
        show(&format!("{attack}: success (strict ASR)"), &outcome.success);
        for (k, rate) in [(5, &outcome.success_top5), (10, &outcome.success_top10)] {
            if let Some(rate) = rate {
                show(&format!("{attack}: target in top {k}"), rate);
            }
        }
        show(&format!("{attack}: success, target class too"), &outcome.success_all);
        show(&format!("{attack}: base rate"), &outcome.base_rate);
        if let Some(turned) = &outcome.turned {
            show(&format!("{attack}: turned by the trigger"), turned);
        }
        show(&format!("{attack}: true class kept"), &outcome.true_class);
        for (treatment, rate) in &outcome.after {
            show(&format!("{attack}: success after {treatment}"), rate);
        }
    }
}
