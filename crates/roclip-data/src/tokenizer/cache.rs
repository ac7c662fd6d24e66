//! Words and their tokens, as many as a few megabytes hold.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock};

/// Workers that look up different words seldom wait for each other.
const SHARDS: usize = 16;
/// A full shard is emptied: the words of a language are back at once, and the junk of a crawl is not.
const WORDS_PER_SHARD: usize = 1 << 13;
/// Longer ones are seldom seen twice.
const LONGEST_WORD_BYTES: usize = 48;

type Words = HashMap<Box<str>, Box<[u32]>>;

pub(super) struct WordCache {
    shards: [RwLock<Words>; SHARDS],
    hasher: RandomState,
}

impl WordCache {
    pub fn new() -> Self {
        WordCache { shards: std::array::from_fn(|_| RwLock::default()), hasher: RandomState::new() }
    }

    /// Hands the word's tokens to `take`: the ones that are known, or those that `make` gives.
    pub fn with(&self, word: &str, make: impl FnOnce() -> Vec<u32>, mut take: impl FnMut(&[u32])) {
        let shard = self.shards.get(self.hasher.hash_one(word) as usize % SHARDS);
        let Some(shard) = shard.filter(|_| word.len() <= LONGEST_WORD_BYTES) else { return take(&make()) };
        if let Some(known) = shard.read().unwrap_or_else(PoisonError::into_inner).get(word) {
            return take(known);
        }
        let made = make();
        take(&made);
        let mut words = shard.write().unwrap_or_else(PoisonError::into_inner);
        if words.len() >= WORDS_PER_SHARD {
            words.clear();
        }
        words.insert(word.into(), made.into());
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_words_and_does_not_grow_for_ever() {
        let cache = WordCache::new();
        let mut taken = Vec::new();
        for number in 0..400_000u32 {
            cache.with(&format!("w{number}"), || vec![number], |tokens| taken.extend(tokens));
        }
        cache.with("w399999", || vec![0], |tokens| taken.extend(tokens));
        assert_eq!(taken.last(), Some(&399_999));
        assert!(cache.len() <= SHARDS * WORDS_PER_SHARD && cache.len() > 1000, "{}", cache.len());
        let long = "x".repeat(1000);
        let before = cache.len();
        cache.with(&long, || vec![1], |tokens| taken.extend(tokens));
        assert_eq!(cache.len(), before);
    }
}
