//! How a data set is looked at.

use crate::picture::ImageLimits;

/// How a data set is looked at.
#[derive(Debug, Clone, Copy)]
pub struct StatisticsConfig {
    pub limits: ImageLimits,
    /// Threads; any number finds the same.
    pub workers: usize,
    /// Bits of 64 in which near-copies may differ.
    pub near_bits: u32,
    /// Pictures that a group of near-copies needs to be looked at as a natural backdoor.
    pub min_copies: usize,
    /// Groups, captions and examples that are listed.
    pub listed: usize,
}

impl Default for StatisticsConfig {
    fn default() -> Self {
        StatisticsConfig { limits: ImageLimits::default(), workers: 2, near_bits: 4, min_copies: 5, listed: 20 }
    }
}
