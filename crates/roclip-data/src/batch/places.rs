//! Which pair each row of each batch is, and which others take its place where it cannot be used.
//!
//! Batch `s` of a pass takes the places `s * batch` to `(s + 1) * batch` of its order. The pair of row `r` that cannot be used is replaced by
//! the pair of row `r` of the next batch, or of the one behind that, and so on; behind the last batch comes the first. So what stands in
//! a row follows from the order and from which pairs cannot be used, whoever makes the row; no pair stands in a batch twice; and
//! a pair that takes another's place is seen twice in its pass.

use std::ops::Range;

/// Pairs that are tried in the place of one, before its row is left out.
const TRIES: usize = 16;

/// What a pass over the data asks for.
#[derive(Debug, Clone, Copy)]
pub struct PassPlan {
    pub epoch: u64,
    /// Place of the pass in its epoch, from 0.
    pub pass: u64,
    pub two_views: bool,
    /// Steps that are done already.
    pub first_step: u64,
    pub steps: u64,
}

impl PassPlan {
    /// Number of the augmentation draw: a second pass in an epoch sees other ones.
    pub(super) fn draw(&self) -> u64 {
        self.epoch | (self.pass << 32)
    }
}

/// The pairs of a pass in their order, and how they are cut into batches.
pub(super) struct Places {
    pub order: Vec<usize>,
    pub batch_size: usize,
    /// The rows of each batch that are made here.
    pub rows: Range<usize>,
    /// Whether others take the place of pairs that cannot be used.
    pub full: bool,
}

impl Places {
    /// How many rows of batch `step` are made here: fewer at the end of the order.
    pub fn count(&self, step: u64) -> usize {
        let left = self.order.len().saturating_sub(step as usize * self.batch_size);
        self.rows.end.min(left).saturating_sub(self.rows.start)
    }

    /// The pair of row `row` of those that are made here, and those that take its place, in their order.
    pub fn candidates(&self, step: u64, row: usize) -> impl Iterator<Item = usize> {
        let whole = if self.full { self.order.len() / self.batch_size } else { 0 };
        let others = whole.saturating_sub(1).min(TRIES);
        (0..=others).filter_map(move |ahead| {
            let batch = if ahead == 0 { step as usize } else { (step as usize + ahead) % whole };
            self.order.get(batch * self.batch_size + self.rows.start + row).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(places: &Places, step: u64, row: usize) -> Vec<usize> {
        places.candidates(step, row).collect()
    }

    #[test]
    fn the_same_row_of_the_next_batches_takes_a_place_and_behind_the_last_comes_the_first() {
        let order: Vec<usize> = (0..14).rev().collect();
        let places = Places { order, batch_size: 4, rows: 0..4, full: true };
        assert_eq!(candidates(&places, 0, 1), [12, 8, 4]);
        assert_eq!(candidates(&places, 1, 1), [8, 4, 12]);
        assert_eq!(candidates(&places, 2, 3), [2, 10, 6]);
        // The second of two processes has the later rows.
        let second = Places { rows: 2..4, order: places.order.clone(), ..places };
        assert_eq!((second.count(0), candidates(&second, 2, 1)), (2, vec![2, 10, 6]));
        let plain = Places { rows: 0..4, full: false, ..second };
        assert_eq!(candidates(&plain, 0, 1), [12]);
        assert_eq!([plain.count(2), plain.count(3), plain.count(4)], [4, 2, 0]);
    }

    #[test]
    fn the_tries_end_however_long_the_pass_is() {
        let long = Places { order: (0..1000).collect(), batch_size: 2, rows: 0..2, full: true };
        assert_eq!(candidates(&long, 495, 0).len(), TRIES + 1);
        let once = Places { order: (0..3).collect(), batch_size: 2, rows: 0..2, full: true };
        assert_eq!(candidates(&once, 0, 0), [0], "nothing else stands in the row of the only batch");
    }
}
