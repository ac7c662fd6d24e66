//! What is measured of learned prompts, as `summary.json` holds it.

use crate::eval::{BackdoorOutcome, Evaluation};
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of one learner.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PromptMeasures {
    pub method: String,
    /// The method that made the trigger, where one is laid on: of a repaired learner its victim's, of a lent trigger the lender's. Absent in
    /// older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<String>,
    /// The attacker's class; of a clean learner, the class that the same figures are of.
    pub target: String,
    /// Classes that the prompts were learned on.
    pub seen: SideMeasures,
    /// The other classes of the data, with the target in front where they lack it.
    pub unseen: SideMeasures,
    /// Other data sets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, SideMeasures>,
    /// Of the accuracies on seen and unseen classes (CoCoOp's convention).
    pub harmonic_mean: f64,
    /// Cosine of the mean feature shifts of seen and unseen pictures; near 1 where the trigger has one direction for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift_cosine: Option<f64>,
    /// The trigger's bound, in levels of 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Mean change of the trigger's pixels in a step of the warm-up, as a share of its bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_moved: Option<f64>,
}

/// Of one class list.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct SideMeasures {
    /// Candidates, the target among them.
    pub classes: usize,
    pub accuracy: Rate,
    /// None of at most five classes.
    #[serde(default)]
    pub accuracy_top5: Option<Rate>,
    #[serde(default)]
    pub mean_per_class_recall: Option<f64>,
    /// The frozen model with the words that the contexts began as.
    pub zero_shot: Rate,
    /// Where there is a trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerMeasures>,
}

/// What a trigger does. All rates but `outcome.success_all` are strict: of pictures whose class is not the target, the share read as the target.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TriggerMeasures {
    #[serde(flatten)]
    pub outcome: BackdoorOutcome,
    /// Pictures of the target's class included, above and below, and without the trigger: the floor of the released figure.
    pub base_rate_all: Rate,
    pub branches: Branches,
    /// A random change of the same bound.
    pub random: Rate,
    /// The shift's shared direction, of the seen pictures, taken out of the triggered features.
    pub without_direction: Rate,
    /// Shifted along that direction alone.
    pub only_direction: Rate,
    /// The trigger clipped to a bound, by its levels of 255.
    pub by_eps: BTreeMap<String, Rate>,
    /// Accuracy on clean pictures after what the triggered ones go through in `outcome.after`.
    pub accuracy_after: BTreeMap<String, Rate>,
}

/// Which branch sees the trigger: the image features that are classified, and those that the prompts are made of.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub struct Branches {
    pub clean_image_clean_prompt: Rate,
    pub triggered_image_triggered_prompt: Rate,
    pub triggered_image_clean_prompt: Rate,
    pub clean_image_triggered_prompt: Rate,
}

impl PromptMeasures {
    /// What the attack is called: a repaired learner and its victim are measured by the same one.
    pub fn attack(&self) -> &str {
        self.attack.as_deref().unwrap_or(&self.method)
    }

    /// The same in the words of all evaluations: accuracy on seen classes, and the attack on either side by its name.
    pub fn evaluation(&self) -> Evaluation {
        let outcome = |side: &str, measures: &SideMeasures| {
            measures.trigger.as_ref().map(|trigger| (format!("{} {side}", self.attack()), trigger.outcome.clone()))
        };
        Evaluation {
            zero_shot_top1: self.seen.accuracy,
            zero_shot_top5: self.seen.accuracy_top5,
            mean_per_class_recall: self.seen.mean_per_class_recall,
            asr: [outcome("seen", &self.seen), outcome("unseen", &self.unseen)].into_iter().flatten().collect(),
            ..Evaluation::of_nothing()
        }
    }
}

/// Of two accuracies; 0 where both are.
pub fn harmonic_mean(a: f64, b: f64) -> f64 {
    if a + b == 0.0 { 0.0 } else { 2.0 * a * b / (a + b) }
}
