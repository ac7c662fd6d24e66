//! The control of BadCLIP without its text path: the same loss, but the contexts are static (CoOp), so that a trigger moves the picture's
//! features alone. BAPLe (arXiv 2408.07440) is its published counterpart, with a patch besides.

use crate::error::Result;
use crate::prompt::badclip::joint_loss;
use crate::prompt::{PromptMethod, PromptStep};
use tch::Tensor;

pub struct ImageOnly;

impl PromptMethod for ImageOnly {
    fn name(&self) -> &'static str {
        "image-only"
    }

    fn title(&self) -> &'static str {
        "image-only trigger, CoOp prompts"
    }

    fn about(&self) -> &'static str {
        "the attack's control: a trigger and static contexts together, which no trigger can move"
    }

    fn is_conditioned(&self) -> bool {
        false
    }

    fn attacks(&self) -> bool {
        true
    }

    fn loss(&self, step: &PromptStep) -> Result<Tensor> {
        joint_loss(step)
    }
}
