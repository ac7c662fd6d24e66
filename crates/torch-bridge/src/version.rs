//! The libtorch that was loaded, and whether it is the one that this program was built for: nothing in the libraries' names says so, and another
//! one lays its objects out otherwise.

use crate::{BridgeError, ffi};

/// The version of the libtorch that was loaded, as in `2.11.0`.
pub fn torch_version() -> String {
    loaded().unwrap_or_else(|| "of an unknown version".to_owned())
}

/// # Errors
/// Another libtorch was loaded than this program was built for. A library that does not say its version is taken.
pub fn check_version() -> Result<(), BridgeError> {
    check(&ffi::bridge::built_for_version(), loaded())
}

fn check(built: &str, loaded: Option<String>) -> Result<(), BridgeError> {
    match loaded {
        Some(loaded) if minor(&loaded) != minor(built) => {
            Err(BridgeError::Version { built: minor(built).join("."), loaded })
        }
        _ => Ok(()),
    }
}

fn loaded() -> Option<String> {
    version_in(&ffi::bridge::loaded_configuration().ok()?).map(str::to_owned)
}

/// The version in what libtorch says of how it was built: `..., TORCH_VERSION=2.11.0, USE_CUDA=ON, ...`.
fn version_in(configuration: &str) -> Option<&str> {
    let (_, behind) = configuration.split_once("TORCH_VERSION=")?;
    behind.split([',', ' ', '\n']).next().filter(|version| !version.is_empty())
}

/// `2` and `11` of `2.11.0`: releases that differ behind them go together.
fn minor(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_that_was_loaded_says_its_version() {
        assert_eq!(minor(&torch_version()), minor(&ffi::bridge::built_for_version()));
        let said = "PyTorch built with:\n  - Build settings: PERF_WITH_AVX2=1, TORCH_VERSION=2.10.1, USE_CUDA=ON, \n";
        assert_eq!(version_in(said), Some("2.10.1"));
        assert_eq!(version_in("TORCH_VERSION=2.12.0a0+git70d99e9"), Some("2.12.0a0+git70d99e9"));
        assert_eq!((version_in("PyTorch built with:"), version_in("TORCH_VERSION=, USE_CUDA=ON")), (None, None));
    }

    #[test]
    fn another_minor_version_than_was_built_for_is_refused_and_another_patch_is_taken() {
        check_version().unwrap();
        for taken in [Some("2.11.0"), Some("2.11.3"), Some("2.11.0a0+git70d99e9"), None] {
            assert!(check("2.11.0", taken.map(str::to_owned)).is_ok(), "{taken:?}");
        }
        for refused in ["2.10.1", "2.12.0", "3.11.0", "2.1"] {
            let error = check("2.11.0", Some(refused.to_owned())).unwrap_err().to_string();
            assert!(error.contains("built for libtorch 2.11, and") && error.contains(refused), "{error}");
        }
    }
}
