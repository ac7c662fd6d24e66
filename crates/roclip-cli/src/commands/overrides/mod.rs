//! Flags that override a recipe, in open_clip's words, in groups: a command takes the groups that it obeys and no others.

mod data;
mod training;

use crate::commands::numbers::of_key;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::recipe::{Recipe, flag_help};
use roclip_data::artifact;
use roclip_data::escape::for_shell;
use std::path::PathBuf;

pub use data::{DataFlags, ListFlags, ManifestFlag, SourceFlags};
pub use training::{BatchFlag, ComputeFlags, MachineFlags, ModelFlags, ObjectiveFlags, TrainingFlags};

/// A group of flags that changes a recipe.
pub trait Overrides {
    fn apply(&self, recipe: &mut Recipe) -> Result<()>;
}

/// The recipe itself.
#[derive(Args, Clone, Default)]
pub struct BaseFlags {
    /// Recipe to start from (TOML); `roclip recipe` prints one with every key
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any key of the recipe, as in train.beta2=0.95 or clean.abd.patch_area=0.1; no value takes the key out, as in augment.text=.
    /// After all other flags; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Flags with their values, as a shell reads them.
pub fn typed(flags: impl IntoIterator<Item = (&'static str, String)>) -> String {
    flags.into_iter().map(|(flag, value)| format!("{flag} {}", for_shell(&value))).collect::<Vec<_>>().join(" ")
}

impl BaseFlags {
    /// The recipe file (`base` when none is given), then `groups` in their order, then `--set`.
    pub fn resolve(&self, base: Recipe, groups: &[&dyn Overrides]) -> Result<Recipe> {
        let mut recipe = match &self.config {
            Some(path) => Recipe::read(path)?,
            None => base,
        };
        for group in groups {
            group.apply(&mut recipe)?;
        }
        for assignment in &self.set {
            recipe = recipe.assign(assignment)?;
        }
        recipe.check_data_numbers()?;
        Ok(recipe)
    }

    /// The same flags where the file has been read already.
    pub fn without_file(&self) -> BaseFlags {
        BaseFlags { config: None, set: self.set.clone() }
    }

    /// The flags as they were given, each with its value.
    pub fn again(&self) -> Vec<(&'static str, String)> {
        let config = self.config.iter().map(|path| ("--config", path.display().to_string()));
        config.chain(self.set.iter().map(|assignment| ("--set", assignment.clone()))).collect()
    }

    /// Whether a recipe file or `--set` may say what is read.
    pub fn names_data(&self) -> bool {
        self.config.is_some() || self.set.iter().any(|assignment| assignment.trim_start().starts_with("data"))
    }

    /// Whether a recipe file or `--set` says which pairs are read, and not only how or which of them.
    pub fn names_pairs(&self) -> bool {
        self.config.is_some() || ["data", "data.source", "data.source.path"].iter().any(|key| self.sets(key))
    }

    /// Whether `--set` gives this key.
    pub fn sets(&self, key: &str) -> bool {
        self.set.iter().any(|assignment| assignment.split('=').next().is_some_and(|named| named.trim() == key))
    }

    /// Whether the recipe file has this key, written as `section.key`: what it leaves out has a default.
    pub fn file_has(&self, key: &str) -> Result<bool> {
        let Some(path) = &self.config else { return Ok(false) };
        let text = artifact::read_text(path)?;
        let table = text.parse::<toml::Table>().with_context(|| format!("--config `{}`", path.display()))?;
        let mut keys = key.split('.');
        let first = keys.next().and_then(|key| table.get(key));
        Ok(keys.try_fold(first, |found, key| Some(found?.get(key))).flatten().is_some())
    }

    /// Whether `--set` gives a key of this section.
    pub fn sets_in(&self, section: &str) -> bool {
        let key = |assignment: &String| {
            assignment.trim_start().strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
        };
        self.set.iter().any(key)
    }

    /// An error where `--set` names a key that the command does not obey: one that is none of `keys` and stands in no section of them.
    pub fn check_keys(&self, command: &str, keys: &[&str]) -> Result<()> {
        let obeyed = |key: &str| keys.iter().any(|known| key == *known || key.starts_with(&format!("{known}.")));
        for assignment in &self.set {
            let key = assignment.split('=').next().unwrap_or_default().trim();
            if !obeyed(key) {
                bail!("--set {assignment}: `roclip {command}` does not use `{key}`; it uses {}", keys.join(", "));
            }
        }
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct SeedFlag {
    #[arg(help = flag_help("seed"))]
    #[arg(long, value_parser = of_key::<u64>("seed"))]
    pub seed: Option<u64>,
}

impl Overrides for SeedFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.seed, &self.seed);
        Ok(())
    }
}

/// Every group but the seed, for the commands that train.
#[derive(Args, Clone, Default)]
pub struct PlanFlags {
    #[command(flatten)]
    pub base: BaseFlags,
    /// Set objective and augmentation together: clip (CLIP without augmentation, the control), roclip (RoCLIP with augmentation), safeclip,
    /// and roclip-released or safeclip-released (the released code, faults included). `--objective` changes the objective alone:
    /// `--objective clip` is the control with augmentation
    #[arg(long)]
    preset: Option<String>,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    objective: ObjectiveFlags,
    #[command(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    compute: ComputeFlags,
    #[command(flatten)]
    manifest: ManifestFlag,
    #[command(flatten)]
    pub machine: MachineFlags,
}

impl PlanFlags {
    /// The recipe file (`base` when none is given), then `first`, then the preset, then the flags, then `--set`.
    pub fn resolve(&self, base: Recipe, first: &dyn Overrides) -> Result<Recipe> {
        let preset = Preset(self.preset.as_deref());
        let Self { data, model, objective, training, compute, manifest, machine, .. } = self;
        self.base.resolve(base, &[first, &preset, data, model, objective, training, compute, manifest, machine])
    }
}

/// Every group.
#[derive(Args, Clone, Default)]
pub struct RecipeFlags {
    #[command(flatten)]
    plan: PlanFlags,
    #[command(flatten)]
    seed: SeedFlag,
}

impl RecipeFlags {
    /// Whether any flag or file says what is trained on.
    pub fn names_data(&self) -> bool {
        self.plan.base.names_data() || self.plan.data.names_training_data()
    }

