//! Whether what a finished run began with is there still.

use crate::checkpoint::{self, State};
use crate::error::{Error, Result};
use crate::objective::ObjectiveConfig;
use crate::recipe::Recipe;
use crate::run::begins::inputs;
use crate::run::build::build;
use crate::run::context::Context;
use crate::run::named::{check_named, is_measured_on};
use crate::run::numbers::read_measured;
use crate::run::prompt;
use crate::run::resume::{check_began_with, check_manifest, check_measured_on, check_same_model};
use crate::run::session::prepare;
use crate::run::summary::Summary;
use crate::train::Trainer;
use crate::world::World;
use std::path::{Path, PathBuf};
use tch::Device;

/// Of each of `runs`, in their order, whether the data, the poison, the weights and the labelled pictures that it was trained and measured on
/// are what its recipe names today: a run that stays beside new ones is compared with them. Reads the data, as the run itself would, once for
/// runs of the same data and model, and writes nothing. False where somebody has removed the checkpoints and the summary does not say all of
/// it either, as in older runs and in those that began with a model's weights; an error names what has changed since, or can no longer be
/// read.
pub fn check_unchanged(runs: &[PathBuf]) -> Vec<Result<bool>> {
    look(runs, checkpoint::verified)
}

/// [`check_unchanged`] for a word on runs whose figures are only shown again: what the checkpoints hold beside their states is not read.
pub fn changes(runs: &[PathBuf]) -> Vec<Result<bool>> {
    look(runs, checkpoint::state_of)
}

/// [`check_unchanged`] by what `state_of` reads of a checkpoint.
fn look(runs: &[PathBuf], state_of: fn(&Path) -> Result<State>) -> Vec<Result<bool>> {
    let mut found: Vec<(usize, Result<bool>)> = Vec::new();
    let mut all: Vec<Alike> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        match Recipe::read(&run.join("run.toml")) {
            Err(error) => found.push((at, Err(error))),
            Ok(recipe) if recipe.prompt.is_some() => found.push((at, check_prompts(&recipe, run))),
            Ok(recipe) => {
                let key = what_it_begins_with(&recipe);
                match all.iter_mut().find(|alike| key.is_some() && alike.key == key) {
                    Some(alike) => alike.members.push((at, recipe)),
                    None => all.push(Alike { key, members: vec![(at, recipe)] }),
                }
            }
        }
    }
    for Alike { members, .. } in &all {
        let mut built: Option<(Trainer, Context)> = None;
        for (at, recipe) in members {
            let Some(run) = runs.get(*at) else { continue };
            let mut check = || {
                let left = Left::read(run, state_of)?;
                let (trainer, context) = match &mut built {
                    Some(built) => built,
                    none => none.insert(as_it_would_begin(recipe, run)?),
                };
                left.check(trainer, context)
            };
            found.push((*at, check()));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, unchanged)| unchanged).collect()
}

/// Runs that began with the same.
struct Alike {
    key: Option<Recipe>,
    /// Their recipes, each with its place in the order that was asked for.
    members: Vec<(usize, Recipe)>,
}

/// What runs have in common that began with the same; none of one that learns from labels or from a teacher, which is looked at by itself.
fn what_it_begins_with(recipe: &Recipe) -> Option<Recipe> {
    let objective = ObjectiveConfig { name: recipe.objective.name, ..ObjectiveConfig::default() };
    (!recipe.is_labelled()).then(|| Recipe { objective, ..inputs(recipe) })
}

fn check_prompts(recipe: &Recipe, run: &Path) -> Result<bool> {
    match newest(run)? {
        Some(folder) => prompt::check_unchanged(recipe, run, &folder).map(|()| true),
        None => Ok(false),
    }
}

fn newest(run: &Path) -> Result<Option<PathBuf>> {
    checkpoint::newest_step(run)?.map(|step| checkpoint::at_step(run, step)).transpose()
}

/// The run of `recipe` before its first step, on what there is today.
fn as_it_would_begin<'a>(recipe: &'a Recipe, run: &Path) -> Result<(Trainer, Context<'a>)> {
    let silent = &mut |_: &str| {};
    let prepared = prepare(recipe, silent)?;
    // The weights alone decide, wherever they are read to.
    build(recipe, prepared, (Device::Cpu, &World::alone()), run, silent)
}

/// What a finished run has left that says what it began with.
struct Left<'a> {
    run: &'a Path,
    summary: Summary,
    /// Of the newest checkpoint, and its folder.
    state: Option<(State, PathBuf)>,
}

impl Left<'_> {
    /// Of the run in the folder `run`, whose checkpoint `state_of` reads.
    fn read(run: &Path, state_of: fn(&Path) -> Result<State>) -> Result<Left<'_>> {
        let newest = newest(run)?;
        let summary = read_measured(&run.join("summary.json"))?;
        let state = newest.map(|folder| Ok::<_, Error>((state_of(&folder)?, folder))).transpose()?;
        Ok(Left { run, summary, state })
    }

    /// Whether that is what `trainer` and `context` have; false where nobody can say.
    fn check(&self, trainer: &Trainer, context: &Context) -> Result<bool> {
        let Left { run, summary, state } = self;
        let known = match state {
            Some((state, folder)) => {
                check_began_with(state, context, trainer.objective.name(), folder)?;
                check_measured_on((summary.measured_on.as_deref(), &summary.named), context, run)?;
                check_same_model(state, trainer, context, folder)?;
                true
            }
            None => {
                let began = summary.data_fingerprint.as_ref();
                if began.is_some_and(|began| *began != context.fingerprint) {
                    return Err(Error::file(run, "was trained on other data", "bring back its data and its manifest"));
                }
                check_measured_on((summary.measured_on.as_deref(), &summary.named), context, run)?;
                check_named(&summary.named, &context.named, run)?;
                let tells = context.named.keys().all(|key| is_measured_on(key) || summary.named.contains_key(key));
                // Which weights a run began with stands in its checkpoints alone.
                began.is_some() && context.origin.is_none() && tells
            }
        };
        check_manifest(run, context)?;
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::ObjectiveName;

    #[test]
    fn runs_that_differ_in_what_is_learned_alone_begin_with_the_same() {
        let begins = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            what_it_begins_with(&recipe)
        };
        let plain = begins(&|_| {});
        assert!(plain.is_some());
        assert_eq!(plain, begins(&|recipe| recipe.train.learning_rate *= 2.0));
        let others: [&dyn Fn(&mut Recipe); 4] = [
            &|recipe| recipe.seed = 7,
            &|recipe| recipe.data.drop = Some("drop.txt".into()),
            &|recipe| recipe.poison.measure_only = true,
            &|recipe| recipe.objective.name = ObjectiveName::Roclip,
        ];
        assert!(others.iter().all(|change| begins(change).is_some_and(|other| Some(&other) != plain.as_ref())));
        assert_eq!(begins(&|recipe| recipe.objective.name = ObjectiveName::Classifier), None);
    }
}
