//! The verdict: one sentence a row, what it cost, and what makes it doubtful.

use crate::clean::HARDLY_MOVED;
use crate::doctor::{Finding, Severity, UNDEFENDED_CONTROL, WORKS, examine_folder, kept_findings};
use crate::error::Result;
use crate::eval::Evaluation;
use crate::report::chart::signed;
use crate::report::comparison::Comparison;
use crate::report::group::{Group, RateOf, Study, accuracy_of, accuracy_unseen, attacks, zero_shot};
use crate::results::RunRecord;
use roclip_data::rate::Rate;
use std::collections::BTreeSet;

/// What is said of one row.
pub struct Verdict {
    pub label: String,
    pub sentence: String,
    /// Why its attack rates prove nothing, one sentence an attack, and whether its cleaning did nothing; empty where it is to be believed.
    pub doubts: Vec<String>,
    /// Rates to grey: `PSR`, or a backdoor's name. All of them where the model knows nothing.
    pub grey: BTreeSet<String>,
    /// What the doctor calls a problem, by seed.
    pub problems: Vec<(u64, Finding)>,
    /// Milder findings.
    pub warnings: usize,
}

/// The name of the targeted rate in [`Verdict::grey`].
pub const PSR: &str = "PSR";

/// One verdict a group of `study`, in their order.
pub fn verdicts(study: &Study) -> Result<Vec<Verdict>> {
    study.groups.iter().map(|group| verdict(study, group)).collect()
}

fn verdict(study: &Study, group: &Group) -> Result<Verdict> {
    let attacks = attacks(std::slice::from_ref(group));
    let mut found = Verdict {
        label: group.label.to_owned(),
        sentence: String::new(),
        doubts: Vec::new(),
        grey: BTreeSet::new(),
        problems: Vec::new(),
        warnings: 0,
    };
    found.doubt(study, group, &attacks);
    for run in &group.members {
        for finding in findings(study, run)? {
            match finding.severity {
                // Said above, of the rows of this report.
                Severity::Problem
                    if finding.check == UNDEFENDED_CONTROL
                        && (!found.doubts.is_empty() || is_taught_by_clean(group)) => {}
                Severity::Problem => {
                    // A trigger that training never shows, say: its failure is not the defence's doing.
                    found.grey.extend(finding.attack.iter().filter(|attack| attacks.contains(attack)).cloned());
                    found.problems.push((run.row.seed, finding));
                }
                Severity::Warning => found.warnings += 1,
                _ => {}
            }
        }
    }
    found.doubts.extend(hardly_cleaned(group).map(str::to_owned));
    found.sentence = sentence(study, group, &attacks, &found.grey);
    Ok(found)
}

/// What the doctor said of `run`, or says of its folder.
fn findings(study: &Study, run: &RunRecord) -> Result<Vec<Finding>> {
    if let Some(findings) = kept_findings(&run.folder)? {
        return Ok(findings);
    }
    examine_folder(run, &study.runs().filter(|other| other.folder != run.folder).collect::<Vec<_>>())
}

impl Verdict {
    fn doubt(&mut self, study: &Study, group: &Group, attacks: &[String]) {
        let names = attacks.iter().map(String::as_str).chain([PSR]);
        let measured: Vec<&str> = names.filter(|name| mean(group, &|run| shown(own(run), name)).is_some()).collect();
        if let Some(doubt) = at_chance(group) {
            self.grey = measured.iter().map(|name| (*name).to_owned()).collect();
            self.doubts.push(format!("{doubt}: a model that knows no classes can be fooled into none"));
            return;
        }
        if group.row().is_control("clean-data") {
            return;
        }
        if is_taught_by_clean(group) {
            return;
        }
        let taught = group.first.summary.teacher.is_some();
        let control =
            if group.row().is_control("undefended") { Some(group) } else { study.control("undefended", group) };
        for name in measured {
            let (undefended, of_whom) = match (origin(group.first).is_some(), control) {
                (true, _) => {
                    let whom = match (taught, &group.first.recipe.prompt) {
                        (true, _) => "its teacher",
                        (false, Some(_)) => "the learner before its repair",
                        (false, None) => "the model before it was cleaned",
                    };
                    (mean(group, &|run| judged(origin(run)?, name)), whom)
                }
                (false, Some(control)) => (mean(control, &|run| judged(own(run), name)), "a model without a defence"),
                (false, None) => (None, ""),
            };
            let called = called(name);
            match undefended {
                Some(rate) if rate >= WORKS => continue,
                Some(rate) => self.doubts.push(format!(
                    "{called} does not work on {of_whom} ({}, and from {:.0} % on an attack counts as working here), so that nothing can be credited with stopping it",
                    hits_of(name, rate),
                    100.0 * WORKS
                )),
                None if !of_whom.is_empty() => self.doubts.push(format!(
                    "{called} has nothing to turn on {of_whom} (each test picture is of its target, or read as it without the trigger, too), so that nobody knows whether it works"
                )),
                None => self.doubts.push(format!(
                    "no undefended run of the same attack is in this report, so that nobody knows whether {called} works"
                )),
            }
            self.grey.insert(name.to_owned());
        }
    }
}

