//! The plain CLIP objective (arXiv 2103.00020, figure 3).

use crate::error::Result;
use crate::objective::{EncodeCaptions, LossOutput, Objective, Phase, StepInputs, TextTraining, info_nce};
use std::collections::BTreeMap;
use tch::Tensor;

pub struct ClipObjective;

impl Objective for ClipObjective {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn phase(&self, _epoch: u64) -> Phase {
        Phase::Clip
    }

    fn text_training(&self, _phase: Phase) -> TextTraining {
        TextTraining::Full
    }

    fn begin_epoch(&mut self, _epoch: u64, _pairs: usize, _encode: &mut EncodeCaptions) -> Result<()> {
        Ok(())
    }

    fn loss(&mut self, _phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        Ok(LossOutput { loss: info_nce(inputs.image, inputs.text, inputs.scale), matches: Vec::new() })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    fn load_state(&mut self, _state: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
