//! Parquet without some of its rows: every column is copied, those too that mean nothing here.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::guard::contained;
use crate::skip::Skip;
use crate::source::kept::{Fate, Fates, Kept, Leave};
use crate::source::parquet::Parquet;
use crate::source::parquet::columns::too_large;
use crate::source::parquet::rows::{Table, unreadable};
use crate::source::rows::image_root;
use crate::source::shards::distinct_ends;
use crate::source::spelling::place;
use crate::source::tree::name;
use crate::table::Guarded;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::writer::SerializedFileWriter;
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that are read at a time.
const BATCH: usize = 256;

impl Parquet {
    /// Writes the file `out` where the source is one file, else the folder `out` with files of the same names.
    pub(super) fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        let all = self.files.iter().map(|file| self.root.join(file));
        let others: HashSet<PathBuf> =
            all.flat_map(|file| [place(&image_root(&file, &self.config)), place(&file)]).collect();
        if let [file] = self.files.as_slice()
            && out.extension().is_some_and(|ending| ending == "parquet")
        {
            return self.write_file(file, leave, &others, out);
        }
        let names: Vec<String> = self.files.iter().map(|file| name(file)).collect();
        let names = distinct_ends(&names);
        artifact::write_folder(out, |folder| {
            let mut kept = Kept::default();
            let mut root: Option<PathBuf> = None;
            for (file, name) in self.files.iter().zip(&names) {
                let mut written = self.write_file(file, leave, &others, &folder.join(name))?;
                let own = written.image_root.take();
                if let (Some(one), Some(other)) = (&root, &own)
                    && place(one) != place(other)
                {
                    let [one, other] = [one, other].map(|folder| folder.display());
                    return Err(Error::file(
                        &self.root.join(file),
                        format!(
                            "names its pictures from `{other}`, and another file of the folder from `{one}`: no one folder leads to both"
                        ),
                        "drop from each file by itself, or name one folder for all with --image-root",
                    ));
                }
                root = root.or(own);
                kept.append(written);
            }
            Ok::<Kept, Error>(Kept { image_root: root, ..kept })
        })
    }

    fn write_file(&self, file: &Path, leave: &Leave, others: &HashSet<PathBuf>, out: &Path) -> Result<Kept> {
        let path = self.root.join(file);
        // Of pictures in the file the file is the source, of others the folder that paths start from.
        let root = image_root(&path, &self.config);
        let here = leave.of_source(&place(&path).to_string_lossy()).and(leave.of_list(&root, others));
        let mut fates = Fates::new(&here);
        let mut keeps: Vec<bool> = Vec::new();
        let mut by_path = false;
        let mut partly = None;
        let mut left = u64::MAX;
        let mut table = Table::new(&path, &self.config, self.memory, &mut left);
        let lost = table.each_row(&mut |_, row| {
            by_path |= row.as_ref().is_ok_and(|row| row.picture.is_none());
            let fate = row.as_ref().map_or(Fate::Kept, |row| fates.of(&row.image, &row.captions));
            if let (Fate::Captions(_), Ok(row)) = (&fate, &row) {
                partly.get_or_insert_with(|| row.image.clone());
            }
            keeps.push(fate != Fate::Dropped);
        })?;
        let broken = |what: String| Error::file(&path, what, "repair it, or write the other files alone");
        if let Some(skip) = lost {
            return Err(broken(format!("cannot be read as a whole: {} ({})", skip.reason, skip.detail)));
        }
        if let Some(image) = partly {
            return Err(Error::file(
                &path,
                format!("has several captions of `{image}` in one row, and the list names some of them"),
                "leave single captions out while training (`roclip train --drop`), or name the picture itself",
            ));
        }
        let (opened, _) = bounded::open(&path).io("open", &path)?;
        artifact::write_with(out, |to| {
            let copied = contained(|| {
                let reader = Guarded::new(opened).map_err(unreadable)?;
                // All columns are unpacked now, those too that nobody asked for before.
                let all = reader.metadata().file_metadata().schema_descr().root_schema().get_fields();
                too_large(reader.metadata(), all).map_or(Ok(()), Err)?;
                copy_rows(&reader, &keeps, to).map_err(unreadable)
            });
            copied.map_err(|Skip { detail, .. }| broken(format!("cannot be copied: {detail}")))
        })?;
        let image_root = by_path.then_some(root);
        Ok(Kept { files: 1, image_root, ..Kept::default() })
    }
}

