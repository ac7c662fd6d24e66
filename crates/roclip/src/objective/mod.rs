//! Training objectives. Each paper is one file; adding one touches that file, and the list of `registry.rs`.

mod agreement;
mod best_rows;
mod caption;
mod classifier;
mod clip;
mod dip;
mod distil;
#[cfg(test)]
pub(crate) mod known_towers;
mod loss;
mod mixture;
mod pool;
mod registry;
mod roclip;
mod safeclip;
mod safeclip_config;
mod safeclip_schedule;
mod schedule;
mod split;
mod supervision;
mod towers;

pub use agreement::PlausibilityConfig;
pub use caption::{CaptionConfig, CaptionObjective, ImageTower};
pub use classifier::ClassifierObjective;
pub use clip::ClipObjective;
pub use distil::{DistilConfig, DistilLoss, DistilObjective};
pub use loss::{cross_entropy_of, cross_entropy_rows, info_nce, info_nce_of};
pub use mixture::{Component, Mixture, PosteriorGuard};
pub use pool::{Pool, RingWrite};
pub use registry::{ObjectiveConfig, ObjectiveName, Registered};
pub use roclip::{PoolInit, PoolUpdate, RoClip, RoClipConfig, TextInMatch};
pub use safeclip::SafeClip;
pub use safeclip_config::SafeClipConfig;
pub use safeclip_schedule::SafeClipSchedule;
pub use schedule::Schedule;
pub(crate) use schedule::warmup_cosine;
pub use split::{Split, SplitConfig, Unseparated, split};
pub use supervision::{Supervision, Teacher, TeacherClassifier};
pub use towers::{BatchView, Inputs, SubCaptionFeatures, Towers};

use crate::error::{Result, TorchContext};
use crate::model::captioner::Captioner;
use crate::model::{Head, Part};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use tch::{Device, Tensor};

/// The kind of a pass over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Each image with its own caption.
    Clip,
    /// Each image with the nearest caption of a pool (RoCLIP).
    Matching,
    /// Each modality with itself, through pools (SafeCLIP's warm-up).
    Unimodal,
    /// CLIP at a rate so low that poison is not learned yet (SafeCLIP).
    SlowClip,
    /// Unimodal, on the pairs that are not trusted (SafeCLIP).
    Risky,
    /// CLIP on the pairs that are trusted (SafeCLIP, there across views).
    Safe,
    /// Each image with its label (classifiers).
    Labels,
    /// Each image with what a teacher makes of it (distillation).
    Distillation,
    /// Each caption word by word, from its image.
    Caption,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Phase::Clip => "clip",
            Phase::Matching => "matching",
            Phase::Unimodal => "unimodal",
            Phase::SlowClip => "slow-clip",
            Phase::Risky => "risky",
            Phase::Safe => "safe",
            Phase::Labels => "labels",
            Phase::Distillation => "distillation",
            Phase::Caption => "caption",
        })
    }
}

/// One pass over pairs, in an order that the loop draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    pub phase: Phase,
    /// Indices of the pairs; none = all.
    pub pairs: Option<Vec<usize>>,
    /// Stop after so many steps; none = the whole pass.
    pub max_steps: Option<u64>,
    /// The loader makes [`BatchView::Second`], too.
    pub two_views: bool,
}

impl Pass {
    /// All pairs once, one view of each.
    pub fn whole(phase: Phase) -> Pass {
        Pass { phase, pairs: None, max_steps: None, two_views: false }
    }

    /// All pairs once, two views of each.
    pub fn whole_in_two_views(phase: Phase) -> Pass {
        Pass { two_views: true, ..Pass::whole(phase) }
    }
}

/// The update that a step gives to the parameters of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Those that have a gradient move by it.
    ByGradient,
    /// A missing gradient counts as zero, so momentum and weight decay still move the weights.
    ByGradientOrZero,
    /// The optimizer leaves them alone.
    Rest,
}

/// The position of a step, for learning rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub phase: Phase,
    /// From 1.
    pub epoch: u64,
    /// From 0, within the pass.
    pub step: u64,
    /// Of the pass.
    pub steps: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LearningRate {
    /// The run's schedule, times this.
    Scheduled(f64),
    Absolute(f64),
}

/// The pool row that an image was matched with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    pub pair: usize,
    /// The pair whose caption it is; none for rows that are no caption.
    pub neighbour: Option<usize>,
    pub similarity: f32,
}

