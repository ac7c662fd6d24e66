//! What an evaluation measures of a model: accuracies, attack success, and what each picture is read as.

use crate::error::{Error, Result};
use crate::eval::picture_reading::GUESSES_WRITTEN;
use crate::eval::{
    Classifier, Depth, Evaluation, Evaluator, Guess, PictureReading, Pictures, Predictions, Recognizer, attack_success,
    can_miss, unaltered,
};
use crate::model::Clip;
use roclip_data::poison::Manifest;
use roclip_data::progress::Task;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::tokenizer::Tokenizer;
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

impl Evaluator {
    /// `model` with a classifier over the evaluation's classes.
    pub fn recognizer<'a>(&'a self, model: &'a Clip, classifier: &'a dyn Classifier) -> Recognizer<'a> {
        Recognizer { encoder: self.encoder(model), classifier, classes: &self.classes }
    }

    /// Measures `model` by its class prompts, and against `manifest` whether the poison took.
    pub fn evaluate(&self, model: &Clip, tokenizer: &Tokenizer, manifest: Option<&Manifest>) -> Result<Evaluation> {
        if self.is_of_nothing() {
            return Ok(Evaluation::of_nothing());
        }
        self.evaluate_by(model, &self.class_prompts(model, tokenizer)?, manifest, Depth::Plain)
    }

    /// [`Evaluator::evaluate`] by any classifier over [`Evaluator::classes`], in any depth.
    pub fn evaluate_by(
        &self,
        model: &Clip,
        classifier: &dyn Classifier,
        manifest: Option<&Manifest>,
        depth: Depth,
    ) -> Result<Evaluation> {
        self.measure(model, classifier, manifest, depth, None).map(|(evaluation, _)| evaluation)
    }

    /// [`Evaluator::evaluate_by`], and what the model makes of each picture of this data set, which is called `dataset`; nothing where it
    /// has no name.
    pub fn measure(
        &self,
        model: &Clip,
        classifier: &dyn Classifier,
        manifest: Option<&Manifest>,
        depth: Depth,
        dataset: Option<&str>,
    ) -> Result<(Evaluation, Option<Pictures>)> {
        let passes = manifest.map_or(0, |manifest| manifest.backdoors().len()) * attack_success::passes(depth);
        let own = self.own_share(self.samples.len());
        Task::whole("evaluation", own * (1 + passes), "images", || {
            self.measured(model, classifier, manifest, depth, dataset)
        })
    }

    fn measured(
        &self,
        model: &Clip,
        classifier: &dyn Classifier,
        manifest: Option<&Manifest>,
        depth: Depth,
        dataset: Option<&str>,
    ) -> Result<(Evaluation, Option<Pictures>)> {
        let recognizer = self.recognizer(model, classifier);
        let targeted = manifest.map(Manifest::targeted).unwrap_or_default();
        let (targets, plain): (Vec<&Sample>, Vec<&Sample>) =
            self.samples.iter().partition(|s| targeted.contains_key(&s.id));
        let predictions = recognizer.predict(&plain, &unaltered)?;
        let aimed_at = recognizer.predict(&targets, &unaltered)?;
        if !self.samples.is_empty() && predictions.guesses.iter().chain(&aimed_at.guesses).all(Option::is_none) {
            let mut skips = predictions.skips;
            skips.merge(aimed_at.skips);
            return Err(Error::setting(
                format!("nothing was read: none of the evaluation images can be used: {}", skips.summary()),
                "repair them, or name others with --val-data",
            ));
        }
        let pictures = dataset.map(|dataset| {
            let parts = [(plain.as_slice(), &predictions), (targets.as_slice(), &aimed_at)];
            self.pictures(dataset, &parts)
        });
        let targets = attack_success::targets(&recognizer, &targets, &aimed_at, &targeted);
        let within = |k: usize| {
            let hits = targets.iter().filter(|t| t.rank.is_some_and(|rank| rank <= k)).count();
            (!targets.is_empty()).then(|| Rate::new(hits, targets.len()))
        };
        let top5 = can_miss(5, self.classes.len());
        let mut asr = BTreeMap::new();
        let mut skips: SkipReport = aimed_at.skips;
        for backdoor in manifest.map(Manifest::backdoors).unwrap_or_default() {
            let (outcome, lost) = attack_success::backdoor(&recognizer, &plain, &predictions, &backdoor, depth)?;
            asr.insert(backdoor.attack, outcome);
            skips.merge(lost);
        }
        let (zero_shot_top1, zero_shot_top5) =
            (recognizer.accuracy(&predictions, &plain, 1), top5.then(|| recognizer.accuracy(&predictions, &plain, 5)));
        let mean_per_class_recall = recognizer.mean_per_class_recall(&predictions, &plain);
        skips.merge(predictions.skips);
        let mut skipped = self.skipped.clone();
        for (reason, count) in skips.counts() {
            *skipped.entry(reason).or_default() += count;
        }
        let evaluation = Evaluation {
            skipped,
            zero_shot_top1,
            zero_shot_top5,
            mean_per_class_recall,
            psr: within(1),
            psr_top5: within(5).filter(|_| top5),
            psr_by_attack: attack_success::rates_by_attack(&targets),
            targets,
            asr,
        };
        Ok((evaluation, pictures))
    }

    /// What predictions say of each picture that was read.
    fn pictures(&self, dataset: &str, parts: &[(&[&Sample], &Predictions)]) -> Pictures {
        let mut readings = Vec::new();
        for (samples, predictions) in parts {
            for ((sample, best), probabilities) in predictions.read(samples).zip(&predictions.probabilities) {
                let guess = |(class, probability): (&i64, &f64)| Guess {
                    class: self.classes.get(*class as usize).cloned().unwrap_or_default(),
                    probability: *probability,
                };
                let top5: Vec<Guess> = best.iter().zip(probabilities).take(GUESSES_WRITTEN).map(guess).collect();
                let first = top5.first().cloned();
                readings.push(PictureReading {
                    dataset: dataset.to_owned(),
                    id: sample.id.clone(),
                    label: sample.class.clone().unwrap_or_default(),
                    prediction: first.as_ref().map_or_else(String::new, |guess| guess.class.clone()),
                    probability: first.map_or(0.0, |guess| guess.probability),
                    top5,
                });
            }
        }
        let features: Vec<&Tensor> = parts.iter().map(|(_, predictions)| &predictions.features).collect();
        Pictures { readings, features: Tensor::cat(&features, 0) }
    }

    /// Ids of the images that `model` classifies rightly.
    pub fn read_rightly(&self, model: &Clip, tokenizer: &Tokenizer) -> Result<BTreeSet<String>> {
        let guesses = self.first_guesses(model, tokenizer, 1)?;
        let rightly = |sample: &&Sample| {
            guesses.get(&sample.id).zip(sample.class.as_ref()).is_some_and(|(guess, class)| guess.contains(class))
        };
        Ok(self.samples.iter().filter(rightly).map(|sample| sample.id.clone()).collect())
    }

    /// The `count` classes (at most [`GUESSES`](crate::eval::GUESSES)) that `model` finds likeliest for each image that can be read,
    /// by image id.
    pub fn first_guesses(
        &self,
        model: &Clip,
        tokenizer: &Tokenizer,
        count: usize,
    ) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let prompts = self.class_prompts(model, tokenizer)?;
        let samples: Vec<&Sample> = self.samples.iter().collect();
        let predictions = self.recognizer(model, &prompts).predict(&samples, &unaltered)?;
        let named = |best: &Vec<i64>| {
            best.iter().take(count).filter_map(|guess| self.classes.get(*guess as usize).cloned()).collect()
        };
        Ok(predictions.read(&samples).map(|(sample, best)| (sample.id.clone(), named(best))).collect())
    }

    /// The class whose prompts lie nearest to each of `captions`, by caption.
    pub fn read_captions(
        &self,
        model: &Clip,
        tokenizer: &Tokenizer,
        captions: Vec<String>,
    ) -> Result<BTreeMap<String, String>> {
        let nearest = self.class_prompts(model, tokenizer)?.read_captions(model, tokenizer, &captions)?;
        let named = |(caption, class): (String, i64)| Some((caption, self.classes.get(class as usize)?.clone()));
        Ok(captions.into_iter().zip(nearest).filter_map(named).collect())
    }
}
