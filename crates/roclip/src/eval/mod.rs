//! Evaluation of a model: what it can do, and whether it was fooled.

mod attack_success;
mod classes;
mod features;
mod interval;
mod linear_probe;
mod zero_shot;

pub use classes::{Templates, read_classes};
pub use features::{image_features, text_features};
pub use interval::Rate;
pub use linear_probe::ProbeConfig;

use crate::data::{ImageLimits, Sample, SourceConfig};
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::poison::Manifest;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Labelled images. Targeted poisoning draws its targets here, and they are then left out of the accuracies.
    pub source: SourceConfig,
    /// Class names: a JSON list, a text file with one a line, or a labels file. The classes of the images when absent.
    pub classes: Option<PathBuf>,
    /// `emoji`, `openai-80`, or a file (JSON list, or text with one a line); `{}` is the class.
    pub templates: String,
    /// Evaluate after every n-th epoch (the last one always).
    pub every_epochs: u64,
    /// Linear probe on the features, after the last epoch; absent = none.
    pub probe: Option<ProbeConfig>,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig {
            source: SourceConfig { split: Some("test".into()), ..SourceConfig::default() },
            classes: None,
            templates: "openai-80".into(),
            every_epochs: 1,
            probe: None,
        }
    }
}

/// A backdoor's outcome on triggered images whose true class is not the target.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackdoorOutcome {
    pub target: String,
    /// Triggered images read as the target (strict ASR).
    pub success: Rate,
    /// The same images without trigger, read as the target.
    pub base_rate: Rate,
    /// Triggered images still read as what they are.
    pub true_class: Rate,
}

/// A targeted image's outcome.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TargetOutcome {
    pub image: String,
    pub true_class: String,
    pub adversarial: String,
    pub predicted: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Evaluation {
    pub zero_shot_top1: Rate,
    pub zero_shot_top5: Rate,
    /// Targeted poisoning: images read as the adversarial class.
    pub psr: Option<Rate>,
    pub targets: Vec<TargetOutcome>,
    pub asr: BTreeMap<String, BackdoorOutcome>,
}

/// Everything an evaluation needs, read once.
pub struct Evaluator {
    pub samples: Vec<Sample>,
    pub classes: Vec<String>,
    pub templates: Templates,
    pub limits: ImageLimits,
    pub batch_size: usize,
}

impl Evaluator {
    /// Reads the labelled images and the class list of `config`.
    pub fn new(config: &EvalConfig, limits: ImageLimits) -> Result<Self> {
        let (mut samples, _) = crate::data::read_samples(&config.source)?;
        samples.retain(|sample| sample.class.is_some());
        if samples.is_empty() {
            return Err(Error::setting(
                format!("no image of `{}` has a class", config.source.path),
                "set eval.source.labels or class_column",
            ));
        }
        let known: BTreeSet<String> = samples.iter().filter_map(|s| s.class.clone()).collect();
        let classes = match &config.classes {
            Some(path) => read_classes(path)?,
            None => known.iter().cloned().collect(),
        };
        if let Some(absent) = known.iter().find(|class| !classes.contains(class)) {
            return Err(Error::setting(
                format!("class `{absent}` of the evaluation images is not in the class list"),
                "add it, or correct the labels",
            ));
        }
        Ok(Evaluator { samples, classes, templates: Templates::named(&config.templates)?, limits, batch_size: 128 })
    }

    /// Texts whose tokens a compact vocabulary must have.
    pub fn prompts(&self) -> impl Iterator<Item = String> + '_ {
        self.classes.iter().flat_map(|class| self.templates.fill(class))
    }

    /// Measures `model`, and against `manifest` whether the poison took.
    pub fn evaluate(&self, model: &Clip, tokenizer: &Tokenizer, manifest: Option<&Manifest>) -> Result<Evaluation> {
        let classifier = zero_shot::classifier(model, tokenizer, &self.classes, &self.templates)?;
        let targeted = manifest.map(Manifest::targeted).unwrap_or_default();
        let (targets, plain): (Vec<&Sample>, Vec<&Sample>) =
            self.samples.iter().partition(|s| targeted.contains_key(&s.id));
        let predictions = zero_shot::predict(model, &classifier, &plain, None, self)?;
        let (zero_shot_top1, zero_shot_top5) = zero_shot::accuracy(&predictions, &plain, &self.classes);
        let targets = attack_success::targets(model, &classifier, &targets, &targeted, self)?;
        let hits = targets.iter().filter(|t| t.predicted == t.adversarial).count();
        let psr = (!targets.is_empty()).then(|| Rate::new(hits, targets.len()));
        let mut asr = BTreeMap::new();
        for (attack, target, trigger) in manifest.map(Manifest::backdoors).unwrap_or_default() {
            let outcome = attack_success::backdoor(model, &classifier, &plain, &predictions, &target, &trigger, self)?;
            asr.insert(attack, outcome);
        }
        Ok(Evaluation { zero_shot_top1, zero_shot_top5, psr, targets, asr })
    }
}

pub use linear_probe::linear_probe;
