//! The pairs of a training run: images with captions, in the order of their source, with poison laid over them.

mod copies;

pub use copies::{limit_pairs_per_picture, picture_hash};

use crate::artifact;
use crate::random;
use crate::sample::Sample;
use crate::trigger::TriggerStack;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What to do with an image that has several captions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
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

/// What is known of a pair that carries poison. Training never reads this; diagnostics and reports do.
#[derive(Debug, Clone)]
pub struct PoisonMark {
    pub attack: String,
    /// The class that the attacker wants.
    pub target: String,
}

#[derive(Debug, Clone)]
pub struct Pair {
    /// The sample's id, with `#k` for its k-th caption when captions are expanded.
    pub id: String,
    /// Index into [`Pairs::samples`].
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

#[derive(Debug, Clone)]
pub struct Pairs {
    pub samples: Vec<Sample>,
    pub pairs: Vec<Pair>,
}

impl Pairs {
    pub fn new(samples: Vec<Sample>, mode: CaptionMode) -> Self {
        let mut pairs = Vec::new();
        for (index, sample) in samples.iter().enumerate() {
            let pair =
                |id: String, captions: Vec<String>| Pair { id, sample: index, captions, trigger: None, poison: None };
            match mode {
                CaptionMode::Expand if sample.captions.len() > 1 => {
                    let numbered = sample.captions.iter().enumerate();
                    pairs
                        .extend(numbered.map(|(k, caption)| pair(format!("{}#{k}", sample.id), vec![caption.clone()])));
                }
                CaptionMode::Draw => pairs.push(pair(sample.id.clone(), sample.captions.clone())),
                _ => pairs.push(pair(sample.id.clone(), sample.captions.iter().take(1).cloned().collect())),
            }
        }
        Pairs { samples, pairs }
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The sample that a pair shows.
    pub fn sample_of(&self, pair: &Pair) -> Option<&Sample> {
        self.samples.get(pair.sample)
    }

    /// A digest of all ids and captions: says whether a manifest or a checkpoint belongs to this data.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for pair in &self.pairs {
            for part in std::iter::once(&pair.id).chain(&pair.captions) {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        artifact::hex(&hash.finalize())
    }
}
