//! Texts that came before, known by 128 bits of a keyed hash: ten million keys as texts would be a gigabyte.

use rustc_hash::FxBuildHasher;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Two different texts are taken for one with a chance of 2^-128 a pair of them; nobody can choose such texts, since the keys are drawn.
#[derive(Default)]
pub(super) struct Seen {
    keys: [RandomState; 2],
    known: HashSet<[u64; 2], FxBuildHasher>,
}

impl Seen {
    /// Whether the text is new; it is known from now on.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let hash = self.hash(text);
        self.known.insert(hash)
    }

    pub(super) fn knows(&self, text: &str) -> bool {
        self.known.contains(&self.hash(text))
    }

    fn hash(&self, text: &str) -> [u64; 2] {
        self.keys.each_ref().map(|key| key.hash_one(text))
    }
}
