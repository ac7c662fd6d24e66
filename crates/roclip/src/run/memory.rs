//! Whether a model and its batches fit into memory, before it is made.

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::objective::ImageTower;
use crate::recipe::Recipe;
use crate::world::Launch;

/// Of a weight in training: itself, its gradient and two moments, 4 bytes each.
const BYTES_A_WEIGHT: f64 = 16.0;

/// What a step takes beside the least that it keeps, by what RN50 and ViT-B-32 were seen to take.
const HELD_BESIDE: f64 = 1.7;

/// # Errors
/// A model whose training needs more than the memory that the machine has free.
pub(super) fn check_fits(model: &ModelConfig, setting: &str) -> Result<()> {
    let (needed, Some(available)) = (model.weights() * BYTES_A_WEIGHT, available_bytes()) else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
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

/// # Errors
/// A batch that training on the CPU cannot hold, even if nothing else were held.
pub(super) fn check_batch(recipe: &Recipe) -> Result<()> {
    let frozen = recipe.caption.as_ref().is_some_and(|caption| caption.image_tower == ImageTower::Frozen);
    if frozen || recipe.train.device != "cpu" {
        return Ok(());
    }
    let model = ModelConfig::named(&recipe.model.name)?;
    match available_bytes() {
        Some(available) => {
            // Each of several processes holds its own rows, perhaps on a machine of its own.
            let processes = Launch::from_environment()?.map_or(1, |launch| launch.size);
            batch_fits(&model, &recipe.model.name, recipe.train.batch_size.div_ceil(processes), available)
        }
        None => Ok(()),
    }
}

fn batch_fits(model: &ModelConfig, name: &str, batch: usize, available: f64) -> Result<()> {
    let (weights, picture) = (model.weights() * BYTES_A_WEIGHT, 4.0 * model.kept_of_a_picture());
    let needed = weights + picture * batch as f64;
    if needed <= available {
        return Ok(());
    }
    let fit = (available - weights) / (picture * HELD_BESIDE);
    let fitting = match fit >= 2.0 {
        true => format!("lower --batch-size (about {:.0} fit), or choose a smaller model (--model)", fit.floor()),
        false => "choose a smaller model (--model)".to_owned(),
    };
    Err(Error::setting(
        format!(
            "a batch of {batch} pictures of {side} x {side} takes {name} at least {:.1} GiB, and {:.1} GiB of memory are free",
            gib(needed),
            gib(available),
            side = model.image_size()
        ),
        format!("{fitting}; `roclip init --train-data PATH` writes a recipe that fits data and machine"),
    ))
}

fn gib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 30)
}

/// What the system says may still be taken; none where it does not say.
fn available_bytes() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| -> Option<f64> {
        let line = told.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((of("MemAvailable:")? + of("SwapFree:").unwrap_or(0.0)) * 1024.0)
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

    #[test]
    fn a_batch_that_no_memory_holds_is_refused_with_one_that_fits() {
        let config = ModelConfig::named("RN50").unwrap();
        let fits = |batch: usize, gib: f64| batch_fits(&config, "RN50", batch, gib * f64::from(1 << 30));
        assert!(fits(16, 24.0).is_ok());
        let error = fits(512, 24.0).unwrap_err().to_string();
        assert!(error.contains("a batch of 512") && error.contains("24.0 GiB of memory are free"), "{error}");
        assert!(error.contains("--batch-size (about 1") && error.contains("roclip init"), "{error}");
        assert!(!fits(512, 1.0).unwrap_err().to_string().contains("--batch-size"));
    }
}
