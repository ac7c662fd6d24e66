//! One sample as bytes. Numbers have seven bits a byte, texts their length in front. What many samples share (their source, folder or shard) is
//! a number into a table of the index.

use crate::error::{Error, IoContext};
use crate::sample::{ImageBytes, PictureDigest, PoisonMark, Sample};
use crate::shard::Shard;
use crate::table::{Cell, Table};
use crate::varint::{self, write as number};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bits of a record's first field.
const SPAN: u64 = 1;
const PATH_ENDS_WITH_KEY: u64 = 1 << 1;
const OWN_ID: u64 = 1 << 2;
const DIGEST: u64 = 1 << 3;
const CLASS: u64 = 1 << 4;
const GROUP: u64 = 1 << 5;
const SPLIT: u64 = 1 << 6;
const CELL: u64 = 1 << 7;
const POISON: u64 = 1 << 8;

/// What samples share.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Shared {
    /// Of [`Sample::source`].
    pub sources: Vec<String>,
    /// What stands before the key in the path of a picture.
    pub folders: Vec<String>,
    pub shards: Vec<Stamp>,
}

/// [`Shared`] as samples refer to it.
pub(super) struct Tables {
    sources: Vec<Arc<str>>,
    folders: Vec<String>,
    shards: Vec<Arc<Shard>>,
    /// The shards as tables.
    tables: Vec<Arc<Table>>,
}

impl Tables {
    pub(super) fn new(shared: Shared) -> Tables {
        let shard = |stamp: Stamp| {
            // A time that no clock shows is no file's.
            let (seconds, nanoseconds) = stamp.modified;
            let since = Duration::from_secs(seconds).checked_add(Duration::from_nanos(u64::from(nanoseconds)));
            let modified = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
            let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
            Arc::new(Shard::listed(stamp.path, stamp.length, modified))
        };
        let shards: Vec<Arc<Shard>> = shared.shards.into_iter().map(shard).collect();
        Tables {
            sources: shared.sources.into_iter().map(Arc::from).collect(),
            folders: shared.folders,
            tables: shards.iter().map(|shard| Arc::new(Table::new(Arc::clone(shard)))).collect(),
            shards,
        }
    }
}

/// A file as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub path: PathBuf,
    /// In bytes.
    pub length: u64,
    /// Seconds and nanoseconds since 1970.
    pub modified: (u64, u32),
}

impl Stamp {
    /// A file as it is now.
    ///
    /// # Errors
    /// One that is not there.
    pub(super) fn of_file(path: &Path) -> Result<Stamp, Error> {
        let found = std::fs::metadata(path).io("find", path)?;
        Ok(Stamp { path: path.to_owned(), length: found.len(), modified: since_1970(found.modified().ok()) })
    }

    /// A shard as it was listed.
    ///
    /// # Errors
    /// Where the current folder is gone, which its path may start from.
    pub(super) fn of_shard(shard: &Shard) -> Result<Stamp, Error> {
        let path = std::path::absolute(shard.path()).io("find", shard.path())?;
        Ok(Stamp { path, length: shard.length(), modified: since_1970(shard.modified()) })
    }
}

fn since_1970(time: Option<SystemTime>) -> (u64, u32) {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

/// Which of what is [`Shared`] a sample has; of its picture the folder or the shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub source: usize,
    pub picture: usize,
}

/// A record cannot be read: the index is damaged in a way that its checksums do not see, or another program wrote it.
#[derive(Debug)]
pub(super) struct Unreadable;

/// What stands before the key in a picture's path; the whole path where it does not end with the key.
pub(super) fn folder<'a>(path: &'a str, key: &str) -> &'a str {
    path.strip_suffix(key).unwrap_or(path)
}

