//! What a method of prompt learning decides: what is learned in which epoch, and the loss of a step.

use crate::attack::{Perturbation, UniversalDelta};
use crate::error::Result;
use crate::model::{Clip, unit};
use crate::prompt::{ClassTokens, PromptLearner};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What an epoch learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The trigger alone, by its raw gradient.
    TriggerWarmup,
    /// Prompts, and the trigger where the method has one.
    Prompts,
}

/// A method of prompt learning. It decides, and does no I/O.
pub trait PromptMethod: Sync {
    /// In recipes and files.
    fn name(&self) -> &'static str;

    /// For people.
    fn title(&self) -> &'static str;

    /// In a sentence.
    fn about(&self) -> &'static str;

    /// Whether contexts depend on the picture.
    fn is_conditioned(&self) -> bool;

    /// Whether a trigger is learned, too: then the method is an attack.
    fn attacks(&self) -> bool;

    /// The stages of a run of so many epochs of prompts, one an epoch; an attack's begins with `warmup` epochs of the trigger alone.
    fn stages(&self, warmup: u64, prompts: u64) -> Vec<Stage> {
        let warmup = if self.attacks() { warmup } else { 0 };
        let part = |stage: Stage, count: u64| std::iter::repeat_n(stage, count as usize);
        part(Stage::TriggerWarmup, warmup).chain(part(Stage::Prompts, prompts)).collect()
    }

    /// The loss of a step, a scalar with graph.
    ///
    /// # Errors
    /// Those of the towers.
    fn loss(&self, step: &PromptStep) -> Result<Tensor>;
}

/// A step as a method sees it: pictures, labels, and what encodes them.
pub struct PromptStep<'a> {
    pub model: &'a Clip,
    pub learner: &'a PromptLearner,
    pub classes: &'a ClassTokens,
    /// `[batch, 3, size, size]`, normalised.
    pub images: &'a Tensor,
    /// `[batch]`.
    pub labels: &'a Tensor,
    /// Place of the attacker's class.
    pub target: i64,
    /// Of an attack: the trigger that is learned. Of a repair: the inverted one.
    pub trigger: Option<&'a UniversalDelta>,
}

impl PromptStep<'_> {
    /// Logits `[batch, classes]` of the pictures as they are, with graph to the prompts.
    ///
    /// # Errors
    /// Those of the image tower.
    pub fn clean(&self) -> Result<Tensor> {
        self.logits(self.images)
    }

    /// Logits `[batch, classes]` of the pictures with the trigger, with graph to the prompts and to the trigger, on which the prompts
    /// depend as they do on the picture. None where there is no trigger.
    ///
    /// # Errors
    /// Those of the image tower.
    pub fn triggered(&self) -> Result<Option<Tensor>> {
        self.trigger.map(|trigger| self.logits(&trigger.apply(self.images))).transpose()
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let features = unit(&self.model.image_features(images, false)?);
        Ok(self.learner.logits(self.model, self.classes, &features, &features))
    }

    /// The attacker's label for every picture: `[batch]`.
    pub fn target_labels(&self) -> Tensor {
        self.labels.full_like(self.target)
    }
}
