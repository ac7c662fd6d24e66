//! Pictures that lie in a column of a Parquet file, read in place.
//!
//! A column is a row of pages, each compressed as a whole. A page is unpacked for the first picture that is asked for, and from then on it is
//! known where its pictures lie ([`places`]); where that cannot be used, each picture costs the unpacking of its page, unless a thread asks for
//! the pictures in their order ([`cursor`]).

mod cursor;
mod file;
mod guarded;
mod places;
mod snappy;

pub use file::Cell;
pub(crate) use file::GROUP_LIMIT_BYTES;
pub(crate) use guarded::Guarded;

use crate::guard::contained;
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use crate::table::cursor::Cursor;
use crate::table::file::{Place, not_there, unreadable};
use crate::table::places::Places;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::FileReader;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Groups that unpack to more than this are read by one thread at a time: a page may be as large as its group, and each thread would hold one.
const LARGE_GROUP_BYTES: i64 = 64 << 20;

/// Pages of a column of a group, in the order of their rows.
type Pages = Vec<Arc<Places>>;

/// A Parquet file as it was when it was listed.
pub struct Table {
    shard: Arc<Shard>,
    opened: OnceLock<Result<Guarded<Place>, Skip>>,
    /// Where values lie, by `(column, group)`.
    known: RwLock<FxHashMap<(u32, u32), Pages>>,
}

impl Table {
    /// Nothing is read yet.
    pub fn new(shard: Arc<Shard>) -> Table {
        Table { shard, opened: OnceLock::new(), known: RwLock::default() }
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
        contained(|| {
            if let Some(places) = self.known(cell) {
                return self.read_at(cell, &places);
            }
            match self.chunk(cell)?.uncompressed_size() > LARGE_GROUP_BYTES {
                true => self.read_from(cell, &mut LARGE.lock().unwrap_or_else(PoisonError::into_inner)),
                false => CURSOR.with_borrow_mut(|kept| self.read_from(cell, kept)),
            }
        })
    }

    fn read_at(&self, cell: &Cell, places: &Places) -> Result<Vec<u8>, Skip> {
        let read = places.read(&self.shard, u64::from(cell.row), cell.length);
        let read = read.map_err(|e| Skip::new(SkipReason::ImageFileUnreadable, e.to_string()))?;
        read.ok_or_else(|| not_there(cell))
    }

    /// Where the values of the cell's page lie, if that was learned.
    fn known(&self, cell: &Cell) -> Option<Arc<Places>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let pages = known.get(&(cell.column, cell.group))?;
        let row = u64::from(cell.row);
        let at = pages.partition_point(|places| places.rows().end <= row);
        pages.get(at).filter(|places| places.rows().contains(&row)).cloned()
    }

    /// Takes in where values lie.
    fn learn(&self, of: (u32, u32), places: Places) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let pages = known.entry(of).or_default();
        let at = pages.partition_point(|other| other.rows().end <= places.rows().start);
        // Another thread may have been as quick.
        if pages.get(at).is_none_or(|other| other.rows().start >= places.rows().end) {
            pages.insert(at, Arc::new(places));
        }
    }

    /// From where was read last, if that is on the way.
    fn read_from(self: &Arc<Self>, cell: &Cell, kept: &mut Option<Cursor>) -> Result<Vec<u8>, Skip> {
        // The thread that was waited for may have learned it.
        if let Some(places) = self.known(cell) {
            return self.read_at(cell, &places);
        }
        let mut cursor = match kept.take() {
            Some(cursor) if cursor.is_before(&self.shard, cell) => cursor,
            _ => Cursor::new(&self.shard, self.chunk(cell)?, cell)?,
        };
        let (bytes, learned) = cursor.read(cell)?;
        *kept = Some(cursor);
        if let Some(places) = learned {
            self.learn((cell.column, cell.group), places);
        }
        bytes.ok_or_else(|| not_there(cell))
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

/// Where some thread has read last in a large group.
static LARGE: Mutex<Option<Cursor>> = Mutex::new(None);

thread_local! {
    /// Where this thread has read last.
    static CURSOR: RefCell<Option<Cursor>> = const { RefCell::new(None) };
}

#[cfg(test)]
mod tests;
