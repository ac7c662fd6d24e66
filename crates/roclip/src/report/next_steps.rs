//! What a person may do next: reasons and commands.

use crate::checkpoint::run_of;
use crate::clean::{CleanMethod, Victim, first_try};
use crate::doctor::kept_findings;
use crate::recipe::{ObjectiveName, Recipe};
use crate::report::group::{Group, Study};
use crate::report::verdict::Verdict;
use crate::results::RunRecord;
use crate::run::{Looked, kept_detection};
use roclip_data::escape::{for_shell, path_for_shell};
use roclip_data::paths::{beside, plain};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Seeds of a comparison that one lucky seed cannot decide.
const ENOUGH_SEEDS: usize = 3;

/// The seeds that a comparison should have beside its `own`, and these, as flags take them.
pub fn enough_seeds(own: impl IntoIterator<Item = u64>) -> String {
    let all: BTreeSet<u64> = own.into_iter().chain(0..ENOUGH_SEEDS as u64).collect();
    all.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// A reason, and the commands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    pub why: String,
    pub commands: Vec<String>,
    /// Whether it asks for more seeds of the rows that are compared.
    pub more_seeds: bool,
}

impl NextStep {
    /// With one command.
    pub fn new(why: impl Into<String>, command: String) -> NextStep {
        NextStep { why: why.into(), commands: vec![command], more_seeds: false }
    }

    /// The reason as it stands before the commands, of which there may be none.
    pub fn reason(&self) -> String {
        format!("{}{}", self.why, if self.commands.is_empty() { "." } else { ":" })
    }
}

/// What to do after this study: at most one step of each kind, and none whose result is among `all` runs of the report. `with_more_seeds` is
/// the command that trains further seeds, where it is known.
pub fn next_steps(
    study: &Study,
    verdicts: &[Verdict],
    all: &[RunRecord],
    with_more_seeds: Option<&str>,
) -> Vec<NextStep> {
    let mut steps: BTreeMap<usize, NextStep> = BTreeMap::new();
    for (group, verdict) in study.groups.iter().zip(verdicts) {
        let run = group.first;
        if let Some(prompt) = &run.recipe.prompt {
            let looked = kept_detection(&run.folder).is_ok_and(|kept| kept.is_some());
            if prompt.method().attacks()
                && !is_made_from(all, run, |recipe| Some(&recipe.prompt.as_ref()?.repair.as_ref()?.learner))
            {
                let command = format!("roclip prompt repair {} --run {}", path(run), new(run, "repaired"));
                steps
                    .entry(6)
                    .or_insert(NextStep::new("Tune the prompts against a trigger that is found in them", command));
            }
            if !looked {
                let command = format!("roclip prompt detect {}", path(run));
                steps.entry(5).or_insert(NextStep::new("Look for a trigger in the learned prompts", command));
            }
            continue;
        }
        let defends = defends(group);
        let met_poison = run.summary.poisoned_pairs + run.summary.poison_left_out.unwrap_or(0) > 0;
        if defends && met_poison && study.control("undefended", group).is_none() {
            steps.entry(0).or_insert(NextStep::new("Train the controls of a defence beside it", controls_of(run)));
        }
        let examined = kept_findings(&run.folder).is_ok_and(|kept| kept.is_some());
        let recipe = &run.recipe;
        let of_own_poison = recipe.clean.is_none() && recipe.distillation().is_none() && recipe.caption.is_none();
        if of_own_poison && !examined && (defends || !verdict.doubts.is_empty()) {
            let why = format!("Ask why {} looks as it does: this measures the data and the model", verdict.label);
            steps.entry(1).or_insert(NextStep::new(why, format!("roclip doctor {}", path(run))));
        }
        let evaluation = &run.summary.evaluation;
        let attacked = evaluation.psr.is_some() || !evaluation.asr.is_empty();
        // A rate that its base rate explains fooled nobody.
        let turned = evaluation.asr.values().any(|asr| asr.success.low > asr.base_rate.high);
        let fooled = turned || evaluation.psr.is_some_and(|psr| psr.hits > 0);
        if !group.row().is_control("undefended") {
            continue;
        }
        let is_distilled = || is_made_from(all, run, |recipe| Some(&recipe.distillation()?.teacher));
        let is_cleaned = || is_made_from(all, run, |recipe| Some(&recipe.clean.as_ref()?.victim));
        if attacked && run.recipe.is_labelled() && !is_distilled() {
            let command = format!("roclip distil {} --run {}", path(run), new(run, "student"));
            steps.entry(3).or_insert(NextStep::new("See which backdoors a student inherits", command));
        } else if fooled && !run.recipe.is_labelled() && !is_cleaned() {
            let command = format!("roclip clean {} --run {} {}", path(run), new(run, "cleaned"), cleaning(run));
            steps.entry(3).or_insert(NextStep::new("Try to clean the model that was fooled", command));
        }
    }
    steps.extend(more_seeds(study, with_more_seeds).map(|step| (2, step)));
    steps.into_values().collect()
}

