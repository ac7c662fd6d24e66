//! Recipes: TOML files that say everything about a run. Unknown keys are errors; the resolved recipe is saved in the run.

mod assignment;
mod check;
mod differences;
mod presets;

pub use differences::Difference;

use crate::clean::CleanConfig;
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, Reading};
pub use crate::objective::{ObjectiveConfig, ObjectiveName};
use crate::train::TrainConfig;
use roclip_data::artifact;
use roclip_data::augment::{ImageAugmentConfig, TextAugmentConfig};
use roclip_data::pairs::CaptionMode;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::PoisonConfig;
use roclip_data::source::SourceConfig;
use roclip_data::tokenizer::Truncate;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// One seed for everything; every purpose draws from its own stream.
    pub seed: u64,
    /// A manifest made by `roclip poison make`; without one the run draws its own from `poison`.
    pub manifest: Option<PathBuf>,
    pub data: DataConfig,
    pub model: ModelSettings,
    pub augment: AugmentConfig,
    pub objective: ObjectiveConfig,
    pub train: TrainConfig,
    pub eval: EvalConfig,
    pub poison: PoisonConfig,
    /// Cleans a model instead of training one; the objective section is then not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanConfig>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    pub source: SourceConfig,
    /// What to do with several captions of one image.
    pub captions: CaptionMode,
    /// At most so many pairs of one picture, however often it comes, drawn by the seed; absent = all. Takes reading every picture once
    /// before training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs_per_picture: Option<usize>,
    pub limits: ImageLimits,
    /// Decoded images kept in memory, in MiB.
    pub cache_mib: u64,
    /// Threads that make batches. Any number gives the same batches.
    pub workers: usize,
    /// The run stops when more than this share of an epoch's samples cannot be used.
    pub max_skip_fraction: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        let source = SourceConfig { split: Some("train".into()), ..SourceConfig::default() };
        DataConfig {
            source,
            captions: CaptionMode::Expand,
            pairs_per_picture: None,
            limits: ImageLimits::default(),
            cache_mib: 512,
            workers: 2,
            max_skip_fraction: 0.05,
        }
    }
}

impl DataConfig {
    /// What of it holds for evaluation images, too.
    pub fn reading(&self) -> Reading {
        Reading { limits: self.limits, workers: self.workers, max_skip_fraction: self.max_skip_fraction }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// A built-in name or the path of an open_clip JSON file.
    pub name: String,
    /// Keep only the tokens that the data and the prompts use. For small data sets. Synonyms that `augment.text` draws and no caption has are
    /// the unknown token then (a run begins with their share).
    pub compact_vocabulary: bool,
    pub truncate: Truncate,
    /// Start from these weights instead of random ones: those of a run or checkpoint, with its vocabulary, or those of a folder or
    /// file of open_clip's or transformers' layout, which must have the full one.
    pub weights: Option<PathBuf>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        ModelSettings { name: "RN50".into(), compact_vocabulary: false, truncate: Truncate::KeepEot, weights: None }
    }
}

/// Absent sections mean no augmentation of that kind.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    pub image: Option<ImageAugmentConfig>,
    pub text: Option<TextAugmentConfig>,
}

impl Recipe {
    pub fn read(path: &Path) -> Result<Recipe> {
        let text = artifact::read_text(path)?;
        toml::from_str(&text).map_err(|e| {
            Error::file(path, e.to_string().trim().replace('\n', "\n  "), "see `roclip recipe` for all keys")
        })
    }

    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::internal(format!("recipe: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_survives_toml_and_an_unknown_key_is_named() {
        let mut recipe = Recipe::default();
        recipe.apply_preset("roclip-released").unwrap();
        assert_eq!(toml::from_str::<Recipe>(&recipe.to_toml().unwrap()).unwrap(), recipe);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, "[train]\nlearning_rte = 1.0\n").unwrap();
        assert!(Recipe::read(&path).unwrap_err().to_string().contains("learning_rte"));
    }
}
