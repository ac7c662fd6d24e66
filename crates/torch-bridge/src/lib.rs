//! Functions of libtorch that `tch` does not wrap: fused AdamW, QuickGELU, channels-last memory, autocast to bfloat16, TensorFloat-32, process
//! groups, the version that was loaded, and loading CUDA at run time.
//!
//! This is the only crate with unsafe code and C++. Everything here takes and gives `tch` tensors; nothing else of the
//! project sees an address.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod ffi;
mod group;
mod planes;
mod version;

pub use group::{BatchNorm, Group, Rendezvous};
pub use planes::planes;
pub use version::{check_version, torch_version};

use tch::Tensor;
use tch::kind::Element;

/// A failure below the border, in libtorch's or the loader's own words.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    #[error("libtorch: {cause}")]
    Torch { cause: cxx::Exception },
    #[error("{}", brief(.cause.what()))]
    Group { cause: cxx::Exception },
    #[error("fused AdamW got {parameters} parameters but {other} {what}")]
    Lengths { parameters: usize, what: &'static str, other: usize },
    #[error(
        "cannot load `{library}`: {cause}; install PyTorch 2.11 with CUDA (`make libtorch-cuda`) or use `--device cpu`"
    )]
    Library { library: &'static str, cause: libloading::Error },
    #[error(
        "this program was built for libtorch {built}, and libtorch {loaded} was loaded, whose memory it would misread; install PyTorch {built} \
         (`make libtorch`), or unset LD_LIBRARY_PATH where it leads to another one"
    )]
    Version { built: String, loaded: String },
}

/// What happened, without libtorch's C++ stack.
pub fn brief(what: &str) -> &str {
    what.split("\nException raised from").next().unwrap_or(what).trim_end()
}

impl From<cxx::Exception> for BridgeError {
    fn from(cause: cxx::Exception) -> Self {
        BridgeError::Torch { cause }
    }
}

/// Ends the process with `code` while other threads may still be computing: libtorch's tables are left as they are, which an ordinary exit
/// takes down under those threads.
pub fn leave_at_once(code: i32) -> ! {
    ffi::bridge::leave_at_once(code);
    std::process::abort()
}

/// Lets the process keep the memory that it frees, for the next tensor: by default glibc maps every large block anew, and the system clears
/// its pages each time, which was a tenth of an RN50 step on the CPU. The process's memory stays at its peak then. Whether the C library
/// could be told; others than glibc cannot.
pub fn keep_freed_memory() -> bool {
    ffi::bridge::keep_freed_memory()
}

/// A copy of `tensor` `[batch, channels, height, width]` in channels-last memory, or the tensor itself if it has that already. On a CPU with
/// AVX-512 convolutions were 1.3 to 1.5 times faster on it; on one with AVX2 there was no difference to be seen.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor, BridgeError> {
    // SAFETY: `tensor` lives through the call, and the address that comes back is a fresh `at::Tensor` for us to own.
    unsafe {
        let address = ffi::bridge::channels_last(tensor.as_ptr() as usize)?;
        Ok(Tensor::from_ptr(address as *mut _))
    }
}

/// QuickGELU, `hidden * sigmoid(1.702 hidden)`: outcome and gradient to the bit, but nothing is kept for the backward pass beside `hidden`.
/// There is no gradient of the gradient.
pub fn quick_gelu(hidden: &Tensor) -> Result<Tensor, BridgeError> {
    // SAFETY: `hidden` lives through the call, and the address that comes back is a fresh `at::Tensor` for us to own.
    unsafe { Ok(Tensor::from_ptr(ffi::bridge::quick_gelu(hidden.as_ptr() as usize)? as *mut _)) }
}

/// Takes the gradients of leaves away, with their memory; the next backward pass brings new ones.
pub fn forget_gradients<'a>(leaves: impl IntoIterator<Item = &'a Tensor>) -> Result<(), BridgeError> {
    let addresses: Vec<usize> = leaves.into_iter().map(|leaf| leaf.as_ptr() as usize).collect();
    // SAFETY: the leaves are borrowed through the call.
    unsafe { Ok(ffi::bridge::forget_gradients(&addresses)?) }
}

/// Gives a leaf a gradient of zeros, whatever it had.
pub fn give_zero_gradient(leaf: &Tensor) -> Result<(), BridgeError> {
    // SAFETY: the leaf is borrowed through the call.
    unsafe { Ok(ffi::bridge::give_zero_gradient(leaf.as_ptr() as usize)?) }
}

