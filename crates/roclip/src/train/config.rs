//! The settings of training.

use crate::train::optimizer::WeightDecayGroups;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    pub epochs: u64,
    /// Pairs an optimizer step; the incomplete last batch of an epoch is dropped.
    pub batch_size: usize,
    /// Peak of the schedule.
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub weight_decay_groups: WeightDecayGroups,
    pub warmup_steps: u64,
    /// 0; 1 is the released step counter, which skips the first epoch of the schedule.
    pub epoch_offset: u64,
    /// `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// libtorch's threads for one operation; 0 leaves it to libtorch.
    pub threads: i32,
    /// Save a checkpoint every so many steps, beside those after each epoch; 0 = only after epochs.
    pub save_every_steps: u64,
    /// Newest checkpoints kept. With two, a damaged one still has a whole one before it.
    pub keep_checkpoints: usize,
    pub log_every_steps: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            epochs: 32,
            batch_size: 512,
            learning_rate: 5e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            weight_decay_groups: WeightDecayGroups::ByRank,
            warmup_steps: 10_000,
            epoch_offset: 0,
            device: "cpu".into(),
            threads: 0,
            save_every_steps: 0,
            keep_checkpoints: 2,
            log_every_steps: 10,
        }
    }
}
