//! The settings of training.

use crate::error::{Error, Result};
use crate::train::optimizer::WeightDecayGroups;
use crate::train::precision::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rows that BatchNorm takes its statistics from where several processes train together. One process has the whole batch either way. With
/// `encode_batch_size` they are those that are encoded at once, which several processes have to ask for by `per-process`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormRows {
    /// Those of the whole batch, as in one process.
    #[default]
    WholeBatch,
    /// Each process its own, as DistributedDataParallel does without SyncBatchNorm: less to exchange, and another training.
    PerProcess,
}

/// The optimizer, its schedule, and the machine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the pairs.
    pub epochs: u64,
    /// Pairs of an optimizer step; the incomplete last batch of an epoch is dropped.
    pub batch_size: usize,
    /// Pairs of a batch that are encoded at once, all when absent: the gradient of the whole batch in the memory of so many pairs, for one
    /// more forward pass (GradCache; open_clip's `--accum-freq`). BatchNorm takes its statistics from these pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 64)]
    pub encode_batch_size: Option<usize>,
    /// Gradient checkpointing (open_clip's `--grad-checkpointing`): the same gradient in the memory of one block's activations and the inputs of
    /// all blocks, for about one more forward pass (two with `encode_batch_size`).
    pub gradient_checkpointing: bool,
    /// Peak learning rate of the schedule: a linear warm-up, then a cosine to 0.
    pub learning_rate: f64,
    /// AdamW's decay of the mean of gradients.
    pub beta1: f64,
    /// AdamW's decay of the mean of squared gradients; 0.98 is usual for vision transformers.
    pub beta2: f64,
    /// AdamW's epsilon, which keeps its division away from 0.
    pub epsilon: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub weight_decay_groups: WeightDecayGroups,
    /// L2 norm to which a longer gradient of all parameters is scaled down (open_clip's `--grad-clip-norm`). The log has the norm before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1.0)]
    pub gradient_clip_norm: Option<f64>,
    /// Steps over which the learning rate rises to its peak; give this or `warmup_fraction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 10000)]
    pub warmup_steps: Option<u64>,
    /// The same as a share of all steps of the run, 0 up to 1; 0.1 when neither is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.1)]
    pub warmup_fraction: Option<f64>,
    /// Epochs by which the step counter of the schedule is ahead; 1 is the released counter, which skips the first epoch of the schedule.
    pub epoch_offset: u64,
    /// Several processes: the rows that BatchNorm takes its statistics from.
    pub batch_norm: BatchNormRows,
    /// Several processes: seconds to wait for the others at the start and in each exchange before the run ends with an error.
    pub collective_timeout_seconds: u64,
    /// `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// What the towers compute in while they train; weights, moments and losses stay in 32 bits.
    pub precision: Precision,
    /// Threads of libtorch for one operation; 0 leaves it to libtorch, which takes all cores: name fewer where others use the machine, too.
    pub threads: i32,
    /// Steps between checkpoints, beside those after each epoch; 0 saves only after epochs.
    pub save_every_steps: u64,
    /// Number of the newest checkpoints that are kept. With two, a damaged one still has a whole one before it.
    pub keep_checkpoints: usize,
    /// Steps between lines of the log.
    pub log_every_steps: u64,
}

/// [`TrainConfig::warmup_fraction`] where a recipe gives neither it nor steps.
const WARMUP_FRACTION: f64 = 0.1;

impl TrainConfig {
    /// Steps that warm up in a run of `steps` steps.
    pub fn warmup(&self, steps: u64) -> u64 {
        let share = || (self.warmup_fraction.unwrap_or(WARMUP_FRACTION) * steps as f64).round() as u64;
        self.warmup_steps.unwrap_or_else(share)
    }

    /// Whether the warm-up of a run of `steps` steps is not over when the run is.
    pub fn warmup_never_ends(&self, steps: u64) -> bool {
        self.warmup(steps) >= steps
    }

    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// Where both `warmup_steps` and `warmup_fraction` are given, and where more pairs are to be encoded at once than a batch has.
    pub fn check(&self) -> Result<()> {
        if let Some(at_once) = self.encode_batch_size.filter(|at_once| *at_once > self.batch_size) {
            return Err(Error::setting(
                format!(
                    "train.encode_batch_size is {at_once}, and train.batch_size {}: a batch has no more pairs to encode at once",
                    self.batch_size
                ),
                "lower the first, raise the second, or take the first out (--set train.encode_batch_size=) to encode whole batches",
            ));
        }
        match (self.warmup_steps, self.warmup_fraction) {
            (Some(steps), Some(fraction)) => Err(Error::setting(
                format!("train.warmup_steps is {steps}, and train.warmup_fraction {fraction}: a run has one warm-up"),
                "remove one of the two from the recipe (--set train.warmup_steps= takes it out), or give --warmup, which sets one and removes the other",
            )),
            _ => Ok(()),
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            epochs: 32,
            batch_size: 512,
            encode_batch_size: None,
            gradient_checkpointing: false,
            learning_rate: 5e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            weight_decay_groups: WeightDecayGroups::ByRank,
            gradient_clip_norm: None,
            warmup_steps: None,
            warmup_fraction: None,
            epoch_offset: 0,
            batch_norm: BatchNormRows::WholeBatch,
            collective_timeout_seconds: 1800,
            device: "cpu".into(),
            precision: Precision::Fp32,
            threads: 0,
            save_every_steps: 0,
            keep_checkpoints: 2,
            log_every_steps: 10,
        }
    }
}
