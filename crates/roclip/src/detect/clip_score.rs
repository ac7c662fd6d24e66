//! CLIPScore as a detector: an image that does not resemble its caption is suspicious.

use crate::detect::Features;
use crate::error::{Result, TorchContext};
use tch::{Kind, Tensor};

/// Rows that are multiplied at a time: bounds the memory of their products.
const ROWS: i64 = 1 << 16;

/// The negative cosine of each image with its own caption.
pub(super) fn scores(features: &Features) -> Result<Vec<f64>> {
    Vec::try_from(-own_cosines(&features.image, &features.text, Kind::Double)).torch("reading similarities")
}

/// The cosine of each row of `image` with that of `text`, summed as `kind`; unit features `[pairs, dim]`.
pub(super) fn own_cosines(image: &Tensor, text: &Tensor, kind: Kind) -> Tensor {
    let rows = crate::model::extent(image, 0);
    let of = |from: i64| {
        let count = ROWS.min(rows - from);
        let products = image.narrow(0, from, count) * text.narrow(0, from, count);
        products.sum_dim_intlist([1i64].as_slice(), false, kind)
    };
    let chunks: Vec<Tensor> = (0..rows).step_by(ROWS as usize).map(of).collect();
    Tensor::cat(&chunks, 0)
}
