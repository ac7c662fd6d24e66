//! SafeCLIP's settings: the defaults, the release's, and what they may be.

use crate::error::{Error, Result};
use crate::objective::{PlausibilityConfig, Pool, PosteriorGuard, RingWrite, SafeClipSchedule, SplitConfig};
use crate::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// SafeCLIP's settings. The defaults mend the faults of the released code, each named at its switch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SafeClipConfig {
    /// A: epochs at the start that train each modality alone.
    pub unimodal_epochs: u64,
    /// Steps of the slow CLIP epoch, which may be more than one pass over the data; one pass when absent, as released. Small data needs
    /// more: what counts is the number of steps, not of passes.
    #[schemars(example = 500)]
    pub slow_steps: Option<u64>,
    /// Learning rate of the slow CLIP epoch (released: 5e-6).
    pub slow_learning_rate: f64,
    /// Peak learning rate of the unimodal and risky passes; that of the run when absent.
    #[schemars(example = 5e-4)]
    pub unimodal_learning_rate: Option<f64>,
    /// How the learning rate moves.
    pub schedule: SafeClipSchedule,
    /// Share of the split epochs that warms up, in the corrected schedule.
    pub warmup_share: f64,
    /// Rows of both pools (P); give this or `pool_fraction`.
    #[schemars(example = 21845)]
    pub pool_size: Option<usize>,
    /// Rows of both pools as a share of the pairs; 0.02 when neither is given.
    #[schemars(example = 0.02)]
    pub pool_fraction: Option<f64>,
    /// Whether the first pools are raw noise, as released; otherwise steps without a full pool contrast the views directly.
    pub noise_pools: bool,
    /// What happens to a batch that does not fit before the end of a pool.
    pub ring_write: RingWrite,
    /// How the pairs are split into safe and risky ones.
    pub split: SplitConfig,
    /// Whether similarities are scored through a fresh random augmentation, as released; otherwise on plain pairs.
    pub score_augmented: bool,
    /// Ours: the split is by how plausible each pair is beside all others, not by its similarity alone, which poison that has been learned
    /// has, too; off when absent.
    pub plausibility: Option<PlausibilityConfig>,
    /// Whether each modality is trained alone on risky pairs.
    pub risky_training: bool,
    /// Ours: whether slow and safe steps take one view and the symmetric CLIP loss, half the work of the released cross-view loss.
    pub single_view: bool,
    /// Whether the two views of a unimodal step go through the image tower in one forward pass, as released, so that BatchNorm sees both.
    /// Otherwise the first one, which only feeds the pools, goes alone and without a graph, at half the work of the way back.
    pub joint_views: bool,
    /// Epochs between two splits. The released code has the setting, and splits every epoch all the same.
    pub split_every: u64,
}

impl Default for SafeClipConfig {
    fn default() -> Self {
        SafeClipConfig {
            unimodal_epochs: 5,
            slow_steps: None,
            slow_learning_rate: 5e-6,
            unimodal_learning_rate: None,
            schedule: SafeClipSchedule::Corrected,
            warmup_share: 0.02,
            pool_size: None,
            pool_fraction: None,
            noise_pools: false,
            ring_write: RingWrite::Wrap,
            split: SplitConfig::default(),
            score_augmented: false,
            plausibility: None,
            risky_training: true,
            single_view: false,
            joint_views: false,
            split_every: 1,
        }
    }
}

impl SafeClipConfig {
    /// The release's behaviour, faults included.
    pub fn released() -> Self {
        SafeClipConfig {
            schedule: SafeClipSchedule::AsReleased,
            noise_pools: true,
            ring_write: RingWrite::Truncate,
            split: SplitConfig {
                guard: PosteriorGuard::Off,
                min_separation: 0.0,
                dip_test: false,
                ..SplitConfig::default()
            },
            score_augmented: true,
            joint_views: true,
            ..SafeClipConfig::default()
        }
    }

    /// Refuses numbers that it cannot train with.
    pub fn check(&self) -> Result<()> {
        let key = |name: &str| format!("objective.safeclip.{name}");
        settings::count(&key("unimodal_epochs"), self.unimodal_epochs, 0, settings::MANY)?;
        if let Some(steps) = self.slow_steps {
            settings::count(&key("slow_steps"), steps, 1, settings::MANY)?;
        }
        settings::not_negative(&key("slow_learning_rate"), self.slow_learning_rate)?;
        if let Some(rate) = self.unimodal_learning_rate {
            settings::not_negative(&key("unimodal_learning_rate"), rate)?;
        }
        settings::share(&key("warmup_share"), self.warmup_share)?;
        Pool::check("objective.safeclip", self.pool_size, self.pool_fraction)?;
        settings::count(&key("split_every"), self.split_every, 1, settings::MANY)?;
        self.split.check()?;
        let Some(plausibility) = &self.plausibility else { return Ok(()) };
        plausibility.check()?;
        if self.score_augmented {
            return Err(Error::setting(
                "objective.safeclip: plausibility looks at plain pairs, and score_augmented is set",
                "remove one of the two",
            ));
        }
        Ok(())
    }
}
