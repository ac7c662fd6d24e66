//! The flags of every command that trains in a run folder.

use crate::commands::folder::folder;
use crate::commands::invocation;
use crate::commands::progress::say;
use crate::commands::signals;
use anyhow::{Error as AnyError, Result, anyhow};
use clap::Args;
use roclip::captions::end_programs;
use roclip::error::Error;
use roclip::recipe::Recipe;
use roclip::run::{Caller, Start, Summary, can_share, continued_by, follow, machine};
use roclip::world::{Launch, World};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

#[derive(Args)]
pub struct RunFlags {
    /// Folder of the run: run.toml, metrics.jsonl, checkpoints/, summary.json
    #[arg(long = "run", value_name = "FOLDER", value_parser = folder())]
    pub folder: PathBuf,
    /// Go on from the newest checkpoint in the folder, with the recipe saved there.
    /// Keys that change nothing of what is learned (threads, workers, device, how often to save) and more --epochs may be given, too
    #[arg(long)]
    pub resume: bool,
    /// Go on from this checkpoint of the folder instead of the newest, as where that one is damaged; newer ones are kept aside as
    /// checkpoints/newer_step_N. Where a launcher starts the processes again, the run goes on from the newest
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

/// The error for a folder that `what` is said of where a command of another kind is to go on: the command that does.
pub fn not_this_kind(folder: &Path, what: &str) -> AnyError {
    match continued_by(folder) {
        Some(command) => anyhow!("`{}` {what}; `{command} --resume` continues it", folder.display()),
        None => anyhow!("`{}` {what}", folder.display()),
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
    train_with(recipe, run, start, &mut say)
}

/// [`train`] with `lines` that receives what is said.
pub fn train_with(recipe: &Recipe, run: &Path, start: Start, lines: &mut dyn FnMut(&str)) -> Result<Summary> {
    leave_if_stopped(roclip::run::train(recipe, run, start, &caller(&World::alone()), lines))
}

/// [`train`] together with the other processes that a launcher has started. One beside the first does not return but where it fails.
pub fn train_together(recipe: &Recipe, run: &Path, start: Start) -> Result<Summary> {
    let restarts = Launch::restarts()?;
    let Some(launch) = Launch::from_environment()? else { return train(recipe, run, again(start, restarts, run)) };
    recipe.check()?;
    can_share(recipe, launch.size)?;
    if launch.rank == 0 {
        say(&format!(
            "waiting for the other {} of {} processes at {}:{}",
            launch.size - 1,
            launch.size,
            launch.host,
            launch.port
        ));
    }
    let timeout = Duration::from_secs(recipe.train.collective_timeout_seconds);
    let world = World::join(&launch, timeout, machine(recipe)?, invocation::join_in_python())?;
    if !world.is_first() {
        leave_if_stopped(follow(recipe, run, &caller(&world)))?;
        drop(world);
        exit(0)
    }
    let start = again(start, restarts, run);
    leave_if_stopped(roclip::run::train(recipe, run, start, &caller(&world), &mut say))
}

/// [`started_again`] in the folder `run`, which is said.
fn again(start: Start, restarts: u64, run: &Path) -> Start {
    let again = started_again(start, restarts, run.join("run.toml").is_file());
    if again != start {
        say("started again by the launcher: the run goes on from its newest checkpoint");
    }
    again
}

/// How a run goes on whose command says `start` where a launcher has started all processes so many times again, with the command that they
/// had: what was done since the first time is kept. `begun` says whether the folder holds a run.
fn started_again(start: Start, restarts: u64, begun: bool) -> Start {
    match start {
        Start::New | Start::ResumeFrom(_) if restarts > 0 && begun => Start::Resume,
        other => other,
    }
}

fn caller(world: &World) -> Caller<'_> {
    Caller { stop: signals::stop(), world, commit: COMMIT, command: invocation::typed() }
}

/// What `outcome` gives. A run that a signal has stopped says how it goes on, and ends the process.
pub fn leave_if_stopped<T>(outcome: roclip::error::Result<T>) -> Result<T> {
    match outcome {
        Err(Error::Stopped { run, step }) => {
            say(&signals::stopped(&run, step));
            end_programs();
            exit(signals::exit_code())
        }
        // The others got the signal, too, and were faster.
        Err(Error::Lost { .. }) if signals::stop().wanted() => exit(signals::exit_code()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_s_restart_goes_on_from_the_newest_checkpoint_whatever_the_command_said() {
        for start in [Start::New, Start::Resume, Start::ResumeFrom(4)] {
            assert_eq!(started_again(start, 0, true), start, "the first time the command is followed");
            assert_eq!(started_again(start, 1, true), Start::Resume);
            assert_eq!(started_again(start, 1, false), start, "nothing was begun");
        }
    }
}
