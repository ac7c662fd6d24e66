//! Features that are given, for tests of scores.

use tch::{Device, Kind, Tensor};

/// Unit features `[n, 4]` of four concepts at right angles.
pub(crate) fn concepts(of: &[i64]) -> Tensor {
    Tensor::eye(4, (Kind::Float, Device::Cpu)).index_select(0, &Tensor::from_slice(of))
}
