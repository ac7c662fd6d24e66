//! Recipes: TOML files that say everything about a run. Unknown keys are errors; the resolved recipe is saved in the run.

mod assignment;
mod attack_example;
mod bounds;
mod check;
mod differences;
mod fitted;
mod page;
mod presets;
mod reference;
mod sweep;
mod template;
mod unknown_key;

pub use attack_example::{AttackExample, ENOUGH_CAPTIONS, FEW_EXPOSURES};
pub use bounds::most;
pub use differences::Difference;
pub use fitted::{
    Fitted, Found, VIEWS_BEFORE_MATCHING_IN_THE_DEMO, fitted, learns_poison_however_early, views_before_matching,
};
pub use page::page;
pub use reference::{Choice, Key, Kind, Section, first_sentence, flag_help, required_flag_help, schema, written};
pub(crate) use sweep::telling_end;
pub use sweep::{Cell, Sweep};
pub use template::{Notes, Scope};

use crate::checkpoint::run_of;
use crate::clean::CleanConfig;
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, NO_IMAGES, Reading};
use crate::objective::{CaptionConfig, DistilConfig};
pub use crate::objective::{ObjectiveConfig, ObjectiveName};
use crate::prompt::PromptConfig;
use crate::train::TrainConfig;
use roclip_data::artifact;
use roclip_data::augment::{ImageAugmentConfig, TextAugmentConfig};
use roclip_data::pairs::CaptionMode;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::PoisonConfig;
use roclip_data::source::SourceConfig;
use roclip_data::tokenizer::Truncate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything about a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// One seed for everything; every purpose draws from its own stream.
    pub seed: u64,
    /// Poison manifest, made by `roclip poison make`; when absent the run draws its own from `[poison]`.
    #[schemars(example = &"manifest.jsonl")]
    pub manifest: Option<PathBuf>,
    /// What is trained on.
    pub data: DataConfig,
    /// The model, its vocabulary and its first weights.
    pub model: ModelSettings,
    /// Random changes of what is trained on; absent sections mean none of that kind.
    pub augment: AugmentConfig,
    /// What training minimises: CLIP, or a defence.
    pub objective: ObjectiveConfig,
    /// The optimizer, its schedule, and the machine.
    pub train: TrainConfig,
    /// What is measured, and how often.
    pub eval: EvalConfig,
    /// The poison of the run; without attacks the data stays clean.
    pub poison: PoisonConfig,
    /// Cleans a model instead of training one (`roclip clean`); the objective section is then not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanConfig>,
    /// Trains a captioner on top of the model's image tower (`roclip caption train`); the objective section is then not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption: Option<CaptionConfig>,
    /// Learns prompts for a frozen model instead of training one (`roclip prompt`); of the sections objective, poison and train, only what
    /// concerns the machine and the checkpoints is then used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptConfig>,
}

/// What is trained on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The pairs that are trained on.
    pub source: SourceConfig,
    /// What is done with several captions of one picture.
    pub captions: CaptionMode,
    /// Largest number of pairs of one picture, however often it comes, drawn by the seed; all when absent. Every picture is read once
    /// before training.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1)]
    pub pairs_per_picture: Option<usize>,
    /// List of ids that are left out before pairs are made: samples, or single captions of them (`a.jpg#2`), one a line, or JSON lines with an
    /// `id` such as skips.jsonl.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"ids.txt")]
    pub drop: Option<PathBuf>,
    /// How often an epoch sees the pairs of each part of joined data (between `::` of the path), as in [1, 2.5]: a weight below 1 is a share of
    /// the pairs, drawn by the seed. Once each when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &[1.0, 2.5])]
    pub weights: Option<Vec<f64>>,
    /// Whether the list of pairs is read through an index, a file beside the data or in the cache folder, instead of being held in memory:
    /// `auto` (where the data is large), `always`, `never`, or the path of an index that `roclip data index --out` made. Either way gives the
    /// same training.
    pub index: String,
    /// Pictures beyond these limits are left out.
    pub limits: ImageLimits,
    /// Memory for decoded pictures, in MiB.
    pub cache_mib: u64,
    /// Threads that make batches. Any number gives the same batches.
    pub workers: usize,
    /// The run stops when more than this share of the samples of an epoch cannot be used.
    pub max_skip_fraction: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        let source = SourceConfig { split: Some("train".into()), ..SourceConfig::default() };
        DataConfig {
            source,
            captions: CaptionMode::Expand,
            pairs_per_picture: None,
            drop: None,
            weights: None,
            index: AUTO.to_owned(),
            limits: ImageLimits::default(),
            cache_mib: 512,
            workers: 2,
            max_skip_fraction: 0.05,
        }
    }
}

const AUTO: &str = "auto";

impl DataConfig {
    /// What of it holds for evaluation images, too.
    pub fn reading(&self) -> Reading {
        Reading { limits: self.limits, workers: self.workers, max_skip_fraction: self.max_skip_fraction }
    }
}