/// Whether the CUDA device of this number has instructions for bfloat16 (compute capability 8.0).
///
/// # Errors
/// Where CUDA is not loaded ([`load_cuda`]), or there is no such device.
pub fn cuda_has_bf16(device: usize) -> Result<bool, BridgeError> {
    Ok(ffi::bridge::cuda_has_bf16(i8::try_from(device).unwrap_or(-1))?)
}

/// A copy of `values` in pinned memory, one-dimensional, which a CUDA device can take while the host goes on.
///
/// # Errors
/// Where there is no CUDA device, or no more memory can be pinned.
pub fn pinned<T: Element>(values: &[T]) -> Result<Tensor, BridgeError> {
    // SAFETY: `values` lives through the call, which reads its bytes and no more; numbers have no padding. The address that comes back is
    // a fresh `at::Tensor` for us to own.
    unsafe {
        let address = ffi::bridge::pinned(values.as_ptr() as usize, std::mem::size_of_val(values))?;
        Ok(Tensor::from_ptr(address as *mut _).view_dtype(T::KIND))
    }
}

/// The most bytes that PyTorch's allocator has given out at a time on the CUDA device of this number.
///
/// # Errors
/// Where CUDA is not loaded ([`load_cuda`]), or there is no such device.
pub fn peak_cuda_bytes(device: usize) -> Result<u64, BridgeError> {
    Ok(ffi::bridge::peak_cuda_bytes(i8::try_from(device).unwrap_or(-1))?)
}

/// Autocast of this thread, which ends with the value, also where a panic ends it.
struct Autocast {
    cuda: bool,
    before: bool,
}

impl Drop for Autocast {
    fn drop(&mut self) {
        ffi::bridge::end_autocast(self.cuda, self.before);
    }
}

/// Does `work` under PyTorch's autocast to bfloat16, on CUDA devices or on the CPU: products and convolutions cast what they are given, and
/// what autocast knows to need 32 bits is computed in them. The backward pass belongs behind it, as autocast is of the forward pass.
pub fn with_autocast_bf16<T>(cuda: bool, work: impl FnOnce() -> T) -> T {
    let _autocast = Autocast { cuda, before: ffi::bridge::begin_autocast_bf16(cuda) };
    work()
}

/// Whether CUDA devices may multiply 32-bit numbers as TensorFloat-32, in matrix products and convolutions. PyTorch allows it in convolutions
/// unless it is told otherwise.
pub fn allow_tf32(allow: bool) -> Result<(), BridgeError> {
    Ok(ffi::bridge::allow_tf32(allow)?)
}

/// The numbers of one AdamW step; see [`fused_adamw`].
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
}

/// The tensors of one parameter group, all lists in the same order.
#[derive(Debug, Default)]
pub struct AdamWTensors<'a> {
    pub parameters: Vec<&'a Tensor>,
    pub gradients: Vec<&'a Tensor>,
    pub first_moments: Vec<&'a Tensor>,
    pub second_moments: Vec<&'a Tensor>,
    /// Scalar float tensors that already count this step.
    pub steps: Vec<&'a Tensor>,
}

/// One AdamW step in place over a group (PyTorch `at::_fused_adamw_`, decoupled weight decay).
pub fn fused_adamw(tensors: &AdamWTensors, adamw: AdamW) -> Result<(), BridgeError> {
    let lists = [
        ("gradients", &tensors.gradients),
        ("first moments", &tensors.first_moments),
        ("second moments", &tensors.second_moments),
        ("step counters", &tensors.steps),
    ];
    for (what, list) in lists {
        if list.len() != tensors.parameters.len() {
            return Err(BridgeError::Lengths { parameters: tensors.parameters.len(), what, other: list.len() });
        }
    }
    let addresses = |list: &[&Tensor]| list.iter().map(|t| t.as_ptr() as usize).collect::<Vec<_>>();
    // SAFETY: the borrowed tensors outlive the call, and the lengths were checked above.
    unsafe {
        ffi::bridge::fused_adamw(
            &addresses(&tensors.parameters),
            &addresses(&tensors.gradients),
            &addresses(&tensors.first_moments),
            &addresses(&tensors.second_moments),
            &addresses(&tensors.steps),
            adamw.learning_rate,
            adamw.beta1,
            adamw.beta2,
            adamw.weight_decay,
            adamw.epsilon,
        )?;
    }
    Ok(())
}

