//! AdamW over two groups: with and without weight decay.

use crate::error::{Error, Result};
use crate::objective::TextTraining;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors};

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDecayGroups {
    /// Matrices and convolutions; no vectors, scalars or embeddings.
    #[default]
    ByRank,
    /// As released: everything whose name has none of `bn`, `ln`, `bias`, `logit_scale`.
    ByName,
}

impl WeightDecayGroups {
    fn decays(self, name: &str, parameter: &Tensor) -> bool {
        match self {
            WeightDecayGroups::ByName => !["bn", "ln", "bias", "logit_scale"].iter().any(|part| name.contains(part)),
            WeightDecayGroups::ByRank => parameter.dim() >= 2 && !name.contains("embedding"),
        }
    }
}

struct Slot {
    name: String,
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    decays: bool,
}

pub struct Optimizer {
    slots: Vec<Slot>,
    adamw: AdamW,
}

impl Optimizer {
    /// `adamw.learning_rate` is set at each step.
    pub fn new(parameters: BTreeMap<String, Tensor>, groups: WeightDecayGroups, adamw: AdamW) -> Self {
        let slots = parameters.into_iter().map(|(name, parameter)| Slot {
            decays: groups.decays(&name, &parameter),
            first_moment: parameter.detach().zeros_like(),
            second_moment: parameter.detach().zeros_like(),
            step: Tensor::zeros([], (Kind::Float, parameter.device())),
            name,
            parameter,
        });
        Optimizer { slots: slots.collect(), adamw }
    }

    /// The L2 norm of all gradients, as one number.
    pub fn gradient_norm(&self) -> f64 {
        let norms: Vec<Tensor> =
            self.slots.iter().map(|s| s.parameter.grad()).filter(Tensor::defined).map(|g| g.norm()).collect();
        if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) }
    }

    /// The first parameter whose gradient is not finite.
    pub fn non_finite_gradient(&self) -> Option<&str> {
        let broken = |s: &&Slot| {
            let gradient = s.parameter.grad();
            gradient.defined() && !gradient.isfinite().all().int64_value(&[]).eq(&1)
        };
        self.slots.iter().find(broken).map(|s| s.name.as_str())
    }

    /// One step with the gradients at hand, which are then zeroed.
    pub fn step(&mut self, learning_rate: f64, text: TextTraining) -> Result<()> {
        for decays in [true, false] {
            let mut gradients = Vec::new();
            let mut group = Vec::new();
            for slot in self.slots.iter_mut().filter(|slot| slot.decays == decays) {
                let mut gradient = slot.parameter.grad();
                if is_text(&slot.name) && text == TextTraining::Frozen {
                    continue;
                }
                // A tower without graph has no gradient tensors at all in a run that was just resumed.
                if !gradient.defined() && is_text(&slot.name) && text == TextTraining::ZeroGradient {
                    gradient = slot.parameter.detach().zeros_like();
                }
                if gradient.defined() {
                    let _ = slot.step.g_add_scalar_(1.0);
                    gradients.push(gradient);
                    group.push(&*slot);
                }
            }
            let tensors = AdamWTensors {
                parameters: group.iter().map(|s| &s.parameter).collect(),
                gradients: gradients.iter().collect(),
                first_moments: group.iter().map(|s| &s.first_moment).collect(),
                second_moments: group.iter().map(|s| &s.second_moment).collect(),
                steps: group.iter().map(|s| &s.step).collect(),
            };
            let weight_decay = if decays { self.adamw.weight_decay } else { 0.0 };
            if !group.is_empty() {
                torch_bridge::fused_adamw(&tensors, AdamW { learning_rate, weight_decay, ..self.adamw })?;
            }
        }
        for slot in &mut self.slots {
            slot.parameter.zero_grad();
        }
        Ok(())
    }

    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for slot in &self.slots {
            state.insert(format!("{}.exp_avg", slot.name), slot.first_moment.shallow_clone());
            state.insert(format!("{}.exp_avg_sq", slot.name), slot.second_moment.shallow_clone());
            state.insert(format!("{}.step", slot.name), slot.step.shallow_clone());
        }
        state
    }

    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for slot in &mut self.slots {
            let mut tensors = [
                ("exp_avg", &mut slot.first_moment),
                ("exp_avg_sq", &mut slot.second_moment),
                ("step", &mut slot.step),
            ];
            for (part, tensor) in &mut tensors {
                let name = format!("{}.{part}", slot.name);
                match state.get(&name) {
                    Some(saved) if saved.size() == tensor.size() => tensor.copy_(saved),
                    _ => {
                        return Err(Error::setting(
                            format!("the checkpoint's optimizer lacks `{name}`"),
                            "resume with the recipe of the run",
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Everything that is neither the image tower nor the temperature nor an objective's own.
fn is_text(name: &str) -> bool {
    !name.starts_with("visual.") && name != "logit_scale" && !name.starts_with("head.")
}
