//! The rows of one Parquet file, group by group.

use crate::error::{IoContext, Result};
use crate::guard::contained;
use crate::plural::count;
use crate::sample::ImageBytes;
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use crate::source::json_rows::row;
use crate::source::parquet::columns::{FETCHED, class_names, columns, leaves, too_large};
use crate::source::parquet::fields::{odd, value, without_picture};
use crate::source::rows::{IMAGE_NAMES, Row, Rows};
use crate::source::webdataset::Memory;
use crate::source::{Listing, SourceConfig, captions};
use crate::table::{self, Cell, Guarded};
use parquet::file::reader::FileReader;
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

/// Where a picture may be read, of a length that is not known yet.
type InPlace = (Arc<table::Table>, Cell);

/// One file.
pub(super) struct Table<'a> {
    path: &'a Path,
    config: &'a SourceConfig,
    memory: Memory,
    /// Bytes of pictures that may yet be held.
    left: &'a mut u64,
    pub(super) rows_read: usize,
    /// As the file says; none before it is read, and of one that cannot be.
    pub(super) rows: Option<usize>,
}

impl<'a> Table<'a> {
    pub(super) fn new(path: &'a Path, config: &'a SourceConfig, memory: Memory, left: &'a mut u64) -> Self {
        Table { path, config, memory, left, rows_read: 0, rows: None }
    }

    /// Its samples, and why rows of it are lost, where some are.
    pub(super) fn read(&mut self) -> Result<(Listing, Option<Skip>)> {
        let mut made = Rows::new(self.path, self.config, None);
        let lost = self.each_row(&mut |place, row| made.add(&|| place.to_owned(), row))?;
        Ok((made.finish()?, lost))
    }

