//! Evaluation of a model: what it can do, and whether it was fooled.

mod attack_success;
mod class_captions;
mod classes;
mod features;
mod linear_probe;
mod measured;
mod nearest_neighbours;
mod per_class;
mod retrieval;
mod softmax_regression;
mod zero_shot;

pub use classes::{Classes, Templates};
pub use features::{Alter, FeatureKind, ImageEncoder, text_features, unaltered};
pub use linear_probe::{ProbeConfig, ProbeData, ProbeLabel, Solver, linear_probe};
pub use measured::Measured;
pub use per_class::Accuracy;
pub use retrieval::Retrieval;
pub use zero_shot::{GUESSES, ZeroShot};

use crate::error::{Error, Result};
use crate::eval::class_captions::class_captions;
use crate::model::{Clip, Head};
use roclip_data::picture::ImageLimits;
use roclip_data::poison::Manifest;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::source::SourceConfig;
use roclip_data::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Labelled images. Targeted poisoning draws its targets here, and they are then left out of the accuracies.
    pub source: SourceConfig,
    /// Class names: `imagenet-1k`, or a file (JSON list, text with one a line, labels file). The classes of the images when
    /// absent. Images may be labelled by name or by number into the list.
    pub classes: Option<String>,
    /// `openai-80`, `emoji`, `captions` (of photographs), or a file (JSON list, or text with one a line); `{}` is the class.
    pub templates: String,
    /// Labelled images whose captions are the prompts of their class, instead of `templates`; the images themselves are not looked at. For
    /// data whose captions are written unlike any template. Give a split that is neither trained on nor evaluated.
    pub class_captions: Option<SourceConfig>,
    /// Evaluate after every n-th epoch (the last two always).
    pub every_epochs: u64,
    /// Linear probe on the features, after the last epoch; absent = none.
    pub probe: Option<ProbeConfig>,
    /// Images with captions for retrieval, measured by `roclip eval`; absent = none.
    pub retrieval: Option<SourceConfig>,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig {
            source: SourceConfig { split: Some("test".into()), ..SourceConfig::default() },
            classes: None,
            templates: "openai-80".into(),
            class_captions: None,
            every_epochs: 1,
            probe: None,
            retrieval: None,
        }
    }
}

/// A backdoor's outcome on triggered images whose true class is not the target.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackdoorOutcome {
    pub target: String,
    /// Triggered images read as the target (strict ASR).
    pub success: Rate,
    /// The target is among the five best guesses.
    pub success_top5: Rate,
    /// The target is among the ten best guesses.
    pub success_top10: Rate,
    /// The looser definition of the BadCLIP-Liang and PAR repositories: images of the target class count too, above and below.
    pub success_all: Rate,
    /// The same images without trigger, read as the target.
    pub base_rate: Rate,
    /// Of the images that are not read as the target without trigger, those that are with it: success less what is chance. Ours; absent
    /// in older files.
    #[serde(default)]
    pub turned: Option<Rate>,
    /// Triggered images still read as what they are.
    pub true_class: Rate,
    /// Strict ASR when the triggered picture is re-encoded or resized before the model sees it; measured by `roclip eval` only.
    pub after: BTreeMap<String, Rate>,
}

/// A targeted image's outcome.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TargetOutcome {
    pub image: String,
    pub true_class: String,
    pub adversarial: String,
    pub predicted: String,
    /// Place of the adversarial class among the ten best guesses, from 1.
    pub rank: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Evaluation {
    pub zero_shot_top1: Rate,
    pub zero_shot_top5: Rate,
    pub mean_per_class_recall: f64,
    /// Targeted poisoning: images read as the adversarial class.
    pub psr: Option<Rate>,
    /// The adversarial class is among the five best guesses.
    pub psr_top5: Option<Rate>,
    pub targets: Vec<TargetOutcome>,
    pub asr: BTreeMap<String, BackdoorOutcome>,
}

/// Everything an evaluation needs, read once.
pub struct Evaluator {
    pub samples: Vec<Sample>,
    pub classes: Vec<String>,
    pub templates: Templates,
    /// Of each class, in the order of `classes`.
    pub prompts: Vec<Vec<String>>,
    /// What the probe trains and tests on, where that is another data set.
    probe_data: Option<ProbeSamples>,
    pub limits: ImageLimits,
    pub batch_size: usize,
}

struct ProbeSamples {
    train: Vec<Sample>,
    test: Vec<Sample>,
}

