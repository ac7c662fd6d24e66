//! ROUGE (Lin, 2004): n-grams and longest common subsequences that a caption shares with its references.

use crate::caption_metrics::ngrams::{ngrams, shared};
use serde::{Deserialize, Serialize};

/// What a caption shares with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Overlap {
    pub precision: f64,
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f: f64,
}

impl Overlap {
    fn new(shared: usize, caption: usize, reference: usize) -> Overlap {
        let share = |of: usize| if of == 0 { 0.0 } else { shared as f64 / of as f64 };
        let (precision, recall) = (share(caption), share(reference));
        let f = if shared == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        Overlap { precision, recall, f }
    }

    /// The mean over references, as AICAttack's released code takes it; 0 without any.
    fn mean(of: impl ExactSizeIterator<Item = Overlap>) -> Overlap {
        let count = of.len().max(1) as f64;
        of.fold(Overlap::default(), |sum, one| Overlap {
            precision: sum.precision + one.precision / count,
            recall: sum.recall + one.recall / count,
            f: sum.f + one.f / count,
        })
    }
}

/// ROUGE-1, ROUGE-2 and ROUGE-L, each the mean over the references.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Rouge {
    pub rouge1: Overlap,
    pub rouge2: Overlap,
    pub rouge_l: Overlap,
}

impl Rouge {
    pub fn of(caption: &[String], references: &[Vec<String>]) -> Rouge {
        Rouge {
            rouge1: Overlap::mean(references.iter().map(|reference| rouge_n(caption, reference, 1))),
            rouge2: Overlap::mean(references.iter().map(|reference| rouge_n(caption, reference, 2))),
            rouge_l: Overlap::mean(references.iter().map(|reference| rouge_l(caption, reference))),
        }
    }
}

/// ROUGE-N of one reference.
pub fn rouge_n(caption: &[String], reference: &[String], n: usize) -> Overlap {
    let (own, theirs) = (ngrams(caption, n), ngrams(reference, n));
    Overlap::new(shared(&own, &theirs), own.values().sum(), theirs.values().sum())
}

/// ROUGE-L of one reference: by the longest common subsequence.
pub fn rouge_l(caption: &[String], reference: &[String]) -> Overlap {
    // Lengths of the longest common subsequences of the caption's beginning with each beginning of the reference.
    let mut row = vec![0usize; reference.len() + 1];
    for word in caption {
        let mut diagonal = 0;
        let mut left = 0;
        for (cell, other) in row.iter_mut().skip(1).zip(reference) {
            let above = *cell;
            *cell = if word == other { diagonal + 1 } else { above.max(left) };
            (diagonal, left) = (above, *cell);
        }
    }
    Overlap::new(row.last().copied().unwrap_or(0), caption.len(), reference.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption_metrics::words;

    #[test]
    fn a_subsequence_may_have_gaps_and_references_are_averaged() {
        let (caption, reference) = (words("police kill the gunman"), words("police killed the gunman"));
        let overlap = rouge_l(&caption, &reference);
        assert!((overlap.precision - 0.75).abs() < 1e-12 && (overlap.f - 0.75).abs() < 1e-12);
        let mean = Rouge::of(&caption, &[reference, words("rain")]);
        assert!((mean.rouge1.precision - 0.375).abs() < 1e-12);
        assert_eq!(Rouge::of(&caption, &[]), Rouge::default());
        assert_eq!(rouge_l(&[], &caption).f, 0.0);
    }
}
