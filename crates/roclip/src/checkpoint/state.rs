//! What a checkpoint says of itself.

use crate::checkpoint::provenance::Provenance;
use crate::model::captioner::CaptionerConfig;
use roclip_data::tokenizer::{CompactVocabulary, Truncate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a run stood, and what makes a checkpoint readable on its own.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Finished optimizer steps.
    pub step: u64,
    /// The epoch of the next step, from 1.
    pub epoch: u64,
    /// Pass within the epoch, and step within the pass, from 0.
    pub pass: u64,
    pub step_in_pass: u64,
    pub seed: u64,
    pub data_fingerprint: String,
    /// [`Evaluator::digest`](crate::eval::Evaluator::digest) of the labelled pictures that the run is measured on. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_on: Option<String>,
    /// Digests of what else lay under names of the recipe, by what the recipe says, as in `eval.templates = "mine.txt"`. Absent in older files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, String>,
    pub provenance: Provenance,
    /// The weights that the run began with, where they were not random; of a student those of its teacher.
    pub trained_from: Option<Origin>,
    /// Training pairs, poison included.
    pub pairs: usize,
    /// Known poisoned pairs of each attack, in this run's data or in that of the weights that it began with.
    pub poison: BTreeMap<String, usize>,
    pub objective: String,
    pub truncate: Truncate,
    pub compact_vocabulary: Option<CompactVocabulary>,
    /// What a trained classifier tells apart, in the order of its weights; empty of other models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The captioner whose weights are the objective's, where the run trains one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captioner: Option<CaptionerConfig>,
    /// What the epoch has added up, where the checkpoint is within one.
    pub epoch_so_far: Option<serde_json::Value>,
    /// sha256 of the files beside it.
    pub files: BTreeMap<String, String>,
}

/// Weights that a run began with.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// As the recipe names it.
    pub path: String,
    /// Of the weights' file.
    pub sha256: String,
    pub provenance: Provenance,
    /// Known poisoned pairs of each attack behind them.
    pub poison: BTreeMap<String, usize>,
}

impl Origin {
    /// `poison` of a run that began here, joined with its own: the same attack on both sides is as a rule the same pairs.
    pub fn join_poison(&self, mut own: BTreeMap<String, usize>) -> BTreeMap<String, usize> {
        for (attack, count) in &self.poison {
            let joined = own.entry(attack.clone()).or_default();
            *joined = (*joined).max(*count);
        }
        own
    }
}
