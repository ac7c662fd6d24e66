//! WebDataset tar shards in img2dataset's layout: members that share a key are one sample (`000123.jpg`, `000123.txt`, `000123.json`).
//!
//! Plain tars are read in place at the offsets found in one pass over the headers, which gives exact global shuffling
//! without a shuffle buffer. Pictures of gzip shards are held in memory, up to a limit for all of them together. Nothing is ever unpacked to
//! disk, and links, devices, absolute and `..` names are counted and left alone: a data set must not be able to write or read elsewhere.
//! `pipe:` URLs are deliberately absent, since they run a shell.

use crate::bounded;
use crate::error::Result;
use crate::progress::Task;
use crate::sample::{ImageBytes, check_length};
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::captions;
use crate::source::kept::{Kept, Leave};
use crate::source::losses::{ReadShard, lost_of};
use crate::source::members::{Group, Name, assemble, escapes};
use crate::source::metadata::Metadata;
use crate::source::seen::Seen;
use crate::source::shards::{distinct_ends, is_gzip};
use crate::source::spelling::place;
use crate::source::tree::{Kind, READ_FORMATS, Tree, escaped, name, split_of, unused};
use crate::source::webdataset::readers::{Ahead, cause, too_large};
use crate::source::{LARGE_SHARDS_BYTES, Listing, Rest, Source, Take};
use flate2::read::MultiGzDecoder;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::Entry;

/// The longest JSON member read: it may hold many captions.
const JSON_LIMIT_BYTES: u64 = 4 << 20;
/// A tar is made of blocks of so many bytes, and ends with at least one that is empty.
const BLOCK_BYTES: u64 = 512;
/// Zeros that end an archive: its two blocks, and what fills the last record of 20 blocks.
const END_BYTES: u64 = 22 * BLOCK_BYTES;

/// How much may be read, in bytes, and what is kept of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Longer pictures are skipped.
    pub file_bytes: u64,
    /// What all gzip shards may take.
    pub gzip_bytes: u64,
    /// Whether samples keep what their metadata says of their bytes.
    pub with_sha256: bool,
}

pub(super) struct WebDataset {
    root: PathBuf,
    /// Relative to `root`.
    shards: Vec<PathBuf>,
    memory: Memory,
    /// What lies beside the shards and is not read.
    beside: SkipReport,
}

impl WebDataset {
    pub(super) fn new(shards: Vec<PathBuf>, memory: Memory) -> Self {
        WebDataset { root: PathBuf::new(), shards, memory, beside: SkipReport::default() }
    }

    /// The shards that lie in the folder itself, else all that lie in folders of it.
    pub(super) fn of_folder(root: PathBuf, tree: &Tree, memory: Memory) -> Self {
        let in_root = |shard: &&PathBuf| shard.components().count() == 1;
        let (mut shards, mut deeper): (Vec<PathBuf>, Vec<PathBuf>) =
            tree.shards.iter().cloned().partition(|s| in_root(&s));
        if shards.is_empty() {
            std::mem::swap(&mut shards, &mut deeper);
        }
        let mut beside = tree.skips.clone();
        for unused in deeper.iter().chain(&tree.images).chain(&tree.other_images) {
            beside.add(
                &name(unused),
                Skip::new(SkipReason::MemberUnused, "it does not lie with the shards that are read"),
            );
        }
        // img2dataset writes a Parquet file of metadata for each shard.
        let of_shard = |file: &&PathBuf| !shards.contains(&file.with_extension("tar"));
        unused(&mut beside, tree.parquets.iter().filter(of_shard).chain(&tree.tables));
        WebDataset { root, shards, memory, beside }
    }
}

impl Source for WebDataset {
    fn places(&self) -> Vec<PathBuf> {
        self.shards.iter().map(|shard| place(&self.root.join(shard))).collect()
    }

