//! SGD with momentum, as PyTorch's `torch.optim.SGD` without dampening: for the few numbers that prompt learning trains.

use crate::error::Result;
use crate::train::optimizer_state::restore;
use std::collections::BTreeMap;
use tch::Tensor;

/// Settings that are the same at every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdConfig {
    pub momentum: f64,
    /// Times the parameter, added to its gradient.
    pub weight_decay: f64,
}

struct Slot {
    parameter: Tensor,
    velocity: Tensor,
}

/// `v <- momentum v + g + weight_decay p`, then `p <- p - rate v`, for each named parameter.
pub struct Sgd {
    config: SgdConfig,
    slots: BTreeMap<String, Slot>,
}

impl Sgd {
    pub fn new(parameters: BTreeMap<String, Tensor>, config: SgdConfig) -> Self {
        let slot = |parameter: Tensor| Slot { velocity: parameter.detach().zeros_like(), parameter };
        Sgd { config, slots: parameters.into_iter().map(|(name, parameter)| (name, slot(parameter))).collect() }
    }

    /// One step with the gradients at hand, which are then forgotten. A parameter without gradient stays where it is.
    pub fn step(&mut self, learning_rate: f64) {
        tch::no_grad(|| {
            for slot in self.slots.values_mut() {
                let gradient = slot.parameter.grad();
                if gradient.defined() {
                    let change = gradient + &slot.parameter * self.config.weight_decay;
                    slot.velocity.copy_(&(&slot.velocity * self.config.momentum + change));
                    slot.parameter.copy_(&(&slot.parameter - &slot.velocity * learning_rate));
                }
            }
        });
        self.forget_gradients();
    }

    pub fn forget_gradients(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.parameter.zero_grad());
    }

    /// The velocities by the names of their parameters.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        self.slots.iter().map(|(name, slot)| (name.clone(), slot.velocity.shallow_clone())).collect()
    }

    /// # Errors
    /// Where `state` is of other parameters.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.slots.iter_mut().try_for_each(|(name, slot)| restore(state, name, &mut slot.velocity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// By hand: g = 2p; v = 2, p = 1 - 0.1 * 2.1; then v = 0.9 * 2.1 + 2.1 * 0.79.
    #[test]
    fn two_steps_are_those_of_the_formula() {
        let p = Tensor::ones([], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let config = SgdConfig { momentum: 0.9, weight_decay: 0.1 };
        let mut sgd = Sgd::new(BTreeMap::from([("p".into(), p.shallow_clone())]), config);
        let mut found = Vec::new();
        for _ in 0..2 {
            (&p * &p).backward();
            sgd.step(0.1);
            found.push(p.double_value(&[]));
        }
        let second = 0.79 - 0.1 * (0.9 * 2.1 + 2.1 * 0.79);
        assert!((found[0] - 0.79).abs() < 1e-12 && (found[1] - second).abs() < 1e-12, "{found:?}");
    }
}
