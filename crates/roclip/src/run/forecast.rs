//! What a run would take: it is begun as a run is, takes a few steps in memory, and writes nothing.

use crate::error::{Error, Result};
use crate::eval::NO_IMAGES;
use crate::recipe::{ObjectiveName, Recipe};
use crate::run::build::build;
use crate::run::clean::without_search;
use crate::run::clock::peak_memory_bytes;
use crate::run::device::machine;
use crate::run::kind::{RUN_FLAG, RunKind};
use crate::run::resume::{Start, checkpoint_to_take};
use crate::run::session::prepare;
use crate::train::{Host, Precision, StepDone, Trainer};
use crate::world::{Launch, World};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// Steps that are measured, after one that is not: the first one pays for what later ones find done.
const MEASURED: usize = 3;

/// What a run would take.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The line that the run would begin with.
    pub banner: String,
    pub pairs: usize,
    pub poisoned_pairs: usize,
    pub epochs: u64,
    pub steps: u64,
    /// Steps that are left of it, where it goes on from a checkpoint.
    pub steps_left: u64,
    pub warmup_steps: u64,
    pub precision: Precision,
    /// Pairs of a batch that are encoded at once; none where all are.
    pub encode_batch_size: Option<usize>,
    /// Mean of the measured steps, waiting for pictures included; none where an epoch has no step to spare.
    pub step_seconds: Option<f64>,
    pub measured_steps: usize,
    pub evaluations: u64,
    /// Of one evaluation, by the pace of a few prompts and images.
    pub evaluation_seconds: f64,
    /// The most resident memory so far.
    pub peak_memory_bytes: u64,
    /// What decoded pictures may still take.
    pub cache_bytes: u64,
    pub checkpoint_bytes: u64,
    pub kept_checkpoints: usize,
    /// What the figures leave out.
    pub without: Vec<String>,
}

impl Forecast {
    /// Seconds of the steps and evaluations that are left; none where no step was measured.
    pub fn seconds(&self) -> Option<f64> {
        let training = self.step_seconds? * self.steps_left as f64;
        Some(training + self.evaluations as f64 * self.evaluation_seconds)
    }
}

/// Does everything that [`train`](crate::run::train) does before it writes the first file, and takes a few steps to see what the run would take.
///
/// # Errors
/// Those that the run would begin with.
pub fn check(recipe: &Recipe, run: &Path, start: Start, progress: &mut dyn FnMut(&str)) -> Result<Forecast> {
    recipe.check_training()?;
    RunKind::Training.check(run, RUN_FLAG)?;
    let from = checkpoint_to_take(recipe, run, start)?;
    let device = machine(recipe)?;
    let prepared = prepare(recipe, progress)?;
    let plain = without_search(recipe);
    let (mut trainer, context) = build(&plain, prepared, (device, &World::alone()), run, progress)?;
    let banner = context.banner(&trainer);
    let mut stopwatch = Stopwatch { seconds: Vec::new() };
    match trainer.epoch(&mut stopwatch) {
        Ok(()) | Err(Error::Stopped { .. }) => {}
        Err(error) => return Err(error),
    }
    let measured: Vec<f64> = stopwatch.seconds.split_first().map(|(_, later)| later.to_vec()).unwrap_or_default();
    let steps = trainer.schedule.steps_per_epoch.saturating_mul(recipe.train.epochs);
    let done = from.as_deref().and_then(step_of).unwrap_or(0);
    let backdoors = context.manifest.as_ref().map_or(0, |manifest| manifest.backdoors().len());
    let evaluation_seconds = context.evaluator.seconds(&trainer.model, &context.tokenizer, backdoors)?;
    let epochs_done = done / trainer.schedule.steps_per_epoch.max(1);
    let evaluates = |epoch: &u64| recipe.evaluates_after(*epoch) && recipe.eval.source.path != NO_IMAGES;
    let evaluations = (epochs_done + 1..=recipe.train.epochs).filter(evaluates).count();
    Ok(Forecast {
        banner,
        pairs: trainer.pairs.len(),
        poisoned_pairs: context.poisoned_pairs(&trainer),
        epochs: recipe.train.epochs,
        steps,
        steps_left: steps.saturating_sub(done),
        warmup_steps: trainer.schedule.warmup_steps,
        precision: recipe.train.precision,
        encode_batch_size: recipe.train.encode_batch_size,
        step_seconds: (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64),
        measured_steps: measured.len(),
        evaluations: evaluations as u64,
        evaluation_seconds,
        peak_memory_bytes: peak_memory_bytes(),
        cache_bytes: recipe.data.cache_mib << 20,
        checkpoint_bytes: checkpoint_bytes(&trainer),
        kept_checkpoints: recipe.train.keep_checkpoints,
        without: left_out(recipe),
    })
}

/// The step of a checkpoint's folder.
fn step_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.strip_prefix("step_")?.parse().ok()
}

/// What the figures of a recipe's forecast do not have in them.
fn left_out(recipe: &Recipe) -> Vec<String> {
    let mut found = vec!["saving checkpoints".to_owned()];
    if recipe.eval.probe.is_some() {
        found.push("the linear probe after the last epoch".to_owned());
    }
    if recipe.clean.is_none() {
        match recipe.objective.name {
            ObjectiveName::Clip | ObjectiveName::Classifier | ObjectiveName::Distil => {}
            ObjectiveName::Roclip => found
                .push("the pool, which matching epochs search (memory, time, and its part of a checkpoint)".to_owned()),
            ObjectiveName::Safeclip => {
                found.push("SafeCLIP's splits, and that its epochs have other numbers of steps (all are counted as whole passes)".to_owned());
            }
        }
    }
    // A launcher's variables that make no sense are the run's own error.
    if let Ok(Some(launch)) = Launch::from_environment() {
        found.push(format!(
            "that WORLD_SIZE is {}: this is one process alone with whole batches of {} pairs, of which each process would have a share",
            launch.size, recipe.train.batch_size
        ));
    }
    if recipe.train.device != "cpu" {
        found.push(format!("memory of `{}`", recipe.train.device));
    }
    found
}

/// Weights, moments and what the objective keeps; the text files beside them are small.
fn checkpoint_bytes(trainer: &Trainer) -> u64 {
    let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    let sum = |tensors: BTreeMap<String, Tensor>| tensors.values().map(bytes).sum::<u64>();
    sum(trainer.model.parameters().all()) + sum(trainer.optimizer.state()) + sum(trainer.objective.state())
}

/// Ends an epoch after the steps that are to be measured.
struct Stopwatch {
    seconds: Vec<f64>,
}

impl Host for Stopwatch {
    fn epoch_begun(&mut self, _: &Trainer) -> Result<()> {
        Ok(())
    }

    fn pairs_skipped(&mut self, _: &Trainer, _: usize, _: i32) -> Result<()> {
        Ok(())
    }

    fn step_done(&mut self, trainer: &Trainer, done: &StepDone) -> Result<()> {
        self.seconds.push(done.seconds);
        match self.seconds.len() > MEASURED {
            true => Err(Error::Stopped { run: Default::default(), step: trainer.position.step }),
            false => Ok(()),
        }
    }
}