    fn list(&self) -> Result<Listing> {
        let mut samples = Vec::new();
        let mut hold = |sample| {
            samples.push(sample);
            Ok(())
        };
        let listing = self.read(&mut hold)?;
        Ok(Listing { samples, ..listing })
    }

    fn worth_an_index(&self) -> Option<u64> {
        (!self.shards.iter().any(|shard| is_gzip(shard))).then_some(LARGE_SHARDS_BYTES)
    }

    fn stream(&self, take: Take) -> Result<(Listing, Rest)> {
        Ok((self.read(take)?, Rest::Whole))
    }

    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        WebDataset::write_kept(self, leave, out)
    }
}

impl WebDataset {
    /// Hands every sample to `take`, shard by shard. A key that an earlier shard has gets its shard's name in front.
    fn read(&self, take: Take) -> Result<Listing> {
        let mut listing = Listing { shards: self.shards.len(), skips: self.beside.clone(), ..Listing::default() };
        let names: Vec<String> = self.shards.iter().map(|shard| name(shard)).collect();
        let names = distinct_ends(&names);
        let mut gzip_left = self.memory.gzip_bytes;
        let mut seen = Seen::default();
        let mut shards = Vec::new();
        let task = Task::begin("reading shards", self.shards.len(), "shards");
        for (shard, shard_name) in self.shards.iter().zip(&names) {
            let path = self.root.join(shard);
            let contents = match is_gzip(shard) {
                true => Contents::unpack(&path, self.memory, &mut gzip_left),
                false => Contents::in_place(&path, self.memory.file_bytes),
            };
            let contents = contents.unwrap_or_else(|e| Contents {
                lost: Some(Skip::new(SkipReason::ShardUnreadable, e.to_string())),
                lost_bytes: u64::MAX,
                ..Contents::default()
            });
            let length_bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            let mut found = 0;
            let source: Arc<str> = place(&path).to_string_lossy().into();
            let mut skips = contents.skips;
            for (key, group) in contents.groups {
                let (samples, unused) = group.samples(key);
                for key in unused {
                    skips.add(&key, Skip::new(SkipReason::MemberUnused, "its key has an image and a text without it"));
                }
                found += samples.len();
                for (key, parts) in samples {
                    match assemble(&source, &key, parts) {
                        Ok((mut sample, without)) => {
                            if let Some(skip) = without {
                                skips.add(&key, skip);
                            }
                            sample.split = sample.split.or_else(|| split_of(shard).map(str::to_owned));
                            sample.stated = sample.stated.filter(|_| self.memory.with_sha256);
                            if !seen.insert(&sample.key) {
                                sample.id = format!("{}/{}", shard_stem(shard_name), sample.id);
                            }
                            take(sample)?;
                        }
                        Err(skip) => skips.add(&key, skip),
                    }
                }
            }
            listing.skips.merge(skips.under(shard_name));
            shards.push(ReadShard {
                name: shard_name.clone(),
                split: split_of(shard).map(str::to_owned),
                samples: found,
                length_bytes,
                read_bytes: length_bytes.saturating_sub(contents.lost_bytes),
                stated: None,
                lost: contents.lost,
            });
            task.advance(1);
        }
        listing.add_lost(lost_of(shards));
        Ok(listing)
    }
}

/// A shard's name without its ending.
pub(crate) fn shard_stem(name: &str) -> &str {
    name.find(".tar").or_else(|| name.find(".tgz")).and_then(|end| name.get(..end)).unwrap_or(name)
}

/// What one shard holds.
#[derive(Default)]
struct Contents {
    groups: BTreeMap<String, Group>,
    skips: SkipReport,
    /// Why the shard, or what comes after a place in it, is not here.
    lost: Option<Skip>,
    members: usize,
    /// Where the last member ends, in bytes.
    end: u64,
    /// Bytes of the file in which no members are that should be: what lies behind the place where reading ended, and zeros beyond what ends an
    /// archive, which were never written of a file whose room was taken.
    lost_bytes: u64,
    /// Bytes of memory that its members may still take; none where they stay on the disk.
    memory_left: Option<u64>,
    /// What all shards may take.
    memory: u64,
}