/// Puts a sample behind `to`: the length of what follows, the number of its captions, and the fields.
///
/// # Errors
/// A picture that is held in memory, which no index can name.
pub(super) fn write(sample: &Sample, places: Places, to: &mut Vec<u8>) -> Result<(), Unreadable> {
    let mut fields = Vec::with_capacity(128);
    number(sample.captions.len() as u64, &mut fields);
    let mut flags = 0;
    let flag = |bit: u64, is: bool| if is { bit } else { 0 };
    flags |= flag(OWN_ID, sample.id != sample.key) | flag(DIGEST, sample.digest.is_some());
    flags |= flag(CLASS, sample.class.is_some()) | flag(GROUP, sample.group.is_some());
    flags |= flag(SPLIT, sample.split.is_some()) | flag(POISON, sample.poison.is_some());
    match &sample.image {
        ImageBytes::Span { .. } => flags |= SPAN,
        ImageBytes::Cell { .. } => flags |= CELL,
        ImageBytes::File(path) => {
            flags |= flag(PATH_ENDS_WITH_KEY, path.to_str().is_some_and(|path| path.ends_with(&sample.key)));
        }
        ImageBytes::Memory(_) => return Err(Unreadable),
    }
    number(flags, &mut fields);
    number(places.source as u64, &mut fields);
    number(places.picture as u64, &mut fields);
    number(u64::from(sample.part), &mut fields);
    text(&sample.key, &mut fields);
    match &sample.image {
        ImageBytes::Span { offset, length, .. } => {
            [*offset, *length].iter().for_each(|value| number(*value, &mut fields))
        }
        ImageBytes::Cell { cell: Cell { column, group, row, length }, .. } => {
            [*column, *group, *row].iter().for_each(|value| number(u64::from(*value), &mut fields));
            number(*length, &mut fields);
        }
        ImageBytes::File(_) | ImageBytes::Memory(_) => {}
    }
    if sample.id != sample.key {
        text(&sample.id, &mut fields);
    }
    fields.extend(sample.digest.unwrap_or_default().iter().take(if sample.digest.is_some() { 16 } else { 0 }));
    let optional = [&sample.class, &sample.group, &sample.split];
    let marks = sample.poison.iter().flat_map(|mark| [&mark.attack, &mark.target]);
    let texts = optional.into_iter().flatten().chain(marks).chain(&sample.captions);
    texts.for_each(|value| text(value, &mut fields));
    number(fields.len() as u64, to);
    to.extend_from_slice(&fields);
    Ok(())
}

/// Length in bytes and number of captions of the record that `bytes` begin with, without reading it; the length of the former itself is in it.
pub(super) fn head(bytes: &[u8]) -> Result<(usize, u32), Unreadable> {
    let mut left = bytes;
    let length = read_number(&mut left)? as usize;
    let before = bytes.len() - left.len();
    let captions = read_number(&mut left)?;
    Ok((before.checked_add(length).ok_or(Unreadable)?, u32::try_from(captions).map_err(|_| Unreadable)?))
}

