//! Several processes that train one model together, or one that trains alone. Everything that they have to agree on goes through
//! [`World`], which is the identity where there is one process: the path through the code is the same.
//!
//! Each process computes its own rows of a batch; features are gathered, with gradient, so that an objective sees the whole batch. A
//! process's loss is such that the mean over processes is the loss of one process with the whole batch: that of its own rows against all
//! ([`OwnRows`]), or the whole one. The gradient of a gather sums over the processes what each sends to a row, so that the mean of all
//! parameters' gradients over the processes is the gradient of one process.

mod average;
mod collectives;
mod launch;
mod rows;
#[cfg(test)]
pub(crate) mod testing;

pub use collectives::{Alone, Collectives};
pub use launch::{Launch, VARIABLES};
pub use rows::OwnRows;

use crate::error::{Error, Result, TorchContext};
use roclip_data::skip::SkipReport;
use std::rc::Rc;
use std::time::Duration;
use tch::{Device, Tensor};
use torch_bridge::Group;
pub use torch_bridge::Rendezvous;

/// The longest that the others wait while the first process evaluates or saves. One that has ended is noticed at once.
const LONGEST_WORK: Duration = Duration::from_secs(24 * 3600);

/// Joins a process group of PyTorch's Python part for the GPU of this number, or for the CPU, and gives the group's name; none where it has
/// nothing that Gloo without Python has not. An error is what Python said.
pub type JoinInPython = fn(&Rendezvous, Option<usize>) -> std::result::Result<Option<String>, String>;

/// The processes of a run, as one of them sees them.
#[derive(Clone)]
pub struct World {
    collectives: Rc<dyn Collectives>,
    /// Of an exchange.
    timeout: Duration,
}

impl World {
    /// Of one process.
    pub fn alone() -> World {
        World { collectives: Rc::new(Alone), timeout: Duration::ZERO }
    }

    /// Joins the processes that `launch` names: by Python where there is one that can do more than Gloo for `device`, else over Gloo.
    /// `timeout` is that of joining and of each exchange afterwards.
    ///
    /// # Errors
    /// A port that is in use or out of reach, and processes that do not come in time.
    pub fn join(launch: &Launch, timeout: Duration, device: Device, python: Option<JoinInPython>) -> Result<World> {
        let at = launch.rendezvous(timeout);
        let gpu = match device {
            Device::Cuda(number) => Some(number),
            _ => None,
        };
        let named = python.map_or(Ok(None), |join| join(&at, gpu));
        let group = named.and_then(|name| {
            let group = name.map_or_else(|| Group::gloo(&at), |name| Group::joined(&name));
            group.map_err(|cause| cause.to_string())
        });
        let group = group.map_err(|cause| {
            Error::lost(
                format!(
                    "process {} of {} cannot join the others at {}:{}: {cause}",
                    launch.rank, launch.size, launch.host, launch.port
                ),
                format!(
                    "is another program listening on that port (choose another MASTER_PORT)? Have all {} been started, with one \
                     MASTER_ADDR that every machine reaches?",
                    launch.size
                ),
            )
        })?;
        Ok(World { collectives: Rc::new(group), timeout })
    }

    /// From 0. The first process writes the run's folder.
    pub fn rank(&self) -> usize {
        self.collectives.rank()
    }

    pub fn size(&self) -> usize {
        self.collectives.size()
    }

    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// What the processes do together. Calls fail where another process has ended, or does not answer in time.
    pub fn collectives(&self) -> &dyn Collectives {
        self.collectives.as_ref()
    }

    /// Waits for the first process, which does something alone and comes here afterwards. The others should be here by then.
    pub fn wait_for_first(&self) -> Result<()> {
        self.collectives.barrier(if self.is_first() { self.timeout } else { LONGEST_WORK })
    }

    /// As the first process: tells the others, who are at [`World::told`] or come there, what all do next.
    pub fn tell(&self, work: i64) -> Result<()> {
        self.wait_for_first()?;
        self.collectives.broadcast(&[&Tensor::from_slice(&[work])])
    }

    /// As another process: what the first one says that all do next, however long it is at something else before.
    pub fn told(&self) -> Result<i64> {
        self.wait_for_first()?;
        let work = Tensor::from_slice(&[-1i64]);
        self.collectives.broadcast(&[&work])?;
        Ok(work.int64_value(&[0]))
    }

