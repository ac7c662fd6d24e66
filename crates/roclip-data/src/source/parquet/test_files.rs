//! Parquet files that tests write.

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

/// Values of a column.
pub(super) enum Column {
    Texts(Vec<String>),
    Lists(Vec<Vec<String>>),
    Bytes(Vec<Vec<u8>>),
    Floats(Vec<f64>),
    Dates(Vec<i32>),
}

/// A file with these columns.
pub(super) fn write(path: &Path, columns: &[(&str, Column)]) {
    let fields: Vec<String> = columns
        .iter()
        .map(|(name, column)| match column {
            Column::Texts(_) => format!("required binary {name} (UTF8);"),
            Column::Lists(_) => {
                format!("required group {name} (LIST) {{ repeated group list {{ required binary element (UTF8); }} }}")
            }
            Column::Bytes(_) => format!("required binary {name};"),
            Column::Floats(_) => format!("required double {name};"),
            Column::Dates(_) => format!("required int32 {name} (DATE);"),
        })
        .collect();
    let schema = parse_message_type(&format!("message schema {{ {} }}", fields.join(" "))).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, column) in columns {
        let mut out = group.next_column().unwrap().unwrap();
        let bytes = |values: Vec<Vec<u8>>| values.into_iter().map(ByteArray::from).collect::<Vec<_>>();
        match column {
            Column::Texts(texts) => {
                let texts = bytes(texts.iter().map(|text| text.clone().into_bytes()).collect());
                out.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            }
            Column::Lists(lists) => {
                let texts = bytes(lists.iter().flatten().map(|text| text.clone().into_bytes()).collect());
                let repetitions: Vec<i16> =
                    lists.iter().flat_map(|list| (0..list.len()).map(|at| i16::from(at > 0))).collect();
                let definitions = vec![1; repetitions.len()];
                out.typed::<ByteArrayType>().write_batch(&texts, Some(&definitions), Some(&repetitions)).unwrap();
            }
            Column::Bytes(values) => {
                out.typed::<ByteArrayType>().write_batch(&bytes(values.clone()), None, None).unwrap();
            }
            Column::Floats(values) => drop(out.typed::<DoubleType>().write_batch(values, None, None).unwrap()),
            Column::Dates(values) => drop(out.typed::<Int32Type>().write_batch(values, None, None).unwrap()),
        }
        out.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// A file with columns of texts.
pub(in crate::source) fn write_texts(path: &Path, columns: &[(&str, &[&str])]) {
    write(path, &columns.iter().map(|(name, values)| (*name, texts(values))).collect::<Vec<_>>());
}

pub(super) fn texts(texts: &[&str]) -> Column {
    Column::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}