impl Contents {
    fn in_place(path: &Path, max_file_bytes: u64) -> io::Result<Contents> {
        let (shard, file) = Shard::open(path)?;
        let (length, shard) = (shard.length(), Arc::new(shard));
        let mut archive = tar::Archive::new(Ahead::new(file));
        // Shards that were put behind each other in one file have an end each.
        archive.set_ignore_zeros(true);
        let mut contents = Contents::default();
        let mut span = |entry: &mut Entry<_>| {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            match offset.checked_add(size) {
                Some(end) if end <= length => Ok(ImageBytes::Span { shard: Arc::clone(&shard), offset, length: size }),
                _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the file ends inside a member")),
            }
        };
        let entries = archive.entries_with_seek()?;
        let outcome = contents.add_all(entries, max_file_bytes, &mut span);
        contents.finish(outcome, length);
        Ok(contents)
    }

    /// Members stay in memory, of which `left` bytes are left.
    fn unpack(path: &Path, memory: Memory, left: &mut u64) -> io::Result<Contents> {
        let (file, length) = bounded::open(path)?;
        let mut unpacked =
            Metered { inner: MultiGzDecoder::new(io::BufReader::new(file)), read: 0, limit: memory.gzip_bytes };
        let mut contents = Contents { memory_left: Some(*left), memory: memory.gzip_bytes, ..Contents::default() };
        let mut held = |entry: &mut Entry<_>| {
            let size = entry.size();
            Ok(ImageBytes::Memory(whole(entry, size)?.into()))
        };
        let outcome = {
            let mut archive = tar::Archive::new(&mut unpacked);
            archive.set_ignore_zeros(true);
            contents.add_all(archive.entries()?, memory.file_bytes, &mut held)
        };
        contents.finish(outcome, unpacked.read);
        // Where in a compressed file its contents end is not known.
        contents.lost_bytes = if contents.lost.is_some() && contents.members == 0 { length } else { 0 };
        *left = contents.memory_left.unwrap_or(0);
        Ok(contents)
    }

    /// Adds members until there are no more or one cannot be read.
    fn add_all<R: Read>(
        &mut self,
        entries: tar::Entries<R>,
        max_file_bytes: u64,
        image: &mut dyn FnMut(&mut Entry<R>) -> io::Result<ImageBytes>,
    ) -> io::Result<()> {
        for entry in entries {
            let mut entry = entry?;
            self.skip_to(entry.raw_header_position());
            self.end = entry.raw_file_position().saturating_add(entry.size()).div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
            self.add(&mut entry, max_file_bytes, image)?;
            self.members += 1;
        }
        Ok(())
    }

    /// Counts the zeros from where the last member ends to `place`.
    fn skip_to(&mut self, place: u64) {
        let zeros = place.saturating_sub(self.end);
        if zeros > END_BYTES {
            self.lost_bytes += zeros;
        }
    }

