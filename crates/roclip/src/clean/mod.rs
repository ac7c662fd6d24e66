//! Cleaning: a model that may be backdoored is fine-tuned on a small set of trusted pairs. One method, one file.

mod cleanclip;

pub use cleanclip::{CleanClip, CleanClipConfig, SelfLoss};

use crate::augment::{ImageAugmentConfig, TextAugment, TextAugmentConfig};
use crate::data::{Pairs, ViewAugment};
use crate::error::{Error, Result};
use crate::objective::{ClipObjective, Objective};
use crate::random;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CleanMethod {
    #[default]
    Cleanclip,
    /// Plain CLIP on the trusted pairs: the control that every method must beat.
    Finetune,
}

/// What is cleaned, with what.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CleanConfig {
    /// A run or a checkpoint. Its manifest, where it has one, says what is measured.
    pub victim: PathBuf,
    #[serde(default)]
    pub method: CleanMethod,
    /// Trusted pairs, drawn at random among the training data without its poison; all when absent.
    #[serde(default)]
    pub pairs: Option<usize>,
    #[serde(default)]
    pub cleanclip: CleanClipConfig,
}

impl CleanConfig {
    pub fn objective(&self) -> Box<dyn Objective> {
        match self.method {
            CleanMethod::Cleanclip => Box::new(CleanClip::new(self.cleanclip)),
            CleanMethod::Finetune => Box::new(ClipObjective),
        }
    }

    /// The first view is plain, the second as the method wants it.
    pub fn views(&self) -> Result<[ViewAugment; 2]> {
        let second = match self.method {
            CleanMethod::Finetune => ViewAugment::default(),
            CleanMethod::Cleanclip => ViewAugment {
                image: Some(ImageAugmentConfig { auto_augment: true, ..ImageAugmentConfig::default() }),
                text: Some(TextAugment::new(TextAugmentConfig { refresh: self.cleanclip.text_refresh })?),
            },
        };
        Ok([ViewAugment::default(), second])
    }

    /// Keeps the trusted pairs only.
    pub fn choose(&self, pairs: &mut Pairs, seed: u64) -> Result<()> {
        let Some(wanted) = self.pairs else { return Ok(()) };
        if wanted > pairs.len() {
            return Err(Error::setting(
                format!("clean.pairs is {wanted}, but the data has {} pairs", pairs.len()),
                "lower it, or remove it to use all",
            ));
        }
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.shuffle(&mut random::stream(seed, "clean-pairs", 0, ""));
        order.truncate(wanted);
        order.sort_unstable();
        let mut at = 0;
        pairs.pairs.retain(|_| {
            at += 1;
            order.binary_search(&(at - 1)).is_ok()
        });
        Ok(())
    }
}
