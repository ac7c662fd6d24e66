//! Flags that override a recipe, in open_clip's words, in groups: a command takes the groups that it obeys and no others.

use anyhow::{Result, anyhow, bail};
use clap::Args;
use roclip::eval::NO_IMAGES;
use roclip::recipe::{ObjectiveName, Recipe, flag_help, required_flag_help};
use roclip_data::source::SourceConfig;
use std::path::PathBuf;

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

    /// Whether `--set` gives this key.
    pub fn sets(&self, key: &str) -> bool {
        self.set.iter().any(|assignment| assignment.split('=').next().is_some_and(|named| named.trim() == key))
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
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Overrides for SeedFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.seed, &self.seed);
        Ok(())
    }
}

/// Which pairs are read.
#[derive(Args, Clone, Default)]
pub struct SourceFlags {
    #[arg(help = required_flag_help("data.source.path"))]
    #[arg(long, value_name = "PATH")]
    train_data: Option<String>,
    #[arg(help = flag_help("data.source.image_column"))]
    #[arg(long, value_name = "COLUMN")]
    csv_img_key: Option<String>,
    #[arg(help = flag_help("data.source.caption_column"))]
    #[arg(long, value_name = "COLUMN")]
    csv_caption_key: Option<String>,
    #[arg(help = flag_help("data.source.image_root"))]
    #[arg(long, value_name = "FOLDER")]
    image_root: Option<PathBuf>,
    #[arg(help = flag_help("data.source.csv_separator"))]
    #[arg(long, value_name = "CHARACTER", allow_hyphen_values = true)]
    csv_separator: Option<String>,
    #[arg(help = flag_help("data.source.csv_encoding"))]
    #[arg(long, value_name = "NAME")]
    csv_encoding: Option<String>,
}

impl SourceFlags {
    /// Whether the pairs are named, whatever a recipe says.
    pub fn names_data(&self) -> bool {
        self.train_data.is_some()
    }

    /// The pairs as they are named, whatever a recipe says.
    pub fn path(&self) -> Option<&str> {
        self.train_data.as_deref()
    }

    /// The flags as they were given, each with its value.
    pub fn again(&self) -> Vec<(&'static str, String)> {
        let root = self.image_root.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("--train-data", self.train_data.clone()),
            ("--csv-img-key", self.csv_img_key.clone()),
            ("--csv-caption-key", self.csv_caption_key.clone()),
            ("--image-root", root),
            ("--csv-separator", self.csv_separator.clone()),
            ("--csv-encoding", self.csv_encoding.clone()),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
    }

    /// Says of a source how its lists are read.
    pub fn describe(&self, source: &mut SourceConfig) {
        source.image_root = self.image_root.clone().or(source.image_root.take());
        source.image_column = self.csv_img_key.clone().or(source.image_column.take());
        source.caption_column = self.csv_caption_key.clone().or(source.caption_column.take());
        source.csv_separator = self.csv_separator.clone().or(source.csv_separator.take());
        source.csv_encoding = self.csv_encoding.clone().or(source.csv_encoding.take());
    }
}

impl Overrides for SourceFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if self.train_data.is_some() {
            // The split and columns of the recipe belong to the recipe's data, as do what is left out of it and its weights.
            recipe.data.source = SourceConfig::default();
            recipe.data.drop = None;
            recipe.data.weights = None;
        }
        set(&mut recipe.data.source.path, &self.train_data);
        self.describe(&mut recipe.data.source);
        Ok(())
    }
}

/// What is read.
#[derive(Args, Clone, Default)]
pub struct DataFlags {
    #[command(flatten)]
    source: SourceFlags,
    #[arg(help = flag_help("data.weights"))]
    #[arg(long, value_name = "WEIGHT::WEIGHT")]
    train_data_upsampling_factors: Option<String>,
    #[arg(help = flag_help("data.drop"))]
    #[arg(long, value_name = "FILE")]
    drop: Option<PathBuf>,
    #[arg(help = flag_help("data.index"))]
    #[arg(long, value_name = "WHEN|FILE")]
    index: Option<String>,
    #[arg(help = flag_help("eval.source.path"))]
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
}

