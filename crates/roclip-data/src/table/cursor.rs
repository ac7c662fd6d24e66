//! A column of a group, read page by page.

use crate::shard::Shard;
use crate::skip::Skip;
use crate::table::file::{Cell, GROUP_LIMIT_BYTES, Place, not_there, unreadable};
use crate::table::guarded;
use crate::table::places::{Block, Places};
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// A page of more rows is not unpacked as a whole: some bytes could claim any number.
const WHOLE_PAGE_ROWS: u64 = 1 << 20;
/// Rows that are asked for at once: room is made for them before they are read.
const ROWS_AT_ONCE: usize = 1024;

/// A place within a column of a group. It holds one unpacked page, where the page must be unpacked for each of its values.
pub(super) struct Cursor {
    shard: Arc<Shard>,
    column: u32,
    group: u32,
    descriptor: ColumnDescPtr,
    compression: Compression,
    pages: SerializedPageReader<Recorded>,
    recorded: Arc<Recorded>,
    dictionary: Option<Dictionary>,
    /// The first row of the next page.
    next_row: u64,
    unpacked: Option<Unpacked>,
}

struct Dictionary {
    page: Page,
    /// None where no part of it can be read alone.
    block: Option<Arc<Block>>,
}

/// Values of consecutive rows.
struct Unpacked {
    first_row: u64,
    values: Vec<Option<ByteArray>>,
}

impl Unpacked {
    /// The value of a row, if the row is one of these.
    fn get(&self, row: u64) -> Option<&Option<ByteArray>> {
        self.values.get(usize::try_from(row.checked_sub(self.first_row)?).ok()?)
    }
}

impl Cursor {
    /// In the column `chunk` of the group of `cell`.
    pub fn new(shard: &Arc<Shard>, chunk: &ColumnChunkMetaData, cell: &Cell) -> Result<Cursor, Skip> {
        if chunk.column_descr().max_rep_level() > 0 || chunk.uncompressed_size() > GROUP_LIMIT_BYTES {
            return Err(not_there(cell));
        }
        let recorded = Arc::new(Recorded { file: Place(Arc::clone(shard)), last: Mutex::default() });
        let rows = usize::try_from(chunk.num_values()).map_err(|_| not_there(cell))?;
        let pages = SerializedPageReader::new(Arc::clone(&recorded), chunk, rows, None).map_err(unreadable)?;
        Ok(Cursor {
            shard: Arc::clone(shard),
            column: cell.column,
            group: cell.group,
            descriptor: chunk.column_descr_ptr(),
            compression: chunk.compression(),
            pages,
            recorded,
            dictionary: None,
            next_row: 0,
            unpacked: None,
        })
    }

    pub fn is_before(&self, shard: &Arc<Shard>, cell: &Cell) -> bool {
        let row = u64::from(cell.row);
        Arc::ptr_eq(&self.shard, shard)
            && (self.column, self.group) == (cell.column, cell.group)
            && (row >= self.next_row || self.unpacked.as_ref().is_some_and(|unpacked| unpacked.get(row).is_some()))
    }

    /// The value of a row that is not behind this place, where it has one of the cell's length, and where the values of its page lie, if that
    /// is new.
    pub fn read(&mut self, cell: &Cell) -> Result<(Option<Vec<u8>>, Option<Places>), Skip> {
        let row = u64::from(cell.row);
        if let Some(value) = self.unpacked.as_ref().and_then(|unpacked| unpacked.get(row)) {
            return Ok((of_length(value.as_ref(), cell), None));
        }
        self.unpacked = None;
        let (unpacked, places) = self.page_of(row).map_err(unreadable)?.ok_or_else(|| not_there(cell))?;
        let value = of_length(unpacked.get(row).and_then(Option::as_ref), cell);
        // A page whose values can be read alone is of no further use.
        self.unpacked = places.is_none().then_some(unpacked);
        Ok((value, places))
    }

    /// The page of a row, or the row alone of one that has very many, and where its values lie, if each can be read alone.
    fn page_of(&mut self, row: u64) -> ParquetResult<Option<(Unpacked, Option<Places>)>> {
        loop {
            let Some(next) = self.pages.peek_next_page()? else { return Ok(None) };
            if next.is_dict {
                self.dictionary = self.next_page()?.map(|page| self.dictionary_of(page));
                continue;
            }
            // Nothing repeats in the column, so that a level is a row.
            let rows = next.num_rows.or(next.num_levels).unwrap_or(0) as u64;
            let first_row = self.next_row;
            self.next_row = first_row.saturating_add(rows);
            if row >= self.next_row {
                self.pages.skip_next_page()?;
                continue;
            }
            let Some(page) = self.next_page()? else { return Ok(None) };
            if rows > WHOLE_PAGE_ROWS {
                let values = self.values(&page, row - first_row, 1)?;
                return Ok(Some((Unpacked { first_row: row, values }, None)));
            }
            let values = self.values(&page, 0, rows as usize)?;
            let places = self.places(first_row, &values, &page);
            return Ok(Some((Unpacked { first_row, values }, places)));
        }
    }

