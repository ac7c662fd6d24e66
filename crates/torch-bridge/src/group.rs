//! PyTorch's process groups (c10d): several processes that compute together. Over Gloo they need no Python.

use crate::{BridgeError, ffi};
use std::time::Duration;
use tch::Tensor;

/// Where the processes of a group find each other, and who this one is.
#[derive(Debug, Clone)]
pub struct Rendezvous<'a> {
    pub host: &'a str,
    pub port: u16,
    pub rank: usize,
    pub size: usize,
    /// Whether this process serves the store at `port`; nobody does where a launcher serves it.
    pub serve: bool,
    /// Of the keys in the store, which may outlive a failed attempt.
    pub prefix: &'a str,
    /// Of joining, and of each collective.
    pub timeout: Duration,
}

/// The processes that compute together. All of them make the same calls in one order.
pub struct Group(cxx::UniquePtr<ffi::bridge::Group>);

/// A batch norm in training; see [`Group::batch_norm`].
pub struct BatchNorm<'a> {
    /// `[channels]`, as all tensors here.
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
    pub running_mean: &'a Tensor,
    pub running_var: &'a Tensor,
    pub momentum: f64,
    pub epsilon: f64,
}

type Result<T> = std::result::Result<T, BridgeError>;

fn address(tensor: &Tensor) -> usize {
    tensor.as_ptr() as usize
}

fn failed(cause: cxx::Exception) -> BridgeError {
    BridgeError::Group { cause }
}

impl Group {
    /// Joins the others; returns when all have come.
    ///
    /// # Errors
    /// A port that cannot be listened on or reached, and processes that do not come within the timeout.
    pub fn gloo(at: &Rendezvous) -> Result<Group> {
        let Rendezvous { host, port, rank, size, serve, prefix, timeout } = *at;
        ffi::bridge::connect_gloo(host, port, rank, size, serve, prefix, milliseconds(timeout))
            .map(Group)
            .map_err(failed)
    }

