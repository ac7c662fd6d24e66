//! Copies of pictures, by their bytes and by what they show, and what the captions of the copies have in common.

use crate::error::{Error, Result};
use crate::sample::Sample;
use crate::statistics::captions::{as_words, shared_phrase};
use crate::statistics::config::StatisticsConfig;
use crate::statistics::look::Look;
use crate::statistics::near::groups;
use crate::statistics::perceptual::PerceptualHash;
use aho_corasick::AhoCorasick;
use serde::Serialize;
use std::collections::BTreeSet;

/// Share of the captions of a group that must have a phrase for it to be theirs.
const AGREEMENT: f64 = 0.8;
/// Pictures of a group that can be shown.
const SHOWN: usize = 12;
/// Ids and captions of a group that are listed.
const EXAMPLES: usize = 5;

/// Copies in a data set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CopyStatistics {
    /// Groups of pictures with equal bytes.
    pub equal_groups: usize,
    /// Pictures in them, but the first of each.
    pub equal_copies: usize,
    /// Bits of the perceptual hash in which near-copies may differ.
    pub near_bits: u32,
    /// Groups of near-copies, those with equal bytes included.
    pub near_groups: usize,
    /// Pictures in them, but the first of each.
    pub near_copies: usize,
    /// Pictures of one colour, which are compared by their bytes alone.
    pub flat: usize,
    /// The largest groups.
    pub largest: Vec<Cluster>,
    /// Groups whose captions say the same, those with most such captions first: they may be natural backdoors.
    pub suspects: Vec<Cluster>,
    /// Pictures that a group needs to be looked at as a suspect, the groups that have them, and those of them whose captions say the same.
    pub min_copies: usize,
    pub looked_at: usize,
    pub suspected: usize,
    /// Places among the samples of all near-copies but the first of each group, ascending.
    #[serde(skip)]
    pub but_first: Vec<u32>,
}

/// A group of near-copies of one picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub pictures: usize,
    /// Pictures whose bytes another one of the group has, too.
    pub equal_bytes: usize,
    /// The most bits in which one of them differs from the first.
    pub widest_bits: u32,
    pub captions: usize,
    /// Case aside.
    pub distinct_captions: usize,
    /// What at least four of five captions say, where there is such a thing.
    pub phrase: Option<SharedPhrase>,
    pub ids: Vec<String>,
    pub caption_examples: Vec<String>,
    /// Places among the samples of the first pictures.
    #[serde(skip)]
    pub shown: Vec<u32>,
}

/// A word or a phrase that the captions of a group share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedPhrase {
    pub words: String,
    /// Captions of the group that have it.
    pub captions: usize,
    /// Captions of other pictures that have it.
    pub elsewhere: usize,
    /// Captions of other pictures.
    pub others: usize,
}

/// Collects what copies are found by, for every sample in turn.
pub(super) struct CopyFinder {
    hashes: Vec<Option<PerceptualHash>>,
    /// The beginning of the sha256 of the bytes; none of what cannot be used.
    digests: Vec<Option<u128>>,
}

/// Groups that were found.
pub(super) struct Found {
    usable: Vec<bool>,
    statistics: CopyStatistics,
}

impl CopyFinder {
    pub(super) fn new(samples: usize) -> Self {
        CopyFinder { hashes: Vec::with_capacity(samples), digests: Vec::with_capacity(samples) }
    }

    pub(super) fn add(&mut self, found: Option<&Look>) {
        self.hashes.push(found.and_then(|found| found.hash));
        self.digests.push(found.map(|found| {
            let (start, _) = found.sha256.split_at(16);
            start.iter().fold(0, |digest, byte| digest << 8 | u128::from(*byte))
        }));
    }