    fn add<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        max_file_bytes: u64,
        image: &mut dyn FnMut(&mut Entry<R>) -> io::Result<ImageBytes>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return Ok(());
        }
        let bytes = entry.path_bytes().into_owned();
        let path = match std::str::from_utf8(&bytes) {
            Ok(path) if !escapes(path) => path,
            refused => {
                let why = if refused.is_ok() { "it leads out of the archive" } else { "it is not UTF-8" };
                let path = escaped(&bytes);
                // Of a sample's members the first tells.
                let sample = path.rsplit_once('.').map_or(path.as_str(), |(stem, _)| stem);
                self.skips.add(sample, Skip::new(SkipReason::MemberNameRefused, why));
                return Ok(());
            }
        };
        let Some(name) = Name::of(path) else {
            let detail = "its name has no ending, or begins with a dot";
            self.skips.add(path, Skip::new(SkipReason::MemberUnused, detail));
            return Ok(());
        };
        let content = Kind::of(name.extension);
        if content == Kind::Other {
            return Ok(());
        }
        let size = entry.size();
        let limit = match content {
            Kind::Image => max_file_bytes,
            Kind::Json => JSON_LIMIT_BYTES,
            _ => captions::CAPTION_LIMIT_BYTES as u64,
        };
        if let Some(left) = self.memory_left.as_mut().filter(|_| size <= limit) {
            *left = left.checked_sub(size).ok_or_else(|| too_large(self.memory))?;
        }
        let parts = self.groups.entry(name.key.to_owned()).or_default().parts(name.middle);
        let mut trouble = |skip: Skip| {
            parts.trouble.get_or_insert(skip);
        };
        if !kind.is_file() && !kind.is_contiguous() {
            trouble(Skip::new(SkipReason::MemberIsNoFile, path));
        } else if content == Kind::OtherImage {
            let detail = format!("{path}: {READ_FORMATS}");
            trouble(Skip::new(SkipReason::ImageFormatUnknown, detail));
        } else if content == Kind::Image {
            match check_length(size, max_file_bytes) {
                Err(skip) => trouble(skip),
                Ok(()) => {
                    if parts.image.replace(image(entry)?).is_some() {
                        let copies = self.skips.count(|reason| reason == SkipReason::MemberRepeated) + 1;
                        let id = format!("{path} (copy {copies})");
                        self.skips.add(&id, Skip::new(SkipReason::MemberRepeated, "the last one of the name is used"));
                    }
                }
            }
        } else if size > limit {
            let detail = format!("{path} has {size} bytes, at most {limit} are read");
            trouble(Skip::new(SkipReason::CaptionTooLarge, detail));
        } else {
            let bytes = whole(entry, size)?;
            let text = String::from_utf8_lossy(&bytes);
            match content {
                Kind::Text if matches!(text, Cow::Owned(_)) => {
                    trouble(Skip::new(SkipReason::CaptionUnreadable, format!("{path} is no UTF-8")));
                }
                Kind::Text => parts.text = Some(text.into_owned()),
                Kind::Class => parts.class = Some(text.trim().to_owned()).filter(|class| !class.is_empty()),
                _ => parts.metadata = Some(Metadata::read(&text)),
            }
        }
        Ok(())
    }

    /// Says what is lost when reading ended as `outcome` tells, in a tar of `length` bytes.
    fn finish(&mut self, outcome: io::Result<()>, length: u64) {
        let members = self.members;
        if outcome.is_ok() {
            self.skip_to(length);
        }
        let ends_early = outcome.is_err() || self.lost_bytes == 0 && self.end.saturating_add(BLOCK_BYTES) > length;
        let (reason, detail) = match outcome {
            Ok(()) if self.lost_bytes > 0 => {
                let zeros = self.lost_bytes;
                let what = "bytes of zeros, as a file has that was not written whole";
                (SkipReason::ShardTruncated, format!("beside its {members} members it has {zeros} {what}"))
            }
            Ok(()) if ends_early => {
                let what = "it has no end mark after its";
                (SkipReason::ShardTruncated, format!("{what} {members} members, and may have had more"))
            }
            Ok(()) => return,
            Err(e) if e.kind() == ErrorKind::FileTooLarge => (SkipReason::ShardTooLarge, e.to_string()),
            Err(e) if members == 0 => (SkipReason::ShardUnreadable, cause(&e)),
            Err(e) => (SkipReason::ShardTruncated, format!("after {members} members: {}", cause(&e))),
        };
        if ends_early {
            self.lost_bytes = self.lost_bytes.saturating_add(length.saturating_sub(self.end));
        }
        self.lost = Some(Skip::new(reason, detail));
    }
}

mod kept;
mod readers;

pub(crate) use readers::{Metered, whole};

#[cfg(test)]
mod tests;
