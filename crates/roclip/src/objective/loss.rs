//! The contrastive losses that objectives are made of.

use crate::model::extent;
use crate::world::OwnRows;
use tch::{Kind, Reduction, Tensor};

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

/// [`cross_entropy_rows`] of a process's own rows `a` against all of `b`; both are those of the whole batch.
pub fn cross_entropy_of(a: &Tensor, b: &Tensor, scale: &Tensor, own: OwnRows) -> Tensor {
    match own {
        OwnRows::All => cross_entropy_rows(a, b, scale),
        OwnRows::Part { first, count, processes } => {
            let logits = a.narrow(0, first, count).matmul(&b.transpose(0, 1)) * scale;
            let targets = Tensor::arange_start(first, first + count, (Kind::Int64, logits.device()));
            let sum = logits.cross_entropy_loss(&targets, None::<&Tensor>, Reduction::Sum, -100, 0.0);
            sum * (processes as f64 / extent(a, 0).max(1) as f64)
        }
    }
}

/// [`info_nce`] of a process's own rows against all; `a` and `b` are those of the whole batch.
pub fn info_nce_of(a: &Tensor, b: &Tensor, scale: &Tensor, own: OwnRows) -> Tensor {
    match own {
        OwnRows::All => info_nce(a, b, scale),
        OwnRows::Part { .. } => (cross_entropy_of(a, b, scale, own) + cross_entropy_of(b, a, scale, own)) * 0.5,
    }
}