/// The sample whose record `bytes` begin with.
pub(super) fn read(mut bytes: &[u8], tables: &Tables) -> Result<Sample, Unreadable> {
    let left = &mut bytes;
    read_number(left)?;
    let captions = read_number(left)? as usize;
    let flags = read_number(left)?;
    let has = |bit: u64| flags & bit != 0;
    let source = tables.sources.get(read_number(left)? as usize).ok_or(Unreadable)?;
    let picture = read_number(left)? as usize;
    let part = u32::try_from(read_number(left)?).map_err(|_| Unreadable)?;
    let key = read_text(left)?;
    let small = |value: u64| u32::try_from(value).map_err(|_| Unreadable);
    let image = match has(SPAN) {
        _ if has(CELL) => {
            let table = Arc::clone(tables.tables.get(picture).ok_or(Unreadable)?);
            let mut next = || small(read_number(left)?);
            let (column, group, row) = (next()?, next()?, next()?);
            ImageBytes::Cell { table, cell: Cell { column, group, row, length: read_number(left)? } }
        }
        true => {
            let shard = tables.shards.get(picture).ok_or(Unreadable)?;
            ImageBytes::Span { shard: Arc::clone(shard), offset: read_number(left)?, length: read_number(left)? }
        }
        false => {
            let folder = tables.folders.get(picture).ok_or(Unreadable)?;
            ImageBytes::File(match has(PATH_ENDS_WITH_KEY) {
                true => PathBuf::from(format!("{folder}{key}")),
                false => PathBuf::from(folder),
            })
        }
    };
    let id = if has(OWN_ID) { read_text(left)?.to_owned() } else { key.to_owned() };
    let digest = match has(DIGEST) {
        true => {
            let (digest, rest) = left.split_first_chunk::<16>().ok_or(Unreadable)?;
            *left = rest;
            Some(*digest as PictureDigest)
        }
        false => None,
    };
    let mut optional = |bit| -> Result<Option<String>, Unreadable> {
        if has(bit) { Ok(Some(read_text(left)?.to_owned())) } else { Ok(None) }
    };
    let (class, group, split) = (optional(CLASS)?, optional(GROUP)?, optional(SPLIT)?);
    let poison = match has(POISON) {
        true => Some(Box::new(PoisonMark { attack: read_text(left)?.into(), target: read_text(left)?.into() })),
        false => None,
    };
    let mut texts = Vec::with_capacity(captions.min(left.len()));
    for _ in 0..captions {
        texts.push(read_text(left)?.to_owned());
    }
    let plain = Sample::new(Arc::clone(source), key, image);
    Ok(Sample { id, digest, part, captions: texts, class, group, split, poison, ..plain })
}

/// The folder or shard of a sample's picture, as a text.
pub(super) fn picture_place<'a>(image: &'a ImageBytes, key: &str) -> Option<&'a str> {
    match image {
        ImageBytes::File(path) => path.to_str().map(|path| folder(path, key)),
        ImageBytes::Span { shard, .. } => Path::to_str(shard.path()),
        ImageBytes::Cell { table, .. } => Path::to_str(table.shard().path()),
        ImageBytes::Memory(_) => None,
    }
}

fn text(value: &str, to: &mut Vec<u8>) {
    number(value.len() as u64, to);
    to.extend_from_slice(value.as_bytes());
}

fn read_number(left: &mut &[u8]) -> Result<u64, Unreadable> {
    varint::read(left).ok_or(Unreadable)
}

fn read_text<'a>(left: &mut &'a [u8]) -> Result<&'a str, Unreadable> {
    let length = read_number(left)? as usize;
    let (text, rest) = left.split_at_checked(length).ok_or(Unreadable)?;
    *left = rest;
    std::str::from_utf8(text).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_and_cut_ones_are_refused() {
        let shared = Shared {
            sources: vec!["/data".into()],
            folders: vec!["/data/".into(), "/elsewhere.png".into()],
            shards: Vec::new(),
        };
        let tables = Tables::new(shared);
        let file = |path: &str| ImageBytes::File(path.into());
        let plain = Sample::new("/data".into(), "a.jpg", file("/data/a.jpg"));
        let full = Sample {
            id: "part/b".into(),
            digest: Some([7; 16]),
            part: 300,
            captions: vec!["one".into(), String::new(), "zwölf".into()],
            class: Some("cat".into()),
            group: None,
            split: Some("train".into()),
            poison: Some(Box::new(PoisonMark { attack: "patch".into(), target: "cat".into() })),
            ..Sample::new("/data".into(), "b", file("/elsewhere.png"))
        };
        for (sample, picture) in [(&plain, 0), (&full, 1)] {
            let mut bytes = Vec::new();
            write(sample, Places { source: 0, picture }, &mut bytes).unwrap();
            assert_eq!(head(&bytes).unwrap(), (bytes.len(), sample.captions.len() as u32));
            let read_back = read(&bytes, &tables).unwrap();
            assert_eq!(format!("{read_back:?}"), format!("{sample:?}"));
            (0..bytes.len()).for_each(|cut| assert!(read(&bytes[..cut], &tables).is_err(), "{cut}"));
        }
        let held = Sample::new("/data".into(), "c", ImageBytes::Memory(Vec::new().into()));
        assert!(write(&held, Places { source: 0, picture: 0 }, &mut Vec::new()).is_err());
    }
}
