//! A batch that several processes have read their rows of: what each must know of the others' before it computes.

use crate::error::{Error, Result};
use crate::world::{OwnRows, World};
use roclip_data::batch::HostBatch;
use roclip_data::skip::SkipReport;
use tch::Tensor;

/// This process's rows of a batch, and which pairs all of them are.
pub struct SharedBatch {
    /// The rows that are computed here.
    pub own: HostBatch,
    /// Index of every pair of the batch in the data, by row.
    pub pairs: Vec<usize>,
    /// Pairs in the places of the whole batch that could not be used, replaced or not.
    pub skips: SkipReport,
    /// The exit code of the process that was asked to end, where one was; 0 otherwise.
    pub stop: i32,
    /// Rows of each process.
    counts: Vec<i64>,
    world: World,
}

/// Numbers before the pairs in what a process tells: how many pairs there are, how many were skipped, and the stop.
const HEAD: usize = 3;

impl SharedBatch {
    /// Tells the others of `own`, which is this process's part of a batch of `batch_size`.
    pub fn new(world: &World, own: HostBatch, batch_size: usize, stop: i32) -> Result<Self> {
        if world.is_alone() {
            let (pairs, skips, counts) = (own.pairs.clone(), own.skips.clone(), vec![own.pairs.len() as i64]);
            return Ok(SharedBatch { own, pairs, skips, stop, counts, world: world.clone() });
        }
        let mut numbers = vec![own.pairs.len() as i64, own.skips.total() as i64, i64::from(stop)];
        numbers.extend(own.pairs.iter().map(|pair| *pair as i64));
        numbers.resize(HEAD + batch_size / world.size(), 0);
        let (mut pairs, mut counts, mut stop, mut skipped) = (Vec::with_capacity(batch_size), Vec::new(), 0, 0);
        for told in world.gather_numbers(&numbers)? {
            let (head, rows) = told.split_at_checked(HEAD).ok_or_else(|| Error::internal("a process told nothing"))?;
            let [count, missing, code] = *head else { return Err(Error::internal("a process told too little")) };
            pairs.extend(rows.iter().take(count as usize).map(|pair| *pair as usize));
            counts.push(count);
            (stop, skipped) = (stop.max(code as i32), skipped + missing);
        }
        let skips = if skipped > 0 { world.gather_skips(&own.skips)? } else { SkipReport::default() };
        Ok(SharedBatch { own, pairs, skips, stop, counts, world: world.clone() })
    }

    /// Whether a contrastive loss can be taken: a pair needs another one to be told from.
    pub fn can_train(&self) -> bool {
        self.pairs.len() >= 2
    }

    /// Whether any of the rows is this process's. One without rows computes with a row that stands in for them and is left out.
    pub fn has_own(&self) -> bool {
        !self.own.pairs.is_empty()
    }

    /// The rows that the loss of this process is of.
    pub fn own_rows(&self) -> OwnRows {
        match self.world.is_alone() {
            true => OwnRows::All,
            false => OwnRows::Part {
                first: self.counts.iter().take(self.world.rank()).sum(),
                count: self.own.pairs.len() as i64,
                processes: self.world.size() as i64,
            },
        }
    }

    /// The rows of the whole batch, from this process's `own` `[rows, ...]`. A graph goes through the gather unless it stands within
    /// [`tch::no_grad`].
    pub fn gathered(&self, own: &Tensor) -> Result<Tensor> {
        self.world.gather_counted(own, &self.counts, own.requires_grad())
    }

    pub fn world(&self) -> &World {
        &self.world
    }
}
