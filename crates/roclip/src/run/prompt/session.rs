//! One run of prompt learning, from a resolved recipe to a run folder.

use crate::attack::{DELTA, UniversalDelta};
use crate::checkpoint::{self, Description};
use crate::error::{Error, Result};
use crate::objective::Phase;
use crate::prompt::{
    ClassTokens, PromptConfig, PromptHost, PromptLearner, PromptMeasures, PromptPosition, PromptTally, PromptTrainer,
    Resumed, Stage, TrainingState, invert, read_training, save_learner,
};
use crate::recipe::Recipe;
use crate::run::caller::Caller;
use crate::run::device::machine;
use crate::run::folder::RunFolder;
use crate::run::journal::Journal;
use crate::run::plain::plain_transform;
use crate::run::prompt::eval::{Learned, measure};
use crate::run::prompt::prepare::{PromptData, delivered_trigger, prepare, section, seed_torch, unlabelled};
use crate::run::resume::{Start, checkpoint_to_take};
use crate::run::skips::SkipLog;
use crate::run::stop::Stop;
use crate::run::summary::{Summary, environment};
use crate::train::{Sgd, SgdConfig, SimilarityHistogram};
use roclip_data::artifact;
use roclip_data::batch::{Loader, Transform, ViewAugment};
use roclip_data::progress::Task;
use roclip_data::sample::Sample;
use roclip_data::tokenizer::{Tokenizer, Truncate};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};

/// Of the trigger that a repair learns against, among the optimizer's tensors.
const INVERTED: &str = "inverted.delta";

/// Learns prompts as `recipe` says in the folder `run`, which this process alone writes in until it returns. `lines` receives one line at a
/// time, and the caller's `stop` ends the run early. A run that is to go on and is finished stays as it is.
///
/// # Errors
/// Everything that is wrong with the recipe, its data or the folder is found before the first file is written. Afterwards, data that can no
/// longer be read, numbers that are not finite, files that cannot be written, and [`Error::Stopped`].
pub fn train_prompts(
    recipe: &Recipe,
    description: Description,
    run: &Path,
    start: Start,
    caller: &Caller,
    lines: &mut dyn FnMut(&str),
) -> Result<Summary> {
    let mut journal = Journal::new(lines);
    recipe.check()?;
    let config = section(recipe)?;
    if let Some(summary) = finished(recipe, config, run, start)? {
        journal.say(&format!("`{}` is finished: nothing was done", run.display()));
        return Ok(summary);
    }
    let taken = RunFolder::take_existing(run)?;
    checkpoint_to_take(recipe, run, start)?;
    artifact::check_writable(run)?;
    let device = machine(recipe)?;
    let data = prepare(recipe, description, device)?;
    for warning in &data.warnings {
        journal.say(&format!("warning: {warning}"));
    }
    let folder = taken.map_or_else(|| RunFolder::take(run), Ok)?;
    let begun = begin(recipe, config, &data, &folder, device, start, &mut |line| journal.say(line));
    let (mut trainer, resumed) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            folder.give_back();
            return Err(error);
        }
    };
    artifact::write(&folder.file("run.toml"), recipe.to_toml()?.as_bytes())?;
    artifact::write_json(&folder.file("env.json"), &environment(caller))?;
    journal.open(run, trainer.position.step, resumed)?;
    let skips = SkipLog::open(folder.file("skips.jsonl"), resumed)?;
    journal.say(&format!(
        "{}: {} pictures of {} seen classes ({} shots), {} unseen classes, target `{}`, {} steps an epoch",
        config.method().title(),
        data.labels.len(),
        data.split.seen.len(),
        config.shots,
        data.split.unseen.len(),
        data.target.0,
        trainer.steps_per_epoch()
    ));
    if resumed {
        caller.stop.set_saved(run, trainer.position.step);
    }
    let fingerprint = data.pairs.fingerprint();
    let mut session =
        Session { recipe, data: &data, folder, journal, skips, stop: caller.stop, fingerprint, task: None };
    let outcome = session.whole(&mut trainer, resumed);
    if let Err(error) = &outcome {
        session.folder.check_there()?;
        session.journal.note_end(error);
    }
    outcome
}

/// The summary of a run that is to go on and has nothing left to do.
fn finished(recipe: &Recipe, config: &PromptConfig, run: &Path, start: Start) -> Result<Option<Summary>> {
    let path = run.join("summary.json");
    if start != Start::Resume || !path.is_file() || checkpoint_to_take(recipe, run, start)?.is_none() {
        return Ok(None);
    }
    // One that cannot be read is written again.
    let Ok(summary) = artifact::read_json::<Summary>(&path) else { return Ok(None) };
    let whole = summary.step == checkpoint::newest_step(run)? && summary.epoch == config.stages().len() as u64;
    Ok(whole.then_some(summary))
}

