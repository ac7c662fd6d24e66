//! Repair after CLIP-Inspector (arXiv 2604.09101; the abstract has the idea, the details are ours): the prompts of a delivered learner are
//! tuned on pictures with the trigger that inversion found, and their right labels, beside the same pictures without it.

use crate::error::{Error, Result};
use crate::prompt::{PromptMethod, PromptStep};
use tch::Tensor;

pub struct Repair;

impl PromptMethod for Repair {
    fn name(&self) -> &'static str {
        "repair"
    }

    fn title(&self) -> &'static str {
        "repaired prompts"
    }

    fn about(&self) -> &'static str {
        "a learner tuned on pictures with an inverted trigger and their right labels"
    }

    /// The learner that is repaired says it.
    fn is_conditioned(&self) -> bool {
        true
    }

    fn attacks(&self) -> bool {
        false
    }

    fn loss(&self, step: &PromptStep) -> Result<Tensor> {
        let inverted = step.triggered()?.ok_or_else(|| Error::internal("a repair without an inverted trigger"))?;
        let labels = Tensor::cat(&[step.labels, step.labels], 0);
        Ok(Tensor::cat(&[step.clean()?, inverted], 0).cross_entropy_for_logits(&labels))
    }
}
