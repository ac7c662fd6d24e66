//! JSON lines (`*.jsonl`, `*.ndjson`), and a JSON list of the same objects: one object a row, with the names that columns of CSV files have.
//!
//! `metadata.jsonl` of image folders, the annotation files of BLIP and ALBEF (`image`, `caption`, which may be a list), and `image: {"path"}`
//! as `datasets` writes it.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::escape::for_terminal;
use crate::skip::{Skip, SkipReason};
use crate::source::json::{self, Repeated, Texts, one_text, word};
use crate::source::kept::{Fate, Fates, Kept, Leave};
use crate::source::metadata::stated_hash;
use crate::source::rows::{ADDRESS_NAMES, CAPTION_NAMES, CLASS_NAMES, IMAGE_NAMES, Row, Rows, image_root};
use crate::source::spelling::place;
use crate::source::text_encoding::MARK;
use crate::source::{LARGE_LIST_BYTES, Listing, Rest, Source, SourceConfig, Take, captions};
use serde_json::{Map, Value};
use std::collections::HashMap;
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
            let found = field(&fields, &config.caption_column, &CAPTION_NAMES).map_err(drop)?;
            let name = fields.iter().find(|(_, value)| found.is_some_and(|found| std::ptr::eq(found, *value)));
            let name = name.map(|(name, _)| name.clone()).ok_or(())?;
            let list = fields.get_mut(&name).and_then(Value::as_array_mut).ok_or(())?;
            let mut captions = captions.iter().peekable();
            // What is no caption has no number, and stays.
            list.retain(|entry| one_text(entry).is_none_or(|text| captions.next_if(|kept| **kept == text).is_some()));
            Ok(Some(fields))
        }
        Ok(Fate::Kept) | Err(_) => Err(()),
    }
}

