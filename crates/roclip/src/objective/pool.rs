//! A ring of recent caption features (RoCLIP repository, `src/memory_bank.py`; lightly 1.2.39, `loss/memory_bank.py`).

use crate::error::{Error, Result, TorchContext};
use crate::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use tch::{Kind, Tensor};

/// What happens to a batch that does not fit before the end of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum RingWrite {
    /// The rest goes to the front.
    #[default]
    Wrap,
    /// As released: the rest is dropped and the pointer returns to 0.
    Truncate,
}

/// `rows` `[size, dim]`, the pair that each row's caption belongs to (-1 for none), and the write position.
pub struct Pool {
    rows: Tensor,
    owners: Tensor,
    pointer: i64,
    /// Rows written so far, at most the size.
    filled: i64,
    write: RingWrite,
}

/// The nearest pool row of each query.
pub struct Nearest {
    /// `[queries, dim]`, raw rows.
    pub rows: Tensor,
    pub owners: Vec<i64>,
    pub similarities: Vec<f32>,
}

impl Pool {
    /// Refuses sizes that no pool can have. `section` is the place of `pool_size` and `pool_fraction` in a recipe.
    pub fn check(section: &str, size: Option<usize>, fraction: Option<f64>) -> Result<()> {
        if size.is_some() && fraction.is_some() {
            return Err(Error::setting(format!("{section}: both pool_size and pool_fraction are given"), "give one"));
        }
        if let Some(size) = size {
            settings::count(&format!("{section}.pool_size"), size as u64, 2, settings::MANY)?;
        }
        fraction.map_or(Ok(()), |fraction| settings::share(&format!("{section}.pool_fraction"), fraction))
    }

    /// Rows of a pool for `pairs` pairs: `size`, or `fraction` of them, or 2 % when neither is given.
    pub fn rows(size: Option<usize>, fraction: Option<f64>, pairs: usize) -> Result<usize> {
        let rows = size.unwrap_or_else(|| (fraction.unwrap_or(0.02) * pairs as f64).round() as usize);
        if rows < 2 {
            return Err(Error::setting(
                format!("the pool would hold {rows} captions of {pairs} pairs"),
                "raise pool_size or pool_fraction",
            ));
        }
        if rows > pairs {
            return Err(Error::setting(
                format!("the pool ({rows} captions) is larger than the data ({pairs} pairs)"),
                "lower pool_size",
            ));
        }
        Ok(rows)
    }

    /// A pool that holds `rows` as they are, owned by nobody.
    pub fn new(rows: Tensor, filled: bool, write: RingWrite) -> Pool {
        let size = rows.size().first().copied().unwrap_or(0);
        let owners = Tensor::full([size], -1, (Kind::Int64, rows.device()));
        Pool { rows, owners, pointer: 0, filled: if filled { size } else { 0 }, write }
    }

    pub fn size(&self) -> i64 {
        self.rows.size().first().copied().unwrap_or(0)
    }

    pub fn is_full(&self) -> bool {
        self.filled >= self.size()
    }

    /// Cosine similarity `[queries, size]` of unit `queries` `[queries, dim]` with the rows.
    fn similarities(&self, queries: &Tensor) -> Tensor {
        queries.matmul(&crate::model::unit(&self.rows).transpose(0, 1))
    }

    /// The most similar row of each query. Rows more similar than `max_similarity`, near-duplicates, are passed over, unless all of them
    /// are. (lightly's `threshold` counts them as similarity 0 instead, so that they win where all others are negative.) With `distinct`,
    /// no row is given to two queries: the most similar pairs choose first.
    pub fn nearest(&self, queries: &Tensor, max_similarity: Option<f64>, distinct: bool) -> Result<Nearest> {
        let similarities = self.similarities(queries);
        let ranks = match max_similarity {
            Some(limit) => &similarities - similarities.gt(limit).to_kind(Kind::Float) * BELOW_ANY_COSINE,
            None => similarities.shallow_clone(),
        };
        let index = if distinct { distinct_rows(&ranks)? } else { ranks.argmax(1, false) };
        let best = similarities.gather(1, &index.unsqueeze(1), false).squeeze_dim(1);
        Ok(Nearest {
            rows: self.rows.index_select(0, &index).detach(),
            owners: Vec::try_from(self.owners.index_select(0, &index)).torch("reading pool owners")?,
            similarities: Vec::try_from(best).torch("reading similarities")?,
        })
    }

