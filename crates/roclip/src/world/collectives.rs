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
        // The statistics that are exchanged are in 32 bits, also where autocast gives fewer; what is normalised has those of one process.
        let normalised = Group::batch_norm(self, &input.to_kind(Kind::Float), norm, counts);
        Ok(normalised.map_err(|cause| lost(self, cause))?.to_kind(input.kind()))
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

#[cfg(test)]
mod tests {
    use crate::world::World;
    use crate::world::testing::{numbers, together, values};
    use tch::{Device, Kind, Tensor};
    use torch_bridge::BatchNorm;

    /// What batch norm makes of `input`, its kind, and the gradient of the sum of cubes. (That of squares hardly changes with the input.)
    fn normalised(world: &World, input: &Tensor) -> (Kind, Vec<f32>, Vec<f32>) {
        let channel = |value: f64| Tensor::full([3], value, (Kind::Float, Device::Cpu));
        let [weight, bias] = [1.5, 0.25].map(|value| channel(value).set_requires_grad(true));
        let norm = BatchNorm {
            weight: &weight,
            bias: &bias,
            running_mean: &channel(0.0),
            running_var: &channel(1.0),
            momentum: 0.1,
            epsilon: 1e-5,
        };
        let input = input.detach().copy().set_requires_grad(true);
        let output = world.collectives().batch_norm(&input, &norm, true).unwrap();
        let exact = output.to_kind(Kind::Float);
        world.collectives().backward(&(exact.square() * &exact).sum(Kind::Float)).unwrap();
        assert_eq!(input.grad().kind(), input.kind());
        let single = |tensor: &Tensor| values(&tensor.detach().to_kind(Kind::Float));
        (output.kind(), single(&output), single(&input.grad()))
    }

    #[test]
    fn batch_norm_of_several_processes_gives_the_bits_that_one_gives() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let whole = (numbers(3.0, &[4, 3, 2, 2]) * 2.0 + 1.0).to_kind(kind);
            let (of_one, one, gradient) = normalised(&World::alone(), &whole);
            let rows: Vec<Vec<f32>> =
                [0, 2].map(|from| values(&whole.narrow(0, from, 2).to_kind(Kind::Float))).to_vec();
            let found = together(2, |world| {
                let own = Tensor::from_slice(&rows[world.rank()]).view([2, 3, 2, 2]).to_kind(kind);
                normalised(&world, &own)
            });
            assert!(of_one == kind && found.iter().all(|(of_two, ..)| *of_two == kind), "{kind:?}");
            let within = if kind == Kind::Float { 1e-5 } else { 0.02 };
            let near = |a: &[f32], b: &[f32]| {
                let largest = a.iter().fold(1f32, |largest, value| largest.max(value.abs()));
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= within * largest)
            };
            let outputs: Vec<f32> = found.iter().flat_map(|(_, output, _)| output).copied().collect();
            let gradients: Vec<f32> = found.iter().flat_map(|(.., gradient)| gradient).copied().collect();
            assert!(near(&one, &outputs), "{one:?} and {found:?}");
            assert!(near(&gradient, &gradients), "{gradient:?} and {found:?}");
        }
    }
}