    /// The recipe file (`base` when none is given), then the preset, then the flags, then `--set`.
    pub fn resolve(&self, base: Recipe) -> Result<Recipe> {
        self.plan.resolve(base, &self.seed)
    }
}

/// The groups that cleaning obeys: its objective is its method.
#[derive(Args, Clone, Default)]
pub struct CleaningFlags {
    #[command(flatten)]
    pub base: BaseFlags,
    #[command(flatten)]
    pub seed: SeedFlag,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    manifest: ManifestFlag,
    #[command(flatten)]
    machine: MachineFlags,
}

impl CleaningFlags {
    /// The recipe file (`base` when none is given), then the flags, then `--set`.
    pub fn resolve(&self, base: Recipe) -> Result<Recipe> {
        let Self { seed, data, model, training, manifest, machine, .. } = self;
        self.base.resolve(base, &[seed, data, model, training, manifest, machine])
    }
}

struct Preset<'a>(Option<&'a str>);

impl Overrides for Preset<'_> {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        Ok(self.0.map_or(Ok(()), |name| recipe.apply_preset(name))?)
    }
}

fn set<T: Clone>(to: &mut T, from: &Option<T>) {
    if let Some(value) = from {
        to.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_recipe_file_are_known_and_one_that_is_no_toml_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let has = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            let flags = BaseFlags { config: Some(file.path().to_owned()), set: Vec::new() };
            flags.file_has("train.epochs").map_err(|error| format!("{error:#}"))
        };
        assert_eq!((has("[train]\nepochs = 2\n"), has("[train]\n")), (Ok(true), Ok(false)));
        let said = has("[train").unwrap_err();
        assert!(said.contains("--config") && said.contains(&file.path().display().to_string()), "{said}");
    }
}
