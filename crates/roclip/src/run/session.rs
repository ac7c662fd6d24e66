//! One training run, from a resolved recipe to a run folder.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::recipe::Recipe;
use crate::run::agreement::{agree_on_data, agree_on_run};
use crate::run::build::build;
use crate::run::caller::Caller;
use crate::run::clean::{distance, forget_patch, rebound};
use crate::run::context::Context;
use crate::run::details::keep_details;
use crate::run::device::machine;
use crate::run::folder::RunFolder;
use crate::run::journal::Journal;
use crate::run::kind::RunKind;
use crate::run::lines::{EpochMetrics, read_epochs};
use crate::run::memory::check_batch;
use crate::run::numbers::read_measured;
use crate::run::pictures::keep_pictures;
use crate::run::prepare::{Prepared, prepare_training};
use crate::run::resume::{Start, check_manifest, checkpoint_to_take, finished, restore};
use crate::run::skips::SkipLog;
use crate::run::stop::Stop;
use crate::run::summary::{PhaseEvaluation, Summary, environment};
use crate::run::supervision::is_attacked;
use crate::run::together::{Together, tell};
use crate::train::{EpochTally, SimilarityHistogram, SplitSummary, Trainer, read_metrics};
use crate::world::World;
use roclip_data::artifact;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tch::Device;

/// Trains as `recipe` says in the folder `run`, which this process alone writes in until it returns. `lines` receives one line at a
/// time, and the caller's `stop` ends the run early. A run that is to go on and is finished stays as it is.
///
/// # Errors
/// Everything that is wrong with the recipe, its data or the folder is found before the first file is written. Afterwards, what can no
/// longer be used of the data, numbers that are not finite, files that cannot be written, and [`Error::Stopped`].
pub fn train(
    recipe: &Recipe,
    run: &Path,
    start: Start,
    caller: &Caller,
    lines: &mut dyn FnMut(&str),
) -> Result<Summary> {
    let mut journal = Journal::new(lines);
    recipe.check_training()?;
    let world = caller.world;
    agree_on_run(world, recipe, caller.commit)?;
    // Not even the lock of a finished run is touched.
    let finished = finished(recipe, run, start)?;
    world.broadcast_text(if finished.is_some() { FINISHED } else { "" })?;
    if let Some(summary) = finished {
        let step = summary.step.unwrap_or_default();
        let said =
            format!("`{}` is finished at step {step}: nothing was done; more --epochs train it on", run.display());
        journal.say(&said);
        return Ok(summary);
    }
    // Where a run has been already, another one may be at work.
    let taken = RunFolder::take_existing(run, RunKind::Training)?;
    let from = checkpoint_to_take(recipe, run, start)?;
    if let (true, Some(step)) = (from.is_some(), checkpoint::newest_step(run)?) {
        caller.stop.set_saved(run, step);
    }
    artifact::check_writable(run)?;
    let device = machine(recipe)?;
    let prepared = prepare(recipe, &mut |line| journal.say(line))?;
    let folder = taken.map_or_else(|| RunFolder::take(run, RunKind::Training), Ok)?;
    let begun = begin(recipe, prepared, &folder, (device, world), start, &mut |line| journal.say(line));
    let (mut trainer, context, resumed) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            folder.give_back();
            return Err(error);
        }
    };
    artifact::write(&folder.file("run.toml"), recipe.to_toml()?.as_bytes())?;
    artifact::write_json(&folder.file("env.json"), &environment(caller))?;
    if let Some(manifest) = &context.manifest {
        manifest.write(&folder.file("manifest.jsonl"))?;
    }
    journal.open(run, trainer.position.step, resumed)?;
    let skips = SkipLog::open(folder.file("skips.jsonl"), resumed)?;
    journal.say(&context.banner(&trainer));
    if resumed {
        caller.stop.set_saved(run, trainer.position.step);
    }
    trainer.share()?;
    let mut session = Session { context, folder, journal, skips, stop: caller.stop };
    let outcome = session.whole(&mut trainer, resumed, device);
    if let Err(error) = &outcome {
        // Whatever failed, a folder that is gone is the reason.
        session.folder.check_there()?;
        session.journal.note_end(error);
    }
    outcome
}

/// What the first process says of a run that is finished.
pub(super) const FINISHED: &str = "finished";

pub(super) fn prepare(recipe: &Recipe, progress: &mut dyn FnMut(&str)) -> Result<Prepared> {
    check_batch(recipe)?;
    let mut prepared = prepare_training(recipe)?;
    if prepared.skips.total() > 0 {
        progress(&format!("left out before training: {} (skips.jsonl)", prepared.skips.summary()));
    }
    let left = prepared.manifest.as_ref().map(|manifest| prepared.evaluator.check_left(manifest)).transpose()?;
    prepared.warnings.extend(left.into_iter().flatten());
    if let Some(probe) = &recipe.eval.probe {
        let training = prepared.pairs.labelled_samples();
        prepared.evaluator.check_probe(probe, &training, prepared.manifest.as_ref())?;
    }
    for remark in &prepared.remarks {
        progress(remark);
    }
    for warning in &prepared.warnings {
        progress(&format!("warning: {warning}"));
    }
    Ok(prepared)
}

