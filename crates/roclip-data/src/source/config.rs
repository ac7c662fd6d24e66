//! Which samples to read, as a recipe says it.

use crate::source::EmojiConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which samples to read.
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
    /// CSV: take images that lie outside of that folder, by absolute paths or by `..`. A file of strangers could name any file of the machine.
    pub outside_paths: bool,
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
    /// What all gzip shards may take in memory, where their pictures are kept, in MiB. Plain tars are read in place and take none.
    pub gzip_memory_mib: u64,
    /// The built-in set only.
    pub emoji: EmojiConfig,
}

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig {
            path: "emoji".into(),
            split: None,
            image_root: None,
            outside_paths: false,
            image_column: None,
            caption_column: None,
            split_column: None,
            class_column: None,
            labels: None,
            gzip_memory_mib: 1024,
            emoji: EmojiConfig::default(),
        }
    }
}
