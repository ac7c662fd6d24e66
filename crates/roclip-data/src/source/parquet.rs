//! Parquet: pictures in the file itself, as `datasets` writes them (`image: {bytes, path}`), or paths of pictures beside it, as in the metadata of
//! img2dataset (`key`, `status`). Columns have the names that they have elsewhere.
//!
//! Pictures in the file are held in memory, up to a limit for all files together. Those behind it, and all of an index, are read in place
//! ([`table`]), which costs the unpacking of a page each.

use crate::error::Result;
use crate::source::json_rows::check_columns;
use crate::source::kept::{Kept, Leave};
use crate::source::losses::{ReadShard, lost_of};
use crate::source::parquet::rows::Table;
use crate::source::shards::distinct_ends;
use crate::source::spelling::place;
use crate::source::tree::{name, split_of};
use crate::source::webdataset::Memory;
use crate::source::{Listing, Rest, Source, SourceConfig, Take};
use std::path::{Path, PathBuf};

mod columns;
mod fields;
mod kept;
mod rows;
#[cfg(test)]
mod test_files;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use test_files::write_texts;

pub(super) struct Parquet {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    config: SourceConfig,
    memory: Memory,
}

impl Parquet {
    pub(super) fn new(root: PathBuf, files: Vec<PathBuf>, config: SourceConfig, memory: Memory) -> Self {
        Parquet { root, files, config, memory }
    }
}

impl Source for Parquet {
    fn places(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| place(&self.root.join(file))).collect()
    }

    fn list(&self) -> Result<Listing> {
        let mut all = Listing::default();
        self.each_file(self.memory.gzip_bytes, &mut |found| {
            all.append(found);
            Ok(())
        })?;
        Ok(all)
    }

    /// Pictures that are held are had at once; those of an index cost the unpacking of their pages.
    fn worth_an_index(&self) -> Option<u64> {
        Some(self.memory.gzip_bytes)
    }

    /// No picture is held.
    fn stream(&self, take: Take) -> Result<(Listing, Rest)> {
        let mut all = Listing::default();
        self.each_file(0, &mut |mut found| {
            std::mem::take(&mut found.samples).into_iter().try_for_each(&mut *take)?;
            all.append(found);
            Ok(())
        })?;
        Ok((all, Rest::Whole))
    }

    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        Parquet::write_kept(self, leave, out)
    }
}

impl Parquet {
    /// The listing of every file, in their order. At most `left` bytes of pictures are held.
    fn each_file(&self, mut left: u64, take: &mut dyn FnMut(Listing) -> Result<()>) -> Result<()> {
        let names: Vec<String> = self.files.iter().map(|file| name(file)).collect();
        let names = distinct_ends(&names);
        let mut files = Vec::new();
        for (file, name) in self.files.iter().zip(&names) {
            let path = self.root.join(file);
            check_columns(&path, &self.config)?;
            let mut table = Table::new(&path, &self.config, self.memory, &mut left);
            let (mut found, lost) = table.read()?;
            let length_bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            files.push(ReadShard {
                name: name.clone(),
                split: split(file).map(str::to_owned),
                samples: table.rows_read,
                length_bytes,
                read_bytes: if lost.is_some() { 0 } else { length_bytes },
                stated: table.rows.map(|rows| rows.saturating_sub(table.rows_read)),
                lost,
            });
            for sample in &mut found.samples {
                sample.split = sample.split.take().or_else(|| split(file).map(str::to_owned));
            }
            take(if self.files.len() > 1 { found.under(name) } else { found })?;
        }
        let mut losses = Listing::default();
        losses.add_lost(lost_of(files));
        take(losses)
    }
}

/// The split of `test/a.parquet`, or of `test-00000-of-00001.parquet` as `datasets` calls its files.
fn split(file: &Path) -> Option<&str> {
    let of_name = || {
        let (first, rest) = file.file_stem()?.to_str()?.split_once('-')?;
        (["train", "validation", "test"].contains(&first) && rest.starts_with(|c: char| c.is_ascii_digit()))
            .then_some(first)
    };
    of_name().or_else(|| split_of(file))
}
