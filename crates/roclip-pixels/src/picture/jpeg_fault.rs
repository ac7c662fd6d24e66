//! Why a JPEG file does not hold all of its pixels.

use crate::skip::{Skip, SkipReason};

/// What is wrong with a file.
pub(super) enum Fault {
    /// It ends before its pixels do.
    Cut,
    Damaged(&'static str),
}

impl From<&'static str> for Fault {
    fn from(what: &'static str) -> Self {
        Fault::Damaged(what)
    }
}

impl From<Fault> for Skip {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Cut => Skip::new(SkipReason::ImageTruncated, "the file ends before its pixels do"),
            Fault::Damaged(what) => Skip::new(SkipReason::ImageUndecodable, format!("the file {what}")),
        }
    }
}
