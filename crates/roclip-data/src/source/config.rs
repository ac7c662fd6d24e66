//! Which samples to read, as a recipe says it.

use crate::error::{Error, Result};
use crate::source::EmojiConfig;
use crate::source::spelling::{part_count, path_parts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which samples are read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// `emoji` (built in), WebDataset shards (a folder, `*.tar`, `shard-{000..015}.tar`), a list of pictures (CSV, TSV, JSON lines, Parquet,
    /// COCO's JSON), or a folder of images; several are joined with `::`, and `{a,b}`, `*`, `?` and `**` stand for what lies there.
    pub path: String,
    /// Only samples of this split, where the source has splits; all when absent.
    #[schemars(example = &"train")]
    pub split: Option<String>,
    /// Lists: the folder that relative image paths start from; the folder of the list when absent. One for all joined lists, or one for each of
    /// the joined parts, as in `a/images::b/images` (nothing between `::` for a list's own folder).
    #[schemars(example = &"images")]
    pub image_root: Option<PathBuf>,
    /// Lists: whether images outside of that folder are taken, by absolute paths or by `..`. A file of strangers could name any file of the
    /// machine.
    pub outside_paths: bool,
    /// Lists: name of the column of image paths, or its number from 1 in a CSV file without a header; found by its name when absent.
    #[schemars(example = &"filepath")]
    pub image_column: Option<String>,
    /// CSV: what stands between two columns, as in `,` or `;` (`tab` and `\t` are a tab); found when absent.
    #[schemars(example = &",")]
    pub csv_separator: Option<String>,
    /// CSV: the encoding of the text, as in latin-1, windows-1252, utf-16 or gbk. UTF-8 when absent, or UTF-16 where the file begins with its
    /// mark.
    #[schemars(example = &"windows-1252")]
    pub csv_encoding: Option<String>,
    /// Lists: name or number of the column of captions; found by its name when absent.
    #[schemars(example = &"caption")]
    pub caption_column: Option<String>,
    /// Lists: name or number of the column of splits; found by its name when absent.
    #[schemars(example = &"split")]
    pub split_column: Option<String>,
    /// Lists: name or number of the column of classes; found by its name when absent.
    #[schemars(example = &"class")]
    pub class_column: Option<String>,
    /// File that names the classes of images whose source does not: JSON `{"classes": [...], "images": {SPLIT: {IMAGE: CLASS}}}`, or CSV
    /// with `image,label`. `roclip data concepts` makes one from captions.
    #[schemars(example = &"classes.json")]
    pub labels: Option<PathBuf>,
    /// Memory that the pictures of all gzip shards, or in all Parquet files, may take, in MiB; those of Parquet behind it are read in place. Plain
    /// tars are read in place and take none.
    pub gzip_memory_mib: u64,
    /// Which part of the built-in emoji set is used; other sources ignore it.
    pub emoji: EmojiConfig,
    /// Whether samples get the sha256 that the source says their pictures have (`Sample::sha256`). No key of a recipe: training has no use
    /// for it.
    #[serde(skip)]
    #[schemars(skip)]
    pub with_sha256: bool,
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
            csv_separator: None,
            csv_encoding: None,
            split_column: None,
            class_column: None,
            labels: None,
            gzip_memory_mib: 1024,
            emoji: EmojiConfig::default(),
            with_sha256: false,
        }
    }
}

/// Between the folders of joined parts, as between their paths.
const JOINT: &str = "::";

/// The path of the built-in pictures.
pub const BUILT_IN: &str = "emoji";

impl SourceConfig {
    /// Whether the built-in pictures are among what is joined.
    pub fn has_built_in(&self) -> bool {
        path_parts(&self.path).any(|part| part == BUILT_IN)
    }

    /// The folder that the pictures of the lists at `path` start from where they are read as those of this source are. One for each of its
    /// joined parts is of those parts alone.
    pub fn root_for(&self, path: &str) -> Option<&PathBuf> {
        self.image_root.as_ref().filter(|_| path == self.path || self.root_of_each().is_none())
    }

