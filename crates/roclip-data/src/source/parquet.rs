//! Parquet: pictures in the file itself, as `datasets` writes them (`image: {bytes, path}`), or paths of pictures beside it, as in the metadata of
//! img2dataset (`key`, `status`). Columns have the names that they have elsewhere.
//!
//! Pictures in the file are held in memory, up to a limit for all files together. Those behind it, and all of an index, are read in place
//! ([`table`]), which costs the unpacking of a page each.

use crate::error::{Error, IoContext, Result};
use crate::guard::contained;
use crate::sample::ImageBytes;
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use crate::source::json_rows::{check_columns, row};
use crate::source::kept::{Kept, Leave};
use crate::source::losses::{ReadShard, lost_of};
use crate::source::rows::{ADDRESS_NAMES, CAPTION_NAMES, CLASS_NAMES, IMAGE_NAMES, Row, Rows, addresses};
use crate::source::shards::distinct_ends;
use crate::source::tree::{name, split_of};
use crate::source::webdataset::Memory;
use crate::source::{Listing, Rest, Source, SourceConfig, Take, place};
use crate::table::{self, Cell, GROUP_LIMIT_BYTES, Guarded};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::FileReader;
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// img2dataset's, of which the first is a picture's name and the second says whether it was fetched.
const FETCHED: [&str; 2] = ["key", "status"];

/// Where a picture may be read, of a length that is not known yet.
type InPlace = (Arc<table::Table>, Cell);

pub(super) struct Parquet {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    config: SourceConfig,
    memory: Memory,
}

impl Parquet {
    pub(super) fn new(root: PathBuf, files: Vec<PathBuf>, config: SourceConfig, memory: Memory) -> Self {
        Parquet { root, files, config, memory }
    }
}

impl Source for Parquet {
    fn places(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| place(&self.root.join(file))).collect()
    }

    fn list(&self) -> Result<Listing> {
        let mut all = Listing::default();
        self.each_file(self.memory.gzip_bytes, &mut |found| {
            all.append(found);
            Ok(())
        })?;
        Ok(all)
    }

    /// Pictures that are held are had at once; those of an index cost the unpacking of their pages.
    fn worth_an_index(&self) -> Option<u64> {
        Some(self.memory.gzip_bytes)
    }

    /// No picture is held.
    fn stream(&self, take: Take) -> Result<(Listing, Rest)> {
        let mut all = Listing::default();
        self.each_file(0, &mut |mut found| {
            std::mem::take(&mut found.samples).into_iter().try_for_each(&mut *take)?;
            all.append(found);
            Ok(())
        })?;
        Ok((all, Rest::Whole))
    }

    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        Parquet::write_kept(self, leave, out)
    }
}

