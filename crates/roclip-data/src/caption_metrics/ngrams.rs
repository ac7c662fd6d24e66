//! Counts of n-grams.

use std::collections::BTreeMap;

/// How often each run of `n` words occurs.
pub(super) fn ngrams(words: &[String], n: usize) -> BTreeMap<&[String], usize> {
    let mut counts = BTreeMap::new();
    for gram in words.windows(n.max(1)) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// The n-grams that two texts share, each as often as the rarer side has it.
pub(super) fn shared(a: &BTreeMap<&[String], usize>, b: &BTreeMap<&[String], usize>) -> usize {
    a.iter().filter_map(|(gram, count)| Some(*count.min(b.get(gram)?))).sum()
}
