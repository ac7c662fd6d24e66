//! The verdict: one sentence a row, what it cost, and what makes it doubtful.

use crate::doctor::{Finding, Severity, WORKS, examine_folder, kept_findings};
use crate::error::Result;
use crate::report::comparison::Comparison;
use crate::report::group::{Group, RateOf, Study, asr, attacks, psr, zero_shot};
use crate::results::RunRecord;
use roclip_data::escape::for_shell;
use std::collections::{BTreeMap, BTreeSet};

/// What is said of one row.
pub struct Verdict {
    pub label: String,
    pub sentence: String,
    /// Why its attack rates prove nothing; empty where they do.
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
    for run in &group.members {
        for finding in findings(study, run)? {
            match finding.severity {
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
    found.doubt(study, group, &attacks);
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
        let rates = || attacks.iter().map(String::as_str).chain([PSR]).filter(|name| rate_of(group, name).is_some());
        if let Some(doubt) = group.members.iter().find_map(|run| at_chance(run)) {
            self.grey = rates().map(str::to_owned).collect();
            self.doubts.push(format!("{doubt}: a model that knows no classes can be fooled into none"));
            return;
        }
        let measured_without = group.row().is_control("clean-data");
        let cleaned = group.first.summary.before.is_some();
        if measured_without || rates().next().is_none() {
            return;
        }
        let control =
            if group.row().is_control("undefended") { Some(group) } else { study.control("undefended", group) };
        let mut weak = Vec::new();
        for name in rates() {
            let undefended = match (cleaned, control) {
                (true, _) => before(group, name),
                (false, Some(control)) => rate_of(control, name),
                (false, None) => None,
            };
            match undefended {
                Some(rate) if rate >= WORKS => {}
                Some(rate) => {
                    weak.push(format!("{name} {:.0} %", 100.0 * rate));
                    self.grey.insert(name.to_owned());
                }
                None => {
                    self.grey.insert(name.to_owned());
                }
            }
        }
        if !weak.is_empty() {
            self.doubts.push(format!(
                "the attack does not work without a defence ({}), so that no defence can be credited with stopping it",
                weak.join(", ")
            ));
        } else if !self.grey.is_empty() {
            self.doubts.push(
                "no undefended run of the same attack is in this report, so that nobody knows whether the attack works"
                    .to_owned(),
            );
        }
    }
}

/// The mean rate of an attack, [`PSR`] or a backdoor, over the seeds.
fn rate_of(group: &Group, name: &str) -> Option<f64> {
    let of = rate(name);
    group.mean(|run| of(run).map(|rate| rate.rate))
}

fn rate(name: &str) -> Box<RateOf<'_>> {
    if name == PSR { Box::new(psr) } else { Box::new(asr(name)) }
}

/// Of the victim that a row's runs cleaned.
fn before(group: &Group, name: &str) -> Option<f64> {
    group.mean(|run| {
        let victim = run.summary.before.as_ref()?;
        let rate = if name == PSR { victim.psr } else { victim.asr.get(name).map(|outcome| outcome.success) };
        rate.map(|rate| rate.rate)
    })
}

/// CIDEr-D of a captioner, and the best of what costs nothing beside it.
fn captions_of(group: &Group) -> Option<String> {
    let own = group.mean(|run| run.summary.captions.as_ref().map(|captions| captions.captioner.cider_d))?;
    let best = |run: &RunRecord| {
        let baselines = run.summary.captions.iter().flat_map(|captions| captions.baselines.values());
        baselines.map(|scores| scores.cider_d).reduce(f64::max)
    };
    let beside = group.mean(best).map(|best| format!(", the best baseline {:.1}", 100.0 * best)).unwrap_or_default();
    Some(format!("CIDEr-D {:.1}{beside}", 100.0 * own))
}

/// Says so where a model is about as good as one that guesses. Where the number of classes was not kept, nothing is said.
fn at_chance(run: &RunRecord) -> Option<String> {
    let classes = run.details.as_ref()?.classes.max(1);
    let chance = 1.0 / classes as f64;
    let rate = zero_shot(run)?;
    // With few classes twice chance is too much to ask for: half of the way from chance to perfect is as good.
    let least = (2.0 * chance).min((1.0 + chance) / 2.0);
    (rate.rate < least).then(|| {
        format!("zero-shot {:.1} % of {classes} classes is about chance ({:.1} %)", 100.0 * rate.rate, 100.0 * chance)
    })
}

fn sentence(study: &Study, group: &Group, attacks: &[String], grey: &BTreeSet<String>) -> String {
    let undefended = study
        .control("undefended", group)
        .filter(|_| !["undefended", "clean-data"].contains(&group.row().control.as_deref().unwrap_or("")));
    let mut parts = Vec::new();
    if let Some(fooled) = fooled(group) {
        parts.push(format!("{fooled} targets fooled{}", against(group, undefended, PSR, &|other| fooled_short(other))));
    }
    for attack in attacks {
        if let Some(rate) = rate_of(group, attack) {
            let percent = |other: &Group| rate_of(other, attack).map(|rate| format!("{:.1}\u{a0}%", 100.0 * rate));
            let compared = against(group, undefended, attack, &percent);
            parts.push(format!("trigger {attack} {:.1}\u{a0}%{compared}", 100.0 * rate));
        }
    }
    parts.extend(captions_of(group));
    let captions = !parts.is_empty() && group.first.summary.captions.is_some();
    parts.extend(match group.mean(|run| zero_shot(run).map(|rate| rate.rate)) {
        Some(accuracy) => Some(format!("zero-shot {:.1}\u{a0}%{}", 100.0 * accuracy, cost(study, group))),
        None if captions => None,
        None => Some("not measured: the run has no evaluation data".into()),
    });
    let seeds = match group.members.len() {
        1 => String::new(),
        several => format!("mean of {several} seeds: "),
    };
    let doubt = if grey.is_empty() { "" } else { " (grey figures prove nothing)" };
    format!("{}: {seeds}{}.{doubt}", group.label, parts.join(", "))
}

/// `0 of 16`, or the mean share over seeds.
fn fooled(group: &Group) -> Option<String> {
    match group.members.as_slice() {
        [run] => psr(run).map(|rate| format!("{} of {}", rate.hits, rate.n)),
        _ => rate_of(group, PSR).map(|rate| format!("{:.1} % of", 100.0 * rate)),
    }
}

fn fooled_short(group: &Group) -> Option<String> {
    match group.members.as_slice() {
        [run] => psr(run).map(|rate| rate.hits.to_string()),
        _ => rate_of(group, PSR).map(|rate| format!("{:.1} %", 100.0 * rate)),
    }
}

/// ` (undefended 16, clearly less)`.
fn against(group: &Group, undefended: Option<&Group>, name: &str, shown: &dyn Fn(&Group) -> Option<String>) -> String {
    if let Some(victim) = before(group, name) {
        return format!(" (before cleaning {:.1} %)", 100.0 * victim);
    }
    let Some(undefended) = undefended else { return String::new() };
    let of = rate(name);
    match (shown(undefended), Comparison::of(group, undefended, &*of)) {
        (Some(shown), Some(compared)) => format!(" (undefended {shown}, {})", compared.words()),
        _ => String::new(),
    }
}

/// The parts that another row may play, and its name in a sentence.
pub const CONTROLS: [(&str, &str); 3] =
    [("undefended", "undefended"), ("augmentation-only", "augmentation alone"), ("clean-data", "clean data")];

/// ` (+7.1 against undefended, within chance; -7.1 against augmentation alone, within chance)`.
fn cost(study: &Study, group: &Group) -> String {
    if let Some(victim) = &group.first.summary.before {
        let now = group.first.summary.evaluation.zero_shot_top1.rate;
        return format!(" ({:+.1} points against its victim)", 100.0 * (now - victim.zero_shot_top1.rate));
    }
    // A control is compared with those that it builds on.
    let controls = match group.row().control.as_deref() {
        None => CONTROLS.as_slice(),
        Some("augmentation-only") => CONTROLS.get(..1).unwrap_or_default(),
        Some(_) => &[],
    };
    let parts: Vec<String> = controls
        .iter()
        .filter_map(|(control, name)| {
            let compared = Comparison::of(group, study.control(control, group)?, &zero_shot)?;
            Some(format!("{:+.1} against {name}, {}", compared.points, compared.words()))
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

/// What a person may do next: a reason and a command.
pub fn next_steps(study: &Study, verdicts: &[Verdict]) -> Vec<(String, String)> {
    let mut steps: BTreeMap<usize, (String, String)> = BTreeMap::new();
    let path = |run: &RunRecord| for_shell(&run.folder.display().to_string());
    for (group, verdict) in study.groups.iter().zip(verdicts) {
        let run = group.first;
        let defends = group.row().control.is_none() && run.recipe.clean.is_none();
        if defends && run.summary.poisoned_pairs > 0 && study.control("undefended", group).is_none() {
            let command =
                format!("roclip demo --config {0}/run.toml --seeds {1} --out {0}-controls", path(run), run.row.seed);
            steps.entry(0).or_insert(("Train the controls of a defence beside it".to_owned(), command));
        }
        let examined = kept_findings(&run.folder).is_ok_and(|kept| kept.is_some());
        let examinable = run.recipe.clean.is_none() && run.recipe.caption.is_none();
        if examinable && !examined && (defends || !verdict.doubts.is_empty()) {
            let why = format!("Ask why {} looks as it does: this measures the data and the model", verdict.label);
            steps.entry(1).or_insert((why, format!("roclip doctor {}", path(run))));
        }
        if defends && group.members.len() < 3 {
            let seed = group.members.iter().map(|run| run.row.seed).max().unwrap_or(0) + 1;
            let command = format!("roclip train --config {0}/run.toml --seed {seed} --run {0}-seed{seed}", path(run));
            steps.entry(2).or_insert(("Train more seeds: one may be luck".to_owned(), command));
        }
        let attacked = run.summary.evaluation.psr.is_some() || !run.summary.evaluation.asr.is_empty();
        if group.row().is_control("undefended") && attacked {
            let command = format!("roclip clean {} --run {0}-cleaned --method cleanclip", path(run));
            steps.entry(3).or_insert(("Try to clean the model that was fooled".to_owned(), command));
        }
    }
    steps.into_values().collect()
}
