//! JSON lines (`*.jsonl`, `*.ndjson`), and a JSON list of the same objects: one object a row, with the names that columns of CSV files have.
//!
//! `metadata.jsonl` of image folders, the annotation files of BLIP and ALBEF (`image`, `caption`, which may be a list), and `image: {"path"}`
//! as `datasets` writes it.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::skip::{Skip, SkipReason};
use crate::source::kept::{Fate, Fates, Kept, Leave};
use crate::source::metadata::{lenient, stated_hash};
use crate::source::rows::{ADDRESS_NAMES, CAPTION_NAMES, CLASS_NAMES, IMAGE_NAMES, Row, Rows, image_root};
use crate::source::text_encoding::MARK;
use crate::source::{LARGE_LIST_BYTES, Listing, Rest, Source, SourceConfig, Take, captions, place};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longer lines are no rows.
const LINE_LIMIT_BYTES: u64 = 4 << 20;

pub(super) struct JsonLines {
    path: PathBuf,
    config: SourceConfig,
}

impl JsonLines {
    pub(super) fn new(path: PathBuf, config: SourceConfig) -> Self {
        JsonLines { path, config }
    }
}

impl Source for JsonLines {
    fn places(&self) -> Vec<PathBuf> {
        vec![place(&self.path)]
    }

    fn list(&self) -> Result<Listing> {
        let mut rows = Rows::new(&self.path, &self.config, None);
        self.read(&mut rows)?;
        rows.finish()
    }

    fn worth_an_index(&self) -> Option<u64> {
        Some(LARGE_LIST_BYTES)
    }

    fn stream(&self, take: Take) -> Result<(Listing, Rest)> {
        let mut rows = Rows::new(&self.path, &self.config, Some(take));
        self.read(&mut rows)?;
        rows.finish_passing()
    }

    fn streams_distinct_ids(&self) -> bool {
        true
    }

    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        let (file, _) = bounded::open(&self.path).io("open", &self.path)?;
        let mut reader = BufReader::new(file);
        let mut kept = Kept { files: 1, image_root: Some(image_root(&self.path, &self.config)), ..Kept::default() };
        let mut fates = Fates::new(leave);
        artifact::write_with(out, |to| {
            // It stands before the first line, which may be left out.
            if reader.fill_buf().io("read", &self.path)?.starts_with(MARK) {
                reader.consume(MARK.len());
                to.write_all(MARK).io("write", out)?;
            }
            let mut line = Vec::new();
            for number in 1.. {
                line.clear();
                if reader.by_ref().take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line).io("read", &self.path)? == 0 {
                    break;
                }
                if line.len() as u64 == LINE_LIMIT_BYTES && line.last() != Some(&b'\n') {
                    reader.skip_until(b'\n').io("read", &self.path)?;
                    let skip = Skip::new(SkipReason::RowUnreadable, "it is too long to be a row");
                    kept.not_copied.add(&format!("line {number}"), skip);
                    continue;
                }
                let text = match object(&line) {
                    Ok(fields) => match without(fields, &mut fates, &self.config) {
                        Ok(None) => continue,
                        Ok(Some(edited)) => Value::Object(edited).to_string().into_bytes(),
                        Err(()) => line.trim_ascii_end().to_vec(),
                    },
                    // A line that cannot be read is nobody's to drop.
                    Err(_) => line.trim_ascii_end().to_vec(),
                };
                to.write_all(&text).and_then(|()| to.write_all(b"\n")).io("write", out)?;
            }
            Ok::<(), Error>(())
        })?;
        Ok(kept)
    }
}

impl JsonLines {
    fn read(&self, rows: &mut Rows) -> Result<()> {
        check_columns(&self.path, &self.config)?;
        let (file, _) = bounded::open(&self.path).io("open", &self.path)?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if reader.by_ref().take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line).io("read", &self.path)? == 0 {
                break;
            }
            let too_long = line.len() as u64 == LINE_LIMIT_BYTES && line.last() != Some(&b'\n');
            if too_long {
                reader.skip_until(b'\n').io("read", &self.path)?;
            } else if line.trim_ascii().is_empty() {
                continue;
            }
            let row = match too_long {
                true => Err(unreadable(format!("it has more than {LINE_LIMIT_BYTES} bytes"))),
                false => object(&line).and_then(|fields| row(&fields, &self.config)),
            };
            rows.add(&|| format!("line {number}"), row);
            if rows.is_over() {
                break;
            }
        }
        Ok(())
    }
}