/// The trainer where the run begins or goes on, and whether it goes on.
fn begin<'a>(
    recipe: &Recipe,
    config: &PromptConfig,
    data: &'a PromptData,
    folder: &RunFolder,
    device: Device,
    start: Start,
    progress: &mut dyn FnMut(&str),
) -> Result<(PromptTrainer<'a>, bool)> {
    let from = checkpoint_to_take(recipe, folder.path(), start)?;
    let model = &data.loaded.model;
    // A run that goes on reads what it had; the draws that it began with are made all the same.
    seed_torch(recipe.seed, "prompt-learner");
    let reduction = config.method().is_conditioned().then_some(config.meta_reduction);
    let mut learner = match &data.delivered {
        Some(stored) => PromptLearner::from_tensors(model, &stored.tensors)?,
        None => PromptLearner::new(model, &data.loaded.tokenizer, &config.context, reduction)?,
    };
    let mut trigger = match config.method().attacks() {
        true => {
            let size = i64::from(model.config().image_size());
            Some(UniversalDelta::random(size, config.eps / 255.0, config.sgd(), device)?)
        }
        false => None,
    };
    let state = match &from {
        None => None,
        Some(from) => {
            let Resumed { state, tensors, optimizer } = read_training(from)?;
            if state.data_fingerprint != data.pairs.fingerprint() {
                return Err(Error::file(from, "was trained on other data", "resume with the data of the run"));
            }
            learner = PromptLearner::from_tensors(model, &tensors)?;
            if let (Some(_), Some(delta)) = (&trigger, tensors.get(DELTA)) {
                trigger = Some(UniversalDelta::new(&delta.to_device(device), config.eps / 255.0, config.sgd())?);
            }
            if let Start::ResumeFrom(step) = start {
                checkpoint::set_newer_aside(folder.path(), step)?;
            }
            Some((state, optimizer))
        }
    };
    let words: Vec<String> = data.split.seen.iter().map(|class| class.1.clone()).collect();
    let classes = ClassTokens::new(model, &data.loaded.tokenizer, &words, &config.ending, learner.contexts())?;
    if config.repair.is_some() {
        let none = SgdConfig { momentum: 0.0, weight_decay: 0.0 };
        let kept = state.as_ref().and_then(|(_, optimizer)| optimizer.get(INVERTED));
        trigger = Some(match kept {
            Some(kept) => UniversalDelta::new(&kept.to_device(device), config.detector.eps / 255.0, none)?,
            None => inverted(recipe, config, data, &learner, &classes, folder, progress)?,
        });
    }
    let loader = loader(recipe, data)?;
    let mut trainer = PromptTrainer {
        model,
        sgd: Sgd::new(learner.tensors(), config.sgd()),
        config: config.clone(),
        classes,
        loader,
        labels: data.labels.clone(),
        learner,
        trigger,
        target: data.target_place as i64,
        device,
        position: PromptPosition { step: 0, epoch: 1, step_in_epoch: 0 },
        tally: PromptTally::default(),
        skips: data.skips.clone(),
    };
    let resumed = state.is_some();
    if let Some((state, optimizer)) = state {
        trainer.sgd.load_state(&optimizer)?;
        if let Some(trigger) = trainer.trigger.as_mut().filter(|_| config.method().attacks()) {
            trigger.optimizer_mut().load_state(&optimizer)?;
        }
        (trainer.position, trainer.tally) = (state.position, state.tally);
        progress(&format!("resumed at epoch {} step {}", trainer.position.epoch, trainer.position.step));
    }
    Ok((trainer, resumed))
}

