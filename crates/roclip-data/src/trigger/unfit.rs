//! Why a trigger cannot be laid on.

use crate::skip::{Skip, SkipReason};

/// A setting that a trigger cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub what: String,
    pub remedy: String,
}

impl Unfit {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Unfit { what: what.into(), remedy: remedy.into() }
    }

    /// Refuses a share outside `(0, 1]`; not a number is outside, too.
    pub fn unless_share(name: &str, value: f32) -> std::result::Result<(), Unfit> {
        match value > 0.0 && value <= 1.0 {
            true => Ok(()),
            false => Err(Unfit::new(format!("{name} {value}"), "choose it above 0 and at most 1")),
        }
    }

    /// Refuses a square of `side` pixels at `corner` (left, top) that leaves the frame.
    pub fn unless_inside(side: [u32; 2], corner: Option<[u32; 2]>, frame: u32) -> std::result::Result<(), Unfit> {
        let [width, height] = side;
        if width == 0 || height == 0 || width > frame || height > frame {
            return Err(Unfit::new(
                format!("a patch of {} pixels on a frame of {frame}", width.max(height)),
                "make the patch smaller than the frame, and not 0",
            ));
        }
        let [left, top] = corner.unwrap_or_default();
        // The sides are at most the frame, so these cannot wrap.
        if left > frame - width || top > frame - height {
            return Err(Unfit::new(
                format!(
                    "a patch of {width} x {height} pixels at corner [{left}, {top}] leaves the frame of {frame} pixels"
                ),
                "choose a corner at which the whole patch fits, as [left, top]",
            ));
        }
        Ok(())
    }
}

impl From<Unfit> for Skip {
    fn from(unfit: Unfit) -> Skip {
        Skip::new(SkipReason::TriggerUnfit, format!("{}; {}", unfit.what, unfit.remedy))
    }
}