impl Parquet {
    /// The listing of every file, in their order. At most `left` bytes of pictures are held.
    fn each_file(&self, mut left: u64, take: &mut dyn FnMut(Listing) -> Result<()>) -> Result<()> {
        let names: Vec<String> = self.files.iter().map(|file| name(file)).collect();
        let names = distinct_ends(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut files = Vec::new();
        for (file, name) in self.files.iter().zip(&names) {
            let path = self.root.join(file);
            check_columns(&path, &self.config)?;
            let mut table = Table::new(&path, &self.config, self.memory, &mut left);
            let (mut found, lost) = table.read()?;
            let length_bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            files.push(ReadShard {
                name: name.clone(),
                split: split(file).map(str::to_owned),
                samples: table.rows_read,
                length_bytes,
                read_bytes: if lost.is_some() { 0 } else { length_bytes },
                stated: table.rows.map(|rows| rows.saturating_sub(table.rows_read)),
                lost,
            });
            for sample in &mut found.samples {
                sample.split = sample.split.take().or_else(|| split(file).map(str::to_owned));
            }
            take(if self.files.len() > 1 { found.under(name) } else { found })?;
        }
        let mut losses = Listing::default();
        losses.add_lost(lost_of(files));
        take(losses)
    }
}

/// The split of `test/a.parquet`, or of `test-00000-of-00001.parquet` as `datasets` calls its files.
fn split(file: &Path) -> Option<&str> {
    let of_name = || {
        let (first, rest) = file.file_stem()?.to_str()?.split_once('-')?;
        (["train", "validation", "test"].contains(&first) && rest.starts_with(|c: char| c.is_ascii_digit()))
            .then_some(first)
    };
    of_name().or_else(|| split_of(file))
}

/// One file.
struct Table<'a> {
    path: &'a Path,
    config: &'a SourceConfig,
    memory: Memory,
    /// Bytes of pictures that may yet be held.
    left: &'a mut u64,
    rows_read: usize,
    /// As the file says; none before it is read, and of one that cannot be.
    rows: Option<usize>,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, config: &'a SourceConfig, memory: Memory, left: &'a mut u64) -> Self {
        Table { path, config, memory, left, rows_read: 0, rows: None }
    }

    /// Its samples, and why the file is lost, wholly or from a row on, where it is.
    fn read(&mut self) -> Result<(Listing, Option<Skip>)> {
        let mut made = Rows::new(self.path, self.config, None);
        let lost = self.each_row(&mut |place, row| made.add(&|| place.to_owned(), row))?;
        Ok((made.finish()?, lost))
    }

    /// Hands on every row, or why there is none, with its name. Why the file is lost, wholly or from a row on, where it is.
    ///
    /// # Errors
    /// Columns that are not there.
    fn each_row(&mut self, take: &mut dyn FnMut(&str, std::result::Result<Row, Skip>)) -> Result<Option<Skip>> {
        let (shard, file) = Shard::open(self.path).io("open", self.path)?;
        let in_place = Arc::new(table::Table::new(Arc::new(shard)));
        // The reader of strangers' bytes may panic on them.
        let opened = contained(|| Guarded::new(file).map_err(unreadable));
        let reader = match opened {
            Ok(reader) => reader,
            Err(skip) => return Ok(Some(skip)),
        };
        let columns = self.columns(reader.metadata())?;
        self.rows = usize::try_from(reader.metadata().file_metadata().num_rows()).ok();
        if let Some(skip) = too_large(reader.metadata(), &columns) {
            return Ok(Some(skip));
        }
        let classes = class_names(reader.metadata());
        let counts: Vec<i64> = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
        let mut cells = (0u32..).zip(counts).flat_map(|(group, rows)| (0..rows as u32).map(move |row| (group, row)));
        let leaves = leaves(reader.metadata());
        let projection = Type::group_type_builder("schema").with_fields(columns).build();
        let rows = projection
            .map_err(unreadable)
            .and_then(|projection| contained(|| reader.get_row_iter(Some(projection)).map_err(unreadable)));
        let mut rows = match rows {
            Ok(rows) => rows,
            Err(skip) => return Ok(Some(skip)),
        };
        let mut seen: HashMap<String, u64> = HashMap::new();
        for number in 1.. {
            let place = format!("row {number}");
            let fields = match contained(|| rows.next().transpose().map_err(unreadable)) {
                Ok(Some(row)) => row.into_columns(),
                Ok(None) => break,
                // What lies behind it cannot be found.
                Err(skip) => {
                    let detail = format!("after {} rows: {}", number - 1, skip.detail);
                    return Ok(Some(Skip::new(SkipReason::ShardTruncated, detail)));
                }
            };
            let (group, row) = cells.next().unwrap_or_default();
            let at = |column: &str| {
                let column = *leaves.get(column)?;
                Some((Arc::clone(&in_place), Cell { column, group, row, length: 0 }))
            };
            match self.row(fields, &classes, &place, &mut seen, &at) {
                Err(skip) if skip.reason == SkipReason::ShardTooLarge => return Ok(Some(skip)),
                row => take(&place, row),
            }
            self.rows_read += 1;
        }
        Ok(None)
    }

    /// The columns of the file that mean something here.
    ///
    /// # Errors
    /// When there is none of pictures; the message says which there are.
    fn columns(&self, metadata: &ParquetMetaData) -> Result<Vec<TypePtr>> {
        let all = metadata.file_metadata().schema_descr().root_schema().get_fields();
        let config = self.config;
        let wanted = |wanted: &Option<String>, names: &[&str]| -> Vec<TypePtr> {
            let meant = |column: &&TypePtr| match wanted {
                Some(wanted) => column.name() == wanted,
                None => names.iter().any(|name| column.name().eq_ignore_ascii_case(name)),
            };
            all.iter().filter(meant).cloned().collect()
        };
        let mut images = wanted(&config.image_column, &IMAGE_NAMES);
        if images.is_empty() && config.image_column.is_none() {
            images = wanted(&None, &FETCHED);
        }
        let has = |columns: &[TypePtr], name: &str| columns.iter().any(|column| column.name() == name);
        let named: Vec<&str> = all.iter().take(20).map(|column| column.name()).collect();
        if images.is_empty() || has(&images, FETCHED[1]) && !has(&images, FETCHED[0]) {
            if all.iter().any(|column| ADDRESS_NAMES.iter().any(|name| column.name().eq_ignore_ascii_case(name))) {
                let what = format!("its pictures are addresses; it has the columns `{}`", named.join("`, `"));
                return Err(addresses(self.path, what));
            }
            let remedy = "set image_column and caption_column to the names of columns";
            let what = format!("there is no column with images among `{}`", named.join("`, `"));
            return Err(Error::file(self.path, what, remedy));
        }
        let captions = wanted(&config.caption_column, &CAPTION_NAMES);
        let classes = wanted(&config.class_column, &CLASS_NAMES);
        if captions.is_empty() && classes.is_empty() {
            let what = format!("there is no column with captions among `{}`", named.join("`, `"));
            return Err(Error::file(self.path, what, "set caption_column to the name of one"));
        }
        let mut columns = images;
        let stated: &[&str] = if config.with_sha256 { &["sha256", "original_width"] } else { &[] };
        let split = wanted(&config.split_column, &["split"]);
        for more in captions.into_iter().chain(classes).chain(split).chain(wanted(&None, stated)) {
            if !has(&columns, more.name()) {
                columns.push(more);
            }
        }
        Ok(columns)
    }

    fn row(
        &mut self,
        columns: Vec<(String, Field)>,
        classes: &HashMap<String, Vec<String>>,
        place: &str,
        seen: &mut HashMap<String, u64>,
        in_place: &dyn Fn(&str) -> Option<InPlace>,
    ) -> std::result::Result<Row, Skip> {
        let mut fields = Map::new();
        let mut picture: Option<(String, String, Vec<u8>)> = None;
        for (column, field) in columns {
            let (field, bytes) = if self.has_images(&column) { without_picture(field) } else { (field, None) };
            let mut value = value(field);
            if let Some(names) = classes.get(&column) {
                let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                value = match number.and_then(|number| names.get(number)) {
                    Some(name) => json!(name),
                    // `datasets` writes -1 where there is no label.
                    None if value.as_i64().is_some_and(|number| number < 0) => Value::Null,
                    None => value,
                };
            }
            if let Some(bytes) = bytes.filter(|_| picture.is_none()) {
                let path = value.as_str().or_else(|| value.get("path")?.as_str()).filter(|path| !path.is_empty());
                let named = path.map_or_else(|| place.replace(' ', "-"), str::to_owned);
                value = json!(named);
                picture = Some((named, column.clone(), bytes));
            }
            fields.insert(column, value);
        }
        if picture.is_none()
            && let Some(key) = fields.get(FETCHED[0]).and_then(Value::as_str)
        {
            fields.insert("image".into(), json!(self.fetched(key, fields.get(FETCHED[1]).and_then(Value::as_str))?));
        }
        let mut row = row(&fields, self.config)?;
        if let Some((named, column, bytes)) = picture {
            let digest = digest(&bytes);
            match seen.get(&named) {
                // One picture with a further caption.
                Some(earlier) if *earlier == digest => return Ok(Row { image: named, ..row }),
                Some(_) => row.image = format!("{named}#{}", place.replace(' ', "-")),
                None => drop(seen.insert(named, digest)),
            }
            row.picture = Some(self.hold(bytes, in_place(&column))?);
        }
        Ok(row)
    }

    fn has_images(&self, column: &str) -> bool {
        match &self.config.image_column {
            Some(wanted) => column == wanted,
            None => IMAGE_NAMES.iter().any(|name| column.eq_ignore_ascii_case(name)),
        }
    }

    /// Takes the bytes of a picture from what may be held; else they are read `in_place`.
    fn hold(&mut self, bytes: Vec<u8>, in_place: Option<InPlace>) -> std::result::Result<ImageBytes, Skip> {
        let length = bytes.len() as u64;
        crate::sample::check_length(length, self.memory.file_bytes)?;
        // One without bytes fits always, and an index can name none that is held.
        match (self.left.checked_sub(length).filter(|_| length > 0), in_place) {
            (Some(left), _) => *self.left = left,
            (None, Some((table, cell))) => return Ok(ImageBytes::Cell { table, cell: Cell { length, ..cell } }),
            (None, None) => {
                let detail = format!(
                    "its pictures do not fit into the {} MiB that are held (gzip_memory_mib of the source); store them as *.tar",
                    self.memory.gzip_bytes >> 20
                );
                return Err(Skip::new(SkipReason::ShardTooLarge, detail));
            }
        }
        Ok(ImageBytes::Memory(bytes.into()))
    }

    /// Where img2dataset puts the picture `key`: `00000/000000012.jpg` beside `00000.parquet`.
    fn fetched(&self, key: &str, status: Option<&str>) -> std::result::Result<String, Skip> {
        if let Some(status) = status.filter(|status| *status != "success") {
            return Err(Skip::new(SkipReason::NoImage, format!("{key}: {status}")));
        }
        let stem = self.path.file_stem().unwrap_or_default();
        let folder = self.path.with_file_name(stem);
        let found = ["jpg", "png", "webp"].map(|ending| format!("{key}.{ending}"));
        match found.iter().find(|name| folder.join(name).is_file()) {
            Some(name) => Ok(format!("{}/{name}", stem.to_string_lossy())),
            None => {
                let detail = format!(
                    "{key}: it does not lie in {}; where img2dataset wrote shards, name them instead of this file",
                    folder.display()
                );
                Err(Skip::new(SkipReason::NoImage, detail))
            }
        }
    }
}