    fn next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.get_next_page()?;
        let levels = [self.descriptor.max_rep_level(), self.descriptor.max_def_level()];
        page.map(|page| guarded::check(&page, levels).map(|()| page)).transpose()
    }

    fn dictionary_of(&self, page: Page) -> Dictionary {
        let block = self.block(&page).map(Arc::new);
        Dictionary { page, block }
    }

    /// `count` values of a page behind the first `before`; fewer where it has no more.
    fn values(&self, page: &Page, before: u64, count: usize) -> ParquetResult<Vec<Option<ByteArray>>> {
        let pages = self.dictionary.iter().map(|dictionary| dictionary.page.clone()).chain([page.clone()]);
        let pages = Box::new(Few(pages.collect()));
        let greatest = self.descriptor.max_def_level();
        match get_column_reader(Arc::clone(&self.descriptor), pages) {
            ColumnReader::ByteArrayColumnReader(reader) => values_of(reader, greatest, before, count, |value| value),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                values_of(reader, greatest, before, count, ByteArray::from)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn places(&self, first_row: u64, values: &[Option<ByteArray>], page: &Page) -> Option<Places> {
        let slices: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_ref().map(ByteArray::data)).collect();
        let in_page = || Places::of(first_row, &slices, page.buffer(), levels_of(page), &Arc::new(self.block(page)?));
        let in_dictionary = || {
            let Dictionary { page, block } = self.dictionary.as_ref()?;
            Places::of(first_row, &slices, page.buffer(), 0, block.as_ref()?)
        };
        in_dictionary().or_else(in_page)
    }

    /// A page that was just read, as it lies in the file.
    fn block(&self, page: &Page) -> Option<Block> {
        let last = self.recorded.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset, packed) = last.as_ref()?;
        let levels = levels_of(page);
        let compression = match page {
            Page::DataPageV2 { is_compressed: false, .. } => Compression::UNCOMPRESSED,
            _ => self.compression,
        };
        Block::of(packed.get(levels..)?, offset + levels as u64, page.buffer().len().checked_sub(levels)?, compression)
    }
}

/// Bytes of levels before what is packed.
fn levels_of(page: &Page) -> usize {
    match page {
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            (*def_levels_byte_len as usize).saturating_add(*rep_levels_byte_len as usize)
        }
        _ => 0,
    }
}

fn of_length(value: Option<&ByteArray>, cell: &Cell) -> Option<Vec<u8>> {
    value.map(ByteArray::data).filter(|bytes| bytes.len() as u64 == cell.length).map(<[u8]>::to_vec)
}

fn values_of<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    greatest: i16,
    before: u64,
    count: usize,
    own: impl Fn(T::T) -> ByteArray,
) -> ParquetResult<Vec<Option<ByteArray>>> {
    let before = usize::try_from(before)?;
    if reader.skip_records(before)? != before {
        return Ok(Vec::new());
    }
    let mut values = Vec::new();
    while values.len() < count {
        let (mut levels, mut found) = (Vec::new(), Vec::new());
        let most = ROWS_AT_ONCE.min(count - values.len());
        let (rows, _, _) = reader.read_records(most, Some(&mut levels), None, &mut found)?;
        let mut found = found.into_iter().map(&own);
        match greatest {
            0 => values.extend(found.map(Some)),
            _ => values.extend(levels.iter().map(|level| if *level == greatest { found.next() } else { None })),
        }
        if rows < most {
            break;
        }
    }
    Ok(values)
}

/// Remembers what was read last, which is a page as it lies in the file.
struct Recorded {
    file: Place,
    last: Mutex<Option<(u64, Bytes)>>,
}

impl Length for Recorded {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Recorded {
    type T = <Place as ChunkReader>::T;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.file.get_bytes(start, length)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((start, bytes.clone()));
        Ok(bytes)
    }
}

/// Pages that were read.
struct Few(VecDeque<Page>);

impl Iterator for Few {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Ok)
    }
}

impl PageReader for Few {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Ok(self.0.front().map(|page| PageMetadata {
            num_rows: None,
            num_levels: page.is_data_page().then(|| page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.pop_front().map(drop).ok_or_else(|| ParquetError::EOF("no page is left".into()))
    }
}
