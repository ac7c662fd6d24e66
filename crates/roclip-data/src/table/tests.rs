use crate::shard::Shard;
use crate::table::{Cell, Table};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

/// Bytes of up to 40 kB that hardly compress, with a head that all have in common; none of every ninth row.
fn value(row: usize) -> Option<Vec<u8>> {
    let mut state = row as u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    (row % 9 != 8).then(|| b"the same head".repeat(40).into_iter().chain(noise.take(row * 997 % 40_000)).collect())
}

const ROWS: usize = 400;
const GROUP_ROWS: usize = 150;

fn write(path: &Path, properties: WriterPropertiesBuilder) {
    let schema = Arc::new(parse_message_type("message pairs { optional binary image; }").unwrap());
    // Several pages a group.
    let properties = Arc::new(properties.set_data_page_row_count_limit(40).set_write_batch_size(20).build());
    let mut writer = SerializedFileWriter::new(std::fs::File::create(path).unwrap(), schema, properties).unwrap();
    for first in (0..ROWS).step_by(GROUP_ROWS) {
        let rows: Vec<Option<Vec<u8>>> = (first..ROWS.min(first + GROUP_ROWS)).map(value).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
        let values: Vec<ByteArray> = rows.into_iter().flatten().map(ByteArray::from).collect();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn cell(row: usize) -> Cell {
    let length = value(row).map_or(1, |bytes| bytes.len() as u64);
    Cell { column: 0, group: (row / GROUP_ROWS) as u32, row: (row % GROUP_ROWS) as u32, length }
}

#[test]
fn values_are_the_same_in_any_order_however_their_pages_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    for (compression, is_learned) in [(Compression::SNAPPY, true), (Compression::UNCOMPRESSED, true), (zstd, false)] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for dictionary in [true, false] {
                let properties = WriterProperties::builder().set_compression(compression).set_writer_version(version);
                // The second version would take lengths as differences.
                let properties = properties.set_encoding(parquet::basic::Encoding::PLAIN);
                write(&path, properties.set_dictionary_enabled(dictionary).set_dictionary_page_size_limit(600_000));
                let table = Arc::new(Table::new(Arc::new(Shard::open(&path).unwrap().0)));
                let said = format!("{compression:?} {version:?} {dictionary}");
                for step in [1, 7, 131, 399] {
                    for number in 0..ROWS {
                        let row = number * step % ROWS;
                        assert!(table.read(&cell(row)).ok() == value(row), "{said}: row {row}");
                    }
                }
                let known = table.known.read().unwrap();
                let rows: u64 = known.values().flatten().map(|places| places.rows().end - places.rows().start).sum();
                assert_eq!(rows, if is_learned { ROWS as u64 } else { 0 }, "{said}");
                drop(known);
                // Another length than the index says is another picture.
                assert!(table.read(&Cell { length: 5, ..cell(3) }).is_err(), "{said}");
            }
        }
    }
}
