//! One training run, from a resolved recipe to a run folder.

use crate::checkpoint::Provenance;
use crate::checkpoint::{self, Contents, State};
use crate::error::{Error, Result};
use crate::eval::{Depth, Evaluation, Evaluator};
use crate::model::Clip;
use crate::objective::Schedule;
use crate::objective::{ClipObjective, Objective, RoClip, RunShape, SafeClip};
use crate::recipe::{ObjectiveName, Recipe};
use crate::report::keep_pictures;
use crate::train::cleaning::{Cleaning, rebound};
use crate::train::epoch::Outputs;
use crate::train::metrics::{MetricsLog, read_epochs};
use crate::train::optimizer::Optimizer;
use crate::train::prepare::{Prepared, device, prepare_training};
use crate::train::start::start;
use crate::train::summary::{PhaseEvaluation, Summary, environment, peak_memory_bytes};
use crate::train::tally::EpochTally;
use roclip_data::artifact;
use roclip_data::augment::TextAugment;
use roclip_data::batch::{Loader, Transform, ViewAugment};
use roclip_data::pairs::Pairs;
use roclip_data::poison::Manifest;
use roclip_data::skip::SkipReport;
use roclip_data::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};
use torch_bridge::AdamW;

/// Trains as `recipe` says in the folder `run`. With `resume`, goes on from the newest checkpoint there. `progress` receives one
/// line at a time.
pub fn train(recipe: &Recipe, run: &Path, resume: bool, progress: &mut dyn FnMut(&str)) -> Result<Summary> {
    let started = Instant::now();
    if recipe.train.epochs == 0 {
        return Err(Error::setting("train.epochs is 0", "set at least 1"));
    }
    if recipe.train.threads > 0 {
        tch::set_num_threads(recipe.train.threads);
    }
    let device = device(&recipe.train.device)?;
    let prepared = prepare_training(recipe)?;
    if let Some(probe) = &recipe.eval.probe {
        prepared.evaluator.check_probe(probe, &prepared.pairs.samples)?;
    }
    if !resume && run.join("metrics.jsonl").exists() {
        return Err(Error::file(run, "already holds a run", "name another folder, or continue it with --resume"));
    }
    for warning in &prepared.warnings {
        progress(&format!("warning: {warning}"));
    }
    let mut trainer = Trainer::new(recipe, prepared, device, run, progress)?;
    if resume {
        trainer.resume(run)?;
        progress(&format!("resumed at epoch {} step {}", trainer.position.epoch, trainer.position.step));
    }
    artifact::write(&run.join("run.toml"), recipe.to_toml()?.as_bytes())?;
    artifact::write_json(&run.join("env.json"), &environment())?;
    if let Some(manifest) = &trainer.manifest {
        manifest.write(&run.join("manifest.jsonl"))?;
    }
    let mut log = MetricsLog::open(run, trainer.position.step)?;
    progress(&trainer.banner());
    if trainer.skips.total() > 0 {
        progress(&format!("left out before training: {} (skips.jsonl)", trainer.skips.summary()));
    }
    let before = trainer.before(run)?;
    let mut last = None;
    while trainer.position.epoch <= recipe.train.epochs {
        last = trainer.epoch(&mut Outputs { run, log: &mut log, progress: &mut *progress })?.or(last);
        artifact::write(&run.join("skips.jsonl"), trainer.skips.to_jsonl().as_bytes())?;
    }
    let evaluation = match last {
        Some(evaluation) => evaluation,
        None => trainer.evaluate()?,
    };
    let rebound = match recipe.clean.as_ref().and_then(|clean| clean.rebound.as_ref()) {
        Some(config) => Some(rebound(recipe, config, run, device, progress)?),
        None => None,
    };
    let summary = Summary { before, rebound, ..trainer.summary(evaluation, run, started)? };
    let tests = &trainer.evaluator.samples;
    keep_pictures(run, trainer.manifest.as_ref(), &trainer.pairs, tests, recipe.data.limits)?;
    artifact::write_json(&run.join("summary.json"), &summary)?;
    Ok(summary)
}

/// Finished steps, and the place of the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub step: u64,
    pub epoch: u64,
    /// Within the epoch, from 0.
    pub pass: u64,
    pub step_in_pass: u64,
}

impl Position {
    /// Whether the epoch has begun.
    pub fn within_epoch(&self) -> bool {
        self.pass > 0 || self.step_in_pass > 0
    }
}

