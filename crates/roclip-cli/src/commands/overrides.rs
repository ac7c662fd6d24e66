//! Flags that override a recipe, in open_clip's words.

use anyhow::Result;
use clap::Args;
use roclip::recipe::{ObjectiveName, Recipe};
use std::path::PathBuf;

#[derive(Args, Clone, Default)]
pub struct RecipeFlags {
    /// Recipe to start from (TOML); `roclip recipe` prints one with every key
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set what a preset fixes: clip, roclip, safeclip, and roclip-released or safeclip-released (the released code, faults included)
    #[arg(long)]
    preset: Option<String>,
    /// One seed for everything
    #[arg(long)]
    pub seed: Option<u64>,
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
    /// Model: RN50, RN101, RN50x4, ViT-B-32, ViT-B-16, ViT-L-14, RN-small-32, ViT-tiny-32, or a JSON file in open_clip's format
    #[arg(long)]
    model: Option<String>,
    /// clip, roclip or safeclip
    #[arg(long, value_parser = ObjectiveName::ALL.map(|known| known.word))]
    objective: Option<String>,
    #[arg(long)]
    epochs: Option<u64>,
    /// Pairs an optimizer step
    #[arg(long)]
    batch_size: Option<usize>,
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
    /// Poison manifest to train with, instead of one drawn from the recipe
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Threads that make batches; any number gives the same batches
    #[arg(long)]
    workers: Option<usize>,
    /// libtorch's threads; 0 = its own choice
    #[arg(long)]
    pub threads: Option<i32>,
    /// cpu, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Any key of the recipe, as in train.beta2=0.95 or clean.abd.patch_area=0.1; no value takes the key out, as in augment.text=.
    /// After all other flags; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RecipeFlags {
    /// The recipe file (`base` when none is given), then the preset, then the flags, then `--set`.
    pub fn resolve(&self, base: Recipe) -> Result<Recipe> {
        let mut recipe = match &self.config {
            Some(path) => Recipe::read(path)?,
            None => base,
        };
        if let Some(preset) = &self.preset {
            recipe.apply_preset(preset)?;
        }
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        if self.train_data.is_some() {
            // The split and columns of the recipe belong to the recipe's data.
            recipe.data.source = roclip_data::source::SourceConfig::default();
        }
        set(&mut recipe.data.source.path, &self.train_data);
        if self.val_data.is_some() {
            recipe.eval.source = roclip_data::source::SourceConfig::default();
            recipe.eval.class_captions = None;
        }
        set(&mut recipe.eval.source.path, &self.val_data);
        for source in [&mut recipe.data.source, &mut recipe.eval.source] {
            source.image_root = self.image_root.clone().or(source.image_root.take());
            source.image_column = self.csv_img_key.clone().or(source.image_column.take());
            source.caption_column = self.csv_caption_key.clone().or(source.caption_column.take());
        }
        set(&mut recipe.seed, &self.seed);
        set(&mut recipe.model.name, &self.model);
        set(&mut recipe.objective.name, &self.objective.as_deref().and_then(ObjectiveName::named));
        set(&mut recipe.train.epochs, &self.epochs);
        set(&mut recipe.train.batch_size, &self.batch_size);
        set(&mut recipe.train.learning_rate, &self.lr);
        set(&mut recipe.train.weight_decay, &self.wd);
        set(&mut recipe.train.warmup_steps, &self.warmup);
        set(&mut recipe.objective.roclip.period, &self.match_period);
        recipe.objective.roclip.match_start = self.match_start.or(recipe.objective.roclip.match_start);
        if self.pool_size.is_some() {
            recipe.objective.roclip.pool_fraction = None;
        }
        recipe.objective.roclip.pool_size = self.pool_size.or(recipe.objective.roclip.pool_size);
        recipe.manifest = self.manifest.clone().or(recipe.manifest.take());
        set(&mut recipe.data.workers, &self.workers);
        set(&mut recipe.train.threads, &self.threads);
        set(&mut recipe.train.device, &self.device);
        for assignment in &self.set {
            recipe = recipe.assign(assignment)?;
        }
        Ok(recipe)
    }
}
