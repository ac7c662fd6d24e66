//! The JSON that crawlers write beside a picture. Whatever is odd in it costs nothing but the odd field.

use crate::artifact;
use crate::sample::StatedHash;
use crate::skip::Skip;
use crate::source::captions;
use serde_json::{Map, Value};

/// The fields that mean something here; img2dataset writes many more.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// Of `captions`, which is a list or a single text.
    pub captions: Vec<String>,
    /// Why not all of them.
    pub left_out: Option<Skip>,
    pub caption: Option<String>,
    pub class: Option<String>,
    pub group: Option<String>,
    pub split: Option<String>,
    pub stated: Option<StatedHash>,
}

impl Metadata {
    /// # Errors
    /// Says what is wrong when `text` is no JSON object.
    pub(super) fn read(text: &str) -> Result<Metadata, String> {
        match lenient(text)? {
            Value::Object(fields) => Ok(Metadata::of(&fields)),
            _ => Err("it is no object".into()),
        }
    }

    fn of(fields: &Map<String, Value>) -> Metadata {
        let (list, single) = match fields.get("captions") {
            Some(Value::Array(list)) => (list.as_slice(), None),
            Some(Value::String(text)) => (&[] as &[Value], Some(text.as_str())),
            _ => (&[] as &[Value], None),
        };
        let (captions, left_out) = captions::bounded(list.iter().filter_map(Value::as_str).chain(single));
        let caption = fields.get("caption").and_then(Value::as_str).map(str::to_owned);
        Metadata {
            captions,
            left_out,
            caption,
            class: word(fields, &["class", "concept"]),
            group: word(fields, &["subgroup", "group"]),
            split: word(fields, &["split"]),
            stated: stated_hash(fields),
        }
    }
}

/// img2dataset's `sha256`. It notes the size of the download where it has decoded that.
pub(super) fn stated_hash(fields: &Map<String, Value>) -> Option<StatedHash> {
    let sha256 = artifact::sha256_of_hex(fields.get("sha256")?.as_str()?.trim())?;
    let noted = |value: &Value| value.is_number() || value.as_str().is_some_and(|text| !text.trim().is_empty());
    Some(StatedHash { sha256, of_download: fields.get("original_width").is_some_and(noted) })
}

/// Any JSON, and what Python writes for it: NaN and Infinity, which are none.
///
/// # Errors
/// What is wrong.
pub(super) fn lenient(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .or_else(|first| serde_json::from_str(&without_odd_numbers(text)).map_err(|_| first.to_string()))
}

/// The first of the fields `names` that holds a word or a number.
fn word(fields: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match fields.get(*name)? {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        number @ (Value::Number(_) | Value::Bool(_)) => Some(number.to_string()),
        _ => None,
    })
}

/// `text` with `null` for NaN and Infinity outside of strings.
fn without_odd_numbers(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for (number, part) in split_strings(text).enumerate() {
        if number % 2 == 1 {
            json.push_str(part);
        } else {
            json.push_str(&part.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null"));
        }
    }
    json
}

/// Pieces of a JSON text: outside of a string, a string with its quotation marks, outside, ...
fn split_strings(text: &str) -> impl Iterator<Item = &str> {
    let (mut rest, mut inside) = (text, false);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if inside { string_end(rest) } else { rest.find('"').unwrap_or(rest.len()) };
        let (piece, after) = rest.split_at(end);
        (rest, inside) = (after, !inside);
        Some(piece)
    })
}

/// Behind the string that begins with the quotation mark at 0.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_field_costs_no_other() {
        let odd =
            r#"{"a": NaN, "b": [-Infinity, Infinity], "caption": "NaN \"Infinity\" \\", "class": 7, "captions": null}"#;
        let metadata = Metadata::read(odd).unwrap();
        assert_eq!(metadata.caption.as_deref(), Some("NaN \"Infinity\" \\"));
        assert_eq!((metadata.class.as_deref(), metadata.captions.len()), (Some("7"), 0));
        let mixed = Metadata::read(r#"{"captions": ["a", null, 3, "", ["x"]], "class": {}, "caption": 5}"#).unwrap();
        assert_eq!(mixed.captions, ["a"]);
        assert_eq!((mixed.class, mixed.caption), (None, None));
        let digest = artifact::sha256_hex(b"x");
        let hashed =
            |more: &str| Metadata::read(&format!("{{\"sha256\": \"{digest}\"{more}}}")).unwrap().stated.unwrap();
        assert!(!hashed("").of_download && !hashed(", \"original_width\": null").of_download);
        assert!(hashed(", \"original_width\": 640").of_download);
        assert_eq!(Metadata::read(r#"{"sha256": "x"}"#).unwrap().stated, None);
        let single = Metadata::read(r#"{"captions": "one"}"#).unwrap();
        assert_eq!(single.captions, ["one"]);
        for broken in ["", "[]", "{", "null", "{\"a\": NaNa}", &"[".repeat(100_000)] {
            assert!(Metadata::read(broken).is_err(), "{broken:.20}");
        }
    }
}
