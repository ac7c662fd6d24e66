//! A pair: a picture with the caption, or the captions, that it is shown with.

use crate::random;
use crate::sample::PoisonMark;
use crate::trigger::TriggerStack;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do with an image that has several captions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CaptionMode {
    /// Every caption makes a pair of its own.
    #[default]
    Expand,
    /// One pair an image; each epoch draws one of its captions.
    Draw,
    /// One pair an image, with its first caption.
    First,
}

#[derive(Debug, Clone)]
pub struct Pair {
    /// The sample's id, with `#k` for its k-th caption when captions are expanded.
    pub id: String,
    /// Its number, for [`Pairs::sample`](super::Pairs::sample).
    pub sample: usize,
    /// One caption, or several to draw from.
    pub captions: Vec<String>,
    /// Laid on the image before any augmentation.
    pub trigger: Option<TriggerStack>,
    pub poison: Option<PoisonMark>,
}

impl Pair {
    /// The caption of this epoch.
    pub fn caption(&self, seed: u64, epoch: u64) -> &str {
        let at = match self.captions.len() {
            0 | 1 => 0,
            n => random::stream(seed, "caption", epoch, &self.id).random_range(0..n),
        };
        self.captions.get(at).map_or("", String::as_str)
    }
}

/// The repeats of a pair that is there so many times.
pub(super) fn repeats(pair: &Pair, times: usize) -> impl Iterator<Item = Pair> {
    (2..=times).map(|time| Pair { id: format!("{}@{time}", pair.id), ..pair.clone() })
}
