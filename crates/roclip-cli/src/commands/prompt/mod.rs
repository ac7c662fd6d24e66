//! `roclip prompt`: learned prompts for a frozen model, cleanly or as an attacker does it, and what looks for the attack.

mod detect;
mod eval;
mod repair;
mod train;

use crate::commands::described_model::DescribedModel;
use crate::commands::invocation;
use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags};
use crate::commands::progress::say;
use crate::commands::prompt_lines::{print_measures, print_repair};
use crate::commands::run_flags::{COMMIT, RunFlags, leave_if_stopped};
use crate::commands::signals;
use anyhow::Result;
use clap::{Args, Subcommand};
use roclip::checkpoint::{Description, run_of};
use roclip::prompt::{PromptConfig, read_learner};
use roclip::recipe::Recipe;
use roclip::run::{Caller, Summary, train_prompts};
use roclip::world::World;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Command {
    /// Learn prompts for a frozen model from a few labelled pictures, cleanly or with a trigger, and measure them
    Train(Box<train::Arguments>),
    /// Measure learned prompts again, on other data or under another learner's trigger
    Eval(eval::Arguments),
    /// Say whether delivered prompts hide a trigger; of several learners, how well that is told (AUROC)
    Detect(detect::Arguments),
    /// Tune delivered prompts against the trigger that inversion finds in them, and measure them before and after
    Repair(Box<repair::Arguments>),
}

/// What a command that looks at a delivered learner needs, where its run does not say it.
#[derive(Args, Clone, Default)]
struct DeliveredFlags {
    /// The model that the prompts were learned on, where it lies elsewhere now or the learner is a file alone
    #[arg(long, value_name = "MODEL")]
    on_model: Option<PathBuf>,
    #[command(flatten)]
    described: DescribedModel,
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    machine: MachineFlags,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(arguments) => train::run(*arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Detect(arguments) => detect::run(arguments),
        Command::Repair(arguments) => repair::run(*arguments),
    }
}

/// What a finished run's folder holds.
const HOLDS: &str = "checkpoints/ (learner.safetensors), summary.json, metrics.jsonl, log.jsonl";

fn run_prompts(recipe: &Recipe, description: Description, flags: &RunFlags) -> Result<Summary> {
    let caller = Caller { stop: signals::stop(), world: &World::alone(), commit: COMMIT, command: invocation::typed() };
    leave_if_stopped(train_prompts(recipe, description, &flags.folder, flags.start(), &caller, &mut say))
}

fn show(summary: &Summary, flags: &RunFlags) -> Result<()> {
    if flags.json {
        println!("{}", serde_json::to_string_pretty(summary)?);
        return Ok(());
    }
    match (&summary.prompt_before, &summary.prompt) {
        (Some(before), Some(after)) => print_repair(before, after),
        (_, Some(measures)) => print_measures(measures),
        (_, None) => {}
    }
    Ok(())
}

impl DeliveredFlags {
    /// The recipe of the learner's run, with the flags; of a file alone, the defaults.
    fn recipe(&self, learner: &Path) -> Result<Recipe> {
        let stored = read_learner(learner)?;
        let run = stored.path.parent().and_then(run_of);
        let mut base = match (&self.recipe.config, &run) {
            (Some(path), _) => Recipe::read(path)?,
            (None, Some(run)) => Recipe::read(&run.join("run.toml"))?,
            (None, None) => Recipe::default(),
        };
        let flags = self.recipe.without_file();
        let prompt = base.prompt.get_or_insert_with(|| PromptConfig {
            context: stored.about.context.clone(),
            ending: stored.about.ending.clone(),
            ..PromptConfig::default()
        });
        prompt.model = self.on_model.clone().unwrap_or_else(|| match prompt.model.as_os_str().is_empty() {
            true => stored.about.model.clone(),
            false => prompt.model.clone(),
        });
        flags.resolve(base, &[&self.data, &self.machine])
    }
}