    /// `image_root`, where it names a folder for each of the joined parts.
    fn root_of_each(&self) -> Option<&str> {
        let root = self.image_root.as_ref()?.to_str()?;
        (part_count(&self.path) > 1 && root.contains(JOINT)).then_some(root)
    }

    /// The folder that image paths start from in each joined part, in their order; none for that of the list itself.
    ///
    /// # Errors
    /// Folders for another number of parts than there are.
    pub(super) fn image_roots(&self) -> Result<Vec<Option<PathBuf>>> {
        let parts = part_count(&self.path);
        let Some(named) = self.root_of_each() else { return Ok(vec![self.image_root.clone(); parts]) };
        let folders = || named.split(JOINT);
        if folders().count() != parts {
            return Err(Error::setting(
                format!(
                    "image_root `{named}` names {} folders, and `{}` joins {parts} parts",
                    folders().count(),
                    self.path
                ),
                "name one for all (--image-root), or one for each part in their order, with nothing between `::` for a list's own folder",
            ));
        }
        Ok(folders().map(|folder| (!folder.is_empty()).then(|| PathBuf::from(folder))).collect())
    }
}

/// What [`SourceConfig::image_roots`] reads for parts whose pictures start from these folders.
pub(super) fn join_roots(roots: &[Option<PathBuf>]) -> Option<PathBuf> {
    let first = roots.first()?;
    if roots.iter().all(|root| root == first) {
        return first.clone();
    }
    let folders = roots.iter().map(|root| root.as_ref().map(|root| root.display().to_string()).unwrap_or_default());
    Some(folders.collect::<Vec<_>>().join(JOINT).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_parts_have_one_folder_of_pictures_or_one_each() {
        let roots = |path: &str, root: &str| {
            let config = SourceConfig { path: path.into(), image_root: Some(root.into()), ..SourceConfig::default() };
            config.image_roots()
        };
        let some = |folder: &str| Some(PathBuf::from(folder));
        assert_eq!(roots("a.csv::b.csv", "x").unwrap(), [some("x"), some("x")]);
        assert_eq!(roots("a.csv::b.csv", "x::y").unwrap(), [some("x"), some("y")]);
        assert_eq!(roots("a.csv::b.csv::c.csv", "x::::y").unwrap(), [some("x"), None, some("y")]);
        assert_eq!(roots("a.csv", "x::y").unwrap(), [some("x::y")], "a name, where nothing is joined");
        let error = roots("a.csv::b.csv", "x::y::z").unwrap_err().to_string();
        assert!(error.contains("names 3 folders") && error.contains("joins 2 parts"), "{error}");
        assert_eq!(
            SourceConfig { path: "a::b".into(), ..SourceConfig::default() }.image_roots().unwrap(),
            [None, None]
        );
        let read_alike = |path: &str, root: &str, other: &str| {
            let config = SourceConfig { path: path.into(), image_root: Some(root.into()), ..SourceConfig::default() };
            config.root_for(other).cloned()
        };
        assert_eq!(read_alike("a.csv::b.csv", "x", "c.csv"), some("x"));
        assert_eq!(read_alike("a.csv", "x::y", "c.csv"), some("x::y"));
        assert_eq!(read_alike("a.csv::b.csv", "x::y", "a.csv::b.csv"), some("x::y"));
        assert_eq!(read_alike("a.csv::b.csv", "x::y", "c.csv"), None);
        assert_eq!(read_alike("a.csv::b.csv", "x::y", "c.csv::d.csv"), None);
        for (parts, joined) in [
            (vec![some("x"), some("x")], some("x")),
            (vec![some("x"), some("y")], some("x::y")),
            (vec![some("x"), None], some("x::")),
            (vec![None, None], None),
        ] {
            assert_eq!(join_roots(&parts), joined);
            let config = SourceConfig { path: "a::b".into(), image_root: joined, ..SourceConfig::default() };
            assert_eq!(config.image_roots().unwrap(), parts);
        }
    }
}
