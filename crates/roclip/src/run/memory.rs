//! Whether a model fits into memory, before it is made.

use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// Of a weight in training: itself, its gradient and two moments, 4 bytes each.
const BYTES_A_WEIGHT: f64 = 16.0;

/// # Errors
/// A model whose training needs more than the memory that the machine has free.
pub(super) fn check_fits(model: &ModelConfig, setting: &str) -> Result<()> {
    let (needed, Some(available)) = (model.weights() * BYTES_A_WEIGHT, available_bytes()) else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    Err(Error::setting(
        format!(
            "the model of {setting} has about {:.1e} weights, whose training takes {:.1} GiB, and {:.1} GiB of memory are free",
            model.weights(),
            gib(needed),
            gib(available)
        ),
        "choose a smaller model (--model)",
    ))
}

/// What the system says may still be taken; none where it does not say.
fn available_bytes() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_no_memory_holds_is_refused_before_it_is_made() {
        let mut config = ModelConfig::named("ViT-tiny-32").unwrap();
        assert!(check_fits(&config, "model.name").is_ok());
        (config.text_cfg.vocab_size, config.text_cfg.width) = (1 << 24, 1 << 16);
        let error = check_fits(&config, "model.name").unwrap_err().to_string();
        assert!(error.contains("model.name") && error.contains("GiB"), "{error}");
    }
}