impl DataFlags {
    /// Whether the pairs are named, whatever a recipe says.
    pub fn names_training_data(&self) -> bool {
        self.source.names_data()
    }

    /// Whether pairs or labelled images are named.
    pub fn names_data(&self) -> bool {
        self.names_training_data() || self.names_evaluation_data()
    }

    /// Whether the labelled images are named, whatever a recipe says.
    pub fn names_evaluation_data(&self) -> bool {
        self.val_data.is_some()
    }
}

impl Overrides for DataFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        self.source.apply(recipe)?;
        if let Some(text) = &self.train_data_upsampling_factors {
            let weights = text.split("::").map(|weight| weight.trim().parse::<f64>());
            let weights = weights.collect::<Result<Vec<f64>, _>>();
            recipe.data.weights = Some(weights.map_err(|_| {
                anyhow!("--train-data-upsampling-factors `{text}`: give a number for each part of --train-data, as in 1::2.5")
            })?);
        }
        recipe.data.drop = self.drop.clone().or(recipe.data.drop.take());
        set(&mut recipe.data.index, &self.index);
        if self.val_data.is_some() {
            recipe.eval.source = SourceConfig::default();
            recipe.eval.class_captions = None;
            if self.val_data.as_deref() == Some(NO_IMAGES) {
                // A probe has nothing to be measured on.
                recipe.eval.probe = None;
            }
        }
        set(&mut recipe.eval.source.path, &self.val_data);
        self.source.describe(&mut recipe.eval.source);
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct ManifestFlag {
    #[arg(help = flag_help("manifest"))]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

impl Overrides for ManifestFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        recipe.manifest = self.manifest.clone().or(recipe.manifest.take());
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct ModelFlags {
    #[arg(help = flag_help("model.name"))]
    #[arg(long)]
    model: Option<String>,
}

impl ModelFlags {
    pub fn name(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl Overrides for ModelFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.model.name, &self.model);
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct BatchFlag {
    #[arg(help = flag_help("train.batch_size"))]
    #[arg(long)]
    batch_size: Option<usize>,
}

impl Overrides for BatchFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.train.batch_size, &self.batch_size);
        Ok(())
    }
}

/// A warm-up as a flag says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Warmup {
    Steps(u64),
    /// Of all steps.
    Share(f64),
}

/// `100` is steps; `0.1` and `10%` are a share of all steps.
fn warmup(text: &str) -> Result<Warmup, String> {
    if let Ok(steps) = text.parse() {
        return Ok(Warmup::Steps(steps));
    }
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let share = share.ok().filter(|share| (0.0..1.0).contains(share));
    share.map(Warmup::Share).ok_or_else(|| "give steps, as in 100, or a share of all steps, as in 0.1 or 10%".into())
}

fn warmup_help() -> String {
    let steps = flag_help("train.warmup_steps");
    let about = steps.split(';').next().unwrap_or_default();
    format!(
        "{about}; or a share of all steps, as in 0.1 or 10% [recipe keys: train.warmup_steps and train.warmup_fraction, default 10%]"
    )
}

/// How a model is trained.
#[derive(Args, Clone, Default)]
pub struct TrainingFlags {
    #[arg(help = flag_help("train.epochs"))]
    #[arg(long)]
    epochs: Option<u64>,
    #[command(flatten)]
    batch: BatchFlag,
    #[arg(help = flag_help("train.learning_rate"))]
    #[arg(long)]
    lr: Option<f64>,
    #[arg(help = flag_help("train.weight_decay"))]
    #[arg(long)]
    wd: Option<f64>,
    #[arg(help = warmup_help(), value_name = "STEPS|SHARE", value_parser = warmup)]
    #[arg(long)]
    warmup: Option<Warmup>,
}

