//! `roclip prompt repair`

use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::of_key;
use crate::commands::prompt::{DeliveredFlags, HOLDS, run_prompts, show};
use crate::commands::run_flags::{RunFlags, not_this_kind};
use anyhow::{Result, bail};
use clap::Args;
use roclip::prompt::RepairConfig;
use roclip::recipe::{Recipe, flag_help};
use roclip::run::Start;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// The learner: a run of learned prompts, or one of its checkpoints; a resumed run and the recipe of a repair know it
    #[arg(value_name = "LEARNER", required_unless_present_any = ["resume", "resume_from", "config"])]
    learner: Option<PathBuf>,
    /// Tune against the trigger inverted for this class, instead of the one with the largest score
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    #[arg(help = flag_help("prompt.epochs"))]
    #[arg(long, value_parser = of_key::<u64>("prompt.epochs"))]
    epochs: Option<u64>,
    #[command(flatten)]
    delivered: DeliveredFlags,
    #[command(flatten)]
    run: RunFlags,
}

impl Arguments {
    /// The recipe that a repair began with, and what the flags say; the run refuses what does not go with it.
    fn go_on(&self, began: Recipe) -> Result<Recipe> {
        let Some((model, repair)) =
            began.prompt.as_ref().and_then(|prompt| Some((prompt.model.clone(), prompt.repair.clone()?)))
        else {
            return Err(not_this_kind(&self.run.folder, "is no repair"));
        };
        let given = &self.delivered;
        let mut base = match &given.recipe.config {
            Some(path) => Recipe::read(path)?,
            None => began,
        };
        let prompt = base.prompt.get_or_insert_default();
        prompt.model = given.on_model.clone().unwrap_or(model);
        prompt.repair = Some(RepairConfig {
            learner: self.learner.clone().unwrap_or(repair.learner),
            class: self.class.clone().or(repair.class),
        });
        prompt.epochs = self.epochs.unwrap_or(prompt.epochs);
        given.recipe.without_file().resolve(base, &[&given.data, &given.machine])
    }

    /// The recipe of a repair in a file, which names its learner.
    fn again(&self) -> Result<Recipe> {
        let given = &self.delivered;
        let mut recipe = given.recipe.resolve(Recipe::default(), &[&given.data, &given.machine])?;
        let Some((prompt, repair)) =
            recipe.prompt.as_mut().and_then(|prompt| prompt.repair.clone().map(|repair| (prompt, repair)))
        else {
            bail!(
                "the recipe of --config names no learner to repair (prompt.repair.learner); name it: roclip prompt repair LEARNER"
            );
        };
        prompt.repair = Some(RepairConfig { class: self.class.clone().or(repair.class), ..repair });
        prompt.epochs = self.epochs.unwrap_or(prompt.epochs);
        Ok(recipe)
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.run.folder.join("run.toml");
    let resumes = arguments.run.start() != Start::New && saved.is_file();
    let recipe = match &arguments.learner {
        Some(learner) if !resumes => {
            let mut recipe = arguments.delivered.recipe(learner)?;
            if let Some(prompt) = &mut recipe.prompt {
                prompt.repair = Some(RepairConfig { learner: learner.clone(), class: arguments.class.clone() });
                prompt.epochs = arguments.epochs.unwrap_or(prompt.epochs);
            }
            recipe
        }
        _ if resumes => arguments.go_on(Recipe::read(&saved)?)?,
        None if arguments.delivered.recipe.config.is_some() => arguments.again()?,
        _ => return Err(not_this_kind(&arguments.run.folder, "holds no repair to resume")),
    };
    let summary = run_prompts(&recipe, arguments.delivered.described.description(), &arguments.run)?;
    show(&summary, &arguments.run)?;
    let run = shell_word(&arguments.run.folder);
    say_next(&arguments.run.folder, HOLDS, &[format!("roclip prompt detect {run}"), format!("roclip report {run}")]);
    Ok(())
}
