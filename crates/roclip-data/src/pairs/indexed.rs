//! Pairs that an index holds. In memory are the places of those that are kept, where some are not, and the pairs that poison has changed or
//! added.

use crate::index::Index;
use crate::pairs::pair::{CaptionMode, Pair, repeats};
use crate::sample::Sample;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Indexed {
    index: Arc<Index>,
    mode: CaptionMode,
    /// Which of the index's pairs there are, in its order; all of them when absent.
    kept: Option<Vec<Kept>>,
    /// By their place in the index.
    changed: BTreeMap<u32, Pair>,
    /// Numbered behind the index's samples.
    more_samples: Vec<Sample>,
    /// Behind the index's pairs.
    added: Vec<Pair>,
}

/// A pair of the index.
#[derive(Debug, Clone, Copy)]
struct Kept {
    at: u32,
    /// 1 of the pair itself, 2 and so on of its repeats.
    time: u16,
}

impl Indexed {
    pub(super) fn new(index: Arc<Index>, mode: CaptionMode) -> Self {
        let (more_samples, added) = (Vec::new(), Vec::new());
        Indexed { index, mode, kept: None, changed: BTreeMap::new(), more_samples, added }
    }

    /// No pair of the index, and these.
    pub(super) fn with(&self, pairs: Vec<Pair>) -> Self {
        let more_samples = self.more_samples.clone();
        Indexed {
            kept: Some(Vec::new()),
            added: pairs,
            more_samples,
            ..Indexed::new(Arc::clone(&self.index), self.mode)
        }
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Pairs of the index, kept or not.
    fn all(&self) -> usize {
        match self.mode {
            CaptionMode::Expand => self.index.captions(),
            CaptionMode::Draw | CaptionMode::First => self.index.samples(),
        }
    }

    fn of_index(&self) -> usize {
        self.kept.as_ref().map_or_else(|| self.all(), Vec::len)
    }

    pub(super) fn len(&self) -> usize {
        self.of_index() + self.added.len()
    }

    /// Whether the pairs are those of the index as it is.
    pub(super) fn is_untouched(&self) -> bool {
        // A mark of stored poison changes no pair's picture or captions, and is rare: it counts as a change.
        self.kept.is_none() && self.changed.is_empty() && self.added.is_empty()
    }

    /// Whether every caption is a pair, or may as well be.
    pub(super) fn is_expanded(&self) -> bool {
        self.mode == CaptionMode::Expand || self.index.one_caption()
    }

    fn kept(&self, place: usize) -> Option<Kept> {
        match &self.kept {
            Some(kept) => kept.get(place).copied(),
            None => u32::try_from(place).ok().map(|at| Kept { at, time: 1 }),
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<Cow<'_, Pair>> {
        if let Some(added) = place.checked_sub(self.of_index()) {
            return self.added.get(added).map(Cow::Borrowed);
        }
        let Kept { at, time } = self.kept(place)?;
        let pair = match self.changed.get(&at) {
            Some(pair) => Cow::Borrowed(pair),
            None => Cow::Owned(self.read(at)?.0),
        };
        Some(match time {
            1 => pair,
            _ => Cow::Owned(Pair { id: format!("{}@{time}", pair.id), ..pair.into_owned() }),
        })
    }

    /// A pair as the index has it, with its sample.
    fn read(&self, at: u32) -> Option<(Pair, Sample)> {
        let (number, caption) = match self.mode {
            CaptionMode::Expand => {
                let place = self.index.caption_place(at as usize)?;
                (place.sample, Some(place.caption))
            }
            CaptionMode::Draw | CaptionMode::First => (at as usize, None),
        };
        let sample = self.index.sample(number)?;
        let captions = match (self.mode, caption) {
            (CaptionMode::Draw, _) => sample.captions.clone(),
            (_, caption) => sample.captions.iter().skip(caption.unwrap_or(0)).take(1).cloned().collect(),
        };
        let id = match caption {
            Some(k) if sample.captions.len() > 1 => format!("{}#{k}", sample.id),
            _ => sample.id.clone(),
        };
        Some((Pair { id, sample: number, captions, trigger: None, poison: None }, sample))
    }

    pub(super) fn sample_count(&self) -> usize {
        self.index.samples() + self.more_samples.len()
    }

    pub(super) fn sample(&self, number: usize) -> Option<Cow<'_, Sample>> {
        match number.checked_sub(self.index.samples()) {
            Some(more) => self.more_samples.get(more).map(Cow::Borrowed),
            None => self.index.sample(number).map(Cow::Owned),
        }
    }

    /// Pairs that poison was laid over or added.
    pub(super) fn poisoned(&self) -> impl Iterator<Item = (usize, Cow<'_, Pair>)> {
        let changed = self.changed.keys().flat_map(|at| self.places_of(*at));
        let added = self.of_index()..self.len();
        changed
            .chain(added)
            .filter_map(|place| Some((place, self.get(place)?)))
            .filter(|(_, pair)| pair.poison.is_some())
    }

    /// Where a pair of the index is now, with its repeats.
    fn places_of(&self, at: u32) -> std::ops::Range<usize> {
        match &self.kept {
            None => at as usize..at as usize + 1,
            Some(kept) => kept.partition_point(|kept| kept.at < at)..kept.partition_point(|kept| kept.at <= at),
        }
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(usize, &Pair, Option<&Sample>) -> bool) {
        let mut kept = Vec::new();
        let before = self.of_index();
        for place in 0..before {
            let Some(of_index) = self.kept(place) else { break };
            let Some(pair) = self.get(place) else { break };
            let sample = self.sample(pair.sample);
            if keeps(place, &pair, sample.as_deref()) {
                kept.push(of_index);
            }
        }
        let mut place = before;
        let added = std::mem::take(&mut self.added);
        self.added = added
            .into_iter()
            .filter(|pair| {
                place += 1;
                keeps(place - 1, pair, self.sample(pair.sample).as_deref())
            })
            .collect();
        if kept.len() < before {
            kept.shrink_to_fit();
            self.kept = Some(kept);
        }
    }

    /// Keeps the pairs at the places that `keeps` says, without reading any.
    pub(super) fn retain_places(&mut self, mut keeps: impl FnMut(usize) -> bool) {
        let before = self.of_index();
        let kept: Vec<Kept> = (0..before).filter(|place| keeps(*place)).filter_map(|place| self.kept(place)).collect();
        let mut place = before;
        self.added.retain(|_| {
            place += 1;
            keeps(place - 1)
        });
        if kept.len() < before {
            self.kept = Some(kept);
        }
    }

    pub(super) fn change(&mut self, place: usize, change: impl FnOnce(&mut Pair)) {
        if let Some(added) = place.checked_sub(self.of_index()) {
            if let Some(pair) = self.added.get_mut(added) {
                change(pair);
            }
            return;
        }
        let Some(Kept { at, .. }) = self.kept(place) else { return };
        if !self.changed.contains_key(&at) {
            let Some((pair, _)) = self.read(at) else { return };
            self.changed.insert(at, pair);
        }
        if let Some(pair) = self.changed.get_mut(&at) {
            change(pair);
        }
    }

    pub(super) fn push(&mut self, pair: Pair) {
        self.added.push(pair);
    }

    pub(super) fn push_sample(&mut self, sample: Sample) -> usize {
        self.more_samples.push(sample);
        self.sample_count() - 1
    }

    pub(super) fn repeat(&mut self, mut times: impl FnMut(&Pair, Option<&Sample>) -> usize) {
        let mut kept = Vec::new();
        for place in 0..self.of_index() {
            let Some(Kept { at, .. }) = self.kept(place) else { break };
            let Some(pair) = self.get(place) else { break };
            let times = times(&pair, self.sample(pair.sample).as_deref());
            let times = u16::try_from(times).unwrap_or(u16::MAX);
            kept.extend((2..=times).chain((times > 0).then_some(1)).map(|time| Kept { at, time }));
        }
        self.kept = Some(kept);
        for pair in std::mem::take(&mut self.added) {
            let times = times(&pair, self.sample(pair.sample).as_deref());
            self.added.extend(repeats(&pair, times));
            if times > 0 {
                self.added.push(pair);
            }
        }
    }

    pub(super) fn places<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> HashMap<String, usize> {
        let wanted: std::collections::HashSet<&str> = ids.into_iter().collect();
        let mut found = HashMap::new();
        // `a#1` is a sample's own id, or its second caption's.
        let of_sample = |id: &str| match self.mode {
            CaptionMode::Expand => id.rsplit_once('#').map(|(sample, k)| (sample.to_owned(), k.parse::<usize>().ok())),
            _ => None,
        };
        let stems: Vec<(String, Option<usize>)> = wanted.iter().filter_map(|id| of_sample(id)).collect();
        let all = wanted.iter().copied().chain(stems.iter().map(|(sample, _)| sample.as_str()));
        // What cannot be read is said by `Pairs::intact`.
        let samples = self.index.find(all).unwrap_or_default();
        let mut add = |sample: usize, k: usize| {
            let at = match self.mode {
                CaptionMode::Expand => self.index.captions_before(sample).map(|before| before + k),
                _ => Some(sample),
            };
            let places = at.and_then(|at| u32::try_from(at).ok()).map(|at| self.places_of(at)).unwrap_or(0..0);
            for place in places {
                if let Some(pair) = self.get(place).filter(|pair| wanted.contains(pair.id.as_str())) {
                    found.insert(pair.id.clone(), place);
                }
            }
        };
        for (id, sample) in &samples {
            if wanted.contains(id.as_str()) {
                add(*sample, 0);
            }
        }
        for (stem, k) in &stems {
            if let (Some(sample), Some(k)) = (samples.get(stem), k) {
                add(*sample, *k);
            }
        }
        for (pair, place) in self.added.iter().zip(self.of_index()..) {
            if wanted.contains(pair.id.as_str()) {
                found.insert(pair.id.clone(), place);
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "indexed_tests.rs"]
mod tests;
