//! What both kinds of `roclip detect` take.

use crate::commands::described_model::DescribedModel;
use crate::commands::detect_train::PairFlags;
use crate::commands::overrides::{MachineFlags, Overrides};
use crate::commands::progress::say;
use anyhow::{Result, bail};
use clap::Args;
use roclip::checkpoint;
use roclip::recipe::Recipe;
use roclip_data::plural::count;
use roclip_data::skip::SkipReport;
use std::path::Path;

#[derive(Args)]
pub struct Common {
    #[command(flatten)]
    pub described: DescribedModel,
    #[command(flatten)]
    pub pairs: PairFlags,
    #[command(flatten)]
    machine: MachineFlags,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// The recipe of the run that the model belongs to, or the one given, with the flags.
    pub fn recipe(&self, model: Option<&Path>, run: Option<&Path>, command: &str) -> Result<Recipe> {
        const OBEYED: [&str; 7] = ["seed", "manifest", "data", "eval", "poison", "train.threads", "train.device"];
        let PairFlags { recipe: typed, data, manifest, seed } = &self.pairs;
        typed.check_keys(command, &OBEYED)?;
        // What is no model at all is said first.
        if let Some(model) = model {
            checkpoint::is_checkpoint(model)?;
        }
        let base = match run {
            Some(run) => {
                let kept = run.join("manifest.jsonl");
                let mut base = Recipe::of_run(run)?;
                base.manifest = Some(kept).filter(|kept| kept.is_file()).or(base.manifest);
                if data.names_training_data() {
                    // Other data knows nothing of the run's poison.
                    base.manifest = None;
                    base.poison = Default::default();
                    base.data.source.split = None;
                }
                base
            }
            None if typed.config.is_some() || data.names_data() => Recipe::default(),
            None => bail!(
                "{}say what to look at with --train-data (pairs), --val-data (labelled images), or --config (a recipe with its data)",
                model.map(|model| format!("`{}` belongs to no run; ", model.display())).unwrap_or_default()
            ),
        };
        let groups: [&dyn Overrides; 4] = [seed, data, manifest, &self.machine];
        let mut recipe = typed.resolve(base, &groups)?;
        if recipe.clean.take().is_some() {
            say("the run cleaned a model; the pairs are those that it cleaned with");
        }
        Ok(recipe)
    }
}

/// Says what the source of what is looked at, or of what is trusted, could not use.
pub fn say_left_out(of: &str, skips: &SkipReport) {
    if skips.total() > 0 {
        say(&format!("{of}left out: {}", skips.summary()));
    }
}

/// Warns where `both` trusted pictures are looked at, too.
pub fn say_also_looked_at(both: usize) {
    if both > 0 {
        say(&format!(
            "warning: {} of --trusted-data are among those that are looked at, too: what is trusted is not found",
            count(both, "picture")
        ));
    }
}
