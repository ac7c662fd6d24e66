//! From a recipe to everything that prompt learning needs. What can be wrong with it is found here, before any work.

use crate::attack::{DELTA, UniversalDelta};
use crate::checkpoint::{self, Description, Loaded, Provenance};
use crate::error::{Error, Result};
use crate::eval::{Evaluator, FeatureKind, ImageEncoder, unaltered};
use crate::prompt::{
    ClassTokens, ClassWords, LearnerAbout, PromptConfig, PromptLearner, Split, StoredLearner, draw_shots, read_learner,
};
use crate::recipe::Recipe;
use rand::Rng;
use rand::seq::SliceRandom;
use roclip_data::artifact;
use roclip_data::pairs::{CaptionMode, Pairs};
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::{Listing, list_samples};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Images encoded at a time: each is looked at in many forms.
const BATCH: usize = 64;

/// The data and the model of a recipe.
pub struct PromptData {
    pub loaded: Loaded,
    /// The few pictures, each with its class as its caption, and their labels among the seen classes.
    pub pairs: Pairs,
    pub labels: Vec<i64>,
    pub split: Split,
    /// The attacker's class and its place among the seen ones.
    pub target: (String, String),
    pub target_place: usize,
    /// Labelled pictures that are measured.
    pub samples: Vec<Sample>,
    /// [`Evaluator::digest`] of them, with those that are shots: these are other ones for each seed.
    pub measured_on: Option<String>,
    /// All labelled pictures of the data that the few are drawn from.
    pub training: Vec<Sample>,
    pub warnings: Vec<String>,
    pub skips: SkipReport,
    /// The learner that is repaired.
    pub delivered: Option<StoredLearner>,
}

/// A list of classes in a file, one a line.
fn class_file(path: Option<&PathBuf>) -> Result<Option<Vec<String>>> {
    let Some(path) = path else { return Ok(None) };
    let text = artifact::read_text(path)?;
    Ok(Some(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()))
}

/// The `[prompt]` section, which a recipe must have.
pub fn section(recipe: &Recipe) -> Result<&PromptConfig> {
    recipe.prompt.as_ref().ok_or_else(|| {
        Error::setting(
            "the recipe has no section [prompt]",
            "start with `roclip prompt train MODEL`, or add the section",
        )
    })
}

/// The frozen model, with both its towers.
pub fn frozen_model(path: &Path, description: Description, device: Device) -> Result<Loaded> {
    if !path.exists() {
        let tried = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        return Err(Error::setting(
            format!("the frozen model `{}` is not there: tried `{}`", path.display(), tried.display()),
            "a relative path starts at the current folder: work in the folder that the prompts were learned in, or name the model with \
             --on-model (`roclip prompt train`: MODEL)",
        ));
    }
    let loaded = checkpoint::load_as(path, description, device).map_err(|error| {
        Error::setting(
            format!("`{}` is no CLIP that prompts can be learned for: {error}", path.display()),
            "name a model with an image tower and a text tower",
        )
    })?;
    loaded.must_read_captions("name a model with a text tower that was trained")?;
    loaded.model.freeze();
    Ok(loaded)
}