/// An object without the captions that are left out; none where all of it is, and an error where it stays as it is.
pub(super) fn without(
    mut fields: Map<String, Value>,
    fates: &mut Fates,
    config: &SourceConfig,
) -> std::result::Result<Option<Map<String, Value>>, ()> {
    match row(&fields, config).map(|row| fates.of(&row.image, &row.captions)) {
        Ok(Fate::Dropped) => Ok(None),
        Ok(Fate::Captions(captions)) => {
            let name = fields.iter().find(|(_, value)| {
                field(&fields, &config.caption_column, &CAPTION_NAMES).is_some_and(|found| std::ptr::eq(found, *value))
            });
            let name = name.map(|(name, _)| name.clone()).ok_or(())?;
            fields.insert(name, Value::from(captions));
            Ok(Some(fields))
        }
        Ok(Fate::Kept) | Err(_) => Err(()),
    }
}

/// The rows of a JSON list.
pub(super) fn list(path: &Path, objects: Vec<Value>, config: &SourceConfig) -> Result<Listing> {
    check_columns(path, config)?;
    let mut rows = Rows::new(path, config, None);
    for (number, object) in (1..).zip(objects) {
        let found = match object {
            Value::Object(fields) => row(&fields, config),
            _ => Err(unreadable("it is no object".into())),
        };
        rows.add(&|| format!("object {number}"), found);
    }
    rows.finish()
}

/// # Errors
/// A column that is named by its number: objects have none.
pub(super) fn check_columns(path: &Path, config: &SourceConfig) -> Result<()> {
    let named = [&config.image_column, &config.caption_column, &config.split_column, &config.class_column];
    match named.into_iter().flatten().find(|name| name.parse::<usize>().is_ok()) {
        None => Ok(()),
        Some(number) => Err(Error::file(
            path,
            format!("has no column number {number}: its fields have names"),
            "give the name of the field (image_column, caption_column, split_column, class_column)",
        )),
    }
}

fn unreadable(what: String) -> Skip {
    Skip::new(SkipReason::RowUnreadable, what)
}

/// The first key that an object has twice; the reader of JSON takes the last of them.
fn repeated_key(object: &str) -> Option<String> {
    struct Keys(HashSet<String>, Option<String>);
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<Option<String>, A::Error> {
            while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                if !self.0.insert(key.clone()) {
                    self.1.get_or_insert(key);
                }
            }
            Ok(self.1)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(object);
    reader.deserialize_map(Keys(HashSet::new(), None)).ok().flatten()
}

fn object(line: &[u8]) -> std::result::Result<Map<String, Value>, Skip> {
    let text = std::str::from_utf8(line).map_err(|_| unreadable("it is no UTF-8".into()))?;
    let text = captions::tidy(text);
    match lenient(text).map_err(unreadable)? {
        Value::Object(fields) => match repeated_key(text) {
            // Nothing says which of its values is meant.
            Some(key) => Err(unreadable(format!("it has `{}` twice", crate::escape::for_terminal(&key)))),
            None => Ok(fields),
        },
        _ => Err(unreadable("it is no object".into())),
    }
}

/// The row that an object is.
pub(super) fn row(fields: &Map<String, Value>, config: &SourceConfig) -> std::result::Result<Row, Skip> {
    let image = match field(fields, &config.image_column, &IMAGE_NAMES) {
        Some(Value::String(path)) => Some(path.as_str()),
        Some(Value::Object(image)) => ["path", "file_name"].iter().find_map(|name| image.get(*name)?.as_str()),
        _ => None,
    };
    let Some(image) = image.map(captions::tidy).filter(|image| !image.is_empty()) else {
        let addresses = fields.iter().any(|(name, value)| {
            value.is_string() && ADDRESS_NAMES.iter().any(|address| name.eq_ignore_ascii_case(address))
        });
        if addresses {
            let detail = "its picture is an address: download them with img2dataset first";
            return Err(Skip::new(SkipReason::RowWithoutImage, detail));
        }
        let names: Vec<&str> = fields.keys().take(20).map(String::as_str).collect();
        return Err(Skip::new(SkipReason::RowWithoutImage, format!("it has the fields `{}`", names.join("`, `"))));
    };
    let class = text(field(fields, &config.class_column, &CLASS_NAMES));
    let captions = texts(field(fields, &config.caption_column, &CAPTION_NAMES));
    if captions.is_empty() && class.is_none() {
        return Err(Skip::new(SkipReason::NoCaption, image));
    }
    let split = text(field(fields, &config.split_column, &["split"]));
    let stated = if config.with_sha256 { stated_hash(fields) } else { None };
    Ok(Row { image: image.to_owned(), captions, split, class, stated, ..Row::default() })
}