    /// Writes `features` `[batch, dim]` at the pointer.
    pub fn enqueue(&mut self, features: &Tensor, pairs: &[usize]) {
        let features = features.detach();
        let owners =
            Tensor::from_slice(&pairs.iter().map(|p| *p as i64).collect::<Vec<_>>()).to_device(self.owners.device());
        let (size, batch) = (self.size(), features.size().first().copied().unwrap_or(0).min(self.size()));
        let room = size - self.pointer;
        let first = batch.min(room);
        self.put(self.pointer, &features.narrow(0, 0, first), &owners.narrow(0, 0, first));
        self.filled = (self.filled + first).min(size);
        self.pointer = (self.pointer + first) % size;
        // The released code returns to 0 also when the batch fits exactly, which is the same thing.
        if first < batch && self.write == RingWrite::Wrap {
            let rest = batch - first;
            self.put(0, &features.narrow(0, first, rest), &owners.narrow(0, first, rest));
            self.filled = (self.filled + rest).min(size);
            self.pointer = rest;
        }
    }

    fn put(&mut self, at: i64, features: &Tensor, owners: &Tensor) {
        let length = features.size().first().copied().unwrap_or(0);
        self.rows.narrow(0, at, length).copy_(features);
        self.owners.narrow(0, at, length).copy_(owners);
    }

    /// Its tensors for a checkpoint, under names that begin with `name`.
    pub fn state(&self, name: &str) -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            (format!("{name}.rows"), self.rows.shallow_clone()),
            (format!("{name}.owners"), self.owners.shallow_clone()),
            (format!("{name}.position"), Tensor::from_slice(&[self.pointer, self.filled])),
        ])
    }

    /// The pool in a checkpoint, if there is one.
    pub fn from_state(
        state: &BTreeMap<String, Tensor>,
        name: &str,
        write: RingWrite,
        device: tch::Device,
    ) -> Result<Option<Pool>> {
        let Some(rows) = state.get(&format!("{name}.rows")) else { return Ok(None) };
        let broken = || Error::setting("the checkpoint's pool is incomplete", "resume from another checkpoint");
        let owners = state.get(&format!("{name}.owners")).ok_or_else(broken)?;
        let position: Vec<i64> =
            Vec::try_from(state.get(&format!("{name}.position")).ok_or_else(broken)?).torch("reading the pool")?;
        let [pointer, filled] = position.as_slice() else { return Err(broken()) };
        Ok(Some(Pool {
            rows: rows.to_device(device),
            owners: owners.to_device(device),
            pointer: *pointer,
            filled: *filled,
            write,
        }))
    }
}

/// Taken from a cosine, this leaves less than any cosine.
const BELOW_ANY_COSINE: f64 = 4.0;
/// Rows that a query whose best one is taken asks for next; all of them when these are taken, too.
const NEXT_BEST: usize = 64;

