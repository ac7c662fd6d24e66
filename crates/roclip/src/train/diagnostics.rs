//! Diagnostics of an epoch: the captions that matching found, and how similar pairs have become.
//!
//! Nothing here feeds back into training: it reads classes and poison marks, which a defence does not have.

use crate::objective::{Match, Mixture, Split};
use roclip_data::pairs::{Pair, Pairs};
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Shares of the neighbours of some pairs. Classes that are not known count as none of these.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct NeighbourShares {
    pub matched: usize,
    /// The neighbour's caption speaks of the class that the image really shows.
    pub true_concept: f64,
    /// It speaks of the class that the attacker wants (poisoned pairs only).
    pub adversarial: f64,
    /// It is the pair's own caption, kept from an earlier step.
    pub own_caption: f64,
    /// It is the caption of a poisoned pair.
    pub poisoned_caption: f64,
}

/// The pool captions that one poisoned pair met.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MatchExample {
    pub image: String,
    pub attack: String,
    pub adversarial: String,
    pub matched_caption: String,
    pub similarity: f32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct MatchSummary {
    pub mean_similarity: f64,
    /// Share of matches whose pool row another image of the epoch's same batch also took.
    pub duplicate_share: f64,
    pub clean: NeighbourShares,
    /// By attack.
    pub poisoned: BTreeMap<String, NeighbourShares>,
    pub examples: Vec<MatchExample>,
}

const EXAMPLES: usize = 48;

/// Adds up an epoch's matches.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct MatchTally {
    matched: usize,
    duplicates: usize,
    similarity_sum: f64,
    summary: MatchCounts,
}

/// What a [`MatchSummary`] is made of, as far as an epoch has come: shares are counts until the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
struct MatchCounts {
    clean: NeighbourShares,
    poisoned: BTreeMap<String, NeighbourShares>,
    examples: Vec<MatchExample>,
}

impl MatchTally {
    /// The matches of one batch of `pairs`.
    pub fn add(&mut self, pairs: &Pairs, batch: &[Match]) {
        let mut seen = BTreeSet::new();
        self.duplicates += batch.iter().filter(|m| m.neighbour.is_some_and(|n| !seen.insert(n))).count();
        self.matched += batch.len();
        for found in batch {
            self.similarity_sum += f64::from(found.similarity);
            let Some(pair) = pairs.get(found.pair) else { continue };
            let neighbour = found.neighbour.and_then(|at| pairs.get(at));
            let shares = match &pair.poison {
                Some(mark) => self.summary.poisoned.entry(mark.attack.clone()).or_default(),
                None => &mut self.summary.clean,
            };
            shares.count(pairs, &pair, found, neighbour.as_deref());
            if let (Some(mark), Some(neighbour)) = (&pair.poison, &neighbour) {
                let image = pairs.sample_of(&pair).map_or_else(String::new, |sample| sample.id.clone());
                let examples = &mut self.summary.examples;
                let known = examples.iter().any(|known| known.attack == mark.attack && known.image == image);
                if examples.len() < EXAMPLES && !known {
                    examples.push(MatchExample {
                        image,
                        attack: mark.attack.clone(),
                        adversarial: mark.target.clone(),
                        matched_caption: neighbour.captions.first().cloned().unwrap_or_default(),
                        similarity: found.similarity,
                    });
                }
            }
        }
    }

    /// None where nothing was matched.
    pub fn finish(&self) -> Option<MatchSummary> {
        if self.matched == 0 {
            return None;
        }
        let total = self.matched as f64;
        let mut summary = MatchSummary {
            mean_similarity: self.similarity_sum / total,
            duplicate_share: self.duplicates as f64 / total,
            clean: self.summary.clean.clone(),
            poisoned: self.summary.poisoned.clone(),
            examples: self.summary.examples.clone(),
        };
        for shares in summary.poisoned.values_mut().chain([&mut summary.clean]) {
            shares.finish();
        }
        Some(summary)
    }
}

impl NeighbourShares {
    fn count(&mut self, pairs: &Pairs, pair: &Pair, found: &Match, neighbour: Option<&Pair>) {
        self.matched += 1;
        let Some(neighbour) = neighbour else { return };
        let spoken = caption_class(pairs, neighbour);
        let shown = pairs.sample_of(pair).and_then(|sample| sample.class.clone());
        let wanted = pair.poison.as_ref().map(|mark| mark.target.clone());
        self.true_concept += f64::from(u8::from(spoken.is_some() && spoken == shown));
        self.adversarial += f64::from(u8::from(spoken.is_some() && spoken == wanted));
        self.own_caption += f64::from(u8::from(found.neighbour == Some(found.pair)));
        self.poisoned_caption += f64::from(u8::from(neighbour.poison.is_some()));
    }