/// Reads everything that `recipe` names. The classes of `learned`, where prompts are measured that were learned before, are the seen ones.
///
/// # Errors
/// Everything that is wrong with the model, the classes and the pictures.
pub fn prepare(
    recipe: &Recipe,
    description: Description,
    device: Device,
    learned: Option<&StoredLearner>,
) -> Result<PromptData> {
    let config = section(recipe)?;
    // A learner that is repaired says which model it is of; what is no learner at all is said first.
    let delivered = config.repair.as_ref().map(|repair| read_learner(&repair.learner)).transpose()?;
    let loaded = frozen_model(&config.model, description, device)?;
    if let Some(stored) = &delivered {
        same_model(stored, &loaded, &config.model)?;
    }
    let evaluator = Evaluator::new(&recipe.eval, recipe.data.reading())?;
    if evaluator.is_of_nothing() {
        return Err(Error::setting(
            "there are no labelled pictures to measure prompts on: eval.source.path is `none`",
            "name some with --val-data",
        ));
    }
    let classes: ClassWords = evaluator.class_words();
    let lists = [class_file(config.seen.as_ref())?, class_file(config.unseen.as_ref())?];
    let unseen = lists[1].as_deref();
    let (split, mut warnings) = match learned {
        Some(stored) => Split::of_learned(&classes, &stored.about.classes, unseen)
            .map_err(|error| Error::in_file(&stored.path, &error))?,
        None => (Split::new(&classes, lists[0].as_deref(), unseen)?, Vec::new()),
    };
    let (target_place, _) = split.target(config.target.as_deref())?;
    let target = split.seen.get(target_place).cloned().unwrap_or_default();
    if let Some(stored) = delivered.as_ref().filter(|stored| stored.about.classes != split.seen) {
        return Err(Error::file(
            &stored.path,
            format!(
                "was learned on {} other classes than the {} that these data give",
                stored.about.classes.len(),
                split.seen.len()
            ),
            "repair it with the data of its run",
        ));
    }

    let mut listing = list_samples(&recipe.data.source, recipe.data.limits)?;
    listing.probe(recipe.data.limits, recipe.data.workers);
    listing.check_losses(recipe.data.max_skip_fraction, "data.source")?;
    let Listing { samples, skips, .. } = listing;
    if samples.iter().all(|sample| sample.class.is_none()) {
        return Err(Error::setting(
            format!("no picture of `{}` has a class, and shots are drawn by class", recipe.data.source.path),
            "set data.source.labels or data.source.class_column, or name labelled pictures with --train-data",
        ));
    }
    let training = evaluator.labelled(samples);
    // Of a class that the pictures lack, no shots can be left out of what is measured.
    let here = |class: &&(String, String)| classes.iter().any(|other| other.0 == class.0);
    let shown: ClassWords = split.seen.iter().filter(here).cloned().collect();
    let drawn = draw_shots(&training, &shown, config.shots, recipe.seed)?;
    let (mut few, mut labels) = (Vec::new(), Vec::new());
    for (place, label) in drawn {
        let Some(sample) = training.get(place) else { continue };
        let caption = shown.get(label as usize).map(|class| class.1.clone()).unwrap_or_default();
        few.push(Sample { captions: vec![caption], ..sample.clone() });
        labels.push(label);
    }
    warnings.extend(evaluator.warnings.clone());
    let measured_on = evaluator.digest();
    let mut samples = evaluator.samples;
    let measured = samples.len();
    samples.retain(|sample| !few.iter().any(|shot| shot.source == sample.source && shot.key == sample.key));
    if samples.len() < measured {
        warnings.push(format!(
            "{} of the {measured} pictures that are measured are shots, and are left out of the measurement",
            measured - samples.len()
        ));
    }
    for (side, list) in [("seen", &split.seen), ("unseen", &split.unseen)] {
        if !samples.iter().any(|sample| list.iter().any(|class| Some(&class.0) == sample.class.as_ref())) {
            return Err(Error::setting(
                format!("no picture that is measured is of one of the {} {side} classes", list.len()),
                "give other pictures with --val-data, or fewer --shots where both come from the same pictures",
            ));
        }
    }
    // A name that does not fit is found before the work, whichever list it stands in.
    let learner = PromptLearner::new(&loaded.model, &loaded.tokenizer, &config.context, None)?;
    let words: Vec<String> = classes.iter().chain(&split.seen).map(|class| class.1.clone()).collect();
    ClassTokens::new(&loaded.model, &loaded.tokenizer, &words, &config.ending, learner.contexts())?;
    warnings.extend(unknown_words(&loaded, config));
    Ok(PromptData {
        loaded,
        pairs: Pairs::new(few, CaptionMode::First),
        labels,
        split,
        target,
        target_place,
        samples,
        measured_on,
        training,
        warnings,
        skips,
        delivered,
    })
}

/// What a person should know of words that a compact vocabulary lacks.
fn unknown_words(loaded: &Loaded, config: &PromptConfig) -> Option<String> {
    loaded.tokenizer.compact()?;
    // Every word that the vocabulary lacks is one token, which nothing in a sane text is besides.
    let unknown = loaded.tokenizer.encode("\u{1F9FF}").get(1).copied()?;
    let count = |text: &str| loaded.tokenizer.encode(text).iter().filter(|id| **id == unknown).count();
    let lacking = (count(&config.context), count(&config.ending));
    (lacking != (0, 0)).then(|| {
        format!(
            "the model's compact vocabulary lacks {} tokens of prompt.context (`{}`) and {} of prompt.ending (`{}`): they begin as its unknown token",
            lacking.0, config.context, lacking.1, config.ending
        )
    })
}

/// # Errors
/// Where `stored` was learned on other weights.
pub fn same_model(stored: &StoredLearner, loaded: &Loaded, path: &Path) -> Result<()> {
    if stored.about.model_sha256 == loaded.origin.sha256 {
        return Ok(());
    }
    Err(Error::file(
        &stored.path,
        format!(
            "was learned on other weights than those of `{}` (sha256 {}...)",
            path.display(),
            stored.about.model_sha256.chars().take(12).collect::<String>()
        ),
        "name the model that it was learned on with --on-model",
    ))
}

