//! A linear classifier on image features.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

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
    /// A trainable classifier with PyTorch's default weights, uniform within `1 / sqrt(dim)`, drawn from libtorch's generator seeded with
    /// `seed`.
    pub fn new(classes: usize, dim: i64, seed: i64, device: Device) -> Head {
        tch::manual_seed(seed);
        let bound = (dim as f64).powf(-0.5);
        let uniform = |size: &[i64]| {
            let values = (Tensor::rand(size, (Kind::Float, Device::Cpu)) * 2.0 - 1.0) * bound;
            values.to_device(device).set_requires_grad(true)
        };
        let count = classes as i64;
        Head { weight: uniform(&[count, dim]), bias: uniform(&[count]) }
    }

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

    /// Its weights by their names in a checkpoint. They share memory with it.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            (HEAD_WEIGHT.to_owned(), self.weight.shallow_clone()),
            (HEAD_BIAS.to_owned(), self.bias.shallow_clone()),
        ])
    }

    /// `features` `[n, dim]`, not normalised, to `[n, classes]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }
}

/// Copies each of `own` from the tensor of its name among those that a checkpoint of its run `saved`.
///
/// # Errors
/// One that is not there, or has another size.
pub fn copy_saved(own: &BTreeMap<String, Tensor>, saved: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, tensor) in own {
        let found = saved.get(name).filter(|found| found.size() == tensor.size());
        let found = found.ok_or_else(|| {
            Error::setting(format!("the checkpoint has no `{name}` of this size"), "resume with the recipe of the run")
        })?;
        tch::no_grad(|| tensor.shallow_clone().copy_(found));
    }
    Ok(())
}