/// Whether one of `all` runs was made from `run`, or from a checkpoint of it, which `origin` names.
fn is_made_from(all: &[RunRecord], run: &RunRecord, origin: impl Fn(&Recipe) -> Option<&PathBuf>) -> bool {
    let whole = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let own = whole(&run.folder);
    all.iter().filter_map(|other| run_of(origin(&other.recipe)?)).any(|folder| whole(&folder) == own)
}

/// The method to clean a run's model with, and the flags that fit it.
fn cleaning(run: &RunRecord) -> String {
    let (recipe, summary, method) = (&run.recipe, &run.summary, CleanMethod::default().method());
    let victim = Victim {
        train: &recipe.train,
        // A vocabulary of few tokens is that of a model of ours.
        began_large: recipe.model.weights.is_some() && !recipe.model.compact_vocabulary,
        pairs: summary.pairs.saturating_sub(summary.poisoned_pairs),
    };
    format!("--method {}{}", method.name(), first_try(&method.training(), &victim))
}

fn defends(group: &Group) -> bool {
    let recipe = &group.first.recipe;
    group.row().control.is_none()
        && recipe.clean.is_none()
        && recipe.prompt.is_none()
        && recipe.caption.is_none()
        && !recipe.is_labelled()
}

fn path(run: &RunRecord) -> String {
    path_for_shell(&plain(&run.folder))
}

/// A new folder for what is made of `run`.
fn new(run: &RunRecord, what: &str) -> String {
    path_for_shell(&beside(&run.folder, what))
}

/// Whether pairs are left out that a look at all of them found suspicious. The list is of one seed's pairs.
fn drops_suspects(run: &RunRecord) -> Option<Looked> {
    run.recipe.data.drop.as_deref().and_then(Looked::beside)
}

/// The controls that a defence's row lacks.
fn controls_of(run: &RunRecord) -> String {
    let (recipe, run_path) = (&run.recipe, path(run));
    if recipe.has_controls() && recipe.data.drop.is_none() {
        let (seed, out) = (run.row.seed, new(run, "controls"));
        return format!("roclip demo --config {run_path}/run.toml --seeds {seed} --out {out}");
    }
    // The demo takes a recipe with both a defence and augmentation; of others the undefended run is the control.
    let mut command = format!("roclip train --config {run_path}/run.toml");
    if recipe.objective.name != ObjectiveName::Clip {
        command += " --objective clip";
    }
    let sections = [
        ("augment.image", recipe.augment.image.is_some()),
        ("augment.text", recipe.augment.text.is_some()),
        ("data.drop", recipe.data.drop.is_some()),
    ];
    for (section, _) in sections.into_iter().filter(|(_, there)| *there) {
        command += &format!(" --set {section}=");
    }
    format!("{command} --run {}", new(run, "undefended"))
}

