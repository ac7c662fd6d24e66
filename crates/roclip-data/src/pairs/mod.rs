//! The pairs of a training run: images with captions, in the order of their source, with poison laid over them.

mod copies;
mod drop_list;
mod indexed;
mod pair;
mod weights;

pub use crate::sample::PoisonMark;
pub use copies::{limit_pairs_per_picture, picture_hash};
pub use drop_list::{DropList, LIKE_OTHER_DATA, LeftOutByList, drop_line};
pub use pair::{CaptionMode, Pair};
pub use weights::weigh_parts;

use crate::artifact;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::pairs::indexed::Indexed;
use crate::pairs::pair::repeats;
use crate::sample::{Sample, count_splits};
use crate::threads::{of_parts, processors};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The pairs of a run: a view of its samples that does not say how they are held.
#[derive(Debug, Clone)]
pub struct Pairs {
    store: Store,
}

#[derive(Debug, Clone)]
enum Store {
    Memory(InMemory),
    Indexed(Indexed),
}

impl Pairs {
    pub fn new(samples: Vec<Sample>, mode: CaptionMode) -> Self {
        Pairs { store: Store::Memory(InMemory::new(samples, mode)) }
    }

    /// Those of an index, which stay there.
    pub fn indexed(index: Arc<Index>, mode: CaptionMode) -> Self {
        Pairs { store: Store::Indexed(Indexed::new(index, mode)) }
    }

    /// # Errors
    /// An index that could not be read since it was opened. Pairs end early then, so this is asked after each pass over them.
    pub fn intact(&self) -> Result<()> {
        match &self.store {
            Store::Memory(_) => Ok(()),
            Store::Indexed(indexed) => indexed.index().intact(),
        }
    }

    /// Those `pairs` of `samples`.
    pub fn of(samples: Vec<Sample>, pairs: Vec<Pair>) -> Self {
        Pairs { store: Store::Memory(InMemory { samples, pairs }) }
    }

    /// Other pairs of the same samples.
    #[must_use]
    pub fn with(&self, pairs: Vec<Pair>) -> Self {
        match &self.store {
            Store::Memory(memory) => Pairs::of(memory.samples.clone(), pairs),
            Store::Indexed(indexed) => Pairs { store: Store::Indexed(indexed.with(pairs)) },
        }
    }

    pub fn len(&self) -> usize {
        match &self.store {
            Store::Memory(memory) => memory.pairs.len(),
            Store::Indexed(indexed) => indexed.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pair at this place, from 0.
    pub fn get(&self, at: usize) -> Option<Cow<'_, Pair>> {
        match &self.store {
            Store::Memory(memory) => memory.pairs.get(at).map(Cow::Borrowed),
            Store::Indexed(indexed) => indexed.get(at),
        }
    }

    /// All pairs in their order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, Pair>> {
        (0..self.len()).map_while(|at| self.get(at))
    }

    /// All captions of all pairs, in their order.
    pub fn captions(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.iter().flat_map(|pair| match pair {
            Cow::Borrowed(pair) => pair.captions.iter().map(|caption| Cow::Borrowed(caption.as_str())).collect(),
            Cow::Owned(pair) => pair.captions.into_iter().map(Cow::Owned).collect::<Vec<_>>(),
        })
    }

    /// Samples that pairs may show.
    pub fn sample_count(&self) -> usize {
        match &self.store {
            Store::Memory(memory) => memory.samples.len(),
            Store::Indexed(indexed) => indexed.sample_count(),
        }
    }

