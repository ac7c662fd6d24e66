//! The rows of a pool that each query likes best, found a part of the pool at a time, and from these a row for each query, all different.

use crate::error::{Result, TorchContext};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use tch::{Device, Kind, Tensor};

/// Taken from a cosine, this leaves less than any cosine.
const BELOW_ANY_COSINE: f64 = 4.0;
/// The greatest number of a row, and the low half of a key.
const LOW_HALF: i64 = (1 << 32) - 1;

/// The best rows of each query, best first: greatest rank, and of equal ranks the lower number.
pub(super) struct BestRows {
    wanted: i64,
    /// `[queries, found]`, descending; see [`keys`].
    keys: Tensor,
    /// `[queries, found]`.
    similarities: Tensor,
}

impl BestRows {
    /// Of no rows yet. Each of `queries` queries will have its best `wanted` rows, or all where there are fewer.
    pub fn new(queries: i64, wanted: i64, device: Device) -> BestRows {
        let empty = |kind| Tensor::zeros([queries, 0], (kind, device));
        BestRows { wanted, keys: empty(Kind::Int64), similarities: empty(Kind::Float) }
    }

    /// Looks at the rows from number `first` on, whose `similarities` are `[queries, rows]`. Rows above `max_similarity` rank below all others.
    pub fn add(&mut self, similarities: &Tensor, max_similarity: Option<f64>, first: i64) {
        let ranks = match max_similarity {
            Some(limit) => similarities - similarities.gt(limit).to_kind(Kind::Float) * BELOW_ANY_COSINE,
            None => similarities.shallow_clone(),
        };
        let places = best_places(&ranks, self.wanted);
        let ranks = match self.wanted {
            // The greatest of a line is found among numbers of which 0 and -0 are equal: the sum makes one of them.
            1 => ranks.gather(1, &places, false) + 0.0,
            _ => ranks.gather(1, &places, false),
        };
        let keys = Tensor::cat(&[&self.keys, &keys(&ranks, &(&places + first))], 1);
        let similarities = Tensor::cat(&[&self.similarities, &similarities.gather(1, &places, false)], 1);
        let found = keys.size().last().copied().unwrap_or(0);
        let (keys, order) = keys.topk(self.wanted.min(found), 1, true, true);
        self.similarities = similarities.gather(1, &order, false);
        self.keys = keys;
    }

    /// The best row of each query, `[queries]`, and its similarity.
    pub fn first(&self) -> (Tensor, Tensor) {
        (row_numbers(&self.keys.select(1, 0)), self.similarities.select(1, 0))
    }

    /// A row for each query, all different, `[queries]`, and its similarity. Pairs of query and row choose in the order of their rank,
    /// greatest first, and of the query's and the row's number where ranks are equal. As many rows are wanted as there are queries, if
    /// there are as many: the others cannot take all of them.
    pub fn distinct(&self) -> Result<(Tensor, Tensor)> {
        let (queries, found) = self.keys.size2().torch("reading matches")?;
        let keys: Vec<i64> = Vec::try_from(self.keys.flatten(0, 1)).torch("reading matches")?;
        let mut lists: Vec<_> = keys.chunks_exact(found.max(1) as usize).map(|list| list.iter().enumerate()).collect();
        // The best row that a query has not asked for yet.
        let mut ask = |query: usize| {
            let (place, key) = lists.get_mut(query)?.next()?;
            Some((key >> 32, Reverse(query), key & LOW_HALF, place))
        };
        let mut asking: BinaryHeap<_> = (0..queries as usize).filter_map(&mut ask).collect();
        let mut chosen = vec![0i64; queries as usize];
        let mut taken = HashSet::with_capacity(queries as usize);
        // The best of all that are left is at the top, so it is the one that sorting all pairs would come to next.
        while let Some((_, Reverse(query), row, place)) = asking.pop() {
            match chosen.get_mut(query).filter(|_| taken.insert(row)) {
                Some(slot) => *slot = place as i64,
                None => asking.extend(ask(query)),
            }
        }
        let chosen = Tensor::from_slice(&chosen).unsqueeze(1).to_device(self.keys.device());
        let of = |found: &Tensor| found.gather(1, &chosen, false).squeeze_dim(1);
        Ok((row_numbers(&of(&self.keys)), of(&self.similarities)))
    }
}

/// Places of the best `count` of `ranks` `[queries, rows]` in each line, or of all: the same that sorting by rank and place gives, in any order.
fn best_places(ranks: &Tensor, count: i64) -> Tensor {
    let [queries, rows] = [0, 1].map(|dimension| ranks.size().get(dimension).copied().unwrap_or(0));
    let numbers = Tensor::arange(rows, (Kind::Int64, ranks.device()));
    if count == 1 {
        return ranks.argmax(1, true);
    }
    if count >= rows {
        return numbers.expand([queries, rows], false);
    }
    let (values, places) = ranks.topk(count + 1, 1, true, true);
    let places = places.narrow(1, 0, count);
    // Which of equal ones are among the best is nobody's promise.
    let last_equals_next = values.select(1, count - 1).eq_tensor(&values.select(1, count));
    let unsure = last_equals_next.nonzero().squeeze_dim(1);
    if unsure.numel() == 0 {
        return places;
    }
    let (_, sure) = keys(&ranks.index_select(0, &unsure), &numbers).topk(count, 1, true, true);
    places.index_copy(0, &unsure, &sure)
}

