//! A small vocabulary for small data sets: only the byte-pair tokens that the data uses, renumbered.
//!
//! The embedding table is most of a small text tower; with 49,408 rows nearly all of it would never be trained.

use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Ids: 0 is padding, `1..=n` the kept tokens in order, then unknown, start, end. The end keeps the largest id, because CLIP
/// pools at the largest.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct CompactVocabulary {
    /// Sorted ids of the full vocabulary.
    kept: Vec<i64>,
}

const FULL_START: i64 = 49_406;
const FULL_END: i64 = 49_407;

impl CompactVocabulary {
    /// Tokens of the full vocabulary.
    pub const FULL_SIZE: i64 = FULL_END + 1;

    /// The tokens of all `texts`.
    pub fn build(tokenizer: &Tokenizer, texts: impl Iterator<Item = impl AsRef<str>>) -> Self {
        let kept: BTreeSet<i64> =
            texts.flat_map(|text| tokenizer.tokens(text.as_ref())).filter(|id| *id < FULL_START).collect();
        CompactVocabulary { kept: kept.into_iter().collect() }
    }

    pub fn size(&self) -> usize {
        self.kept.len() + 4
    }

    /// Whether the ids are tokens of the full vocabulary in their order, each once: of a list that was read, anything can be said.
    pub fn is_sound(&self) -> bool {
        let (first, last) = (self.kept.first(), self.kept.last());
        self.kept.is_sorted_by(|a, b| a < b)
            && first.is_none_or(|id| *id >= 0)
            && last.is_none_or(|id| *id < FULL_START)
    }

    /// Whether a token of the full vocabulary has been kept.
    pub fn keeps(&self, id: i64) -> bool {
        self.kept.binary_search(&id).is_ok()
    }

    /// The token that stands for all that were not kept.
    pub fn unknown(&self) -> i64 {
        self.kept.len() as i64 + 1
    }

    /// The tokens of the full vocabulary, in the order of their ids here, which begin at 1.
    pub(super) fn kept(&self) -> &[i64] {
        &self.kept
    }

    pub fn map(&self, id: i64) -> i64 {
        let unknown = self.unknown();
        match id {
            FULL_START => unknown + 1,
            FULL_END => unknown + 2,
            _ => self.kept.binary_search(&id).map_or(unknown, |at| at as i64 + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_was_read_must_be_sorted_tokens_each_once() {
        let sound = |kept: &[i64]| CompactVocabulary { kept: kept.to_vec() }.is_sound();
        assert!(sound(&[]) && sound(&[0, 7, 49_405]));
        for kept in [&[3, 3][..], &[7, 3], &[-1, 3], &[3, 49_406]] {
            assert!(!sound(kept), "{kept:?}");
        }
    }
}
