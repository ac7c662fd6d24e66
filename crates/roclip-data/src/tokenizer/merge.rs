//! Byte-pair merging of one word, in time that grows with its length and not with its square.

use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The rules: which two tokens become which third. A rule's token is its rank as well, because tokens are numbered in the order of the rules, and
/// a rule comes after those that its two sides stem from.
pub(super) type Rules = FxHashMap<(u32, u32), u32>;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// A token of the word, in a list: the tokens before and after it.
#[derive(Clone, Copy)]
struct Piece {
    token: u32,
    before: u32,
    after: u32,
}

/// Merges the pair of the lowest rank, the leftmost first, until no rule fits: what OpenAI's loop does a round at a time. `tokens` are those of the word's
/// bytes.
pub(super) fn merge(rules: &Rules, tokens: &[u32]) -> Vec<u32> {
    let mut pieces = Pieces(Vec::with_capacity(tokens.len()));
    for (at, token) in (0u32..).zip(tokens) {
        let after = if at as usize + 1 < tokens.len() { at + 1 } else { NONE };
        pieces.0.push(Piece { token: *token, before: at.checked_sub(1).unwrap_or(NONE), after });
    }
    // Entries that a merge has overtaken stay in the heap and are passed over when they come up.
    let mut heap: BinaryHeap<Reverse<(u32, u32)>> =
        (0..tokens.len() as u32).filter_map(|at| pieces.merged(rules, at).map(|token| Reverse((token, at)))).collect();
    while let Some(Reverse((token, at))) = heap.pop() {
        if pieces.merged(rules, at) != Some(token) {
            continue;
        }
        let before = pieces.join(at, token);
        for at in [before, at] {
            heap.extend(pieces.merged(rules, at).map(|token| Reverse((token, at))));
        }
    }
    pieces.0.iter().filter(|piece| piece.token != NONE).map(|piece| piece.token).collect()
}

struct Pieces(Vec<Piece>);

impl Pieces {
    fn get(&self, at: u32) -> Option<Piece> {
        self.0.get(at as usize).copied().filter(|piece| piece.token != NONE)
    }

    /// The piece that the one at `at` and the one after it become.
    fn merged(&self, rules: &Rules, at: u32) -> Option<u32> {
        let left = self.get(at)?;
        let right = self.get(left.after)?;
        rules.get(&(left.token, right.token)).copied()
    }

    /// Puts `token` in the place of the piece at `at` and the one after it. The place before.
    fn join(&mut self, at: u32, token: u32) -> u32 {
        let Some(left) = self.get(at) else { return NONE };
        let behind = self.get(left.after).map_or(NONE, |right| right.after);
        if let Some(right) = self.0.get_mut(left.after as usize) {
            right.token = NONE;
        }
        if let Some(piece) = self.0.get_mut(at as usize) {
            (piece.token, piece.after) = (token, behind);
        }
        if let Some(next) = self.0.get_mut(behind as usize) {
            next.before = at;
        }
        left.before
    }
}
