//! How evaluation images are read.

use crate::error::Result;
use roclip_data::picture::ImageLimits;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::{SourceConfig, list_samples};
use roclip_data::survey::HELD_OUT;
use std::collections::BTreeSet;

/// The settings of `data` that hold for evaluation images, too.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub limits: ImageLimits,
    /// Threads that decode.
    pub workers: usize,
    /// More than this share of the images that cannot be used is an error.
    pub max_skip_fraction: f64,
}

/// What training splits are called.
const TRAINING: [&str; 2] = ["train", "training"];

/// Whether `sample` is of a split for training, by its name.
pub(crate) fn is_for_training(sample: &Sample) -> bool {
    sample.split.as_ref().is_some_and(|own| TRAINING.iter().any(|word| own.eq_ignore_ascii_case(word)))
}

/// Images of an evaluation, of which some or all have labels.
pub(crate) struct Labelled {
    pub samples: Vec<Sample>,
    /// Of the training split beside them.
    pub training: Vec<Sample>,
    pub skips: SkipReport,
    /// What a person should know of the choice.
    pub note: Option<String>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { limits: ImageLimits::default(), workers: 1, max_skip_fraction: 0.05 }
    }
}

impl Reading {
    /// The samples of `source`, which the recipe names at `key`, whose pictures are there and have a header that can be one.
    ///
    /// # Errors
    /// When too large a share of the source cannot be used.
    pub fn samples(&self, source: &SourceConfig, key: &str) -> Result<(Vec<Sample>, SkipReport)> {
        let mut listing = list_samples(source, self.limits)?;
        listing.probe(self.limits, self.workers);
        listing.check_losses(self.max_skip_fraction, &format!("evaluation ({key})"))?;
        Ok((listing.samples, listing.skips))
    }

    /// The labelled images of an evaluation. Where no split is asked for and the source has several, those of the test split (else of the
    /// validation split), and the training split's beside them, whose pictures are not looked at.
    pub(crate) fn labelled(&self, source: &SourceConfig) -> Result<Labelled> {
        let mut listing = list_samples(source, self.limits)?;
        let (mut training, mut note) = (Vec::new(), None);
        if source.split.is_none() {
            let splits: BTreeSet<String> = listing.samples.iter().filter_map(|s| s.split.clone()).collect();
            let named = |wanted: &&str| splits.iter().find(|split| split.eq_ignore_ascii_case(wanted));
            if let (Some(chosen), true) = (HELD_OUT.iter().find_map(named), splits.len() > 1) {
                listing.forget_losses_beside(chosen);
                let all = std::mem::take(&mut listing.samples);
                for sample in all {
                    if sample.split.as_ref() == Some(chosen) {
                        listing.samples.push(sample);
                    } else if is_for_training(&sample) {
                        training.push(sample);
                    }
                }
                note = Some(format!(
                    "`{}` has the splits `{}`: its `{chosen}` is measured ({} images)",
                    source.path,
                    splits.iter().cloned().collect::<Vec<_>>().join("`, `"),
                    listing.samples.len()
                ));
            }
        }
        listing.probe(self.limits, self.workers);
        listing.check_losses(self.max_skip_fraction, "evaluation (eval.source)")?;
        Ok(Labelled { samples: listing.samples, training, skips: listing.skips, note })
    }

    /// [`Reading::samples`] without a look at the pictures, for data whose captions are wanted alone.
    pub fn captions(&self, source: &SourceConfig, key: &str) -> Result<(Vec<Sample>, SkipReport)> {
        let listing = list_samples(source, self.limits)?;
        listing.check_losses(self.max_skip_fraction, &format!("evaluation ({key})"))?;
        Ok((listing.samples, listing.skips))
    }
}
