//! The JSON that crawlers write beside a picture. Whatever is odd in it costs nothing but the odd field.

use crate::artifact;
use crate::escape::for_terminal;
use crate::sample::{PoisonMark, StatedHash};
use crate::skip::Skip;
use crate::source::json::{self, Texts};
use crate::source::rows::CLASS_NAMES;
use serde_json::{Map, Value};

/// The fields that mean something here; img2dataset writes many more.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// Of `captions`, which is a list or a single text.
    pub captions: Texts,
    /// Of `caption`, which is the same.
    pub caption: Texts,
    pub class: Option<String>,
    /// Why it has no class, where it names several.
    pub several: Option<Skip>,
    pub group: Option<String>,
    pub split: Option<String>,
    pub stated: Option<StatedHash>,
    /// What `roclip poison make` says of a poisoned sample that it writes.
    pub poison: Option<PoisonMark>,
    /// A field that was read as if it were not there, since it stands twice.
    pub ambiguous: Option<String>,
}

/// Where shards that `roclip poison make` writes say which samples are poison.
pub(crate) const POISON_FIELD: &str = "roclip_poison";

/// Their names.
const FIELDS: [&str; 12] = [
    "captions",
    "caption",
    "class",
    "label",
    "concept",
    "classes",
    "labels",
    "subgroup",
    "group",
    "split",
    "sha256",
    "original_width",
];

impl Metadata {
    /// # Errors
    /// Says what is wrong when `text` is no JSON object.
    pub(super) fn read(text: &str) -> Result<Metadata, String> {
        let json::Parsed { value: Value::Object(mut fields), repeated } = json::parse(text)? else {
            return Err("it is no object".into());
        };
        let mut ambiguous = None;
        for found in repeated.iter().filter(|found| FIELDS.contains(&found.outermost())) {
            ambiguous.get_or_insert_with(|| found.within(0));
            fields.remove(found.outermost());
        }
        for name in FIELDS {
            let alike = |other: &&String| *other != name && other.eq_ignore_ascii_case(name);
            if let Some(other) = fields.keys().find(alike).filter(|_| fields.contains_key(name)) {
                ambiguous.get_or_insert_with(|| format!("it has `{name}` and `{}`", for_terminal(other)));
                fields.remove(name);
            }
        }
        Ok(Metadata { ambiguous, ..Metadata::of(&fields) })
    }

    fn of(fields: &Map<String, Value>) -> Metadata {
        let word = |names: &[&str]| names.iter().find_map(|name| json::word(fields.get(*name)));
        let (class, several) = match json::class_of(fields, &CLASS_NAMES) {
            Ok(class) => (class, None),
            Err(skip) => (None, Some(skip)),
        };
        Metadata {
            captions: Texts::of(fields.get("captions")),
            caption: Texts::of(fields.get("caption")),
            class,
            several,
            group: word(&["subgroup", "group"]),
            split: word(&["split"]),
            stated: stated_hash(fields),
            poison: poison_of(fields),
            ambiguous: None,
        }
    }
}

/// The longest name of an attack or class that is believed.
const NAME_LIMIT_BYTES: usize = 1_000;

/// `roclip_poison`. However odd it is, a sample that has it is none of the clean ones.
fn poison_of(fields: &Map<String, Value>) -> Option<PoisonMark> {
    let mark = fields.get(POISON_FIELD).filter(|mark| !mark.is_null())?;
    let name = |field: &str| {
        let name = mark.get(field).and_then(Value::as_str);
        let name = name.filter(|name| name.len() <= NAME_LIMIT_BYTES && !name.contains(char::is_control));
        name.unwrap_or("unknown").to_owned()
    };
    Some(PoisonMark { attack: name("attack"), target: name("target") })
}

