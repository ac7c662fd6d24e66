//! A ring of recent caption features (RoCLIP repository, `src/memory_bank.py`; lightly 1.2.39, `loss/memory_bank.py`).

use crate::error::{Error, Result, TorchContext};
use crate::objective::best_rows::BestRows;
use crate::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Similarities that are held at a time: 64 MiB, which a batch of 512 and 32,768 rows make.
const SIMILARITIES_AT_A_TIME: i64 = 1 << 24;

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

/// The nearest pool row of each query, on the pool's device.
pub struct Nearest {
    /// `[queries, dim]`, raw rows.
    pub rows: Tensor,
    /// `[queries]`.
    pub owners: Tensor,
    /// `[queries]`.
    pub similarities: Tensor,
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

    /// The most similar row of each query. Rows more similar than `max_similarity`, near-duplicates, are passed over, unless all of them
    /// are. (lightly's `threshold` counts them as similarity 0 instead, so that they win where all others are negative.) With `distinct`,
    /// no row is given to two queries: the most similar pairs choose first.
    ///
    /// # Errors
    /// With `distinct`, more queries than rows.
    pub fn nearest(&self, queries: &Tensor, max_similarity: Option<f64>, distinct: bool) -> Result<Nearest> {
        self.nearest_of(queries, max_similarity, distinct, SIMILARITIES_AT_A_TIME)
    }

    /// [`Pool::nearest`], with at most so many `similarities` in memory at a time.
    fn nearest_of(
        &self,
        queries: &Tensor,
        max_similarity: Option<f64>,
        distinct: bool,
        similarities: i64,
    ) -> Result<Nearest> {
        let (queries, count) = (queries.detach(), queries.size().first().copied().unwrap_or(0));
        if distinct && count > self.size() {
            return Err(Error::setting(
                format!("dedup_matches with a pool of {} rows for batches of {count}", self.size()),
                "make the pool larger than the batch",
            ));
        }
        // The others can take all rows that a query likes better but the one of this place.
        let wanted = if distinct { count } else { 1 };
        let mut best = BestRows::new(count, wanted, self.rows.device());
        let at_a_time = (similarities / count.max(1)).max(1);
        for first in (0..self.size()).step_by(at_a_time as usize) {
            let rows = self.rows.narrow(0, first, at_a_time.min(self.size() - first));
            let similarities = queries.matmul(&crate::model::unit(&rows).transpose(0, 1));
            best.add(&similarities, max_similarity, first);
        }
        let (index, similarities) = if distinct { best.distinct()? } else { best.first() };
        Ok(Nearest {
            rows: self.rows.index_select(0, &index).detach(),
            owners: self.owners.index_select(0, &index),
            similarities,
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn rows(values: &[[f32; 2]]) -> Tensor {
        Tensor::from_slice(values.as_flattened()).view([values.len() as i64, 2])
    }

    fn first_column(pool: &Pool) -> Vec<f32> {
        Vec::try_from(pool.rows.select(1, 0).contiguous()).unwrap()
    }

    fn owners(found: Result<Nearest>) -> Vec<i64> {
        Vec::try_from(found.unwrap().owners).unwrap()
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
        assert_eq!(owners(pool.nearest(&queries, None, false)), [0, 0]);
        assert_eq!(owners(pool.nearest(&queries, None, true)), [0, 1]);
        assert_eq!(owners(pool.nearest(&queries, Some(0.9), false)), [1, 1]);
    }

    #[test]
    fn a_pool_that_is_looked_at_in_parts_gives_what_the_whole_gives() {
        tch::manual_seed(1);
        let rows = Tensor::randn([3000, 16], (Kind::Float, Device::Cpu));
        // Captions that are there twice.
        rows.narrow(0, 2000, 900).copy_(&rows.narrow(0, 0, 900));
        let pool = Pool::new(rows, true, RingWrite::Wrap);
        let queries = crate::model::unit(&Tensor::randn([40, 16], (Kind::Float, Device::Cpu)));
        for (limit, distinct) in [(None, false), (None, true), (Some(0.6), true), (Some(0.6), false)] {
            let whole = pool.nearest_of(&queries, limit, distinct, 1 << 20).unwrap();
            for at_a_time in [40 * 64, 40 * 999, 40 * 2048] {
                let parts = pool.nearest_of(&queries, limit, distinct, at_a_time).unwrap();
                assert!(parts.owners.equal(&whole.owners));
                assert!(parts.rows.equal(&whole.rows), "{limit:?} {distinct} {at_a_time}");
            }
        }
        let error = pool.nearest(&Tensor::zeros([3001, 16], (Kind::Float, Device::Cpu)), None, true).err().unwrap();
        assert!(error.to_string().contains("pool of 3000 rows for batches of 3001"), "{error}");
    }

    #[test]
    fn rows_that_are_too_similar_lose_to_negative_ones_and_win_when_there_are_no_others() {
        let mut pool = Pool::new(Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)), false, RingWrite::Wrap);
        pool.enqueue(&rows(&[[1.0, 0.0], [-1.0, 0.0]]), &[0, 1]);
        let found = pool.nearest(&rows(&[[1.0, 0.0]]), Some(0.9), false).unwrap();
        assert_eq!((found.owners.int64_value(&[0]), found.similarities.double_value(&[0])), (1, -1.0));
        let all = pool.nearest(&rows(&[[1.0, 0.0]]), Some(-1.5), false).unwrap();
        assert_eq!((all.owners.int64_value(&[0]), all.similarities.double_value(&[0])), (0, 1.0));
    }
}
