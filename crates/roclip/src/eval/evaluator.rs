//! Everything an evaluation needs, read once. What it measures of a model is in `measure.rs`.

use crate::error::{Error, Result};
use crate::eval::class_captions::class_captions;
use crate::eval::probe_images::{ProbeImages, choose};
use crate::eval::reading::Labelled;
use crate::eval::{
    Accuracy, ClassPrompts, Classes, EvalConfig, FeatureKind, ImageEncoder, ProbeConfig, Prompts, Reading, Retrieval,
    Templates, attack_success, linear_probe, nearest_neighbours, retrieval, warnings,
};
use crate::model::Clip;
use crate::world::World;
use roclip_data::artifact;
use roclip_data::poison::Manifest;
use roclip_data::rate::Rate;
use roclip_data::sample::{Sample, count_splits};
use roclip_data::skip::SkipReason;
use roclip_data::source::SourceConfig;
use roclip_data::tokenizer::Tokenizer;
use std::collections::{BTreeMap, BTreeSet};

/// Images encoded at a time.
const BATCH: usize = 128;
/// As the path of `eval.source`: there are no labelled images.
pub const NO_IMAGES: &str = "none";
/// The word in [`Evaluation::skipped`] for images of classes that the asked-for list does not have.
const NOT_LISTED: &str = "class-not-in-list";

/// Everything an evaluation needs, read once.
pub struct Evaluator {
    pub samples: Vec<Sample>,
    /// Images of the training split of the same data, where it has one and no split was asked for; a probe may learn from them.
    pub training_split: Vec<Sample>,
    pub classes: Vec<String>,
    /// What labels mean.
    labels: Classes,
    pub templates: Templates,
    pub prompts: Prompts,
    /// What a person should know before the numbers.
    pub warnings: Vec<String>,
    /// What is measured: data set, number of images, classes and prompts.
    pub description: String,
    pub reading: Reading,
    /// What the probe trains and tests on, where that is another data set.
    probe_images: Option<ProbeImages>,
    /// The processes that measure together; one where nobody has said otherwise.
    world: World,
    /// Images that were left out when the source was listed, by reason.
    pub(super) skipped: BTreeMap<String, usize>,
}

impl Evaluator {
    /// Reads the labelled images and the class list of `config`.
    pub fn new(config: &EvalConfig, reading: Reading) -> Result<Self> {
        config.check()?;
        if config.source.path == NO_IMAGES {
            return Evaluator::of_nothing(config, reading);
        }
        let Labelled { mut samples, training: training_split, skips, note } = reading.labelled(&config.source)?;
        let mut notes: Vec<String> = note.into_iter().collect();
        notes.extend(warnings::splits(&count_splits(&samples), &config.source, "eval.source"));
        let listed = samples.len();
        samples.retain(|sample| sample.class.is_some());
        if samples.is_empty() {
            return Err(Error::setting(
                format!("no image of `{}` has a class", config.source.path),
                "set eval.source.labels or class_column; `roclip data concepts` derives labels from captions",
            ));
        }
        let unlabelled = listed - samples.len();
        let mut skipped = skips.counts();
        // What is lost with a shard is no image, and what a pair is used without loses none.
        let lost = skips.count(SkipReason::loses_sample);
        if skips.total() > 0 {
            let lost = if lost > 0 { format!("{lost} of {} images left out: ", listed + lost) } else { String::new() };
            notes.push(format!("evaluation: {lost}{}", skips.summary()));
        }
        if unlabelled > 0 {
            notes.push(format!("evaluation: {unlabelled} of {listed} images have no class and are not looked at"));
        }
        let classes = match config.class_list() {
            None => Classes::of_images(&samples)?,
            Some(name) => Classes::named(&name)?,
        };
        notes.extend(classes.joined());
        notes.extend(leave_out_unlisted(&mut samples, &classes, &mut skipped)?);
        for sample in &mut samples {
            sample.class = Some(classes.of(sample)?.to_owned());
        }
        notes.extend(warnings::codes(&classes.words));
        notes.extend(warnings::poisoned(&samples));
        let training_split = labelled_as(training_split, &classes);
        let templates = Templates::named(&config.templates)?;
        let prompts = match &config.class_captions {
            None => Prompts::filled(templates.clone(), classes.words.clone())?,
            Some(source) => Prompts::Captions(class_captions(
                &reading.captions(source, "eval.class_captions")?.0,
                &classes,
                &samples,
            )?),
        };
        let probe_images = match config.probe.as_ref().and_then(|probe| probe.data.as_ref()) {
            None => None,
            Some(data) => Some(ProbeImages::read(data, &reading)?),
        };
        Ok(Evaluator {
            description: describe(config, samples.len(), classes.names.len(), &templates),
            samples,
            training_split,
            classes: classes.names.clone(),
            labels: classes,
            templates,
            prompts,
            warnings: notes,
            reading,
            probe_images,
            world: World::alone(),
            skipped,
        })
    }

