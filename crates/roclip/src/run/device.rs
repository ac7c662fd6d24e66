//! The device that a recipe names.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::Precision;
use crate::world::Launch;
use tch::Device;

/// The device that `recipe` names, with the threads that it names for one operation; 0 leaves them to libtorch.
///
/// # Errors
/// Those of [`device`].
pub fn machine(recipe: &Recipe) -> Result<Device> {
    let device = machine_of(recipe.train.threads, &recipe.train.device)?;
    if device.is_cuda() {
        torch_bridge::allow_tf32(recipe.train.precision == Precision::Tf32)?;
    }
    Ok(device)
}

/// More threads than any machine has processors.
const MOST_THREADS: i32 = 1024;

/// [`machine`] where no recipe names it.
///
/// # Errors
/// Those of [`device`].
pub fn machine_of(threads: i32, name: &str) -> Result<Device> {
    if !(0..=MOST_THREADS).contains(&threads) {
        return Err(Error::setting(
            format!("train.threads (--threads) is {threads}: it must be at least 0 and at most {MOST_THREADS}"),
            "name as many as the machine has processors, or 0 to leave it to libtorch",
        ));
    }
    if threads > 0 {
        tch::set_num_threads(threads);
    }
    device(name)
}

/// `cpu`, `cuda` or `cuda:N`; CUDA's libraries are loaded only when asked for. Of several processes on a machine, each that says `cuda` takes
/// the GPU of its place among them (`LOCAL_RANK`, which torchrun sets).
pub fn device(name: &str) -> Result<Device> {
    let Some(number) = gpu(name, Launch::local_rank()?)? else { return Ok(Device::Cpu) };
    torch_bridge::load_cuda()?;
    // What no recipe allows more for computes in 32 bits.
    torch_bridge::allow_tf32(false)?;
    if !tch::Cuda::is_available() {
        return Err(Error::setting("no CUDA device is available", "check the driver, or use --device cpu"));
    }
    if number as i64 >= tch::Cuda::device_count() {
        return Err(Error::setting(
            format!(
                "there is no device `cuda:{number}`: this machine has {} (train.device)",
                tch::Cuda::device_count()
            ),
            "use a lower number, or start no more processes on a machine than it has GPUs",
        ));
    }
    Ok(Device::Cuda(number))
}

/// The number of the GPU that `name` means in the process of this place on its machine; none for the CPU.
fn gpu(name: &str, local_rank: Option<usize>) -> Result<Option<usize>> {
    let unknown = || Error::setting(format!("unknown device `{name}` (train.device)"), "use cpu, cuda or cuda:N");
    match name.split_once(':') {
        _ if name == "cpu" => Ok(None),
        None if name == "cuda" => Ok(Some(local_rank.unwrap_or(0))),
        Some(("cuda", number)) => number.parse().map(Some).map_err(|_| unknown()),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_exist_are_taken() {
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
        for name in ["cpu:7", "cpu:", "cuda:x", "cuda:-1", "gpu", "", ":"] {
            let error = device(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("train.device"), "{error}");
        }
    }

    #[test]
    fn processes_of_a_machine_take_a_gpu_each_but_where_one_is_named() {
        assert_eq!(gpu("cuda", None).unwrap(), Some(0));
        assert_eq!(gpu("cuda", Some(3)).unwrap(), Some(3));
        assert_eq!(gpu("cuda:1", Some(3)).unwrap(), Some(1));
        assert_eq!(gpu("cpu", Some(3)).unwrap(), None);
    }
}
