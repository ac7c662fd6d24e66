//! JSON documents that annotate a folder of pictures: COCO's captions (`captions_val2017.json`), Karpathy's splits (`dataset_coco.json`,
//! `dataset_flickr8k.json`), and a list of rows.
//!
//! Pictures seldom lie beside such a file: `image_root` names their folder.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::json::{self, Repeated};
use crate::source::json_rows;
use crate::source::kept::{Fate, Fates, Kept, Leave};
use crate::source::rows::{Row, Rows, image_root};
use crate::source::spelling::place;
use crate::source::{Listing, Source, SourceConfig, captions};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// COCO's training captions have 92 MB.
const LIMIT_BYTES: u64 = 256 << 20;

pub(super) struct Annotations {
    path: PathBuf,
    config: SourceConfig,
}

/// The layout that COCO and Karpathy share: pictures, and what is said of them.
#[derive(Deserialize)]
struct Document {
    images: Vec<Entry<Picture>>,
    /// COCO's.
    #[serde(default)]
    annotations: Vec<Entry<Annotation>>,
}

/// One of a list, or something else that stands there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<T> {
    Sound(T),
    Odd(IgnoredAny),
}

impl<T> Entry<T> {
    fn sound(self) -> std::result::Result<T, Skip> {
        match self {
            Entry::Sound(value) => Ok(value),
            Entry::Odd(_) => Err(Skip::new(SkipReason::RowUnreadable, "it has not the fields that it should have")),
        }
    }
}

#[derive(Deserialize)]
struct Picture {
    id: Option<Id>,
    #[serde(alias = "filename")]
    file_name: Option<String>,
    /// Karpathy's: the folder of the picture.
    filepath: Option<String>,
    split: Option<String>,
    #[serde(default)]
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Option<Id>,
    caption: Option<String>,
}

/// COCO numbers its pictures; others write the same numbers as texts.
#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Text(String),
}

impl Annotations {
    pub(super) fn new(path: PathBuf, config: SourceConfig) -> Self {
        Annotations { path, config }
    }

    fn text(&self) -> Result<String> {
        let bytes = match bounded::read(&self.path, LIMIT_BYTES) {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                let remedy = "write it as JSON lines (*.jsonl), which are read one at a time";
                return Err(Error::file(&self.path, error.to_string(), remedy));
            }
            read => read.io("read", &self.path)?,
        };
        String::from_utf8(bytes).map_err(|_| self.refuse("is no UTF-8".into()))
    }

    fn refuse(&self, what: String) -> Error {
        let remedy =
            "it should be COCO's captions, Karpathy's splits, or a list of objects with an image and a caption";
        Error::file(&self.path, what, remedy)
    }
}

impl Source for Annotations {
    fn places(&self) -> Vec<PathBuf> {
        vec![place(&self.path)]
    }

    fn list(&self) -> Result<Listing> {
        let text = self.text()?;
        let text = captions::tidy(&text);
        if !text.starts_with('{') {
            let json::Parsed { value, repeated } = json::parse(text).map_err(|what| self.refuse(what))?;
            return match value {
                Value::Array(objects) => json_rows::list(&self.path, objects, &repeated, &self.config),
                _ => Err(self.refuse("is neither an object nor a list".into())),
            };
        }
        match serde_json::from_str::<Document>(text) {
            Ok(document) => self.document(document),
            // JSON lines under another name.
            Err(_)
                if text.lines().take(2).filter(|line| serde_json::from_str::<IgnoredAny>(line).is_ok()).count()
                    == 2 =>
            {
                json_rows::JsonLines::new(self.path.clone(), self.config.clone()).list()
            }
            Err(error) => Err(self.refuse(error.to_string())),
        }
    }

    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        let text = self.text()?;
        let text = captions::tidy(&text);
        let json::Parsed { value: mut document, repeated } = match json::parse(text) {
            Ok(parsed) => parsed,
            // JSON lines under another name.
            Err(_) => {
                return json_rows::JsonLines::new(self.path.clone(), self.config.clone()).write_kept(leave, out);
            }
        };
        let mut fates = Fates::new(leave);
        let image_root = Some(image_root(&self.path, &self.config));
        let mut kept = Kept { files: 1, image_root, ..Kept::default() };
        without_repeated(&mut document, &repeated, &mut kept.not_copied);
        match &mut document {
            Value::Array(objects) => {
                let all = std::mem::take(objects);
                objects.extend(all.into_iter().filter_map(|object| match object {
                    Value::Object(fields) => match json_rows::without(fields.clone(), &mut fates, &self.config) {
                        Ok(edited) => edited.map(Value::Object),
                        Err(()) => Some(Value::Object(fields)),
                    },
                    other => Some(other),
                }));
            }
            Value::Object(fields) => thin_out(fields, &mut fates),
            _ => return Err(self.refuse("is neither an object nor a list".into())),
        }
        artifact::write_json(out, &document)?;
        Ok(kept)
    }
}