fn unreadable(error: parquet::errors::ParquetError) -> Skip {
    let text = error.to_string();
    let what = match text.contains("Disabled feature") {
        true => "it is compressed in a way that is not read (snappy, gzip and zstd are)".to_owned(),
        false => text,
    };
    Skip::new(SkipReason::ShardUnreadable, what)
}

/// Whether a chunk is of one of `columns`, or of a field of one.
fn is_of(chunk: &ColumnChunkMetaData, columns: &[TypePtr]) -> bool {
    let path = chunk.column_path();
    columns.iter().any(|column| path.parts().first().is_some_and(|name| name == column.name()))
}

/// Number of the column, without fields, that has the pictures of a column; none of pictures in lists.
fn leaves(metadata: &ParquetMetaData) -> HashMap<String, u32> {
    let columns = (0u32..).zip(metadata.file_metadata().schema_descr().columns());
    let pictures =
        columns.filter(|(_, column)| column.max_rep_level() == 0).filter_map(|(number, column)| {
            match column.path().parts() {
                [name] => Some((name.clone(), number)),
                [name, bytes] if bytes == "bytes" => Some((name.clone(), number)),
                _ => None,
            }
        });
    pictures.collect()
}

/// Why a file must not be unpacked.
fn too_large(metadata: &ParquetMetaData, columns: &[TypePtr]) -> Option<Skip> {
    let unpacked = metadata.row_groups().iter().map(|group| {
        let chunks = group.columns().iter().filter(|chunk| is_of(chunk, columns));
        chunks.map(|chunk| chunk.uncompressed_size().max(0)).fold(0, i64::saturating_add)
    });
    let most = unpacked.max().unwrap_or(0);
    (most > GROUP_LIMIT_BYTES).then(|| {
        let detail = format!("a group of its rows unpacks to {most} bytes, at most {GROUP_LIMIT_BYTES} are read");
        Skip::new(SkipReason::ShardTooLarge, detail)
    })
}

