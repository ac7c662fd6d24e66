//! AdamW over two groups: with and without weight decay.

use crate::error::{Error, Result, TorchContext};
use crate::model::{Parameter, Part};
use crate::objective::Update;
use crate::train::optimizer_state::restore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors};

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
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
    part: Part,
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    decays: bool,
    /// Whether it had a gradient before: one that it lacks now is one of zeros.
    had_gradient: bool,
}

impl Slot {
    /// Gives a parameter that had a gradient before, and that no backward pass has reached since, one of zeros.
    fn complete(&mut self) -> Result<()> {
        if self.parameter.grad().defined() {
            self.had_gradient = true;
        } else if self.had_gradient {
            torch_bridge::give_zero_gradient(&self.parameter)?;
        }
        Ok(())
    }
}

pub struct Optimizer {
    slots: Vec<Slot>,
    adamw: AdamW,
}

impl Optimizer {
    /// For the model's parameters and the objective's own. `adamw.learning_rate` is set at each step.
    pub fn new(mut parameters: Vec<Parameter>, groups: WeightDecayGroups, adamw: AdamW) -> Self {
        // By name, so that sums over all of them do not depend on who gave them.
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let slots = parameters.into_iter().map(|Parameter { name, tensor, part }| Slot {
            decays: groups.decays(&name, &tensor),
            first_moment: tensor.detach().zeros_like(),
            second_moment: tensor.detach().zeros_like(),
            step: Tensor::zeros([], (Kind::Float, tensor.device())),
            had_gradient: false,
            name,
            part,
            parameter: tensor,
        });
        Optimizer { slots: slots.collect(), adamw }
    }

    /// To be called after the backward pass, where gradients are to be read or averaged: they are those of every parameter that has ever had
    /// one, in all processes.
    pub fn complete_gradients(&mut self) -> Result<()> {
        self.slots.iter_mut().try_for_each(Slot::complete)
    }

    /// The gradients that there are, by the names of their parameters.
    pub fn gradients(&self) -> Vec<Tensor> {
        self.slots.iter().map(|slot| slot.parameter.grad()).filter(Tensor::defined).collect()
    }

    /// The L2 norm of all gradients, as one number, and the numbers of `scalars`: a device is waited for once and not for each of them. A
    /// gradient that is missing counts as one of zeros, to the bit: a run that was just resumed lacks those of a tower that rests.
    pub fn gradient_norm_and<const N: usize>(&self, scalars: [&Tensor; N]) -> Result<(f64, [f64; N])> {
        let double = |number: &Tensor| number.detach().to_kind(Kind::Double);
        let norms = self.gradients().into_iter().map(|gradient| double(&gradient.norm()));
        let all: Vec<Tensor> = scalars.into_iter().map(double).chain(norms).collect();
        if all.is_empty() {
            return Ok((0.0, [0.0; N]));
        }
        let all = Vec::<f64>::try_from(Tensor::stack(&all, 0)).torch("reading the norm of the gradients")?;
        let (read, norms) =
            all.split_first_chunk().ok_or_else(|| Error::internal("fewer numbers than were asked for"))?;
        Ok((norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(), *read))
    }

    /// Scales all gradients by one factor where their norm, which is `norm`, is more than `most`: it is `most` then. The factor is that of
    /// PyTorch's `clip_grad_norm_`.
    pub fn clip_gradients(&self, norm: f64, most: f64) {
        let factor = most / (norm + 1e-6);
        if factor < 1.0 {
            for mut gradient in self.gradients() {
                let _ = gradient.g_mul_scalar_(factor);
            }
        }
    }

    /// The first parameter whose gradient is not finite.
    pub fn non_finite_gradient(&self) -> Option<&str> {
        let broken = |s: &&Slot| {
            let gradient = s.parameter.grad();
            gradient.defined() && !gradient.isfinite().all().int64_value(&[]).eq(&1)
        };
        self.slots.iter().find(broken).map(|s| s.name.as_str())
    }

