//! The rebound test: does a cleaned model stay clean? It is fine-tuned on harmless pairs, as whoever downloads it would, and the attacks
//! are measured along the way. (The procedure of the ImmuneCLIP repository's logs; its steps are our grid.)

use crate::error::{Error, Result};
use crate::objective::{ClipObjective, LearningRate, LossOutput, Objective, Phase, Place, Towers};
use crate::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rebound test after cleaning: harmless fine-tuning, and whether the backdoors come back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReboundConfig {
    /// Steps after which attacks are measured, ascending; 0 is the cleaned model itself.
    pub steps: Vec<u64>,
    /// Number of clean pairs, another draw than the trusted ones; all when absent.
    #[schemars(example = 10000)]
    pub pairs: Option<usize>,
    /// Constant learning rate; that of the cleaning when absent. Ours: the source does not give one.
    #[schemars(example = 1e-5)]
    pub learning_rate: Option<f64>,
}

impl Default for ReboundConfig {
    fn default() -> Self {
        ReboundConfig { steps: vec![0, 10, 30, 100, 300], pairs: Some(10_000), learning_rate: None }
    }
}

impl ReboundConfig {
    /// Refuses numbers that the test cannot be made with.
    pub(super) fn check(&self) -> Result<()> {
        if self.steps.is_empty() {
            return Err(Error::setting(
                "clean.rebound.steps is empty",
                "say after how many steps to measure, or remove clean.rebound",
            ));
        }
        for steps in &self.steps {
            settings::count("clean.rebound.steps", *steps, 0, settings::MANY)?;
        }
        if let Some(pairs) = self.pairs {
            settings::count("clean.rebound.pairs", pairs as u64, 2, settings::MANY)?;
        }
        self.learning_rate.map_or(Ok(()), |rate| settings::not_negative("clean.rebound.learning_rate", rate))
    }
}

/// Plain CLIP at a constant rate.
pub struct HarmlessTuning {
    pub learning_rate: f64,
}

impl Objective for HarmlessTuning {
    fn name(&self) -> &'static str {
        "rebound"
    }

    fn learning_rate(&self, _place: Place) -> LearningRate {
        LearningRate::Absolute(self.learning_rate)
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        Ok(LossOutput { loss: ClipObjective::first_view_loss(towers)?, matches: None })
    }
}
