//! Cleaning: a model that may be backdoored is fine-tuned on a small set of trusted pairs. A method is an objective, what its pairs go
//! through, and the training settings it was released with, in one file, and one line in [`CleanMethod::ALL`].

mod abd;
mod cleanclip;
mod finetune;
mod first_try;
mod moved;
mod par;
mod rebound;
mod supervised;
mod ta_cleaner;

pub(crate) use abd::PATCH;
pub use abd::{AbdConfig, PatchPlace};
pub use cleanclip::{CleanClip, CleanClipConfig, SelfLoss};
pub use first_try::{ENOUGH_STEPS, Victim, WARMUP, first_try};
pub use moved::{HARDLY_MOVED, moved_percent};
pub use par::{Par, ParConfig};
pub use rebound::{HarmlessTuning, ReboundConfig};
pub use ta_cleaner::{TaCleaner, TaCleanerConfig};

use crate::checkpoint::{self, Description, Loaded};
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::objective::{Objective, RunShape};
use crate::settings;
use crate::train::TrainConfig;
use rand::seq::SliceRandom;
use roclip_data::augment::SubCaptions;
use roclip_data::batch::{Transform, ViewAugment};
use roclip_data::pairs::Pairs;
use roclip_data::random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Device;

/// The cleaning methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CleanMethod {
    /// CleanCLIP: in-modal losses against augmented views.
    #[default]
    Cleanclip,
    /// CleanCLIP with sub-captions; reconstructed.
    TaCleaner,
    /// An adversarial patch, then CLIP on patched pairs; reconstructed.
    Abd,
    /// Features are pushed away from those of the victim, and recover.
    Par,
    /// A classifier and the image tower on labelled images; the text tower rests.
    Supervised,
    /// Plain CLIP on the trusted pairs: the control that every method must beat.
    Finetune,
}

/// A cleaning method.
pub trait Method: Sync {
    /// As recipes and flags spell it.
    fn name(&self) -> &'static str;

    /// As reports write it.
    fn title(&self) -> &'static str;

    /// What it does, for a command line.
    fn about(&self) -> &'static str;

    /// The training settings that it was released with.
    fn training(&self) -> TrainConfig;

    /// Refuses numbers of its section that it cannot clean with.
    fn check(&self, _clean: &CleanConfig) -> Result<()> {
        Ok(())
    }

    /// Keeps the pairs that it can learn from; `classes` are the evaluation's.
    fn keep_usable(&self, _pairs: &mut Pairs, _classes: &[String]) -> Result<()> {
        Ok(())
    }

    /// What the first and the second view of a pair go through.
    fn views(&self, _setup: &mut Setup) -> Result<[ViewAugment; 2]> {
        Ok(Default::default())
    }

    /// What makes sub-captions, and of how many pairs of a batch, where it learns from them.
    fn sub_captions(&self, _setup: &Setup) -> Result<Option<(Arc<SubCaptions>, usize)>> {
        Ok(None)
    }

    /// What it minimises on `pairs`, in a run of this shape; `classes` are the evaluation's.
    fn objective(
        &self,
        clean: &CleanConfig,
        shape: RunShape,
        pairs: &Pairs,
        classes: &[String],
    ) -> Result<Box<dyn Objective>>;
}

/// What a method may look at before its training begins.
pub struct Setup<'a> {
    pub clean: &'a CleanConfig,
    /// The run's folder.
    pub run: &'a Path,
    pub pairs: &'a Arc<Pairs>,
    /// How plain pairs are read.
    pub plain: &'a Transform,
    pub batch_size: usize,
    pub workers: usize,
    pub device: Device,
    /// Receives one line at a time.
    pub progress: &'a mut dyn FnMut(&str),
}

impl CleanMethod {
    pub const ALL: [(CleanMethod, &'static dyn Method); 6] = [
        (CleanMethod::Cleanclip, &cleanclip::Method),
        (CleanMethod::TaCleaner, &ta_cleaner::Method),
        (CleanMethod::Abd, &abd::Method),
        (CleanMethod::Par, &par::Method),
        (CleanMethod::Supervised, &supervised::Method),
        (CleanMethod::Finetune, &finetune::Method),
    ];

    /// What it consists of.
    pub fn method(self) -> &'static dyn Method {
        let found = CleanMethod::ALL.into_iter().find(|(known, _)| *known == self);
        found.map_or(&finetune::Method, |(_, method)| method)
    }

    /// The training settings of a new cleaning: the method's, but the victim's machine. What else the victim was trained with says nothing
    /// about cleaning.
    pub fn training(self, victim: &TrainConfig) -> TrainConfig {
        TrainConfig { threads: victim.threads, ..self.method().training() }
    }
}

