//! EDA text augmentation (RoCLIP repository, `utils/eda.py`): exactly one of synonym replacement, random insertion, random
//! swap and random deletion per caption.
//!
//! Ours where the released code cannot be repeated or crashes: synonyms come sorted and from a stream per (sample, epoch), and
//! a caption without letters is kept as it is.

use crate::error::Result;
use crate::language::{STOP_WORDS, Synonyms};
use crate::random::{self, Stream};
use crate::tokenizer::Tokenizer;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Share of words that an operation touches, and the chance that deletion drops a word.
const ALPHA: f64 = 0.1;

/// When an augmented caption is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum TextRefresh {
    /// In each epoch.
    #[default]
    PerEpoch,
    /// Once for the whole run, as released.
    FrozenOnce,
}

/// Changes one thing in each caption at random (EDA): a synonym, an inserted, swapped or deleted word.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct TextAugmentConfig {
    /// When a caption is changed anew.
    pub refresh: TextRefresh,
}

#[derive(Clone)]
pub struct TextAugment {
    config: TextAugmentConfig,
    synonyms: Arc<Synonyms>,
}

impl TextAugment {
    pub fn new(config: TextAugmentConfig) -> Result<Self> {
        Ok(TextAugment { config, synonyms: Arc::new(Synonyms::built_in()?) })
    }

    /// The caption as training sees it in `epoch`.
    pub fn apply(&self, caption: &str, seed: u64, epoch: u64, id: &str) -> String {
        let epoch = match self.config.refresh {
            TextRefresh::PerEpoch => epoch,
            TextRefresh::FrozenOnce => 0,
        };
        let mut random = random::stream(seed, "text-augment", epoch, id);
        let words: Vec<String> = clean(caption).split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        if words.is_empty() {
            return caption.to_owned();
        }
        let changes = ((ALPHA * words.len() as f64) as usize).max(1);
        // Keeping one of four shuffled candidates is the same as drawing the operation first.
        let changed = match random.random_range(0..4) {
            0 => self.replace(words, changes, &mut random),
            1 => self.insert(words, changes, &mut random),
            2 => swap(words, changes, &mut random),
            _ => delete(words, &mut random),
        };
        changed.join(" ")
    }

