//! Whether what a finished run began with is there still.

use crate::checkpoint;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::run::build::build;
use crate::run::resume::{check_began_with, check_manifest};
use crate::run::session::prepare;
use crate::world::World;
use std::path::Path;
use tch::Device;

/// Whether the data, the poison and the weights that the run in the folder `run` began with are what its recipe names today: a run that stays
/// beside new ones is compared with them. Reads the data, as the run itself would, and writes nothing.
///
/// # Errors
/// Names what has changed since, or can no longer be read.
pub fn check_unchanged(run: &Path) -> Result<()> {
    let recipe = Recipe::read(&run.join("run.toml"))?;
    let Some(step) = checkpoint::newest_step(run)? else { return Ok(()) };
    let folder = checkpoint::at_step(run, step)?;
    let state = checkpoint::verified(&folder)?;
    let silent = &mut |_: &str| {};
    let prepared = prepare(&recipe, silent)?;
    // The weights alone decide, wherever they are read to.
    let (trainer, context) = build(&recipe, prepared, (Device::Cpu, &World::alone()), run, silent)?;
    check_began_with(&state, &context, trainer.objective.name(), &folder)?;
    check_manifest(run, &context)
}