    /// The group that PyTorch's Python part has joined in this process as `name`; it may exchange by other means than Gloo (NCCL).
    ///
    /// # Errors
    /// No group has this name.
    pub fn joined(name: &str) -> Result<Group> {
        ffi::bridge::joined_group(name).map(Group).map_err(failed)
    }

    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Sums `tensor` over the processes, in place: all get the same bits.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: the tensor is borrowed through the call, which waits; so below.
        unsafe { self.0.all_reduce(address(tensor)) }.map_err(failed)
    }

    /// The processes' tensors one after the other along the first dimension, without gradient. All have one shape.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        unsafe { self.0.all_gather(address(tensor)).map(|found| Tensor::from_ptr(found as *mut _)) }.map_err(failed)
    }

    /// As [`Group::all_gather`]; backward sums over the processes what each sends to a process's rows.
    pub fn all_gather_with_gradient(&self, tensor: &Tensor) -> Result<Tensor> {
        unsafe { self.0.all_gather_with_gradient(address(tensor)).map(|found| Tensor::from_ptr(found as *mut _)) }
            .map_err(failed)
    }

    /// Overwrites each tensor with that of the first process.
    pub fn broadcast(&self, tensors: &[&Tensor]) -> Result<()> {
        let addresses: Vec<usize> = tensors.iter().map(|tensor| address(tensor)).collect();
        unsafe { self.0.broadcast(&addresses) }.map_err(failed)
    }

    /// Waits until all have come here, for so long at most.
    pub fn barrier(&self, timeout: Duration) -> Result<()> {
        self.0.barrier(milliseconds(timeout)).map_err(failed)
    }

    /// Batch norm of `input` `[rows, channels, ...]` in training, with the statistics of all processes' rows. The rows of a process that
    /// does not count (`counts`) are normalised, and have no part in the statistics or any gradient.
    pub fn batch_norm(&self, input: &Tensor, norm: &BatchNorm, counts: bool) -> Result<Tensor> {
        let BatchNorm { weight, bias, running_mean, running_var, momentum, epsilon } = norm;
        let [weight, bias, running_mean, running_var] =
            [weight, bias, running_mean, running_var].map(|one| address(one));
        unsafe {
            let group = &self.0;
            group
                .batch_norm(address(input), weight, bias, running_mean, running_var, *momentum, *epsilon, counts)
                .map(|found| Tensor::from_ptr(found as *mut _))
        }
        .map_err(failed)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use tch::{Device, Kind};

    /// `work` on `size` threads, each of which is a process to the group.
    fn together<T: Send>(size: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
        within(Duration::from_secs(20), size, work)
    }

    fn within<T: Send>(timeout: Duration, size: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
        // SAFETY: every test sets the same value, before anything reads it.
        unsafe { std::env::set_var("GLOO_SOCKET_IFNAME", "lo") };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let join = |rank| {
            let at = Rendezvous { host: "127.0.0.1", port, rank, size, serve: rank == 0, prefix: "test", timeout };
            work(Group::gloo(&at).unwrap())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || join(rank))).collect::<Vec<_>>();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn numbers(seed: f64, shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        let index = Tensor::arange(count, (Kind::Double, Device::Cpu));
        (((index * 12.9898 + seed * 78.233).sin() * 43758.5453).frac()).reshape(shape).to_kind(Kind::Float)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.flatten(0, -1).contiguous()).unwrap()
    }

    fn assert_close(a: &[f32], b: &[f32], within: f32) {
        assert_eq!(a.len(), b.len());
        let far = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far <= within, "{far}");
    }

    /// Ranks' losses are `sum(w_r * gathered^2)`: what comes back to a row is the sum of all ranks' gradients for it. `expand`ed gradients
    /// are not contiguous, and are taken, too.
    #[test]
    fn the_gradient_of_a_gather_is_summed_over_the_ranks() {
        let found = together(3, |group| {
            let rank = group.rank() as f64;
            let local = numbers(rank, &[2, 4]).set_requires_grad(true);
            let all = group.all_gather_with_gradient(&local).unwrap();
            (all.square() * (rank + 1.0)).sum(Kind::Float).backward();
            let expected = local.detach() * 2.0 * (1.0 + 2.0 + 3.0);
            let plain = numbers(rank + 9.0, &[2, 4]).set_requires_grad(true);
            group.all_gather_with_gradient(&plain).unwrap().sum(Kind::Float).backward();
            (values(&all), values(&local.grad()), values(&expected), values(&plain.grad()))
        });
        let whole: Vec<f32> = (0..3).flat_map(|rank| values(&numbers(f64::from(rank), &[2, 4]))).collect();
        for (all, gradient, expected, of_sum) in found {
            assert_eq!(all, whole);
            assert_close(&gradient, &expected, 1e-5);
            assert_eq!(of_sum, [3.0; 8]);
        }
    }

    #[test]
    fn a_group_that_nobody_has_joined_is_no_group() {
        let told = Group::joined("nobody").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains("nobody"), "{told}");
    }

    #[test]
    fn sums_and_broadcasts_reach_every_rank() {
        let found = together(2, |group| {
            let own = Tensor::from_slice(&[1.0f32 + group.rank() as f32, 10.0]);
            group.all_reduce(&own).unwrap();
            let text = Tensor::from_slice(&[7i64 + group.rank() as i64]);
            group.broadcast(&[&text]).unwrap();
            group.barrier(Duration::from_secs(60)).unwrap();
            (values(&own), text.int64_value(&[0]))
        });
        assert_eq!(found, [(vec![3.0, 20.0], 7), (vec![3.0, 20.0], 7)]);
    }

    /// Against PyTorch's batch norm over the whole batch in one process: output, running statistics and all gradients, where one rank has
    /// more rows than another, and a third has only a row that does not count.
    #[test]
    fn batch_norm_over_ranks_is_that_of_one_process() {
        let whole = numbers(5.0, &[6, 3, 4, 4]) * 3.0 + 1.0;
        let wanted = numbers(6.0, &[6, 3, 4, 4]);
        let leaf = |tensor: Tensor| tensor.detach().copy().set_requires_grad(true);
        let running =
            || (Tensor::zeros([3], (Kind::Float, Device::Cpu)), Tensor::ones([3], (Kind::Float, Device::Cpu)));
        let affine = || (leaf(numbers(7.0, &[3]) + 0.5), leaf(numbers(8.0, &[3])));
        let (x, (w, b), (mean, var)) = (leaf(whole.shallow_clone()), affine(), running());
        let y = x.batch_norm(Some(&w), Some(&b), Some(&mean), Some(&var), true, 0.1, 1e-5, false);
        ((&y - &wanted).square().sum(Kind::Float) / 6.0).backward();
        let single = [&y, &mean, &var, &x.grad(), &w.grad(), &b.grad()].map(values);
        let rows = [(0, 4), (4, 2), (0, 0)];
        let parts = [&whole, &wanted].map(values);
        let found = together(3, |group| {
            let (from, count) = rows[group.rank()];
            let of = |values: &[f32]| Tensor::from_slice(values).view([6, 3, 4, 4]).narrow(0, from, count.max(1));
            let (x, (w, b), (mean, var)) = (leaf(of(&parts[0])), affine(), running());
            let norm = BatchNorm {
                weight: &w,
                bias: &b,
                running_mean: &mean,
                running_var: &var,
                momentum: 0.1,
                epsilon: 1e-5,
            };
            let channels_last = crate::channels_last(&x).unwrap();
            let y = group.batch_norm(&channels_last, &norm, count > 0).unwrap();
            ((&y - of(&parts[1])).square().narrow(0, 0, count).sum(Kind::Float) / 6.0).backward();
            let gradients = [w.grad(), b.grad()];
            gradients.iter().for_each(|gradient| group.all_reduce(gradient).unwrap());
            [&y, &mean, &var, &x.grad(), &gradients[0], &gradients[1]].map(values)
        });
        for ((from, count), found) in rows.into_iter().zip(&found) {
            let of = |values: &[f32]| values[from as usize * 48..(from + count) as usize * 48].to_vec();
            if count > 0 {
                assert_close(&found[0], &of(&single[0]), 1e-5);
                assert_close(&found[3], &of(&single[3]), 1e-6);
            } else {
                assert!(found[3].iter().all(|gradient| *gradient == 0.0));
            }
            for at in [1, 2] {
                assert_close(&found[at], &single[at], 1e-6);
            }
            for at in [4, 5] {
                assert_close(&found[at], &single[at], 2e-5);
            }
        }
    }

    #[test]
    fn a_barrier_may_wait_longer_than_a_collective() {
        let found = within(Duration::from_secs(1), 2, |group| {
            if group.rank() == 1 {
                std::thread::sleep(Duration::from_millis(2500));
            }
            let waited = group.barrier(Duration::from_secs(60));
            let own = Tensor::from_slice(&[1.0f32]);
            // Rank 1 goes before the sum, and rank 0 is told so.
            let told = (group.rank() == 0).then(|| group.all_reduce(&own).unwrap_err().to_string());
            (waited.map_err(|error| error.to_string()), told)
        });
        assert_eq!((&found[0].0, &found[1].0), (&Ok(()), &Ok(())));
        let told = found[0].1.as_deref().unwrap();
        assert!(!told.contains("Exception raised") && !told.is_empty(), "{told}");
    }
}
