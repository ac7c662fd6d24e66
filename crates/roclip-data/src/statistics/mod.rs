//! What is in a data set, from a look at every picture and caption: sizes, lengths, what cannot be used, copies, and what may be a natural
//! backdoor: many near-copies of one picture whose captions say the same. CC3M has 798 pairs of one "birthday cake" picture, which act as a
//! trigger that nobody planted.
//!
//! Of a picture about 60 bytes are held, whatever its size; pictures themselves are held while they are looked at.

mod captions;
mod config;
mod copies;
mod hashes;
mod look;
mod near;
mod perceptual;
mod quantiles;
mod verify;

pub use captions::{CaptionStatistics, RepeatedCaption};
pub use config::StatisticsConfig;
pub use copies::{Cluster, CopyStatistics, SharedPhrase};
pub use hashes::{HashFile, Hashes};
pub use look::{Look, look};
pub use perceptual::PerceptualHash;
pub use quantiles::Quantiles;
pub use verify::{Checked, Example, Verified, verify};

use crate::error::{Error, Result};
use crate::progress::Task;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReport};
use crate::statistics::captions::{CaptionCounter, CaptionReader, note_frequent};
use crate::statistics::copies::{CopyFinder, Phrases};
use crate::statistics::look::each_in_order;
use rustc_hash::FxHashSet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Statistics {
    /// Pictures that the sources give.
    pub pictures: usize,
    /// Those that can be used.
    pub usable: usize,
    /// Captions of those that can be used.
    pub pairs: usize,
    /// Pictures of each split; those of none under the empty word.
    pub splits: BTreeMap<String, usize>,
    /// Pictures of each class; none where nothing is labelled.
    pub classes: BTreeMap<String, usize>,
    /// In pixels.
    pub width: Option<Quantiles>,
    pub height: Option<Quantiles>,
    /// Of the encoded pictures, in bytes.
    pub bytes: Option<Quantiles>,
    pub formats: BTreeMap<&'static str, usize>,
    pub captions: CaptionStatistics,
    /// Pictures whose key (the file's name, mostly) an earlier picture of another shard or folder has.
    pub repeated_keys: usize,
    pub copies: CopyStatistics,
    /// What cannot be used, by reason: of the sources and of the pictures.
    pub left_out: BTreeMap<String, LeftOut>,
    /// The same for people.
    #[serde(skip)]
    pub left_out_in_words: String,
}

/// What is left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub count: usize,
    /// Ids with details.
    pub examples: Vec<(String, String)>,
}

/// Examples of each reason.
const EXAMPLES: usize = 5;

impl Statistics {
    /// Looks at `samples`; `skips` is what their sources left out. `each` is told of every picture in the order of the data.
    ///
    /// # Errors
    /// The first of `each`.
    pub fn of(
        samples: &[Sample],
        skips: SkipReport,
        config: StatisticsConfig,
        mut each: impl FnMut(&Sample, &std::result::Result<Look, Skip>) -> Result<()>,
    ) -> Result<Statistics> {
        let StatisticsConfig { limits, workers, .. } = config;
        let reader = CaptionReader::new()?;
        let mut left_out = skips;
        let mut counter = CaptionCounter::default();
        let mut formats: BTreeMap<&'static str, usize> = BTreeMap::new();
        let (mut widths, mut heights, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        let mut finder = CopyFinder::new(samples.len());
        let task = Task::begin("looking at pictures", samples.len(), "pictures");
        let work = |sample: &Sample| {
            let found = look(sample, limits);
            let captions: Vec<_> = match &found {
                Ok(_) => sample.captions.iter().map(|caption| reader.read(caption)).collect(),
                Err(_) => Vec::new(),
            };
            (found, captions)
        };
        each_in_order(samples, workers, &task, work, |place, (found, captions)| {
            let sample = samples.get(place).ok_or_else(|| Error::internal("a picture of no sample"))?;
            each(sample, &found)?;
            finder.add(found.as_ref().ok());
            match found {
                Ok(found) => {
                    counter.add(&captions);
                    *formats.entry(found.format).or_default() += 1;
                    widths.push(u64::from(found.width));
                    heights.push(u64::from(found.height));
                    lengths.push(found.length);
                }
                Err(skip) => left_out.add(&sample.id, skip),
            }
            Ok::<(), Error>(())
        })?;
        drop(task);
        let mut copies = finder.find(samples, config);
        let usable = |place: usize| copies.usable(place);
        let mut frequent = counter.frequent(config.listed);
        let mut phrases = Phrases::of(&copies)?;
        let task = Task::begin("comparing captions", samples.len(), "pictures");
        for (place, sample) in samples.iter().enumerate() {
            task.advance(1);
            if usable(place) {
                note_frequent(&mut frequent, sample);
                phrases.count(sample);
            }
        }
        drop(task);
        copies.set_elsewhere(&phrases);
        let captions = counter.finish(frequent);
        Ok(Statistics {
            pictures: samples.len(),
            usable: lengths.len(),
            pairs: captions.captions,
            splits: crate::survey::splits(samples),
            classes: classes(samples),
            width: Quantiles::of(widths),
            height: Quantiles::of(heights),
            bytes: Quantiles::of(lengths),
            formats,
            captions,
            repeated_keys: repeated_keys(samples),
            copies: copies.finish(),
            left_out: by_reason(&left_out),
            left_out_in_words: left_out.summary(),
        })
    }
}

fn classes(samples: &[Sample]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for class in samples.iter().filter_map(|sample| sample.class.as_ref()) {
        match counts.get_mut(class) {
            Some(count) => *count += 1,
            None => drop(counts.insert(class.clone(), 1)),
        }
    }
    counts
}

fn repeated_keys(samples: &[Sample]) -> usize {
    let mut seen: FxHashSet<u64> = FxHashSet::default();
    let first = |sample: &&Sample| {
        let mut hasher = DefaultHasher::new();
        sample.key.hash(&mut hasher);
        !seen.insert(hasher.finish())
    };
    samples.iter().filter(first).count()
}

fn by_reason(report: &SkipReport) -> BTreeMap<String, LeftOut> {
    let counts = report.counts().into_iter();
    let mut examples = report.examples(EXAMPLES);
    counts
        .map(|(reason, count)| {
            let examples = examples.remove(&reason).unwrap_or_default();
            (reason, LeftOut { count, examples })
        })
        .collect()
}

#[cfg(test)]
mod tests;