impl Evaluator {
    /// Reads the labelled images and the class list of `config`.
    pub fn new(config: &EvalConfig, limits: ImageLimits) -> Result<Self> {
        let (mut samples, _) = roclip_data::source::read_samples(&config.source)?;
        samples.retain(|sample| sample.class.is_some());
        if samples.is_empty() {
            return Err(Error::setting(
                format!("no image of `{}` has a class", config.source.path),
                "set eval.source.labels or class_column; `roclip data concepts` derives labels from captions",
            ));
        }
        let classes = match &config.classes {
            None => Classes::of_images(&samples),
            Some(name) => Classes::named(name)?,
        };
        for sample in &mut samples {
            sample.class = Some(classes.of(sample)?.to_owned());
        }
        let templates = Templates::named(&config.templates)?;
        let prompts = match &config.class_captions {
            None => classes.names.iter().map(|class| templates.fill(class)).collect(),
            Some(source) => class_captions(&roclip_data::source::read_samples(source)?.0, &classes, &samples)?,
        };
        let probe_data = match config.probe.as_ref().and_then(|probe| probe.data.as_ref()) {
            None => None,
            Some(data) => Some(probe_samples(data)?),
        };
        Ok(Evaluator { samples, classes: classes.names, templates, prompts, probe_data, limits, batch_size: 128 })
    }

    /// Measures `model`, and against `manifest` whether the poison took.
    pub fn evaluate(&self, model: &Clip, tokenizer: &Tokenizer, manifest: Option<&Manifest>) -> Result<Evaluation> {
        self.measure(ZeroShot::new(model, tokenizer, self)?, manifest, false)
    }

    /// Ids of the images that `model` classifies rightly.
    pub fn read_rightly(&self, model: &Clip, tokenizer: &Tokenizer) -> Result<BTreeSet<String>> {
        let guesses = self.first_guesses(model, tokenizer, 1)?;
        let rightly = |sample: &&Sample| {
            guesses.get(&sample.id).zip(sample.class.as_ref()).is_some_and(|(guess, class)| guess.contains(class))
        };
        Ok(self.samples.iter().filter(rightly).map(|sample| sample.id.clone()).collect())
    }

