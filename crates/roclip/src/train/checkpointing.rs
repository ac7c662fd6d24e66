//! Gradient checkpointing (activation recomputation): Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174; open_clip's
//! `--grad-checkpointing`.
//!
//! A tower's first pass has no graph and keeps what goes into each block. The way back goes block by block from the last one: a block is computed
//! again with graph from what went into it, the gradient goes through it, and graph and input are let go.

use crate::error::{Error, Result};
use crate::model::{Statistics, Tower};
use crate::train::precision::Precision;
use crate::world::Collectives;
use tch::{Device, Kind, Tensor};

/// A tower, and how it is passed.
pub(super) struct CheckpointedTower<'a> {
    pub tower: &'a dyn Tower,
    pub precision: Precision,
    pub device: Device,
    pub collectives: &'a dyn Collectives,
}

/// What is kept of a pass.
pub(super) struct Kept {
    /// What the tower was given.
    input: Tensor,
    /// What each block took, and the head.
    taken: Vec<Tensor>,
}

impl CheckpointedTower<'_> {
    /// Features `[rows, dim]` of `input` in 32 bits, without graph, and what [`CheckpointedTower::backward`] begins with.
    pub fn forward(&self, input: Tensor, statistics: Statistics) -> Result<(Tensor, Kept)> {
        tch::no_grad(|| {
            let mut x = self.part(|| self.tower.stem(&input, statistics))?;
            let mut taken = Vec::new();
            for block in self.tower.blocks() {
                let next = self.part(|| block.forward(&x, statistics))?;
                taken.push(std::mem::replace(&mut x, next));
            }
            let features = self.head(&x, &input)?;
            taken.push(x);
            Ok((features, Kept { input, taken }))
        })
    }

    /// Brings the `gradient` of features `[rows, dim]` to the tower's parameters. `statistics` are those of the pass before, made
    /// [again](Statistics::again).
    pub fn backward(&self, kept: Kept, gradient: Tensor, statistics: Statistics) -> Result<()> {
        let Kept { input, mut taken } = kept;
        // Popped and not borrowed, so that each is freed when the gradient has come past it.
        let mut last = || taken.pop().ok_or_else(|| Error::internal("a tower with more blocks than in its first pass"));
        let mut gradient = self.through(last()?, &gradient, |x| self.head(x, &input))?;
        for block in self.tower.blocks().into_iter().rev() {
            gradient = self.through(last()?, &gradient, |x| self.part(|| block.forward(x, statistics)))?;
        }
        self.bring(&self.part(|| self.tower.stem(&input, statistics))?, &gradient)
    }

    fn part(&self, compute: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        self.precision.part(self.device, compute)
    }

    fn head(&self, x: &Tensor, input: &Tensor) -> Result<Tensor> {
        self.precision.features(self.device, || Ok(self.tower.head(x, input)))
    }

    /// The gradient of `x`, from that of what `compute` makes of it.
    fn through(&self, x: Tensor, gradient: &Tensor, compute: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let x = x.set_requires_grad(true);
        self.bring(&compute(&x)?, gradient)?;
        Ok(x.grad())
    }

    /// Brings `gradient` from `computed` through its graph.
    fn bring(&self, computed: &Tensor, gradient: &Tensor) -> Result<()> {
        // Its gradient with respect to what was computed is the given one.
        self.collectives.backward(&(computed * gradient).sum(Kind::Float))
    }
}
