//! The layout of an index file, and reading its pieces.
//!
//! ```text
//! magic, version (u32)
//! blocks: zstd frames of the records of up to 64 samples
//! hashes: 64 bits of each sample's id, in the order of the samples, a checksum after every piece
//! directory: an Entry a block
//! skips: the lines of skips.jsonl
//! facts: JSON ([`Facts`])
//! length of the facts (u64), crc32c of the facts (u32), magic
//! ```
//!
//! Numbers are little-endian. Every piece has a crc32c: of a block it stands in the directory, of the others in the facts. The end is written
//! last, so that an index that was cut off has none.

use crate::error::{Error, IoContext, Result};
use crate::escape::path_for_shell;
use crate::index::record::{Shared, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Version of the format, and of what is read of the data: an index that was made of fewer or other rows is made anew.
pub const FORMAT: u32 = 7;
pub(super) const MAGIC: [u8; 8] = *b"roclipix";
/// Samples of a block: few, since a batch reads a block for each of its pairs.
pub(super) const BLOCK_SAMPLES: usize = 64;
/// Hashes of one piece of their column.
pub(super) const HASHES_AT_ONCE: usize = 1 << 16;
/// Magic and version; length, checksum and magic.
pub(super) const HEAD_BYTES: u64 = 12;
const TAIL_BYTES: u64 = 20;
/// A block of absurd captions (a megabyte a sample) has less.
const BLOCK_LIMIT_BYTES: u32 = 256 << 20;
/// Captions that a small index may speak of: they take eight bytes of memory each.
const MOST_CAPTIONS: u32 = 1 << 26;
const FACTS_LIMIT_BYTES: u64 = 256 << 20;
/// How the names of indexes begin and end that are looked for.
pub(super) const HIDDEN: &str = ".roclip-";
pub(super) const ENDING: &str = ".index";

/// What to do with the index at `path`, which cannot be used: one that does not lie where it is looked for is made in its own place.
pub(super) fn remedy(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let out = match name.starts_with(HIDDEN) && name.ends_with(ENDING) {
        true => String::new(),
        false => format!(" --out {}", path_for_shell(path)),
    };
    format!("make it anew with `roclip data index{out} --overwrite` and the flags that name its data")
}

/// A block, as the directory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub offset: u64,
    /// In bytes, as it lies there and unpacked.
    pub length: u32,
    pub unpacked: u32,
    pub crc: u32,
    /// Samples and captions before it.
    pub samples: u32,
    pub captions: u32,
}

impl Entry {
    pub(super) const BYTES: usize = 28;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [self.length, self.unpacked, self.crc, self.samples, self.captions];
        let all = self.offset.to_le_bytes().into_iter().chain(fields.into_iter().flat_map(u32::to_le_bytes));
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Entry> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let mut fields = rest.chunks_exact(4).map(|field| field.try_into().map(u32::from_le_bytes).unwrap_or_default());
        let mut next = || fields.next();
        Some(Entry {
            offset: u64::from_le_bytes(*offset),
            length: next()?,
            unpacked: next()?,
            crc: next()?,
            samples: next()?,
            captions: next()?,
        })
    }
}

/// A piece of the file.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Piece {
    pub offset: u64,
    pub length: u64,
    pub crc: u32,
}

/// What an index says of itself and of its data.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    pub tool_version: String,
    /// [`Described::identity`](crate::source::Described::identity).
    pub identity: String,
    /// The files that were listed.
    pub files: Vec<Stamp>,
    pub shared: Shared,
    pub samples: u32,
    pub captions: u32,
    /// Whether no sample has two captions.
    pub one_caption: bool,
    pub labelled: u32,
    /// Samples that say themselves that they are poison.
    pub poisoned: u32,
    pub splits: BTreeMap<String, usize>,
    /// As in [`Listing`](crate::source::Listing).
    pub listed: usize,
    pub probed: usize,
    pub unusable: usize,
    pub shards: usize,
    pub lost_samples: usize,
    /// [`Pairs::fingerprint`](crate::pairs::Pairs::fingerprint) where every caption is a pair.
    pub fingerprint: String,
    /// Where the hashes begin.
    pub hashes: u64,
    pub directory: Piece,
    pub skips: Piece,
}

/// The end of the file behind the facts.
pub(super) fn tail(facts: &[u8]) -> Vec<u8> {
    let length = (facts.len() as u64).to_le_bytes();
    length.into_iter().chain(crc32c::crc32c(facts).to_le_bytes()).chain(MAGIC).collect()
}

