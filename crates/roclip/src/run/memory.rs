//! Whether a model and its batches fit into memory, before it is made.

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::objective::ImageTower;
use crate::recipe::Recipe;
use crate::train::{Precision, TrainConfig};
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
            let rows = recipe.train.batch_size.div_ceil(processes);
            let at_once = recipe.train.encode_batch_size.unwrap_or(rows);
            batch_fits(&model, &recipe.model.name, (rows, at_once), kept_by(&model, &recipe.train), available)
        }
        None => Ok(()),
    }
}

/// What the image tower keeps of a picture.
struct PictureBytes {
    /// At least.
    kept: f64,
    checkpointing: bool,
}

fn kept_by(model: &ModelConfig, train: &TrainConfig) -> PictureBytes {
    let bytes = if train.precision == Precision::Bf16 { 2.0 } else { 4.0 };
    let checkpointing = train.gradient_checkpointing;
    let numbers = if checkpointing { model.kept_with_checkpointing() } else { model.kept_of_a_picture() };
    PictureBytes { kept: bytes * numbers, checkpointing }
}

/// `batch` pictures are held, and `at_once` of them encoded at once.
fn batch_fits(
    model: &ModelConfig,
    name: &str,
    (batch, at_once): (usize, usize),
    PictureBytes { kept, checkpointing }: PictureBytes,
    available: f64,
) -> Result<()> {
    let weights = model.weights() * BYTES_A_WEIGHT;
    // As bytes, which become numbers where they are encoded.
    let pixels = 3.0 * f64::from(model.image_size()).powi(2);
    let at_once = at_once.min(batch);
    let needed = weights + kept * at_once as f64 + pixels * (batch - at_once) as f64;
    if needed <= available {
        return Ok(());
    }
    let fit = ((available - weights) / (kept * HELD_BESIDE)).floor();
    let fitting = match fit >= 2.0 {
        true if fit < at_once as f64 => format!(
            "lower --batch-size (about {fit:.0} fit), encode so many of a large batch at once (--set train.encode_batch_size={fit:.0}), {}or \
             choose a smaller model (--model)",
            if checkpointing { "" } else { "keep fewer activations (--set train.gradient_checkpointing=true), " }
        ),
        true => "lower --batch-size, whose pictures alone are too many, or choose a smaller model (--model)".to_owned(),
        false => "choose a smaller model (--model)".to_owned(),
    };
    let of_them = if at_once < batch { format!(", {at_once} of them encoded at once,") } else { String::new() };
    Err(Error::setting(
        format!(
            "a batch of {batch} pictures of {side} x {side}{of_them} takes {name} at least {:.1} GiB, and {:.1} GiB of memory are free",
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
        let fits_by = |train: &TrainConfig, batch, at_once, gib: f64| {
            batch_fits(&config, "RN50", (batch, at_once), kept_by(&config, train), gib * f64::from(1 << 30))
        };
        let in_chunks = |batch, at_once, gib: f64| fits_by(&TrainConfig::default(), batch, at_once, gib);
        let fits = |batch: usize, gib: f64| in_chunks(batch, batch, gib);
        assert!(fits(16, 24.0).is_ok());
        let error = fits(512, 24.0).unwrap_err().to_string();
        assert!(error.contains("a batch of 512") && error.contains("24.0 GiB of memory are free"), "{error}");
        assert!(error.contains("--batch-size (about 1") && error.contains("roclip init"), "{error}");
        assert!(error.contains("train.encode_batch_size=1"), "{error}");
        assert!(error.contains("train.gradient_checkpointing=true"), "{error}");
        let checkpointing = TrainConfig { gradient_checkpointing: true, ..TrainConfig::default() };
        assert!(fits_by(&checkpointing, 512, 512, 24.0).is_ok());
        let error = fits_by(&checkpointing, 4096, 4096, 24.0).unwrap_err().to_string();
        assert!(!error.contains("gradient_checkpointing"), "{error}");
        assert!(!fits(512, 1.0).unwrap_err().to_string().contains("--batch-size"));
        assert!(in_chunks(4096, 64, 24.0).is_ok());
        let error = in_chunks(400_000, 64, 24.0).unwrap_err().to_string();
        assert!(error.contains("64 of them encoded at once") && error.contains("pictures alone"), "{error}");
    }
}
