//! The built-in data set: emoji drawn in eight styles by independent designers (see `data/emoji/ATTRIBUTION.md`).
//!
//! Six styles are trained on (`train`, with one pair in twenty held out as `val`), `noto-v1` is the `test` style that training
//! never sees, `openmoji` (outline art) is `ood`.

use crate::error::{Error, IoContext, Result};
use crate::random;
use crate::sample::{ImageBytes, Sample};
use crate::source::kept::{Kept, Leave};
use crate::source::{Listing, Source};
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the class of an emoji is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum EmojiClasses {
    /// What is drawn.
    #[default]
    Concept,
    /// Unicode's nine groups: animals and nature, food and drink, objects, ...
    Group,
    /// Their parts: animal-mammal, food-fruit, ...
    Subgroup,
}

/// Which part of the built-in emoji set is used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct EmojiConfig {
    /// Number of concepts, drawn at random among those in the test style; 0 is all of them.
    pub concepts: usize,
    /// Seed of that draw. It is apart from the seed of the run, so that several seeds train on one data set.
    pub seed: u64,
    /// Number of the six training styles that a concept must exist in.
    pub min_train_styles: usize,
    /// Concepts that are always in the draw.
    pub include: Vec<String>,
    /// Whether flags are concepts, too. They look alike in every style and are named by geography, not by sight.
    pub flags: bool,
    /// Captions of an image, at most 6.
    pub captions: usize,
    /// Whether openmoji is trained on, the outline style that is otherwise kept for the out-of-distribution split.
    pub train_on_openmoji: bool,
    /// What the class of a picture is.
    pub classes: EmojiClasses,
}

impl EmojiConfig {
    /// This set with the concepts that `other` has.
    #[must_use]
    pub fn with_concepts_of(self, other: &EmojiConfig) -> EmojiConfig {
        let EmojiConfig { concepts, seed, min_train_styles, include, flags, .. } = other.clone();
        EmojiConfig { concepts, seed, min_train_styles, include, flags, ..self }
    }
}

impl Default for EmojiConfig {
    fn default() -> Self {
        EmojiConfig {
            concepts: 200,
            seed: 0,
            min_train_styles: 4,
            include: vec!["pizza".into()],
            flags: false,
            captions: 5,
            train_on_openmoji: false,
            classes: EmojiClasses::default(),
        }
    }
}

pub struct Emoji {
    config: EmojiConfig,
    split: Option<String>,
}

impl Emoji {
    pub fn new(config: EmojiConfig, split: Option<String>) -> Result<Self> {
        if !(1..=6).contains(&config.captions) {
            return Err(Error::setting(format!("emoji.captions is {}", config.captions), "set it from 1 to 6"));
        }
        Ok(Emoji { config, split })
    }
}

#[derive(Deserialize)]
struct Metadata {
    key: String,
    style: String,
    split: String,
    concept: String,
    group: String,
    subgroup: String,
    captions: Vec<String>,
}

impl Source for Emoji {
    fn places(&self) -> Vec<PathBuf> {
        vec![PathBuf::from("emoji")]
    }

    fn list(&self) -> Result<Listing> {
        let mut images = BTreeMap::new();
        let mut all: Vec<Metadata> = Vec::new();
        for shard in emoji_shards::SHARDS {
            let built_in = Path::new("built-in emoji shard");
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(shard));
            for entry in archive.entries().io("read", built_in)? {
                let mut entry = entry.io("read", built_in)?;
                let name = entry.path().io("read", built_in)?.to_string_lossy().into_owned();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).io("read", built_in)?;
                match name.rsplit_once('.') {
                    Some((key, "webp")) => {
                        images.insert(key.to_owned(), bytes);
                    }
                    _ => all.push(
                        serde_json::from_slice(&bytes).map_err(|e| Error::internal(format!("emoji {name}: {e}")))?,
                    ),
                }
            }
        }
        if self.config.train_on_openmoji {
            all.iter_mut().filter(|m| m.split == "ood").for_each(|m| m.split = "train".into());
        }
        let chosen = self.choose(&all)?;
        all.retain(|m| chosen.contains(&m.concept) && self.split.as_ref().is_none_or(|s| *s == m.split));
        all.sort_by(|a, b| a.key.cmp(&b.key));
        let samples = all.into_iter().filter_map(|m| {
            let bytes = images.remove(&m.key)?;
            Some(Sample {
                captions: m.captions.into_iter().take(self.config.captions).collect(),
                class: Some(match self.config.classes {
                    EmojiClasses::Concept => m.concept,
                    EmojiClasses::Group => m.group,
                    EmojiClasses::Subgroup => m.subgroup.clone(),
                }),
                group: Some(m.subgroup),
                split: Some(m.split),
                ..Sample::new("emoji".into(), m.key, ImageBytes::Memory(bytes.into()))
            })
        });
        Ok(Listing { samples: samples.collect(), ..Listing::default() })
    }

    fn write_kept(&self, _: &Leave, _: &Path) -> Result<Kept> {
        Err(Error::setting(
            "the built-in emoji are not written again",
            "leave some out while training (`roclip train --drop`)",
        ))
    }
}

impl Emoji {
    fn choose(&self, all: &[Metadata]) -> Result<BTreeSet<String>> {
        let mut styles: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut tested: BTreeSet<&str> = BTreeSet::new();
        for m in all.iter().filter(|m| self.config.flags || m.group != "flags") {
            match m.split.as_str() {
                "train" => drop(styles.entry(&m.concept).or_default().insert(&m.style)),
                "test" => drop(tested.insert(&m.concept)),
                _ => {}
            }
        }
        let enough = |c: &&str| styles.get(c).is_some_and(|s| s.len() >= self.config.min_train_styles);
        let mut candidates: Vec<&str> = tested.into_iter().filter(enough).collect();
        if self.config.concepts == 0 {
            return Ok(candidates.into_iter().map(str::to_owned).collect());
        }
        if self.config.concepts > candidates.len() {
            return Err(Error::setting(
                format!(
                    "emoji.concepts is {} but only {} concepts have {} training styles",
                    self.config.concepts,
                    candidates.len(),
                    self.config.min_train_styles
                ),
                "ask for fewer, or lower min_train_styles",
            ));
        }
        if let Some(absent) = self.config.include.iter().find(|name| !candidates.contains(&name.as_str())) {
            return Err(Error::setting(
                format!("emoji.include names `{absent}`, which is no concept of the test style"),
                "choose another name",
            ));
        }
        candidates.shuffle(&mut random::stream(self.config.seed, "emoji-concepts", 0, ""));
        let included = self.config.include.iter().map(String::as_str);
        let mut chosen: BTreeSet<String> = BTreeSet::new();
        for concept in included.chain(candidates) {
            if chosen.len() == self.config.concepts {
                break;
            }
            chosen.insert(concept.to_owned());
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_concepts_with_captions_and_a_disjoint_test_style() {
        let all = Emoji::new(EmojiConfig::default(), None).unwrap().list().unwrap().samples;
        let concepts: BTreeSet<_> = all.iter().filter_map(|s| s.class.clone()).collect();
        assert_eq!(concepts.len(), 200);
        assert!(concepts.contains("pizza"));
        let tests = all.iter().filter(|s| s.split.as_deref() == Some("test"));
        assert_eq!(tests.clone().count(), 200);
        assert!(tests.clone().all(|s| s.id.starts_with("noto-v1_")));
        assert!(all.iter().all(|s| s.captions.len() <= 5 && !s.captions.is_empty()));
    }
}