/// Takes the rows, pictures and annotations out in which a key stands twice: with one of its values left, another reader would take them.
fn without_repeated(document: &mut Value, repeated: &[Repeated], not_copied: &mut SkipReport) {
    let mut take_out = |list: Option<&mut Vec<Value>>, what: &str, odd: &HashMap<&str, String>| {
        let mut number = 0;
        list.into_iter().for_each(|list| {
            list.retain(|_| {
                number += 1;
                let twice = odd.get((number - 1).to_string().as_str());
                if let Some(twice) = twice {
                    not_copied.add(&format!("{what} {number}"), Skip::new(SkipReason::RowUnreadable, twice.clone()));
                }
                twice.is_none()
            });
        });
    };
    match document {
        Value::Array(objects) => {
            let odd = repeated.iter().map(|found| (found.outermost(), found.within(1))).collect();
            take_out(Some(objects), "object", &odd);
        }
        _ => {
            for (key, what) in [("images", "image"), ("annotations", "annotation")] {
                let within = repeated.iter().filter(|found| found.outermost() == key);
                let odd = within.filter_map(|found| Some((found.second()?, found.within(2)))).collect();
                take_out(document.get_mut(key).and_then(Value::as_array_mut), what, &odd);
            }
        }
    }
}

/// Takes pictures and captions out of a document of COCO's or Karpathy's. Those that cannot be read stay.
fn thin_out(document: &mut Map<String, Value>, fates: &mut Fates) {
    let mut names: HashMap<Id, String> = HashMap::new();
    let mut pictures = document.get_mut("images").and_then(Value::as_array_mut);
    for entry in pictures.iter().flat_map(|pictures| pictures.iter()) {
        let Ok(picture) = Picture::deserialize(entry) else { continue };
        if let (Some(name), Some(id)) = (picture.name(), picture.id) {
            names.insert(id, name);
        }
    }
    if let Some(pictures) = &mut pictures {
        pictures.retain_mut(|entry| {
            let Ok(picture) = Picture::deserialize(&*entry) else { return true };
            let Some(name) = picture.name() else { return true };
            let captions: Vec<String> = picture.sentences.iter().filter_map(|sentence| sentence.raw.clone()).collect();
            match fates.of(&name, &captions) {
                Fate::Kept => true,
                Fate::Dropped => false,
                Fate::Captions(kept) => {
                    if let Some(sentences) = entry.get_mut("sentences").and_then(Value::as_array_mut) {
                        let mut kept = kept.iter().peekable();
                        sentences.retain(|sentence| match sentence.get("raw").and_then(Value::as_str) {
                            Some(raw) => kept.next_if(|kept| *kept == raw).is_some(),
                            None => true,
                        });
                    }
                    true
                }
            }
        });
    }
    if let Some(annotations) = document.get_mut("annotations").and_then(Value::as_array_mut) {
        annotations.retain(|entry| {
            let Ok(Annotation { image_id: Some(id), caption: Some(caption) }) = Annotation::deserialize(entry) else {
                return true;
            };
            names.get(&id).is_none_or(|name| fates.of(name, &[caption]) == Fate::Kept)
        });
    }
}

