//! Texts that came before, known by 128 bits of a keyed hash: ten million keys as texts would be a gigabyte.

use rustc_hash::FxBuildHasher;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Of a text, by the keys of one [`Seen`].
#[derive(Clone, Copy)]
pub(super) struct TextHash([u64; 2]);

/// Two different texts are taken for one with a chance of 2^-128 a pair of them; nobody can choose such texts, since the keys are drawn.
#[derive(Default)]
pub(super) struct Seen {
    keys: [RandomState; 2],
    known: HashSet<[u64; 2], FxBuildHasher>,
}

impl Seen {
    /// Whether the text is new; it is known from now on.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        self.known.insert(self.hash(text).0)
    }

    /// [`Seen::insert`] of a text that was hashed before.
    pub(super) fn insert_hash(&mut self, hash: TextHash) {
        self.known.insert(hash.0);
    }

    pub(super) fn knows(&self, hash: TextHash) -> bool {
        self.known.contains(&hash.0)
    }

    pub(super) fn hash(&self, text: &str) -> TextHash {
        TextHash(self.keys.each_ref().map(|key| key.hash_one(text)))
    }
}
