//! The files of a folder by kind: folders of shards and folders of images share this walk.

use crate::error::{IoContext, Result};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::shards::is_shard;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of these names in front of everything else are the splits of a data set.
const SPLITS: [&str; 6] = ["train", "val", "valid", "validation", "test", "dev"];

/// `datasets` calls the metadata of an image folder so.
const TABLES: [&str; 2] = ["metadata.csv", "metadata.jsonl"];

/// The files of a folder and of those in it; paths are relative to it and sorted.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub shards: Vec<PathBuf>,
    /// Files that name the captions of the pictures beside them.
    pub tables: Vec<PathBuf>,
    pub parquets: Vec<PathBuf>,
    pub images: Vec<PathBuf>,
    /// Images of formats that are not read.
    pub other_images: Vec<PathBuf>,
    pub texts: BTreeSet<PathBuf>,
    /// Ending to number of files that are nothing of these.
    others: BTreeMap<String, usize>,
    /// Folders looked into.
    pub folders: usize,
    pub skips: SkipReport,
}

/// The kind of a file, by the ending of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Image,
    /// An image of a format that is not read.
    OtherImage,
    Text,
    Json,
    Class,
    Other,
}

impl Kind {
    /// Of an ending without its dot.
    pub(crate) fn of(extension: &str) -> Kind {
        match extension.to_lowercase().as_str() {
            "jpg" | "jpeg" | "jpe" | "jfif" | "png" | "webp" | "gif" | "bmp" | "tif" | "tiff" => Kind::Image,
            "avif" | "ico" | "pbm" | "pgm" | "pnm" | "ppm" | "psd" | "tga" | "heic" | "heif" | "jp2" | "jxl"
            | "svg" => Kind::OtherImage,
            "txt" => Kind::Text,
            "json" => Kind::Json,
            "cls" => Kind::Class,
            _ => Kind::Other,
        }
    }
}

impl Tree {
    /// # Errors
    /// When `root` itself cannot be listed; folders in it are skipped then.
    pub(super) fn walk(root: &Path) -> Result<Tree> {
        fs::read_dir(root).io("list", root)?;
        let mut tree = Tree::default();
        let mut waiting = vec![PathBuf::new()];
        while let Some(inside) = waiting.pop() {
            tree.folders += 1;
            if let Err(e) = tree.list(root, &inside, &mut waiting) {
                tree.skips.add(&name(&inside), Skip::new(SkipReason::ShardUnreadable, e.to_string()));
            }
        }
        for files in [&mut tree.shards, &mut tree.tables, &mut tree.parquets, &mut tree.images, &mut tree.other_images]
        {
            files.sort();
        }
        Ok(tree)
    }

    fn list(&mut self, root: &Path, inside: &Path, waiting: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in fs::read_dir(root.join(inside))? {
            let entry = entry?;
            let relative = inside.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(relative);
                continue;
            }
            match fs::metadata(entry.path()) {
                Ok(found) if found.is_file() => self.add(relative),
                // A loop of links would never end.
                Ok(found) if found.is_dir() => {
                    let detail = "it is a link to a folder: name the folder itself";
                    self.skips.add(&name(&relative), Skip::new(SkipReason::ShardUnreadable, detail));
                }
                found if is_of(&relative, &[Kind::Image, Kind::OtherImage]) => {
                    let skip = match found {
                        Ok(_) => Skip::new(SkipReason::ImageNotRegularFile, "it is a device or a pipe"),
                        Err(e) => Skip::new(SkipReason::ImageFileUnreadable, e.to_string()),
                    };
                    self.skips.add(&name(&relative), skip);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, file: PathBuf) {
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        match kind_of(&file) {
            _ if hidden => {}
            _ if is_archive(&file) => {
                let detail = "archives of this kind are not read: unpack it, or store it as *.tar or *.tar.gz";
                self.skips.add(&name(&file), Skip::new(SkipReason::ShardUnreadable, detail));
            }
            _ if is_shard(&file) => self.shards.push(file),
            _ if TABLES.iter().any(|table| file.ends_with(table)) => self.tables.push(file),
            _ if file.extension().is_some_and(|ending| ending == "parquet") => self.parquets.push(file),
            Kind::Image => self.images.push(file),
            Kind::OtherImage => self.other_images.push(file),
            Kind::Text => drop(self.texts.insert(file)),
            _ => {
                let ending = file.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
                *self.others.entry(ending).or_default() += 1;
            }
        }
    }

    /// The other files of the folder, in words, for a message that there is no data.
    pub(super) fn others(&self) -> String {
        let parts = self.others.iter().map(|(ending, count)| match ending.as_str() {
            "" => format!("{count} files without an extension"),
            ending => format!("{count} files with the extension `{ending}`"),
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// The formats that are read, for messages.
pub(crate) const READ_FORMATS: &str = "jpg, png, webp, gif, bmp and tif are read";

/// Whether the name is that of an archive that is not read.
fn is_archive(file: &Path) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    ["7z", "bz2", "rar", "xz", "zip", "zst"].contains(&ending.as_str())
}

/// Counts files with pairs beside those that are read, so that nobody takes them for read.
pub(super) fn unused<'a>(skips: &mut SkipReport, files: impl IntoIterator<Item = &'a PathBuf>) {
    for file in files {
        let detail = "what lies beside it is read instead: name this file to read it";
        skips.add(&name(file), Skip::new(SkipReason::MemberUnused, detail));
    }
}

pub(super) fn kind_of(file: &Path) -> Kind {
    file.extension().and_then(|extension| extension.to_str()).map_or(Kind::Other, Kind::of)
}

fn is_of(file: &Path, kinds: &[Kind]) -> bool {
    kinds.contains(&kind_of(file))
}

/// A path as an id; bytes that are no UTF-8 are escaped, so that two names stay two.
pub(super) fn name(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => escaped(path.as_os_str().as_encoded_bytes()),
    }
}

/// Text with `\xff` for the bytes that are no UTF-8.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// The split that the first folder of a relative path names.
pub(super) fn split_of(relative: &Path) -> Option<&str> {
    let first = relative.parent()?.components().next()?.as_os_str().to_str()?;
    SPLITS.contains(&first.to_lowercase().as_str()).then_some(first)
}