/// Makes CUDA devices available by loading `libtorch_cuda.so`, which the CPU build does not link.
pub fn load_cuda() -> Result<(), BridgeError> {
    const LIBRARY: &str = "libtorch_cuda.so";
    // SAFETY: loading runs the library's own initialisers, as PyTorch itself does on `import torch`.
    let library = unsafe {
        libloading::os::unix::Library::open(
            Some(LIBRARY),
            libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_GLOBAL,
        )
    };
    match library {
        // Kernels stay registered for the life of the process, so the library must never be closed.
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(cause) => Err(BridgeError::Library { library: LIBRARY, cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn channels_last_keeps_values_and_changes_strides() {
        let tensor = Tensor::arange(24, (Kind::Float, Device::Cpu)).reshape([1, 2, 3, 4]);
        let copy = channels_last(&tensor).unwrap();
        assert_eq!(copy.stride(), [24, 1, 8, 2]);
        assert!(copy.equal(&tensor));
    }

    #[test]
    fn without_cuda_nothing_is_pinned_and_no_device_has_memory() {
        if !tch::Cuda::is_available() {
            assert!(matches!(pinned(&[1.0f32, 2.0]), Err(BridgeError::Torch { .. })));
            assert!(matches!(peak_cuda_bytes(0), Err(BridgeError::Torch { .. })));
            assert!(matches!(cuda_has_bf16(0), Err(BridgeError::Torch { .. })));
        }
    }

    #[test]
    fn gradients_go_and_come_again() {
        let leaf = Tensor::from_slice(&[1.0f32, -2.0]).set_requires_grad(true);
        let backward = || leaf.square().sum(Kind::Float).backward();
        backward();
        forget_gradients([&leaf, &Tensor::from(1f32)]).unwrap();
        assert!(!leaf.grad().defined());
        give_zero_gradient(&leaf).unwrap();
        assert!(leaf.grad().equal(&leaf.zeros_like()) && !leaf.grad().requires_grad());
        forget_gradients([&leaf]).unwrap();
        backward();
        assert!(leaf.grad().equal(&(leaf.detach() * 2.0)), "and nothing is left of the first one");
    }

    /// In 32 bits, and in 16 under autocast, where products with a number are rounded otherwise in place than in a tensor of their own.
    #[test]
    fn quick_gelu_and_its_gradient_have_the_bits_of_the_plain_form() {
        type Form = fn(&Tensor) -> Result<Tensor, BridgeError>;
        fn plain(hidden: &Tensor) -> Result<Tensor, BridgeError> {
            Ok(hidden * (hidden * 1.702).sigmoid())
        }
        tch::manual_seed(1);
        let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        for shape in [&[3, 5, 33][..], &[257, 96]] {
            let (given, weight, wanted) = (normal(shape), normal(&[40, shape[shape.len() - 1]]) * 4.0, normal(&[40]));
            for sixteen in [false, true] {
                let found = |form: Form| {
                    let leaf = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
                    let (given, weight) = (leaf(&given), leaf(&weight));
                    let compute = || form(&given.linear(&weight, None::<&Tensor>)).unwrap();
                    let outcome = if sixteen { with_autocast_bf16(false, compute) } else { compute() };
                    assert_eq!(outcome.kind(), if sixteen { Kind::BFloat16 } else { Kind::Float });
                    (outcome.to_kind(Kind::Float) * &wanted).sum(Kind::Float).backward();
                    [outcome.detach(), given.grad(), weight.grad()]
                };
                let (ours, plain) = (found(quick_gelu), found(plain));
                assert!(ours.iter().zip(&plain).all(|(a, b)| a.equal(b)), "{shape:?}, in 16 bits: {sixteen}");
            }
        }
        let alone = tch::no_grad(|| quick_gelu(&normal(&[4]).set_requires_grad(true)).unwrap());
        assert!(!alone.requires_grad());
    }

    /// First step of AdamW from zero moments: `p <- p * (1 - lr * wd) - lr * sign(g)`.
    #[test]
    fn fused_adamw_takes_the_textbook_first_step() {
        let parameter = Tensor::from_slice(&[1.0f32, -2.0]);
        let gradient = Tensor::from_slice(&[0.5f32, -0.1]);
        let (m, v) = (parameter.zeros_like(), parameter.zeros_like());
        let step = Tensor::from(1.0f32);
        let tensors = AdamWTensors {
            parameters: vec![&parameter],
            gradients: vec![&gradient],
            first_moments: vec![&m],
            second_moments: vec![&v],
            steps: vec![&step],
        };
        let adamw = AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, weight_decay: 0.5, epsilon: 1e-8 };
        fused_adamw(&tensors, adamw).unwrap();
        let values: Vec<f32> = Vec::try_from(&parameter).unwrap();
        assert!((values[0] - 0.85).abs() < 1e-5 && (values[1] + 1.8).abs() < 1e-5, "{values:?}");
    }
}
