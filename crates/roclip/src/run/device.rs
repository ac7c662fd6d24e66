//! The device that a recipe names.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::Precision;
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

/// [`machine`] where no recipe names it. The process keeps what it frees from then on, see [`torch_bridge::keep_freed_memory`].
///
/// # Errors
/// Those of [`device`].
pub fn machine_of(threads: i32, name: &str) -> Result<Device> {
    if threads > 0 {
        tch::set_num_threads(threads);
    }
    torch_bridge::keep_freed_memory();
    device(name)
}

/// `cpu`, `cuda` or `cuda:N`; CUDA's libraries are loaded only when asked for.
pub fn device(name: &str) -> Result<Device> {
    let unknown = || Error::setting(format!("unknown device `{name}` (train.device)"), "use cpu, cuda or cuda:N");
    let number = match name.split_once(':') {
        _ if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => 0,
        Some(("cuda", number)) => number.parse().map_err(|_| unknown())?,
        _ => return Err(unknown()),
    };
    torch_bridge::load_cuda()?;
    // What no recipe allows more for computes in 32 bits.
    torch_bridge::allow_tf32(false)?;
    if !tch::Cuda::is_available() {
        return Err(Error::setting("no CUDA device is available", "check the driver, or use --device cpu"));
    }
    if number as i64 >= tch::Cuda::device_count() {
        return Err(Error::setting(
            format!("there is no device `{name}`: this machine has {} (train.device)", tch::Cuda::device_count()),
            "use a lower number",
        ));
    }
    Ok(Device::Cuda(number))
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
}