/// The trigger that inversion finds in the learner that is repaired: for the class that the recipe names, else for the one with the largest
/// score. What was found is kept in `detection.json`.
fn inverted(
    recipe: &Recipe,
    config: &PromptConfig,
    data: &PromptData,
    learner: &PromptLearner,
    classes: &ClassTokens,
    folder: &RunFolder,
    progress: &mut dyn FnMut(&str),
) -> Result<UniversalDelta> {
    let unseen: Vec<&Sample> = data
        .training
        .iter()
        .filter(|sample| !data.split.seen.iter().any(|class| Some(&class.0) == sample.class.as_ref()))
        .collect();
    let pictures = unlabelled(&unseen, config.detector.pictures, recipe.seed, data.encoder(recipe))?;
    let names: Vec<String> = data.split.seen.iter().map(|class| class.0.clone()).collect();
    let asked = config.repair.as_ref().and_then(|repair| repair.class.clone());
    let only = match &asked {
        None => None,
        Some(asked) => Some(names.iter().position(|name| name == asked).ok_or_else(|| {
            Error::setting(
                format!("prompt.repair.class is `{asked}`, which is no seen class"),
                "name a class that the prompts were learned on",
            )
        })?),
    };
    let (detection, delta) =
        invert((&data.loaded.model, learner, classes), &names, only, &pictures, &config.detector, recipe.seed)?;
    artifact::write_json(&folder.file("detection.json"), &detection)?;
    if let Some(first) = detection.classes.first() {
        progress(&format!(
            "repairing against the trigger inverted for `{}`, which carries {:.1} % ({}/{}) there; statistic {:.2}",
            first.class,
            100.0 * first.carried.rate,
            first.carried.hits,
            first.carried.n,
            detection.statistic
        ));
    }
    Ok(delta)
}

fn loader(recipe: &Recipe, data: &PromptData) -> Result<Loader> {
    let loaded = &data.loaded;
    let view = ViewAugment { image: recipe.augment.image.clone(), ..ViewAugment::default() };
    let context = loaded.tokenizer.context_length();
    // Captions are made of the same vocabulary; nothing of the loss reads them.
    let tokenizer = Tokenizer::new(context, Truncate::default())?.with_compact(loaded.tokenizer.compact().cloned());
    let transform = Transform {
        views: [view, ViewAugment::default()],
        ..plain_transform(recipe, &loaded.model, Arc::new(tokenizer))
    };
    // The loop asks for batches of its own size.
    Ok(Loader::new(Arc::new(data.pairs.clone()), transform, 2, recipe.data.workers)?)
}

/// A run under way.
struct Session<'a> {
    recipe: &'a Recipe,
    data: &'a PromptData,
    folder: RunFolder,
    journal: Journal<'a>,
    skips: SkipLog,
    stop: &'a Stop,
    fingerprint: String,
    task: Option<Task>,
}

/// A `step` line.
#[derive(Serialize)]
struct StepRow {
    phase: Stage,
    loss: f64,
    learning_rate: f64,
}

/// An `epoch` line, in the words of all runs.
#[derive(Serialize)]
struct EpochRow {
    phase: Stage,
    loss: f64,
    seconds: f64,
    /// Mean change of the trigger in a step, as a share of its bound.
    trigger_moved: f64,
    similarity: SimilarityHistogram,
}

