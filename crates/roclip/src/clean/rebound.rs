//! The rebound test: does a cleaned model stay clean? It is fine-tuned on harmless pairs, as whoever downloads it would, and the attacks
//! are measured along the way. (The procedure of the ImmuneCLIP repository's logs; its steps are our grid.)

use crate::error::Result;
use crate::objective::{ClipObjective, LearningRate, LossOutput, Objective, Phase, Place, StepInputs};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReboundConfig {
    /// Where attacks are measured, ascending. 0 is the cleaned model itself.
    pub steps: Vec<u64>,
    /// Clean pairs, another draw than the trusted ones; all when absent.
    pub pairs: Option<usize>,
    /// Constant; the cleaning's own rate when absent. Ours: the source does not give one.
    pub learning_rate: Option<f64>,
}

impl Default for ReboundConfig {
    fn default() -> Self {
        ReboundConfig { steps: vec![0, 10, 30, 100, 300], pairs: Some(10_000), learning_rate: None }
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

    fn loss(&mut self, phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        ClipObjective.loss(phase, inputs)
    }
}
