//! Sources: what lists samples. A format is one file here.
//!
//! A source names its samples once. Samples that cannot be used are skipped, counted by reason and written down
//! (`skips.jsonl`), never dropped in silence.

mod csv;
mod emoji;
mod folder;
mod labels;
mod webdataset;

pub use emoji::EmojiConfig;
pub use labels::{LabelFile, Labels};

use crate::error::{Error, IoContext, Result};
use crate::sample::Sample;
use crate::skip::SkipReport;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Something that can list samples. A format is one file with one of these.
pub trait Source {
    fn samples(&self) -> Result<(Vec<Sample>, SkipReport)>;
}

/// Which samples to read, as a recipe says it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// `emoji` for the built-in set, else a WebDataset shard (`*.tar`, `*.tar.gz`), a folder of shards, a brace range
    /// (`shard-{000..015}.tar`), a CSV/TSV file, or a folder of images (`CLASS/*.jpg`). Several are joined with `::`.
    pub path: String,
    /// Only samples of this split, where the source has one.
    pub split: Option<String>,
    /// CSV: the folder that relative image paths start from; the CSV's own folder when absent.
    pub image_root: Option<PathBuf>,
    /// CSV: name of the image column, or its number from 1 in a file without a header. Sniffed when absent.
    pub image_column: Option<String>,
    /// CSV: the caption column, likewise.
    pub caption_column: Option<String>,
    /// CSV: the split column, likewise.
    pub split_column: Option<String>,
    /// CSV: the class column, likewise.
    pub class_column: Option<String>,
    /// A JSON file `{"classes": [...], "images": {SPLIT: {IMAGE: CLASS}}}`, or CSV with `image,label`, that names the
    /// classes of images whose source does not. `roclip data concepts` makes one from captions.
    pub labels: Option<PathBuf>,
    /// The built-in set only.
    pub emoji: EmojiConfig,
}

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig {
            path: "emoji".into(),
            split: None,
            image_root: None,
            image_column: None,
            caption_column: None,
            split_column: None,
            class_column: None,
            labels: None,
            emoji: EmojiConfig::default(),
        }
    }
}

/// Reads the samples that `config` asks for. Ids must be unique; an empty set is an error.
pub fn read_samples(config: &SourceConfig) -> Result<(Vec<Sample>, SkipReport)> {
    let mut samples = Vec::new();
    let mut skips = SkipReport::default();
    for part in config.path.split("::").filter(|p| !p.is_empty()) {
        let (mut found, skipped) = open(part, config)?.samples()?;
        samples.append(&mut found);
        skips.merge(skipped);
    }
    if let Some(path) = &config.labels {
        Labels::read(path)?.apply(&mut samples);
    }
    if let Some(split) = &config.split {
        samples.retain(|sample| sample.split.as_ref() == Some(split));
    }
    if samples.is_empty() {
        let split = config.split.as_ref().map(|s| format!(" in split `{s}`")).unwrap_or_default();
        let skipped = if skips.total() > 0 { format!(" ({})", skips.summary()) } else { String::new() };
        return Err(Error::setting(
            format!("no samples in `{}`{split}{skipped}", config.path),
            "check the path, the split and the columns",
        ));
    }
    let mut seen = std::collections::HashSet::with_capacity(samples.len());
    if let Some(twice) = samples.iter().find(|sample| !seen.insert(sample.id.as_str())) {
        return Err(Error::setting(
            format!("two samples of `{}` have the id `{}`", config.path, twice.id),
            "rename one: manifests and resume need unique ids",
        ));
    }
    Ok((samples, skips))
}

fn open(part: &str, config: &SourceConfig) -> Result<Box<dyn Source>> {
    if part == "emoji" {
        return Ok(Box::new(emoji::Emoji::new(config.emoji.clone(), config.split.clone())?));
    }
    let path = Path::new(part);
    let name = part.to_lowercase();
    if path.is_dir() || part.contains('{') || webdataset::is_shard(path) {
        let shards = webdataset::expand(part)?;
        return Ok(match shards.is_empty() {
            true => Box::new(folder::Folder::new(path.to_owned())),
            false => Box::new(webdataset::WebDataset::new(shards)),
        });
    }
    std::fs::metadata(path).io("find", path)?;
    if name.ends_with(".csv") || name.ends_with(".tsv") || name.ends_with(".txt") {
        return Ok(Box::new(csv::Csv::new(path.to_owned(), config.clone())));
    }
    Err(Error::file(
        path,
        "is not a format known here",
        "give *.tar, *.tar.gz, *.csv, *.tsv, or a folder of shards or images",
    ))
}
