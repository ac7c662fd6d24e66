//! CoOp: context optimisation (arXiv 2109.01134, equation 3, unified contexts). The same learned vectors before every class name, whatever
//! the picture; cross-entropy on clean pictures.

use crate::error::Result;
use crate::prompt::{PromptMethod, PromptStep};
use tch::Tensor;

pub struct CoOp;

impl PromptMethod for CoOp {
    fn name(&self) -> &'static str {
        "coop"
    }

    fn title(&self) -> &'static str {
        "CoOp prompts"
    }

    fn about(&self) -> &'static str {
        "static contexts, learned cleanly (CoOp)"
    }

    fn is_conditioned(&self) -> bool {
        false
    }

    fn attacks(&self) -> bool {
        false
    }

    fn loss(&self, step: &PromptStep) -> Result<Tensor> {
        Ok(step.clean()?.cross_entropy_for_logits(step.labels))
    }
}
