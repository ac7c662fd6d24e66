//! BLEU (Papineni et al., 2002): of one caption, and of many together.

use crate::caption_metrics::ngrams::ngrams;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest n-grams that are counted.
const LONGEST: usize = 4;

/// What stands in for a precision of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// The smallest number that there is, as in NLTK without smoothing: one n-gram length without a match makes the score practically 0.
    #[default]
    None,
    /// One more match and one more n-gram for lengths from 2 (Lin and Och, 2004; NLTK's `method2`).
    AddOne,
}

/// BLEU-1 to BLEU-4, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Bleu {
    pub bleu1: f64,
    pub bleu2: f64,
    pub bleu3: f64,
    pub bleu4: f64,
}

/// Matched and all n-grams by length, and the lengths of the texts.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    matched: [usize; LONGEST],
    all: [usize; LONGEST],
    length: usize,
    closest: usize,
}

impl Counts {
    fn of(caption: &[String], references: &[Vec<String>]) -> Counts {
        let mut counts = Counts { length: caption.len(), ..Counts::default() };
        // Of references equally far away the shorter one counts.
        let far = |reference: &&Vec<String>| (reference.len().abs_diff(caption.len()), reference.len());
        counts.closest = references.iter().min_by_key(far).map_or(0, Vec::len);
        for ((n, matched), all) in (1..).zip(&mut counts.matched).zip(&mut counts.all) {
            let own = ngrams(caption, n);
            let mut most: BTreeMap<&[String], usize> = BTreeMap::new();
            for reference in references {
                for (gram, count) in ngrams(reference, n) {
                    let known = most.entry(gram).or_default();
                    *known = count.max(*known);
                }
            }
            *matched = own.iter().map(|(gram, count)| *count.min(most.get(gram).unwrap_or(&0))).sum();
            *all = own.values().sum::<usize>();
        }
        counts
    }

    fn add(&mut self, other: &Counts) {
        for (mine, theirs) in self.matched.iter_mut().zip(other.matched) {
            *mine += theirs;
        }
        for (mine, theirs) in self.all.iter_mut().zip(other.all) {
            *mine += theirs;
        }
        self.length += other.length;
        self.closest += other.closest;
    }

    fn bleu(&self, smoothing: Smoothing) -> Bleu {
        // Without one matching word nothing is said that a reference says.
        if self.matched.first().is_none_or(|matched| *matched == 0) {
            return Bleu::default();
        }
        let brevity = match self.length >= self.closest {
            true => 1.0,
            false => (1.0 - self.closest as f64 / self.length as f64).exp(),
        };
        let mut log_sum = 0.0;
        let mut scores = [0.0; LONGEST];
        for (((n, score), matched), all) in (1..).zip(&mut scores).zip(self.matched).zip(self.all) {
            let (matched, all) = match smoothing {
                Smoothing::AddOne if n > 1 => (matched + 1, all.max(1) + 1),
                _ => (matched, all.max(1)),
            };
            let precision = if matched == 0 { f64::MIN_POSITIVE } else { matched as f64 / all as f64 };
            log_sum += precision.ln();
            *score = brevity * (log_sum / f64::from(n)).exp();
        }
        let [bleu1, bleu2, bleu3, bleu4] = scores;
        Bleu { bleu1, bleu2, bleu3, bleu4 }
    }
}

/// BLEU of one caption. With no words, or without references, it is 0.
pub fn sentence_bleu(caption: &[String], references: &[Vec<String>], smoothing: Smoothing) -> Bleu {
    Counts::of(caption, references).bleu(smoothing)
}

/// BLEU of many captions, whose counts are added before the scores are taken, as in COCO's evaluation.
pub fn corpus_bleu<'a>(
    captions: impl IntoIterator<Item = (&'a [String], &'a [Vec<String>])>,
    smoothing: Smoothing,
) -> Bleu {
    let mut sum = Counts::default();
    for (caption, references) in captions {
        sum.add(&Counts::of(caption, references));
    }
    sum.bleu(smoothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption_metrics::words;

    #[test]
    fn a_reference_itself_scores_one_and_other_words_nothing() {
        let references = vec![words("a red apple on a table"), words("an apple")];
        let same = sentence_bleu(&references[0], &references, Smoothing::None);
        assert!((same.bleu4 - 1.0).abs() < 1e-12 && (same.bleu1 - 1.0).abs() < 1e-12);
        assert_eq!(sentence_bleu(&words("blue sky"), &references, Smoothing::AddOne), Bleu::default());
        assert_eq!(sentence_bleu(&[], &references, Smoothing::None), Bleu::default());
        let broken = words("a table red on apple");
        assert!(sentence_bleu(&broken, &references, Smoothing::None).bleu4 < 1e-70);
        assert!(sentence_bleu(&broken, &references, Smoothing::AddOne).bleu4 > 0.1);
    }
}