/// What is cleaned, with what.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct CleanConfig {
    /// A run, a checkpoint, or a model of open_clip's or transformers' layout; `roclip clean` sets it. Its manifest, where it has one, says what
    /// is measured.
    #[serde(default)]
    pub victim: PathBuf,
    /// What model the victim is, by a built-in name or a JSON file, where no configuration lies beside its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"ViT-B-32")]
    pub victim_model: Option<String>,
    /// The cleaning method.
    #[serde(default)]
    pub method: CleanMethod,
    /// Number of trusted pairs, drawn at random among the training data without its poison; all when absent.
    #[serde(default)]
    #[schemars(example = 1000)]
    pub pairs: Option<usize>,
    /// CleanCLIP; used by `ta-cleaner`, too.
    #[serde(default)]
    pub cleanclip: CleanClipConfig,
    /// TA-Cleaner; used with `method = "ta-cleaner"`.
    #[serde(default)]
    pub ta_cleaner: TaCleanerConfig,
    /// ABD; used with `method = "abd"`.
    #[serde(default)]
    pub abd: AbdConfig,
    /// PAR; used with `method = "par"`.
    #[serde(default)]
    pub par: ParConfig,
    /// Rebound test after cleaning: harmless fine-tuning, and whether the backdoors come back; none when absent.
    #[serde(default)]
    pub rebound: Option<ReboundConfig>,
}

impl CleanConfig {
    /// Refuses numbers that the method, or the rebound test after it, cannot work with.
    pub fn check(&self) -> Result<()> {
        if let Some(pairs) = self.pairs {
            settings::count("clean.pairs", pairs as u64, 2, settings::MANY)?;
        }
        self.method.method().check(self)?;
        self.rebound.as_ref().map_or(Ok(()), ReboundConfig::check)
    }

    /// The model that is cleaned.
    pub fn load_victim(&self, device: Device) -> Result<Loaded> {
        let description = self.victim_model.as_deref().map_or(Description::Beside, Description::By);
        let loaded = checkpoint::load_as(&self.victim, description, device)?;
        loaded
            .must_read_captions("clean a CLIP run; a classifier is trained again, or distilled with `roclip distil`")?;
        Ok(loaded)
    }

    /// `setup.plain` with what the method's pairs go through.
    pub fn transform(&self, mut setup: Setup) -> Result<Transform> {
        let method = self.method.method();
        let (views, sub_captions) = (method.views(&mut setup)?, method.sub_captions(&setup)?);
        Ok(Transform { views, sub_captions, tokenizer: Arc::clone(&setup.plain.tokenizer), ..*setup.plain })
    }

    /// What the method minimises; the arguments are those of [`Method::objective`].
    pub fn objective(&self, shape: RunShape, pairs: &Pairs, classes: &[String]) -> Result<Box<dyn Objective>> {
        self.method.method().objective(self, shape, pairs, classes)
    }

    /// Keeps the pairs that the method can learn from; `classes` are the evaluation's.
    pub fn keep_usable(&self, pairs: &mut Pairs, classes: &[String]) -> Result<()> {
        self.method.method().keep_usable(pairs, classes)
    }

    /// Whether the search of a patch for `victim` could begin with the reference that is named, without the search.
    ///
    /// # Errors
    /// A reference that is not there, is poisoned, or has other features than the victim.
    pub(crate) fn check_reference(&self, victim: &Clip) -> Result<()> {
        match self.method {
            CleanMethod::Abd => self.abd.clean_reference(victim, Device::Cpu).map(drop),
            _ => Ok(()),
        }
    }

    /// Keeps the trusted pairs only.
    pub fn choose(&self, pairs: &mut Pairs, seed: u64) -> Result<()> {
        let Some(wanted) = self.pairs else { return Ok(()) };
        if wanted > pairs.len() {
            return Err(Error::setting(
                format!("clean.pairs is {wanted}, but the data has {} pairs", pairs.len()),
                "lower it, or remove it to use all",
            ));
        }
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.shuffle(&mut random::stream(seed, "clean-pairs", 0, ""));
        order.truncate(wanted);
        order.sort_unstable();
        pairs.retain_places(|at| order.binary_search(&at).is_ok());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_listed_under_the_word_that_recipes_use() {
        for (method, listed) in CleanMethod::ALL {
            let config: CleanConfig = toml::from_str(&format!("method = \"{}\"", listed.name())).unwrap();
            assert_eq!(config.method, method);
            config.check().unwrap();
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_their_keys() {
        for (toml, named) in [
            ("pairs = 1", "clean.pairs is 1"),
            ("method = \"cleanclip\"\ncleanclip = { clip_weight = nan }", "clean.cleanclip.clip_weight is NaN"),
            ("method = \"ta-cleaner\"\nta_cleaner = { weight = -1.0 }", "clean.ta_cleaner.weight is -1"),
            ("method = \"ta-cleaner\"\ncleanclip = { inmodal_weight = inf }", "clean.cleanclip.inmodal_weight is inf"),
            ("method = \"abd\"\nabd = { patch_area = 1.5 }", "clean.abd.patch_area is 1.5"),
            ("method = \"abd\"\nabd = { patch_margin = -0.5 }", "clean.abd.patch_margin is -0.5"),
            ("method = \"abd\"\nabd = { temperature = 0.0 }", "clean.abd.temperature is 0"),
            ("method = \"par\"\npar = { distance = -1.0 }", "clean.par.distance is -1"),
            ("method = \"par\"\npar = { middle_rate = 2.0 }", "clean.par.middle_rate is 2"),
            ("rebound = { learning_rate = nan }", "clean.rebound.learning_rate is NaN"),
            ("rebound = { pairs = 0 }", "clean.rebound.pairs is 0"),
            ("rebound = { steps = [] }", "clean.rebound.steps"),
        ] {
            let config: CleanConfig = toml::from_str(toml).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(named), "{toml}: {error}");
        }
    }
}