    pub(super) fn find(self, samples: &[Sample], config: StatisticsConfig) -> Found {
        let CopyFinder { hashes, digests } = self;
        let mut by_digest: Vec<(u128, u32)> =
            digests.iter().zip(0..).filter_map(|(digest, at)| digest.map(|digest| (digest, at))).collect();
        by_digest.sort_unstable();
        let equal = || by_digest.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
        let is_flat = |place: u32| hashes.get(place as usize).is_some_and(Option::is_none);
        let mut near = groups(&hashes, config.near_bits);
        near.extend(
            equal()
                .filter(|group| group.first().is_some_and(|(_, at)| is_flat(*at)))
                .map(|group| group.iter().map(|(_, at)| *at).collect::<Vec<u32>>()),
        );
        let mut statistics = CopyStatistics {
            equal_groups: equal().count(),
            equal_copies: equal().map(|group| group.len() - 1).sum(),
            near_bits: config.near_bits,
            near_groups: near.len(),
            near_copies: near.iter().map(|group| group.len() - 1).sum(),
            flat: hashes.iter().zip(&digests).filter(|(hash, digest)| hash.is_none() && digest.is_some()).count(),
            but_first: near.iter().flat_map(|group| group.iter().skip(1).copied()).collect(),
            ..CopyStatistics::default()
        };
        drop(by_digest);
        statistics.but_first.sort_unstable();
        near.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let usual = Usual::of(samples);
        let cluster = |group: &Vec<u32>| cluster(group, samples, &hashes, &digests, &usual);
        statistics.largest = near.iter().take(config.listed).map(cluster).collect();
        let large = || near.iter().take_while(|group| group.len() >= config.min_copies.max(2));
        statistics.min_copies = config.min_copies.max(2);
        statistics.looked_at = large().count();
        for group in large() {
            let found = cluster(group);
            if found.phrase.is_some() {
                statistics.suspected += 1;
                statistics.suspects.push(found);
            }
            // What is sorted out now need not be kept.
            if statistics.suspects.len() > 2 * config.listed {
                keep_strongest(&mut statistics.suspects, config.listed);
            }
        }
        keep_strongest(&mut statistics.suspects, config.listed);
        Found { usable: digests.iter().map(Option::is_some).collect(), statistics }
    }
}

fn keep_strongest(suspects: &mut Vec<Cluster>, most: usize) {
    suspects.sort_by_key(|cluster| std::cmp::Reverse(cluster.phrase.as_ref().map_or(0, |phrase| phrase.captions)));
    suspects.truncate(most);
}

fn cluster(
    group: &[u32],
    samples: &[Sample],
    hashes: &[Option<PerceptualHash>],
    digests: &[Option<u128>],
    usual: &Usual,
) -> Cluster {
    let members = || group.iter().filter_map(|at| samples.get(*at as usize));
    let captions = || members().flat_map(|sample| &sample.captions).map(String::as_str);
    let hash = |at: &u32| hashes.get(*at as usize).copied().flatten();
    let first = group.first().and_then(hash);
    let distances = group.iter().filter_map(|at| Some(first?.distance(hash(at)?)));
    let mut of_group: Vec<u128> = group.iter().filter_map(|at| digests.get(*at as usize).copied().flatten()).collect();
    of_group.sort_unstable();
    let mut caption_examples: Vec<String> = Vec::new();
    for caption in captions() {
        if caption_examples.len() == EXAMPLES {
            break;
        }
        if !caption_examples.iter().any(|known| known == caption) {
            caption_examples.push(caption.to_owned());
        }
    }
    Cluster {
        pictures: group.len(),
        equal_bytes: of_group.chunk_by(|a, b| a == b).map(<[u128]>::len).filter(|copies| *copies > 1).sum(),
        widest_bits: distances.max().unwrap_or(0),
        captions: captions().count(),
        distinct_captions: captions().map(as_words).collect::<BTreeSet<_>>().len(),
        phrase: shared_phrase(captions(), AGREEMENT, &|phrase| usual.has(phrase, group))
            .map(|(words, captions)| SharedPhrase { words, captions, elsewhere: 0, others: 0 }),
        ids: members().take(EXAMPLES).map(|sample| sample.id.clone()).collect(),
        caption_examples,
        shown: group.iter().take(SHOWN).copied().collect(),
    }
}

/// Captions spread over all data, by which a phrase that most captions have is known: it tells no group from the others.
struct Usual(Vec<(u32, String)>);

/// So many captions are looked at, about, and so many are needed to say what is usual.
const LOOKED_AT: usize = 1000;
const NEEDED: usize = 10;