/// Whether the row is the control of students: nobody attacked its teacher, so that there is nothing that could have worked on it.
fn is_taught_by_clean(group: &Group) -> bool {
    group.first.summary.teacher_attacked == Some(false)
}

/// Says so where a cleaning left its victim as it was. The row's figures are then the victim's.
fn hardly_cleaned(group: &Group) -> Option<&'static str> {
    let moved = group.mean(|run| run.summary.weights_moved)?;
    (moved < HARDLY_MOVED).then_some(
        "this cleaned next to nothing (the weights moved by less than 0.1 %): the model is still its victim; clean with a \
         higher learning rate or more steps (--lr, --epochs)",
    )
}

/// An attack in a sentence.
fn called(name: &str) -> String {
    if name == PSR { "targeted poisoning".to_owned() } else { format!("the backdoor {name}") }
}

fn hits_of(name: &str, rate: f64) -> String {
    let percent = 100.0 * rate;
    match name {
        PSR => format!("it fools {percent:.0} % of the targeted pictures"),
        _ => format!("its trigger turns {percent:.0} % of the pictures"),
    }
}

fn mean(group: &Group, of: &RateOf) -> Option<f64> {
    group.mean(|run| of(run).map(|rate| rate.rate))
}

/// The rate of an attack, [`PSR`] or a backdoor, that a sentence shows.
fn shown(evaluation: &Evaluation, name: &str) -> Option<Rate> {
    let rate = if name == PSR { evaluation.psr } else { evaluation.asr.get(name).map(|outcome| outcome.success) };
    rate.and_then(Rate::measured)
}

/// Of the victim that a run cleaned, or of the teacher that it distilled.
fn origin(run: &RunRecord) -> Option<&Evaluation> {
    run.summary.before.as_ref().or(run.summary.teacher.as_ref())
}

/// The rate that an attack is judged by: of a backdoor, the pictures that its trigger turns; those that are read as the target anyway are no
/// success of it. Runs that did not count them are judged by what is shown. None where no picture is left to turn.
fn judged(evaluation: &Evaluation, name: &str) -> Option<Rate> {
    match evaluation.asr.get(name).and_then(|outcome| outcome.turned) {
        Some(turned) => turned.measured(),
        None => shown(evaluation, name),
    }
}

fn own(run: &RunRecord) -> &Evaluation {
    &run.summary.evaluation
}

/// CIDEr-D of a captioner, and the best of what costs nothing beside it.
fn captions_of(group: &Group) -> Option<String> {
    let own = group.mean(|run| run.summary.captions.as_ref().map(|captions| captions.captioner.cider_d))?;
    let best = |run: &RunRecord| {
        let baselines = run.summary.captions.iter().flat_map(|captions| captions.baselines.values());
        baselines.map(|scores| scores.cider_d).reduce(f64::max)
    };
    let beside = group.mean(best).map(|best| format!(", the best baseline {:.1}", 100.0 * best)).unwrap_or_default();
    // Runs of earlier versions kept negative zeros.
    Some(format!("CIDEr-D {:.1}{beside}", 100.0 * own + 0.0))
}

/// Seeds of a row that are named one by one.
const NAMED_SEEDS: usize = 4;

/// Says so where a row's models, or some of them, are about as good as one that guesses. Where the number of classes was not kept, nothing is
/// said.
fn at_chance(group: &Group) -> Option<String> {
    let classes = group.members.iter().find_map(|run| run.details.as_ref())?.classes.max(1);
    let rates: Vec<(u64, f64)> =
        group.members.iter().filter_map(|run| Some((run.row.seed, zero_shot(run)?.rate))).collect();
    near_chance(accuracy_of(group.first), classes, &rates)
}

