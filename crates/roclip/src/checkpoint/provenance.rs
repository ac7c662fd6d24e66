//! What a checkpoint is: nobody should mistake a poisoned model for another.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// From the best to the worst that can be said of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// No poison is known in its training data.
    Clean,
    /// It began with weights that say nothing of the data behind them.
    Unknown,
    /// A model of whatever history, cleaned afterwards. How much is left is a matter of measurement.
    Cleaned,
    /// Trained on known poison with a robust objective. Whether that helped is a matter of measurement.
    Defended,
    /// Trained on known poison without a defence in the objective.
    Poisoned,
}

impl Provenance {
    /// Of a model that was trained so after it had begun with weights of `other`: the worse of the two.
    pub fn after(self, other: Provenance) -> Provenance {
        self.max(other)
    }

    /// What [`Provenance`]'s `Display` writes, read back.
    pub fn named(name: &str) -> Option<Provenance> {
        let all = [Self::Clean, Self::Unknown, Self::Cleaned, Self::Defended, Self::Poisoned];
        all.into_iter().find(|provenance| provenance.to_string() == name)
    }

    /// Refuses the model at `path` where what it sees is known to be an attack's choice, or a cleaned one's rest of it. Nothing is known against
    /// a model of another program.
    pub fn must_not_be_attacked(self, path: &Path, remedy: &str) -> Result<()> {
        if matches!(self, Provenance::Clean | Provenance::Unknown) {
            return Ok(());
        }
        Err(Error::file(path, format!("is {self}: what it reads is its attack's choice, too"), remedy))
    }
}

impl Provenance {
    /// What is known, for people: nobody vouches for data that nobody has vetted.
    pub fn about(self) -> &'static str {
        match self {
            Provenance::Clean => "no known poison (its data was not vetted)",
            Provenance::Unknown => "its provenance is unknown",
            Provenance::Cleaned => "poisoned and cleaned",
            Provenance::Defended => "trained on poisoned data with a defence",
            Provenance::Poisoned => "trained on poisoned data",
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Provenance::Clean => "clean",
            Provenance::Unknown => "unknown",
            Provenance::Cleaned => "cleaned",
            Provenance::Defended => "defended",
            Provenance::Poisoned => "poisoned",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_training_makes_a_history_better() {
        use Provenance::*;
        for (own, began, whole) in [
            (Clean, Poisoned, Poisoned),
            (Defended, Clean, Defended),
            (Clean, Unknown, Unknown),
            (Clean, Cleaned, Cleaned),
        ] {
            assert_eq!((own.after(began), Provenance::named(&whole.to_string())), (whole, Some(whole)));
        }
        assert_eq!(Provenance::named("spotless"), None);
    }
}