impl Picture {
    /// The path of the picture, as a key.
    fn name(&self) -> Option<String> {
        let name = self.file_name.clone().filter(|name| !name.is_empty())?;
        Some(match self.filepath.as_deref() {
            None | Some("") => name,
            Some(folder) => format!("{folder}/{name}"),
        })
    }
}

impl Annotations {
    fn document(&self, document: Document) -> Result<Listing> {
        let mut rows = Rows::new(&self.path, &self.config, None);
        let mut names: HashMap<Id, String> = HashMap::with_capacity(document.images.len());
        for (number, picture) in (1..).zip(document.images) {
            let place = format!("image {number}");
            let picture = match picture.sound() {
                Ok(picture) => picture,
                Err(skip) => {
                    rows.add(&|| place.clone(), Err(skip));
                    continue;
                }
            };
            let Some(name) = picture.name() else {
                let skip = Skip::new(SkipReason::RowWithoutImage, "it has no file_name");
                rows.add(&|| place.clone(), Err(skip));
                continue;
            };
            if let Some(id) = picture.id {
                let earlier = names.insert(id, name.clone());
                if let Some(earlier) = earlier.filter(|earlier| *earlier != name) {
                    let detail = format!("{earlier} and {name} have one id; captions of it go to the latter");
                    rows.add(&|| place.clone(), Err(Skip::new(SkipReason::SampleRepeated, detail)));
                }
            }
            let sentences = picture.sentences.len();
            let captions: Vec<String> = picture.sentences.into_iter().filter_map(|sentence| sentence.raw).collect();
            let left_out = (captions.len() < sentences).then(|| {
                let detail =
                    format!("{name}: {} of its {sentences} sentences have no `raw`", sentences - captions.len());
                Skip::new(SkipReason::MetadataUnreadable, detail)
            });
            let row = Row { image: name, captions, left_out, split: picture.split, ..Row::default() };
            rows.add(&|| place.clone(), Ok(row));
        }
        for (number, annotation) in (1..).zip(document.annotations) {
            let place = format!("annotation {number}");
            let annotation = match annotation.sound() {
                Ok(annotation) => annotation,
                Err(skip) => {
                    rows.add(&|| place.clone(), Err(skip));
                    continue;
                }
            };
            let image = annotation.image_id.as_ref().and_then(|id| names.get(id));
            let caption = annotation.caption.map(|caption| captions::tidy(&caption).to_owned());
            let row = match (image, caption.filter(|caption| !caption.is_empty())) {
                (Some(image), Some(caption)) => {
                    Ok(Row { image: image.clone(), captions: vec![caption], ..Row::default() })
                }
                (None, _) => Err(Skip::new(SkipReason::NoImage, "its image_id is that of no image in the file")),
                (Some(image), None) => Err(Skip::new(SkipReason::NoCaption, image.clone())),
            };
            rows.add(&|| place.clone(), row);
        }
        rows.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Listing> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.json");
        std::fs::write(&path, text).unwrap();
        Annotations::new(path, SourceConfig::default()).list()
    }

    fn seen(listing: &Listing) -> Vec<(&str, Option<&str>, Vec<&str>)> {
        let samples = listing.samples.iter();
        samples.map(|s| (s.id.as_str(), s.split.as_deref(), s.captions.iter().map(String::as_str).collect())).collect()
    }

