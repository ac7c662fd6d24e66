//! The plain CLIP objective (arXiv 2103.00020, figure 3).

use crate::error::Result;
use crate::objective::{BatchView, LossOutput, Objective, Phase, Towers, info_nce_of};
use tch::Tensor;

/// Symmetric InfoNCE between images and their captions. Methods that change only what it sees train it under their own names.
pub struct ClipObjective {
    name: &'static str,
}

impl ClipObjective {
    /// `name` stands in checkpoints and results.
    pub const fn named(name: &'static str) -> Self {
        ClipObjective { name }
    }

    /// The loss of the first view.
    pub fn first_view_loss(towers: &dyn Towers) -> Result<Tensor> {
        let text = towers.text(BatchView::First)?;
        Ok(info_nce_of(&towers.image(BatchView::First)?, &text, &towers.scale(), towers.own_rows()))
    }
}

impl Default for ClipObjective {
    fn default() -> Self {
        ClipObjective::named("clip")
    }
}

impl Objective for ClipObjective {
    fn name(&self) -> &'static str {
        self.name
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        Ok(LossOutput { loss: ClipObjective::first_view_loss(towers)?, matches: None })
    }
}
