//! The plain CLIP objective (arXiv 2103.00020, figure 3).

use crate::error::Result;
use crate::objective::{LossOutput, Objective, Pass, Phase, StepInputs, info_nce};

pub struct ClipObjective;

impl Objective for ClipObjective {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn passes(&self, epoch: u64) -> Vec<Pass> {
        vec![Pass::whole(self.phase(epoch))]
    }

    fn phase(&self, _epoch: u64) -> Phase {
        Phase::Clip
    }

    fn loss(&mut self, _phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        Ok(LossOutput { loss: info_nce(inputs.image, inputs.text, inputs.scale), matches: Vec::new() })
    }
}
