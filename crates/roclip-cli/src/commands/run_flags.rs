//! The flags of every command that trains in a run folder.

use crate::commands::progress::say;
use crate::commands::signals;
use anyhow::Result;
use clap::Args;
use roclip::error::Error;
use roclip::recipe::Recipe;
use roclip::run::{Caller, Start, Summary};
use std::path::{Path, PathBuf};
use std::process::exit;

#[derive(Args)]
pub struct RunFlags {
    /// Folder of the run: run.toml, metrics.jsonl, checkpoints/, summary.json
    #[arg(long = "run", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Go on from the newest checkpoint in the folder, with the recipe saved there.
    /// Keys that change nothing of what is learned (threads, workers, device, how often to save) and more --epochs may be given, too
    #[arg(long)]
    pub resume: bool,
    /// Go on from this checkpoint of the folder instead of the newest, as where that one is damaged; newer ones are kept aside as
    /// checkpoints/newer_step_N
    #[arg(long, value_name = "step_N", value_parser = step)]
    pub resume_from: Option<u64>,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl RunFlags {
    pub fn start(&self) -> Start {
        match (self.resume_from, self.resume) {
            (Some(step), _) => Start::ResumeFrom(step),
            (None, true) => Start::Resume,
            (None, false) => Start::New,
        }
    }

    /// Whether a run goes on that the folder holds.
    pub fn resumes(&self) -> bool {
        self.start() != Start::New
    }
}

/// `step_12`, or `12`.
fn step(text: &str) -> Result<u64, String> {
    text.strip_prefix("step_")
        .unwrap_or(text)
        .parse()
        .map_err(|_| "give the name of a checkpoint, as in step_12".into())
}

/// What a finished run's folder holds.
pub const HOLDS: &str = "checkpoints/, summary.json, metrics.jsonl, log.jsonl, tensorboard/";

/// The commit that this program was built from.
pub const COMMIT: &str = env!("ROCLIP_COMMIT");

/// Trains with progress on stderr. A signal saves a checkpoint first where one is due, and ends the process.
pub fn train(recipe: &Recipe, run: &Path, start: Start) -> Result<Summary> {
    let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let caller = Caller { stop: signals::stop(), commit: COMMIT, command };
    match roclip::run::train(recipe, run, start, &caller, &mut say) {
        Err(stopped @ Error::Stopped { .. }) => {
            say(&stopped.to_string());
            exit(signals::exit_code())
        }
        other => Ok(other?),
    }
}
