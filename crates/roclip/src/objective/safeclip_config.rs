//! SafeCLIP's settings: the defaults, the release's, and what they may be.

use crate::error::{Error, Result};
use crate::objective::{PlausibilityConfig, Pool, PosteriorGuard, RingWrite, SafeClipSchedule, SplitConfig};
use crate::settings;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SafeClipConfig {
    /// A.
    pub unimodal_epochs: u64,
    /// Steps of the slow CLIP epoch, which may be more than one pass over the data; one pass when absent, as released. Small data
    /// needs more: what counts is the number of steps, not of passes.
    pub slow_steps: Option<u64>,
    /// Released: 5e-6.
    pub slow_learning_rate: f64,
    /// Peak of the unimodal and risky passes; the run's learning rate when absent.
    pub unimodal_learning_rate: Option<f64>,
    pub schedule: SafeClipSchedule,
    /// Share of the split epochs that warms up, in the corrected schedule.
    pub warmup_share: f64,
    /// P of both pools. Give this or `pool_fraction`.
    pub pool_size: Option<usize>,
    /// P as a share of the pairs; 0.02 when neither is given.
    pub pool_fraction: Option<f64>,
    /// Unit or raw noise in the first pools, as released raw; otherwise steps without a full pool contrast the views directly.
    pub noise_pools: bool,
    pub ring_write: RingWrite,
    pub split: SplitConfig,
    /// As released, similarities are scored through a fresh random augmentation; otherwise on plain pairs.
    pub score_augmented: bool,
    /// Ours: split by how plausible each pair is beside all others, not by its similarity alone, which poison that has been learned has, too.
    pub plausibility: Option<PlausibilityConfig>,
    /// Train each modality alone on risky pairs.
    pub risky_training: bool,
    /// Ours: slow and safe steps take one view and the symmetric CLIP loss, half the work of the released cross-view loss.
    pub single_view: bool,
    /// As released, the two views of a unimodal step go through the image tower in one forward pass, so that BatchNorm sees both;
    /// otherwise the first one, which only feeds the pools, goes alone and without a graph, at half the work of the way back.
    pub joint_views: bool,
    /// Split anew every so many epochs (the released code has the setting, and splits every epoch all the same).
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
