//! Pictures that lie in a column of a Parquet file, read in place.
//!
//! A column is a row of pages, each compressed as a whole, so that a picture costs the unpacking of its page. A thread that asks for the
//! pictures in their order goes on where it was, and unpacks each page once.

mod guarded;

pub(crate) use guarded::Guarded;

use crate::guard::contained;
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArrayType, DataType, FixedLenByteArrayType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, FileReader, Length};
use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the wanted columns of one group of rows may hold unpacked; writers make groups of some hundred MB.
pub(crate) const GROUP_LIMIT_BYTES: i64 = 4 << 30;

/// Groups that unpack to more than this are read by one thread at a time: a page may be as large as its group, and each thread would hold one.
const LARGE_GROUP_BYTES: i64 = 64 << 20;

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

/// A Parquet file as it was when it was listed.
pub struct Table {
    shard: Arc<Shard>,
    opened: OnceLock<Result<Guarded<Place>, Skip>>,
}

impl Table {
    /// Nothing is read yet.
    pub fn new(shard: Arc<Shard>) -> Table {
        Table { shard, opened: OnceLock::new() }
    }

    /// The file.
    pub fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// The encoded picture at `cell`.
    ///
    /// # Errors
    /// A skip for a file that is gone, damaged or another than was listed, and a cell without such a picture.
    pub fn read(self: &Arc<Self>, cell: &Cell) -> Result<Vec<u8>, Skip> {
        contained(|| match self.chunk(cell)?.uncompressed_size() > LARGE_GROUP_BYTES {
            true => self.read_from(cell, &mut LARGE.lock().unwrap_or_else(PoisonError::into_inner)),
            false => CURSOR.with_borrow_mut(|kept| self.read_from(cell, kept)),
        })
    }

    /// From where was read last, if that is on the way.
    fn read_from(self: &Arc<Self>, cell: &Cell, kept: &mut Option<Cursor>) -> Result<Vec<u8>, Skip> {
        let mut cursor = match kept.take() {
            Some(cursor) if cursor.is_before(self, cell) => cursor,
            _ => Cursor::new(self, cell)?,
        };
        let bytes = cursor.read(cell)?;
        *kept = Some(cursor);
        Ok(bytes)
    }

    /// The column of a cell, in its group.
    fn chunk(&self, cell: &Cell) -> Result<&ColumnChunkMetaData, Skip> {
        let group = self.open()?.metadata().row_groups().get(cell.group as usize);
        group.and_then(|group| group.columns().get(cell.column as usize)).ok_or_else(|| not_there(cell))
    }

    fn open(&self) -> Result<&Guarded<Place>, Skip> {
        let place = Place(Arc::clone(&self.shard));
        let open = || Guarded::new(place).map_err(unreadable);
        let opened = self.opened.get_or_init(|| contained(open));
        opened.as_ref().map_err(Clone::clone)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("shard", &self.shard).finish_non_exhaustive()
    }
}

fn unreadable(error: ParquetError) -> Skip {
    Skip::new(SkipReason::ImageFileUnreadable, error.to_string())
}

fn not_there(cell: &Cell) -> Skip {
    let detail = format!("no picture of {} bytes is in row {} of group {}", cell.length, cell.row, cell.group);
    Skip::new(SkipReason::ImageFileUnreadable, detail)
}

/// Where some thread has read last in a large group.
static LARGE: Mutex<Option<Cursor>> = Mutex::new(None);

thread_local! {
    /// Where this thread has read last. It holds one unpacked page.
    static CURSOR: RefCell<Option<Cursor>> = const { RefCell::new(None) };
}

enum Reader {
    OfAnyLength(ColumnReaderImpl<ByteArrayType>),
    OfOneLength(ColumnReaderImpl<FixedLenByteArrayType>),
}

/// A place within a column of a group.
struct Cursor {
    table: Arc<Table>,
    column: u32,
    group: u32,
    /// The next row.
    row: u32,
    reader: Reader,
}

impl Cursor {
    fn new(table: &Arc<Table>, cell: &Cell) -> Result<Cursor, Skip> {
        let chunk = table.chunk(cell)?;
        if chunk.column_descr().max_rep_level() > 0 || chunk.uncompressed_size() > GROUP_LIMIT_BYTES {
            return Err(not_there(cell));
        }
        let group = table.open()?.get_row_group(cell.group as usize).map_err(unreadable)?;
        let reader = match group.get_column_reader(cell.column as usize).map_err(unreadable)? {
            ColumnReader::ByteArrayColumnReader(reader) => Reader::OfAnyLength(reader),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Reader::OfOneLength(reader),
            _ => return Err(not_there(cell)),
        };
        Ok(Cursor { table: Arc::clone(table), column: cell.column, group: cell.group, row: 0, reader })
    }

    fn is_before(&self, table: &Arc<Table>, cell: &Cell) -> bool {
        Arc::ptr_eq(&self.table, table)
            && (self.column, self.group) == (cell.column, cell.group)
            && self.row <= cell.row
    }

    fn read(&mut self, cell: &Cell) -> Result<Vec<u8>, Skip> {
        let before = (cell.row - self.row) as usize;
        let found = match &mut self.reader {
            Reader::OfAnyLength(reader) => behind(reader, before)?.map(|bytes| bytes.data().to_vec()),
            Reader::OfOneLength(reader) => behind(reader, before)?.map(|bytes| bytes.data().to_vec()),
        };
        self.row = cell.row.saturating_add(1);
        found.filter(|bytes| bytes.len() as u64 == cell.length).ok_or_else(|| not_there(cell))
    }
}

/// The value behind the next `before` rows; none where there is no such row, or no value in it.
fn behind<T: DataType>(reader: &mut ColumnReaderImpl<T>, before: usize) -> Result<Option<T::T>, Skip> {
    let skipped = reader.skip_records(before).map_err(unreadable)?;
    let (mut levels, mut found) = (Vec::new(), Vec::new());
    let (rows, _, _) = reader.read_records(1, Some(&mut levels), None, &mut found).map_err(unreadable)?;
    Ok(found.pop().filter(|_| (skipped, rows) == (before, 1)))
}

/// A shard as the reader of Parquet wants files. Readers of one file do not move each other.
struct Place(Arc<Shard>);

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
struct From {
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