/// Whether a file says that it is an index, of this version or of another.
pub fn is_index(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    crate::bounded::open(path).and_then(|(file, _)| file.read_exact_at(&mut magic, 0)).is_ok() && magic == MAGIC
}

/// Opens an index and reads what it says of itself.
///
/// # Errors
/// No index, one of another version, one that was cut off, and one that is damaged.
pub(super) fn open(path: &Path) -> Result<(File, Facts, Vec<Entry>)> {
    let bad = |what: &str| Error::file(path, what, remedy(path));
    let (file, length) = crate::bounded::open(path).io("open the index", path)?;
    let mut head = [0; HEAD_BYTES as usize];
    file.read_exact_at(&mut head, 0).map_err(|_| bad("is no index of this program"))?;
    let (magic, version) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(bad("is no index of this program"));
    }
    let version = version.try_into().map(u32::from_le_bytes).unwrap_or_default();
    if version != FORMAT {
        return Err(bad(&format!("is an index of format {version}, and this program reads {FORMAT}")));
    }
    let cut_off = || bad("was cut off: it has no end");
    let end = length.checked_sub(TAIL_BYTES).filter(|end| *end >= HEAD_BYTES).ok_or_else(cut_off)?;
    let mut tail = [0; TAIL_BYTES as usize];
    file.read_exact_at(&mut tail, end).io("read", path)?;
    if !tail.ends_with(&MAGIC) {
        return Err(cut_off());
    }
    let (facts_length, rest) = tail.split_first_chunk::<8>().ok_or_else(cut_off)?;
    let (crc, _) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let facts_length = u64::from_le_bytes(*facts_length);
    let from = end.checked_sub(facts_length).filter(|_| facts_length <= FACTS_LIMIT_BYTES).ok_or_else(cut_off)?;
    let facts = Piece { offset: from, length: facts_length, crc: u32::from_le_bytes(*crc) };
    let facts = read_piece(&file, path, facts, end, "what it says of itself")?;
    let facts: Facts = serde_json::from_slice(&facts).map_err(|e| bad(&format!("says nothing of itself ({e})")))?;
    let directory = read_piece(&file, path, facts.directory, end, "its directory")?;
    let entries: Vec<Entry> = directory.chunks_exact(Entry::BYTES).filter_map(Entry::of_bytes).collect();
    let ordered = entries.is_sorted_by(|a, b| a.samples < b.samples && a.captions < b.captions);
    let sound = |entry: &Entry| {
        entry.unpacked <= BLOCK_LIMIT_BYTES
            && entry.offset.checked_add(u64::from(entry.length)).is_some_and(|to| to <= facts.hashes)
            && entry.samples < facts.samples
            && entry.captions < facts.captions
    };
    let hashes_end = (u64::from(facts.samples) * 8)
        .checked_add(u64::from(facts.samples).div_ceil(HASHES_AT_ONCE as u64) * 4)
        .and_then(|bytes| facts.hashes.checked_add(bytes));
    let fits = hashes_end.is_some_and(|to| to <= facts.directory.offset);
    let ends = entries.iter().skip(1).map(|next| (next.samples, next.captions));
    let ends = ends.chain([(facts.samples, facts.captions)]);
    // Every caption takes a byte at least.
    let filled = entries.iter().zip(ends).all(|(entry, (samples, captions))| {
        (1..=BLOCK_SAMPLES as u32).contains(&samples.saturating_sub(entry.samples))
            && captions.saturating_sub(entry.captions) <= entry.unpacked
    });
    let absurd = facts.captions > MOST_CAPTIONS.max(facts.samples.saturating_mul(BLOCK_SAMPLES as u32));
    if !fits
        || !filled
        || absurd
        || !ordered
        || !entries.iter().all(sound)
        || entries.first().is_none_or(|first| first.samples > 0)
    {
        return Err(bad("has a directory that makes no sense"));
    }
    Ok((file, facts, entries))
}

/// The bytes of a piece that ends before `end`.
pub(super) fn read_piece(file: &File, path: &Path, piece: Piece, end: u64, what: &str) -> Result<Vec<u8>> {
    let damaged = || Error::file(path, format!("is damaged: {what} has another checksum"), remedy(path));
    piece.offset.checked_add(piece.length).filter(|to| *to <= end).ok_or_else(damaged)?;
    let mut bytes = vec![0; piece.length as usize];
    file.read_exact_at(&mut bytes, piece.offset).io("read", path)?;
    match crc32c::crc32c(&bytes) == piece.crc {
        true => Ok(bytes),
        false => Err(damaged()),
    }
}
