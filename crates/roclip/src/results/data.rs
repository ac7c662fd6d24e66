//! What runs learned from and were measured on, in words.

use crate::recipe::Recipe;
use crate::results::experiment::Experiment;
use roclip_data::source::SourceConfig;

/// What a run learned from; of a cleaned model what its victim did.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingData {
    /// Path and split.
    pub words: String,
    /// Equal where the same is read in the same way.
    digest: String,
}

impl TrainingData {
    pub(super) fn of(recipe: &Recipe, experiment: &Experiment) -> TrainingData {
        TrainingData { words: place(&recipe.data.source), digest: experiment.training_digest() }
    }

    /// Whether `other` is the same, however its path is written.
    pub fn is(&self, other: &TrainingData) -> bool {
        self.digest == other.digest
    }
}

/// Where data lies, in words.
pub fn place(source: &SourceConfig) -> String {
    let split = source.split.as_ref().map(|split| format!(" ({split})")).unwrap_or_default();
    format!("{}{split}", source.path)
}