/// A row for each query `[queries]`, all different. Pairs of query and row choose in the order of their value in `similarities`
/// `[queries, size]`, greatest first, and of their place in it where values are equal.
fn distinct_rows(similarities: &Tensor) -> Result<Tensor> {
    let (queries, size) = similarities.size2().torch("reading similarities")?;
    if queries > size {
        return Err(Error::setting(
            format!("dedup_matches with a pool of {size} rows for batches of {queries}"),
            "make the pool larger than the batch",
        ));
    }
    let values: Vec<f32> = Vec::try_from(similarities.flatten(0, 1).contiguous()).torch("reading similarities")?;
    let size = size as usize;
    let mut asking: BinaryHeap<Asking> = BinaryHeap::with_capacity(queries as usize);
    for (query, row) in values.chunks_exact(size.max(1)).enumerate() {
        asking.extend(Asking::new(query, row));
    }
    let mut chosen = vec![0i64; queries as usize];
    let mut taken = vec![false; size];
    // The best pair of all that are left is at the top, so it is the one that sorting all pairs would come to next.
    while let Some(mut best) = asking.pop() {
        let Some(taken) = taken.get_mut(best.row).filter(|taken| !**taken) else {
            let values = values.get(best.query * size..(best.query + 1) * size).unwrap_or_default();
            if best.go_on(values) {
                asking.push(best);
            }
            continue;
        };
        *taken = true;
        if let Some(slot) = chosen.get_mut(best.query) {
            *slot = best.row as i64;
        }
    }
    Ok(Tensor::from_slice(&chosen).to_device(similarities.device()))
}

/// A query with the best row that it has not asked for yet.
struct Asking {
    query: usize,
    row: usize,
    value: f32,
    /// Rows that come after this one, best last.
    next: Vec<usize>,
    /// Rows that were asked for, or stand in `next`.
    seen: usize,
}

impl Asking {
    /// None for an empty row.
    fn new(query: usize, values: &[f32]) -> Option<Self> {
        let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
        best.map(|(row, value)| Asking { query, row, value: *value, next: Vec::new(), seen: 1 })
    }

    /// Turns to the next best row. False when there is none.
    fn go_on(&mut self, values: &[f32]) -> bool {
        if self.next.is_empty() {
            let wanted = if self.seen == 1 { NEXT_BEST } else { values.len() };
            self.next = best_rows(values, wanted).split_off(self.seen.min(values.len()));
            self.seen += self.next.len();
            self.next.reverse();
        }
        let Some(row) = self.next.pop() else { return false };
        (self.row, self.value) = (row, values.get(row).copied().unwrap_or(f32::MIN));
        true
    }
}

/// The `count` greatest of `values`, in order: greatest first, then by place.
fn best_rows(values: &[f32], count: usize) -> Vec<usize> {
    let value = |row: &usize| values.get(*row).copied().unwrap_or(f32::MIN);
    let order = |a: &usize, b: &usize| value(b).total_cmp(&value(a)).then(a.cmp(b));
    let mut rows: Vec<usize> = (0..values.len()).collect();
    if count < rows.len() {
        rows.select_nth_unstable_by(count, order);
        rows.truncate(count);
    }
    rows.sort_unstable_by(order);
    rows
}

impl Ord for Asking {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.total_cmp(&other.value).then(other.query.cmp(&self.query)).then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Asking {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Asking {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use tch::Device;

    fn rows(values: &[[f32; 2]]) -> Tensor {
        Tensor::from_slice(values.as_flattened()).view([values.len() as i64, 2])
    }

    fn first_column(pool: &Pool) -> Vec<f32> {
        Vec::try_from(pool.rows.select(1, 0).contiguous()).unwrap()
    }

    #[test]
    fn a_full_lap_wraps_or_truncates() {
        for (write, expected, pointer) in
            [(RingWrite::Wrap, [4.0, 2.0, 3.0], 1), (RingWrite::Truncate, [1.0, 2.0, 3.0], 0)]
        {
            let mut pool = Pool::new(Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)), false, write);
            pool.enqueue(&rows(&[[1.0, 0.0], [2.0, 0.0]]), &[1, 2]);
            assert!(!pool.is_full());
            pool.enqueue(&rows(&[[3.0, 0.0], [4.0, 0.0]]), &[3, 4]);
            assert_eq!(first_column(&pool), expected, "{write:?}");
            assert_eq!(pool.pointer, pointer);
            assert!(pool.is_full());
        }
    }