/// The field called `wanted`, or the first that has one of `names`.
fn field<'a>(fields: &'a Map<String, Value>, wanted: &Option<String>, names: &[&str]) -> Option<&'a Value> {
    match wanted {
        Some(wanted) => fields.get(wanted),
        None => names.iter().find_map(|name| {
            let named = fields.iter().find(|(field, value)| field.eq_ignore_ascii_case(name) && !value.is_null());
            named.map(|(_, value)| value)
        }),
    }
}

/// A word or a number.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(captions::tidy(text).to_owned()).filter(|text| !text.is_empty()),
        number @ (Value::Number(_) | Value::Bool(_)) => Some(number.to_string()),
        _ => None,
    }
}

/// A text, or a list of texts, or of objects that hold one.
fn texts(value: Option<&Value>) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::Object(fields) => ["raw", "caption", "text"].iter().find_map(|name| text(fields.get(*name))),
        other => text(Some(other)),
    };
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, config: SourceConfig) -> Result<Listing> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, text).unwrap();
        JsonLines::new(path, config).list()
    }

    fn seen(listing: &Listing) -> Vec<(&str, Vec<&str>)> {
        let samples = listing.samples.iter();
        samples.map(|s| (s.id.as_str(), s.captions.iter().map(String::as_str).collect())).collect()
    }

    #[test]
    fn rows_of_one_picture_are_one_sample_whatever_their_fields_are_called() {
        for text in [
            "{\"image\": \"a.jpg\", \"caption\": \"A dog\"}\n{\"image\": \"a.jpg\", \"caption\": \"dogs\"}\n",
            "\u{feff}{\"file_name\": \"a.jpg\", \"text\": [\"A dog\", \"dogs\"]}\r\n\r\n",
            "{\"image\": {\"path\": \"a.jpg\", \"bytes\": null}, \"text\": [{\"raw\": \"A dog\"}, \"dogs\"], \"score\": NaN}",
            "{\"Path\": \"a.jpg\", \"image\": null, \"Caption\": [\"A dog\", \" dogs \"]}",
        ] {
            let listing = read(text, SourceConfig::default()).unwrap();
            assert_eq!(seen(&listing), [("a.jpg", vec!["A dog", "dogs"])], "{text}");
            assert_eq!(listing.skips.total(), 0, "{text}: {}", listing.skips.to_jsonl());
        }
    }

    #[test]
    fn a_key_that_stands_twice_in_a_line_is_counted() {
        let text = "{\"image\": \"a.jpg\", \"caption\": \"x\", \"caption\": \"y\"}\n{\"image\": \"b.jpg\", \"caption\": \"z\"}\n";
        let listing = read(text, SourceConfig::default()).unwrap();
        assert_eq!(seen(&listing), [("b.jpg", vec!["z"])]);
        assert!(listing.skips.to_jsonl().contains("it has `caption` twice"), "{}", listing.skips.to_jsonl());
    }

    #[test]
    fn lines_that_make_no_sense_are_counted_one_by_one() {
        let long = format!("{{\"image\": \"b.jpg\", \"caption\": \"{}\"}}", "x".repeat(5 << 20));
        let text = format!(
            "{{\"image\": \"a.jpg\", \"caption\": \"x\", \"split\": \"train\"}}\n[1]\n{{\"image\n{long}\n\
             {{\"image\": 7, \"caption\": \"x\"}}\n{{\"image\": \"c.jpg\"}}\n{{\"image\": \"a.jpg\", \"caption\": \"y\", \"split\": \"test\"}}\n\
             {{\"image\": \"https://a.b/c.jpg\", \"caption\": \"x\"}}\n{{\"image\": \"z.jpg\", \"caption\": \"end\"}}"
        );
        let listing = read(&text, SourceConfig::default()).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", vec!["x"]), ("z.jpg", vec!["end"])]);
        let lines = listing.skips.to_jsonl();
        for line in 2..=8 {
            assert!(lines.contains(&format!("\"line {line}\"")), "{line}: {lines}");
        }
        assert_eq!(listing.skips.total(), 7, "{lines}");
    }

    #[test]
    fn fields_may_be_named_and_have_no_numbers() {
        let config = SourceConfig {
            image_column: Some("where".into()),
            caption_column: Some("what".into()),
            class_column: Some("kind".into()),
            ..SourceConfig::default()
        };
        let line = "{\"where\": \"a.jpg\", \"image\": \"b.jpg\", \"what\": \"A dog\", \"kind\": 3}";
        let listing = read(line, config).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", vec!["A dog"])]);
        assert_eq!(listing.samples[0].class.as_deref(), Some("3"));
        let numbered = SourceConfig { image_column: Some("1".into()), ..SourceConfig::default() };
        assert!(read(line, numbered).unwrap_err().to_string().contains("no column number 1"));
    }
}
