//! The flags of every command that trains in a run folder.

use crate::commands::progress::say;
use anyhow::{Context, Result};
use clap::Args;
use roclip::error::Error;
use roclip::recipe::Recipe;
use roclip::run::{Stop, Summary};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::{Arc, OnceLock};

#[derive(Args)]
pub struct RunFlags {
    /// Folder of the run: run.toml, metrics.jsonl, checkpoints/, summary.json
    #[arg(long = "run", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Go on from the newest checkpoint in the folder, with the recipe saved there
    #[arg(long)]
    pub resume: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// What a shell reports of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Trains with progress on stderr. An interrupt or a termination saves a checkpoint first where one is due; a second one does not wait.
pub fn train(recipe: &Recipe, run: &Path, resume: bool) -> Result<Summary> {
    let stop = stop_on_signals()?;
    match roclip::run::train(recipe, run, resume, &stop, &mut say) {
        Err(stopped @ Error::Stopped { .. }) => {
            say(&stopped.to_string());
            exit(INTERRUPTED)
        }
        other => Ok(other?),
    }
}

/// One handler for all runs of this process.
fn stop_on_signals() -> Result<Arc<Stop>> {
    static STOP: OnceLock<Arc<Stop>> = OnceLock::new();
    if let Some(stop) = STOP.get() {
        return Ok(Arc::clone(stop));
    }
    let stop = Arc::new(Stop::default());
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.ask() {
            say("stopping after this step; once more to leave at once");
        } else {
            say("stopped; the same command with --resume goes on from the last checkpoint");
            exit(INTERRUPTED)
        }
    })
    .context("cannot handle signals")?;
    Ok(Arc::clone(STOP.get_or_init(|| stop)))
}
