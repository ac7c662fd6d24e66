//! The plain CLIP objective (arXiv 2103.00020, figure 3).

use crate::error::Result;
use crate::objective::{LossOutput, Objective, Phase, StepInputs, info_nce};

pub struct ClipObjective;

impl Objective for ClipObjective {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn loss(&mut self, _phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        Ok(LossOutput { loss: info_nce(inputs.image, inputs.text, inputs.scale), matches: Vec::new() })
    }
}