    /// An evaluator without images, for data that nobody has labelled.
    fn of_nothing(config: &EvalConfig, reading: Reading) -> Result<Self> {
        let templates = Templates::named(&config.templates)?;
        let probe = config.probe.as_ref().and_then(|probe| probe.data.as_ref());
        Ok(Evaluator {
            training_split: Vec::new(),
            samples: Vec::new(),
            classes: Vec::new(),
            labels: Classes::none(),
            prompts: Prompts::filled(templates.clone(), Vec::new())?,
            templates,
            warnings: vec![format!(
                "nothing is evaluated: eval.source.path is `{NO_IMAGES}`; name labelled images with --val-data to see what the model learns"
            )],
            description: "no images".to_owned(),
            probe_images: probe.map(|data| ProbeImages::read(data, &reading)).transpose()?,
            reading,
            world: World::alone(),
            skipped: BTreeMap::new(),
        })
    }

    /// A digest of the pictures, each with its class, and of the class list: wherever the pictures lie and whatever they are called, what has
    /// the same one is measured on the same. None where there are no pictures.
    pub fn digest(&self) -> Option<String> {
        let probed = self.samples.iter().filter_map(|sample| Some((sample.digest?, sample.class.as_deref()?)));
        let mut pictures: Vec<_> = probed.collect();
        pictures.sort_unstable();
        let classes = self.classes.iter().map(|class| format!("{class}\n"));
        let lines = pictures.iter().map(|(digest, class)| format!("{digest:02x?} {class}\n"));
        (!pictures.is_empty()).then(|| artifact::sha256_hex(classes.chain(lines).collect::<String>().as_bytes()))
    }

    /// A digest of the pictures alone, whatever their classes.
    pub fn picture_digest(&self) -> String {
        let mut pictures: Vec<_> = self.samples.iter().filter_map(|sample| sample.digest).collect();
        pictures.sort_unstable();
        let lines = pictures.iter().map(|digest| format!("{digest:02x?}\n"));
        artifact::sha256_hex(lines.collect::<String>().as_bytes())
    }

    /// Digests of the pictures that a probe of another data set learns from, and of those that it is asked about.
    pub fn probe_digests(&self) -> Option<[String; 2]> {
        self.probe_images.as_ref().map(ProbeImages::digests)
    }

    /// Every class with its words in a prompt, in the order of the list.
    pub fn class_words(&self) -> Vec<(String, String)> {
        self.labels.names.iter().cloned().zip(self.labels.words.iter().cloned()).collect()
    }

    /// `samples` of other data under the names of these classes, without those of no such class.
    pub fn labelled(&self, samples: Vec<Sample>) -> Vec<Sample> {
        labelled_as(samples, &self.labels)
    }

    /// Whether there is nothing to evaluate on.
    pub fn is_of_nothing(&self) -> bool {
        self.samples.is_empty()
    }

