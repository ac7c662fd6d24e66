//! What the settings of augmentations have in common: each is checked before any work, by its key's name.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The settings under one key.
pub(super) struct Section<'a>(pub &'a str);

impl Section<'_> {
    /// Refuses a value outside of `range`, and one that is no number.
    pub fn within<T: PartialOrd + Display>(&self, name: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
        match range.contains(&value) {
            true => Ok(()),
            false => Err(self.refuse(name, value, format!("choose it between {} and {}", range.start(), range.end()))),
        }
    }

    pub fn probability(&self, name: &str, value: f32) -> Result<()> {
        self.within(name, value, 0.0..=1.0)
    }

    /// A share of the area: some of it, at most all.
    pub fn area(&self, name: &str, value: f32) -> Result<()> {
        match value > 0.0 && value <= 1.0 {
            true => Ok(()),
            false => Err(self.refuse(name, value, "choose a share of the area above 0 and at most 1")),
        }
    }

    /// Refuses a smallest value above the largest.
    pub fn ordered(&self, (low_name, low): (&str, f32), (high_name, high): (&str, f32)) -> Result<()> {
        match low <= high {
            true => Ok(()),
            false => Err(self.refuse(low_name, low, format!("choose at most {}.{high_name} = {high}", self.0))),
        }
    }

    pub fn refuse(&self, name: &str, value: impl Display, remedy: impl Into<String>) -> Error {
        Error::setting(format!("{}.{name} = {value}", self.0), remedy)
    }
}
