//! Samples handed on one after the other, for whoever writes them down instead of holding them, and what says whether they are still the same.

use crate::error::{Error, Result};
use crate::picture::ImageLimits;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason};
use crate::source::seen::Seen;
use crate::source::{
    Listing, Part, Rest, SourceConfig, Take, check_all_parts_are_split, check_places, list_samples, parts,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the listing of a source depends on.
pub struct Described {
    /// The settings and places, as a text that differs where another listing may.
    pub identity: String,
    /// The files that are listed.
    pub files: Vec<PathBuf>,
    /// Whether they are many or long enough that a list in memory costs more than an index.
    pub is_large: bool,
}

/// How far [`stream_samples`] came.
pub enum Streamed {
    /// All samples were handed on; what else the source has.
    Whole(Listing),
    /// Some were, and the others need a list in memory ([`list_samples`]): parts of a sample lie apart.
    Apart,
}

/// None for data that an index cannot name: pictures that are held in memory (gzip shards, emoji), a labels file, and kinds of sources
/// that are small.
///
/// # Errors
/// A path or a setting that cannot be.
pub fn describe(config: &SourceConfig, limits: ImageLimits) -> Result<Option<Described>> {
    let parts = parts(config, limits)?;
    if parts.is_empty() || config.labels.is_some() || parts.iter().any(|part| part.source.worth_an_index().is_none()) {
        return Ok(None);
    }
    let mut files = Vec::new();
    let (mut named, mut is_large) = (Vec::new(), false);
    for part in &parts {
        let places = part.source.places();
        let bytes: u64 = places.iter().filter_map(|place| place.metadata().ok()).map(|found| found.len()).sum();
        is_large |= part.source.worth_an_index().is_some_and(|large| bytes > large);
        named.push(json!([part.name, part.number, places]));
        files.extend(places);
    }
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let roots: Vec<Option<PathBuf>> = config.image_roots()?.iter().map(|root| root.as_ref().map(absolute)).collect();
    // As it always was where all have the same, so that indexes stay theirs.
    let image_root = match roots.split_first() {
        Some((first, others)) if others.iter().all(|other| other == first) => json!(first),
        _ => json!(roots),
    };
    let SourceConfig { split, image_column, caption_column, split_column, class_column, .. } = config;
    let identity = json!({
        "parts": named, "split": split, "image_root": image_root, "outside_paths": config.outside_paths,
        "columns": [image_column, caption_column, split_column, class_column],
        "csv": [&config.csv_separator, &config.csv_encoding], "limits": limits,
    });
    Ok(Some(Described { identity: identity.to_string(), files, is_large }))
}

/// [`list_samples`] that hands every sample to `take` and holds none.
///
/// # Errors
/// Those of the list, and those of `take`.
pub fn stream_samples(config: &SourceConfig, limits: ImageLimits, take: Take) -> Result<Streamed> {
    let parts = parts(config, limits)?;
    check_places(&parts, config)?;
    // A folder of the split's own name is that split where its samples say none, which is known at the end.
    let is_itself = config
        .split
        .as_ref()
        .is_some_and(|split| Path::new(&config.path).file_name().is_some_and(|name| name.eq_ignore_ascii_case(split)));
    if is_itself {
        return Ok(Streamed::Apart);
    }
    let mut all = Listing::default();
    let mut seen = Seen::default();
    let mut handed = Handed::default();
    for Part { name, number, source, .. } in &parts {
        let distinct = parts.len() == 1 && source.streams_distinct_ids();
        let mut pass = |mut sample: Sample| {
            sample.part = *number;
            if parts.len() > 1 {
                sample.id = format!("{name}/{}", sample.id);
            }
            match distinct || seen.insert(&sample.id) {
                true => handed.on(sample, config, take),
                false => {
                    handed.repeated.push(sample.id);
                    Ok(())
                }
            }
        };
        let (mut found, rest) = source.stream(&mut pass)?;
        if rest == Rest::Apart {
            return Ok(Streamed::Apart);
        }
        if parts.len() > 1 {
            found = found.under(name);
        }
        all.append(found);
    }
    for id in &handed.repeated {
        all.skips.add(id, Skip::new(SkipReason::SampleRepeated, "an earlier one has this id"));
    }
    if let Some(split) = &config.split {
        check_all_parts_are_split(config, handed.parts.into_iter())?;
        all.forget_losses_beside(split);
    }
    all.listed = handed.all + all.skips.count(SkipReason::loses_sample);
    match handed.asked {
        // What to say of it is known where the samples are.
        0 => list_samples(config, limits).and(Err(Error::internal("a list has samples, and its stream has none"))),
        _ => Ok(Streamed::Whole(all)),
    }
}

/// What was handed on.
#[derive(Default)]
struct Handed {
    /// Samples with an id of their own, and those of them that are in the split that is asked for.
    all: usize,
    asked: usize,
    repeated: Vec<String>,
    /// By the number of a joined part, where a split is asked for: whether a sample of it is in one.
    parts: BTreeMap<u32, bool>,
}

impl Handed {
    fn on(&mut self, sample: Sample, config: &SourceConfig, take: &mut dyn FnMut(Sample) -> Result<()>) -> Result<()> {
        self.all += 1;
        if let Some(split) = &config.split {
            *self.parts.entry(sample.part).or_default() |= sample.split.is_some();
            if !sample.split.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(split)) {
                return Ok(());
            }
        }
        self.asked += 1;
        take(sample)
    }
}
