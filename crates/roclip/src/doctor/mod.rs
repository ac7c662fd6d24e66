//! Why did an attack not take, or why does a defence look so good? The causes that public threads report ("why is my ASR 0?"),
//! each measured on a finished run.

mod attacks;
mod backdoor;
mod checks;
mod defence;
mod finding;
mod learned;
mod outlook;
mod prompts;
mod survival;

pub use finding::{Finding, Severity, UNDEFENDED_CONTROL, WORKS};
pub use outlook::outlook;
pub use survival::{Survival, survival};

use crate::checkpoint::{self, Loaded};
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::recipe::Recipe;
use crate::results::{RunRecord, read_run};
use crate::run::{Prepared, prepare_training};
use crate::train::read_metrics;
use roclip_data::artifact;
use roclip_data::pairs::Pairs;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::Manifest;
use serde_json::Value;
use std::path::{Path, PathBuf};

const FILE: &str = "doctor.json";

/// What a run folder holds, and the runs beside it.
pub(crate) struct Finished {
    pub record: RunRecord,
    pub recipe: Recipe,
    pub manifest: Option<Manifest>,
    /// Of the logged steps: finished steps, and the learning rate of the last one.
    pub learning_rates: Vec<(u64, f64)>,
    /// Finished runs in the same parent folder with the same manifest.
    pub siblings: Vec<RunRecord>,
}

/// A run with its data and its model.
pub(crate) struct Case<'a> {
    pub run: &'a Finished,
    /// The data with the poison laid over it.
    pub pairs: Pairs,
    pub evaluator: Evaluator,
    pub loaded: Loaded,
}