/// img2dataset's `sha256`. It notes the size of the download where it has decoded that.
pub(super) fn stated_hash(fields: &Map<String, Value>) -> Option<StatedHash> {
    let sha256 = artifact::sha256_of_hex(fields.get("sha256")?.as_str()?.trim())?;
    let noted = |value: &Value| value.is_number() || value.as_str().is_some_and(|text| !text.trim().is_empty());
    Some(StatedHash { sha256, of_download: fields.get("original_width").is_some_and(noted) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_field_costs_no_other() {
        let odd =
            r#"{"a": NaN, "b": [-Infinity, Infinity], "caption": "NaN \"Infinity\" \\", "class": 7, "captions": null}"#;
        let metadata = Metadata::read(odd).unwrap();
        assert_eq!(metadata.caption.texts, ["NaN \"Infinity\" \\"]);
        assert_eq!((metadata.class.as_deref(), metadata.captions), (Some("7"), Texts::default()));
        let mixed = Metadata::read(r#"{"captions": ["a", null, 3, "", ["x"]], "class": {}, "caption": 5}"#).unwrap();
        assert_eq!((mixed.captions.texts.as_slice(), mixed.captions.odd), (&["a".to_owned(), "3".into()][..], 1));
        assert_eq!((mixed.class, mixed.caption.texts), (None, vec!["5".to_owned()]));
        let digest = artifact::sha256_hex(b"x");
        let hashed =
            |more: &str| Metadata::read(&format!("{{\"sha256\": \"{digest}\"{more}}}")).unwrap().stated.unwrap();
        assert!(!hashed("").of_download && !hashed(", \"original_width\": null").of_download);
        assert!(hashed(", \"original_width\": 640").of_download);
        assert_eq!(Metadata::read(r#"{"sha256": "x"}"#).unwrap().stated, None);
        let single = Metadata::read(r#"{"captions": "one"}"#).unwrap();
        assert_eq!(single.captions.texts, ["one"]);
        for broken in ["", "[]", "{", "null", "{\"a\": NaNa}", &"[".repeat(100_000)] {
            assert!(Metadata::read(broken).is_err(), "{broken:.20}");
        }
    }

    #[test]
    fn poison_that_was_written_says_so() {
        let mark = |text: &str| Metadata::read(text).unwrap().poison.map(|mark| (mark.attack, mark.target));
        let named = r#"{"roclip_poison": {"attack": "patch", "target": "cat"}}"#;
        assert_eq!(mark(named), Some(("patch".into(), "cat".into())));
        assert_eq!((mark("{}"), mark(r#"{"roclip_poison": null}"#)), (None, None));
        let unknown = Some(("unknown".to_owned(), "unknown".to_owned()));
        for odd in ["true", "{}", "\"x\"", r#"{"attack": "a\u001b[2J", "target": 3}"#] {
            assert_eq!(mark(&format!("{{\"roclip_poison\": {odd}}}")), unknown, "{odd}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_none_and_is_told() {
        let read = |text: &str| Metadata::read(text).unwrap();
        let twice = read(r#"{"caption": "a", "class": "x", "caption": "b", "split": "test"}"#);
        assert_eq!((twice.caption.texts.len(), twice.ambiguous.as_deref()), (0, Some("it has `caption` twice")));
        assert_eq!((twice.class.as_deref(), twice.split.as_deref()), (Some("x"), Some("test")));
        let cased = read(r#"{"caption": "a", "Caption": "b"}"#);
        assert_eq!(
            (cased.caption.texts.len(), cased.ambiguous.as_deref()),
            (0, Some("it has `caption` and `Caption`"))
        );
        let deep = read(r#"{"captions": [{"raw": "a", "raw": "b"}], "exif": {"x": 1, "x": 2}}"#);
        assert_eq!(deep.ambiguous.as_deref(), Some("it has `captions.0.raw` twice"));
        assert_eq!(read(r#"{"captions": ["a"], "exif": {"x": 1, "x": 2}, "y": 1, "y": 2}"#).ambiguous, None);
    }
}
