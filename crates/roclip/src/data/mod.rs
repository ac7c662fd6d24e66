//! Image-caption data: sources, decoding and the pairs that training sees.
//!
//! A source names its samples once; bytes are read when a worker asks for them. Samples that cannot be used are skipped,
//! counted by reason and written down (`skips.jsonl`), never dropped in silence.

mod concepts;
mod copies;
mod csv;
mod decode;
mod emoji;
mod folder;
mod labels;
mod loader;
mod pairs;
mod transform;
mod webdataset;

pub use concepts::{ConceptConfig, Concepts};
pub use copies::limit_pairs_per_picture;
pub(crate) use copies::picture_hashes;
pub use decode::{ImageLimits, decode};
pub use emoji::EmojiConfig;
pub use labels::{LabelFile, Labels};
pub use loader::{Loader, PassPlan, tensors};
pub use pairs::{CaptionMode, Pair, Pairs, PoisonMark};
pub use transform::{HostBatch, Overlay, SubCaptionBatch, Transform, View, ViewAugment};

use crate::error::{Error, IoContext, Result};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the encoded bytes of an image are.
#[derive(Debug, Clone)]
pub enum ImageBytes {
    File(PathBuf),
    /// A member of an uncompressed tar, read in place.
    Span {
        archive: Arc<File>,
        path: Arc<Path>,
        offset: u64,
        length: u64,
    },
    Memory(Arc<[u8]>),
}

impl ImageBytes {
    /// The encoded bytes; an error names the file. `limit_bytes` guards memory against an absurd file.
    pub fn read(&self, limit_bytes: u64) -> std::result::Result<Vec<u8>, Skip> {
        let failed =
            |e: std::io::Error, path: &Path| Skip::new("image file cannot be read", format!("{}: {e}", path.display()));
        match self {
            ImageBytes::File(path) => {
                let length = std::fs::metadata(path).map_err(|e| failed(e, path))?.len();
                if length > limit_bytes {
                    return Err(Skip::new("image file too large", format!("{length} bytes, at most {limit_bytes}")));
                }
                std::fs::read(path).map_err(|e| failed(e, path))
            }
            ImageBytes::Span { archive, path, offset, length } => {
                if *length > limit_bytes {
                    return Err(Skip::new("image file too large", format!("{length} bytes, at most {limit_bytes}")));
                }
                let mut bytes = vec![0; *length as usize];
                archive.read_exact_at(&mut bytes, *offset).map_err(|e| failed(e, path))?;
                Ok(bytes)
            }
            ImageBytes::Memory(bytes) => Ok(bytes.to_vec()),
        }
    }
}

/// One image with its captions, as a source names it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Unique within the source and the same on every machine.
    pub id: String,
    pub image: ImageBytes,
    pub captions: Vec<String>,
    /// The class of the image, where the source knows it (for evaluation and diagnostics, never for training).
    pub class: Option<String>,
    /// A coarser class, where there is one.
    pub group: Option<String>,
    /// `train`, `val`, `test`, ... where the source says so.
    pub split: Option<String>,
}

/// Why one sample was left out.
#[derive(Debug, Clone, Serialize)]
pub struct Skip {
    pub reason: &'static str,
    pub detail: String,
}

impl Skip {
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Skip { reason, detail: detail.into() }
    }

    /// An error, where nothing can go on without this image.
    pub fn into_error(self, image: &str) -> Error {
        Error::setting(
            format!("image `{image}` cannot be used: {} ({})", self.reason, self.detail),
            "repair it, or remove it from the data",
        )
    }
}

impl Sample {
    /// The picture, decoded.
    pub fn picture(&self, limits: ImageLimits) -> std::result::Result<RgbImage, Skip> {
        decode(&self.image.read(limits.max_file_bytes)?, limits)
    }
}

/// Skipped samples: `reason -> ids with details`, sorted so that two runs write the same file.
#[derive(Debug, Default, Clone)]
pub struct SkipReport {
    by_reason: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl SkipReport {
    pub fn add(&mut self, id: &str, skip: Skip) {
        self.by_reason.entry(skip.reason).or_default().insert(id.to_owned(), skip.detail);
    }

    /// Whether `id` is among them.
    pub fn names(&self, id: &str) -> bool {
        self.by_reason.values().any(|samples| samples.contains_key(id))
    }

    pub fn merge(&mut self, other: SkipReport) {
        for (reason, samples) in other.by_reason {
            self.by_reason.entry(reason).or_default().extend(samples);
        }
    }

    pub fn total(&self) -> usize {
        self.by_reason.values().map(BTreeMap::len).sum()
    }

    /// `3 image cannot be decoded (first: a.jpg), 1 ...`
    pub fn summary(&self) -> String {
        let parts = self.by_reason.iter().map(|(reason, samples)| {
            let first = samples.iter().next().map(|(id, detail)| format!("{id}: {detail}")).unwrap_or_default();
            format!("{} {reason} (first: {first})", samples.len())
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// One JSON object per line: `{"id", "reason", "detail"}`.
    pub fn to_jsonl(&self) -> String {
        let mut text = String::new();
        for (reason, samples) in &self.by_reason {
            for (id, detail) in samples {
                let line = serde_json::json!({"id": id, "reason": reason, "detail": detail});
                text.push_str(&line.to_string());
                text.push('\n');
            }
        }
        text
    }
}

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