/// The trainer where the run begins or goes on, and whether it goes on.
fn begin<'a>(
    recipe: &'a Recipe,
    prepared: Prepared,
    folder: &RunFolder,
    (device, world): (Device, &World),
    start: Start,
    progress: &mut dyn FnMut(&str),
) -> Result<(Trainer, Context<'a>, bool)> {
    let run = folder.path();
    // Only now is it certain that nobody else has begun a run here since.
    let from = checkpoint_to_take(recipe, run, start)?;
    if from.is_none() && recipe.clean.is_some() {
        forget_patch(run)?;
    }
    let (mut trainer, context) = build(recipe, prepared, (device, world), run, progress)?;
    agree_on_data(world, &context)?;
    if let Some(from) = &from {
        restore(&mut trainer, &context, from)?;
        check_manifest(run, &context)?;
        if let Start::ResumeFrom(step) = start {
            checkpoint::set_newer_aside(run, step)?;
        }
        progress(&format!("resumed at epoch {} step {}", trainer.position.epoch, trainer.position.step));
    }
    Ok((trainer, context, from.is_some()))
}

/// A run under way.
pub(super) struct Session<'a> {
    pub(super) context: Context<'a>,
    pub(super) folder: RunFolder,
    pub(super) journal: Journal<'a>,
    pub(super) skips: SkipLog,
    pub(super) stop: &'a Stop,
}

