//! CLIPScore as a detector: an image that does not resemble its caption is suspicious.

use crate::detect::Features;
use crate::error::{Result, TorchContext};
use tch::Kind;

/// The negative cosine of each image with its own caption.
pub(super) fn scores(features: &Features) -> Result<Vec<f64>> {
    let cosines = (&features.image * &features.text).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    Vec::try_from(-cosines).torch("reading similarities")
}
