//! What a person may do next: reasons and commands.

use crate::doctor::kept_findings;
use crate::report::group::{Group, Study};
use crate::report::verdict::Verdict;
use crate::results::RunRecord;
use roclip_data::escape::for_shell;
use std::collections::BTreeMap;

/// Seeds of a comparison that one lucky seed cannot decide.
const ENOUGH_SEEDS: usize = 3;

/// A reason, and the commands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    pub why: String,
    pub commands: Vec<String>,
    /// Whether it asks for more seeds of the rows that are compared.
    pub more_seeds: bool,
}

impl NextStep {
    fn new(why: impl Into<String>, command: String) -> NextStep {
        NextStep { why: why.into(), commands: vec![command], more_seeds: false }
    }
}

/// What to do after this study: at most one step of each kind.
pub fn next_steps(study: &Study, verdicts: &[Verdict]) -> Vec<NextStep> {
    let mut steps: BTreeMap<usize, NextStep> = BTreeMap::new();
    for (group, verdict) in study.groups.iter().zip(verdicts) {
        let run = group.first;
        if let Some(prompt) = &run.recipe.prompt {
            let command = match prompt.method().attacks() {
                true => format!("roclip prompt repair {0} --run {0}-repaired", path(run)),
                false => format!("roclip prompt detect {}", path(run)),
            };
            let why = "Look for a trigger in the learned prompts, and tune against it";
            steps.entry(5).or_insert(NextStep::new(why, command));
            continue;
        }
        let defends = defends(group);
        if defends && run.summary.poisoned_pairs > 0 && study.control("undefended", group).is_none() {
            let command =
                format!("roclip demo --config {0}/run.toml --seeds {1} --out {0}-controls", path(run), run.row.seed);
            steps.entry(0).or_insert(NextStep::new("Train the controls of a defence beside it", command));
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
        if group.row().is_control("undefended") && attacked && run.recipe.is_labelled() {
            let command = format!("roclip distil {0} --run {0}-student", path(run));
            steps.entry(3).or_insert(NextStep::new("See which backdoors a student inherits", command));
        } else if group.row().is_control("undefended") && fooled {
            let command = format!("roclip clean {} --run {0}-cleaned --method cleanclip", path(run));
            steps.entry(3).or_insert(NextStep::new("Try to clean the model that was fooled", command));
        }
    }
    steps.extend(more_seeds(study).map(|step| (2, step)));
    steps.into_values().collect()
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
    for_shell(&run.folder.display().to_string())
}

/// Further seeds of every row that is compared: a defence's, without those of its controls, is compared with nothing.
fn more_seeds(study: &Study) -> Option<NextStep> {
    let trained: Vec<&Group> = study.groups.iter().filter(|group| group.first.recipe.clean.is_none()).collect();
    let few = |group: &&&Group| defends(group) && group.members.len() < ENOUGH_SEEDS;
    let first = trained.iter().find(few)?;
    let seeds = || trained.iter().flat_map(|group| group.members.iter().map(|run| run.row.seed));
    // The rows of a demo are named by their seeds; the cells of a sweep have a recipe of their own, too.
    let of_demo = |run: &RunRecord| {
        let seed = format!("-seed{}", run.row.seed);
        let named = run.folder.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&seed));
        named && run.folder.join("recipe.toml").is_file()
    };
    let demo = first.first.folder.parent().filter(|_| of_demo(first.first));
    let commands = match demo {
        Some(out) => {
            let mut all: Vec<u64> = seeds().chain(0..ENOUGH_SEEDS as u64).collect();
            all.sort_unstable();
            all.dedup();
            let all: Vec<String> = all.iter().map(u64::to_string).collect();
            let out = for_shell(&out.display().to_string());
            vec![format!(
                "roclip demo --config {}/recipe.toml --seeds {} --out {out}",
                path(first.first),
                all.join(",")
            )]
        }
        None => {
            let seed = seeds().max().unwrap_or(0) + 1;
            let command = |group: &&Group| {
                format!("roclip train --config {0}/run.toml --seed {seed} --run {0}-seed{seed}", path(group.first))
            };
            trained.iter().map(command).collect()
        }
    };
    let why = match trained.len() {
        1 => "Train more seeds: one may be luck",
        _ => "Train more seeds of every row: one may be luck, and a defence is compared seed by seed with its controls",
    };
    Some(NextStep { why: why.to_owned(), commands, more_seeds: true })
}