/// The model, its vocabulary and its first weights.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// RN50, RN101, RN50x4, ViT-B-32, ViT-B-16, ViT-L-14, RN-small-32, ViT-tiny-32, for classifiers RN-mini-32,
    /// RN-micro-32, ViT-micro-32, or the path of a JSON file in open_clip's format.
    pub name: String,
    /// Whether only the tokens are kept that the captions and the prompts use, for small data sets. Synonyms that `augment.text` draws and
    /// no caption has are the unknown token then (a run begins with their share).
    pub compact_vocabulary: bool,
    /// What happens to a caption that is longer than the context.
    pub truncate: Truncate,
    /// Weights to start from instead of random ones: a run or checkpoint, with its vocabulary, or a folder or file in open_clip's or
    /// transformers' layout, with the full one.
    #[schemars(example = &"runs/first")]
    pub weights: Option<PathBuf>,
    /// Whether each picture is brought to mean 0 and deviation 1 over all its channels before the first layer. A classifier's defence against
    /// triggers of contrast, which it cannot see then. Ours: other programs do not read such models.
    pub standardise: bool,
}

impl Default for ModelSettings {
    fn default() -> Self {
        ModelSettings {
            name: "RN50".into(),
            compact_vocabulary: false,
            truncate: Truncate::KeepEot,
            weights: None,
            standardise: false,
        }
    }
}

/// Random changes of what is trained on; absent sections mean none of that kind.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Random changes of pictures; none when absent.
    pub image: Option<ImageAugmentConfig>,
    /// Random changes of captions (EDA); none when absent.
    pub text: Option<TextAugmentConfig>,
}

impl Recipe {
    pub fn read(path: &Path) -> Result<Recipe> {
        let text = artifact::read_text(path)?;
        // Every key has a default, and what a full disk left of a recipe would pass for one.
        if text.trim().is_empty() {
            return Err(Error::file(path, "is empty", "write the recipe, or bring it back"));
        }
        toml::from_str(&text).map_err(|e| {
            let said = unknown_key::explained(e.to_string().trim());
            Error::file(path, said.replace('\n', "\n  "), "see `roclip recipe` for all keys")
        })
    }

    /// Epochs in which pairs may be shown with their own captions or labels, as the doctor counts them of a finished run: matching epochs of
    /// RoCLIP and the unimodal ones of SafeCLIP show others or none. At most: SafeCLIP's safe epochs show what its split lets in.
    pub fn epochs_with_own_captions(&self) -> u64 {
        let (objective, epochs) = (&self.objective, self.train.epochs);
        let others = match objective.name {
            ObjectiveName::Roclip => objective.roclip.matching_epochs(epochs),
            ObjectiveName::Safeclip => objective.safeclip.unimodal_epochs,
            _ => 0,
        };
        epochs.saturating_sub(others)
    }

    /// The recipe of the run that `path` is, or is a checkpoint of; none where it is of no run.
    pub fn of_path(path: &Path) -> Result<Option<Recipe>> {
        run_of(path).map(|run| Recipe::read(&run.join("run.toml"))).transpose()
    }

    /// The recipe of a run whose model is used as a CLIP or as a classifier.
    ///
    /// # Errors
    /// Also where the run trained a captioner.
    pub fn of_run(run: &Path) -> Result<Recipe> {
        let recipe = Recipe::read(&run.join("run.toml"))?;
        match recipe.caption {
            None => Ok(recipe),
            Some(_) => Err(Error::file(
                run,
                "trained a captioner, which is no CLIP",
                "use it with `roclip caption eval`, `write` or `attack`, or name the CLIP that it looks through",
            )),
        }
    }

    /// Whether it trains a classifier: its pairs are labelled pictures, and their captions the labels.
    pub fn is_labelled(&self) -> bool {
        self.clean.is_none() && self.caption.is_none() && self.prompt.is_none() && self.objective.name.labelled()
    }

    /// Whether `roclip demo` can train its controls beside it: plain CLIP would be another run, and so would augmentation alone.
    pub fn has_controls(&self) -> bool {
        self.objective.name != ObjectiveName::Clip && self.augment != AugmentConfig::default()
    }

    /// The distillation that it asks for.
    pub fn distillation(&self) -> Option<&DistilConfig> {
        let distils = self.clean.is_none() && self.objective.name == ObjectiveName::Distil;
        distils.then_some(&self.objective.distil)
    }

    /// Whether it is known that nobody attacked the run's model: it was trained from nothing, on no poison.
    pub fn is_unattacked(&self) -> bool {
        let poisons = !self.poison.measure_only && (self.manifest.is_some() || !self.poison.attacks.is_empty());
        !poisons && self.model.weights.is_none() && self.clean.is_none() && self.distillation().is_none()
    }

    /// What the run is measured on: labelled pictures, or the references of a captioner that is measured by its captions alone.
    pub fn measured_source(&self) -> &SourceConfig {
        match &self.caption {
            Some(caption) if self.eval.source.path == NO_IMAGES => &caption.references,
            _ => &self.eval.source,
        }
    }

    /// Whether the run is evaluated after `epoch`. The last two always are, so that an objective with two kinds of epoch is seen after both.
    pub fn evaluates_after(&self, epoch: u64) -> bool {
        epoch + 2 > self.train.epochs || epoch.is_multiple_of(self.eval.epochs_between(self.train.epochs))
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