    /// Hands on every row, or why there is none, with its name. Why rows are lost, where some are: a group of rows that is damaged is left from
    /// its first unreadable row on, and the groups behind it are read.
    ///
    /// # Errors
    /// Columns that are not there.
    pub(super) fn each_row(
        &mut self,
        take: &mut dyn FnMut(&str, std::result::Result<Row, Skip>),
    ) -> Result<Option<Skip>> {
        let (shard, file) = Shard::open(self.path).io("open", self.path)?;
        let in_place = Arc::new(table::Table::new(Arc::new(shard)));
        // The reader of strangers' bytes may panic on them.
        let opened = contained(|| Guarded::new(file).map_err(unreadable));
        let reader = match opened {
            Ok(reader) => reader,
            Err(skip) => return Ok(Some(skip)),
        };
        let columns = columns(self.path, self.config, reader.metadata())?;
        self.rows = usize::try_from(reader.metadata().file_metadata().num_rows()).ok();
        if let Some(skip) = too_large(reader.metadata(), &columns) {
            return Ok(Some(skip));
        }
        let wanted = match Type::group_type_builder("schema").with_fields(columns).build() {
            Ok(projection) => Wanted {
                projection,
                classes: class_names(reader.metadata()),
                leaves: leaves(reader.metadata()),
                table: in_place,
            },
            Err(error) => return Ok(Some(unreadable(error))),
        };
        let mut seen: HashMap<String, u64> = HashMap::new();
        let mut damage = Damage::default();
        let mut first = 0u64;
        for group in 0..reader.num_row_groups() {
            let rows = reader.metadata().row_groups().get(group).map_or(0, |group| group.num_rows().max(0)) as u64;
            let mut read = 0;
            let mut pass = |fields: Vec<(String, Field)>| {
                let place = format!("row {}", first + read + 1);
                let at = |column: &str| wanted.place(column, group, read);
                let row = self.row(fields, &wanted.classes, &place, &mut seen, &at);
                if let Err(skip) = &row
                    && skip.reason == SkipReason::ShardTooLarge
                {
                    return Err(skip.clone());
                }
                take(&place, row);
                self.rows_read += 1;
                read += 1;
                Ok(())
            };
            if let Err(skip) = each_of_group(&reader, group, &wanted.projection, &mut pass) {
                // Memory that the pictures of one group do not fit into has none for the next.
                if skip.reason == SkipReason::ShardTooLarge {
                    return Ok(Some(skip));
                }
                damage.add(first + read + 1, first + rows, skip);
            }
            first = first.saturating_add(rows);
        }
        Ok(damage.said())
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
        let mut picture: Option<(String, Vec<u8>)> = None;
        let mut odd_field = None;
        for (column, field) in columns {
            let (field, bytes) = if self.has_images(&column) { without_picture(field) } else { (field, None) };
            odd_field = odd_field.or_else(|| odd(&column, &field));
            let mut value = value(field);
            if let Some(names) = classes.get(&column) {
                value = match value {
                    Value::Array(list) => list.into_iter().map(|one| named(one, names)).collect(),
                    one => named(one, names),
                };
            }
            if let Some(bytes) = bytes.filter(|_| picture.is_none()) {
                let path = value.as_str().or_else(|| value.get("path")?.as_str());
                // No file of this name lies anywhere that would say whether blanks belong to it.
                let path = path.map(captions::tidy).filter(|path| !path.is_empty());
                let named = path.map_or_else(|| place.replace(' ', "-"), str::to_owned);
                value = json!(named);
                picture = Some((column.clone(), bytes));
            }
            fields.insert(column, value);
        }
        if picture.is_none()
            && let Some(key) = fields.get(FETCHED[0]).and_then(Value::as_str)
        {
            fields.insert("image".into(), json!(self.fetched(key, fields.get(FETCHED[1]).and_then(Value::as_str))?));
        }
        let odd_field = odd_field.map(|what| Skip::new(SkipReason::MetadataUnreadable, what));
        let mut row = match (row(&fields, self.config), odd_field) {
            (Ok(row), odd) => Row { left_out: row.left_out.or(odd), ..row },
            (Err(_), Some(odd)) => return Err(Skip::new(SkipReason::RowUnreadable, odd.detail)),
            (Err(skip), None) => return Err(skip),
        };
        if let Some((column, bytes)) = picture {
            let digest = digest(&bytes);
            let earlier = seen.get(&row.image);
            // One picture with a further caption.
            if earlier == Some(&digest) {
                return Ok(row);
            }
            let makes_sample = row.captions.is_empty() || row.captions.iter().any(|caption| captions::fits(caption));
            let is_first = earlier.is_none();
            row.picture = Some(self.hold(bytes, in_place(&column))?);
            if !is_first {
                row.image = format!("{}#{}", row.image, place.replace(' ', "-"));
            } else if makes_sample {
                // Of a row that makes none the next row of the picture still needs its bytes.
                seen.insert(row.image.clone(), digest);
            }
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

/// The class behind a number of a column that has `names`.
fn named(value: Value, names: &[String]) -> Value {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    match number.and_then(|number| names.get(number)) {
        Some(name) => json!(name),
        // `datasets` writes -1 where there is no label.
        None if value.as_i64().is_some_and(|number| number < 0) => Value::Null,
        None => value,
    }
}

/// What is read of a file.
struct Wanted {
    projection: Type,
    /// The names behind the numbers of a column.
    classes: HashMap<String, Vec<String>>,
    /// Numbers of the columns that have pictures.
    leaves: HashMap<String, u32>,
    table: Arc<table::Table>,
}

impl Wanted {
    fn place(&self, column: &str, group: usize, row: u64) -> Option<InPlace> {
        let column = *self.leaves.get(column)?;
        let (group, row) = (u32::try_from(group).ok()?, u32::try_from(row).ok()?);
        Some((Arc::clone(&self.table), Cell { column, group, row, length: 0 }))
    }
}

/// Hands on the rows of one group.
///
/// # Errors
/// Those of `take`, and why there is no further row where the group should have one.
fn each_of_group(
    reader: &dyn FileReader,
    number: usize,
    projection: &Type,
    take: &mut dyn FnMut(Vec<(String, Field)>) -> std::result::Result<(), Skip>,
) -> std::result::Result<(), Skip> {
    let group = contained(|| reader.get_row_group(number).map_err(unreadable))?;
    let mut rows = contained(|| group.get_row_iter(Some(projection.clone())).map_err(unreadable))?;
    for _ in 0..group.metadata().num_rows() {
        let Some(row) = contained(|| rows.next().transpose().map_err(unreadable))? else {
            return Err(Skip::new(SkipReason::ShardUnreadable, "it has fewer rows than it says"));
        };
        take(row.into_columns())?;
    }
    Ok(())
}

/// Groups of rows that are damaged.
#[derive(Default)]
struct Damage {
    groups: usize,
    /// The first row of the first one that is lost, the last row of that group, and why.
    first: Option<(u64, u64, Skip)>,
}

impl Damage {
    fn add(&mut self, from: u64, to: u64, why: Skip) {
        self.groups += 1;
        self.first.get_or_insert((from, to, why));
    }

    fn said(self) -> Option<Skip> {
        let (from, to, why) = self.first?;
        let others = match self.groups {
            1 => String::new(),
            groups => format!("; so are rows of {}", count(groups - 1, "further group")),
        };
        let detail = format!("rows {from} to {to} are damaged ({}){others}", why.detail);
        Some(Skip::new(SkipReason::ShardTruncated, detail))
    }
}

pub(super) fn unreadable(error: parquet::errors::ParquetError) -> Skip {
    let text = error.to_string();
    let what = match text.contains("Disabled feature") {
        true => "it is compressed in a way that is not read (snappy, gzip and zstd are)".to_owned(),
        false => text,
    };
    Skip::new(SkipReason::ShardUnreadable, what)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
