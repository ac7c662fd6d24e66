//! Where the values of a page lie, so that the page need not be unpacked for each of them.
//!
//! A page that was unpacked once tells it: its values are slices of it. Eight bytes a value are kept, and four for each 64 KiB of a page that is
//! packed with snappy. Pages that are packed otherwise cannot be entered, and are unpacked for each value.

use crate::shard::Shard;
use crate::table::snappy::{self, FRAGMENT_BYTES};
use bytes::Bytes;
use parquet::basic::Compression;
use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

/// A page as it lies in its file, of bytes of which parts can be read.
#[derive(Debug)]
pub(super) struct Block {
    /// Where its packed bytes begin in the file.
    offset: u64,
    /// Of its values, unpacked.
    unpacked: usize,
    /// Where the fragments of snappy begin, and where the last one ends, from `offset`; none where nothing is packed.
    fragments: Option<Box<[u32]>>,
}

impl Block {
    /// Of the bytes `packed` at `offset` of a file, which are `unpacked` bytes; none where no part of it can be read alone.
    pub fn of(packed: &[u8], offset: u64, unpacked: usize, compression: Compression) -> Option<Block> {
        let fragments = match compression {
            Compression::UNCOMPRESSED => None,
            Compression::SNAPPY => Some(snappy::fragments(packed, unpacked)?),
            _ => return None,
        };
        Some(Block { offset, unpacked, fragments })
    }

    fn read(&self, shard: &Shard, from: usize, length: usize) -> io::Result<Vec<u8>> {
        let span = |offset: usize, length: usize| {
            let mut bytes = vec![0; length];
            shard.read_exact_at(&mut bytes, self.offset + offset as u64)?;
            Ok::<Vec<u8>, io::Error>(bytes)
        };
        let Some(fragments) = &self.fragments else { return span(from, length) };
        let (first, end) = (from / FRAGMENT_BYTES, (from + length).div_ceil(FRAGMENT_BYTES));
        let begins_at = first * FRAGMENT_BYTES;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a page is not what it was when it was read first");
        let at = |number: usize| fragments.get(number).map(|at| *at as usize).ok_or_else(damaged);
        let (packed_from, packed_end) = (at(first)?, at(end)?);
        let packed = span(packed_from, packed_end.saturating_sub(packed_from))?;
        let unpacked = self.unpacked.min(end * FRAGMENT_BYTES) - begins_at;
        let mut bytes = snappy::unpack(&packed, unpacked).ok_or_else(damaged)?;
        bytes.truncate(from + length - begins_at);
        Ok(bytes.split_off(from - begins_at))
    }
}

/// Where the values of consecutive rows lie.
#[derive(Debug)]
pub(super) struct Places {
    /// In its group.
    first_row: u64,
    block: Arc<Block>,
    /// Of each row, `(from, length)` in the block; none where it has no value or an empty one.
    values: Box<[Option<(u32, NonZeroU32)>]>,
}

impl Places {
    /// Where `values` lie in `page`, of which they are slices, from its values on (`lead` bytes of it are levels); none where they are not.
    pub fn of(
        first_row: u64,
        values: &[Option<&[u8]>],
        page: &Bytes,
        lead: usize,
        block: &Arc<Block>,
    ) -> Option<Places> {
        let begin = (page.as_ptr() as usize).checked_add(lead)?;
        let end = (page.as_ptr() as usize).checked_add(page.len())?;
        let place = |value: &Option<&[u8]>| {
            let Some(value) = value else { return Some(None) };
            let Some(length) = NonZeroU32::new(u32::try_from(value.len()).ok()?) else { return Some(None) };
            let from = (value.as_ptr() as usize).checked_sub(begin)?;
            let is_within = begin.checked_add(from)?.checked_add(value.len())? <= end;
            is_within.then_some(Some((u32::try_from(from).ok()?, length)))
        };
        let values = values.iter().map(place).collect::<Option<_>>()?;
        Some(Places { first_row, block: Arc::clone(block), values })
    }

    pub fn rows(&self) -> Range<u64> {
        self.first_row..self.first_row + self.values.len() as u64
    }

    /// The value of a row; none where it has none of `length` bytes.
    pub fn read(&self, shard: &Shard, row: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        let at = row.checked_sub(self.first_row).and_then(|at| usize::try_from(at).ok());
        let Some(value) = at.and_then(|at| self.values.get(at)) else { return Ok(None) };
        match value {
            None if length == 0 => Ok(Some(Vec::new())),
            Some((from, own)) if u64::from(own.get()) == length => {
                self.block.read(shard, *from as usize, own.get() as usize).map(Some)
            }
            _ => Ok(None),
        }
    }
}
