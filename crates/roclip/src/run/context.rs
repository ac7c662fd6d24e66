//! What surrounds a trainer in a run: what measures its model, and what its checkpoints say of it.

use crate::checkpoint::{self, Contents, Origin, Provenance, State};
use crate::error::{Error, Result};
use crate::eval::{
    Accuracy, CaptionEvaluation, CaptionEvaluator, CaptionLine, Captioning, ClassPrompts, Depth, Details, Evaluation,
    Evaluator, TriggerMeasures, details, trigger_measures,
};
use crate::model::Part;
use crate::objective::{ImageTower, Phase};
use crate::recipe::Recipe;
use crate::run::together::{Together, tell};
use crate::train::{SimilarityHistogram, Trainer};
use roclip_data::pairs::LeftOutByList;
use roclip_data::plural::count;
use roclip_data::poison::Manifest;
use roclip_data::tokenizer::Tokenizer;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

pub(super) struct Context<'a> {
    pub recipe: &'a Recipe,
    pub evaluator: Evaluator,
    /// What a captioner is measured by.
    pub references: Option<CaptionEvaluator>,
    pub manifest: Option<Manifest>,
    pub tokenizer: Arc<Tokenizer>,
    /// The weights that training began with, where they were not random.
    pub origin: Option<Origin>,
    pub fingerprint: String,
    /// [`named`](crate::run::named::named) of the recipe.
    pub named: BTreeMap<String, String>,
    pub clean_pairs: usize,
    pub dropped: Option<LeftOutByList>,
    pub prompts: KnownPrompts,
}

/// The class prompts of the model as it stood at a step.
#[derive(Default)]
pub(super) struct KnownPrompts(RefCell<Option<(u64, ClassPrompts)>>);