    /// Waits for all, each of which may be at something that takes long.
    pub fn wait_for_all(&self) -> Result<()> {
        self.collectives.barrier(LONGEST_WORK)
    }

    /// The numbers of every process `[size][numbers]`; all give equally many.
    pub fn gather_numbers(&self, own: &[i64]) -> Result<Vec<Vec<i64>>> {
        let all = self.collectives.all_gather(&Tensor::from_slice(own))?;
        let all: Vec<i64> = Vec::try_from(all).torch("reading the numbers of all processes")?;
        Ok(all.chunks(own.len().max(1)).map(<[i64]>::to_vec).collect())
    }

    /// The texts of all processes, by rank.
    pub fn gather_texts(&self, own: &str) -> Result<Vec<String>> {
        let lengths: Vec<i64> = self.gather_numbers(&[own.len() as i64])?.concat();
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut bytes = own.as_bytes().to_vec();
        bytes.resize(longest as usize, 0);
        let all: Vec<u8> = Vec::try_from(self.collectives.all_gather(&Tensor::from_slice(&bytes))?)
            .torch("reading the texts of all processes")?;
        let each = all.chunks(longest as usize).zip(lengths);
        each.map(|(bytes, length)| text_of(bytes.get(..length as usize).unwrap_or_default())).collect()
    }

    /// The first process's text; what the others give is not looked at.
    pub fn broadcast_text(&self, own: &str) -> Result<String> {
        let length = Tensor::from_slice(&[own.len() as i64]);
        self.collectives.broadcast(&[&length])?;
        let mut bytes = own.as_bytes().to_vec();
        bytes.resize(length.int64_value(&[0]) as usize, 0);
        if bytes.is_empty() {
            return Ok(String::new());
        }
        let text = Tensor::from_slice(&bytes);
        self.collectives.broadcast(&[&text])?;
        text_of(&Vec::<u8>::try_from(text).torch("reading the first process's text")?)
    }

    /// The rows `[rows, ...]` of all processes, by rank, without gradient. Each may have another number of them.
    pub fn gather_rows(&self, own: &Tensor) -> Result<Tensor> {
        let counts = self.gather_numbers(&[own.size().first().copied().unwrap_or(0)])?.concat();
        self.gather_counted(own, &counts, false)
    }

    /// The numbers of all processes, by rank. Each may give another number of them.
    pub fn gather_list(&self, own: &[i64]) -> Result<Vec<i64>> {
        Vec::try_from(self.gather_rows(&Tensor::from_slice(own))?).torch("reading the numbers of all processes")
    }

    /// What all processes have left out.
    pub fn gather_skips(&self, own: &SkipReport) -> Result<SkipReport> {
        let mut all = SkipReport::default();
        for text in self.gather_texts(&own.to_jsonl())? {
            all.merge(SkipReport::from_jsonl(&text)?);
        }
        Ok(all)
    }

    /// The first `counts[rank]` rows of all processes' `own` `[rows, ...]`, by rank. A process that has none gives a row that is left out.
    pub fn gather_counted(&self, own: &Tensor, counts: &[i64], gradient: bool) -> Result<Tensor> {
        let gather = |rows: &Tensor| match gradient {
            true => self.collectives.all_gather_with_gradient(rows),
            false => self.collectives.all_gather(rows),
        };
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        if counts.iter().all(|count| *count == most) {
            return gather(own);
        }
        let rows = own.size().first().copied().unwrap_or(0);
        let padded = match most - rows {
            0 => own.shallow_clone(),
            missing => {
                let shape: Vec<i64> = [missing].into_iter().chain(own.size().into_iter().skip(1)).collect();
                Tensor::cat(&[own, &Tensor::zeros(shape, (own.kind(), own.device()))], 0)
            }
        };
        let there = counts.iter().zip(0i64..).flat_map(|(count, rank)| (0..*count).map(move |row| rank * most + row));
        let there: Vec<i64> = there.collect();
        Ok(gather(&padded)?.index_select(0, &Tensor::from_slice(&there).to_device(own.device())))
    }

    /// The part of `count` things that this process sees to: whole blocks of `block`, so that each is as it would be in one process.
    pub fn part(&self, count: usize, block: usize) -> std::ops::Range<usize> {
        let blocks = count.div_ceil(block.max(1));
        let border = |rank: usize| (blocks * rank / self.size() * block).min(count);
        border(self.rank())..border(self.rank() + 1)
    }
}

fn text_of(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::internal("a process sent a text that is none"))
}

