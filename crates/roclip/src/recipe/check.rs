//! Whether a recipe's numbers make sense: each is looked at before any work, so that none is found out by a run that has begun.

use crate::error::{Error, Result};
use crate::objective::{CaptionConfig, ImageTower};
use crate::recipe::Recipe;
use crate::train::{Precision, TrainConfig};
use roclip_data::tokenizer::Truncate;
use std::path::Path;
use toml::{Table, Value};

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
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
const ANY: Bounds = from(-1e9, 1e9);

/// Keys of which the first must not exceed the second.
const ORDERED: &[(&str, &str)] =
    &[("image.blur_sigma_min", "image.blur_sigma_max"), ("perturb.erase_min_area", "perturb.erase_max_area")];

impl Recipe {
    /// Refuses numbers that make no sense, whatever the data.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        let numbers = self.numbers()?;
        numbers.iter().try_for_each(|(key, value)| check_number(key, *value))?;
        for (key, least) in &numbers {
            let larger = ORDERED.iter().find_map(|(low, high)| Some(format!("{}{high}", key.strip_suffix(low)?)));
            let most = larger.and_then(|larger| numbers.iter().find(|(key, _)| *key == larger));
            if let Some((other, most)) = most.filter(|(_, most)| least > most) {
                return Err(Error::setting(
                    format!("{key} = {least} is more than {other} = {most}"),
                    "lower the first or raise the second",
                ));
            }
        }
        if let Some(image) = &self.augment.image {
            image.check("augment.image")?;
        }
        self.check_index()?;
        self.train.check()?;
        self.eval.check()?;
        self.poison.check()?;
        let sections =
            [("clean", self.clean.is_some()), ("caption", self.caption.is_some()), ("prompt", self.prompt.is_some())];
        let given: Vec<&str> = sections.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if let [one, other, ..] = given.as_slice() {
            return Err(Error::setting(
                format!("a recipe with [{one}] and [{other}]"),
                "take one of the two out: a run does one thing",
            ));
        }
        match (&self.clean, &self.caption, &self.prompt) {
            (Some(clean), ..) => clean.check(),
            (_, Some(caption), _) => self.check_caption(caption),
            (.., Some(prompt)) => self.check_prompt().and_then(|()| prompt.check()),
            (None, None, None) => self.objective.check(),
        }
    }

    /// [`Recipe::check`] for the numbers of the data alone, which every command reads.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn check_data_numbers(&self) -> Result<()> {
        let numbers = self.numbers()?;
        let of_data = numbers.iter().filter(|(key, _)| key.starts_with("data."));
        of_data.into_iter().try_for_each(|(key, value)| check_number(key, *value))
    }

    /// Every number by its dotted key.
    fn numbers(&self) -> Result<Vec<(String, f64)>> {
        let table = Table::try_from(self).map_err(|_| {
            Error::setting(
                "a whole number of the recipe is too large to be written down",
                format!("use at most {} (a seed, perhaps)", i64::MAX),
            )
        })?;
        let mut numbers = Vec::new();
        collect("", &Value::Table(table), &mut numbers);
        Ok(numbers)
    }

    /// # Errors
    /// A word that is nearly one of those that say when an index is used, and no file.
    fn check_index(&self) -> Result<()> {
        let named = self.data.index.as_str();
        if Path::new(named).exists() {
            return Ok(());
        }
        let close = |word: &&str| strsim::jaro_winkler(named, word) > 0.85 && named != *word;
        match ["auto", "always", "never"].into_iter().find(close) {
            None => Ok(()),
            Some(word) => Err(Error::setting(
                format!("data.index (--index) is `{named}`, and there is no such file; did you mean `{word}`?"),
                "take auto, always or never, or the path of an index that `roclip data index --out` made",
            )),
        }
    }

    /// A prompt's own optimizer (SGD on a frozen model) has none of these.
    fn check_prompt(&self) -> Result<()> {
        let TrainConfig { precision, encode_batch_size, gradient_checkpointing, gradient_clip_norm, .. } = &self.train;
        let given = [
            ("train.precision", *precision != Precision::Fp32),
            ("train.encode_batch_size", encode_batch_size.is_some()),
            ("train.gradient_checkpointing", *gradient_checkpointing),
            ("train.gradient_clip_norm", gradient_clip_norm.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((key, _)) => Err(Error::setting(
                format!("{key} is set, and prompts are learned without it"),
                format!("take it out (--set {key}=)"),
            )),
        }
    }

    fn check_caption(&self, caption: &CaptionConfig) -> Result<()> {
        if self.train.precision == Precision::Bf16 {
            return Err(Error::setting(
                "train.precision is bf16, in which the towers of features compute, and a captioner learns from the pictures themselves",
                "set train.precision = \"fp32\"",
            ));
        }
        if self.train.encode_batch_size.is_some() {
            return Err(Error::setting(
                "train.encode_batch_size caches the features that a loss compares, and a captioner learns from the pictures themselves",
                "take train.encode_batch_size out (--set train.encode_batch_size=), and lower --batch-size where memory is short",
            ));
        }
        if self.train.gradient_checkpointing {
            return Err(Error::setting(
                "train.gradient_checkpointing is of towers whose features a loss compares, and a captioner learns from the pictures themselves",
                "set train.gradient_checkpointing = false, and lower --batch-size where memory is short",
            ));
        }
        if self.model.truncate == Truncate::DropEot {
            return Err(Error::setting(
                "model.truncate is drop-eot, and a captioner has to learn where captions end",
                "set model.truncate = \"keep-eot\"",
            ));
        }
        if caption.image_tower == ImageTower::Frozen && self.model.weights.is_none() {
            return Err(Error::setting(
                "the image tower has random weights and is frozen: a captioner would see noise",
                "name a trained model (roclip caption train MODEL, model.weights), or set caption.image_tower = \"tuned\"",
            ));
        }
        caption.check()
    }
}