/// The names behind the numbers of a column, which `datasets` keeps beside the data.
fn class_names(metadata: &ParquetMetaData) -> HashMap<String, Vec<String>> {
    let entries = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let kept = entries.filter(|entry| entry.key == "huggingface").find_map(|entry| entry.value.as_deref());
    let value: Value = kept.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let features = value.pointer("/info/features").and_then(Value::as_object);
    let named = features.into_iter().flatten().filter_map(|(column, feature)| {
        let names = feature.get("names")?.as_array()?;
        Some((column.clone(), names.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
    });
    named.collect()
}

/// A field without the encoded picture that it holds, and the picture.
fn without_picture(field: Field) -> (Field, Option<Vec<u8>>) {
    match field {
        Field::Bytes(bytes) if std::str::from_utf8(bytes.data()).is_err() => (Field::Null, Some(bytes.data().to_vec())),
        Field::Group(row) => {
            let bytes = row.get_column_iter().find_map(|(name, field)| match field {
                Field::Bytes(bytes) if name == "bytes" => Some(bytes.data().to_vec()),
                _ => None,
            });
            (Field::Group(row), bytes)
        }
        other => (other, None),
    }
}

/// A field as JSON; bytes that are no text, dates and the like are nothing.
fn value(field: Field) -> Value {
    match field {
        Field::Bool(value) => json!(value),
        Field::Byte(value) => json!(value),
        Field::Short(value) => json!(value),
        Field::Int(value) => json!(value),
        Field::Long(value) => json!(value),
        Field::UByte(value) => json!(value),
        Field::UShort(value) => json!(value),
        Field::UInt(value) => json!(value),
        Field::ULong(value) => json!(value),
        Field::Str(text) => json!(text),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, |text| json!(text)),
        Field::Group(row) => {
            let fields = row.into_columns().into_iter().filter(|(name, _)| name != "bytes");
            Value::Object(fields.map(|(name, field)| (name, value(field))).collect())
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        _ => Value::Null,
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

mod kept;

#[cfg(test)]
mod tests;
