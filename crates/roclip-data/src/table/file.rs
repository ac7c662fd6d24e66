//! A Parquet file as its reader wants it, and places in it.

use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, BufReader, Read};
use std::sync::Arc;

/// What the wanted columns of one group of rows may hold unpacked; writers make groups of some hundred MB.
pub(crate) const GROUP_LIMIT_BYTES: i64 = 4 << 30;

/// Where a picture lies in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Number of the column among those without fields, from 0, as `group` and `row`.
    pub column: u32,
    pub group: u32,
    /// Within the group.
    pub row: u32,
    /// In bytes.
    pub length: u64,
}

pub(super) fn unreadable(error: ParquetError) -> Skip {
    Skip::new(SkipReason::ImageFileUnreadable, error.to_string())
}

pub(super) fn not_there(cell: &Cell) -> Skip {
    let detail = format!("no picture of {} bytes is in row {} of group {}", cell.length, cell.row, cell.group);
    Skip::new(SkipReason::ImageFileUnreadable, detail)
}

/// A shard as the reader of Parquet wants files. Readers of one file do not move each other.
pub(super) struct Place(pub Arc<Shard>);

impl Length for Place {
    fn len(&self) -> u64 {
        self.0.length()
    }
}

impl ChunkReader for Place {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(From { shard: Arc::clone(&self.0), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.0.length()) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are behind the end of the file")));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// The bytes of a shard from a place on.
pub(super) struct From {
    shard: Arc<Shard>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.shard.length().saturating_sub(self.at).min(buffer.len() as u64) as usize;
        let Some(buffer) = buffer.get_mut(..left) else { return Ok(0) };
        self.shard.read_exact_at(buffer, self.at)?;
        self.at += left as u64;
        Ok(left)
    }
}
