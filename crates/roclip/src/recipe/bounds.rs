//! What each number of a recipe may be, by its key.

use crate::error::{Error, Result};
use toml::Value;

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    low: f64,
    high: f64,
    /// Whether `low` itself is out.
    above: bool,
    /// Whether `high` itself is out.
    below: bool,
}

const fn from(low: f64, high: f64) -> Bounds {
    Bounds { low, high, above: false, below: false }
}

const fn above(low: f64, high: f64) -> Bounds {
    Bounds { above: true, ..from(low, high) }
}

/// Counts that only have to be there.
const COUNT: Bounds = from(1.0, 1e9);
const MAYBE_NONE: Bounds = from(0.0, 1e9);
const SHARE: Bounds = from(0.0, 1.0);
const SOME_SHARE: Bounds = above(0.0, 1.0);
const RATE: Bounds = above(0.0, 1e6);
const WEIGHT: Bounds = from(0.0, 1e6);
const SEED: Bounds = from(0.0, i64::MAX as f64);
const EPOCHS: Bounds = from(1.0, 1e6);

/// By the end of the dotted key; `*` is an entry of a list, and the first rule that fits counts.
const RULES: &[(&str, Bounds)] = &[
    ("seed", SEED),
    ("pattern_seed", SEED),
    ("grid_seed", SEED),
    ("data.pairs_per_picture", COUNT),
    ("data.weights.*", above(0.0, 1e3)),
    ("data.cache_mib", from(0.0, 1e6)),
    ("data.workers", from(0.0, 1024.0)),
    ("data.max_skip_fraction", SHARE),
    ("emoji.concepts", from(0.0, 1e6)),
    ("emoji.min_train_styles", from(0.0, 1e3)),
    ("gzip_memory_mib", from(1.0, 1e6)),
    ("emoji.captions", from(1.0, 1e4)),
    ("limits.max_pixels", COUNT),
    ("limits.max_file_bytes", from(1.0, 4_294_967_296.0)),
    ("limits.max_aspect_ratio", from(1.0, 1e6)),
    ("image.flip_probability", SHARE),
    ("image.crop_min_area", SOME_SHARE),
    ("image.jitter_probability", SHARE),
    ("image.brightness", from(0.0, 100.0)),
    ("image.contrast", from(0.0, 100.0)),
    ("image.saturation", from(0.0, 100.0)),
    ("image.hue", from(0.0, 0.5)),
    ("image.grayscale_probability", SHARE),
    ("image.blur_kernel", from(0.0, 1001.0)),
    ("image.blur_sigma_min", above(0.0, 100.0)),
    ("image.blur_sigma_max", above(0.0, 100.0)),
    ("roclip.period", EPOCHS),
    ("roclip.match_start", EPOCHS),
    ("pool_size", from(1.0, 1e8)),
    ("pool_fraction", SOME_SHARE),
    ("roclip.max_match_similarity", from(-1.0, 1.0)),
    ("roclip.match_learning_rate_scale", from(0.0, 1e3)),
    ("safeclip.unimodal_epochs", from(0.0, 1e6)),
    ("safeclip.slow_steps", COUNT),
    ("safeclip.slow_learning_rate", RATE),
    ("safeclip.unimodal_learning_rate", RATE),
    ("safeclip.warmup_share", SHARE),
    ("safeclip.split_every", EPOCHS),
    ("schedule.first_share", SHARE),
    ("split.first_share", SHARE),
    ("distil.temperature", from(0.01, 1e3)),
    ("distil.label_weight", SHARE),
    ("distil.teacher_weight", from(0.0, 1e3)),
    ("split.threshold", SHARE),
    ("split.growth", SHARE),
    ("split.cap", SOME_SHARE),
    ("split.min_separation", from(0.0, 1e3)),
    ("split.fallback_fraction", SHARE),
    ("plausibility.neighbours", from(1.0, 1e4)),
    ("plausibility.references", from(1.0, 1e7)),
    ("train.epochs", EPOCHS),
    ("train.batch_size", from(2.0, 1e6)),
    ("train.encode_batch_size", from(2.0, 1e6)),
    ("train.learning_rate", RATE),
    ("train.beta1", Bounds { below: true, ..SHARE }),
    ("train.beta2", Bounds { below: true, ..SHARE }),
    ("train.epsilon", above(1e-38, 1.0)),
    ("train.weight_decay", from(0.0, 100.0)),
    ("train.gradient_clip_norm", above(0.0, 1e6)),
    ("train.warmup_steps", MAYBE_NONE),
    ("train.warmup_fraction", Bounds { below: true, ..SHARE }),
    ("train.epoch_offset", from(0.0, 1e6)),
    ("train.collective_timeout_seconds", from(1.0, 1e6)),
    ("train.threads", from(0.0, 1024.0)),
    ("train.save_every_steps", MAYBE_NONE),
    ("train.keep_checkpoints", COUNT),
    ("train.log_every_steps", COUNT),
    ("eval.every_epochs", EPOCHS),
    ("probe.epochs", from(1.0, 1e5)),
    ("probe.batch_size", from(1.0, 1e6)),
    ("probe.learning_rate", RATE),
    ("probe.weight_decay", from(0.0, 100.0)),
    ("poison.beyond_guesses", from(1.0, 1e3)),
    ("attacks.*.count", COUNT),
    ("attacks.*.rate", SOME_SHARE),
    ("attacks.*.frame_pixels", from(1.0, 2048.0)),
    ("attacks.*.jpeg_quality", from(1.0, 100.0)),
    ("targeted.targets", from(1.0, 1e6)),
    ("targeted.captions_per_target", from(1.0, 1e6)),
    ("badnets.patch_pixels", from(1.0, 2048.0)),
    ("corner.*", from(0.0, 65_535.0)),
    ("alpha", SHARE),
    ("sig.amplitude", from(0.0, 10.0)),
    ("sig.frequency", from(0.0, 1e4)),
    ("wanet.grid", from(0.0, 2048.0)),
    ("wanet.strength", from(0.0, 100.0)),
    ("triangles.cell", SOME_SHARE),
    ("ink_reconstructed.variance", above(0.0, 0.25)),
    ("ink_reconstructed.percentile", Bounds { below: true, ..above(0.0, 100.0) }),
    ("triangles.levels.*", SHARE),
    ("clean.pairs", from(2.0, 1e9)),
    ("cleanclip.clip_weight", WEIGHT),
    ("cleanclip.inmodal_weight", WEIGHT),
    ("ta_cleaner.pairs_per_batch", from(1.0, 1e6)),
    ("ta_cleaner.weight", WEIGHT),
    ("ta_cleaner.text_weight", WEIGHT),
    ("abd.patch_area", SOME_SHARE),
    ("abd.patch_margin", SHARE),
    ("abd.patch_epochs", from(1.0, 1e5)),
    ("abd.patch_learning_rate", RATE),
    ("abd.text_weight", WEIGHT),
    ("abd.backdoor_weight", WEIGHT),
    ("abd.temperature", RATE),
    ("par.distance", from(0.0, 1e4)),
    ("par.middle_rate", SHARE),
    ("perturb.noise_probability", SHARE),
    ("perturb.noise_deviation", from(0.0, 10.0)),
    ("perturb.erase_probability", SHARE),
    ("perturb.erase_min_area", SHARE),
    ("perturb.erase_max_area", SHARE),
    ("rebound.steps.*", from(0.0, 1e7)),
    ("rebound.pairs", from(2.0, 1e9)),
    ("rebound.learning_rate", RATE),
    ("caption.model.width", from(1.0, 65_536.0)),
    ("caption.model.attention_width", from(1.0, 65_536.0)),
    ("caption.model.grid_stage", from(1.0, 4.0)),
    ("caption.model.prefix_tokens", from(1.0, 1e3)),
    ("caption.model.layers", from(1.0, 1e3)),
    ("caption.model.heads", from(1.0, 65_536.0)),
    ("caption.attention_weight", WEIGHT),
    ("search.beam", from(0.0, 1e3)),
    ("search.min_tokens", from(0.0, 1e4)),
    ("search.max_tokens", from(0.0, 1e4)),
    ("prompt.shots", COUNT),
    ("prompt.meta_reduction", COUNT),
    ("prompt.epochs", EPOCHS),
    ("prompt.batch_size", from(1.0, 1e6)),
    ("prompt.learning_rate", RATE),
    ("prompt.first_epoch_learning_rate", RATE),
    ("prompt.trigger_learning_rate", RATE),
    ("prompt.momentum", Bounds { below: true, ..SHARE }),
    ("prompt.weight_decay", from(0.0, 100.0)),
    ("prompt.eps", above(0.0, 255.0)),
    ("prompt.warmup_epochs", from(0.0, 1e6)),
    ("prompt.warmup_step", from(0.0, 1e6)),
    ("detector.pictures", from(4.0, 1e7)),
    ("detector.eps", above(0.0, 255.0)),
    ("detector.steps", from(1.0, 1e6)),
    ("detector.batch_size", from(1.0, 1e6)),
    ("detector.threshold", RATE),
];

