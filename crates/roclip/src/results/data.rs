//! What runs learned from and were measured on, in words.

use crate::recipe::Recipe;
use crate::results::experiment::Experiment;
use crate::results::record::RunRecord;
use roclip_data::source::SourceConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Letters of a digest that are shown.
const DIGEST: usize = 8;

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

/// Runs that kept no digest of the pictures that they were measured on are in the table of one that names the same pictures and did.
pub(super) fn same_pictures(records: &mut [RunRecord]) {
    let named = |run: &RunRecord| run.experiment.measured_digest(None);
    let kept = records.iter().filter(|run| run.summary.measured_on.is_some());
    let known: BTreeMap<String, String> = kept.map(|run| (named(run), run.row.data.clone())).collect();
    for run in records.iter_mut().filter(|run| run.summary.measured_on.is_none()) {
        if let Some(data) = known.get(&named(run)) {
            run.row.data.clone_from(data);
        }
    }
}

/// Adds a digest where different data have the same words: what lies in one place may be other pictures, or have other classes, for each run.
pub(super) fn tell_apart(records: &mut [RunRecord]) {
    let seen: Vec<(String, &str)> =
        records.iter().map(|run| (run.measured_on.clone(), run.row.data.as_str())).collect();
    let told: Vec<String> = seen.iter().map(|(words, data)| words_apart(words, data, &seen)).collect();
    for (run, words) in records.iter_mut().zip(told) {
        run.measured_on = words;
    }
}

/// `words` of the data with this digest, among `all`.
fn words_apart(words: &str, data: &str, all: &[(String, &str)]) -> String {
    let digests: BTreeSet<&str> = all.iter().filter(|(other, _)| other == words).map(|(_, data)| *data).collect();
    match digests.len() {
        0 | 1 => words.to_owned(),
        _ => format!("{words}, digest {}", data.chars().take(DIGEST).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_data_in_one_place_are_told_apart_by_their_digests() {
        let all = [("a (test)", "0123456789"), ("a (test)", "9876543210"), ("b", "0123456789"), ("b", "0123456789")];
        let all = all.map(|(words, data)| (words.to_owned(), data));
        let told: Vec<String> = all.iter().map(|(words, data)| words_apart(words, data, &all)).collect();
        assert_eq!(told, ["a (test), digest 01234567", "a (test), digest 98765432", "b", "b"]);
    }
}
