//! Cleaning: a model that may be backdoored is fine-tuned on a small set of trusted pairs. One method, one file.

mod abd;
mod cleanclip;
mod par;
mod rebound;
mod supervised;
mod ta_cleaner;

pub use abd::{AbdConfig, PatchPlace};
pub use cleanclip::{CleanClip, CleanClipConfig, SelfLoss};
pub use par::{Par, ParConfig};
pub use rebound::{HarmlessTuning, ReboundConfig};
pub use supervised::Supervised;
pub use ta_cleaner::{TaCleaner, TaCleanerConfig};

use crate::error::{Error, Result};
use crate::objective::{ClipObjective, Objective, RunShape};
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::augment::{ImageAugmentConfig, SubCaptions, TextAugment, TextAugmentConfig};
use roclip_data::batch::{Overlay, ViewAugment};
use roclip_data::pairs::Pairs;
use roclip_data::random;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CleanMethod {
    #[default]
    Cleanclip,
    /// CleanCLIP with sub-captions; reconstructed.
    TaCleaner,
    /// An adversarial patch, then CLIP on patched pairs; reconstructed.
    Abd,
    Par,
    /// A classifier and the image tower on labelled images; the text tower rests.
    Supervised,
    /// Plain CLIP on the trusted pairs: the control that every method must beat.
    Finetune,
}

impl CleanMethod {
    /// Every method with its name and what it does, for a command line.
    pub const ALL: [(CleanMethod, &'static str, &'static str); 6] = [
        (CleanMethod::Cleanclip, "cleanclip", "CLIP loss and in-modal losses against AutoAugment and EDA views"),
        (
            CleanMethod::TaCleaner,
            "ta-cleaner",
            "CleanCLIP with sub-captions and counterfactuals (reconstructed: its equations are not public)",
        ),
        (
            CleanMethod::Abd,
            "abd",
            "An adversarial patch, then CLIP on patched pictures and EDA captions (reconstructed: no public code)",
        ),
        (CleanMethod::Par, "par", "Push features away from the victim's, and recover"),
        (
            CleanMethod::Supervised,
            "supervised",
            "A linear classifier and the image tower on labelled trusted images; measured by the classifier",
        ),
        (CleanMethod::Finetune, "finetune", "Plain CLIP on the trusted pairs, the control"),
    ];
}

/// What is cleaned, with what.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct CleanConfig {
    /// A run or a checkpoint; `roclip clean` sets it. Its manifest, where it has one, says what is measured.
    #[serde(default)]
    pub victim: PathBuf,
    #[serde(default)]
    pub method: CleanMethod,
    /// Trusted pairs, drawn at random among the training data without its poison; all when absent.
    #[serde(default)]
    pub pairs: Option<usize>,
    /// Of `ta-cleaner`, too.
    #[serde(default)]
    pub cleanclip: CleanClipConfig,
    #[serde(default)]
    pub ta_cleaner: TaCleanerConfig,
    #[serde(default)]
    pub abd: AbdConfig,
    #[serde(default)]
    pub par: ParConfig,
    /// Absent = no rebound test.
    #[serde(default)]
    pub rebound: Option<ReboundConfig>,
}

impl CleanConfig {
    /// Of a run of this shape on `pairs`; `classes` are the evaluation's.
    pub fn objective(&self, shape: RunShape, pairs: &Pairs, classes: &[String]) -> Box<dyn Objective> {
        match self.method {
            CleanMethod::Cleanclip => Box::new(CleanClip::new(self.cleanclip)),
            CleanMethod::TaCleaner => Box::new(TaCleaner::new(self.ta_cleaner, self.cleanclip)),
            CleanMethod::Par => Box::new(Par::new(self.par, shape.epochs, shape.learning_rate)),
            CleanMethod::Supervised => {
                Box::new(Supervised::new(pairs, classes, shape.embed_dim, shape.seed, shape.device))
            }
            CleanMethod::Abd | CleanMethod::Finetune => Box::new(ClipObjective),
        }
    }

    /// What the first and the second view go through. `patch` is what [`AbdConfig::search`] found, for the method that needs one.
    pub fn views(&self, patch: Option<RgbImage>, image_size: u32) -> Result<[ViewAugment; 2]> {
        let plain = ViewAugment::default;
        Ok(match self.method {
            CleanMethod::Finetune | CleanMethod::Supervised => [plain(), plain()],
            CleanMethod::Cleanclip | CleanMethod::TaCleaner => {
                let image = Some(ImageAugmentConfig { auto_augment: true, ..ImageAugmentConfig::default() });
                let text = Some(TextAugment::new(TextAugmentConfig { refresh: self.cleanclip.text_refresh })?);
                [plain(), ViewAugment { image, text, ..plain() }]
            }
            CleanMethod::Par => [ViewAugment { overlay: Some(Overlay::Perturb(self.par.perturb)), ..plain() }, plain()],
            CleanMethod::Abd => {
                let patch = patch.ok_or_else(|| Error::internal("abd needs its patch"))?;
                [self.abd.view(patch, image_size)?, plain()]
            }
        })
    }

    /// What makes sub-captions, and of how many pairs of a batch, for the method that learns from them.
    pub fn sub_captions(&self, pairs: &Pairs) -> Result<Option<(Arc<SubCaptions>, usize)>> {
        if self.method != CleanMethod::TaCleaner {
            return Ok(None);
        }
        let captions = pairs.pairs.iter().flat_map(|pair| &pair.captions).map(String::as_str);
        Ok(Some((Arc::new(SubCaptions::new(captions)?), self.ta_cleaner.pairs_per_batch)))
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