/// What sorts as `ranks` do, and by the lower of `numbers` where ranks are equal; no two of a line are equal. The high half is the rank's bits as
/// a whole number of the same order (that of [`f32::total_cmp`]), the low half what the number lacks of [`LOW_HALF`].
fn keys(ranks: &Tensor, numbers: &Tensor) -> Tensor {
    let bits = ranks.contiguous().view_dtype(Kind::Int);
    let ordered = bits.bitwise_right_shift_tensor_scalar(31).bitwise_and(i64::from(i32::MAX)).bitwise_xor_tensor(&bits);
    (ordered.to_kind(Kind::Int64) * (1i64 << 32)) + (LOW_HALF - numbers)
}

/// The numbers of the rows that `keys` are of.
fn row_numbers(keys: &Tensor) -> Tensor {
    LOW_HALF - keys.bitwise_and(LOW_HALF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn random_values(seed: u64, count: usize) -> Vec<f32> {
        let mut random = roclip_data::random::stream(seed, "test", 0, "");
        (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
    }

    /// What is found of `values` `[queries, size]` when `at_a_time` rows are looked at.
    fn found(
        values: &[f32],
        size: usize,
        at_a_time: usize,
        limit: Option<f64>,
        distinct: bool,
    ) -> (Vec<i64>, Vec<f32>) {
        let queries = (values.len() / size) as i64;
        let similarities = Tensor::from_slice(values).view([queries, size as i64]);
        let mut best = BestRows::new(queries, if distinct { queries } else { 1 }, Device::Cpu);
        for first in (0..size).step_by(at_a_time) {
            let rows = at_a_time.min(size - first) as i64;
            best.add(&similarities.narrow(1, first as i64, rows), limit, first as i64);
        }
        let (rows, similarities) = if distinct { best.distinct().unwrap() } else { best.first() };
        (Vec::try_from(rows).unwrap(), Vec::try_from(similarities).unwrap())
    }

    /// Sorts all pairs of query and row, and lets them choose.
    fn sorted_greedily(values: &[f32], size: usize, limit: Option<f64>, distinct: bool) -> Vec<i64> {
        let rank = |at: usize| match limit {
            Some(limit) if f64::from(values[at]) > limit => values[at] - BELOW_ANY_COSINE as f32,
            _ => values[at],
        };
        let mut order: Vec<usize> = (0..values.len()).collect();
        let by_rank = |a: f32, b: f32| if distinct { a.total_cmp(&b) } else { a.partial_cmp(&b).unwrap() };
        order.sort_by(|a, b| by_rank(rank(*b), rank(*a)).then(a.cmp(b)));
        let mut chosen = vec![-1i64; values.len() / size];
        let mut used = vec![false; size];
        for at in order {
            let (query, row) = (at / size, at % size);
            if chosen[query] < 0 && !(distinct && used[row]) {
                (chosen[query], used[row]) = (row as i64, true);
            }
        }
        chosen
    }

    #[test]
    fn rows_are_those_that_sorting_all_pairs_gives_however_many_are_looked_at() {
        for (seed, queries, size, levels) in [
            (0, 1, 1, 0.0),
            (1, 20, 20, 0.0),
            (2, 40, 300, 0.0),
            (3, 30, 40, 3.0),
            (4, 100, 150, 50.0),
            (5, 50, 60, 1.0),
            (6, 7, 90, 0.01),
        ] {
            let mut values = random_values(seed, queries * size);
            // Queries that want the same rows, and values that are equal.
            for (at, value) in values.iter_mut().enumerate() {
                *value = *value * 0.1 + (at % size) as f32 / size as f32;
                if levels > 0.0 {
                    *value = (*value * levels).round() / levels;
                }
            }
            for (limit, distinct) in
                [(None, true), (None, false), (Some(0.5), true), (Some(0.5), false), (Some(-2.0), true)]
            {
                let wanted = sorted_greedily(&values, size, limit, distinct);
                for at_a_time in [1, 7, 64, size] {
                    let (rows, similarities) = found(&values, size, at_a_time, limit, distinct);
                    assert_eq!(rows, wanted, "{queries} of {size}, {at_a_time} at a time, {limit:?}, {distinct}");
                    let own = rows.iter().enumerate().map(|(query, row)| values[query * size + *row as usize]);
                    assert_eq!(similarities, own.collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn keys_sort_as_numbers_do_and_by_place_where_they_are_equal() {
        let mut values = random_values(0, 50);
        values.extend([0.0, -0.0, 0.0, 1e-40, -1e-40, f32::MAX, f32::MIN, 1.0, 1.0]);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
        let numbers = Tensor::arange(values.len() as i64, (Kind::Int64, Device::Cpu));
        let (sorted, _) = keys(&Tensor::from_slice(&values), &numbers).sort(0, true);
        let rows: Vec<i64> = Vec::try_from(row_numbers(&sorted)).unwrap();
        assert_eq!(rows, order.into_iter().map(|at| at as i64).collect::<Vec<_>>());
    }
}
