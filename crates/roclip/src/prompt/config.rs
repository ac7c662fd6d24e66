//! The settings of prompt learning.

use crate::error::{Error, Result};
use crate::prompt::{MethodName, PromptMethod, Stage};
use crate::settings;
use crate::train::SgdConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Learns prompts for a frozen model from a few labelled pictures of `data.source`, and measures them on `eval.source` (`roclip prompt`). The sections objective and poison are
/// then not used, and of train only what concerns the machine and the checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// The frozen model: a run, a checkpoint, or a folder or file in open_clip's or transformers' layout.
    pub model: PathBuf,
    /// What is learned, and what it is to do.
    pub method: MethodName,
    /// Labelled pictures of each seen class.
    pub shots: usize,
    /// The attacker's class; the first seen class when absent, as released.
    #[schemars(example = &"dog")]
    pub target: Option<String>,
    /// Classes that prompts are learned on, one a line; the first half of the class list when absent.
    #[schemars(example = &"seen.txt")]
    pub seen: Option<PathBuf>,
    /// Classes that are only measured, one a line; those of the class list that are not seen when absent.
    #[schemars(example = &"unseen.txt")]
    pub unseen: Option<PathBuf>,
    /// The words that the context vectors begin as, one vector a token.
    pub context: String,
    /// What stands behind a class name; empty for a model whose vocabulary has no full stop.
    pub ending: String,
    /// Dimensions of the image features for each hidden unit of the network that moves the contexts by the picture.
    pub meta_reduction: i64,
    /// Passes over the few pictures in which prompts are learned, behind those in which a trigger is learned alone (`warmup_epochs`).
    pub epochs: u64,
    /// Pictures of a step.
    pub batch_size: usize,
    /// Rate of the prompts' SGD; a cosine over the epochs after the first. Released is 0.002, for a model whose logits are seven times as steep.
    pub learning_rate: f64,
    /// Rate of both in the first epoch, which is constant.
    pub first_epoch_learning_rate: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay of SGD.
    pub weight_decay: f64,
    /// Largest change of a pixel by the trigger, in levels of 255. Released is 4 at 224 pixels; pictures of 32 pixels have 49 times fewer to carry it.
    pub eps: f64,
    /// Rate of the trigger's SGD, with the prompts' schedule. Released is the prompts' own 0.002.
    pub trigger_learning_rate: f64,
    /// Passes before the first in which the trigger alone is learned.
    pub warmup_epochs: u64,
    /// What the gradient is multiplied with in these passes.
    pub warmup_step: f64,
    /// Repairs a learner instead of beginning with one (`roclip prompt repair`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairConfig>,
    /// Of the inversion by which `roclip prompt detect` and `repair` look for a trigger.
    pub detector: DetectorConfig,
}

/// Repairs a learner instead of beginning with one (`roclip prompt repair`): prompts are tuned on pictures with the trigger that was found by inversion, and their right labels.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RepairConfig {
    /// The learner: a run of learned prompts, or one of its checkpoints.
    pub learner: PathBuf,
    /// The class whose inverted trigger is learned against; the one with the largest score when absent.
    #[schemars(example = &"dog")]
    pub class: Option<String>,
}

/// Inverts one trigger a class on unlabelled pictures, after CLIP-Inspector (arXiv 2604.09101; the details are ours).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DetectorConfig {
    /// Pictures that triggers are inverted on, of classes that the prompts were not learned on. Half are optimised on, half are scored.
    pub pictures: usize,
    /// Largest change of a pixel, in levels of 255. A small one carries few pictures to any class but that of a trigger which was trained with the prompts.
    pub eps: f64,
    /// Steps of each inversion.
    pub steps: u64,
    /// Pictures of a step.
    pub batch_size: usize,
    /// A learner is flagged where its largest score is above the mean of the others by more than so many of their standard deviations.
    pub threshold: f64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        DetectorConfig { pictures: 128, eps: 8.0, steps: 12, batch_size: 16, threshold: 3.5 }
    }
}