    fn finish(&mut self) {
        let total = self.matched.max(1) as f64;
        for share in [&mut self.true_concept, &mut self.adversarial, &mut self.own_caption, &mut self.poisoned_caption]
        {
            *share /= total;
        }
    }
}

/// The class that a pair's caption speaks of: the target where it is poison, else its image's class.
fn caption_class(pairs: &Pairs, pair: &Pair) -> Option<String> {
    match &pair.poison {
        Some(mark) => Some(mark.target.clone()),
        None => pairs.sample_of(pair).and_then(|sample| sample.class.clone()),
    }
}

/// Cosine similarity of images with their own captions, in 200 bins over [-1, 1].
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct SimilarityHistogram {
    /// `clean`, and each attack.
    pub bins: BTreeMap<String, Vec<u32>>,
    pub means: BTreeMap<String, f64>,
}

impl SimilarityHistogram {
    pub const BINS: usize = 200;

    pub fn new(values: &BTreeMap<String, Vec<f32>>) -> Self {
        let mut histogram = SimilarityHistogram::default();
        for (name, similarities) in values {
            let mut bins = vec![0; Self::BINS];
            for similarity in similarities {
                let at = ((similarity + 1.0) / 2.0 * Self::BINS as f32) as usize;
                if let Some(bin) = bins.get_mut(at.min(Self::BINS - 1)) {
                    *bin += 1;
                }
            }
            let mean = similarities.iter().map(|s| f64::from(*s)).sum::<f64>() / similarities.len().max(1) as f64;
            histogram.bins.insert(name.clone(), bins);
            histogram.means.insert(name.clone(), mean);
        }
        histogram
    }
}

/// How pure the safe set of an epoch is.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct SplitSummary {
    pub safe: usize,
    /// Of all pairs.
    pub share: f64,
    /// Poisoned pairs of each attack that were let in.
    pub poison_in_safe: BTreeMap<String, Rate>,
    /// Share of the safe set that is poison.
    pub poison_of_safe: f64,
    /// Clean pairs that are safe.
    pub clean_kept: Rate,
    pub mixture: Option<Mixture>,
    pub separation: Option<f64>,
    pub fell_back: bool,
    /// Scores of clean pairs and of each attack.
    pub scores: SimilarityHistogram,
}

impl SplitSummary {
    pub fn new(pairs: &Pairs, scores: &[f64], split: &Split) -> Self {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for ((at, pair), score) in pairs.iter().enumerate().zip(scores) {
            let name = pair.poison.as_ref().map_or("clean", |mark| mark.attack.as_str());
            let (hits, n) = counts.entry(name.to_owned()).or_default();
            *n += 1;
            *hits += usize::from(split.safe.binary_search(&at).is_ok());
            if score.is_finite() {
                values.entry(name.to_owned()).or_default().push(*score as f32);
            }
        }
        let (kept, clean) = counts.remove("clean").unwrap_or_default();
        let safe = split.safe.len();
        SplitSummary {
            safe,
            share: safe as f64 / pairs.len().max(1) as f64,
            poison_of_safe: safe.saturating_sub(kept) as f64 / safe.max(1) as f64,
            poison_in_safe: counts.into_iter().map(|(name, (hits, n))| (name, Rate::new(hits, n))).collect(),
            clean_kept: Rate::new(kept, clean),
            mixture: split.mixture,
            separation: split.mixture.map(|m| m.separation()),
            fell_back: split.fell_back,
            scores: SimilarityHistogram::new(&values),
        }
    }
}

/// One JSON object a pair: `{"id", "score", "safe"}`.
pub fn split_lines(pairs: &Pairs, scores: &[f64], split: &Split) -> String {
    let mut text = String::new();
    for ((at, pair), score) in pairs.iter().enumerate().zip(scores) {
        let safe = split.safe.binary_search(&at).is_ok();
        text += &serde_json::json!({"id": pair.id, "score": score, "safe": safe}).to_string();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_tally_names_no_means_that_it_has_not_taken() {
        let tally = MatchTally { matched: 4, duplicates: 1, similarity_sum: 2.0, ..MatchTally::default() };
        let line = serde_json::to_value(&tally).unwrap();
        assert!(
            !line.to_string().contains("mean_similarity") && !line.to_string().contains("duplicate_share"),
            "{line}"
        );
        let finished = serde_json::from_value::<MatchTally>(line).unwrap().finish().unwrap();
        assert_eq!((finished.mean_similarity, finished.duplicate_share), (0.5, 0.25));
        // Lines of earlier versions had both, as zeros.
        let mut older = serde_json::to_value(&tally).unwrap();
        older["summary"]["mean_similarity"] = 0.0.into();
        assert_eq!(serde_json::from_value::<MatchTally>(older).unwrap(), tally);
    }
}
