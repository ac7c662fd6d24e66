//! The trigger of BadCLIP by prompt learning (Bai et al., arXiv 2311.16194, CVPR 2024): one bounded change of every pixel, the same for
//! every picture, on the network's input grid. It is learned together with prompts ([`crate::prompt`]); here is what it is and how it moves.
//!
//! `T(x) = clip(x + delta, (0 - m) / s, (1 - m) / s)`, `|delta| <= eps / s`: all in normalised units, `m` and `s` the channels' means and
//! deviations. The defender's inverted triggers are of the same kind.

use crate::attack::Perturbation;
use crate::error::{Error, Result};
use crate::train::{Sgd, SgdConfig};
use roclip_data::picture::preprocess::{MEAN, STD};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Of the trigger, in an optimizer's state and in files.
pub const DELTA: &str = "trigger.delta";

/// How the next update moves the trigger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeltaRule {
    /// By the gradient itself, as in the warm-up.
    RawGradient { step: f64 },
    /// By SGD with its momentum and decay, as in joint training.
    Sgd { learning_rate: f64 },
    /// By the sign of the gradient (a projected gradient step), as for inversion.
    Sign { step: f64 },
}

/// The trigger `[3, size, size]`, in normalised units.
pub struct UniversalDelta {
    values: Tensor,
    /// Largest magnitude of a pixel, of pixels in `[0, 1]`.
    eps: f64,
    sgd: Sgd,
    pub rule: DeltaRule,
}

/// `[3, 1, 1]`.
fn channels(values: [f32; 3], device: Device) -> Tensor {
    Tensor::from_slice(&values).view([3, 1, 1]).to_device(device)
}

impl UniversalDelta {
    /// # Errors
    /// Where `eps` is no share above 0, or `start` is no `[3, size, size]`.
    pub fn new(start: &Tensor, eps: f64, sgd: SgdConfig) -> Result<Self> {
        if !(eps > 0.0 && eps <= 1.0) {
            return Err(Error::setting(
                format!("a trigger of eps {} / 255", 255.0 * eps),
                "choose it above 0 and at most 255 (prompt.eps is in levels of 255)",
            ));
        }
        if start.dim() != 3 || start.size().first() != Some(&3) {
            return Err(Error::setting(
                format!("a trigger of the shape {:?}", start.size()),
                "give one of [3, size, size]",
            ));
        }
        let values = start.detach().to_kind(Kind::Float).copy().set_requires_grad(true);
        let slot = BTreeMap::from([(DELTA.to_owned(), values.shallow_clone())]);
        let mut delta =
            UniversalDelta { values, eps, sgd: Sgd::new(slot, sgd), rule: DeltaRule::RawGradient { step: 0.0 } };
        delta.project();
        Ok(delta)
    }

    /// Uniform within the bound, from libtorch's generator on the CPU.
    ///
    /// # Errors
    /// Those of [`UniversalDelta::new`].
    pub fn random(size: i64, eps: f64, sgd: SgdConfig, device: Device) -> Result<Self> {
        let unit = Tensor::rand([3, size, size], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        Self::new(&(unit.to_device(device) * (channels(STD, device).reciprocal() * eps)), eps, sgd)
    }

    /// `[3, size, size]`, sharing memory with the trigger.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    pub fn eps(&self) -> f64 {
        self.eps
    }

    pub fn optimizer(&self) -> &Sgd {
        &self.sgd
    }

    pub fn optimizer_mut(&mut self) -> &mut Sgd {
        &mut self.sgd
    }

    /// `images` `[batch, 3, size, size]` with another change `[3, size, size]`, clipped to what pixels can be.
    pub fn lay_on(images: &Tensor, delta: &Tensor) -> Tensor {
        let device = images.device();
        let (mean, std) = (channels(MEAN, device), channels(STD, device));
        let (low, high) = (-&mean / &std, (1.0 - &mean) / &std);
        (images + delta).maximum(&low).minimum(&high)
    }

    fn project(&mut self) {
        let bound = channels(STD, self.values.device()).reciprocal() * self.eps;
        tch::no_grad(|| self.values.copy_(&self.values.maximum(&-&bound).minimum(&bound)));
    }

    /// Mean over pixels of `|values - before|`, as a share of the bound.
    pub fn moved(&self, before: &Tensor) -> f64 {
        let bound = channels(STD, self.values.device()).reciprocal() * self.eps;
        tch::no_grad(|| ((&self.values - before).abs() / bound).mean(Kind::Double).double_value(&[]))
    }
}

impl Perturbation for UniversalDelta {
    fn apply(&self, images: &Tensor) -> Tensor {
        UniversalDelta::lay_on(images, &self.values)
    }

    fn update(&mut self) -> Result<()> {
        match self.rule {
            DeltaRule::Sgd { learning_rate } => self.sgd.step(learning_rate),
            DeltaRule::RawGradient { step } | DeltaRule::Sign { step } => {
                let gradient = self.values.grad();
                if gradient.defined() {
                    let signed = matches!(self.rule, DeltaRule::Sign { .. });
                    let direction = if signed { gradient.sign() } else { gradient };
                    tch::no_grad(|| self.values.copy_(&(&self.values - direction * step)));
                }
                self.sgd.forget_gradients();
            }
        }
        self.project();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SGD: SgdConfig = SgdConfig { momentum: 0.9, weight_decay: 5e-4 };

    #[test]
    fn the_trigger_stays_within_its_bound_and_pictures_within_theirs() {
        let mut delta = UniversalDelta::random(4, 8.0 / 255.0, SGD, Device::Cpu).unwrap();
        let pixels = |tensor: &Tensor| tensor * channels(STD, Device::Cpu);
        for rule in
            [DeltaRule::RawGradient { step: 1e3 }, DeltaRule::Sgd { learning_rate: 1e3 }, DeltaRule::Sign { step: 1e3 }]
        {
            delta.rule = rule;
            let images = Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu));
            delta.apply(&images).sum(Kind::Float).backward();
            delta.update().unwrap();
            let largest = pixels(&delta.values().detach()).abs().max().double_value(&[]);
            assert!((largest - 8.0 / 255.0).abs() < 1e-6, "{rule:?}: {largest}");
        }
        let white: Tensor = (1.0 - channels(MEAN, Device::Cpu)) / channels(STD, Device::Cpu);
        let white = white.expand([1, 3, 4, 4], false);
        let changed = UniversalDelta::lay_on(&white, &Tensor::ones([3, 4, 4], (Kind::Float, Device::Cpu)));
        assert!((changed - white).abs().max().double_value(&[]) < 1e-6, "white stays white");
    }

    #[test]
    fn a_bound_that_is_none_is_refused() {
        for eps in [0.0, -1.0, 1.5, f64::NAN] {
            let refused = UniversalDelta::random(4, eps, SGD, Device::Cpu);
            assert!(refused.err().unwrap().to_string().contains("prompt.eps"), "{eps}");
        }
    }
}