    #[test]
    fn nearest_equals_brute_force_and_returns_raw_rows() {
        tch::manual_seed(0);
        let pool = Pool::new(Tensor::randn([50, 8], (Kind::Float, Device::Cpu)) * 3.0, true, RingWrite::Wrap);
        let queries = crate::model::unit(&Tensor::randn([9, 8], (Kind::Float, Device::Cpu)));
        let found = pool.nearest(&queries, None, false).unwrap();
        for q in 0..9 {
            let similarity = |r: i64| {
                queries.get(q).dot(&pool.rows.get(r)).double_value(&[]) / pool.rows.get(r).norm().double_value(&[])
            };
            let best = (0..50).max_by(|a, b| similarity(*a).total_cmp(&similarity(*b))).unwrap();
            assert!(found.rows.get(q).equal(&pool.rows.get(best)));
        }
    }

    #[test]
    fn distinct_matches_share_no_row_and_a_limit_excludes_duplicates() {
        let mut pool = Pool::new(Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)), false, RingWrite::Wrap);
        pool.enqueue(&rows(&[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), &[0, 1, 2]);
        let queries = rows(&[[1.0, 0.0], [1.0, 0.0]]);
        assert_eq!(pool.nearest(&queries, None, false).unwrap().owners, [0, 0]);
        assert_eq!(pool.nearest(&queries, None, true).unwrap().owners, [0, 1]);
        assert_eq!(pool.nearest(&queries, Some(0.9), false).unwrap().owners, [1, 1]);
    }

    /// Sorts all pairs: what the heap must find without.
    fn sorted_greedily(values: &[f32], size: usize) -> Vec<i64> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
        let mut chosen = vec![-1i64; values.len() / size];
        let mut used = vec![false; size];
        for at in order {
            let (query, row) = (at / size, at % size);
            if chosen[query] < 0 && !used[row] {
                (chosen[query], used[row]) = (row as i64, true);
            }
        }
        chosen
    }

    #[test]
    fn distinct_rows_are_those_that_sorting_all_pairs_gives() {
        for (seed, queries, size, levels) in
            [(0, 1, 1, 0.0), (1, 20, 20, 0.0), (2, 40, 300, 0.0), (3, 30, 40, 3.0), (4, 100, 150, 50.0)]
        {
            let mut random = roclip_data::random::stream(seed, "test", 0, "");
            let mut values: Vec<f32> = (0..queries * size).map(|_| random.random_range(-1.0..1.0)).collect();
            // Queries that want the same rows, and values that are equal.
            for (at, value) in values.iter_mut().enumerate() {
                *value = *value * 0.1 + (at % size) as f32 / size as f32;
                if levels > 0.0 {
                    *value = (*value * levels).round() / levels;
                }
            }
            let tensor = Tensor::from_slice(&values).view([queries as i64, size as i64]);
            let found: Vec<i64> = Vec::try_from(distinct_rows(&tensor).unwrap()).unwrap();
            assert_eq!(found, sorted_greedily(&values, size), "{queries} of {size}");
        }
        let error = distinct_rows(&Tensor::zeros([3, 2], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(error.contains("pool of 2 rows for batches of 3"), "{error}");
    }

    #[test]
    fn rows_that_are_too_similar_lose_to_negative_ones_and_win_when_there_are_no_others() {
        let mut pool = Pool::new(Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)), false, RingWrite::Wrap);
        pool.enqueue(&rows(&[[1.0, 0.0], [-1.0, 0.0]]), &[0, 1]);
        let found = pool.nearest(&rows(&[[1.0, 0.0]]), Some(0.9), false).unwrap();
        assert_eq!((found.owners, found.similarities), (vec![1], vec![-1.0]));
        let all = pool.nearest(&rows(&[[1.0, 0.0]]), Some(-1.5), false).unwrap();
        assert_eq!((all.owners, all.similarities), (vec![0], vec![1.0]));
    }
}