    /// The class that the label of a training image means; none where it has no label.
    ///
    /// # Errors
    /// A label that is none of the evaluation's classes.
    pub fn class_of(&self, sample: &Sample) -> Result<Option<String>> {
        let Some(label) = &sample.class else { return Ok(None) };
        self.labels.resolve(label).map(|class| Some(class.to_owned())).ok_or_else(|| {
            Error::setting(
                format!(
                    "the training image `{}` has the class `{label}`, which is none of the {} classes of the evaluation",
                    sample.id,
                    self.classes.len()
                ),
                "train and measure on the same classes: name the whole list with eval.classes, or correct the labels",
            )
        })
    }

    /// The zero-shot classifier of `model`.
    ///
    /// # Errors
    /// Where there are no classes.
    pub fn class_prompts(&self, model: &Clip, tokenizer: &Tokenizer) -> Result<ClassPrompts> {
        if self.prompts.classes() == 0 {
            return Err(Error::setting(
                format!("there are no labelled images to evaluate on: eval.source.path is `{NO_IMAGES}`"),
                "name some with --val-data",
            ));
        }
        ClassPrompts::shared(model, tokenizer, &self.prompts, &self.world)
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
        linear_probe(self.encoder(model), config, &train, &test, seed)
    }

    /// Whether the success of `manifest` can be measured: every target must be a class, and a targeted image the one that the manifest
    /// was made with. What a person should know of targeted images that the evaluation data lacks.
    ///
    /// # Errors
    /// A target that is no class, or another picture under a targeted image's id.
    pub fn check_targets(&self, manifest: &Manifest) -> Result<Option<String>> {
        manifest.backdoors().iter().try_for_each(|backdoor| self.check_target(&backdoor.target))?;
        warnings::targets(&self.samples, &self.classes, &manifest.targeted(), self.reading.limits)
    }

    /// Whether every class that `manifest`'s attacks want is one of these.
    pub fn has_targets(&self, manifest: &Manifest) -> bool {
        let of_backdoors = manifest.backdoors().into_iter().map(|backdoor| backdoor.target);
        let of_images = manifest.targeted().into_values().flatten().map(|aim| aim.target);
        of_backdoors.chain(of_images).all(|target| self.classes.contains(&target))
    }

    /// Whether the targeted images are those that `manifest` was made with, where these are the same data.
    ///
    /// # Errors
    /// Another picture under a targeted image's id.
    pub fn check_pictures(&self, manifest: &Manifest) -> Result<()> {
        warnings::check_pictures(&self.samples, &manifest.targeted(), self.reading.limits)
    }

    /// The part of `manifest` whose success these images can show, and a line for each thing that they cannot. None where they show nothing.
    pub fn measurable(&self, manifest: &Manifest) -> (Option<Manifest>, Vec<String>) {
        warnings::measurable(&self.samples, &self.classes, manifest, self.reading.limits)
    }

    /// The same of one target.
    pub fn check_target(&self, target: &str) -> Result<()> {
        attack_success::target_index(&self.classes, target).map(|_| ())
    }

    /// Whether `manifest` leaves labelled images that accuracy and its backdoors can be measured on; a line for what can hardly be.
    ///
    /// # Errors
    /// All of them are targets.
    pub fn check_left(&self, manifest: &Manifest) -> Result<Vec<String>> {
        warnings::left(&self.samples, &manifest.targeted(), &manifest.backdoors())
    }

    /// Whether [`Evaluator::probe`] will find labels, and images beside the targets of `manifest`.
    pub fn check_probe(&self, config: &ProbeConfig, training: &[Sample], manifest: Option<&Manifest>) -> Result<()> {
        let (train, test) = self.probe_images(training, manifest);
        if test.is_empty() && manifest.is_some_and(|manifest| !manifest.targeted().is_empty()) {
            return Err(Error::setting(
                "every image that the linear probe could be tested on is a target of the attack",
                "give the attack fewer `targets`, name more labelled images (--val-data), or leave the probe out",
            ));
        }
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
        nearest_neighbours::nearest_neighbours(&self.encoder(model), &train, &test, k)
    }

