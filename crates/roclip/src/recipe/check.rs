//! Whether a recipe's numbers make sense: each is looked at before any work, so that none is found out by a run that has begun.

use crate::error::{Error, Result};
use crate::objective::{CaptionConfig, ImageTower};
use crate::recipe::Recipe;
use crate::recipe::bounds::{check_number, collect, most};
use crate::train::{Precision, TrainConfig};
use roclip_data::tokenizer::Truncate;
use std::path::Path;
use toml::{Table, Value};

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

    /// [`Recipe::check`] of a run that trains a model.
    ///
    /// # Errors
    /// Also where the recipe learns prompts: what its other sections say of a model and its training is nobody's choice.
    pub fn check_training(&self) -> Result<()> {
        self.check()?;
        match self.prompt {
            None => Ok(()),
            Some(_) => Err(Error::setting(
                "the recipe learns prompts for a frozen model: it has a section [prompt]",
                "use `roclip prompt train --config`, or take the section out (--set prompt=)",
            )),
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
        let mut numbers = Vec::new();
        let table = match Table::try_from(self) {
            Ok(table) => table,
            // A whole number that no recipe can be written with: it has a key, too.
            Err(cause) => {
                let json = serde_json::to_value(self).map_err(|e| Error::internal(format!("recipe: {e}")))?;
                let too_large = |number: &u64| i64::try_from(*number).is_err();
                return match whole_numbers("", &json).into_iter().find(|(_, number)| too_large(number)) {
                    Some((key, number)) => Err(Error::setting(
                        format!("{key} is {number}: it must be at most {}", most(&key)),
                        format!("change it in the recipe, or by its flag or --set {key}=VALUE"),
                    )),
                    None => Err(Error::internal(format!("recipe: {cause}"))),
                };
            }
        };
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

/// All whole numbers that are not negative, with their dotted keys.
fn whole_numbers(key: &str, value: &serde_json::Value) -> Vec<(String, u64)> {
    let inner = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        serde_json::Value::Number(number) => {
            number.as_u64().map(|number| (key.to_owned(), number)).into_iter().collect()
        }
        serde_json::Value::Object(table) => {
            table.iter().flat_map(|(name, value)| whole_numbers(&inner(name), value)).collect()
        }
        serde_json::Value::Array(entries) => {
            entries.iter().enumerate().flat_map(|(at, value)| whole_numbers(&inner(&at.to_string()), value)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::bounds::{ANY, bounds};

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
        let said = Recipe { seed: u64::MAX, ..full() }.check().unwrap_err().to_string();
        assert!(said.contains("seed is 18446744073709551615: it must be at most 9223372036854775807"), "{said}");
        let mut learned = prompts();
        learned.prompt.as_mut().unwrap().shots = usize::MAX;
        let said = learned.check().unwrap_err().to_string();
        assert!(said.contains("prompt.shots is 18446744073709551615: it must be at most 1000000000"), "{said}");
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