impl Session<'_> {
    /// What the run does between its first file and its last one.
    fn whole(&mut self, trainer: &mut PromptTrainer, resumed: bool) -> Result<Summary> {
        if !resumed {
            self.save(trainer)?;
        }
        let outcome = self.epochs(trainer);
        self.task = None;
        self.skips.write(&trainer.skips)?;
        outcome?;
        self.journal.say("measuring");
        let config = &trainer.config;
        let before = match &self.data.delivered {
            None => None,
            Some(stored) => {
                let learner = PromptLearner::from_tensors(trainer.model, &stored.tensors)?;
                Some(self.measures(&learner, self.delivered_trigger(config)?.as_ref(), &stored.about.method, None)?)
            }
        };
        let delivered = self.delivered_trigger(config)?;
        let trigger = if self.data.delivered.is_some() { delivered.as_ref() } else { trainer.trigger.as_ref() };
        let measures =
            self.measures(&trainer.learner, trigger, config.method().name(), trainer.tally.warmup_moved())?;
        let summary = Summary {
            captions: None,
            teacher: None,
            triggers: BTreeMap::new(),
            objective: config.method().name().to_owned(),
            seed: self.recipe.seed,
            epoch: config.stages().len() as u64,
            phase: Phase::Clip,
            pairs: self.data.labels.len(),
            poisoned_pairs: if config.method().attacks() { self.data.labels.len() } else { 0 },
            before: before.as_ref().map(PromptMeasures::evaluation),
            weights_moved: None,
            rebound: None,
            evaluation: measures.evaluation(),
            after: BTreeMap::new(),
            linear_probe: None,
            step: Some(trainer.position.step),
            seconds: self.journal.log.clock.seconds(),
            peak_memory_bytes: self.journal.log.clock.peak_memory_bytes(),
            prompt: Some(measures),
            prompt_before: before,
        };
        self.folder.check_there()?;
        artifact::write_json(&self.folder.file("summary.json"), &summary)?;
        self.journal.note("finished");
        Ok(summary)
    }

    fn delivered_trigger(&self, config: &PromptConfig) -> Result<Option<UniversalDelta>> {
        let stored = self.data.delivered.as_ref();
        stored.map_or(Ok(None), |stored| delivered_trigger(stored, config, &self.data.loaded))
    }

    fn measures(
        &self,
        learner: &PromptLearner,
        trigger: Option<&UniversalDelta>,
        method: &str,
        warmup_moved: Option<f64>,
    ) -> Result<PromptMeasures> {
        let learned = Learned { learner, trigger, method, warmup_moved };
        measure(self.recipe, self.data, &learned, &BTreeMap::new())
    }

    fn epochs(&mut self, trainer: &mut PromptTrainer) -> Result<()> {
        let stages = trainer.config.stages();
        while let Some(stage) = stages.get(trainer.position.epoch as usize - 1).copied() {
            let started = Instant::now();
            trainer.epoch(self)?;
            let (epoch, tally) = (trainer.position.epoch - 1, trainer.tally);
            let row = EpochRow {
                phase: stage,
                loss: tally.loss(),
                seconds: started.elapsed().as_secs_f64(),
                trigger_moved: tally.moved(),
                similarity: SimilarityHistogram::default(),
            };
            self.journal.row("epoch", trainer.position.step, epoch, &row)?;
            let moved = match tally.moved() > 0.0 {
                true => format!(", the trigger moves by {:.2} % of its bound a step", 100.0 * tally.moved()),
                false => String::new(),
            };
            let what = match stage {
                Stage::TriggerWarmup => "trigger alone",
                Stage::Prompts => "prompts",
            };
            self.journal.say(&format!(
                "Epoch {epoch}/{} ({what}) loss {:.4} {:.1}s{moved}",
                stages.len(),
                tally.loss(),
                row.seconds
            ));
            self.save(trainer)?;
            self.end_if_wanted(trainer)?;
        }
        Ok(())
    }

    fn end_if_wanted(&mut self, trainer: &PromptTrainer) -> Result<()> {
        if !self.stop.wanted() {
            return Ok(());
        }
        self.save(trainer)?;
        Err(Error::Stopped { run: self.folder.path().to_owned(), step: trainer.position.step })
    }

    fn save(&mut self, trainer: &PromptTrainer) -> Result<()> {
        self.folder.check_there()?;
        self.skips.write(&trainer.skips)?;
        self.journal.sync()?;
        let config = &trainer.config;
        let mut tensors = trainer.learner.tensors();
        let mut optimizer: BTreeMap<String, Tensor> = trainer.sgd.state();
        match (&trainer.trigger, &self.data.delivered) {
            (Some(trigger), None) => {
                tensors.insert(DELTA.to_owned(), trigger.values().detach());
                optimizer.extend(trigger.optimizer().state());
            }
            (Some(inverted), Some(stored)) => {
                optimizer.insert(INVERTED.to_owned(), inverted.values().detach());
                tensors.extend(stored.delta().map(|delta| (DELTA.to_owned(), delta.shallow_clone())));
            }
            (None, _) => {}
        }
        let state = TrainingState {
            position: trainer.position,
            tally: trainer.tally,
            data_fingerprint: self.fingerprint.clone(),
            files: BTreeMap::new(),
        };
        let about = self.data.about(self.recipe, config, trainer.position.step);
        save_learner(self.folder.path(), &about, &tensors, &optimizer, state, self.recipe.train.keep_checkpoints)?;
        self.stop.set_saved(self.folder.path(), trainer.position.step);
        Ok(())
    }
}

impl PromptHost for Session<'_> {
    fn step_done(&mut self, trainer: &PromptTrainer, loss: f64, learning_rate: f64) -> Result<()> {
        self.stop.set_unsaved(true);
        let (position, train) = (trainer.position, &self.recipe.train);
        let steps = trainer.steps_per_epoch();
        let stages = trainer.config.stages();
        if position.step.is_multiple_of(train.log_every_steps.max(1)) {
            let phase = stages.get(position.epoch as usize - 1).copied().unwrap_or(Stage::Prompts);
            self.journal.row("step", position.step, position.epoch, &StepRow { phase, loss, learning_rate })?;
            let scalars = [("loss", loss), ("learning_rate", learning_rate)];
            self.journal.scalars(position.step, &scalars.map(|(name, value)| (format!("train/{name}"), value)));
        }
        let all = steps * stages.len() as u64;
        let task = self.task.get_or_insert_with(|| Task::begin("learning prompts", all as usize, "steps"));
        task.set(position.step);
        self.end_if_wanted(trainer)?;
        if train.save_every_steps > 0
            && position.step.is_multiple_of(train.save_every_steps)
            && position.step_in_epoch < steps
        {
            self.save(trainer)?;
        }
        Ok(())
    }
}