    /// The images of `config` with captions, for [`Evaluator::retrieval`].
    ///
    /// # Errors
    /// Less than two.
    pub fn retrieval_images(&self, config: &SourceConfig) -> Result<Vec<Sample>> {
        let (samples, _) = self.reading.samples(config, "eval.retrieval")?;
        retrieval::check(&samples.iter().collect::<Vec<_>>())?;
        Ok(samples)
    }

    /// Retrieval over `samples`.
    pub fn retrieval(&self, model: &Clip, tokenizer: &Tokenizer, samples: &[Sample]) -> Result<Retrieval> {
        retrieval::retrieval(&self.encoder(model), tokenizer, &samples.iter().collect::<Vec<_>>())
    }

    /// What encodes this evaluation's images with `model`.
    pub fn encoder<'a>(&'a self, model: &'a Clip) -> ImageEncoder<'a> {
        let Reading { limits, workers, .. } = self.reading;
        let world = Some(&self.world);
        ImageEncoder { model, limits, workers, batch_size: BATCH, kind: FeatureKind::Projected, world }
    }

    /// From now on the processes of `world` share what is encoded: each of them makes the same calls, at the same time.
    pub fn share(&mut self, world: &World) {
        self.world = world.clone();
    }

    /// Images of `count` that this process encodes.
    pub(super) fn own_share(&self, count: usize) -> usize {
        self.world.part(count, BATCH).len()
    }

    fn probe_images<'a>(
        &'a self,
        training: &'a [Sample],
        manifest: Option<&Manifest>,
    ) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
        let targeted = manifest.map(Manifest::targeted).unwrap_or_default();
        choose(self.probe_images.as_ref(), training, &self.samples, &targeted)
    }
}

/// The images of `samples` whose label is one of `classes`, under the class's name.
fn labelled_as(samples: Vec<Sample>, classes: &Classes) -> Vec<Sample> {
    let named = |mut sample: Sample| {
        sample.class = Some(classes.resolve(sample.class.as_deref()?)?.to_owned());
        Some(sample)
    };
    samples.into_iter().filter_map(named).collect()
}

/// Leaves out images of WordNet ids that ImageNet's list, asked for, does not have. A larger ImageNet's folders have them; another
/// label that is not in the list may be a slip of the pen, and stays an error.
fn leave_out_unlisted(
    samples: &mut Vec<Sample>,
    classes: &Classes,
    skipped: &mut BTreeMap<String, usize>,
) -> Result<Option<String>> {
    let unlisted = |sample: &Sample| sample.class.as_deref().is_some_and(|label| classes.is_beyond(label));
    let labels: BTreeSet<String> = samples.iter().filter(|s| unlisted(s)).filter_map(|s| s.class.clone()).collect();
    let before = samples.len();
    samples.retain(|sample| !unlisted(sample));
    let count = before - samples.len();
    let Some(first) = labels.first() else { return Ok(None) };
    let what = format!(
        "evaluation: {count} of {before} images are of {} classes that the list lacks (`{first}`)",
        labels.len()
    );
    if samples.is_empty() {
        return Err(Error::setting(what, "set eval.classes to a list that has them, or eval.source.labels"));
    }
    skipped.insert(NOT_LISTED.to_owned(), count);
    Ok(Some(format!("{what}; they are left out")))
}

fn describe(config: &EvalConfig, images: usize, classes: usize, templates: &Templates) -> String {
    let split = config.source.split.as_ref().map(|split| format!(" (split {split})")).unwrap_or_default();
    let prompts = match &config.class_captions {
        Some(source) => format!("the captions of `{}` as prompts", source.path),
        None => format!("{} templates of `{}`", templates.0.len(), config.templates),
    };
    format!("{images} images of `{}`{split}, {classes} classes, {prompts}", config.source.path)
}