impl Session<'_> {
    /// What the run does between its first file and its last one.
    fn whole(&mut self, trainer: &mut Trainer, resumed: bool, device: Device) -> Result<Summary> {
        let outcome = self.work(trainer, resumed);
        self.journal.trained();
        // What was skipped explains many a failure.
        let written = self.skips.write(&trainer.skips);
        let (before, evaluation) = outcome.map_err(|error| self.with_samples(error))?;
        written?;
        let recipe = self.context.recipe;
        let rebound = match recipe.clean.as_ref().and_then(|clean| clean.rebound.as_ref()) {
            Some(_) if self.stop.wanted() => {
                // All that was learned is saved, and the test may take longer than that did.
                self.journal.say("the rebound test is left to do");
                return Err(Error::Stopped { run: self.folder.path().to_owned(), step: trainer.position.step });
            }
            Some(config) => {
                let journal = &mut self.journal;
                Some(rebound(recipe, config, self.folder.path(), device, &mut |line| journal.say(line))?)
            }
            None => None,
        };
        let weights_moved = match &recipe.clean {
            Some(clean) => Some(distance(&clean.load_victim(device)?.model, &trainer.model)),
            None => None,
        };
        let captions = match self.context.captions(trainer)? {
            Some((captions, lines)) => {
                self.folder.check_there()?;
                artifact::write_json_lines(&self.folder.file("captions.jsonl"), &lines)?;
                Some(captions)
            }
            None => None,
        };
        let summary = Summary { before, rebound, weights_moved, captions, ..self.summary(trainer, evaluation)? };
        // Files written from here on would make the folder again.
        self.folder.check_there()?;
        let Context { manifest, evaluator, .. } = &self.context;
        let (run, limits) = (self.folder.path(), recipe.data.limits);
        if !evaluator.is_of_nothing() {
            keep_details(run, &self.context.details(trainer)?)?;
        }
        keep_pictures(run, manifest.as_ref(), &trainer.pairs, &evaluator.samples, limits)?;
        artifact::write_json(&self.folder.file("summary.json"), &summary)?;
        self.journal.note("finished");
        tell(trainer, Together::Training)?;
        Ok(summary)
    }

    /// Writes down the samples of a batch whose loss is no number: the message names some of them.
    fn with_samples(&self, error: Error) -> Error {
        let Error::Diverged { what, remedy, samples } = error else { return error };
        let path = self.folder.file("diverged.json");
        let remedy = match artifact::write_json(&path, &serde_json::json!({"what": what, "samples": samples})) {
            Ok(_) => format!("{remedy} (all {} samples: `{}`)", samples.len(), path.display()),
            Err(_) => remedy,
        };
        Error::Diverged { what, remedy, samples }
    }

    /// Trains and measures. The victim's evaluation, where this run cleans one, and the last of the trained model.
    fn work(&mut self, trainer: &mut Trainer, resumed: bool) -> Result<(Option<Evaluation>, Evaluation)> {
        if !resumed {
            // A run that is killed before its first checkpoint can go on, too.
            self.save(trainer)?;
        }
        let before = self.before(trainer)?;
        let evaluation = match self.epochs(trainer)? {
            Some(evaluation) => evaluation,
            None => self.context.evaluate(trainer)?,
        };
        Ok((before, evaluation))
    }

    /// The victim's evaluation, where this run cleans one: measured at the first step, and kept in `before.json`.
    fn before(&self, trainer: &Trainer) -> Result<Option<Evaluation>> {
        if self.context.recipe.clean.is_none() {
            return Ok(None);
        }
        let path = self.folder.file("before.json");
        if trainer.position.step == 0 {
            artifact::write_json(&path, &self.context.evaluate(trainer)?)?;
        }
        Ok(Some(read_measured(&path)?))
    }

    /// Trains and measures what is left of the run. The last evaluation, where there was one.
    fn epochs(&mut self, trainer: &mut Trainer) -> Result<Option<Evaluation>> {
        let mut last = None;
        if let Some(unmeasured) = self.unmeasured(trainer)? {
            trainer.tally = unmeasured;
            last = self.measure(trainer)?;
        }
        tell(trainer, Together::Training)?;
        while trainer.position.epoch <= self.context.recipe.train.epochs {
            trainer.epoch(self)?;
            let between = Instant::now();
            // The epoch's work is on disk before anything is done with it that may fail.
            let (step, epoch) = (trainer.position.step, trainer.position.epoch - 1);
            self.journal.row("trained", step, epoch, &trainer.tally.so_far())?;
            self.save(trainer)?;
            last = self.measure(trainer)?.or(last);
            self.journal.pace.epoch(self.context.recipe.evaluates_after(epoch), between.elapsed().as_secs_f64());
            tell(trainer, Together::Training)?;
        }
        Ok(last)
    }

    /// What the epoch before the trainer's position added up, where the run ended before it was measured.
    fn unmeasured(&self, trainer: &Trainer) -> Result<Option<EpochTally>> {
        let position = trainer.position;
        if position.within_epoch() || position.epoch == 1 {
            return Ok(None);
        }
        let is = |line: &serde_json::Value, event: &str| {
            line.get("event").is_some_and(|is| is == event)
                && line.get("epoch").is_some_and(|epoch| *epoch == position.epoch - 1)
        };
        let mut lines = read_metrics(self.folder.path())?;
        if lines.iter().any(|line| is(line, "epoch")) {
            return Ok(None);
        }
        let trained = lines.iter().position(|line| is(line, "trained")).map(|at| lines.swap_remove(at));
        trained.map(serde_json::from_value).transpose().map_err(|e| {
            Error::file(&self.folder.file("metrics.jsonl"), e.to_string(), "was it written by another version?")
        })
    }

    /// Measures the epoch that has just ended, and writes its line. The evaluation, where one was due.
    fn measure(&mut self, trainer: &Trainer) -> Result<Option<Evaluation>> {
        let epoch = trainer.position.epoch - 1;
        let evaluation =
            if self.context.recipe.evaluates_after(epoch) { Some(self.context.evaluate(trainer)?) } else { None };
        let (phase, tally) = (trainer.objective.phase(epoch), &trainer.tally);
        let report = EpochMetrics {
            phase,
            loss: tally.passes.last().map_or(f64::NAN, |pass| pass.loss),
            passes: &tally.passes,
            seconds: tally.seconds(),
            data_seconds: tally.data_seconds,
            skipped: tally.skipped,
            left_out: tally.left_out,
            passed_over: tally.passed_over,
            evaluation: evaluation.as_ref(),
            matches: tally.matches.finish(),
            split: trainer.objective.split().map(|(scores, split)| SplitSummary::new(&trainer.pairs, scores, split)),
            // As costly as an evaluation, and due when one is.
            similarity: match &evaluation {
                Some(_) => self.context.similarities(trainer)?,
                None => SimilarityHistogram::default(),
            },
        };
        self.journal.epoch(trainer, epoch, &report)?;
        Ok(evaluation)
    }

    fn summary(&self, trainer: &Trainer, evaluation: Evaluation) -> Result<Summary> {
        let recipe = self.context.recipe;
        let mut after = BTreeMap::new();
        for line in read_epochs(self.folder.path())? {
            if let Some(evaluation) = line.evaluation {
                after.insert(line.phase, PhaseEvaluation { epoch: line.epoch, evaluation });
            }
        }
        Ok(Summary {
            objective: trainer.objective.name().into(),
            seed: recipe.seed,
            epoch: recipe.train.epochs,
            phase: trainer.objective.phase(recipe.train.epochs),
            before: None,
            weights_moved: None,
            prompt: None,
            prompt_before: None,
            rebound: None,
            teacher: self.context.evaluate_teacher(trainer)?,
            teacher_attacked: recipe.distillation().and_then(|distil| is_attacked(&distil.teacher)),
            inheritance: BTreeMap::new(),
            triggers: self.context.trigger_measures(trainer)?,
            pairs: trainer.pairs.len(),
            poisoned_pairs: self.context.poisoned_pairs(trainer),
            poison_left_out: self.context.dropped.as_ref().map(|left_out| left_out.poisoned),
            evaluation,
            measured_on: self.context.measured_on(),
            data_fingerprint: Some(self.context.fingerprint.clone()),
            named: self.context.named.clone(),
            captions: None,
            after,
            linear_probe: self.context.probe(trainer)?,
            step: Some(trainer.position.step),
            seconds: self.journal.log.clock.seconds(),
            peak_memory_bytes: self.journal.log.clock.peak_memory_bytes(),
        }
        .with_inheritance())
    }
}
