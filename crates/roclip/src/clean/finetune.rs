//! Plain CLIP on the trusted pairs: the control that every method must beat.

use crate::clean::{CleanConfig, cleanclip};
use crate::error::Result;
use crate::objective::{ClipObjective, Objective, RunShape};
use crate::train::TrainConfig;
use roclip_data::pairs::Pairs;

pub(super) struct Method;

impl super::Method for Method {
    fn name(&self) -> &'static str {
        "finetune"
    }

    fn title(&self) -> &'static str {
        "Fine-tuned on trusted pairs"
    }

    fn about(&self) -> &'static str {
        "Plain CLIP on the trusted pairs, the control"
    }

    fn training(&self) -> TrainConfig {
        cleanclip::released_training()
    }

    fn objective(
        &self,
        _clean: &CleanConfig,
        _shape: RunShape,
        _pairs: &Pairs,
        _classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        Ok(Box::new(ClipObjective::named("finetune")))
    }
}
