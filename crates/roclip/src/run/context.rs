//! What surrounds a trainer in a run: what measures its model, and what its checkpoints say of it.

use crate::checkpoint::{self, Contents, Origin, Provenance, State};
use crate::error::{Error, Result};
use crate::eval::{Depth, Details, Evaluation, Evaluator, details};
use crate::objective::Phase;
use crate::recipe::Recipe;
use crate::train::Trainer;
use roclip_data::plural::count;
use roclip_data::poison::Manifest;
use roclip_data::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

pub(super) struct Context<'a> {
    pub recipe: &'a Recipe,
    pub evaluator: Evaluator,
    pub manifest: Option<Manifest>,
    pub tokenizer: Arc<Tokenizer>,
    /// The weights that training began with, where they were not random.
    pub origin: Option<Origin>,
    pub fingerprint: String,
    pub clean_pairs: usize,
}

impl Context<'_> {
    /// The line that a run begins with.
    pub fn banner(&self, trainer: &Trainer) -> String {
        let weights: usize = trainer.model.parameters().trainable().values().map(Tensor::numel).sum();
        format!(
            "{} on {} ({} poisoned), {} an epoch, {weights} weights, vocabulary {}, ln(batch) = {:.3}",
            trainer.objective.name(),
            count(trainer.pairs.len(), "pair"),
            self.poisoned_pairs(trainer),
            count(trainer.schedule.steps_per_epoch, "step"),
            self.tokenizer.vocabulary_size(),
            (self.recipe.train.batch_size as f64).ln()
        )
    }

    pub fn poisoned_pairs(&self, trainer: &Trainer) -> usize {
        trainer.pairs.len() - self.clean_pairs
    }

    pub fn evaluate(&self, trainer: &Trainer) -> Result<Evaluation> {
        let (model, manifest) = (&trainer.model, self.manifest.as_ref());
        match trainer.objective.head() {
            // Before its first step a classifier knows nothing; the victim is measured by its prompts.
            Some(head) if trainer.position.step > 0 => self.evaluator.evaluate_by(model, head, manifest, Depth::Plain),
            _ => self.evaluator.evaluate(model, &self.tokenizer, manifest),
        }
    }

    /// What a report shows of the trained model beside its rates.
    pub fn details(&self, trainer: &Trainer) -> Result<Details> {
        let (model, manifest) = (&trainer.model, self.manifest.as_ref());
        match trainer.objective.head() {
            Some(head) => details(&self.evaluator, &self.evaluator.recognizer(model, head), manifest),
            None => {
                let prompts = self.evaluator.class_prompts(model, &self.tokenizer)?;
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
        let mut counts = BTreeMap::new();
        for mark in trainer.pairs.pairs.iter().filter_map(|pair| pair.poison.as_ref()) {
            *counts.entry(mark.attack.clone()).or_default() += 1;
        }
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
            provenance: self.provenance(trainer),
            pairs: trainer.pairs.len(),
            poison: self.poison_counts(trainer),
            trained_from: self.origin.clone(),
            objective: trainer.objective.name().into(),
            truncate: self.recipe.model.truncate,
            compact_vocabulary: self.tokenizer.compact().cloned(),
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

/// Whether any epoch of the run is other than a plain CLIP one.
pub(super) fn defends(trainer: &Trainer) -> bool {
    (1..=trainer.config.epochs).any(|epoch| trainer.objective.phase(epoch) != Phase::Clip)
}
