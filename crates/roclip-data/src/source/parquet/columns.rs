//! The columns of a Parquet file: which of them mean something here, and what its footer says of them.

use crate::error::{Error, Result};
use crate::skip::{Skip, SkipReason};
use crate::source::SourceConfig;
use crate::source::rows::{ADDRESS_NAMES, CAPTION_NAMES, CLASS_NAMES, IMAGE_NAMES, addresses};
use crate::table::GROUP_LIMIT_BYTES;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::schema::types::TypePtr;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// img2dataset's, of which the first is a picture's name and the second says whether it was fetched.
pub(super) const FETCHED: [&str; 2] = ["key", "status"];

/// The columns of the file that mean something here.
///
/// # Errors
/// When there is none of pictures; the message says which there are.
pub(super) fn columns(path: &Path, config: &SourceConfig, metadata: &ParquetMetaData) -> Result<Vec<TypePtr>> {
    let all = metadata.file_metadata().schema_descr().root_schema().get_fields();
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
            return Err(addresses(path, what));
        }
        let remedy = "set image_column and caption_column to the names of columns";
        let what = format!("there is no column with images among `{}`", named.join("`, `"));
        return Err(Error::file(path, what, remedy));
    }
    let captions = wanted(&config.caption_column, &CAPTION_NAMES);
    let classes = wanted(&config.class_column, &CLASS_NAMES);
    if captions.is_empty() && classes.is_empty() {
        let what = format!("there is no column with captions among `{}`", named.join("`, `"));
        return Err(Error::file(path, what, "set caption_column to the name of one"));
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

/// Number of the column, without fields, that has the pictures of a column; none of pictures in lists.
pub(super) fn leaves(metadata: &ParquetMetaData) -> HashMap<String, u32> {
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

/// The names behind the numbers of a column, which `datasets` keeps beside the data.
pub(super) fn class_names(metadata: &ParquetMetaData) -> HashMap<String, Vec<String>> {
    let entries = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let kept = entries.filter(|entry| entry.key == "huggingface").find_map(|entry| entry.value.as_deref());
    let value: Value = kept.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let features = value.pointer("/info/features").and_then(Value::as_object);
    let named = features.into_iter().flatten().filter_map(|(column, feature)| {
        // A list of classes has them in the feature of its entries.
        let one = || feature.get("feature").or_else(|| feature.get(0));
        let names = feature.get("names").or_else(|| one()?.get("names"))?.as_array()?;
        Some((column.clone(), names.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
    });
    named.collect()
}

/// Whether a chunk is of one of `columns`, or of a field of one.
fn is_of(chunk: &ColumnChunkMetaData, columns: &[TypePtr]) -> bool {
    let path = chunk.column_path();
    columns.iter().any(|column| path.parts().first().is_some_and(|name| name == column.name()))
}

/// Why a file must not be unpacked.
pub(super) fn too_large(metadata: &ParquetMetaData, columns: &[TypePtr]) -> Option<Skip> {
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