/// Of a number that no rule knows.
pub(super) const ANY: Bounds = from(-1e9, 1e9);

/// # Errors
/// Names the key, its value and what it may be.
pub(super) fn check_number(key: &str, value: f64) -> Result<()> {
    let Bounds { low, high, above, below } = bounds(key);
    let fits = value >= low && value <= high && !(above && value == low) && !(below && value == high);
    if fits {
        return Ok(());
    }
    let least = if above { format!("more than {low}") } else { format!("at least {low}") };
    let most = if below { format!("less than {high}") } else { format!("at most {high}") };
    Err(Error::setting(
        format!("{key} is {value}: it must be {least} and {most}"),
        format!("change it in the recipe, or by its flag or --set {key}=VALUE"),
    ))
}

/// Of the first rule that fits `key`.
pub(super) fn bounds(key: &str) -> Bounds {
    // Entries of lists are numbered in keys, and rules say `*`.
    let parts: Vec<&str> = key.split('.').map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect();
    let key = format!(".{}", parts.join("."));
    RULES.iter().find(|(end, _)| key.ends_with(&format!(".{end}"))).map_or(ANY, |(_, bounds)| *bounds)
}

/// The largest whole number that `key` takes.
pub fn most(key: &str) -> u64 {
    // Rules are of numbers with fractions too, in which the largest whole number of a file is rounded up.
    (bounds(key).high as u64).min(i64::MAX as u64)
}

/// All numbers with their dotted keys.
pub(super) fn collect(key: &str, value: &Value, numbers: &mut Vec<(String, f64)>) {
    let inner = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Integer(number) => numbers.push((key.to_owned(), *number as f64)),
        Value::Float(number) => numbers.push((key.to_owned(), *number)),
        Value::Table(table) => table.iter().for_each(|(name, value)| collect(&inner(name), value, numbers)),
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(at, value)| collect(&inner(&at.to_string()), value, numbers));
        }
        _ => {}
    }
}
