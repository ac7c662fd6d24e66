//! Flags that override a recipe, in open_clip's words, in groups: a command takes the groups that it obeys and no others.

use anyhow::{Result, bail};
use clap::Args;
use roclip::recipe::{ObjectiveName, Recipe};
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
    /// One seed for everything
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Overrides for SeedFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.seed, &self.seed);
        Ok(())
    }
}

/// What is read.
#[derive(Args, Clone, Default)]
pub struct DataFlags {
    /// Training pairs: `emoji`, WebDataset shards (a folder, *.tar, brace range), or *.csv / *.tsv; join several with ::
    #[arg(long, value_name = "PATH")]
    train_data: Option<String>,
    /// Column of image paths (a name, or a number from 1 without a header)
    #[arg(long, value_name = "COLUMN")]
    csv_img_key: Option<String>,
    /// Column of captions
    #[arg(long, value_name = "COLUMN")]
    csv_caption_key: Option<String>,
    /// Folder that image paths in a CSV start from; for evaluation data too
    #[arg(long, value_name = "FOLDER")]
    image_root: Option<PathBuf>,
    /// Labelled evaluation images, in the same formats
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
}

impl DataFlags {
    /// Whether the pairs are named, whatever a recipe says.
    pub fn names_training_data(&self) -> bool {
        self.train_data.is_some()
    }

    /// Whether the labelled images are named, whatever a recipe says.
    pub fn names_evaluation_data(&self) -> bool {
        self.val_data.is_some()
    }
}

impl Overrides for DataFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if self.train_data.is_some() {
            // The split and columns of the recipe belong to the recipe's data.
            recipe.data.source = SourceConfig::default();
        }
        set(&mut recipe.data.source.path, &self.train_data);
        if self.val_data.is_some() {
            recipe.eval.source = SourceConfig::default();
            recipe.eval.class_captions = None;
        }
        set(&mut recipe.eval.source.path, &self.val_data);
        for source in [&mut recipe.data.source, &mut recipe.eval.source] {
            source.image_root = self.image_root.clone().or(source.image_root.take());
            source.image_column = self.csv_img_key.clone().or(source.image_column.take());
            source.caption_column = self.csv_caption_key.clone().or(source.caption_column.take());
        }
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct ManifestFlag {
    /// Poison manifest to use, instead of one drawn from the recipe
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
    /// Model: RN50, RN101, RN50x4, ViT-B-32, ViT-B-16, ViT-L-14, RN-small-32, ViT-tiny-32, or a JSON file in open_clip's format
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
    /// Pairs an optimizer step
    #[arg(long)]
    batch_size: Option<usize>,
}

impl Overrides for BatchFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.train.batch_size, &self.batch_size);
        Ok(())
    }
}

/// How a model is trained.
#[derive(Args, Clone, Default)]
pub struct TrainingFlags {
    /// clip, roclip or safeclip
    #[arg(long, value_parser = ObjectiveName::ALL.map(|known| known.word))]
    objective: Option<String>,
    #[arg(long)]
    epochs: Option<u64>,
    #[command(flatten)]
    batch: BatchFlag,
    /// Peak learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Weight decay
    #[arg(long)]
    wd: Option<f64>,
    /// Warm-up steps
    #[arg(long)]
    warmup: Option<u64>,
    /// Matching period K of RoCLIP
    #[arg(long)]
    match_period: Option<u64>,
    /// First matching epoch of RoCLIP (default: K)
    #[arg(long)]
    match_start: Option<u64>,
    /// Captions in RoCLIP's pool
    #[arg(long)]
    pool_size: Option<usize>,
}

impl Overrides for TrainingFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.objective.name, &self.objective.as_deref().and_then(ObjectiveName::named));
        self.batch.apply(recipe)?;
        let (train, roclip) = (&mut recipe.train, &mut recipe.objective.roclip);
        set(&mut train.epochs, &self.epochs);
        set(&mut train.learning_rate, &self.lr);
        set(&mut train.weight_decay, &self.wd);
        set(&mut train.warmup_steps, &self.warmup);
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
    /// Threads that read and decode pictures; any number gives the same result
    #[arg(long)]
    workers: Option<usize>,
    /// libtorch's threads; 0 = its own choice
    #[arg(long)]
    pub threads: Option<i32>,
    /// cpu, cuda or cuda:N
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

/// Every group, for the commands that train.
#[derive(Args, Clone, Default)]
pub struct RecipeFlags {
    #[command(flatten)]
    pub base: BaseFlags,
    /// Set what a preset fixes: clip, roclip, safeclip, and roclip-released or safeclip-released (the released code, faults included)
    #[arg(long)]
    preset: Option<String>,
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
    pub machine: MachineFlags,
}

impl RecipeFlags {
    /// The recipe file (`base` when none is given), then the preset, then the flags, then `--set`.
    pub fn resolve(&self, base: Recipe) -> Result<Recipe> {
        self.base.resolve(
            base,
            &[
                &Preset(self.preset.as_deref()),
                &self.seed,
                &self.data,
                &self.model,
                &self.training,
                &self.manifest,
                &self.machine,
            ],
        )
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
