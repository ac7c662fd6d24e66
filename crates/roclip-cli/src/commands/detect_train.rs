//! The command that trains on what `detect pairs` looked at, without what it found suspicious.

use crate::commands::next_steps::{beside, shell_word};
use crate::commands::overrides::{BaseFlags, DataFlags, ManifestFlag, SeedFlag, typed};
use clap::Args;
use roclip::recipe::Recipe;
use roclip_data::artifact::unused_name;
use std::path::Path;

/// What says which pairs are looked at.
#[derive(Args)]
pub struct PairFlags {
    #[command(flatten)]
    pub recipe: BaseFlags,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub manifest: ManifestFlag,
    #[command(flatten)]
    pub seed: SeedFlag,
}

impl PairFlags {
    /// Whether a flag says which pairs are looked at: those of a run are its own otherwise.
    pub fn names_pairs(&self) -> bool {
        self.data.names_training_data() || self.recipe.names_pairs()
    }

    /// The command that trains on the same pairs without those that `list` names, where `run` is that of the model: every flag that chose them stands in it, since ids are of
    /// one data. None where they are those that a run cleaned with or learned prompts beside, which it did not train on, and no flag names them.
    pub fn train_without(&self, run: Option<&Path>, list: &Path) -> Option<String> {
        let given: Vec<(&'static str, String)> = (self.recipe.again().into_iter())
            .chain(self.data.again())
            .chain(self.manifest.again())
            .chain(self.seed.seed.map(|seed| ("--seed", seed.to_string())))
            .collect();
        let mut flags = Vec::new();
        // A recipe file goes before that of the run.
        let own = run.filter(|_| self.recipe.config.is_none());
        let trained = own.and_then(|run| Some((run, Recipe::of_run(run).ok()?)));
        let trained = trained.filter(|(_, recipe)| recipe.clean.is_none() && recipe.prompt.is_none());
        if run.is_some() && trained.is_none() && !self.names_pairs() {
            return None;
        }
        if let Some((run, recipe)) = &trained {
            flags.push(("--config", run.join("run.toml").display().to_string()));
            let kept = run.join("manifest.jsonl");
            if self.data.names_training_data() {
                // Other data knows nothing of the run's poison.
                flags.push(("--set", "poison=".to_owned()));
                if recipe.manifest.is_some() && self.manifest.again().is_none() {
                    flags.push(("--set", "manifest=".to_owned()));
                }
            } else if !given.is_empty() && self.manifest.again().is_none() && kept.is_file() {
                // With other settings the recipe might draw other poison than was looked at.
                flags.push(("--manifest", kept.display().to_string()));
            }
        }
        flags.extend(given);
        if flags.is_empty() {
            return None;
        }
        // Behind a --set of its key or section --drop would say nothing.
        match self.recipe.sets("data.drop") || self.recipe.sets("data") {
            true => flags.push(("--set", format!("data.drop={}", list.display()))),
            false => flags.push(("--drop", list.display().to_string())),
        }
        let of_run = trained.filter(|_| !self.data.names_training_data());
        let without = |(run, _): (&Path, Recipe)| beside(run, "without");
        let run = of_run.map_or_else(|| unused_name(Path::new("runs/without"), ""), without);
        Some(format!("roclip train {} --run {}", typed(flags), shell_word(&run)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        pairs: PairFlags,
    }

    #[test]
    fn no_command_is_advised_that_would_train_on_other_pairs_than_were_looked_at() {
        let cleaned = tempfile::tempdir().unwrap();
        std::fs::write(cleaned.path().join("run.toml"), "[clean]\nvictim = 'v'\n").unwrap();
        let advised = |run: Option<&Path>, typed: &str| {
            Given::parse_from(typed.split(' ')).pairs.train_without(run, Path::new("s/drop.txt"))
        };
        let of_cleaned = |typed: &str| advised(Some(cleaned.path()), typed);
        for typed in ["detect", "detect --seed 1", "detect --set data.drop=ids.txt", "detect --val-data val.csv"] {
            assert_eq!(of_cleaned(typed), None, "{typed}");
        }
        for named in ["--train-data a.csv", "--config mine.toml", "--set data.source.path=a.csv"] {
            let said = of_cleaned(&format!("detect {named} --seed 1")).unwrap();
            assert!(said.starts_with("roclip train ") && said.contains(" --seed 1 "), "{said}");
        }
        // Of a model that belongs to no run the pairs are those of a recipe without keys, as those of the command are.
        assert!(advised(None, "detect --val-data val.csv").is_some());
    }
}