impl PromptData {
    /// What encodes pictures for measurements.
    pub fn encoder(&self, recipe: &Recipe) -> ImageEncoder<'_> {
        encoder(&self.loaded, recipe)
    }

    /// The labelled pictures of `classes` that are measured.
    pub fn of<'a>(&'a self, classes: &ClassWords) -> Vec<&'a Sample> {
        let listed = |sample: &&Sample| classes.iter().any(|class| Some(&class.0) == sample.class.as_ref());
        self.samples.iter().filter(listed).collect()
    }

    /// Digests of what lies under names of `config`, beside weights, seen classes and pictures, by what it says.
    pub fn named(&self, config: &PromptConfig) -> Result<BTreeMap<String, String>> {
        let model = checkpoint::configuration_digest(&self.loaded.model)?;
        let mut found = BTreeMap::from([(format!("prompt.model = {:?}", config.model), model)]);
        if let Some(unseen) = &config.unseen {
            let classes = format!("{:?}", self.split.unseen);
            found.insert(format!("prompt.unseen = {unseen:?}"), artifact::sha256_hex(classes.as_bytes()));
        }
        Ok(found)
    }

    /// What a learner of this run says of itself.
    pub fn about(&self, recipe: &Recipe, config: &PromptConfig, step: u64) -> LearnerAbout {
        let method = config.method();
        let began = self.loaded.origin.provenance;
        let provenance = match (&self.delivered, method.attacks()) {
            (Some(_), _) => {
                Provenance::Cleaned.after(if began == Provenance::Poisoned { began } else { Provenance::Clean })
            }
            (None, true) => Provenance::Poisoned,
            (None, false) => Provenance::Clean.after(began),
        };
        let of_attack = self.delivered.as_ref().map(|stored| {
            let about = &stored.about;
            (about.target.clone(), about.eps, about.attack().map(str::to_owned))
        });
        let own = (Some(self.target.0.clone()), Some(config.eps), Some(method.name().to_owned()));
        let own = method.attacks().then_some(own);
        let (target, eps, attack) = of_attack.or(own).unwrap_or_default();
        LearnerAbout {
            method: method.name().to_owned(),
            provenance,
            model: config.model.clone(),
            model_sha256: self.loaded.origin.sha256.clone(),
            classes: self.split.seen.clone(),
            context: config.context.clone(),
            ending: config.ending.clone(),
            target,
            eps,
            attack,
            seed: recipe.seed,
            step,
        }
    }
}

pub fn encoder<'a>(loaded: &'a Loaded, recipe: &Recipe) -> ImageEncoder<'a> {
    ImageEncoder {
        model: &loaded.model,
        limits: recipe.data.limits,
        batch_size: BATCH,
        workers: recipe.data.workers,
        kind: FeatureKind::Projected,
        world: None,
    }
}

/// The trigger that came with a learner.
///
/// # Errors
/// One of another size than the model's pictures.
pub fn delivered_trigger(
    stored: &StoredLearner,
    config: &PromptConfig,
    loaded: &Loaded,
) -> Result<Option<UniversalDelta>> {
    let Some(delta) = stored.tensors.get(DELTA) else { return Ok(None) };
    let size = i64::from(loaded.model.config().image_size());
    if delta.size() != [3, size, size] {
        return Err(Error::file(
            &stored.path,
            format!("has a trigger of {:?}, and the model's pictures have {size} pixels a side", delta.size()),
            "name the model that it was learned on",
        ));
    }
    let eps = stored.about.eps.unwrap_or(config.eps) / 255.0;
    UniversalDelta::new(&delta.to_device(loaded.model.scale().device()), eps, config.sgd()).map(Some)
}

/// At most `count` pictures of `samples` as the model takes them, `[n, 3, size, size]`, drawn by the seed.
///
/// # Errors
/// No picture that can be read.
pub fn unlabelled(samples: &[&Sample], count: usize, seed: u64, encoder: ImageEncoder) -> Result<Tensor> {
    let mut drawn = samples.to_vec();
    drawn.shuffle(&mut random::stream(seed, "prompt-unlabelled", 0, ""));
    drawn.truncate(count);
    let mut pictures = Vec::new();
    encoder.inputs(&drawn, &unaltered, &mut |images, _| {
        pictures.push(images.shallow_clone());
        Ok(())
    })?;
    crate::embed::joined(&pictures)
}

/// Seeds libtorch's generator for `purpose`.
pub fn seed_torch(seed: u64, purpose: &str) {
    tch::manual_seed(random::stream(seed, purpose, 0, "").next_u64() as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_model_that_is_elsewhere_is_told_with_the_path_that_was_tried() {
        let error = frozen_model(Path::new("runs/gone"), Description::Beside, Device::Cpu).err().unwrap().to_string();
        let tried = std::env::current_dir().unwrap().join("runs/gone");
        assert!(error.contains("--on-model") && error.contains(&tried.display().to_string()), "{error}");
    }
}
