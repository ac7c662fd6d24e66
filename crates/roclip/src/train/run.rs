//! One training run, from a resolved recipe to a run folder.

use crate::artifact;
use crate::augment::TextAugment;
use crate::data::{HostBatch, Loader, Pairs, SkipReport, Transform};
use crate::error::{Error, Result, TorchContext};
use crate::eval::{Evaluation, Evaluator};
use crate::model::layout::to_open_clip;
use crate::model::{Clip, read_safetensors, unit};
use crate::objective::{ClipObjective, Objective, Phase, RoClip, StepInputs, TextTraining};
use crate::poison::Manifest;
use crate::random;
use crate::recipe::{ObjectiveName, Recipe};
use crate::tokenizer::{CompactVocabulary, Tokenizer};
use crate::train::checkpoint::{self, Contents, State};
use crate::train::epoch_report::{MatchCollector, SimilarityHistogram};
use crate::train::metrics::{EpochMetrics, MetricsLog, StepMetrics, epoch_line, read_epochs};
use crate::train::optimizer::Optimizer;
use crate::train::prepare::{Prepared, device, prepare_data};
use crate::train::provenance::Provenance;
use crate::train::schedule::Schedule;
use crate::train::summary::{PhaseEvaluation, Summary, environment, peak_memory_bytes};
use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};
use torch_bridge::AdamW;

/// Clean pairs whose similarity is watched.
const WATCHED_CLEAN_PAIRS: usize = 512;

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
    let prepared = prepare_data(recipe)?;
    let mut trainer = Trainer::new(recipe, prepared, device)?;
    if !resume && run.join("metrics.jsonl").exists() {
        return Err(Error::file(run, "already holds a run", "name another folder, or continue it with --resume"));
    }
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
    let mut last = None;
    while trainer.position.epoch <= recipe.train.epochs {
        last = trainer.epoch(run, &mut log, progress)?.or(last);
        artifact::write(&run.join("skips.jsonl"), trainer.skips.to_jsonl().as_bytes())?;
    }
    let evaluation = match last {
        Some(evaluation) => evaluation,
        None => trainer.evaluate()?,
    };
    let summary = trainer.summary(evaluation, run, started)?;
    artifact::write_json(&run.join("summary.json"), &summary)?;
    Ok(summary)
}

/// Finished steps, and the place of the next one.
#[derive(Debug, Clone, Copy)]
struct Position {
    step: u64,
    epoch: u64,
    step_in_epoch: u64,
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    pairs: Arc<Pairs>,
    clean_pairs: usize,
    fingerprint: String,
    evaluator: Evaluator,
    manifest: Option<Manifest>,
    tokenizer: Arc<Tokenizer>,
    loader: Loader,
    model: Clip,
    optimizer: Optimizer,
    objective: Box<dyn Objective>,
    schedule: Schedule,
    device: Device,
    position: Position,
    skips: SkipReport,
}