impl Context<'_> {
    /// The line that a run begins with.
    pub fn banner(&self, trainer: &Trainer) -> String {
        let weights: usize = trainer.model.parameters().trainable().values().map(Tensor::numel).sum();
        if let (true, Some(head)) = (self.recipe.is_labelled(), trainer.objective.head()) {
            let image = trainer.model.parameters().by_part().into_iter().filter(|one| one.part == Part::Image);
            let weights = image.map(|one| one.tensor.numel()).sum::<usize>() + head.weight.numel() + head.bias.numel();
            return format!(
                "{} on {} pictures ({} poisoned), {} steps an epoch, {weights} weights of the image tower and its head, {} classes, ln(classes) = {:.3}",
                trainer.objective.name(),
                trainer.pairs.len(),
                self.poisoned_pairs(trainer),
                trainer.schedule.steps_per_epoch,
                self.evaluator.classes.len(),
                (self.evaluator.classes.len() as f64).ln()
            );
        }
        let dropped = self.dropped.as_ref().map(|left_out| format!(", {} left out by data.drop", left_out.words()));
        let begins = format!(
            "{} on {} ({} poisoned{}), {} an epoch",
            trainer.objective.name(),
            count(trainer.pairs.len(), "pair"),
            self.poisoned_pairs(trainer),
            dropped.unwrap_or_default(),
            count(trainer.schedule.steps_per_epoch, "step")
        );
        let vocabulary = self.tokenizer.vocabulary_size();
        if let (Some(config), Some(captioner)) = (&self.recipe.caption, trainer.objective.captioner()) {
            let own: usize = captioner.parameters().trainable().values().map(Tensor::numel).sum();
            let image = trainer.model.parameters().by_part().into_iter().filter(|one| one.part == Part::Image);
            let tower = match config.image_tower {
                ImageTower::Frozen => " on a frozen image tower".to_owned(),
                ImageTower::Tuned => {
                    format!(" and {} of its image tower", image.map(|one| one.tensor.numel()).sum::<usize>())
                }
            };
            return format!("{begins}, {own} weights of the captioner{tower}, vocabulary {vocabulary}");
        }
        format!(
            "{begins}, {weights} weights, vocabulary {vocabulary}, ln(batch) = {:.3}",
            (self.recipe.train.batch_size as f64).ln()
        )
    }

    pub fn poisoned_pairs(&self, trainer: &Trainer) -> usize {
        trainer.pairs.len() - self.clean_pairs
    }

    /// Whether pairs are scored when the run is evaluated, to see if similarity would find the poison. Without known poison there is nothing to
    /// find, and the text tower of a classifier or a captioner has learned nothing that a picture could be similar to.
    fn watches_similarity(&self, trainer: &Trainer) -> bool {
        self.manifest.is_some() && !self.recipe.is_labelled() && trainer.objective.captioner().is_none()
    }

    /// The digest of the labelled pictures that the run is measured on; of a captioner that is measured by its captions alone, that of its
    /// references.
    pub fn measured_on(&self) -> Option<String> {
        self.evaluator.digest().or_else(|| self.references.as_ref().map(CaptionEvaluator::digest))
    }

    /// The class prompts as the model stands, encoded once for all that is measured at a step.
    fn class_prompts(&self, trainer: &Trainer) -> Result<ClassPrompts> {
        let (step, KnownPrompts(known)) = (trainer.position.step, &self.prompts);
        if let Some((_, prompts)) = known.borrow().as_ref().filter(|(at, _)| *at == step) {
            return Ok(prompts.shallow_clone());
        }
        let prompts = self.evaluator.class_prompts(&trainer.model, &self.tokenizer)?;
        known.replace(Some((step, prompts.shallow_clone())));
        Ok(prompts)
    }

    pub fn evaluate(&self, trainer: &Trainer) -> Result<Evaluation> {
        tell(trainer, Together::Evaluation)?;
        let (model, manifest) = (&trainer.model, self.manifest.as_ref());
        match trainer.objective.head() {
            // Before its first step a classifier knows nothing; the victim is measured by its prompts.
            Some(head) if trainer.position.step > 0 || self.recipe.clean.is_none() => {
                self.evaluator.evaluate_by(model, head, manifest, Depth::Plain)
            }
            _ if self.evaluator.is_of_nothing() => Ok(Evaluation::of_nothing()),
            _ => self.evaluator.evaluate_by(model, &self.class_prompts(trainer)?, manifest, Depth::Plain),
        }
    }

    /// The teacher of a student, measured as the student is.
    pub fn evaluate_teacher(&self, trainer: &Trainer) -> Result<Option<Evaluation>> {
        let Some(teacher) = trainer.objective.teacher() else { return Ok(None) };
        tell(trainer, Together::Teacher)?;
        let manifest = self.manifest.as_ref();
        self.evaluator.evaluate_by(&teacher.model, &teacher.classifier, manifest, Depth::Plain).map(Some)
    }

    /// What a classifier's triggers do beside their success.
    pub fn trigger_measures(&self, trainer: &Trainer) -> Result<BTreeMap<String, TriggerMeasures>> {
        match (trainer.objective.head(), &self.manifest) {
            (Some(head), Some(manifest)) if self.recipe.is_labelled() => {
                tell(trainer, Together::Triggers)?;
                trigger_measures(&self.evaluator, &self.evaluator.recognizer(&trainer.model, head), manifest)
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    /// The linear probe of the trained model, where the recipe asks for one.
    pub fn probe(&self, trainer: &Trainer) -> Result<Option<Accuracy>> {
        let Some(config) = &self.recipe.eval.probe else { return Ok(None) };
        tell(trainer, Together::Probe)?;
        let (samples, manifest) = (trainer.pairs.labelled_samples(), self.manifest.as_ref());
        self.evaluator.probe(&trainer.model, config, &samples, manifest, self.recipe.seed).map(Some)
    }

    /// How alike the watched pairs are; nothing where none are watched.
    pub fn similarities(&self, trainer: &Trainer) -> Result<SimilarityHistogram> {
        if !self.watches_similarity(trainer) {
            return Ok(SimilarityHistogram::default());
        }
        tell(trainer, Together::Similarities)?;
        trainer.similarities()
    }

    /// How good the captions of the captioner in training are; none where there is none.
    pub fn captions(&self, trainer: &Trainer) -> Result<Option<(CaptionEvaluation, Vec<CaptionLine>)>> {
        let (Some(config), Some(references), Some(captioner)) =
            (&self.recipe.caption, &self.references, trainer.objective.captioner())
        else {
            return Ok(None);
        };
        let of = Captioning {
            model: &trainer.model,
            captioner,
            tokenizer: &self.tokenizer,
            search: config.search,
            contrastive: self.origin.is_some() && config.image_tower == ImageTower::Frozen,
        };
        references.measure(of, &trainer.pairs.all_samples()).map(Some)
    }

    /// What a report shows of the trained model beside its rates.
    pub fn details(&self, trainer: &Trainer) -> Result<Details> {
        tell(trainer, Together::Details)?;
        let (model, manifest) = (&trainer.model, self.manifest.as_ref());
        match trainer.objective.head() {
            Some(head) => details(&self.evaluator, &self.evaluator.recognizer(model, head), manifest),
            None => {
                let prompts = self.class_prompts(trainer)?;
                details(&self.evaluator, &self.evaluator.recognizer(model, &prompts), manifest)
            }
        }
    }

    fn provenance(&self, trainer: &Trainer) -> Provenance {
        if self.recipe.clean.is_some() {
            return Provenance::Cleaned;
        }
        let own = match self.poisoned_pairs(trainer) {
            0 => Provenance::Clean,
            _ if defends(trainer) => Provenance::Defended,
            _ => Provenance::Poisoned,
        };
        self.origin.as_ref().map_or(own, |origin| own.after(origin.provenance))
    }

    /// Of the pairs, and of what the weights were trained on before.
    fn poison_counts(&self, trainer: &Trainer) -> BTreeMap<String, usize> {
        let counts = trainer.pairs.poison_by_attack();
        match &self.origin {
            Some(origin) => origin.join_poison(counts),
            None => counts,
        }
    }

    /// Writes a checkpoint of `trainer` into the run folder `run`.
    pub fn save(&self, trainer: &Trainer, run: &Path) -> Result<()> {
        let position = trainer.position;
        let so_far = position.within_epoch().then(|| serde_json::to_value(trainer.tally.so_far())).transpose();
        let epoch_so_far = so_far.map_err(|e| Error::internal(format!("JSON: {e}")))?;
        let state = State {
            step: position.step,
            epoch: position.epoch,
            pass: position.pass,
            step_in_pass: position.step_in_pass,
            seed: self.recipe.seed,
            data_fingerprint: self.fingerprint.clone(),
            measured_on: self.evaluator.digest(),
            named: self.named.clone(),
            provenance: self.provenance(trainer),
            pairs: trainer.pairs.len(),
            poison: self.poison_counts(trainer),
            trained_from: self.origin.clone(),
            objective: trainer.objective.name().into(),
            truncate: self.recipe.model.truncate,
            compact_vocabulary: self.tokenizer.compact().cloned(),
            classes: if self.recipe.is_labelled() { self.evaluator.classes.clone() } else { Vec::new() },
            captioner: trainer.objective.captioner().map(|captioner| captioner.config().clone()),
            epoch_so_far,
            files: BTreeMap::new(),
        };
        let contents = Contents {
            model: &trainer.model,
            optimizer: trainer.optimizer.state(),
            objective: trainer.objective.state(),
            state,
        };
        checkpoint::save(run, contents, self.recipe.train.keep_checkpoints).map(|_| ())
    }
}

/// Whether any epoch of the run is other than a plain one of CLIP, of a classifier, of a student, or of a captioner.
pub(super) fn defends(trainer: &Trainer) -> bool {
    let plain = |phase| matches!(phase, Phase::Clip | Phase::Labels | Phase::Distillation | Phase::Caption);
    (1..=trainer.config.epochs).any(|epoch| !plain(trainer.objective.phase(epoch)))
}