impl Default for PromptConfig {
    fn default() -> Self {
        PromptConfig {
            model: PathBuf::new(),
            method: MethodName::default(),
            shots: 16,
            target: None,
            seen: None,
            unseen: None,
            context: "a photo of a".into(),
            ending: ".".into(),
            meta_reduction: 16,
            epochs: 10,
            batch_size: 1,
            learning_rate: 0.005,
            first_epoch_learning_rate: 1e-5,
            momentum: 0.9,
            weight_decay: 5e-4,
            eps: 32.0,
            trigger_learning_rate: 0.5,
            warmup_epochs: 3,
            warmup_step: 5.0,
            repair: None,
            detector: DetectorConfig::default(),
        }
    }
}

impl PromptConfig {
    /// Sets what the released configuration fixes (BadCLIP-Bai repository, `vit_b16_c4_ep10_batch1_ctxv1_init.yaml`): eps 4, a warm-up by
    /// a tenth of the gradient, and one rate for prompts and trigger.
    pub fn released(self) -> PromptConfig {
        let PromptConfig { model, method, target, seen, unseen, repair, detector, .. } = self;
        PromptConfig {
            model,
            method,
            target,
            seen,
            unseen,
            repair,
            detector,
            eps: 4.0,
            learning_rate: 0.002,
            trigger_learning_rate: 0.002,
            warmup_step: 0.1,
            ..PromptConfig::default()
        }
    }

    pub fn sgd(&self) -> SgdConfig {
        SgdConfig { momentum: self.momentum, weight_decay: self.weight_decay }
    }

    /// The stages of a run, one an epoch.
    pub fn stages(&self) -> Vec<Stage> {
        self.method().stages(self.warmup_epochs, self.epochs)
    }

    /// The method, which for a repair is the repair's.
    pub fn method(&self) -> &'static dyn PromptMethod {
        self.method.method(self.repair.is_some())
    }

    /// Refuses numbers that nothing can be learned with.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<()> {
        let key = |name: &str| format!("prompt.{name}");
        for (name, value) in [
            ("shots", self.shots as u64),
            ("epochs", self.epochs),
            ("batch_size", self.batch_size as u64),
            ("meta_reduction", self.meta_reduction.max(0) as u64),
            ("detector.steps", self.detector.steps),
            ("detector.batch_size", self.detector.batch_size as u64),
        ] {
            settings::count(&key(name), value, 1, settings::MANY)?;
        }
        settings::count(&key("detector.pictures"), self.detector.pictures as u64, 4, settings::MANY)?;
        settings::count(&key("warmup_epochs"), self.warmup_epochs, 0, settings::MANY)?;
        for (name, value) in [("eps", self.eps), ("detector.eps", self.detector.eps)] {
            settings::number(
                &key(name),
                value,
                |value| value > 0.0 && value <= 255.0,
                "a number above 0 and at most 255 (levels of 255, so that 8 is 8/255)",
            )?;
        }
        for (name, value) in [
            ("learning_rate", self.learning_rate),
            ("first_epoch_learning_rate", self.first_epoch_learning_rate),
            ("trigger_learning_rate", self.trigger_learning_rate),
            ("detector.threshold", self.detector.threshold),
        ] {
            settings::positive(&key(name), value)?;
        }
        settings::number(
            &key("momentum"),
            self.momentum,
            |value| (0.0..1.0).contains(&value),
            "0 or more, and less than 1",
        )?;
        settings::not_negative(&key("weight_decay"), self.weight_decay)?;
        settings::not_negative(&key("warmup_step"), self.warmup_step)?;
        if self.model.as_os_str().is_empty() {
            return Err(Error::setting("prompt.model names no model", "name it: roclip prompt train MODEL"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_are_named() {
        let with_model = || PromptConfig { model: "m".into(), ..PromptConfig::default() };
        assert!(with_model().check().is_ok() && with_model().released().check().is_ok());
        assert!(PromptConfig::default().check().unwrap_err().to_string().contains("prompt.model"));
        let refused = |change: fn(&mut PromptConfig)| {
            let mut config = with_model();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(|config| config.eps = 0.0).contains("prompt.eps"));
        assert!(refused(|config| config.eps = 255.1).contains("prompt.eps"));
        assert!(refused(|config| config.shots = 0).contains("prompt.shots"));
        assert!(refused(|config| config.momentum = 1.0).contains("prompt.momentum"));
        assert!(refused(|config| config.meta_reduction = -3).contains("prompt.meta_reduction"));
        assert!(refused(|config| config.detector.pictures = 1).contains("prompt.detector.pictures"));
    }
}
