//! How evaluation images are read.

use crate::error::Result;
use roclip_data::picture::ImageLimits;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::{SourceConfig, list_samples};

/// The settings of `data` that hold for evaluation images, too.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub limits: ImageLimits,
    /// Threads that decode.
    pub workers: usize,
    /// More than this share of the images that cannot be used is an error.
    pub max_skip_fraction: f64,
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

    /// [`Reading::samples`] without a look at the pictures, for data whose captions are wanted alone.
    pub fn captions(&self, source: &SourceConfig, key: &str) -> Result<(Vec<Sample>, SkipReport)> {
        let listing = list_samples(source, self.limits)?;
        listing.check_losses(self.max_skip_fraction, &format!("evaluation ({key})"))?;
        Ok((listing.samples, listing.skips))
    }
}