impl Usual {
    fn of(samples: &[Sample]) -> Usual {
        let some = (0u32..).zip(samples).step_by(samples.len().div_ceil(LOOKED_AT).max(1));
        Usual(some.filter_map(|(place, sample)| Some((place, as_words(sample.captions.first()?)))).collect())
    }

    /// Whether at least half of the captions outside of `group` have the phrase.
    fn has(&self, phrase: &str, group: &[u32]) -> bool {
        let phrase = format!(" {phrase} ");
        let (mut having, mut others) = (0, 0);
        for (_, caption) in self.0.iter().filter(|(place, _)| group.binary_search(place).is_err()) {
            others += 1;
            having += usize::from(caption.contains(&phrase));
        }
        others >= NEEDED && 2 * having >= others
    }
}

impl Found {
    /// Whether the picture at `place` can be used.
    pub(super) fn usable(&self, place: usize) -> bool {
        self.usable.get(place).copied().unwrap_or(false)
    }

    /// Says how many captions outside of its group have each phrase.
    pub(super) fn set_elsewhere(&mut self, counted: &Phrases) {
        let CopyStatistics { largest, suspects, .. } = &mut self.statistics;
        for cluster in largest.iter_mut().chain(suspects) {
            let Some(phrase) = cluster.phrase.as_mut() else { continue };
            phrase.elsewhere = counted.of_phrase(&phrase.words).saturating_sub(phrase.captions);
            phrase.others = counted.captions.saturating_sub(cluster.captions);
        }
    }

    pub(super) fn finish(self) -> CopyStatistics {
        self.statistics
    }
}

/// Counts the captions that have each of several phrases, all in one pass over a caption.
pub(super) struct Phrases {
    phrases: Vec<String>,
    counts: Vec<usize>,
    /// Of all samples.
    captions: usize,
    automaton: AhoCorasick,
}

impl Phrases {
    /// The phrases of the groups that were found.
    pub(super) fn of(found: &Found) -> Result<Phrases> {
        let CopyStatistics { largest, suspects, .. } = &found.statistics;
        let phrases: BTreeSet<&String> =
            largest.iter().chain(suspects).filter_map(|cluster| Some(&cluster.phrase.as_ref()?.words)).collect();
        let phrases: Vec<String> = phrases.into_iter().cloned().collect();
        let patterns = phrases.iter().map(|phrase| format!(" {phrase} "));
        let automaton = AhoCorasick::new(patterns).map_err(|e| Error::internal(format!("phrases: {e}")))?;
        Ok(Phrases { counts: vec![0; phrases.len()], captions: 0, phrases, automaton })
    }

    pub(super) fn count(&mut self, sample: &Sample) {
        if self.phrases.is_empty() {
            return;
        }
        self.captions += sample.captions.len();
        for caption in &sample.captions {
            let words = as_words(caption);
            let found: BTreeSet<usize> =
                self.automaton.find_overlapping_iter(&words).map(|found| found.pattern().as_usize()).collect();
            for at in found {
                if let Some(count) = self.counts.get_mut(at) {
                    *count += 1;
                }
            }
        }
    }

    fn of_phrase(&self, phrase: &str) -> usize {
        let at = self.phrases.iter().position(|known| known == phrase);
        at.and_then(|at| self.counts.get(at)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;

    #[test]
    fn what_half_of_the_other_captions_say_is_usual() {
        let caption =
            |number: usize| if number < 5 { "a photo of a cake".into() } else { format!("a photo of thing {number}") };
        let sample = |number: usize| Sample {
            captions: vec![caption(number)],
            ..Sample::new("data".into(), format!("{number}"), ImageBytes::Memory(Vec::new().into()))
        };
        let samples: Vec<Sample> = (0..30).map(sample).collect();
        let usual = Usual::of(&samples);
        let group = [0, 1, 2, 3, 4];
        assert!(usual.has("photo", &group) && !usual.has("cake", &group) && !usual.has("phot", &group));
        // Too few others say nothing.
        assert!(!Usual::of(&samples[..12]).has("photo", &group));
    }
}