pub(super) struct Trainer<'a> {
    pub recipe: &'a Recipe,
    pub pairs: Arc<Pairs>,
    pub clean_pairs: usize,
    pub fingerprint: String,
    pub evaluator: Evaluator,
    pub manifest: Option<Manifest>,
    pub tokenizer: Arc<Tokenizer>,
    pub loader: Loader,
    pub model: Clip,
    /// The frozen victim, for objectives that compare with it.
    pub reference: Option<Clip>,
    pub optimizer: Optimizer,
    pub objective: Box<dyn Objective>,
    pub schedule: Schedule,
    pub device: Device,
    pub position: Position,
    pub tally: EpochTally,
    pub skips: SkipReport,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        prepared: Prepared,
        device: Device,
        run: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let Prepared { pairs, evaluator, manifest, model: config, skips, warnings: _ } = prepared;
        let poisoned = pairs.pairs.iter().filter(|p| p.poison.is_some()).count();
        let clean_pairs = pairs.len() - poisoned;
        let fingerprint = pairs.fingerprint();
        let (model, tokenizer) = match &recipe.clean {
            Some(clean) => {
                let victim = checkpoint::load(&clean.victim, device)?;
                (victim.model, victim.tokenizer)
            }
            None => start(recipe, config, &pairs, &evaluator, device)?,
        };
        let tokenizer = Arc::new(tokenizer);
        let pairs = Arc::new(pairs);
        let transform = Transform {
            seed: recipe.seed,
            image_size: model.config().image_size(),
            limits: recipe.data.limits,
            views: Default::default(),
            sub_captions: None,
            tokenizer: Arc::clone(&tokenizer),
            cache_bytes: recipe.data.cache_mib << 20,
        };
        let transform = match &recipe.clean {
            Some(clean) => {
                let patch = Cleaning { recipe, clean, run, device }.patch(&pairs, &transform, progress)?;
                let views = clean.views(patch, transform.image_size)?;
                Transform { views, sub_captions: clean.sub_captions(&pairs)?, ..transform }
            }
            None => {
                let text = recipe.augment.text.clone().map(TextAugment::new).transpose()?;
                let view = ViewAugment { image: recipe.augment.image.clone(), overlay: None, text };
                Transform { views: [view.clone(), view], ..transform }
            }
        };
        let loader = Loader::new(Arc::clone(&pairs), transform, recipe.train.batch_size, recipe.data.workers)?;
        let shape = RunShape {
            seed: recipe.seed,
            epochs: recipe.train.epochs,
            pairs: pairs.len(),
            batch_size: recipe.train.batch_size,
            embed_dim: model.config().embed_dim,
            learning_rate: recipe.train.learning_rate,
            warmup_steps: recipe.train.warmup_steps,
            device,
        };
        let objective: Box<dyn Objective> = match (&recipe.clean, recipe.objective.name) {
            (Some(clean), _) => clean.objective(shape, &pairs, &evaluator.classes),
            (None, ObjectiveName::Clip) => Box::new(ClipObjective),
            (None, ObjectiveName::Roclip) => Box::new(RoClip::new(recipe.objective.roclip.clone(), shape)?),
            (None, ObjectiveName::Safeclip) => Box::new(SafeClip::new(recipe.objective.safeclip.clone(), shape)?),
        };
        let reference = match &recipe.clean {
            Some(clean) if objective.needs_reference() => Some(checkpoint::load(&clean.victim, device)?.model),
            _ => None,
        };
        let config = &recipe.train;
        let adamw = AdamW {
            learning_rate: config.learning_rate,
            beta1: config.beta1,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            epsilon: config.epsilon,
        };
        let schedule = Schedule {
            peak: config.learning_rate,
            warmup_steps: config.warmup_steps,
            steps_per_epoch: loader.steps_per_epoch(),
            epochs: config.epochs,
            epoch_offset: config.epoch_offset,
        };
        let mut trainable = model.parameters().trainable();
        trainable.extend(objective.parameters());
        let optimizer = Optimizer::new(trainable, config.weight_decay_groups, adamw);
        let position = Position { step: 0, epoch: 1, pass: 0, step_in_pass: 0 };
        Ok(Trainer {
            recipe,
            pairs,
            clean_pairs,
            fingerprint,
            evaluator,
            manifest,
            tokenizer,
            loader,
            model,
            reference,
            optimizer,
            objective,
            schedule,
            device,
            position,
            tally: EpochTally::new(),
            skips,
        })
    }

    fn resume(&mut self, run: &Path) -> Result<()> {
        let loaded = checkpoint::load(run, self.device)?;
        let state = loaded.state;
        if state.data_fingerprint != self.fingerprint {
            return Err(Error::file(
                &loaded.folder,
                "was trained on other data",
                "resume with the data and manifest of the run",
            ));
        }
        if state.seed != self.recipe.seed || state.objective != self.objective.name() {
            return Err(Error::file(
                &loaded.folder,
                format!("belongs to seed {} and objective {}", state.seed, state.objective),
                "resume with the recipe of the run",
            ));
        }
        let weights = loaded.model.parameters().all();
        self.model.load(&loaded.folder, &weights)?;
        let (optimizer, objective) = checkpoint::load_training(&loaded.folder)?;
        self.optimizer.load_state(&optimizer)?;
        self.objective.load_state(&objective)?;
        self.position =
            Position { step: state.step, epoch: state.epoch, pass: state.pass, step_in_pass: state.step_in_pass };
        if let Some(tally) = state.epoch_so_far {
            self.tally = serde_json::from_value(tally).map_err(|e| {
                Error::file(&loaded.folder, format!("state.json: {e}"), "resume from another checkpoint")
            })?;
        }
        Ok(())
    }

    fn banner(&self) -> String {
        let weights: usize = self.model.parameters().trainable().values().map(Tensor::numel).sum();
        let poisoned = self.pairs.len() - self.clean_pairs;
        let batch = self.recipe.train.batch_size;
        format!(
            "{} on {} pairs ({poisoned} poisoned), {} steps an epoch, {weights} weights, vocabulary {}, ln(batch) = {:.3}",
            self.objective.name(),
            self.pairs.len(),
            self.schedule.steps_per_epoch,
            self.tokenizer.vocabulary_size(),
            (batch as f64).ln()
        )
    }

    /// The victim's evaluation, where this run cleans one: measured at the first step, and kept in `before.json`.
    fn before(&self, run: &Path) -> Result<Option<Evaluation>> {
        if self.recipe.clean.is_none() {
            return Ok(None);
        }
        let path = run.join("before.json");
        if self.position.step == 0 {
            artifact::write_json(&path, &self.evaluate()?)?;
        }
        Ok(Some(artifact::read_json(&path)?))
    }

    pub(super) fn evaluate(&self) -> Result<Evaluation> {
        let manifest = self.manifest.as_ref();
        match self.objective.head() {
            // Before its first step a classifier knows nothing; the victim is measured by its prompts.
            Some(head) if self.position.step > 0 => {
                self.evaluator.evaluate_by(&self.model, head, manifest, Depth::Plain)
            }
            _ => self.evaluator.evaluate(&self.model, &self.tokenizer, manifest),
        }
    }

    fn provenance(&self) -> Provenance {
        match self.recipe.objective.name {
            _ if self.recipe.clean.is_some() => Provenance::Cleaned,
            _ if self.pairs.len() == self.clean_pairs => Provenance::Clean,
            ObjectiveName::Clip => Provenance::Poisoned,
            ObjectiveName::Roclip | ObjectiveName::Safeclip => Provenance::Defended,
        }
    }

    fn poison_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for mark in self.pairs.pairs.iter().filter_map(|pair| pair.poison.as_ref()) {
            *counts.entry(mark.attack.clone()).or_default() += 1;
        }
        counts
    }

    pub(super) fn save(&self, run: &Path) -> Result<()> {
        let so_far = self.position.within_epoch().then(|| serde_json::to_value(self.tally.so_far())).transpose();
        let epoch_so_far = so_far.map_err(|e| Error::internal(format!("JSON: {e}")))?;
        let state = State {
            step: self.position.step,
            epoch: self.position.epoch,
            pass: self.position.pass,
            step_in_pass: self.position.step_in_pass,
            seed: self.recipe.seed,
            data_fingerprint: self.fingerprint.clone(),
            provenance: self.provenance(),
            pairs: self.pairs.len(),
            poison: self.poison_counts(),
            objective: self.objective.name().into(),
            truncate: self.recipe.model.truncate,
            compact_vocabulary: self.tokenizer.compact().cloned(),
            epoch_so_far,
            files: BTreeMap::new(),
        };
        let contents = Contents {
            model: &self.model,
            optimizer: self.optimizer.state(),
            objective: self.objective.state(),
            state,
        };
        checkpoint::save(run, contents, self.recipe.train.keep_checkpoints).map(|_| ())
    }

    fn summary(&self, evaluation: Evaluation, run: &Path, started: Instant) -> Result<Summary> {
        let probe = match &self.recipe.eval.probe {
            Some(config) => {
                let (samples, manifest) = (&self.pairs.samples, self.manifest.as_ref());
                Some(self.evaluator.probe(&self.model, config, samples, manifest, self.recipe.seed)?)
            }
            None => None,
        };
        let mut after = BTreeMap::new();
        for line in read_epochs(run)? {
            if let Some(evaluation) = line.evaluation {
                after.insert(line.phase, PhaseEvaluation { epoch: line.epoch, evaluation });
            }
        }
        Ok(Summary {
            objective: self.objective.name().into(),
            seed: self.recipe.seed,
            epoch: self.recipe.train.epochs,
            phase: self.objective.phase(self.recipe.train.epochs),
            before: None,
            rebound: None,
            pairs: self.pairs.len(),
            poisoned_pairs: self.pairs.len() - self.clean_pairs,
            evaluation,
            after,
            linear_probe: probe,
            seconds: started.elapsed().as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        })
    }
}
