//! Fields of rows: as JSON, and the pictures in them.

use crate::escape::for_terminal;
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

/// A field as JSON: whole numbers stay whole where they were written as floats, as pandas does for those of a column with a gap, and NaN is such
/// a gap. What has no value in JSON is nothing; [`odd`] says so.
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
        Field::Float16(value) => of_float(value.into()),
        Field::Float(value) => of_float(value.into()),
        Field::Double(value) => of_float(value),
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

/// Whole numbers up to this are floats of their own.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() <= MOST_EXACT
}

fn of_float(number: f64) -> Value {
    if is_whole(number) { json!(number as i64) } else { Value::Null }
}

/// What is wrong with a field that is there, and of which nothing is read.
pub(super) fn odd(column: &str, field: &Field) -> Option<String> {
    let fraction = |number: f64| (!number.is_nan() && !is_whole(number)).then_some("no whole number");
    let why = match field {
        Field::Float16(number) => fraction((*number).into())?,
        Field::Float(number) => fraction((*number).into())?,
        Field::Double(number) => fraction(*number)?,
        Field::Decimal(_) => "a decimal, which is not read",
        Field::Date(_) => "a date, which is not read",
        Field::TimeMillis(_) | Field::TimeMicros(_) => "a time, which is not read",
        Field::TimestampMillis(_) | Field::TimestampMicros(_) => "a date, which is not read",
        Field::MapInternal(_) => return Some(format!("its `{}` is a map, which is not read", for_terminal(column))),
        Field::Bytes(bytes) if std::str::from_utf8(bytes.data()).is_err() => {
            return Some(format!("its `{}` is no text", for_terminal(column)));
        }
        _ => return None,
    };
    Some(format!("its `{}` is {field}, {why}", for_terminal(column)))
}
