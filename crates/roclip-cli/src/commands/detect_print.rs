//! What `roclip detect` prints of the scores: how well each method tells the poison, and what is left out.

use crate::commands::detect_advice::advice;
use roclip::detect::figures::Figures;
use roclip::run::{Judged, SuspectInputs, Suspects, TrustedInputs};
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use std::path::PathBuf;

/// A line a method and attack, and what is left out. `look_alone` has the command that looks with one method, and its list.
pub fn print(found: &Suspects, look_alone: &dyn Fn(&str) -> (String, PathBuf)) {
    let unread = unread(found.unreadable);
    let trusted = found.looked_at.as_ref().and_then(|at| at.trusted.as_ref());
    let beside = trusted.map_or_else(String::new, |trusted| {
        format!(", beside {} of `{}`", count(trusted.pairs, "trusted pair"), for_terminal(&trusted.path))
    });
    println!("{}{unread}{beside}", count(found.pairs, "pair"));
    let of = |method: &'static str, judged: &Judged| (method, judged.attack.clone(), judged.figures);
    let rows: Vec<_> =
        found.methods.iter().flat_map(|method| method.attacks.iter().map(|judged| of(method.method, judged))).collect();
    print_figures(rows.iter().map(|(method, attack, figures)| (*method, attack.as_str(), figures)));
    if let Some(few) = found.few_neighbours() {
        println!("  {few}");
    }
    let Some(dropped) = &found.dropped else { return };
    match dropped.pairs {
        0 => println!("nothing to leave out (no drop.txt)"),
        pairs => println!("{} to leave out (drop.txt)", count(pairs, "pair")),
    }
    if dropped.pairs > 0 && found.all_tie() {
        println!(
            "  every pair has the same score by {}: which of them go is the order of the data, and no finding",
            found.ordered_by
        );
    }
    if let Some(asked) = dropped.asked {
        println!("  --drop-fraction asks for {asked}; the method has no score of the others, and they stay");
    }
    if let (Some(earlier), 1..) = (&found.earlier, dropped.pairs) {
        let list = for_terminal(&earlier.list.display().to_string()).into_owned();
        println!(
            "  drop.txt names the {} of `{list}`, too: these pairs were looked at without them",
            count(earlier.ids, "id")
        );
    }
    for (attack, (all, left)) in &dropped.left {
        println!("  {attack}: {left} of {all} poisoned pairs stay");
    }
    if !dropped.left.is_empty() {
        println!("  clean: {} are left out", dropped.clean);
    }
    if let Some(poison) = &dropped.poison {
        println!("  {}", poison.in_words());
    }
    for line in advice(&found.methods, &found.ordered_by, &dropped.left, look_alone) {
        println!("  {line}");
    }
    match (dropped.trusted_above, dropped.pairs) {
        (None, _) => {}
        (Some((_, all)), 0) => {
            println!("  trusted: beside {} no pair reaches --level", count(all, "trusted pair"));
        }
        (Some((above, all)), _) => {
            println!("  trusted: {above} of {all} trusted pairs are as suspicious as what is left out");
        }
    }
}

/// The table of methods, attacks and figures in `rows`.
fn print_figures<'a>(rows: impl Iterator<Item = (&'a str, &'a str, &'a Figures)>) {
    let mut silent = false;
    for (number, (method, attack, figures)) in rows.enumerate() {
        if number == 0 {
            println!("{:20} {:>20} {:>8} {:>12} {:>13}", "method", "attack", "AUROC", "FPR, TPR 95%", "FPR, TPR 100%");
        }
        println!("{method:20} {:>20} {}", for_terminal(attack), figures_in_words(figures));
        silent |= figures.poisoned_without_score > 0;
    }
    if silent {
        println!(
            "  of pairs without a score a method says nothing; no threshold of its finds so much of the poison where a `-` stands"
        );
    }
}

/// The cells of [`print_figures`] behind the attack, and how much of the poison has no score.
fn figures_in_words(figures: &Figures) -> String {
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let (most, all) = (percent(figures.false_positives_at_95), percent(figures.false_positives_at_100));
    let area = figures.auroc.map_or("-".to_owned(), |area| format!("{area:.3}"));
    let silent = match figures.poisoned_without_score {
        0 => String::new(),
        silent => format!("   {silent} of {} without a score", figures.poisoned),
    };
    format!("{area:>8} {most:>12} {all:>13}{silent}")
}

/// What pictures are flagged, and how well each method tells a trigger.
pub fn print_inputs(found: &SuspectInputs) {
    let unread = unread(found.unreadable);
    let clean = match &found.trusted {
        Some(TrustedInputs { statistics, held_out, .. }) => format!(
            "beside {}: {statistics} say how clean ones vary, {held_out} how rare a score is",
            count(found.clean, "trusted one")
        ),
        None => format!(
            "{} others, a random half of what was named, taken for clean (--trusted-data names clean ones)",
            found.clean
        ),
    };
    println!("{} images looked at{unread}, {clean}", found.looked_at);
    if found.judged.is_empty() {
        println!("no trigger is known: the scores say what is odd, not how well they tell it");
    }
    print_figures(found.judged.iter().map(|judged| (judged.method, judged.attack.as_str(), &judged.figures)));
    let Some(TrustedInputs { level, .. }) = &found.trusted else { return };
    println!("flagged at --level {level}, by which about {:.1} % of the clean pictures are:", 100.0 * level);
    if let Some(twice) = found.scored_twice() {
        println!("  {twice}");
    }
    let seen = found.looked_at - found.unreadable;
    for (number, method) in found.methods.iter().enumerate() {
        let list = if number + 1 == found.methods.len() { " (flagged.txt)" } else { "" };
        let flagged = method.flagged.unwrap_or(0);
        println!("  {:20} {flagged} of {seen} as they are{}", method.method, if flagged > 0 { list } else { "" });
        for judged in found.judged.iter().filter(|judged| judged.method == method.method) {
            let Some(of) = &judged.flagged else { continue };
            println!(
                "  {:20} {}: {} of {} with the trigger, {} of {} without ({:.1} %)",
                "",
                for_terminal(&judged.attack),
                of.triggered_flagged,
                judged.figures.poisoned,
                of.clean_flagged,
                judged.figures.clean,
                100.0 * of.false_positive_rate
            );
        }
    }
}

/// What is said of so many that cannot be read.
fn unread(unreadable: usize) -> String {
    if unreadable > 0 { format!(", {unreadable} cannot be read") } else { String::new() }
}
