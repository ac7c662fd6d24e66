//! All processes begin where the first one stands: weights, moments, what the objective keeps, and the place in the run. Only the first
//! reads checkpoints.

use crate::error::{Error, Result};
use crate::train::engine::{Position, Trainer};
use crate::train::tally::EpochTally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// What comes before the tensors.
#[derive(Serialize, Deserialize)]
struct Standing {
    step: u64,
    epoch: u64,
    pass: u64,
    step_in_pass: u64,
    tally: Option<EpochTally>,
    /// Name, kind and shape of what the objective keeps.
    objective: Vec<(String, String, Vec<i64>)>,
}

/// Where what objectives keep is exchanged. It lies partly on the device and partly on the host, and a process that has none of it yet does not
/// know which: so all send and receive it on the host.
const EXCHANGED_ON: Device = Device::Cpu;

/// The kinds of tensors that objectives keep.
const KINDS: [(&str, Kind); 3] = [("float", Kind::Float), ("double", Kind::Double), ("int64", Kind::Int64)];

fn on_host(kept: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    kept.into_iter().map(|(name, tensor)| (name, tensor.detach().to_device(EXCHANGED_ON))).collect()
}

impl Trainer {
    /// Gives what this trainer is to the others, where it is the first process's, or takes it from there.
    pub fn share(&mut self) -> Result<()> {
        if self.world.is_alone() {
            return Ok(());
        }
        let world = self.world.clone();
        let kept = on_host(self.objective.state());
        let text = serde_json::to_string(&self.standing(&kept)?).map_err(|e| Error::internal(format!("JSON: {e}")))?;
        let text = world.broadcast_text(if world.is_first() { &text } else { "" })?;
        let Standing { step, epoch, pass, step_in_pass, tally, objective } =
            serde_json::from_str(&text).map_err(|e| Error::internal(format!("the first process's state: {e}")))?;
        let objective = objective.into_iter().map(|(name, kind, shape)| {
            let kind = KINDS.into_iter().find(|(word, _)| *word == kind).map(|(_, kind)| kind);
            let kind = kind.ok_or_else(|| Error::internal(format!("`{name}` is of a kind that is not shared")))?;
            let own = if world.is_first() { kept.get(&name).map(Tensor::shallow_clone) } else { None };
            Ok((name, own.unwrap_or_else(|| Tensor::zeros(shape, (kind, EXCHANGED_ON)))))
        });
        let objective = objective.collect::<Result<BTreeMap<String, Tensor>>>()?;
        let (model, optimizer) = (self.model.parameters().all(), self.optimizer.state());
        let tensors: Vec<&Tensor> = model.values().chain(optimizer.values()).chain(objective.values()).collect();
        world.collectives().broadcast(&tensors)?;
        if !world.is_first() {
            self.restore(Position { step, epoch, pass, step_in_pass }, tally, &optimizer, &objective)?;
        }
        Ok(())
    }

    fn standing(&self, kept: &BTreeMap<String, Tensor>) -> Result<Standing> {
        let Position { step, epoch, pass, step_in_pass } = self.position;
        let described = kept.iter().map(|(name, tensor)| {
            let kind = KINDS.into_iter().find(|(_, kind)| *kind == tensor.kind()).map(|(word, _)| word.to_owned());
            let kind = kind.ok_or_else(|| Error::internal(format!("`{name}` is of a kind that is not shared")))?;
            Ok((name.clone(), kind, tensor.size()))
        });
        let objective = described.collect::<Result<_>>()?;
        let tally = self.position.within_epoch().then(|| self.tally.so_far());
        Ok(Standing { step, epoch, pass, step_in_pass, tally, objective })
    }

    /// BatchNorm's running statistics as the first process has them: they differ where each takes its own rows'.
    pub(super) fn share_statistics(&self) -> Result<()> {
        let trainable = self.model.parameters().trainable();
        let all = self.model.parameters().all();
        let buffers: Vec<&Tensor> =
            all.iter().filter(|(name, _)| !trainable.contains_key(*name)).map(|(_, tensor)| tensor).collect();
        if buffers.is_empty() { Ok(()) } else { self.world.collectives().broadcast(&buffers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One process has tensors on a GPU where another has none yet: the way that they are exchanged must be one.
    #[test]
    fn what_objectives_keep_is_exchanged_on_the_host_wherever_it_lies() {
        let here = if tch::Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
        let rows = Tensor::from_slice(&[1.5f32, -2.0]).to_device(here).set_requires_grad(true);
        let kept = BTreeMap::from([("rows".to_owned(), rows), ("position".to_owned(), Tensor::from_slice(&[3i64, 4]))]);
        let sent = on_host(kept);
        assert!(sent.values().all(|tensor| tensor.device() == Device::Cpu && !tensor.requires_grad()));
        assert_eq!(Vec::<f32>::try_from(&sent["rows"]).unwrap(), [1.5, -2.0]);
        assert_eq!(Vec::<i64>::try_from(&sent["position"]).unwrap(), [3, 4]);
    }
}