    #[test]
    fn coco_karpathy_lists_and_lines_are_told_apart() {
        let coco = r#"{"info": {"year": 2017}, "images": [{"id": 7, "file_name": "a.jpg", "width": 3}, {"id": "8", "file_name": "b.jpg"}],
            "annotations": [{"id": 1, "image_id": 7, "caption": "A dog"}, {"id": 2, "image_id": 7, "caption": "dogs "}, {"image_id": "8", "caption": "x"}]}"#;
        let listing = read(coco).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", None, vec!["A dog", "dogs"]), ("b.jpg", None, vec!["x"])]);
        let karpathy = r#"{"dataset": "coco", "images": [{"filepath": "val2014", "filename": "a.jpg", "imgid": 0, "split": "test",
            "sentences": [{"tokens": ["a"], "raw": "A dog", "imgid": 0, "sentid": 1}, {"raw": "dogs"}]}]}"#;
        assert_eq!(seen(&read(karpathy).unwrap()), [("val2014/a.jpg", Some("test"), vec!["A dog", "dogs"])]);
        let list = r#"[{"image": "a.jpg", "caption": ["A dog", "dogs"]}]"#;
        assert_eq!(seen(&read(list).unwrap()), [("a.jpg", None, vec!["A dog", "dogs"])]);
        let lines = "{\"image\": \"a.jpg\", \"caption\": \"A dog\"}\n{\"image\": \"a.jpg\", \"caption\": \"dogs\"}\n";
        assert_eq!(seen(&read(lines).unwrap()), [("a.jpg", None, vec!["A dog", "dogs"])]);
    }

    #[test]
    fn what_an_annotation_file_cannot_tie_together_is_counted() {
        let text = r#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"id": 2}, {"id": 3, "file_name": "../c.jpg"}, 7, {"file_name": 5}],
            "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 9, "caption": "y"}, {"image_id": 1}, {"caption": "z"}, {"image_id": {}, "caption": "z"}]}"#;
        let listing = read(text).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", None, vec![]), ("b.jpg", None, vec!["x"])]);
        for (reason, count) in [
            (SkipReason::SampleRepeated, 1),
            (SkipReason::RowWithoutImage, 1),
            (SkipReason::ImageOutsideFolder, 1),
            (SkipReason::NoImage, 2),
            (SkipReason::NoCaption, 1),
            (SkipReason::RowUnreadable, 3),
        ] {
            assert_eq!(listing.skips.count(|found| found == reason), count, "{reason}");
        }
    }

    #[test]
    fn keys_that_stand_twice_and_sentences_without_text_are_counted() {
        let list = r#"[{"image": "a.jpg", "caption": "x", "caption": "y"}, {"image": {"path": "b.jpg", "path": "c.jpg"}, "caption": "x"}, {"image": "d.jpg", "caption": "z"}]"#;
        let listing = read(list).unwrap();
        assert_eq!(seen(&listing), [("d.jpg", None, vec!["z"])]);
        let told = listing.skips.to_jsonl();
        assert!(told.contains("it has `caption` twice") && told.contains("it has `image.path` twice"), "{told}");
        assert!(listing.skips.names("object 1") && listing.skips.names("object 2"), "{told}");
        let coco = r#"{"images": [{"id": 1, "file_name": "a.jpg", "file_name": "b.jpg"}, {"id": 2, "file_name": "c.jpg"}],
            "annotations": [{"image_id": 2, "caption": "x", "caption": "y"}, {"image_id": 2, "caption": "z"}]}"#;
        let listing = read(coco).unwrap();
        assert_eq!(seen(&listing), [("c.jpg", None, vec!["z"])]);
        assert_eq!(listing.skips.count(|reason| reason == SkipReason::RowUnreadable), 2);
        // What is written again does not repair them.
        for (text, expected) in [(list, 2), (coco, 2)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("captions.json");
            std::fs::write(&path, text).unwrap();
            let source = Annotations::new(path, SourceConfig::default());
            let out = folder.path().join("out.json");
            assert_eq!(source.write_kept(&Leave::default(), &out).unwrap().not_copied.total(), expected);
            let again = Annotations::new(out, SourceConfig::default()).list().unwrap();
            assert_eq!((again.samples.len(), again.skips.total()), (1, 0), "{}", again.skips.to_jsonl());
        }
        let karpathy = r#"{"images": [{"filename": "a.jpg", "sentences": [{"tokens": ["a"]}, {"raw": "dogs"}]}]}"#;
        let listing = read(karpathy).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", None, vec!["dogs"])]);
        assert!(listing.skips.to_jsonl().contains("a.jpg: 1 of its 2 sentences have no `raw`"));
    }

    #[test]
    fn other_json_is_refused_with_what_is_read() {
        for text in ["{}", "{\"train\": {\"a.jpg\": \"dog\"}}", "7", "{\"images\": 3}", "[", ""] {
            let error = read(text).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("COCO's captions"), "{text}: {error}");
        }
    }
}
