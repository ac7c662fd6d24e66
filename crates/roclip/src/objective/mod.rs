//! Training objectives. Each paper is one file; adding one touches that file, its settings and its test.

mod clip;
mod pool;
mod roclip;

pub use clip::ClipObjective;
pub use pool::{Pool, RingWrite};
pub use roclip::{PoolInit, PoolUpdate, RoClip, RoClipConfig, TextInMatch};

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Tensor;

/// What an epoch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Each image with its own caption.
    Clip,
    /// Each image with the nearest caption of a pool.
    Matching,
}

/// What the text tower takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextTraining {
    Full,
    /// No graph is built; gradients are zero, so momentum and weight decay still move the weights.
    ZeroGradient,
    /// No graph is built and the optimizer leaves the weights alone.
    Frozen,
}

/// One batch after the towers. Features have unit length.
pub struct StepInputs<'a> {
    /// `[batch, dim]`, with graph.
    pub image: &'a Tensor,
    /// `[batch, dim]`, with graph only under [`TextTraining::Full`].
    pub text: &'a Tensor,
    /// Scalar, with graph.
    pub scale: &'a Tensor,
    /// Index of each pair in the data, which the pool remembers.
    pub pairs: &'a [usize],
}

/// The pool row that an image was matched with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    pub pair: usize,
    /// The pair whose caption it is; none for rows that are no caption.
    pub neighbour: Option<usize>,
    pub similarity: f32,
}

pub struct LossOutput {
    /// Scalar, with graph.
    pub loss: Tensor,
    /// In matching steps, one for each pair of the batch.
    pub matches: Vec<Match>,
}

/// Encodes the clean-view captions of the given pairs: unit features `[n, dim]`, without graph.
pub type EncodeCaptions<'a> = dyn FnMut(&[usize]) -> Result<Tensor> + 'a;

/// A training objective: decides, and leaves all I/O to the loop.
pub trait Objective {
    fn name(&self) -> &'static str;

    /// What `epoch` (from 1) does.
    fn phase(&self, epoch: u64) -> Phase;

    fn text_training(&self, phase: Phase) -> TextTraining;

    /// Factor on the learning rate.
    fn learning_rate_scale(&self, _phase: Phase) -> f64 {
        1.0
    }

    /// Called before the first step of each epoch (not again when a run resumes within it).
    fn begin_epoch(&mut self, epoch: u64, pairs: usize, encode: &mut EncodeCaptions) -> Result<()>;

    fn loss(&mut self, phase: Phase, inputs: &StepInputs) -> Result<LossOutput>;

    /// Everything a resumed run needs beside weights and optimizer.
    fn state(&self) -> BTreeMap<String, Tensor>;

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// Symmetric InfoNCE from one logit matrix: `1/2 [CE(L) + CE(L^T)]` with diagonal targets, `L = scale * a b^T`.
/// `a`, `b` `[batch, dim]`.
pub fn info_nce(a: &Tensor, b: &Tensor, scale: &Tensor) -> Tensor {
    let logits = a.matmul(&b.transpose(0, 1)) * scale;
    let targets = Tensor::arange(crate::model::extent(&logits, 0), (tch::Kind::Int64, logits.device()));
    (logits.cross_entropy_for_logits(&targets) + logits.transpose(0, 1).cross_entropy_for_logits(&targets)) * 0.5
}