/// Copies the rows of which `keeps` says so.
fn copy_rows(reader: &dyn FileReader, keeps: &[bool], to: &mut (dyn Write + Send)) -> ParquetResult<()> {
    let metadata = reader.metadata().file_metadata();
    let chunk = reader.metadata().row_groups().first().and_then(|group| group.columns().first());
    let mut properties = WriterProperties::builder().set_key_value_metadata(metadata.key_value_metadata().cloned());
    if let Some(chunk) = chunk {
        properties = properties.set_compression(chunk.compression());
    }
    let schema = metadata.schema_descr().root_schema_ptr();
    let mut writer = SerializedFileWriter::new(to, schema, Arc::new(properties.build()))?;
    let mut rest = keeps;
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0).min(rest.len());
        let (here, after) = rest.split_at(rows);
        rest = after;
        if !here.contains(&true) {
            continue;
        }
        let mut written = writer.next_row_group()?;
        for column in 0..group.num_columns() {
            let levels = Levels::of(group.metadata().column(column).column_descr());
            let from = group.get_column_reader(column)?;
            let missing = || ParquetError::General("a column is missing".into());
            let mut out = written.next_column()?.ok_or_else(missing)?;
            copy_column(from, out.untyped(), here, levels)?;
            out.close()?;
        }
        written.close()?;
    }
    writer.close()?;
    Ok(())
}

/// How deep a column is nested.
#[derive(Clone, Copy)]
struct Levels {
    definition: i16,
    repetition: i16,
}

impl Levels {
    fn of(column: &parquet::schema::types::ColumnDescriptor) -> Levels {
        Levels { definition: column.max_def_level(), repetition: column.max_rep_level() }
    }
}

fn copy_column(from: ColumnReader, to: &mut ColumnWriter<'_>, keeps: &[bool], levels: Levels) -> ParquetResult<()> {
    match (from, to) {
        (ColumnReader::BoolColumnReader(from), ColumnWriter::BoolColumnWriter(to)) => copy(from, to, keeps, levels),
        (ColumnReader::Int32ColumnReader(from), ColumnWriter::Int32ColumnWriter(to)) => copy(from, to, keeps, levels),
        (ColumnReader::Int64ColumnReader(from), ColumnWriter::Int64ColumnWriter(to)) => copy(from, to, keeps, levels),
        (ColumnReader::Int96ColumnReader(from), ColumnWriter::Int96ColumnWriter(to)) => copy(from, to, keeps, levels),
        (ColumnReader::FloatColumnReader(from), ColumnWriter::FloatColumnWriter(to)) => copy(from, to, keeps, levels),
        (ColumnReader::DoubleColumnReader(from), ColumnWriter::DoubleColumnWriter(to)) => copy(from, to, keeps, levels),
        (ColumnReader::ByteArrayColumnReader(from), ColumnWriter::ByteArrayColumnWriter(to)) => {
            copy(from, to, keeps, levels)
        }
        (ColumnReader::FixedLenByteArrayColumnReader(from), ColumnWriter::FixedLenByteArrayColumnWriter(to)) => {
            copy(from, to, keeps, levels)
        }
        _ => Err(ParquetError::General("a column is of two kinds".into())),
    }
}

fn copy<T: DataType>(
    mut from: ColumnReaderImpl<T>,
    to: &mut ColumnWriterImpl<'_, T>,
    keeps: &[bool],
    levels: Levels,
) -> ParquetResult<()> {
    for keeps in keeps.chunks(BATCH) {
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        let mut read = 0;
        while read < keeps.len() {
            let (records, _, _) =
                from.read_records(keeps.len() - read, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
            if records == 0 {
                return Err(ParquetError::EOF("a column has fewer rows than the others".into()));
            }
            read += records;
        }
        let entries = if levels.definition > 0 { definitions.len() } else { values.len() };
        let (mut kept_values, mut kept_definitions, mut kept_repetitions) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = values.into_iter();
        let mut row: Option<usize> = None;
        for entry in 0..entries {
            let repetition = repetitions.get(entry).copied().unwrap_or(0);
            if repetition == 0 {
                row = Some(row.map_or(0, |row| row + 1));
            }
            let definition = definitions.get(entry).copied().unwrap_or(levels.definition);
            let value = if definition == levels.definition { values.next() } else { None };
            if row.and_then(|row| keeps.get(row)).copied().unwrap_or(false) {
                kept_values.extend(value);
                kept_definitions.push(definition);
                kept_repetitions.push(repetition);
            }
        }
        let definitions = (levels.definition > 0).then_some(kept_definitions.as_slice());
        let repetitions = (levels.repetition > 0).then_some(kept_repetitions.as_slice());
        if entries > 0 && (!kept_values.is_empty() || definitions.is_some_and(|levels| !levels.is_empty())) {
            to.write_batch(&kept_values, definitions, repetitions)?;
        }
    }
    Ok(())
}
