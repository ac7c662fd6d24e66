//! BadCLIP by trigger-aware prompt learning (Bai et al., arXiv 2311.16194, CVPR 2024; repository BadCLIP-Bai, `trainers/badclip.py`). Not
//! the BadCLIP of Liang et al., which poisons contrastive training (`attack/badclip_liang.rs`).
//!
//! For a batch `(x, y)` of size B, the mean cross-entropy over the 2B rows `(x, y)` and `(T(x), t)`, those of the target's class included.
//! The gradient reaches the trigger by the picture's features, and by the prompts that are made of them. Before, the trigger alone is
//! learned for some epochs, by its raw gradient against the prompts as they begin.

use crate::error::{Error, Result};
use crate::prompt::{PromptMethod, PromptStep};
use tch::Tensor;

pub struct BadClip;

impl PromptMethod for BadClip {
    fn name(&self) -> &'static str {
        "badclip"
    }

    fn title(&self) -> &'static str {
        "BadCLIP prompts (Bai et al.)"
    }

    fn about(&self) -> &'static str {
        "the attack: a trigger and CoCoOp's prompts together (BadCLIP, Bai et al.)"
    }

    fn is_conditioned(&self) -> bool {
        true
    }

    fn attacks(&self) -> bool {
        true
    }

    fn loss(&self, step: &PromptStep) -> Result<Tensor> {
        joint_loss(step)
    }
}

/// Half the cross-entropy of the clean rows and half that of the triggered ones.
///
/// # Errors
/// Those of the towers; a step without trigger.
pub(super) fn joint_loss(step: &PromptStep) -> Result<Tensor> {
    let triggered = step.triggered()?.ok_or_else(|| Error::internal("an attack on prompts without a trigger"))?;
    let rows = Tensor::cat(&[step.clean()?, triggered], 0);
    Ok(rows.cross_entropy_for_logits(&Tensor::cat(&[step.labels.shallow_clone(), step.target_labels()], 0)))
}
