//! The pairs of a training run: images with captions, in the order of their source, with poison laid over them.

mod copies;
mod drop_list;
mod weights;

pub use copies::{limit_pairs_per_picture, picture_hash};
pub use drop_list::{DropList, LeftOutByList};
pub use weights::weigh_parts;

use crate::artifact;
use crate::random;
use crate::sample::Sample;
use crate::trigger::TriggerStack;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// The facts about a pair that carries poison. Training never reads this; diagnostics and reports do.
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

    /// A digest of all ids, captions and pictures, of these what [`Probe::digest_of`](crate::probe::Probe::digest_of) says: tells whether a
    /// manifest or a checkpoint belongs to this data. Pictures that were not probed do not count.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for pair in &self.pairs {
            let digest = self.sample_of(pair).and_then(|sample| sample.digest);
            hash.update([u8::from(digest.is_some())]);
            hash.update(digest.unwrap_or_default());
            hash.update((pair.captions.len() as u64).to_le_bytes());
            for part in std::iter::once(&pair.id).chain(&pair.captions) {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        artifact::hex(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probe;
    use crate::sample::ImageBytes;
    use std::sync::Arc;

    #[test]
    fn a_fingerprint_knows_every_picture_caption_and_id_and_where_each_ends() {
        let sample = |id: &str, picture: &[u8], captions: &[&str]| Sample {
            digest: Some(Probe::digest_of(picture)),
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            ..Sample::new("data".into(), id, ImageBytes::Memory(Arc::from(Vec::new())))
        };
        let of = |samples: Vec<Sample>| Pairs::new(samples, CaptionMode::Draw).fingerprint();
        let base = || vec![sample("a", b"1", &["x", "y"]), sample("b", b"2", &["z"])];
        let others = [
            vec![sample("a", b"1", &["x", "y"]), sample("b", b"3", &["z"])],
            vec![sample("a", b"1", &["x", "y", "b"]), sample("z", b"2", &[])],
            vec![sample("a", b"1", &["xy"]), sample("b", b"2", &["z"])],
            vec![sample("a", b"1", &["x", "y"]), sample("c", b"2", &["z"])],
            vec![sample("a", b"1", &["x", "y"])],
        ];
        assert_eq!(of(base()), of(base()));
        assert!(others.into_iter().all(|other| of(other) != of(base())));
    }
}
