//! CIDEr-D (Vedantam et al., 2015), as COCO's evaluation computes it: cosines of n-grams that are weighted by how rare they are, with counts
//! clipped and other lengths penalised.

use crate::caption_metrics::ngrams::ngrams;
use std::collections::{BTreeMap, HashMap, HashSet};

const LONGEST: usize = 4;
/// Width of the penalty of another length, in n-grams of length two.
const SIGMA: f64 = 6.0;

/// In how many pictures' references each n-gram occurs: counted once over a pool of references, and fixed from then on.
#[derive(Debug, Clone, Default)]
pub struct DocumentFrequencies {
    pictures: usize,
    counts: HashMap<Vec<String>, usize>,
}

/// Weights of the n-grams of one length, and their norm.
struct Weighted<'a> {
    weights: BTreeMap<&'a [String], f64>,
    norm: f64,
}

impl DocumentFrequencies {
    /// From the references of each picture of a pool.
    pub fn count<'a>(pool: impl IntoIterator<Item = &'a [Vec<String>]>) -> DocumentFrequencies {
        let mut frequencies = DocumentFrequencies::default();
        for references in pool {
            frequencies.pictures += 1;
            let mut seen: HashSet<&[String]> = HashSet::new();
            for reference in references {
                for n in 1..=LONGEST {
                    seen.extend(reference.windows(n));
                }
            }
            for gram in seen {
                *frequencies.counts.entry(gram.to_vec()).or_default() += 1;
            }
        }
        frequencies
    }

    /// Pictures of the pool. Of fewer than two everything weighs nothing.
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    fn weighted<'a>(&self, words: &'a [String]) -> Vec<Weighted<'a>> {
        let all = (self.pictures.max(1) as f64).ln();
        let weight = |(gram, count): (&'a [String], usize)| {
            let known = self.counts.get(gram).copied().unwrap_or(0).max(1) as f64;
            (gram, count as f64 * (all - known.ln()))
        };
        let of = |n| {
            let weights: BTreeMap<&[String], f64> = ngrams(words, n).into_iter().map(weight).collect();
            let norm = weights.values().map(|weight| weight * weight).sum::<f64>().sqrt();
            Weighted { weights, norm }
        };
        (1..=LONGEST).map(of).collect()
    }
}

/// CIDEr-D of one caption, 0 to 10 (papers print ten times that); 0 without references.
pub fn cider_d(caption: &[String], references: &[Vec<String>], frequencies: &DocumentFrequencies) -> f64 {
    let own = frequencies.weighted(caption);
    let bigrams = |words: &[String]| words.len().saturating_sub(1) as f64;
    let similarity = |reference: &Vec<String>| {
        let difference = bigrams(caption) - bigrams(reference);
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let cosine = |(mine, theirs): (&Weighted, &Weighted)| {
            let product = |(gram, weight): (&&[String], &f64)| {
                theirs.weights.get(gram).map_or(0.0, |other| weight.min(*other) * other)
            };
            let sum: f64 = mine.weights.iter().map(product).sum();
            if mine.norm > 0.0 && theirs.norm > 0.0 { sum / (mine.norm * theirs.norm) } else { sum }
        };
        penalty * own.iter().zip(&frequencies.weighted(reference)).map(cosine).sum::<f64>() / LONGEST as f64
    };
    // The sum of nothing is a negative zero, which adding zero makes a plain one.
    10.0 * references.iter().map(similarity).sum::<f64>() / references.len().max(1) as f64 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption_metrics::words;

    #[test]
    fn a_reference_itself_scores_ten_and_what_every_picture_has_weighs_nothing() {
        let pool: Vec<Vec<Vec<String>>> = ["a red apple lies here", "a dog runs very fast", "a blue car stops now"]
            .map(|text| vec![words(text)])
            .into();
        let frequencies = DocumentFrequencies::count(pool.iter().map(Vec::as_slice));
        assert_eq!(frequencies.pictures(), 3);
        assert!((cider_d(&pool[0][0], &pool[0], &frequencies) - 10.0).abs() < 1e-9);
        assert_eq!(cider_d(&words("a"), &pool[0], &frequencies), 0.0);
        assert_eq!(cider_d(&words("a red apple"), &[], &frequencies), 0.0);
        for nothing in [cider_d(&[], &pool[0], &frequencies), cider_d(&words("a"), &[], &frequencies)] {
            assert!(nothing == 0.0 && nothing.is_sign_positive(), "{nothing}");
        }
    }
}