    /// The sample of this number, from 0.
    pub fn sample(&self, number: usize) -> Option<Cow<'_, Sample>> {
        match &self.store {
            Store::Memory(memory) => memory.samples.get(number).map(Cow::Borrowed),
            Store::Indexed(indexed) => indexed.sample(number),
        }
    }

    /// All samples in their order.
    pub fn samples(&self) -> impl Iterator<Item = Cow<'_, Sample>> {
        (0..self.sample_count()).map_while(|number| self.sample(number))
    }

    /// Whether they stay in an index, so that a look at all of them reads it whole.
    pub fn is_indexed(&self) -> bool {
        matches!(self.store, Store::Indexed(_))
    }

    /// All samples at once, for what looks at each of them many times.
    pub fn all_samples(&self) -> Cow<'_, [Sample]> {
        match &self.store {
            Store::Memory(memory) => Cow::Borrowed(&memory.samples),
            Store::Indexed(_) => Cow::Owned(self.samples().map(Cow::into_owned).collect()),
        }
    }

    /// [`Pairs::all_samples`] without some that have no class.
    pub fn labelled_samples(&self) -> Cow<'_, [Sample]> {
        match &self.store {
            Store::Memory(_) => self.all_samples(),
            Store::Indexed(indexed) if indexed.index().labelled() == 0 => Cow::Owned(Vec::new()),
            Store::Indexed(_) => {
                let labelled = self.samples().filter(|sample| sample.class.is_some());
                Cow::Owned(labelled.map(Cow::into_owned).collect())
            }
        }
    }

    /// The splits that samples are in, and how many are in each.
    pub fn splits(&self) -> BTreeMap<String, usize> {
        match &self.store {
            Store::Memory(memory) => count_splits(&memory.samples),
            Store::Indexed(indexed) => indexed.index().splits().clone(),
        }
    }

    /// The sample that a pair shows.
    pub fn sample_of(&self, pair: &Pair) -> Option<Cow<'_, Sample>> {
        self.sample(pair.sample)
    }

    /// What `look` says of every sample, in their order, with `workers` threads.
    ///
    /// # Errors
    /// A thread that panicked.
    pub fn look_at_samples<T: Send>(&self, workers: usize, look: impl Fn(&Sample) -> T + Sync) -> Result<Vec<T>> {
        let count = self.sample_count();
        let share = count.div_ceil(workers.max(1)).max(1);
        let part = |from: usize| {
            let numbers = from..count.min(from + share);
            numbers.map_while(|number| self.sample(number)).map(|sample| look(&sample)).collect::<Vec<T>>()
        };
        let mut all = Vec::with_capacity(count);
        for (_, part) in of_parts((0..count).step_by(share), part) {
            all.extend(part.map_err(|_| Error::internal("a thread that looked at samples died"))?);
        }
        Ok(all)
    }

    /// Shows every pair and its place to `look`, in as many parts as the machine has processors: what `look` made of each part, in the order
    /// of the pairs, from what `begin` gives.
    ///
    /// # Errors
    /// A thread that panicked.
    pub fn in_parts<S: Send>(
        &self,
        begin: impl Fn() -> S + Sync,
        look: impl Fn(&mut S, usize, &Pair) + Sync,
    ) -> Result<Vec<S>> {
        let share = self.len().div_ceil(processors()).max(1);
        let part = |from: usize| {
            let mut state = begin();
            for at in from..self.len().min(from + share) {
                let Some(pair) = self.get(at) else { break };
                look(&mut state, at, &pair);
            }
            state
        };
        let ended = |_| Error::internal("a thread that looked at pairs died");
        let parts = of_parts((0..self.len()).step_by(share), part);
        parts.into_iter().map(|(_, part)| part.map_err(ended)).collect()
    }

    /// Keeps the pairs that `keeps` says, who sees each with its sample.
    pub fn retain(&mut self, mut keeps: impl FnMut(&Pair, Option<&Sample>) -> bool) {
        match &mut self.store {
            Store::Memory(InMemory { samples, pairs }) => pairs.retain(|pair| keeps(pair, samples.get(pair.sample))),
            Store::Indexed(indexed) => indexed.retain(|_, pair, sample| keeps(pair, sample)),
        }
    }

    /// Keeps the pairs at the places that `keeps` says.
    pub fn retain_places(&mut self, mut keeps: impl FnMut(usize) -> bool) {
        let mut at = 0;
        match &mut self.store {
            Store::Memory(memory) => memory.pairs.retain(|_| {
                at += 1;
                keeps(at - 1)
            }),
            Store::Indexed(indexed) => indexed.retain_places(keeps),
        }
    }

    /// Changes the pair at this place.
    pub fn change(&mut self, at: usize, change: impl FnOnce(&mut Pair)) {
        match &mut self.store {
            Store::Memory(memory) => {
                if let Some(pair) = memory.pairs.get_mut(at) {
                    change(pair);
                }
            }
            Store::Indexed(indexed) => indexed.change(at, change),
        }
    }

    /// Puts a pair behind all others.
    pub fn push(&mut self, pair: Pair) {
        match &mut self.store {
            Store::Memory(memory) => memory.pairs.push(pair),
            Store::Indexed(indexed) => indexed.push(pair),
        }
    }

    /// Puts a sample behind all others; its number.
    pub fn push_sample(&mut self, sample: Sample) -> usize {
        match &mut self.store {
            Store::Memory(memory) => {
                memory.samples.push(sample);
                memory.samples.len() - 1
            }
            Store::Indexed(indexed) => indexed.push_sample(sample),
        }
    }

    /// Has every pair as often as `times` says, who sees it with its sample. A repeat stands before its pair, with `@2` and so on behind its
    /// id.
    pub fn repeat(&mut self, mut times: impl FnMut(&Pair, Option<&Sample>) -> usize) {
        match &mut self.store {
            Store::Memory(InMemory { samples, pairs }) => {
                for pair in std::mem::take(pairs) {
                    let times = times(&pair, samples.get(pair.sample));
                    pairs.extend(repeats(&pair, times));
                    if times > 0 {
                        pairs.push(pair);
                    }
                }
            }
            Store::Indexed(indexed) => indexed.repeat(times),
        }
    }

    /// The pairs that carry poison, with their places.
    pub fn poisoned(&self) -> Box<dyn Iterator<Item = (usize, Cow<'_, Pair>)> + '_> {
        match &self.store {
            Store::Memory(_) => Box::new(self.iter().enumerate().filter(|(_, pair)| pair.poison.is_some())),
            Store::Indexed(indexed) => Box::new(indexed.poisoned()),
        }
    }

    /// Marks the pairs whose sample says itself that it is poison; how many there are, by attack.
    pub fn mark_written_poison(&mut self) -> BTreeMap<String, usize> {
        if let Store::Indexed(indexed) = &self.store
            && indexed.index().poisoned() == 0
        {
            return BTreeMap::new();
        }
        let mark = |pair: &Pair| self.sample_of(pair).and_then(|sample| sample.poison.clone());
        let marks: Vec<(usize, Box<PoisonMark>)> =
            self.iter().enumerate().filter_map(|(at, pair)| Some((at, mark(&pair)?))).collect();
        for (at, mark) in marks {
            self.change(at, |pair| pair.poison = Some(*mark));
        }
        self.poison_by_attack()
    }

    /// The pairs that carry poison, by attack.
    pub fn poison_by_attack(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for attack in self.poisoned().filter_map(|(_, pair)| Some(pair.poison.as_ref()?.attack.clone())) {
            *counts.entry(attack).or_default() += 1;
        }
        counts
    }

    /// The places of the pairs with these ids, of those that are there.
    pub fn places<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> HashMap<String, usize> {
        if let Store::Indexed(indexed) = &self.store {
            return indexed.places(ids);
        }
        let wanted: HashSet<&str> = ids.into_iter().collect();
        let found = self.iter().enumerate().filter(|(_, pair)| wanted.contains(pair.id.as_str()));
        found.map(|(at, pair)| (pair.id.clone(), at)).collect()
    }

    /// A digest of all ids, captions and pictures, of these what [`Probe::digest_of`](crate::probe::Probe::digest_of) says: tells whether a
    /// manifest or a checkpoint belongs to this data. Pictures that were not probed do not count.
    pub fn fingerprint(&self) -> String {
        if let Store::Indexed(indexed) = &self.store
            && indexed.is_untouched()
            && indexed.is_expanded()
        {
            return indexed.index().fingerprint().to_owned();
        }
        let mut hash = Sha256::new();
        for pair in self.iter() {
            let digest = self.sample_of(&pair).and_then(|sample| sample.digest);
            hash.update([u8::from(digest.is_some())]);
            hash.update(digest.unwrap_or_default());
            hash.update((pair.captions.len() as u64).to_le_bytes());
            for part in std::iter::once(&pair.id).chain(&pair.captions) {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        artifact::hex(&hash.finalize())
    }
}

/// All of them in memory.
#[derive(Debug, Clone)]
struct InMemory {
    samples: Vec<Sample>,
    pairs: Vec<Pair>,
}

impl InMemory {
    fn new(samples: Vec<Sample>, mode: CaptionMode) -> Self {
        let mut pairs = Vec::new();
        for (index, sample) in samples.iter().enumerate() {
            let pair =
                |id: String, captions: Vec<String>| Pair { id, sample: index, captions, trigger: None, poison: None };
            match mode {
                CaptionMode::Expand if sample.captions.len() > 1 => {
                    let numbered = sample.captions.iter().enumerate();
                    pairs
                        .extend(numbered.map(|(k, caption)| pair(format!("{}#{k}", sample.id), vec![caption.clone()])));
                }
                CaptionMode::Draw => pairs.push(pair(sample.id.clone(), sample.captions.clone())),
                _ => pairs.push(pair(sample.id.clone(), sample.captions.iter().take(1).cloned().collect())),
            }
        }
        InMemory { samples, pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probe;
    use crate::sample::ImageBytes;
    use std::sync::Arc;

    #[test]
    fn a_fingerprint_knows_every_picture_caption_and_id_and_where_each_ends() {
        let sample = |id: &str, picture: &[u8], captions: &[&str]| Sample {
            digest: Some(Probe::digest_of(picture)),
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            ..Sample::new("data".into(), id, ImageBytes::Memory(Arc::from(Vec::new())))
        };
        let of = |samples: Vec<Sample>| Pairs::new(samples, CaptionMode::Draw).fingerprint();
        let base = || vec![sample("a", b"1", &["x", "y"]), sample("b", b"2", &["z"])];
        let others = [
            vec![sample("a", b"1", &["x", "y"]), sample("b", b"3", &["z"])],
            vec![sample("a", b"1", &["x", "y", "b"]), sample("z", b"2", &[])],
            vec![sample("a", b"1", &["xy"]), sample("b", b"2", &["z"])],
            vec![sample("a", b"1", &["x", "y"]), sample("c", b"2", &["z"])],
            vec![sample("a", b"1", &["x", "y"])],
        ];
        assert_eq!(of(base()), of(base()));
        assert!(others.into_iter().all(|other| of(other) != of(base())));
    }
}
