//! One run of prompt learning, from a resolved recipe to a run folder.

use crate::attack::{DELTA, UniversalDelta};
use crate::checkpoint::{self, Description};
use crate::error::{Error, Result};
use crate::objective::Phase;
use crate::prompt::{
    PromptConfig, PromptHost, PromptLearner, PromptMeasures, PromptTrainer, Stage, TrainingState, save_learner,
};
use crate::recipe::Recipe;
use crate::run::caller::Caller;
use crate::run::device::machine;
use crate::run::folder::RunFolder;
use crate::run::journal::Journal;
use crate::run::kind::RunKind;
use crate::run::numbers::read_measured;
use crate::run::prompt::begin::{INVERTED, begin};
use crate::run::prompt::eval::{Learned, measure};
use crate::run::prompt::prepare::{PromptData, delivered_trigger, prepare, section};
use crate::run::resume::{Start, checkpoint_to_take};
use crate::run::skips::SkipLog;
use crate::run::stop::Stop;
use crate::run::summary::{Summary, environment};
use crate::train::SimilarityHistogram;
use roclip_data::artifact;
use roclip_data::progress::Task;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tch::Tensor;

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
    let taken = RunFolder::take_existing(run, RunKind::Training)?;
    checkpoint_to_take(recipe, run, start)?;
    artifact::check_writable(run)?;
    let device = machine(recipe)?;
    let data = prepare(recipe, description, device, None)?;
    for warning in &data.warnings {
        journal.say(&format!("warning: {warning}"));
    }
    let folder = taken.map_or_else(|| RunFolder::take(run, RunKind::Training), Ok)?;
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
        "{}: {} pictures of {} seen classes ({} shots), {} unseen classes (measured with the target among them), target `{}`, {} steps an epoch",
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
    // One that cannot be read, or that nobody can have measured, is written again.
    let Ok(summary) = read_measured::<Summary>(&path) else { return Ok(None) };
    let whole = summary.step == checkpoint::newest_step(run)? && summary.epoch == config.stages().len() as u64;
    Ok(whole.then_some(summary))
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
                Some(self.measures(&Learned {
                    learner: &learner,
                    trigger: self.delivered_trigger(config)?.as_ref(),
                    method: &stored.about.method,
                    attack: stored.about.attack(),
                    warmup_moved: None,
                })?)
            }
        };
        let delivered = self.delivered_trigger(config)?;
        // A repair is measured by its victim's trigger, not by the one that it learned against.
        let (trigger, attack) = match &self.data.delivered {
            Some(stored) => (delivered.as_ref(), stored.about.attack()),
            None => (trainer.trigger.as_ref(), Some(config.method().name())),
        };
        let measures = self.measures(&Learned {
            learner: &trainer.learner,
            trigger,
            method: config.method().name(),
            attack,
            warmup_moved: trainer.tally.warmup_moved(),
        })?;
        let summary = Summary {
            captions: None,
            teacher: None,
            teacher_attacked: None,
            inheritance: BTreeMap::new(),
            triggers: BTreeMap::new(),
            measured_on: self.data.measured_on.clone(),
            data_fingerprint: Some(self.fingerprint.clone()),
            named: self.data.named(config)?,
            objective: config.method().name().to_owned(),
            seed: self.recipe.seed,
            epoch: config.stages().len() as u64,
            phase: Phase::Clip,
            pairs: self.data.labels.len(),
            poison_left_out: None,
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

    fn measures(&self, learned: &Learned) -> Result<PromptMeasures> {
        measure(self.recipe, self.data, learned, &BTreeMap::new())
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
            measured_on: self.data.measured_on.clone(),
            named: self.data.named(config)?,
            repaired_sha256: self.data.delivered.as_ref().map(|stored| stored.sha256.clone()),
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
