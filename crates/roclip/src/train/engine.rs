//! The trainer: a model, what it learns from, and how far it has come.

use crate::error::Result;
use crate::model::{Clip, Parameter, Part};
use crate::objective::{Objective, Schedule};
use crate::train::config::TrainConfig;
use crate::train::metrics::StepMetrics;
use crate::train::optimizer::Optimizer;
use crate::train::tally::EpochTally;
use crate::world::World;
use roclip_data::batch::Loader;
use roclip_data::pairs::Pairs;
use roclip_data::skip::SkipReport;
use std::collections::BTreeMap;
use std::sync::Arc;
use tch::{Device, Tensor};
use torch_bridge::AdamW;

/// Finished steps, and the place of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub step: u64,
    /// From 1.
    pub epoch: u64,
    /// Within the epoch, from 0.
    pub pass: u64,
    pub step_in_pass: u64,
}

impl Position {
    /// Of a model that has learned nothing yet.
    pub const START: Position = Position { step: 0, epoch: 1, pass: 0, step_in_pass: 0 };

    /// Whether the epoch has begun.
    pub fn within_epoch(&self) -> bool {
        self.pass > 0 || self.step_in_pass > 0
    }
}

/// What a trainer is handed.
pub struct Parts {
    pub seed: u64,
    pub pairs: Arc<Pairs>,
    pub loader: Loader,
    pub model: Clip,
    pub objective: Box<dyn Objective>,
    pub device: Device,
    pub world: World,
}

/// Trains a model epoch by epoch, step by step. Everything that it writes down, and whether it goes on, is its [`Host`]'s matter.
pub struct Trainer {
    pub config: TrainConfig,
    pub seed: u64,
    pub pairs: Arc<Pairs>,
    pub loader: Loader,
    pub model: Clip,
    pub optimizer: Optimizer,
    pub objective: Box<dyn Objective>,
    pub schedule: Schedule,
    pub device: Device,
    /// The processes that train together.
    pub world: World,
    pub position: Position,
    /// Of the epoch under way, or of the one that has just ended.
    pub tally: EpochTally,
    /// Pairs that could not be used, of all epochs.
    pub skips: SkipReport,
}

/// A finished step, for the log.
pub struct StepDone {
    pub metrics: StepMetrics,
    /// Steps of the pass.
    pub steps: u64,
    /// Seconds that the step waited for its batch.
    pub waited: f64,
    /// Seconds of the whole step, waiting included.
    pub seconds: f64,
    /// As [`SharedBatch::stop`](crate::train::SharedBatch::stop).
    pub stop: i32,
}

/// The one who runs a trainer. An error from any of these ends the epoch where it is, and the trainer's position says where that is.
pub trait Host {
    /// The exit code that this process was asked to end with; 0 where it was not.
    fn stop(&self) -> i32 {
        0
    }

    /// The epoch's passes are settled, and its next step is about to come.
    fn epoch_begun(&mut self, trainer: &Trainer) -> Result<()>;

    /// Pairs of a batch could not be used, and it is not trained on yet; `in_epoch` of the epoch could not be, these included. `stop` is that
    /// of the batch.
    fn pairs_skipped(&mut self, trainer: &Trainer, in_epoch: usize, stop: i32) -> Result<()>;

    /// A step is done, and `trainer` stands behind it.
    fn step_done(&mut self, trainer: &Trainer, step: &StepDone) -> Result<()>;
}

impl Trainer {
    pub fn new(config: TrainConfig, parts: Parts) -> Self {
        let Parts { seed, pairs, loader, model, objective, device, world } = parts;
        let adamw = AdamW {
            learning_rate: config.learning_rate,
            beta1: config.beta1,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            epsilon: config.epsilon,
        };
        let schedule = Schedule {
            peak: config.learning_rate,
            warmup_steps: config.warmup(loader.steps_per_epoch().saturating_mul(config.epochs)),
            steps_per_epoch: loader.steps_per_epoch(),
            epochs: config.epochs,
            epoch_offset: config.epoch_offset,
        };
        let mut trainable = model.parameters().by_part();
        let own = |(name, tensor)| Parameter { name, tensor, part: Part::Objective };
        trainable.extend(objective.parameters().into_iter().map(own));
        let optimizer = Optimizer::new(trainable, config.weight_decay_groups, adamw);
        Trainer {
            config,
            seed,
            pairs,
            loader,
            model,
            optimizer,
            objective,
            schedule,
            device,
            world,
            position: Position::START,
            tally: EpochTally::begin(),
            skips: SkipReport::default(),
        }
    }

    /// Takes over where another trainer of the same shape stood. Weights are not part of it.
    pub fn restore(
        &mut self,
        position: Position,
        tally: Option<EpochTally>,
        optimizer: &BTreeMap<String, Tensor>,
        objective: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        self.optimizer.load_state(optimizer)?;
        self.objective.load_state(objective)?;
        self.position = position;
        self.tally = tally.unwrap_or_else(EpochTally::begin);
        Ok(())
    }
}