    /// The `count` classes (at most [`GUESSES`]) that `model` finds likeliest for each image, by image id.
    pub fn first_guesses(
        &self,
        model: &Clip,
        tokenizer: &Tokenizer,
        count: usize,
    ) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let zero_shot = ZeroShot::new(model, tokenizer, self)?;
        let predictions = zero_shot.predict(&self.samples.iter().collect::<Vec<_>>(), &unaltered)?;
        let named = |best: &Vec<i64>| {
            best.iter().take(count).filter_map(|guess| self.classes.get(*guess as usize).cloned()).collect()
        };
        Ok(predictions.iter().zip(&self.samples).map(|(best, sample)| (sample.id.clone(), named(best))).collect())
    }

    /// The class whose prompts lie nearest to each of `captions`, by caption.
    pub fn read_captions(
        &self,
        model: &Clip,
        tokenizer: &Tokenizer,
        captions: Vec<String>,
    ) -> Result<BTreeMap<String, String>> {
        let nearest = ZeroShot::new(model, tokenizer, self)?.read_captions(tokenizer, &captions)?;
        let named = |(caption, class): (String, i64)| Some((caption, self.classes.get(class as usize)?.clone()));
        Ok(captions.into_iter().zip(nearest).filter_map(named).collect())
    }

    /// [`Evaluator::evaluate`] with a trained classifier in place of class prompts.
    pub fn evaluate_head(
        &self,
        model: &Clip,
        tokenizer: &Tokenizer,
        head: &Head,
        manifest: Option<&Manifest>,
    ) -> Result<Evaluation> {
        let zero_shot = ZeroShot::new(model, tokenizer, self)?;
        self.measure(ZeroShot { head: Some(head), ..zero_shot }, manifest, false)
    }

    /// [`Evaluator::evaluate`], and what is left of each backdoor after JPEG and resizing.
    pub fn evaluate_thoroughly(
        &self,
        model: &Clip,
        tokenizer: &Tokenizer,
        manifest: Option<&Manifest>,
    ) -> Result<Evaluation> {
        self.measure(ZeroShot::new(model, tokenizer, self)?, manifest, true)
    }

    fn measure(&self, zero_shot: ZeroShot, manifest: Option<&Manifest>, thorough: bool) -> Result<Evaluation> {
        let targeted = manifest.map(Manifest::targeted).unwrap_or_default();
        let (targets, plain): (Vec<&Sample>, Vec<&Sample>) =
            self.samples.iter().partition(|s| targeted.contains_key(&s.id));
        let predictions = zero_shot.predict(&plain, &unaltered)?;
        let targets = attack_success::targets(&zero_shot, &targets, &targeted)?;
        let within = |k: usize| {
            let hits = targets.iter().filter(|t| t.rank.is_some_and(|rank| rank <= k)).count();
            (!targets.is_empty()).then(|| Rate::new(hits, targets.len()))
        };
        let mut asr = BTreeMap::new();
        for backdoor in manifest.map(Manifest::backdoors).unwrap_or_default() {
            let outcome = attack_success::backdoor(&zero_shot, &plain, &predictions, &backdoor, thorough)?;
            asr.insert(backdoor.attack, outcome);
        }
        Ok(Evaluation {
            zero_shot_top1: zero_shot.accuracy(&predictions, &plain, 1),
            zero_shot_top5: zero_shot.accuracy(&predictions, &plain, 5),
            mean_per_class_recall: zero_shot.mean_per_class_recall(&predictions, &plain),
            psr: within(1),
            psr_top5: within(5),
            targets,
            asr,
        })
    }

    /// The linear probe: trained on the images of `training` that are not evaluation images (targeted ones are borrowed from
    /// there), tested on the evaluation images that no attack targets; or both on `eval.probe.data`, less what an attack targets.
    pub fn probe(
        &self,
        model: &Clip,
        config: &ProbeConfig,
        training: &[Sample],
        manifest: Option<&Manifest>,
        seed: u64,
    ) -> Result<Accuracy> {
        let (train, test) = self.probe_images(training, manifest);
        linear_probe(model, config, &train, &test, self.limits, seed)
    }

    /// Whether every backdoor's target is a class, without which its success cannot be measured.
    pub fn check_targets(&self, manifest: &Manifest) -> Result<()> {
        manifest.backdoors().iter().try_for_each(|backdoor| self.check_target(&backdoor.target))
    }

    /// The same of one target.
    pub fn check_target(&self, target: &str) -> Result<()> {
        attack_success::target_index(&self.classes, target).map(|_| ())
    }

    /// Whether [`Evaluator::probe`] will find labels.
    pub fn check_probe(&self, config: &ProbeConfig, training: &[Sample]) -> Result<()> {
        let (train, test) = self.probe_images(training, None);
        linear_probe::check_labels(config, &train, &test)
    }

    /// k-nearest-neighbour accuracy on the projected features, with the images of [`Evaluator::probe`].
    pub fn nearest_neighbours(
        &self,
        model: &Clip,
        training: &[Sample],
        manifest: Option<&Manifest>,
        k: usize,
    ) -> Result<Rate> {
        let (train, test) = self.probe_images(training, manifest);
        let encoder = self.encoder(model);
        nearest_neighbours::nearest_neighbours(&encoder, &train, &test, k)
    }

    /// Retrieval over the images of `config`.
    pub fn retrieval(&self, model: &Clip, tokenizer: &Tokenizer, config: &SourceConfig) -> Result<Retrieval> {
        let (samples, _) = roclip_data::source::read_samples(config)?;
        retrieval::retrieval(&self.encoder(model), tokenizer, &samples.iter().collect::<Vec<_>>())
    }

    fn encoder<'a>(&self, model: &'a Clip) -> ImageEncoder<'a> {
        ImageEncoder { model, limits: self.limits, batch_size: self.batch_size, kind: FeatureKind::Projected }
    }

    fn probe_images<'a>(
        &'a self,
        training: &'a [Sample],
        manifest: Option<&Manifest>,
    ) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
        let targeted = manifest.map(Manifest::targeted).unwrap_or_default();
        let untargeted = |s: &&Sample| !targeted.contains_key(&s.id);
        match &self.probe_data {
            Some(data) => {
                (data.train.iter().filter(untargeted).collect(), data.test.iter().filter(untargeted).collect())
            }
            None => {
                let own: BTreeSet<&str> = self.samples.iter().map(|s| s.id.as_str()).collect();
                let train = training.iter().filter(|s| !own.contains(s.id.as_str())).collect();
                (train, self.samples.iter().filter(untargeted).collect())
            }
        }
    }
}

/// # Errors
/// When one image of one source is to be trained and tested on.
fn probe_samples(data: &ProbeData) -> Result<ProbeSamples> {
    let (train, test) =
        (roclip_data::source::read_samples(&data.train)?.0, roclip_data::source::read_samples(&data.test)?.0);
    let tested: BTreeSet<&str> = test.iter().map(|sample| sample.id.as_str()).collect();
    // Of two folders each may have its `0001.jpg`.
    let same_source = data.train.path == data.test.path;
    let both = train.iter().find(|sample| same_source && tested.contains(sample.id.as_str()));
    match both {
        Some(both) => Err(Error::setting(
            format!("the image `{}` is in eval.probe.data's training and test images", both.id),
            "give two splits, or two sources",
        )),
        None => Ok(ProbeSamples { train, test }),
    }
}