/// What a model learns from its pairs; a cleaning method has its own.
#[derive(Args, Clone, Default)]
pub struct ObjectiveFlags {
    #[arg(help = flag_help("objective.name"))]
    #[arg(long, value_parser = ObjectiveName::ALL.map(|known| known.word))]
    objective: Option<String>,
    #[arg(help = flag_help("objective.roclip.period"))]
    #[arg(long)]
    match_period: Option<u64>,
    #[arg(help = flag_help("objective.roclip.match_start"))]
    #[arg(long)]
    match_start: Option<u64>,
    #[arg(help = flag_help("objective.roclip.pool_size"))]
    #[arg(long)]
    pool_size: Option<usize>,
}

impl Overrides for TrainingFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        self.batch.apply(recipe)?;
        let train = &mut recipe.train;
        set(&mut train.epochs, &self.epochs);
        set(&mut train.learning_rate, &self.lr);
        set(&mut train.weight_decay, &self.wd);
        if let Some(warmup) = self.warmup {
            (train.warmup_steps, train.warmup_fraction) = match warmup {
                Warmup::Steps(steps) => (Some(steps), None),
                Warmup::Share(share) => (None, Some(share)),
            };
        }
        Ok(())
    }
}

impl Overrides for ObjectiveFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.objective.name, &self.objective.as_deref().and_then(ObjectiveName::named));
        let roclip = &mut recipe.objective.roclip;
        set(&mut roclip.period, &self.match_period);
        roclip.match_start = self.match_start.or(roclip.match_start);
        if self.pool_size.is_some() {
            roclip.pool_fraction = None;
        }
        roclip.pool_size = self.pool_size.or(roclip.pool_size);
        Ok(())
    }
}

/// What the work is done with.
#[derive(Args, Clone, Default)]
pub struct MachineFlags {
    #[arg(help = flag_help("data.workers"))]
    #[arg(long)]
    workers: Option<usize>,
    #[arg(help = flag_help("train.threads"))]
    #[arg(long)]
    pub threads: Option<i32>,
    #[arg(help = flag_help("train.device"))]
    #[arg(long)]
    device: Option<String>,
}

impl Overrides for MachineFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.data.workers, &self.workers);
        set(&mut recipe.train.threads, &self.threads);
        set(&mut recipe.train.device, &self.device);
        Ok(())
    }
}

/// Every group but the seed, for the commands that train.
#[derive(Args, Clone, Default)]
pub struct PlanFlags {
    #[command(flatten)]
    pub base: BaseFlags,
    /// Set objective and augmentation together: clip (CLIP without augmentation, the control), roclip (RoCLIP with augmentation), safeclip,
    /// and roclip-released or safeclip-released (the released code, faults included). `--objective` changes the objective alone
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
    manifest: ManifestFlag,
    #[command(flatten)]
    pub machine: MachineFlags,
}

impl PlanFlags {
    /// The recipe file (`base` when none is given), then the preset, then the flags, then `--set`.
    pub fn resolve(&self, base: Recipe) -> Result<Recipe> {
        self.with(base, &SeedFlag::default())
    }

    fn with(&self, base: Recipe, seed: &SeedFlag) -> Result<Recipe> {
        let preset = Preset(self.preset.as_deref());
        let Self { data, model, objective, training, manifest, machine, .. } = self;
        self.base.resolve(base, &[&preset, seed, data, model, objective, training, manifest, machine])
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
        self.plan.with(base, &self.seed)
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
    fn a_warm_up_is_steps_or_a_share() {
        for (text, expected) in [
            ("100", Warmup::Steps(100)),
            ("0", Warmup::Steps(0)),
            ("0.1", Warmup::Share(0.1)),
            ("10%", Warmup::Share(0.1)),
            ("0.5 %", Warmup::Share(0.005)),
        ] {
            assert_eq!(warmup(text), Ok(expected), "{text}");
        }
        for text in ["1.5", "100%", "-1", "nan", "many", "%"] {
            assert!(warmup(text).is_err(), "{text}");
        }
    }
}
