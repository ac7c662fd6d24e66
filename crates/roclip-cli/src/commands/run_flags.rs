//! The flags of every command that trains in a run folder.

use crate::commands::progress::say;
use anyhow::{Context, Result};
use clap::Args;
use roclip::error::Error;
use roclip::recipe::Recipe;
use roclip::run::{Start, Stop, Summary};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::{Arc, OnceLock};

#[derive(Args)]
pub struct RunFlags {
    /// Folder of the run: run.toml, metrics.jsonl, checkpoints/, summary.json
    #[arg(long = "run", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Go on from the newest checkpoint in the folder, with the recipe saved there
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

/// What a shell reports of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Trains with progress on stderr. An interrupt or a termination saves a checkpoint first where one is due; a second one does not wait.
pub fn train(recipe: &Recipe, run: &Path, start: Start) -> Result<Summary> {
    let stop = stop_on_signals()?;
    match roclip::run::train(recipe, run, start, &stop, &mut say) {
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
            say("stopped; say the same again with --resume, or without it where no checkpoint was saved yet");
            roclip::run::leave_at_once(INTERRUPTED)
        }
    })
    .context("cannot handle signals")?;
    Ok(Arc::clone(STOP.get_or_init(|| stop)))
}