/// The same of accuracies by seed, which are called `what`.
fn near_chance(what: &str, classes: usize, rates: &[(u64, f64)]) -> Option<String> {
    let chance = 1.0 / classes as f64;
    // With few classes twice chance is too much to ask for: half of the way from chance to perfect is as good.
    let least = (2.0 * chance).min((1.0 + chance) / 2.0);
    let near: Vec<(u64, f64)> = rates.iter().copied().filter(|(_, rate)| *rate < least).collect();
    let own = match (near.as_slice(), rates.len()) {
        ([], _) => return None,
        ([(_, rate)], 1) => format!("{:.1} %", 100.0 * rate),
        (some, _) => {
            let named = some.iter().take(NAMED_SEEDS);
            let mut named: Vec<String> =
                named.map(|(seed, rate)| format!("{:.1} % (seed {seed})", 100.0 * rate)).collect();
            if some.len() > NAMED_SEEDS {
                named.push(format!("so of {} more seeds", some.len() - NAMED_SEEDS));
            }
            let last = named.pop().unwrap_or_default();
            if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) }
        }
    };
    let [chance, least] = [chance, least].map(|rate| 100.0 * rate);
    Some(format!(
        "{what} {own} of {classes} classes is near chance ({chance:.1} %; at least {least:.1} % is asked for)"
    ))
}

fn sentence(study: &Study, group: &Group, attacks: &[String], grey: &BTreeSet<String>) -> String {
    let undefended = study
        .control("undefended", group)
        .filter(|_| !["undefended", "clean-data"].contains(&group.row().control.as_deref().unwrap_or("")));
    let mut parts = Vec::new();
    if let Some(fooled) = figure(group, PSR, &|run| own(run).psr) {
        let compared = against(group, undefended, PSR, grey);
        let of = if group.members.len() > 1 { " of the" } else { "" };
        parts.push(format!("{fooled}{of} targeted pictures fooled{}", in_brackets(compared)));
    }
    for attack in attacks {
        if let Some(figure) = figure(group, attack, &|run| shown(own(run), attack)) {
            let mut said: Vec<String> = base_rate_of(group, attack).into_iter().collect();
            said.extend(against(group, undefended, attack, grey));
            parts.push(format!("trigger {attack} {figure}{}", in_brackets(said)));
        } else if group.members.iter().any(|run| own(run).asr.contains_key(attack)) {
            parts.push(format!("trigger {attack} not measured: no test picture is left that is not its target's"));
        }
    }
    parts.extend(captions_of(group));
    let captions = !parts.is_empty() && group.first.summary.captions.is_some();
    parts.extend(match mean(group, &zero_shot) {
        Some(accuracy) => Some(format!("{} {}{}", accuracy_of(group.first), percent(accuracy), cost(study, group))),
        None if captions => None,
        None => Some(format!("{} not measured: {}", accuracy_of(group.first), unmeasured(own(group.first)))),
    });
    parts.extend(mean(group, &accuracy_unseen).map(|unseen| {
        let both =
            |run: &RunRecord| accuracy_unseen(run).zip(run.summary.prompt_before.as_ref()?.unseen.accuracy.measured());
        format!("unseen classes {}{}", percent(unseen), against_origin(group, "victim", &both))
    }));
    let seeds = match group.members.len() {
        1 => String::new(),
        several => format!("mean of {several} seeds: "),
    };
    let names: Vec<&str> = grey.iter().map(String::as_str).collect();
    let doubt = if grey.is_empty() { String::new() } else { format!(" Proves nothing: {}.", names.join(", ")) };
    format!("{}: {seeds}{}.{doubt}", group.label, parts.join(", "))
}

/// Why no picture's class was asked for.
fn unmeasured(evaluation: &Evaluation) -> &'static str {
    match evaluation.targets.is_empty() {
        true => "the run has no evaluation data",
        false => "every test picture is a target of the attack",
    }
}

fn percent(rate: f64) -> String {
    format!("{:.1}\u{a0}%", 100.0 * rate)
}

