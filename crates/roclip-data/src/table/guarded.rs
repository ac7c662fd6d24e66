//! A reader of Parquet that believes no count that its page cannot have.
//!
//! The decoders make room for as many values as a page says that it has, before they read them: some bytes could ask for terabytes, which
//! ends the process. Every page is looked at here before a decoder gets it.

use crate::varint;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

/// Values of a page that takes fewer bytes than that: empty texts take none.
const FEW_VALUES: u64 = 1 << 20;

pub(crate) struct Guarded<R: ChunkReader>(SerializedFileReader<R>);

impl<R: ChunkReader + 'static> Guarded<R> {
    /// # Errors
    /// A file that is no Parquet.
    pub fn new(file: R) -> Result<Self> {
        SerializedFileReader::new(file).map(Guarded)
    }
}

impl<R: ChunkReader + 'static> FileReader for Guarded<R> {
    fn metadata(&self) -> &ParquetMetaData {
        self.0.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.0.num_row_groups()
    }

    fn get_row_group(&self, number: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Group(self.0.get_row_group(number)?)))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

struct Group<'a>(Box<dyn RowGroupReader + 'a>);

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, number: usize) -> Result<Box<dyn PageReader>> {
        let pages = self.0.get_column_page_reader(number)?;
        let column = self.metadata().column(number).column_descr();
        let levels = [column.max_rep_level(), column.max_def_level()];
        Ok(Box::new(Pages { pages, levels }))
    }

    fn get_column_bloom_filter(&self, number: usize) -> Option<&Sbbf> {
        self.0.get_column_bloom_filter(number)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

struct Pages {
    pages: Box<dyn PageReader>,
    /// The greatest repetition and definition levels.
    levels: [i16; 2],
}

impl Pages {
    fn checked(&self, page: Option<Page>) -> Result<Option<Page>> {
        page.map(|page| check(&page, self.levels).map(|()| page)).transpose()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        self.checked(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        self.checked(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

/// # Errors
/// A page that claims more values than it can have.
pub(super) fn check(page: &Page, levels: [i16; 2]) -> Result<()> {
    let (claimed, bytes) = (page.num_values(), page.buffer().len());
    if matches!(page, Page::DictionaryPage { .. }) && claimed as usize > bytes {
        return Err(ParquetError::General(format!("a dictionary claims {claimed} values in {bytes} bytes")));
    }
    let prefixes = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => false,
        Encoding::DELTA_BYTE_ARRAY => true,
        _ => return Ok(()),
    };
    let cut_off = || ParquetError::EOF("a page of lengths was cut off".into());
    let mut lengths = page.buffer().get(before_values(page, levels).ok_or_else(cut_off)?..).ok_or_else(cut_off)?;
    for _ in 0..if prefixes { 2 } else { 1 } {
        let (count, rest) = delta(lengths).ok_or_else(cut_off)?;
        if count > u64::from(claimed) || count > FEW_VALUES.max(bytes as u64) {
            return Err(ParquetError::General(format!(
                "a page of {claimed} values claims {count} lengths in {bytes} bytes"
            )));
        }
        lengths = rest;
    }
    Ok(())
}

/// Bytes of the levels before the values of a page.
fn before_values(page: &Page, levels: [i16; 2]) -> Option<usize> {
    match page {
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let mut at = 0usize;
            for (greatest, encoding) in levels.into_iter().zip([rep_level_encoding, def_level_encoding]) {
                if greatest == 0 {
                    continue;
                }
                let bits = u64::from(16 - greatest.leading_zeros());
                at = at.checked_add(match encoding {
                    Encoding::RLE => 4 + u32::from_le_bytes(*buf.get(at..)?.first_chunk()?) as usize,
                    _ => (u64::from(*num_values) * bits).div_ceil(8) as usize,
                })?;
            }
            Some(at)
        }
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            (*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)
        }
        Page::DictionaryPage { .. } => Some(0),
    }
}

/// How many numbers are packed as differences at the beginning of `bytes` (Parquet's DELTA_BINARY_PACKED), and what lies behind them.
fn delta(mut bytes: &[u8]) -> Option<(u64, &[u8])> {
    let left = &mut bytes;
    let (block, parts, count) = (varint::read(left)?, varint::read(left)?, varint::read(left)?);
    varint::read(left)?;
    let each = block.checked_div(parts)?;
    // A count that no page has is refused without counting to it.
    if count > FEW_VALUES.max(left.len() as u64) {
        return Some((count, left));
    }
    let mut missing = count.saturating_sub(1);
    while missing > 0 {
        varint::read(left)?;
        let (widths, rest) = left.split_at_checked(usize::try_from(parts).ok()?)?;
        *left = rest;
        let needed = missing.div_ceil(each.max(1)) as usize;
        if widths.is_empty() || each == 0 {
            return None;
        }
        for width in widths.iter().take(needed) {
            let length = each.checked_mul(u64::from(*width))?.div_ceil(8);
            *left = left.get(usize::try_from(length).ok()?..)?;
            missing = missing.saturating_sub(each);
        }
    }
    Some((count, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_differences_are_counted_and_walked_over() {
        // Blocks of 128 in four parts; five numbers, the first of which is 3 (as 6); one block: smallest difference 0, widths 2, 0, 0, 0.
        let mut bytes = vec![0x80, 0x01, 4, 5, 6, 0, 2, 0, 0, 0];
        bytes.extend([0; 8]);
        bytes.extend(b"rest");
        assert_eq!(delta(&bytes), Some((5, &b"rest"[..])));
        (0..bytes.len() - 4).for_each(|cut| assert_eq!(delta(&bytes[..cut]), None, "{cut}"));
        let one = [0x80, 0x01, 4, 1, 6, 9];
        assert_eq!(delta(&one), Some((1, &one[5..])));
        for senseless in [[0, 4, 9, 6, 0, 0], [8, 0, 9, 6, 0, 0]] {
            assert_eq!(delta(&senseless), None);
        }
    }
}