/// Further seeds of every row that is compared: a defence's, without those of its controls, is compared with nothing. `command` trains
/// them, where it is known.
fn more_seeds(study: &Study, command: Option<&str>) -> Option<NextStep> {
    let trained: Vec<&Group> = study.groups.iter().filter(|group| is_trained(&group.first.recipe)).collect();
    let Some(first) = trained.iter().find(|group| defends(group) && group.members.len() < ENOUGH_SEEDS) else {
        return more_seeds_of_made(study, &trained);
    };
    let why = match trained.len() {
        1 => "Train more seeds: one may be luck",
        _ => "Train more seeds of every row: one may be luck, and a defence is compared seed by seed with its controls",
    };
    let step = |commands: Vec<String>, besides: &str| {
        Some(NextStep { why: format!("{why}{besides}"), commands, more_seeds: true })
    };
    if let Some(command) = command {
        return step(vec![command.to_owned()], "");
    }
    let seeds: Vec<u64> = trained.iter().flat_map(|group| group.members.iter().map(|run| run.row.seed)).collect();
    if let (Some(out), Some(flag)) = (first.first.folder.parent(), seeds_flag(first.first)) {
        let all = enough_seeds(seeds);
        return match demo_again(&trained, out).filter(|_| demo_row(first.first).is_some()) {
            Some(demo) => step(vec![format!("{demo} {flag}{all}")], ""),
            None => {
                step(Vec::new(), &format!(". Give the command that trained these rows once more, with {flag}{all}"))
            }
        };
    }
    let seed = seeds.iter().max().unwrap_or(&0) + 1;
    let command = |group: &&Group| {
        let (own, new) = (path(group.first), new(group.first, &format!("seed{seed}")));
        format!("roclip train --config {own}/run.toml --seed {seed} --run {new}")
    };
    let (with_list, without): (Vec<&Group>, Vec<&Group>) =
        trained.into_iter().partition(|group| drops_suspects(group.first).is_some());
    let besides = match with_list.is_empty() {
        true => "",
        false => {
            " (suspects are of one seed: look for those of the others with `roclip detect pairs` before you train without them)"
        }
    };
    step(without.iter().map(command).collect(), besides)
}

/// The same where no row defends: learned prompts, and what cleaning or a repair made of rows, which are compared with what they were made
/// from. `trained` are the rows that are trained anew.
fn more_seeds_of_made(study: &Study, trained: &[&Group]) -> Option<NextStep> {
    let made: Vec<&Group> = study.groups.iter().filter(|group| is_tuned(&group.first.recipe)).collect();
    made.iter().find(|group| group.members.len() < ENOUGH_SEEDS)?;
    let all = || trained.iter().chain(&made);
    let seed = all().flat_map(|group| group.members.iter().map(|run| run.row.seed)).max().unwrap_or(0) + 1;
    let of_seed = |run: &Path| path_for_shell(&beside(run, format!("seed{seed}")));
    // What a row of the report was made from is made for the seed first; what stands nowhere in it is taken as it is.
    let origin = |path: &PathBuf| {
        let whole = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let run = run_of(path).map(|run| whole(&run));
        let row = all().find(|group| run.as_ref().is_some_and(|run| *run == whole(&group.first.folder)));
        row.map_or_else(|| path_for_shell(path), |group| of_seed(&group.first.folder))
    };
    let command = |group: &&Group| {
        let (own, new) = (path(group.first), of_seed(&group.first.folder));
        let recipe = &group.first.recipe;
        if let Some(clean) = &recipe.clean {
            let (victim, method) = (origin(&clean.victim), clean.method.method().name());
            return format!(
                "roclip clean {victim} --config {own}/run.toml --method {method} --seed {seed} --run {new}"
            );
        }
        match recipe.prompt.as_ref().map(|prompt| &prompt.repair) {
            Some(Some(repair)) => {
                let class = repair.class.as_ref().map(|class| format!(" --class {}", for_shell(class)));
                format!("roclip prompt repair {}{} --run {new}", origin(&repair.learner), class.unwrap_or_default())
            }
            Some(None) => format!("roclip prompt train --config {own}/run.toml --seed {seed} --run {new}"),
            None => format!("roclip train --config {own}/run.toml --seed {seed} --run {new}"),
        }
    };
    let (repairs, others): (Vec<&Group>, Vec<&Group>) = made
        .iter()
        .copied()
        .partition(|group| group.first.recipe.prompt.as_ref().is_some_and(|prompt| prompt.repair.is_some()));
    let commands = trained.iter().copied().chain(others).chain(repairs).map(|group| command(&group)).collect();
    let why =
        "Train more seeds of every row: one may be luck, and what was made of a model is compared with it seed by seed";
    Some(NextStep { why: why.to_owned(), commands, more_seeds: true })
}