impl<'a> Trainer<'a> {
    fn new(recipe: &'a Recipe, prepared: Prepared, device: Device) -> Result<Self> {
        let Prepared { pairs, evaluator, manifest, mut model, skips } = prepared;
        let poisoned = pairs.pairs.iter().filter(|p| p.poison.is_some()).count();
        let clean_pairs = pairs.len() - poisoned;
        let fingerprint = pairs.fingerprint();
        let tokenizer = Tokenizer::new(model.text_cfg.context_length as usize, recipe.model.truncate)?;
        let compact = recipe.model.compact_vocabulary.then(|| {
            let prompts: Vec<String> = evaluator.prompts().collect();
            let captions = pairs.pairs.iter().flat_map(|p| &p.captions).chain(&prompts);
            CompactVocabulary::build(&tokenizer, captions.map(String::as_str))
        });
        let tokenizer = Arc::new(tokenizer.with_compact(compact));
        model.text_cfg.vocab_size = tokenizer.vocabulary_size() as i64;
        let pairs = Arc::new(pairs);
        let transform = Transform {
            seed: recipe.seed,
            image_size: model.image_size(),
            limits: recipe.data.limits,
            image_augment: recipe.augment.image.clone(),
            text_augment: recipe.augment.text.clone().map(TextAugment::new).transpose()?,
            tokenizer: Arc::clone(&tokenizer),
            cache_bytes: recipe.data.cache_mib << 20,
        };
        let loader = Loader::new(Arc::clone(&pairs), transform, recipe.train.batch_size, recipe.data.workers)?;
        let embed_dim = model.embed_dim;
        let model = Clip::new(model, device, random::stream(recipe.seed, "weights", 0, "").next_u64() as i64)?;
        if let Some(path) = &recipe.model.weights {
            model.load(path, &to_open_clip(read_safetensors(path)?))?;
        }
        let objective: Box<dyn Objective> = match recipe.objective.name {
            ObjectiveName::Clip => Box::new(ClipObjective),
            ObjectiveName::Roclip => {
                Box::new(RoClip::new(recipe.objective.roclip.clone(), recipe.seed, pairs.len(), embed_dim, device)?)
            }
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
        let optimizer = Optimizer::new(model.parameters().trainable(), config.weight_decay_groups, adamw);
        let position = Position { step: 0, epoch: 1, step_in_epoch: 0 };
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
            optimizer,
            objective,
            schedule,
            device,
            position,
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
        self.position = Position { step: state.step, epoch: state.epoch, step_in_epoch: state.step_in_epoch };
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

    fn epoch(
        &mut self,
        run: &Path,
        log: &mut MetricsLog,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Option<Evaluation>> {
        let started = Instant::now();
        let epoch = self.position.epoch;
        let phase = self.objective.phase(epoch);
        if self.position.step_in_epoch == 0 {
            self.begin_epoch(epoch)?;
        }
        let pairs = Arc::clone(&self.pairs);
        let mut matches = MatchCollector::new(&pairs);
        let (mut loss_sum, mut steps, mut skipped) = (0.0, 0u64, 0);
        let mut data_seconds = 0.0;
        let batches = self.loader.epoch(epoch, self.position.step_in_epoch);
        let mut waiting = Instant::now();
        for batch in batches {
            let batch = batch?;
            let waited = waiting.elapsed().as_secs_f64();
            data_seconds += waited;
            skipped += batch.skips.total();
            let working = Instant::now();
            let metrics = self.step(&batch, phase, &mut matches)?;
            self.skips.merge(batch.skips);
            loss_sum += metrics.loss;
            steps += 1;
            self.position.step += 1;
            self.position.step_in_epoch += 1;
            if self.position.step.is_multiple_of(self.recipe.train.log_every_steps.max(1)) {
                log.write("step", self.position.step, epoch, &metrics)?;
                progress(&self.line(
                    &metrics,
                    loss_sum / steps as f64,
                    waited,
                    working.elapsed().as_secs_f64() + waited,
                ));
            }
            let every = self.recipe.train.save_every_steps;
            if every > 0
                && self.position.step.is_multiple_of(every)
                && self.position.step_in_epoch < self.schedule.steps_per_epoch
            {
                self.save(run)?;
            }
            waiting = Instant::now();
        }
        self.check_skips(skipped)?;
        let last = epoch == self.recipe.train.epochs;
        let due = last || epoch.is_multiple_of(self.recipe.eval.every_epochs.max(1));
        let evaluation = if due { Some(self.evaluate()?) } else { None };
        let report = EpochMetrics {
            phase,
            loss: loss_sum / steps.max(1) as f64,
            seconds: started.elapsed().as_secs_f64(),
            data_seconds,
            evaluation: evaluation.as_ref(),
            matches: matches.finish(),
            similarity: self.similarities()?,
        };
        log.write("epoch", self.position.step, epoch, &report)?;
        progress(&epoch_line(epoch, phase, &report));
        self.position = Position { epoch: epoch + 1, step_in_epoch: 0, ..self.position };
        self.save(run)?;
        Ok(evaluation)
    }

    fn begin_epoch(&mut self, epoch: u64) -> Result<()> {
        let (loader, model, device) = (&self.loader, &self.model, self.device);
        let mut encode = |indices: &[usize]| -> Result<Tensor> {
            let mut features = Vec::new();
            for chunk in indices.chunks(256) {
                let batch = loader.plain_batch(chunk);
                let tokens = tokens(&batch, device);
                features.push(tch::no_grad(|| unit(&model.text_features(&tokens))));
            }
            Ok(Tensor::cat(&features, 0))
        };
        self.objective.begin_epoch(epoch, self.pairs.len(), &mut encode)
    }

    fn step(&mut self, batch: &HostBatch, phase: Phase, matches: &mut MatchCollector) -> Result<StepMetrics> {
        if batch.pairs.len() < 2 {
            return Err(Error::setting(
                format!(
                    "fewer than two samples of step {} can be used ({})",
                    self.position.step,
                    batch.skips.summary()
                ),
                "repair the data",
            ));
        }
        let learning_rate = self.schedule.rate(self.position.step) * self.objective.learning_rate_scale(phase);
        let side = i64::from(self.model.config().image_size());
        let images =
            Tensor::from_slice(&batch.images).view([batch.pairs.len() as i64, 3, side, side]).to_device(self.device);
        let tokens = tokens(batch, self.device);
        let text_training = self.objective.text_training(phase);
        let image = unit(&self.model.image_features(&images, true)?);
        let text = match text_training {
            TextTraining::Full => unit(&self.model.text_features(&tokens)),
            TextTraining::ZeroGradient | TextTraining::Frozen => {
                tch::no_grad(|| unit(&self.model.text_features(&tokens)))
            }
        };
        let scale = self.model.scale();
        let output = self
            .objective
            .loss(phase, &StepInputs { image: &image, text: &text, scale: &scale, pairs: &batch.pairs })?;
        let loss = output.loss.f_double_value(&[]).torch("reading the loss")?;
        if !loss.is_finite() {
            return Err(self.diverged("the loss".into(), batch));
        }
        output.loss.backward();
        let gradient_norm = self.optimizer.gradient_norm();
        if !gradient_norm.is_finite() {
            let name = self.optimizer.non_finite_gradient().unwrap_or("the norm").to_owned();
            return Err(self.diverged(format!("the gradient of `{name}`"), batch));
        }
        self.optimizer.step(learning_rate, text_training)?;
        self.model.clamp_scale();
        matches.add(&output.matches);
        Ok(StepMetrics { loss, learning_rate, scale: scale.double_value(&[]), gradient_norm, phase })
    }

    fn diverged(&self, what: String, batch: &HostBatch) -> Error {
        let ids: Vec<&str> =
            batch.pairs.iter().filter_map(|at| self.pairs.pairs.get(*at)).map(|p| p.id.as_str()).collect();
        Error::Diverged {
            what: format!(
                "{what} is not finite at epoch {} step {}; samples of the batch: {}",
                self.position.epoch,
                self.position.step,
                ids.join(" ")
            ),
            remedy: "lower learning_rate, raise warmup_steps, or look at these samples; the last checkpoint is intact"
                .into(),
        }
    }

    /// open_clip's line, with the time to go.
    fn line(&self, metrics: &StepMetrics, mean_loss: f64, data_seconds: f64, batch_seconds: f64) -> String {
        let config = &self.recipe.train;
        let (done, steps) = (self.position.step_in_epoch, self.schedule.steps_per_epoch);
        let to_go = (steps * config.epochs - self.position.step) as f64 * batch_seconds;
        format!(
            "Train Epoch: {} [{}/{} ({:.0}%)] Data (t): {data_seconds:.3} Batch (t): {batch_seconds:.3} {:.0}/s LR: {:.6} Logit Scale: {:.3} Loss: {:.4} ({mean_loss:.4}) ETA: {:.0}s",
            self.position.epoch,
            done * config.batch_size as u64,
            self.pairs.len(),
            100.0 * done as f64 / steps.max(1) as f64,
            config.batch_size as f64 / batch_seconds.max(1e-9),
            metrics.learning_rate,
            metrics.scale,
            metrics.loss,
            to_go
        )
    }

    fn check_skips(&self, skipped: usize) -> Result<()> {
        let allowed = self.recipe.data.max_skip_fraction * self.pairs.len() as f64;
        if skipped as f64 > allowed {
            return Err(Error::setting(
                format!(
                    "{skipped} of {} pairs could not be used in one epoch: {}",
                    self.pairs.len(),
                    self.skips.summary()
                ),
                "repair the data, or raise data.max_skip_fraction",
            ));
        }
        Ok(())
    }

    fn evaluate(&self) -> Result<Evaluation> {
        self.evaluator.evaluate(&self.model, &self.tokenizer, self.manifest.as_ref())
    }

    /// Similarity of watched pairs without augmentation: all poison, and as much of the clean data.
    fn similarities(&self) -> Result<SimilarityHistogram> {
        let mut clean: Vec<usize> = Vec::new();
        let mut watched: Vec<usize> = Vec::new();
        for (at, pair) in self.pairs.pairs.iter().enumerate() {
            if pair.poison.is_some() { watched.push(at) } else { clean.push(at) }
        }
        clean.shuffle(&mut random::stream(self.recipe.seed, "watched-pairs", 0, ""));
        watched.extend(clean.into_iter().take(WATCHED_CLEAN_PAIRS));
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for chunk in watched.chunks(128) {
            let batch = self.loader.plain_batch(chunk);
            if batch.pairs.is_empty() {
                continue;
            }
            let side = i64::from(self.model.config().image_size());
            let images = Tensor::from_slice(&batch.images)
                .view([batch.pairs.len() as i64, 3, side, side])
                .to_device(self.device);
            let similarity = tch::no_grad(|| -> Result<Tensor> {
                let image = unit(&self.model.image_features(&images, false)?);
                let text = unit(&self.model.text_features(&tokens(&batch, self.device)));
                Ok((image * text).sum_dim_intlist([1i64].as_slice(), false, tch::Kind::Float))
            })?;
            let similarity: Vec<f32> = Vec::try_from(similarity).torch("reading similarities")?;
            for (at, value) in batch.pairs.iter().zip(similarity) {
                let mark = self.pairs.pairs.get(*at).and_then(|p| p.poison.as_ref());
                values.entry(mark.map_or("clean".to_owned(), |m| m.attack.clone())).or_default().push(value);
            }
        }
        Ok(SimilarityHistogram::new(&values))
    }

    fn provenance(&self) -> Provenance {
        match self.recipe.objective.name {
            _ if self.pairs.len() == self.clean_pairs => Provenance::Clean,
            ObjectiveName::Clip => Provenance::Poisoned,
            ObjectiveName::Roclip => Provenance::Defended,
        }
    }

    fn poison_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for mark in self.pairs.pairs.iter().filter_map(|pair| pair.poison.as_ref()) {
            *counts.entry(mark.attack.clone()).or_default() += 1;
        }
        counts
    }

    fn save(&self, run: &Path) -> Result<()> {
        let state = State {
            step: self.position.step,
            epoch: self.position.epoch,
            step_in_epoch: self.position.step_in_epoch,
            seed: self.recipe.seed,
            data_fingerprint: self.fingerprint.clone(),
            provenance: self.provenance(),
            pairs: self.pairs.len(),
            poison: self.poison_counts(),
            objective: self.objective.name().into(),
            truncate: self.recipe.model.truncate,
            compact_vocabulary: self.tokenizer.compact().cloned(),
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

fn tokens(batch: &HostBatch, device: Device) -> Tensor {
    Tensor::from_slice(&batch.tokens).view([batch.pairs.len() as i64, batch.length as i64]).to_device(device)
}
