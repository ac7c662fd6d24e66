//! What an evaluation measures, as a recipe says it.

use crate::error::{Error, Result};
use crate::eval::ProbeConfig;
use roclip_data::source::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured, and how often.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Labelled images, with the path `none` for no evaluation. Targeted poisoning draws its targets here, and they are then left out of the accuracies.
    pub source: SourceConfig,
    /// Class names: `imagenet-1k`, or a file (JSON list, text with one a line, labels file); those of the images when absent. Images may be
    /// labelled by name or by number into the list.
    #[schemars(example = &"imagenet-1k")]
    pub classes: Option<String>,
    /// Prompts: `openai-80`, `emoji`, `captions` (of photographs), or a file (JSON list, or text with one a line); `{}` is the class.
    pub templates: String,
    /// Labelled images whose captions are the prompts of their class, instead of `templates`; the images themselves are not looked at. For
    /// data whose captions are written unlike any template. Give a split that is neither trained on nor evaluated.
    pub class_captions: Option<SourceConfig>,
    /// Epochs between evaluations; when absent, a twentieth of all, rounded up. The last two are always evaluated.
    #[schemars(example = &5)]
    pub every_epochs: Option<u64>,
    /// Linear probe on the features after the last epoch, which needs labelled training images; none when absent.
    pub probe: Option<ProbeConfig>,
    /// Images with captions for retrieval, measured by `roclip eval`; none when absent.
    pub retrieval: Option<SourceConfig>,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig {
            source: SourceConfig { split: Some("test".into()), ..SourceConfig::default() },
            classes: None,
            templates: "openai-80".into(),
            class_captions: None,
            every_epochs: None,
            probe: None,
            retrieval: None,
        }
    }
}

/// Evaluations of a run that nobody asked for more of.
const EVALUATIONS: u64 = 20;

impl EvalConfig {
    /// Epochs between evaluations of a run of `epochs` epochs.
    pub fn epochs_between(&self, epochs: u64) -> u64 {
        self.every_epochs.unwrap_or(epochs.div_ceil(EVALUATIONS)).max(1)
    }

    /// Whether every number can be used, known before anything is read.
    pub fn check(&self) -> Result<()> {
        if self.every_epochs == Some(0) {
            return Err(Error::setting(
                "eval.every_epochs is 0",
                "set at least 1; the last two epochs are evaluated always",
            ));
        }
        if self.templates.trim().is_empty() {
            return Err(Error::setting("eval.templates is empty", "name `openai-80`, `emoji`, `captions` or a file"));
        }
        self.probe.as_ref().map_or(Ok(()), ProbeConfig::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_measured_at_most_about_twenty_times_and_short_ones_after_each_epoch() {
        let between =
            |every_epochs, epochs| EvalConfig { every_epochs, ..EvalConfig::default() }.epochs_between(epochs);
        assert_eq!([0, 1, 20, 21, 40, 41, 100, 1000].map(|epochs| between(None, epochs)), [1, 1, 1, 2, 2, 3, 5, 50]);
        assert_eq!(between(Some(3), 1000), 3);
    }

    #[test]
    fn numbers_that_cannot_be_are_named() {
        assert!(EvalConfig::default().check().is_ok());
        let message = |change: fn(&mut EvalConfig)| {
            let mut config = EvalConfig { probe: Some(ProbeConfig::default()), ..EvalConfig::default() };
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        let probe = |change: fn(&mut ProbeConfig)| {
            let mut config = ProbeConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(message(|config| config.every_epochs = Some(0)).contains("eval.every_epochs"));
        assert!(message(|config| config.templates = " ".into()).contains("eval.templates"));
        assert!(probe(|config| config.epochs = 0).contains("eval.probe.epochs"));
        assert!(probe(|config| config.epochs = u64::MAX).contains("eval.probe.epochs"));
        assert!(probe(|config| config.batch_size = 0).contains("eval.probe.batch_size"));
        assert!(probe(|config| config.learning_rate = f64::NAN).contains("eval.probe.learning_rate"));
        assert!(probe(|config| config.learning_rate = 0.0).contains("eval.probe.learning_rate"));
        assert!(probe(|config| config.weight_decay = -1.0).contains("eval.probe.weight_decay"));
    }
}
