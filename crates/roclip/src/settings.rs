//! Limits of the numbers of a recipe. Every refusal names the key.

use crate::error::{Error, Result};

/// A finite number for which `fits` holds; `wanted` says which those are.
pub(crate) fn number(key: &str, value: f64, fits: impl FnOnce(f64) -> bool, wanted: &str) -> Result<()> {
    if value.is_finite() && fits(value) {
        return Ok(());
    }
    Err(Error::setting(format!("{key} is {value}"), format!("set it to {wanted}")))
}

/// Above 0.
pub(crate) fn positive(key: &str, value: f64) -> Result<()> {
    number(key, value, |value| value > 0.0, "a number above 0")
}

/// 0 or more.
pub(crate) fn not_negative(key: &str, value: f64) -> Result<()> {
    number(key, value, |value| value >= 0.0, "0 or more")
}

/// From 0 to 1.
pub(crate) fn share(key: &str, value: f64) -> Result<()> {
    number(key, value, |value| (0.0..=1.0).contains(&value), "a share between 0 and 1")
}

/// From `least` to `most`.
pub(crate) fn count(key: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::setting(format!("{key} is {value}"), format!("set it between {least} and {most}")))
}

/// More than any run can count to, and far from where sums of counts overflow.
pub(crate) const MANY: u64 = 1 << 40;