#[cfg(test)]
mod tests {
    //! Several processes as threads of one.

    use super::testing::{numbers, together, values};
    use super::*;
    use crate::objective::{cross_entropy_of, info_nce_of};
    use tch::Kind;

    #[test]
    fn texts_numbers_and_rows_of_different_lengths_reach_everyone() {
        let found = together(3, |world| {
            let rank = world.rank();
            let rows = numbers(rank as f64, &[rank as i64, 2]);
            let texts = world.gather_texts(&"é".repeat(rank)).unwrap();
            let said = world.broadcast_text(if rank == 0 { "of the first" } else { "other" }).unwrap();
            let silent = world.broadcast_text(if rank == 0 { "" } else { "other" }).unwrap();
            let rows = values(&world.gather_rows(&rows).unwrap());
            let work = if rank == 0 { world.tell(5).map(|()| 5) } else { world.told() };
            assert_eq!(work.unwrap(), 5, "what the first says is heard");
            (texts, said, silent, world.gather_numbers(&[rank as i64, 7]).unwrap(), rows, world.part(1000, 128))
        });
        let rows = [values(&numbers(1.0, &[1, 2])), values(&numbers(2.0, &[2, 2]))].concat();
        let parts: Vec<_> = found.iter().map(|one| one.5.clone()).collect();
        assert_eq!(parts, [0..256, 256..640, 640..1000], "whole blocks, none twice");
        for (texts, said, silent, numbers, gathered, _) in found {
            assert_eq!(texts, ["", "é", "éé"]);
            assert_eq!((said.as_str(), silent.as_str()), ("of the first", ""));
            assert_eq!(numbers, [[0, 7], [1, 7], [2, 7]]);
            assert_eq!(gathered, rows);
        }
    }

    /// Losses and gradients of features and scale are those of one process, also where the processes have 3, 0 and 2 rows.
    #[test]
    fn the_mean_of_the_processes_losses_has_the_gradient_of_one_process() {
        let (rows, dim) = (5, 4);
        let leaf = |tensor: Tensor| tensor.detach().copy().set_requires_grad(true);
        let whole = || [1.0, 2.0].map(|seed| numbers(seed, &[rows, dim]));
        let loss_of = |a: &Tensor, b: &Tensor, scale: &Tensor, own: OwnRows| {
            info_nce_of(a, b, scale, own) + cross_entropy_of(a, b, scale, own) * 0.3
        };
        let [a, b] = whole().map(leaf);
        let scale = leaf(Tensor::from(3f32));
        let loss = loss_of(&a, &b, &scale, OwnRows::All);
        loss.backward();
        let single = (loss.double_value(&[]), values(&a.grad()), values(&b.grad()), scale.grad().double_value(&[]));
        let counts = [3i64, 0, 2];
        let found = together(3, |world| {
            let rank = world.rank();
            let (first, count) = (counts[..rank].iter().sum::<i64>(), counts[rank]);
            let own = |tensor: Tensor| match count {
                0 => leaf(Tensor::zeros([1, dim], (Kind::Float, Device::Cpu))),
                _ => leaf(tensor.narrow(0, first, count)),
            };
            let [a, b] = whole().map(own);
            let scale = leaf(Tensor::from(3f32));
            let [all_a, all_b] = [&a, &b].map(|one| world.gather_counted(one, &counts, true).unwrap());
            let loss = loss_of(&all_a, &all_b, &scale, OwnRows::Part { first, count, processes: 3 });
            world.collectives().backward(&loss).unwrap();
            let gradients = [a.grad(), b.grad()].map(|gradient| values(&(gradient / 3.0)));
            let of_scale = [scale.grad()];
            let loss = world.average(&of_scale, &loss).unwrap().double_value(&[]);
            (first, count, loss, gradients, of_scale[0].double_value(&[]))
        });
        let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        for (first, count, loss, [of_a, of_b], of_scale) in found {
            assert!((loss - single.0).abs() < 1e-6 && (of_scale - single.3).abs() < 1e-6, "{loss} {of_scale}");
            let within = (first * dim) as usize..((first + count) * dim) as usize;
            if count > 0 {
                assert!(
                    close(&of_a, &single.1[within.clone()]) && close(&of_b, &single.2[within]),
                    "of rank at {first}"
                );
            } else {
                assert!(of_a.iter().chain(&of_b).all(|gradient| *gradient == 0.0));
            }
        }
    }
}