fn in_brackets(said: impl IntoIterator<Item = String>) -> String {
    let said: Vec<String> = said.into_iter().collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

/// Base rates from here on are said beside the rate that they are a part of.
const WORTH_SAYING: f64 = 0.01;

/// `4.0 % without the trigger`, where that matters.
fn base_rate_of(group: &Group, attack: &str) -> Option<String> {
    let rate =
        mean(group, &|run| own(run).asr.get(attack)?.base_rate.measured()).filter(|rate| *rate >= WORTH_SAYING)?;
    Some(format!("without the trigger {}", percent(rate)))
}

/// `0 of 16` of targeted pictures and one run, `12.5 %` otherwise: the mean over the seeds.
fn figure(group: &Group, name: &str, of: &RateOf) -> Option<String> {
    match group.members.as_slice() {
        [run] if name == PSR => of(run).map(|rate| format!("{} of {}", rate.hits, rate.n)),
        _ => mean(group, of).map(percent),
    }
}

/// `undefended 16 of 16, clearly less`; of a cleaned model what its victim had. What proves nothing is put beside it without a judgement.
fn against(group: &Group, undefended: Option<&Group>, name: &str, grey: &BTreeSet<String>) -> Option<String> {
    if let Some(victim) = figure(group, name, &|run| shown(origin(run)?, name)) {
        let whose = match (&group.first.summary.teacher, &group.first.recipe.prompt) {
            (Some(_), _) => "its teacher",
            (None, Some(_)) => "before the repair",
            (None, None) => "before cleaning",
        };
        let both = |run: &RunRecord| judged(own(run), name).zip(judged(origin(run)?, name));
        let words = match grey.contains(name) {
            true => None,
            false => Comparison::within(group, &both).map(|compared| format!(", {}", compared.words())),
        };
        return Some(format!("{whose} {victim}{}", words.unwrap_or_default()));
    }
    let undefended = undefended?;
    let theirs = figure(undefended, name, &|run| shown(own(run), name))?;
    let words = match grey.contains(name) {
        true => String::new(),
        false => format!(", {}", Comparison::of(group, undefended, &|run| judged(own(run), name))?.words()),
    };
    Some(format!("undefended {theirs}{words}"))
}

/// The parts that another row may play, and its name in a sentence.
pub const CONTROLS: [(&str, &str); 3] =
    [("undefended", "undefended"), ("augmentation-only", "augmentation alone"), ("clean-data", "clean data")];

/// ` (-1.2 points against its victim, within chance)`: what runs have and what they came from.
fn against_origin(group: &Group, origin: &str, both: &dyn Fn(&RunRecord) -> Option<(Rate, Rate)>) -> String {
    let compared = Comparison::within(group, both);
    let said = |it: Comparison| format!(" ({} points against its {origin}, {})", signed(it.points), it.words());
    compared.map(said).unwrap_or_default()
}

/// ` (+7.1 against undefended, within chance; -7.1 against augmentation alone, within chance)`.
fn cost(study: &Study, group: &Group) -> String {
    if origin(group.first).is_some() {
        let both = |run: &RunRecord| own(run).zero_shot_top1.measured().zip(origin(run)?.zero_shot_top1.measured());
        let whose = if group.first.summary.before.is_some() { "victim" } else { "teacher" };
        return against_origin(group, whose, &both);
    }
    // A control is compared with those that it builds on.
    let controls = match group.row().control.as_deref() {
        None => CONTROLS.as_slice(),
        Some("augmentation-only") => CONTROLS.get(..1).unwrap_or_default(),
        Some(_) => &[],
    };
    let parts = controls.iter().filter_map(|(control, name)| {
        let compared = Comparison::of(group, study.control(control, group)?, &zero_shot)?;
        Some(format!("{} against {name}, {}", signed(compared.points), compared.words()))
    });
    in_brackets(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_near_chance_is_that_of_the_seeds_it_names() {
        let said = |rates: &[(u64, f64)]| near_chance("zero-shot", 4, rates);
        let behind = "of 4 classes is near chance (25.0 %; at least 50.0 % is asked for)";
        assert_eq!(said(&[(3, 0.25)]), Some(format!("zero-shot 25.0 % {behind}")));
        assert_eq!(
            said(&[(0, 0.19), (1, 0.333)]),
            Some(format!("zero-shot 19.0 % (seed 0) and 33.3 % (seed 1) {behind}"))
        );
        assert_eq!(said(&[(0, 0.9), (1, 0.333)]), Some(format!("zero-shot 33.3 % (seed 1) {behind}")));
        let many: Vec<(u64, f64)> = (0..6).map(|seed| (seed, 0.2)).collect();
        assert!(said(&many).unwrap().contains("20.0 % (seed 3) and so of 2 more seeds of 4 classes"));
        assert_eq!(said(&[(0, 0.5)]), None);
    }
}
