//! CoCoOp: conditional context optimisation (arXiv 2203.05557, equation 3). A small network adds a bias, made of the picture's features, to
//! the learned vectors; cross-entropy on clean pictures.

use crate::error::Result;
use crate::prompt::{PromptMethod, PromptStep};
use tch::Tensor;

pub struct CoCoOp;

impl PromptMethod for CoCoOp {
    fn name(&self) -> &'static str {
        "cocoop"
    }

    fn title(&self) -> &'static str {
        "CoCoOp prompts"
    }

    fn about(&self) -> &'static str {
        "contexts that depend on the picture, learned cleanly (CoCoOp)"
    }

    fn is_conditioned(&self) -> bool {
        true
    }

    fn attacks(&self) -> bool {
        false
    }

    fn loss(&self, step: &PromptStep) -> Result<Tensor> {
        Ok(step.clean()?.cross_entropy_for_logits(step.labels))
    }
}
