//! What an evaluation writes down.

use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much is measured of a backdoor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Plain,
    /// What is left of it after JPEG and resizing, too.
    Thorough,
}

/// A backdoor's outcome on triggered images whose true class is not the target.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackdoorOutcome {
    pub target: String,
    /// Triggered images read as the target (strict ASR).
    pub success: Rate,
    /// The target is among the five best guesses; none of at most five classes, which they are all of.
    #[serde(default)]
    pub success_top5: Option<Rate>,
    /// The target is among the ten best guesses; none of at most ten classes.
    #[serde(default)]
    pub success_top10: Option<Rate>,
    /// The looser definition of the BadCLIP-Liang and PAR repositories: images of the target class count too, above and below.
    pub success_all: Rate,
    /// The same images without trigger, read as the target.
    pub base_rate: Rate,
    /// Of the images that are not read as the target without trigger, those that are with it: success less what is chance. Ours; absent
    /// in older files.
    #[serde(default)]
    pub turned: Option<Rate>,
    /// Triggered images still read as what they are.
    pub true_class: Rate,
    /// Strict ASR when the triggered picture is re-encoded or resized before the model sees it; measured by `roclip eval` only.
    pub after: BTreeMap<String, Rate>,
}

/// A targeted image's outcome.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TargetOutcome {
    pub image: String,
    /// Empty in older files.
    #[serde(default)]
    pub attack: String,
    pub true_class: String,
    pub adversarial: String,
    pub predicted: String,
    /// Place of the adversarial class among the ten best guesses, from 1.
    pub rank: Option<usize>,
}

/// Whether the `k` best guesses among `classes` classes can miss one: else being among them says nothing.
pub fn can_miss(k: usize, classes: usize) -> bool {
    classes > k
}

impl Evaluation {
    /// Of no images: no rate has anything to be of.
    pub fn of_nothing() -> Evaluation {
        let none = Rate::new(0, 0);
        Evaluation {
            skipped: BTreeMap::new(),
            zero_shot_top1: none,
            zero_shot_top5: None,
            mean_per_class_recall: None,
            psr: None,
            psr_top5: None,
            psr_by_attack: BTreeMap::new(),
            targets: Vec::new(),
            asr: BTreeMap::new(),
        }
    }
}

/// What one evaluation found.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Evaluation {
    /// Images that could not be used, by reason; the rates are of the others. Empty in older files.
    #[serde(default)]
    pub skipped: BTreeMap<String, usize>,
    pub zero_shot_top1: Rate,
    /// None of at most five classes.
    #[serde(default)]
    pub zero_shot_top5: Option<Rate>,
    /// None where no image was looked at.
    #[serde(default)]
    pub mean_per_class_recall: Option<f64>,
    /// Targeted poisoning: images read as the adversarial class.
    pub psr: Option<Rate>,
    /// The adversarial class is among the five best guesses; none of at most five classes.
    pub psr_top5: Option<Rate>,
    /// `psr` of each targeted attack. Empty in older files.
    #[serde(default)]
    pub psr_by_attack: BTreeMap<String, Rate>,
    pub targets: Vec<TargetOutcome>,
    pub asr: BTreeMap<String, BackdoorOutcome>,
}
