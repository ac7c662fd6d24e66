//! What a checkpoint is: nobody should mistake a poisoned model for another.

use serde::{Deserialize, Serialize};
use std::fmt;

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
