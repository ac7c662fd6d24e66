//! The numbers that towers compute in.

use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// What the towers compute in while they train. Weights, moments, features, losses and all that is saved stay in 32 bits, and what is
/// trained so is evaluated in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Fp32,
    /// TensorFloat-32 products on NVIDIA GPUs, in evaluation, too; a CPU computes in `fp32`.
    Tf32,
    /// Products and convolutions in bfloat16 (autocast; open_clip's `--precision amp_bf16`).
    Bf16,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::Fp32, Precision::Tf32, Precision::Bf16];

    /// As recipes have it.
    pub fn word(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The precision of a word.
    pub fn named(word: &str) -> Option<Precision> {
        Precision::ALL.into_iter().find(|known| known.word() == word)
    }

    /// Features that `towers` computes on `device`, in 32 bits.
    pub(super) fn features(self, device: Device, towers: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        Ok(self.part(device, towers)?.to_kind(Kind::Float))
    }

    /// What a `part` of a tower computes on `device`, in the bits that the next part takes.
    pub(super) fn part(self, device: Device, part: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        match self {
            Precision::Fp32 | Precision::Tf32 => part(),
            Precision::Bf16 => torch_bridge::with_autocast_bf16(device.is_cuda(), part),
        }
    }

    /// What there is to say of this precision on `device`, where it is not what one would expect of it.
    pub(crate) fn remark(self, device: Device) -> Option<String> {
        match self {
            Precision::Tf32 if !device.is_cuda() => {
                Some("train.precision is tf32, which only NVIDIA GPUs have: this device computes in fp32".into())
            }
            Precision::Bf16 => lacks_bf16(device),
            _ => None,
        }
    }
}

fn lacks_bf16(device: Device) -> Option<String> {
    match device {
        // Where it cannot be asked, the first step will tell.
        Device::Cuda(number) => gpu_lacks_bf16(number, torch_bridge::cuda_has_bf16(number).unwrap_or(true)),
        _ if !processor_has_bf16() => Some(
            "train.precision is bf16, and this processor has no instructions for it: training is right, and slower than in fp32".into(),
        ),
        _ => None,
    }
}

fn gpu_lacks_bf16(number: usize, has: bool) -> Option<String> {
    (!has).then(|| {
        format!(
            "train.precision is bf16, and cuda:{number} has no instructions for it (compute capability below 8.0): training is slower than in \
             fp32, or ends at its first step where PyTorch has no other way; set train.precision to fp32"
        )
    })
}

#[cfg(target_arch = "x86_64")]
fn processor_has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn processor_has_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_has_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_multiplies_in_sixteen_bits_and_gives_thirty_two() {
        let leaf = |value: f64| Tensor::full([4, 4], value, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (a, b) = (leaf(1.0 + 1.0 / 512.0), leaf(1.0));
        let product = |precision: Precision| {
            let mut inner = Kind::Int8;
            let product = precision.features(Device::Cpu, || {
                let product = a.matmul(&b);
                inner = product.kind();
                Ok(product)
            });
            (inner, product.unwrap())
        };
        let (inner, exact) = product(Precision::Fp32);
        assert_eq!((inner, exact.double_value(&[0, 0])), (Kind::Float, 4.0 + 4.0 / 512.0));
        assert_eq!(product(Precision::Tf32).1, exact);
        let (inner, rounded) = product(Precision::Bf16);
        assert_eq!((inner, rounded.kind(), rounded.double_value(&[0, 0])), (Kind::BFloat16, Kind::Float, 4.0));
        rounded.sum(Kind::Float).backward();
        assert_eq!(a.grad().kind(), Kind::Float, "gradients come in the precision of the weights");
        assert_eq!(a.matmul(&b).kind(), Kind::Float, "nothing is left behind");
    }

    #[test]
    fn a_device_without_the_precision_is_remarked_on() {
        assert!(Precision::Tf32.remark(Device::Cpu).unwrap().contains("fp32"));
        assert!(Precision::Fp32.remark(Device::Cpu).is_none() && Precision::Tf32.remark(Device::Cuda(0)).is_none());
        assert_eq!(Precision::Bf16.remark(Device::Cpu).is_none(), processor_has_bf16());
        assert_eq!(gpu_lacks_bf16(3, true), None);
        let said = gpu_lacks_bf16(3, false).unwrap();
        assert!(said.contains("cuda:3") && said.contains("train.precision to fp32"), "{said}");
    }
}