/// The pool rows that images were matched with, as the device has them.
pub struct Matches {
    /// Of each image.
    pub pairs: Vec<usize>,
    /// `[images]`: the pair whose caption the row is; -1 for rows that are no caption.
    pub owners: Tensor,
    /// `[images]`.
    pub similarities: Tensor,
}

impl Matches {
    /// Waits until the device has found them.
    pub fn read(&self) -> Result<Vec<Match>> {
        let owners: Vec<i64> = Vec::try_from(&self.owners).torch("reading pool owners")?;
        let similarities: Vec<f32> = Vec::try_from(&self.similarities).torch("reading similarities")?;
        let found = self.pairs.iter().zip(owners).zip(similarities);
        let found = found.map(|((pair, owner), similarity)| Match {
            pair: *pair,
            neighbour: usize::try_from(owner).ok(),
            similarity,
        });
        Ok(found.collect())
    }
}

pub struct LossOutput {
    /// Scalar, with graph.
    pub loss: Tensor,
    /// In matching steps, of each pair of the batch. To be read when the backward pass is under way.
    pub matches: Option<Matches>,
}

/// Features of all pairs that can be read. Unit features `[pairs, dim]`.
pub struct AllFeatures {
    /// The pair of each row.
    pub pairs: Vec<usize>,
    /// A number for the picture of each row: equal for copies of one picture, re-encoded ones as a rule included.
    pub pictures: Vec<i64>,
    pub image: Tensor,
    pub text: Tensor,
}

/// The towers as they stand, in evaluation mode and without graph.
pub trait Encode {
    /// Unit features `[pairs, dim]` of the captions of `pairs` without augmentation. Their pictures are not looked at.
    fn captions(&mut self, pairs: &[usize]) -> Result<Tensor>;

    /// Cosine similarity of image and own caption of every pair, by index. `augmented` looks through one draw of the training
    /// augmentation. A pair that cannot be read has none.
    fn similarities(&mut self, augmented: bool) -> Result<Vec<f64>>;

    /// Features of every pair without augmentation.
    fn features(&mut self) -> Result<AllFeatures>;
}

/// The facts about a run that an objective may know.
#[derive(Debug, Clone, Copy)]
pub struct RunShape {
    pub seed: u64,
    pub epochs: u64,
    pub pairs: usize,
    pub batch_size: usize,
    pub embed_dim: i64,
    pub learning_rate: f64,
    pub warmup_steps: u64,
    pub device: Device,
}

/// A training objective: decides, and leaves all I/O to the loop.
pub trait Objective {
    fn name(&self) -> &'static str;

    /// The passes of `epoch` (from 1), in order; by default all pairs once. Valid after [`Objective::begin_epoch`] of that epoch.
    fn passes(&self, epoch: u64) -> Vec<Pass> {
        vec![Pass::whole(self.phase(epoch))]
    }

    /// What `epoch` ends with.
    fn phase(&self, _epoch: u64) -> Phase {
        Phase::Clip
    }

    /// The update that steps of `phase` give to the parameters of `part`.
    fn update(&self, _phase: Phase, _part: Part) -> Update {
        Update::ByGradient
    }

    /// Trainable tensors of its own, beside the model's: [`Part::Objective`]. No name may be one of the model's.
    fn parameters(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// A classifier that stands in for class prompts when the model is measured.
    fn head(&self) -> Option<&Head> {
        None
    }

    /// The model that it learns from, where there is one.
    fn teacher(&self) -> Option<&Teacher> {
        None
    }

    /// The captioner that it trains on top of the image tower.
    fn captioner(&self) -> Option<&Captioner> {
        None
    }

    fn learning_rate(&self, _place: Place) -> LearningRate {
        LearningRate::Scheduled(1.0)
    }

    /// Called before the first step of each epoch (not again when a run resumes within it).
    fn begin_epoch(&mut self, _epoch: u64, _pairs: usize, _encode: &mut dyn Encode) -> Result<()> {
        Ok(())
    }

    /// The loss of a step, from what it asks the towers for.
    fn loss(&mut self, phase: Phase, towers: &dyn Towers) -> Result<LossOutput>;

    /// The scores and the split that this epoch trains on, where there is one.
    fn split(&self) -> Option<(&[f64], &Split)> {
        None
    }

    /// Everything a resumed run needs beside weights and optimizer.
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    fn load_state(&mut self, _state: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
