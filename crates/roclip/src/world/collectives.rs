//! What processes do together.

use crate::error::{Error, Result};
use std::time::Duration;
use tch::{Kind, Tensor};
use torch_bridge::{BatchNorm, Group, brief};

/// What training needs of the other processes. All of them make the same calls in one order, and give tensors of the same kind of device to the
/// same call, the host's memory or a GPU: NCCL exchanges what lies on GPUs and Gloo the rest, and processes that take different ways wait for
/// each other until the call times out.
pub trait Collectives {
    fn rank(&self) -> usize;

    fn size(&self) -> usize;

    /// Sums `tensor` over the processes, in place.
    fn all_reduce(&self, tensor: &Tensor) -> Result<()>;

    /// The processes' tensors one after the other along the first dimension, without gradient. All have one shape.
    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor>;

    /// As [`Collectives::all_gather`]; backward sums over the processes what each sends to a process's rows.
    fn all_gather_with_gradient(&self, tensor: &Tensor) -> Result<Tensor>;

    /// Overwrites each tensor with that of the first process.
    fn broadcast(&self, tensors: &[&Tensor]) -> Result<()>;

    /// Waits until all have come here, for so long at most.
    fn barrier(&self, timeout: Duration) -> Result<()>;

    /// Batch norm of `input` `[rows, channels, ...]` in training, with the statistics of all processes' rows. The rows of a process that
    /// does not count have no part in them.
    fn batch_norm(&self, input: &Tensor, norm: &BatchNorm, counts: bool) -> Result<Tensor>;

    /// `loss.backward()`, which meets the other processes where a gather or a batch norm did.
    fn backward(&self, loss: &Tensor) -> Result<()>;
}

/// One process.
pub struct Alone;

impl Collectives for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.detach())
    }

    fn all_gather_with_gradient(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.shallow_clone())
    }

    fn broadcast(&self, _tensors: &[&Tensor]) -> Result<()> {
        Ok(())
    }

    fn barrier(&self, _timeout: Duration) -> Result<()> {
        Ok(())
    }

    fn batch_norm(&self, input: &Tensor, norm: &BatchNorm, _counts: bool) -> Result<Tensor> {
        let BatchNorm { weight, bias, running_mean, running_var, momentum, epsilon } = *norm;
        let (mean, var) = (Some(running_mean), Some(running_var));
        Ok(input.batch_norm(Some(weight), Some(bias), mean, var, true, momentum, epsilon, true))
    }

    fn backward(&self, loss: &Tensor) -> Result<()> {
        loss.backward();
        Ok(())
    }
}

impl Collectives for Group {
    fn rank(&self) -> usize {
        Group::rank(self)
    }

    fn size(&self) -> usize {
        Group::size(self)
    }

    fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        Group::all_reduce(self, tensor).map_err(|cause| lost(self, cause))
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        Group::all_gather(self, tensor).map_err(|cause| lost(self, cause))
    }

    fn all_gather_with_gradient(&self, tensor: &Tensor) -> Result<Tensor> {
        Group::all_gather_with_gradient(self, tensor).map_err(|cause| lost(self, cause))
    }

    fn broadcast(&self, tensors: &[&Tensor]) -> Result<()> {
        Group::broadcast(self, tensors).map_err(|cause| lost(self, cause))
    }

    fn barrier(&self, timeout: Duration) -> Result<()> {
        Group::barrier(self, timeout).map_err(|cause| lost(self, cause))
    }

    fn batch_norm(&self, input: &Tensor, norm: &BatchNorm, counts: bool) -> Result<Tensor> {
        // The statistics that are exchanged are in 32 bits, also where autocast gives fewer.
        Group::batch_norm(self, &input.to_kind(Kind::Float), norm, counts).map_err(|cause| lost(self, cause))
    }

    fn backward(&self, loss: &Tensor) -> Result<()> {
        loss.f_backward().map_err(|cause| lost(self, brief(&cause.to_string())))
    }
}

/// A collective fails where another process does; `Alone` never does.
fn lost(group: &Group, cause: impl std::fmt::Display) -> Error {
    let (rank, size) = (Group::rank(group), Group::size(group));
    Error::lost(
        format!("process {rank} of {size} lost the others ({cause})"),
        "one of them has ended, as its own message says, or has not answered within train.collective_timeout_seconds; start all of them \
         again, with --resume",
    )
}