    /// Share of the synonyms drawn for the words of `captions` that the tokenizer's compact vocabulary lacks, in whole or in part. 0 for the full
    /// vocabulary.
    pub fn unknown_share(&self, tokenizer: &Tokenizer, captions: impl Iterator<Item = impl AsRef<str>>) -> f64 {
        let Some(vocabulary) = tokenizer.compact() else { return 0.0 };
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for caption in captions {
            for word in clean(caption.as_ref()).split(' ').filter(|word| !word.is_empty()) {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
        let (mut unknown, mut all) = (0.0, 0.0);
        for (word, count) in counts {
            let synonyms = self.synonyms.of(&word);
            let lacks = |synonym: &&String| !tokenizer.tokens(synonym).iter().all(|id| vocabulary.keeps(*id));
            if !synonyms.is_empty() {
                unknown += count as f64 * synonyms.iter().filter(lacks).count() as f64 / synonyms.len() as f64;
                all += count as f64;
            }
        }
        if all > 0.0 { unknown / all } else { 0.0 }
    }

    fn replace(&self, mut words: Vec<String>, changes: usize, random: &mut Stream) -> Vec<String> {
        let mut candidates: Vec<String> = words.iter().filter(|w| !STOP_WORDS.contains(&w.as_str())).cloned().collect();
        candidates.sort();
        candidates.dedup();
        candidates.shuffle(random);
        let mut replaced = 0;
        for candidate in candidates {
            if let Some(synonym) = self.synonyms.of(&candidate).choose(random) {
                for word in words.iter_mut().filter(|w| **w == candidate) {
                    word.clone_from(synonym);
                }
                replaced += 1;
            }
            if replaced >= changes {
                break;
            }
        }
        words
    }

    fn insert(&self, mut words: Vec<String>, changes: usize, random: &mut Stream) -> Vec<String> {
        for _ in 0..changes {
            for _ in 0..10 {
                let Some(word) = words.choose(random) else { break };
                // The released code takes the first of an unordered set, which is a random one.
                if let Some(synonym) = self.synonyms.of(word).choose(random) {
                    let at = random.random_range(0..words.len());
                    words.insert(at, synonym.clone());
                    break;
                }
            }
        }
        words
    }
}

fn swap(mut words: Vec<String>, changes: usize, random: &mut Stream) -> Vec<String> {
    for _ in 0..changes {
        let first = random.random_range(0..words.len());
        let second = (0..3).map(|_| random.random_range(0..words.len())).find(|second| *second != first);
        if let Some(second) = second {
            words.swap(first, second);
        }
    }
    words
}

fn delete(words: Vec<String>, random: &mut Stream) -> Vec<String> {
    if words.len() == 1 {
        return words;
    }
    let kept: Vec<String> = words.iter().filter(|_| random.random::<f64>() > ALPHA).cloned().collect();
    if kept.is_empty() { words.choose(random).cloned().into_iter().collect() } else { kept }
}

/// Lower case, letters and single spaces only.
fn clean(caption: &str) -> String {
    let mut out = String::with_capacity(caption.len());
    for c in caption.chars().filter(|c| !matches!(c, '\'' | '’')).flat_map(char::to_lowercase) {
        let c = if c.is_ascii_lowercase() { c } else { ' ' };
        if c != ' ' || !(out.is_empty() || out.ends_with(' ')) {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{CompactVocabulary, Truncate};

    fn augment() -> TextAugment {
        TextAugment::new(TextAugmentConfig::default()).unwrap()
    }

    #[test]
    fn cleaning_follows_the_released_rules() {
        assert_eq!(clean("  Don't-stop\tthe 3 DOGS!"), "dont stop the dogs");
        assert_eq!(clean("123 ?!"), "");
    }

    #[test]
    fn captions_without_letters_are_kept() {
        assert_eq!(augment().apply("123 ?!", 0, 1, "a"), "123 ?!");
    }

    #[test]
    fn a_caption_depends_on_seed_epoch_and_id_alone_and_frozen_ones_not_on_the_epoch() {
        let caption = "a large dog runs over the green grass near the old house";
        let fresh = augment();
        let all: std::collections::BTreeSet<_> = (0..40).map(|epoch| fresh.apply(caption, 0, epoch, "a")).collect();
        assert!(all.len() > 20, "{all:?}");
        assert_eq!(fresh.apply(caption, 0, 3, "a"), fresh.apply(caption, 0, 3, "a"));
        let frozen = TextAugment::new(TextAugmentConfig { refresh: TextRefresh::FrozenOnce }).unwrap();
        assert_eq!(frozen.apply(caption, 0, 1, "a"), frozen.apply(caption, 0, 9, "a"));
    }

    #[test]
    fn operations_keep_their_promises() {
        let words: Vec<String> = "one two three four".split(' ').map(str::to_owned).collect();
        let mut random = random::stream(0, "test", 0, "");
        for _ in 0..100 {
            assert_eq!(swap(words.clone(), 1, &mut random).len(), 4);
            assert!(!delete(words.clone(), &mut random).is_empty());
        }
        assert_eq!(delete(vec!["one".into()], &mut random), ["one"]);
    }

    #[test]
    fn synonyms_outside_of_a_compact_vocabulary_are_said() {
        let full = || Tokenizer::new(77, Truncate::KeepEot).unwrap();
        let captions = ["a large dog", "a big house"];
        assert_eq!(augment().unknown_share(&full(), captions.into_iter()), 0.0);
        let compact = CompactVocabulary::build(&full(), captions.into_iter());
        let unknown = augment().unknown_share(&full().with_compact(Some(compact)), captions.into_iter());
        assert!((0.5..1.0).contains(&unknown), "{unknown}");
        let all: Vec<String> =
            captions.iter().flat_map(|c| c.split(' ')).flat_map(|w| augment().synonyms.of(w).to_vec()).collect();
        let compact = CompactVocabulary::build(&full(), all.iter().map(String::as_str));
        assert_eq!(augment().unknown_share(&full().with_compact(Some(compact)), captions.into_iter()), 0.0);
    }
}