/// Examines the finished run `folder`. Findings come worst first. Where its data can no longer be read, the checks that need it are named
/// and left out.
pub fn examine(folder: &Path, device: tch::Device) -> Result<Vec<Finding>> {
    if folder.is_file() || (folder.is_dir() && !folder.join("run.toml").is_file() && is_model_alone(folder)) {
        return Err(Error::file(
            folder,
            "is a model and no run: what is examined is how a model was trained",
            "name the run; `roclip eval` measures a model of any origin",
        ));
    }
    let record = read_run(folder)?;
    if record.recipe.caption.is_some() {
        return Err(Error::file(
            folder,
            "trained a captioner, and what is examined is how CLIP was trained",
            "measure it with `roclip caption eval`, which shows what costs nothing beside it",
        ));
    }
    if record.recipe.clean.is_some() {
        return Err(Error::file(
            folder,
            "cleaned a model; its training data holds no poison to examine",
            "name the victim's run",
        ));
    }
    if record.recipe.distillation().is_some() {
        return Err(Error::file(
            folder,
            "distilled a teacher on trusted pictures, which hold no poison to examine",
            "name the teacher's run; `roclip report` shows what the student inherited",
        ));
    }
    if let Some(measures) = &record.summary.prompt {
        let mut findings = prompts::of_prompts(measures, record.summary.prompt_before.as_ref());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        artifact::write_json(&folder.join(FILE), &findings)?;
        return Ok(findings);
    }
    let recipe = record.recipe_as_run();
    let manifest = recipe.manifest.as_ref().map(|path| Manifest::read(path, recipe.data.limits)).transpose()?;
    let siblings = siblings(folder, manifest.as_ref(), recipe.data.limits);
    let learning_rates = learning_rates(folder)?;
    let run = Finished { record, recipe, manifest, learning_rates, siblings };
    let mut findings = checks::of_run(&run);
    match prepare_training(&run.recipe) {
        Ok(Prepared { pairs, evaluator, .. }) => {
            let loaded = checkpoint::load(folder, device)?;
            findings.extend(checks::of_data(&Case { run: &run, pairs, evaluator, loaded })?);
        }
        Err(error) => findings.push(checks::without_data(&error)),
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    artifact::write_json(&folder.join(FILE), &findings)?;
    Ok(findings)
}

/// Whether a folder holds a model of another program.
fn is_model_alone(folder: &Path) -> bool {
    checkpoint::is_checkpoint(folder).is_ok_and(|own| !own)
}

/// What can be said of `record` without its data and its model, in no time: the checks that read the run folder alone. `others` are runs
/// that may be its controls. Nothing of a run that cleaned or distilled a model, or trained a captioner.
pub fn examine_folder(record: &RunRecord, others: &[&RunRecord]) -> Result<Vec<Finding>> {
    let recipe = &record.recipe;
    if recipe.clean.is_some() || recipe.distillation().is_some() || recipe.caption.is_some() {
        return Ok(Vec::new());
    }
    if let Some(measures) = &record.summary.prompt {
        return Ok(prompts::of_prompts(measures, record.summary.prompt_before.as_ref()));
    }
    let recipe = record.recipe_as_run();
    let manifest = recipe.manifest.as_ref().map(|path| Manifest::read(path, recipe.data.limits)).transpose()?;
    let same_poison = |other: &&&RunRecord| {
        // Where no recipe says how the poison was drawn, its rows do.
        let alike = record.poison.is_told() || record.poison.is(&other.poison) != Some(false);
        alike && other.attack == record.attack && other.row.seed == record.row.seed
    };
    let siblings = others.iter().filter(same_poison).map(|other| (*other).clone()).collect();
    let learning_rates = learning_rates(&record.folder)?;
    Ok(checks::of_run(&Finished { record: record.clone(), recipe, manifest, learning_rates, siblings }))
}

/// What the doctor found when it last examined the run in `folder`; none where it did not since the run ended.
pub fn kept_findings(folder: &Path) -> Result<Option<Vec<Finding>>> {
    let changed = |name: &str| std::fs::metadata(folder.join(name)).and_then(|meta| meta.modified()).ok();
    let current = changed(FILE).zip(changed("summary.json")).is_some_and(|(found, ended)| found >= ended);
    Ok(if current { Some(artifact::read_json(&folder.join(FILE))?) } else { None })
}

/// `(finished steps, learning rate)` of every logged step.
fn learning_rates(folder: &Path) -> Result<Vec<(u64, f64)>> {
    let logged = |line: &Value| Some((line.get("step")?.as_u64()?, line.get("learning_rate")?.as_f64()?));
    Ok(read_metrics(folder)?.iter().filter_map(logged).collect())
}

/// Runs beside `folder` that were trained on the same poison. Those that cannot be read are no controls.
fn siblings(folder: &Path, manifest: Option<&Manifest>, limits: ImageLimits) -> Vec<RunRecord> {
    let Some(own) = manifest.map(|m| &m.rows) else { return Vec::new() };
    let Some(parent) = folder_of(folder) else { return Vec::new() };
    let listed = if parent.as_os_str().is_empty() { Path::new(".") } else { &parent };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let same_poison = |path: &Path| Manifest::read(&path.join("manifest.jsonl"), limits).is_ok_and(|m| m.rows == *own);
    entries
        .filter_map(|entry| entry.ok().map(|e| parent.join(e.file_name())))
        .filter(|path| path.join("summary.json").is_file() && same_poison(path))
        .filter_map(|path| read_run(&path).ok())
        .collect()
}

/// The folder that `run` lies in, as it was named where its name says so: what is printed of the runs there can be typed. Empty for the
/// current one.
fn folder_of(run: &Path) -> Option<PathBuf> {
    let whole = run.canonicalize().ok()?;
    // `runs/..` has no name of its own.
    let Some(named) = run.parent().filter(|_| run.file_name().is_some()) else {
        return whole.parent().map(Path::to_owned);
    };
    let named = named.to_owned();
    let listed = if named.as_os_str().is_empty() { Path::new(".") } else { &named };
    // A link may lie elsewhere than its run.
    match listed.canonicalize() {
        Ok(listed) if Some(listed.as_path()) == whole.parent() => Some(named),
        _ => whole.parent().map(Path::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_beside_a_run_are_named_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().canonicalize().unwrap().join("runs");
        std::fs::create_dir_all(runs.join("mine")).unwrap();
        assert_eq!(folder_of(&runs.join("mine")), Some(runs.clone()));
        assert_eq!(folder_of(&runs.join("mine/")), Some(runs.clone()));
        let round = runs.join("mine/../../runs");
        assert_eq!(folder_of(&round.join("mine")), Some(round));
        assert_eq!(folder_of(&runs.join("mine/.")), Some(runs.clone()));
        assert_eq!(folder_of(&runs.join("none")), None);
        // The crate's own folder is the current one of its tests.
        assert_eq!(folder_of(Path::new("src")), Some(PathBuf::new()));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(runs.join("mine"), folder.path().join("link")).unwrap();
            assert_eq!(folder_of(&folder.path().join("link")), Some(runs));
        }
    }
}