/// The rows of a JSON list, in which these keys stand twice.
pub(super) fn list(path: &Path, objects: Vec<Value>, repeated: &[Repeated], config: &SourceConfig) -> Result<Listing> {
    check_columns(path, config)?;
    let mut rows = Rows::new(path, config, None);
    let repeated: HashMap<&str, &Repeated> = repeated.iter().map(|found| (found.outermost(), found)).collect();
    for (number, object) in (1usize..).zip(objects) {
        let found = match (object, repeated.get((number - 1).to_string().as_str())) {
            (_, Some(repeated)) => Err(unreadable(repeated.within(1))),
            (Value::Object(fields), None) => row(&fields, config),
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

fn object(line: &[u8]) -> std::result::Result<Map<String, Value>, Skip> {
    let text = std::str::from_utf8(line).map_err(|_| unreadable("it is no UTF-8".into()))?;
    let text = captions::tidy(text);
    let json::Parsed { value, repeated } = json::parse(text).map_err(unreadable)?;
    match (value, repeated.first()) {
        (Value::Object(_), Some(repeated)) => Err(unreadable(repeated.within(0))),
        (Value::Object(fields), None) => Ok(fields),
        _ => Err(unreadable("it is no object".into())),
    }
}

/// The row that an object is.
pub(super) fn row(fields: &Map<String, Value>, config: &SourceConfig) -> std::result::Result<Row, Skip> {
    let image = match field(fields, &config.image_column, &IMAGE_NAMES)? {
        Some(Value::String(path)) => Some(path.as_str()),
        Some(Value::Object(image)) => ["path", "file_name"].iter().find_map(|name| image.get(*name)?.as_str()),
        _ => None,
    };
    let Some(image) = image.filter(|image| !captions::tidy(image).is_empty()) else {
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
    let found = json::class(field(fields, &config.class_column, &CLASS_NAMES)?);
    let (class, several) = json::one_or_several(found, image);
    let found = Texts::of(field(fields, &config.caption_column, &CAPTION_NAMES)?);
    let left_out = found.left_out(image);
    if found.texts.is_empty() && class.is_none() {
        let has = |wanted: &Option<String>, names: &[&str]| {
            fields.keys().any(|field| match wanted {
                Some(wanted) => field == wanted,
                None => names.iter().any(|name| field.eq_ignore_ascii_case(name)),
            })
        };
        let labels_only = has(&config.class_column, &CLASS_NAMES) && !has(&config.caption_column, &CAPTION_NAMES);
        let reason = if labels_only { SkipReason::NoClass } else { SkipReason::NoCaption };
        let detail = several.map_or_else(|| image.to_owned(), |several| several.detail);
        return Err(left_out.unwrap_or_else(|| Skip::new(reason, detail)));
    }
    // The sample is there all the same.
    let left_out = left_out.map(|skip| Skip::new(SkipReason::MetadataUnreadable, skip.detail)).or(several);
    let split = word(field(fields, &config.split_column, &["split"])?);
    let stated = if config.with_sha256 { stated_hash(fields) } else { None };
    Ok(Row { image: image.to_owned(), captions: found.texts, left_out, split, class, stated, ..Row::default() })
}

/// The field called `wanted`, or the first that has one of `names`.
///
/// # Errors
/// A skip where two fields differ only in the case of their letters.
fn field<'a>(
    fields: &'a Map<String, Value>,
    wanted: &Option<String>,
    names: &[&str],
) -> std::result::Result<Option<&'a Value>, Skip> {
    if let Some(wanted) = wanted {
        return Ok(fields.get(wanted));
    }
    for name in names {
        let mut named = fields.iter().filter(|(field, value)| field.eq_ignore_ascii_case(name) && !value.is_null());
        match (named.next(), named.next()) {
            (None, _) => {}
            (Some((_, value)), None) => return Ok(Some(value)),
            (Some((one, _)), Some((other, _))) => {
                let [one, other] = [one, other].map(|name| for_terminal(name));
                return Err(unreadable(format!("it has `{one}` and `{other}`")));
            }
        }
    }
    Ok(None)
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
        for (line, told) in [
            (r#"{"image": {"path": "a.jpg", "path": "b.jpg"}, "caption": "x"}"#, "it has `image.path` twice"),
            (r#"{"image": "a.jpg", "caption": "x", "Caption": "y"}"#, "it has `caption` and `Caption`"),
            (r#"{"image": "a.jpg", "Image": "b.jpg", "caption": "y"}"#, "it has `image` and `Image`"),
        ] {
            let listing =
                read(&format!("{line}\n{{\"image\": \"b.jpg\", \"caption\": \"z\"}}"), SourceConfig::default())
                    .unwrap();
            assert_eq!((seen(&listing), listing.skips.total()), (vec![("b.jpg", vec!["z"])], 1), "{line}");
            assert!(listing.skips.to_jsonl().contains(told), "{}", listing.skips.to_jsonl());
        }
    }

    #[test]
    fn captions_that_are_no_text_and_further_classes_are_counted() {
        let text = "{\"image\": \"a.jpg\", \"caption\": [[\"deep\"], {\"x\": \"y\"}, \"ok\", 7, {\"raw\": \"b\"}]}\n\
             {\"image\": \"b.jpg\", \"caption\": [[\"deep\"]]}\n\
             {\"image\": \"c.jpg\", \"caption\": \"one\", \"class\": \"red\"}\n{\"image\": \"c.jpg\", \"caption\": \"two\", \"class\": \"blue\"}\n\
             {\"image\": \"c.jpg\", \"caption\": \"three\", \"class\": \"red\"}\n";
        let listing = read(text, SourceConfig::default()).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", vec!["ok", "7", "b"]), ("c.jpg", vec!["one", "three"])]);
        assert_eq!(listing.samples[1].class.as_deref(), Some("red"));
        let lines = listing.skips.to_jsonl();
        for told in [
            "{\"id\":\"line 1\",\"reason\":\"metadata-unreadable\",\"detail\":\"a.jpg: 2 of its 5 captions are no text",
            "{\"id\":\"line 2\",\"reason\":\"caption-unreadable\",\"detail\":\"b.jpg: 1 of its 1 captions are no text",
            "c.jpg is of class red by an earlier row, and of blue by this one",
        ] {
            assert!(lines.contains(told), "{told}: {lines}");
        }
        assert_eq!(listing.skips.total(), 3, "{lines}");
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
    fn a_list_of_classes_is_a_class_where_it_names_one() {
        let text = "{\"image\": \"a.jpg\", \"caption\": \"x\", \"classes\": [\"cat\"]}\n\
            {\"image\": \"b.jpg\", \"caption\": \"y\", \"label\": [\"cat\", \"dog\"]}\n\
            {\"image\": \"c.jpg\", \"class\": [\"cat\", \"dog\"]}\n{\"image\": \"d.jpg\", \"labels\": [3]}\n";
        let listing = read(text, SourceConfig::default()).unwrap();
        let classes: Vec<_> = listing.samples.iter().map(|s| (s.id.as_str(), s.class.as_deref())).collect();
        assert_eq!(classes, [("a.jpg", Some("cat")), ("b.jpg", None), ("d.jpg", Some("3"))]);
        let told = listing.skips.to_jsonl();
        assert!(told.contains("b.jpg: it is of 2 classes (`cat`, `dog`)") && told.contains("c.jpg: it is"), "{told}");
        let of = |reason| listing.skips.count(|found| found == reason);
        assert_eq!(
            (of(SkipReason::SeveralClasses), of(SkipReason::NoClass), listing.skips.total()),
            (1, 1, 2),
            "{told}"
        );
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
