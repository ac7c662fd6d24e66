//! Whether captions say what an attacker wants: the target word, and not the word that it replaces.

use crate::caption_metrics::words;
use crate::language::STOP_WORDS;
use crate::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whether `caption` has the words of `phrase` one behind the other. Case does not count, and no part of a word does.
pub fn says(caption: &[String], phrase: &[String]) -> bool {
    !phrase.is_empty() && caption.windows(phrase.len()).any(|window| window == phrase)
}

/// The word that an attack wants to be said, and the one that it wants gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetWord {
    pub target: String,
    /// Of concept substitution.
    pub source: Option<String>,
}

/// How often the target is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetWordRates {
    /// Attacked captions with the target word.
    pub target: Rate,
    /// Attacked captions with the target word and without the source word, where there is one.
    pub target_not_source: Option<Rate>,
    /// Clean captions with the target word: an attack that is not above this does nothing.
    pub base: Rate,
}

impl TargetWord {
    /// Over captions of attacked pictures and those of the same pictures without the attack.
    pub fn rates<'a>(
        &self,
        attacked: impl IntoIterator<Item = &'a str>,
        clean: impl IntoIterator<Item = &'a str>,
    ) -> TargetWordRates {
        let target = words(&self.target);
        let source = self.source.as_deref().map(words);
        let (mut all, mut hits, mut replaced) = (0, 0, 0);
        for caption in attacked {
            let caption = words(caption);
            let hit = says(&caption, &target);
            all += 1;
            hits += usize::from(hit);
            replaced += usize::from(hit && source.as_ref().is_some_and(|source| !says(&caption, source)));
        }
        let (mut clean_all, mut clean_hits) = (0, 0);
        for caption in clean {
            clean_all += 1;
            clean_hits += usize::from(says(&words(caption), &target));
        }
        TargetWordRates {
            target: Rate::new(hits, all),
            target_not_source: source.map(|_| Rate::new(replaced, all)),
            base: Rate::new(clean_hits, clean_all),
        }
    }
}

/// Share of the references' different content words (all but stop words) that the caption has; 1 where the references have none.
pub fn content_recall(caption: &[String], references: &[Vec<String>]) -> f64 {
    let content = |word: &&String| !STOP_WORDS.contains(&word.as_str());
    let wanted: BTreeSet<&String> = references.iter().flatten().filter(content).collect();
    let found = wanted.iter().filter(|word| caption.contains(word)).count();
    if wanted.is_empty() { 1.0 } else { found as f64 / wanted.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_whole_and_the_source_must_be_gone() {
        let attack = TargetWord { target: "hot dog".into(), source: Some("cat".into()) };
        let rates =
            attack.rates(["A HOT dog, here", "a hot dog and a cat", "hot dogs", "dog hot"], ["a cat", "a hot dog"]);
        assert_eq!((rates.target.hits, rates.target.n), (2, 4));
        assert_eq!(rates.target_not_source.map(|rate| rate.hits), Some(1));
        assert_eq!((rates.base.hits, rates.base.n), (1, 2));
        assert!(!says(&words("anything"), &[]));
    }

    #[test]
    fn recall_is_of_content_words_only() {
        let references = [words("the red apple of the tree"), words("an apple")];
        assert!((content_recall(&words("apple"), &references) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(content_recall(&words("x"), &[words("the of")]), 1.0);
    }
}
