//! A linear classifier on image features.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// A trained linear classifier on un-normalised image features.
#[derive(Debug)]
pub struct Head {
    /// `[classes, dim]`, in the order of the evaluation's class list.
    pub weight: Tensor,
    /// `[classes]`.
    pub bias: Tensor,
}

/// Names of the weights in a checkpoint.
pub const HEAD_WEIGHT: &str = "head.weight";
pub const HEAD_BIAS: &str = "head.bias";

impl Head {
    /// The classifier that a checkpoint holds among `tensors`, for `classes` classes.
    ///
    /// # Errors
    /// When it is not there, or was trained for another number of classes.
    pub fn from_tensors(tensors: &BTreeMap<String, Tensor>, classes: usize, device: Device) -> Result<Head> {
        let tensor = |name: &str| {
            let found = tensors.get(name).filter(|tensor| tensor.size().first() == Some(&(classes as i64)));
            found.map(|tensor| tensor.to_device(device)).ok_or_else(|| {
                Error::setting(
                    format!("the checkpoint has no `{name}` for {classes} classes"),
                    "evaluate with the class list of the run",
                )
            })
        };
        Ok(Head { weight: tensor(HEAD_WEIGHT)?, bias: tensor(HEAD_BIAS)? })
    }

    /// `features` `[n, dim]`, not normalised, to `[n, classes]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }
}