fn check_number(key: &str, value: f64) -> Result<()> {
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

fn bounds(key: &str) -> Bounds {
    // Entries of lists are numbered in keys, and rules say `*`.
    let parts: Vec<&str> = key.split('.').map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect();
    let key = format!(".{}", parts.join("."));
    RULES.iter().find(|(end, _)| key.ends_with(&format!(".{end}"))).map_or(ANY, |(_, bounds)| *bounds)
}

/// All numbers with their dotted keys.
fn collect(key: &str, value: &Value, numbers: &mut Vec<(String, f64)>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A recipe with every section there is.
    fn full() -> Recipe {
        [
            "augment.image={}",
            "clean={}",
            "clean.rebound={}",
            "eval.probe={}",
            "objective.safeclip.plausibility={}",
            "poison.attacks=[{name='a',target='b',badnets={},rate=0.1},{name='c',target='b',count=1,sig={}},{name='d',target='b',count=1,triangles={}},{name='e',target='b',count=1,ink_reconstructed={variance=0.1}}]",
        ]
        .iter()
        .fold(Recipe::default(), |recipe, section| recipe.assign(section).unwrap())
    }

    /// One that learns prompts, with every section of that.
    fn prompts() -> Recipe {
        Recipe::default().assign("prompt={model='m',repair={}}").unwrap()
    }

    #[test]
    fn defaults_and_presets_make_sense() {
        full().check().unwrap();
        prompts().check().unwrap();
        let both = full().assign("prompt={model='m'}").unwrap().check().unwrap_err().to_string();
        assert!(both.contains("[clean]") && both.contains("[prompt]"), "{both}");
        for preset in Recipe::PRESETS {
            let mut recipe = Recipe::default();
            recipe.apply_preset(preset).unwrap();
            recipe.check().unwrap();
        }
    }

    #[test]
    fn the_recipes_of_the_repository_make_sense() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
        for recipe in std::fs::read_dir(folder).unwrap() {
            let path = recipe.unwrap().path();
            let recipe = Recipe::read(&path).unwrap();
            let mut numbers = Vec::new();
            collect("", &Value::Table(Table::try_from(&recipe).unwrap()), &mut numbers);
            let refused: Vec<_> = numbers.iter().filter(|(key, value)| check_number(key, *value).is_err()).collect();
            assert!(refused.is_empty(), "{}: {refused:?}", path.display());
            recipe.check().unwrap();
        }
    }

    #[test]
    fn every_number_has_a_rule_and_none_takes_what_is_no_number() {
        let mut numbers = Vec::new();
        // A run does one thing: a recipe cleans, captions, or learns prompts.
        let captioner = Recipe::default().assign("caption={}").unwrap();
        for recipe in [full(), prompts(), captioner] {
            collect("", &Value::Table(Table::try_from(recipe).unwrap()), &mut numbers);
        }
        assert!(numbers.len() > 80 && numbers.iter().any(|(key, _)| key == "caption.search.max_tokens"));
        let without: Vec<_> = numbers.iter().filter(|(key, _)| bounds(key) == ANY).collect();
        assert!(without.is_empty(), "no rule for {without:?}");
        for (key, value) in numbers {
            check_number(&key, value).unwrap();
            for odd in [f64::NAN, f64::INFINITY, -f64::INFINITY, -2.0, 1e19] {
                let error = check_number(&key, odd).unwrap_err().to_string();
                assert!(error.contains(&key), "{error}");
            }
        }
    }

    #[test]
    fn values_out_of_order_and_too_large_ones_are_named() {
        let refused = |assignment: &str| full().assign(assignment).unwrap().check().unwrap_err().to_string();
        for (assignment, words) in [
            ("augment.image.blur_sigma_min=3", ["blur_sigma_min", "blur_sigma_max"]),
            ("clean.par.perturb.erase_min_area=0.5", ["erase_min_area", "erase_max_area"]),
            ("train.batch_size=1", ["train.batch_size is 1", "at least 2"]),
            ("data.index='alway'", ["data.index", "did you mean `always`"]),
            ("train.encode_batch_size=1", ["train.encode_batch_size is 1", "at least 2"]),
            ("train.encode_batch_size=513", ["train.encode_batch_size is 513", "train.batch_size 512"]),
            ("train.gradient_clip_norm=0.0", ["train.gradient_clip_norm is 0", "more than 0"]),
            ("train.gradient_clip_norm=nan", ["train.gradient_clip_norm is NaN", "more than 0"]),
            ("data.max_skip_fraction=nan", ["data.max_skip_fraction", "at most 1"]),
            ("train.beta2=1.0", ["train.beta2", "less than 1"]),
            ("poison.attacks.0.rate=0", ["poison.attacks.0.rate", "more than 0"]),
            ("poison.attacks.0.name=c", ["two attacks", "`c`"]),
        ] {
            let error = refused(assignment);
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        assert!(Recipe { seed: u64::MAX, ..full() }.check().unwrap_err().to_string().contains("seed"));
    }

    #[test]
    fn what_prompts_are_learned_without_is_refused() {
        let set = |assignment: &str| prompts().assign(assignment).and_then(|recipe| recipe.check());
        assert!(set("train.precision='fp32'").is_ok());
        for (assignment, key) in [
            ("train.precision='bf16'", "train.precision"),
            ("train.encode_batch_size=4", "train.encode_batch_size"),
            ("train.gradient_checkpointing=true", "train.gradient_checkpointing"),
            ("train.gradient_clip_norm=1.0", "train.gradient_clip_norm"),
        ] {
            let error = set(assignment).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("prompts"), "{error}");
        }
    }
}
