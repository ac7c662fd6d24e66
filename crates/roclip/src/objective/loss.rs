//! The contrastive losses that objectives are made of.

use crate::model::extent;
use tch::{Kind, Tensor};

/// Cross-entropy over the rows of `scale * a b^T` with diagonal targets. `a`, `b` `[batch, dim]`.
pub fn cross_entropy_rows(a: &Tensor, b: &Tensor, scale: &Tensor) -> Tensor {
    let logits = a.matmul(&b.transpose(0, 1)) * scale;
    let targets = Tensor::arange(extent(&logits, 0), (Kind::Int64, logits.device()));
    logits.cross_entropy_for_logits(&targets)
}

/// Symmetric InfoNCE from one logit matrix: `1/2 [CE(L) + CE(L^T)]` with diagonal targets, `L = scale * a b^T`.
/// `a`, `b` `[batch, dim]`.
pub fn info_nce(a: &Tensor, b: &Tensor, scale: &Tensor) -> Tensor {
    let logits = a.matmul(&b.transpose(0, 1)) * scale;
    let targets = Tensor::arange(extent(&logits, 0), (Kind::Int64, logits.device()));
    (logits.cross_entropy_for_logits(&targets) + logits.transpose(0, 1).cross_entropy_for_logits(&targets)) * 0.5
}
