//! Fields of rows: as JSON, and the pictures in them.

use parquet::record::Field;
use serde_json::{Value, json};

/// A field without the encoded picture that it holds, and the picture.
pub(super) fn without_picture(field: Field) -> (Field, Option<Vec<u8>>) {
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
pub(super) fn value(field: Field) -> Value {
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
