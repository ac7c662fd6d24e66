//! Whether what a finished run began with is there still.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::run::build::build;
use crate::run::named::{check_named, is_measured_on};
use crate::run::numbers::read_measured;
use crate::run::prompt;
use crate::run::resume::{check_began_with, check_manifest, check_measured_on, check_same_model};
use crate::run::session::prepare;
use crate::run::summary::Summary;
use crate::world::World;
use std::path::Path;
use tch::Device;

/// Whether the data, the poison, the weights and the labelled pictures that the run in the folder `run` was trained and measured on are what
/// its recipe names today: a run that stays beside new ones is compared with them. Reads the data, as the run itself would, and writes nothing.
/// False where somebody has removed the checkpoints and the summary does not say all of it either, as in older runs and in those that began
/// with a model's weights.
///
/// # Errors
/// Names what has changed since, or can no longer be read.
pub fn check_unchanged(run: &Path) -> Result<bool> {
    let recipe = Recipe::read(&run.join("run.toml"))?;
    let newest = checkpoint::newest_step(run)?.map(|step| checkpoint::at_step(run, step)).transpose()?;
    if recipe.prompt.is_some() {
        return match newest {
            Some(folder) => prompt::check_unchanged(&recipe, run, &folder).map(|()| true),
            None => Ok(false),
        };
    }
    let summary: Summary = read_measured(&run.join("summary.json"))?;
    let state = newest.as_deref().map(checkpoint::verified).transpose()?;
    let silent = &mut |_: &str| {};
    let prepared = prepare(&recipe, silent)?;
    // The weights alone decide, wherever they are read to.
    let (trainer, context) = build(&recipe, prepared, (Device::Cpu, &World::alone()), run, silent)?;
    let known = match (&state, &newest) {
        (Some(state), Some(folder)) => {
            check_began_with(state, &context, trainer.objective.name(), folder)?;
            check_measured_on((summary.measured_on.as_deref(), &summary.named), &context, run)?;
            check_same_model(state, &trainer, &context, folder)?;
            true
        }
        _ => {
            let began = summary.data_fingerprint.as_ref();
            if began.is_some_and(|began| *began != context.fingerprint) {
                return Err(Error::file(run, "was trained on other data", "bring back its data and its manifest"));
            }
            check_measured_on((summary.measured_on.as_deref(), &summary.named), &context, run)?;
            check_named(&summary.named, &context.named, run)?;
            let tells = context.named.keys().all(|key| is_measured_on(key) || summary.named.contains_key(key));
            // Which weights a run began with stands in its checkpoints alone.
            began.is_some() && context.origin.is_none() && tells
        }
    };
    check_manifest(run, &context)?;
    Ok(known)
}