/// Whether the recipe learns prompts, or makes something of a model that cleans it.
fn is_tuned(recipe: &Recipe) -> bool {
    recipe.clean.is_some() || recipe.prompt.is_some()
}

/// Whether the recipe trains CLIP or a classifier anew.
fn is_trained(recipe: &Recipe) -> bool {
    recipe.clean.is_none() && recipe.caption.is_none() && recipe.prompt.is_none() && recipe.distillation().is_none()
}

/// The rows that a demo trains by itself; `detected-METHOD` stands beside them.
const DEMO_ROWS: [&str; 4] = ["undefended", "augmentation-only", "defended", "clean-data"];
const DETECTED: &str = "detected";

/// The row of a demo that the run is, without its seed. The cells of a sweep have a recipe of their own, too, and other names.
fn demo_row(run: &RunRecord) -> Option<String> {
    let name = run.folder.file_name()?.to_string_lossy().into_owned();
    let row = name.strip_suffix(&format!("-seed{}", run.row.seed))?;
    let known = DEMO_ROWS.contains(&row) || row.starts_with(&format!("{DETECTED}-"));
    (known && run.folder.join("recipe.toml").is_file()).then(|| row.to_owned())
}

/// What gives its seeds to the command that trained the run beside others, a demo or a sweep; none of a run that was trained by itself.
fn seeds_flag(run: &RunRecord) -> Option<&'static str> {
    let name = run.folder.file_name()?.to_string_lossy().into_owned();
    let of_demo = name.ends_with(&format!("-seed{}", run.row.seed));
    run.folder.join("recipe.toml").is_file().then_some(if of_demo { "--seeds " } else { "--sweep seed=" })
}

/// `roclip demo` with the rows of `groups` in the folder `out`, without seeds; none where no recipe among them is one that the demo takes.
fn demo_again(groups: &[&Group], out: &Path) -> Option<String> {
    let of_folder = |group: &&&Group| group.first.folder.parent() == Some(out);
    let rows: Vec<(String, &RunRecord)> =
        groups.iter().filter(of_folder).filter_map(|group| Some((demo_row(group.first)?, group.first))).collect();
    let takes = |(_, run): &&(String, &RunRecord)| run.recipe.has_controls() && run.recipe.data.drop.is_none();
    let (_, whole) = rows.iter().find(takes)?;
    let mut command = format!("roclip demo --config {}/recipe.toml", path(whole));
    let is_there = |row: &&str| rows.iter().any(|(known, _)| known == row);
    let mut asked: Vec<&str> = DEMO_ROWS.into_iter().filter(is_there).collect();
    let looked: Vec<(&str, Looked)> = rows
        .iter()
        .filter_map(|(row, run)| Some((row.strip_prefix(DETECTED)?.strip_prefix('-')?, drops_suspects(run)?)))
        .collect();
    if let Some((_, first)) = looked.first() {
        asked.push(DETECTED);
        let by: BTreeSet<&str> = looked.iter().map(|(by, _)| *by).collect();
        command += &format!(" --detect-by {}", by.into_iter().collect::<Vec<_>>().join(","));
        let encoder = first.model.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        if let Some((row, _)) = encoder.as_deref().and_then(|name| name.rsplit_once("-seed")) {
            command += &format!(" --detect-with {row}");
        }
        if let Some(share) = first.drop.strip_prefix("fraction ") {
            command += &format!(" --drop-fraction {share}");
        }
    }
    if asked.len() != DEMO_ROWS.len() || asked.contains(&DETECTED) {
        command += &format!(" --rows {}", asked.join(","));
    }
    Some(format!("{command} --out {}", path_for_shell(out)))
}