    /// One step with the gradients at hand, which are then forgotten: writing zeros for the next backward pass to add to would be two passes over
    /// as many numbers as the model has, and their memory is free until that pass. `update` says what happens to the parameters of a part.
    pub fn step(&mut self, learning_rate: f64, update: &dyn Fn(Part) -> Update) -> Result<()> {
        self.complete_gradients()?;
        for decays in [true, false] {
            let mut gradients = Vec::new();
            let mut group = Vec::new();
            for slot in self.slots.iter_mut().filter(|slot| slot.decays == decays) {
                let mut gradient = slot.parameter.grad();
                let update = update(slot.part);
                if update == Update::Rest {
                    continue;
                }
                // A tower without graph has no gradient tensors at all in a run that was just resumed.
                if !gradient.defined() && update == Update::ByGradientOrZero {
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
        Ok(torch_bridge::forget_gradients(self.slots.iter().map(|slot| &slot.parameter))?)
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
            let tensors = [
                ("exp_avg", &mut slot.first_moment),
                ("exp_avg_sq", &mut slot.second_moment),
                ("step", &mut slot.step),
            ];
            for (part, tensor) in tensors {
                restore(state, &format!("{}.{part}", slot.name), tensor)?;
            }
            // As in the run that goes on: what has taken a step had a gradient.
            slot.had_gradient = slot.step.double_value(&[]) > 0.0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clip, ModelConfig};
    use tch::Device;

    const ADAMW: AdamW = AdamW { learning_rate: 0.0, beta1: 0.9, beta2: 0.999, weight_decay: 0.5, epsilon: 1e-8 };

    fn model(name: &str) -> Clip {
        let mut config = ModelConfig::named(name).unwrap();
        config.text_cfg.vocab_size = 8;
        Clip::new(config, Device::Cpu, 0).unwrap()
    }

    fn own(name: &str, shape: &[i64]) -> Parameter {
        let tensor = Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        Parameter { name: name.into(), tensor, part: Part::Objective }
    }

    #[test]
    fn by_rank_matrices_decay_and_by_name_all_but_four_words() {
        let model = model("RN-small-32");
        let mut parameters = model.parameters().by_part();
        parameters.extend([own("head.weight", &[3, 2]), own("head.bias", &[3])]);
        let decaying = |groups: WeightDecayGroups| -> Vec<&str> {
            parameters.iter().filter(|p| groups.decays(&p.name, &p.tensor)).map(|p| p.name.as_str()).collect()
        };
        let (rank, name) = (decaying(WeightDecayGroups::ByRank), decaying(WeightDecayGroups::ByName));
        for both in ["visual.conv1.weight", "visual.attnpool.q_proj.weight", "text_projection", "head.weight"] {
            assert!(rank.contains(&both) && name.contains(&both), "{both}");
        }
        for neither in [
            "logit_scale",
            "visual.bn1.weight",
            "visual.bn1.bias",
            "ln_final.weight",
            "visual.attnpool.q_proj.bias",
            "head.bias",
        ] {
            assert!(!rank.contains(&neither) && !name.contains(&neither), "{neither}");
        }
        // What the released rule takes for a matrix: embeddings, and the norm of a shortcut, whose name has no `bn`.
        let only_by_name = name.iter().filter(|given| !rank.contains(given)).copied().collect::<Vec<_>>();
        let shortcuts = only_by_name.iter().filter(|given| given.ends_with("downsample.1.weight")).count();
        let embeddings = ["positional_embedding", "token_embedding.weight", "visual.attnpool.positional_embedding"];
        assert!(embeddings.iter().all(|given| only_by_name.contains(given)), "{only_by_name:?}");
        assert!(shortcuts > 0 && only_by_name.len() == embeddings.len() + shortcuts, "{only_by_name:?}");
        assert!(rank.iter().all(|given| name.contains(given)));
    }

    #[test]
    fn gradients_are_clipped_to_the_norm_and_keep_their_direction() {
        for (most, expected) in [(f64::INFINITY, [3.0f32, 4.0]), (10.0, [3.0, 4.0]), (2.5, [1.5, 2.0])] {
            let leaf = |value: f32| Tensor::from(value).set_requires_grad(true);
            let given = [leaf(1.0), leaf(1.0)];
            let parameter = |(name, tensor): (&str, &Tensor)| Parameter {
                name: name.into(),
                tensor: tensor.shallow_clone(),
                part: Part::Objective,
            };
            let parameters = ["a", "b"].into_iter().zip(&given).map(parameter).collect();
            let optimizer = Optimizer::new(parameters, WeightDecayGroups::ByRank, ADAMW);
            (&given[0] * 3.0 + &given[1] * 4.0).backward();
            let (norm, read) = optimizer.gradient_norm_and([&Tensor::from(0.5f32)]).unwrap();
            assert_eq!((norm, read), (5.0, [0.5]));
            optimizer.clip_gradients(norm, most);
            for (tensor, expected) in given.iter().zip(expected) {
                assert!((tensor.grad().double_value(&[]) - f64::from(expected)).abs() < 1e-5, "{most}");
            }
        }
    }

    #[test]
    fn each_part_moves_as_the_objective_says_and_its_own_parameters_are_no_text() {
        let model = model("ViT-tiny-32");
        let parameters = || {
            let mut all = model.parameters().by_part();
            all.push(own("temperature", &[2, 2]));
            all
        };
        let part = |name: &str| parameters().into_iter().find(|p| p.name == name).unwrap().part;
        assert_eq!(
            ["visual.proj", "token_embedding.weight", "text_projection", "logit_scale", "temperature"].map(part),
            [Part::Image, Part::Text, Part::Text, Part::Scale, Part::Objective]
        );
        for (text, moves) in [(Update::ByGradient, false), (Update::ByGradientOrZero, true), (Update::Rest, false)] {
            let given = parameters();
            let named = |name: &str| given.iter().find(|p| p.name == name).unwrap().tensor.shallow_clone();
            let (projection, temperature) = (named("text_projection"), named("temperature"));
            let before = [projection.detach().copy(), temperature.detach().copy()];
            let mut optimizer = Optimizer::new(given, WeightDecayGroups::ByRank, ADAMW);
            // Only the objective's own has a gradient; weight decay moves what has a gradient of zero.
            (&temperature * 1.0).sum(Kind::Float).backward();
            let update = |part| if part == Part::Text { text } else { Update::ByGradient };
            optimizer.step(0.1, &update).unwrap();
            assert_eq!(!projection.equal(&before[0]), moves, "{text:?}");
            assert!(!temperature.equal(&before[1]), "{text:?}");
        }
    }
    /// As it was when gradients were zeroed and kept: decay and moments go on where no gradient comes any more, but not where none ever came.
    #[test]
    fn a_gradient_that_came_once_is_one_of_zeros_where_none_comes() {
        let [reached, once, never] = ["reached", "once", "never"].map(|name| own(name, &[2, 2]));
        let tensors = [&reached, &once, &never].map(|parameter| parameter.tensor.shallow_clone());
        let [reached_tensor, once_tensor, never_tensor] = &tensors;
        let mut optimizer = Optimizer::new(vec![reached, once, never], WeightDecayGroups::ByRank, ADAMW);
        let by_gradient = |_| Update::ByGradient;
        ((reached_tensor + once_tensor) * 3.0).sum(Kind::Float).backward();
        optimizer.complete_gradients().unwrap();
        assert_eq!(optimizer.gradients().len(), 2);
        optimizer.step(0.1, &by_gradient).unwrap();
        assert!(tensors.iter().all(|tensor| !tensor.grad().defined()), "their memory is free");
        let before = [once_tensor.detach().copy(), never_tensor.detach().copy()];
        (reached_tensor * 2.0).sum(Kind::Float).backward();
        optimizer.complete_gradients().unwrap();
        let sums: Vec<f64> = optimizer.gradients().iter().map(|one| one.sum(Kind::Double).double_value(&[])).collect();
        assert_eq!(sums, [0.0, 8.0], "those of `once` and of `reached`, to which nothing of the first step was added");
        let (norm, []) = optimizer.gradient_norm_and([]).unwrap();
        assert_eq!(norm, 4.0);
        optimizer.step(0.1, &by_gradient).unwrap();
        assert!(!once_tensor.equal(&before[0]) && never_tensor.equal(&before[1]));
        let state = optimizer.state();
        let steps = |name: &str| state.get(&format!("{name}.step")).unwrap().double_value(&[]);
        assert_eq!(["never", "once", "reached"].map(steps), [0.0, 2.0, 2.0]);
    }
}
