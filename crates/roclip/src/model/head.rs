//! A linear classifier on image features.

use tch::Tensor;

/// A trained linear classifier on un-normalised image features.
#[derive(Debug)]
pub struct Head {
    /// `[classes, dim]`, in the order of the evaluation's class list.
    pub weight: Tensor,
    /// `[classes]`.
    pub bias: Tensor,
}

impl Head {
    /// `features` `[n, dim]`, not normalised, to `[n, classes]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }
}
