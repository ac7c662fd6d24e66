//! What a checkpoint is: nobody should mistake a poisoned model for another.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// No poison is known in its training data.
    Clean,
    /// Trained on known poison without a defence in the objective.
    Poisoned,
    /// Trained on known poison with a robust objective. Whether that helped is a matter of measurement.
    Defended,
    /// Trained on known poison and cleaned afterwards. How much is left is a matter of measurement.
    Cleaned,
}

impl Provenance {
    /// Refuses the model at `path` where what it sees may be an attack's choice.
    pub fn must_be_clean(self, path: &Path, remedy: &str) -> Result<()> {
        if self == Provenance::Clean {
            return Ok(());
        }
        Err(Error::file(path, format!("is {self}: what it reads is its attack's choice, too"), remedy))
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Provenance::Clean => "clean",
            Provenance::Poisoned => "poisoned",
            Provenance::Defended => "defended",
            Provenance::Cleaned => "cleaned",
        })
    }
}
