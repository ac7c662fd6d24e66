//! How evaluation images are read.

use crate::error::{Error, Result};
use roclip_data::picture::ImageLimits;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::{SourceConfig, read_samples};

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
    /// The samples of `source`, which the recipe names at `key`.
    ///
    /// # Errors
    /// When too large a share of a source that is read whole cannot be used.
    pub fn samples(&self, source: &SourceConfig, key: &str) -> Result<(Vec<Sample>, SkipReport)> {
        let (samples, skips) = read_samples(source)?;
        let all = samples.len() + skips.total();
        // What cannot be read does not say of which split it is: most may be of another than the one asked for.
        if source.split.is_none() && skips.total() as f64 > self.max_skip_fraction * all as f64 {
            return Err(Error::setting(
                format!("evaluation: {} of {all} images of {key} cannot be used: {}", skips.total(), skips.summary()),
                "repair the data, or raise data.max_skip_fraction",
            ));
        }
        Ok((samples, skips))
    }
}
