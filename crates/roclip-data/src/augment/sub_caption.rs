//! Sub-captions for TA-Cleaner (arXiv 2409.17601): what a caption says at its core, and a caption that says something else.
//!
//! The paper's tool is not known. Ours is a rule over WordNet's most frequent part of speech of each word:
//! - the positive drops adjectives and adverbs and keeps the first noun of a list, so "a red apple, a banana and bread on a blue table"
//!   becomes "a apple on a table";
//! - the counterfactual replaces one adjective, noun or verb by another of the vocabulary, the words of the trusted captions.

use crate::error::Result;
use crate::language::{PartOfSpeech, PartsOfSpeech};
use crate::random::Stream;
use rand::seq::IndexedRandom;
use std::collections::{BTreeMap, BTreeSet};

/// A caption and its two companions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubCaption {
    pub positive: String,
    pub counterfactual: String,
}

pub struct SubCaptions {
    parts: PartsOfSpeech,
    vocabulary: BTreeMap<PartOfSpeech, Vec<String>>,
}

/// A word, without and with what surrounds it.
struct Word<'a> {
    bare: String,
    written: &'a str,
    /// None for function words and words that WordNet lacks.
    part: Option<PartOfSpeech>,
}

impl SubCaptions {
    /// `captions` give the vocabulary of counterfactuals.
    pub fn new(captions: impl Iterator<Item = impl AsRef<str>>) -> Result<Self> {
        let mut sub_captions = SubCaptions { parts: PartsOfSpeech::built_in()?, vocabulary: BTreeMap::new() };
        let mut words: BTreeMap<PartOfSpeech, BTreeSet<String>> = BTreeMap::new();
        for caption in captions {
            for word in sub_captions.words(caption.as_ref()) {
                if let Some(part) = word.part {
                    words.entry(part).or_default().insert(word.bare);
                }
            }
        }
        sub_captions.vocabulary = words.into_iter().map(|(part, set)| (part, set.into_iter().collect())).collect();
        Ok(sub_captions)
    }

    /// None where nothing can be replaced.
    pub fn of(&self, caption: &str, random: &mut Stream) -> Option<SubCaption> {
        let words = self.words(caption);
        let counterfactual = self.counterfactual(&words, random)?;
        Some(SubCaption { positive: positive(&words), counterfactual })
    }

    fn words<'a>(&self, caption: &'a str) -> Vec<Word<'a>> {
        let word = |written: &'a str| {
            let bare = written.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            let part = self.parts.of(&bare);
            Word { bare, written, part }
        };
        caption.split_whitespace().map(word).collect()
    }

    fn counterfactual(&self, words: &[Word], random: &mut Stream) -> Option<String> {
        let others = |word: &Word| -> Vec<&String> {
            let part = word.part.filter(|part| *part != PartOfSpeech::Adverb);
            let known = part.and_then(|part| self.vocabulary.get(&part));
            known.into_iter().flatten().filter(|other| **other != word.bare).collect()
        };
        let replaceable: Vec<usize> =
            words.iter().enumerate().filter(|(_, word)| !others(word).is_empty()).map(|(at, _)| at).collect();
        let at = *replaceable.choose(random)?;
        let new = words.get(at).map(others)?.choose(random).map(|word| (*word).clone())?;
        let text = words.iter().enumerate().map(|(n, word)| if n == at { new.as_str() } else { word.written });
        Some(text.collect::<Vec<_>>().join(" "))
    }
}

fn positive(words: &[Word]) -> String {
    let described = |word: &&Word| !matches!(word.part, Some(PartOfSpeech::Adjective | PartOfSpeech::Adverb));
    let mut kept: Vec<&str> = Vec::new();
    let mut in_list = false;
    for word in words.iter().filter(described) {
        let joins = matches!(word.bare.as_str(), "and" | "or" | "");
        let article = matches!(word.bare.as_str(), "a" | "an" | "the" | "some");
        let noun = word.part == Some(PartOfSpeech::Noun);
        // Once a noun was followed by a comma or "and", more nouns are the same list.
        if in_list && (joins || article || noun) {
            continue;
        }
        in_list = joins || (noun && word.written.ends_with(','));
        if !joins {
            kept.push(word.bare.as_str());
        }
    }
    if kept.is_empty() { words.iter().map(|word| word.written).collect::<Vec<_>>().join(" ") } else { kept.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn the_positive_keeps_nouns_and_relations_and_the_counterfactual_changes_one_word() {
        let caption = "A red apple, a banana and bread on a blue table";
        let sub_captions = SubCaptions::new(["green pears near a wooden house", caption].into_iter()).unwrap();
        for seed in 0..20 {
            let made = sub_captions.of(caption, &mut random::stream(seed, "test", 0, "")).unwrap();
            assert_eq!(made.positive, "a apple on a table");
            let (old, new): (Vec<&str>, Vec<&str>) =
                (caption.split(' ').collect(), made.counterfactual.split(' ').collect());
            let changed: Vec<_> = old.iter().zip(&new).filter(|(old, new)| old != new).collect();
            assert_eq!((old.len(), changed.len()), (new.len(), 1), "{}", made.counterfactual);
            assert!(!["A", "a", "on", "and"].contains(changed[0].0));
        }
    }

    #[test]
    fn a_caption_without_known_words_has_none() {
        let sub_captions = SubCaptions::new(["red apples"].into_iter()).unwrap();
        let mut random = random::stream(0, "test", 0, "");
        assert_eq!(sub_captions.of("qqqq 123 of", &mut random), None);
        assert_eq!(sub_captions.of("", &mut random), None);
    }
}
