//! A tower as a chain, for those who run it piece by piece.

use crate::error::Result;
use crate::model::Statistics;
use tch::Tensor;

/// A tower as a chain: its stem, its residual blocks one after the other, and its head.
pub(crate) trait Tower {
    /// What the first block takes, from pictures `[batch, 3, size, size]` or from token ids `[batch, length]`.
    fn stem(&self, input: &Tensor, statistics: Statistics) -> Result<Tensor>;

    /// Each takes what the one before it gives.
    fn blocks(&self) -> Vec<&dyn ResidualBlock>;

    /// `[batch, embed_dim]`, not normalised, of what the last block gives. `input` is what the stem was given.
    fn head(&self, x: &Tensor, input: &Tensor) -> Tensor;
}

/// A block of a tower, whose input is added to what it computes.
pub(crate) trait ResidualBlock {
    /// What comes behind the block. Towers without BatchNorm do not look at `statistics`.
    fn forward(&self, x: &Tensor, statistics: Statistics) -> Result<Tensor>;
}
