//! JSON as strangers write it: numbers that are none, keys that stand twice, and which texts a value holds.

use crate::escape::for_terminal;
use crate::skip::{Skip, SkipReason};
use crate::source::captions;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Of several classes so many are told.
const CLASSES_SHOWN: usize = 5;

/// A text of JSON.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Of a key that stands twice the last value.
    pub value: Value,
    pub repeated: Vec<Repeated>,
}

/// A key that an object has twice: nothing says which of its values is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    /// The way to it from the outermost value: keys, and numbers from 0 in lists.
    path: Vec<String>,
}

impl Repeated {
    /// The first step from the outermost value.
    pub(super) fn outermost(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// The step behind it; none where the outermost value has the key itself.
    pub(super) fn second(&self) -> Option<&str> {
        self.path.get(1).map(String::as_str)
    }

    /// What is wrong with the value so many steps below the outermost one.
    pub(super) fn within(&self, steps: usize) -> String {
        let path = self.path.get(steps..).unwrap_or_default().join(".");
        format!("it has `{}` twice", for_terminal(&path))
    }
}

/// Any JSON, and what Python writes for it: NaN and Infinity, which are none.
///
/// # Errors
/// What is wrong.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    strict(text).or_else(|first| strict(&without_odd_numbers(text)).map_err(|_| first.to_string()))
}

fn strict(text: &str) -> serde_json::Result<Parsed> {
    let mut repeated = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Watched(&mut repeated).deserialize(&mut reader)?;
    reader.end()?;
    repeated.iter_mut().for_each(|found| found.path.reverse());
    Ok(Parsed { value, repeated })
}

/// Reads a value, and notes keys that stand twice in it; their paths are written from the inside out.
struct Watched<'a>(&'a mut Vec<Repeated>);

impl Watched<'_> {
    /// Reads a value within this one, of which `step` is the last step to it.
    fn inner<T>(&mut self, step: impl FnOnce() -> String, read: impl FnOnce(Watched) -> T) -> T {
        let before = self.0.len();
        let value = read(Watched(self.0));
        if self.0.len() > before {
            let step = step();
            self.0.iter_mut().skip(before).for_each(|found| found.path.push(step.clone()));
        }
        value
    }
}

impl<'de> DeserializeSeed<'de> for Watched<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Watched<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let number = values.len();
            match self.inner(|| number.to_string(), |inner| list.next_element_seed(inner))? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = self.inner(|| key.clone(), |inner| map.next_value_seed(inner))?;
            if fields.contains_key(&key) {
                self.0.push(Repeated { path: vec![key.clone()] });
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

/// The texts that a value holds, and how much of it is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub texts: Vec<String>,
    /// Lists within the list, and objects without a text.
    pub odd: usize,
}

impl Texts {
    /// Of a text, a list of texts, or of objects that hold one. What is null or empty is nothing.
    pub(super) fn of(value: Option<&Value>) -> Texts {
        let mut found = Texts::default();
        let values = match value {
            Some(Value::Array(list)) => list.as_slice(),
            other => other.map_or(&[][..], std::slice::from_ref),
        };
        for value in values {
            match one_text(value) {
                Some(text) => found.texts.push(text),
                None => found.odd += usize::from(matches!(value, Value::Array(_) | Value::Object(_))),
            }
        }
        found
    }

    /// Why not all of the captions of `sample` are there.
    pub(super) fn left_out(&self, sample: &str) -> Option<Skip> {
        let all = self.odd + self.texts.len();
        let detail = format!(
            "{sample}{}{} of its {all} captions are no text",
            if sample.is_empty() { "" } else { ": " },
            self.odd
        );
        (self.odd > 0).then(|| Skip::new(SkipReason::CaptionUnreadable, detail))
    }
}

/// The text that one entry of a list of captions is.
pub(super) fn one_text(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => ["raw", "caption", "text"].iter().find_map(|name| word(fields.get(*name))),
        other => word(Some(other)),
    }
}

/// A word or a number.
pub(super) fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(captions::tidy(text).to_owned()).filter(|text| !text.is_empty()),
        number @ (Value::Number(_) | Value::Bool(_)) => Some(number.to_string()),
        _ => None,
    }
}

/// The one class that a value names: a word, or a list with one.
///
/// # Errors
/// A skip for a list of several, of which nothing says which is meant.
pub(super) fn class(value: Option<&Value>) -> Result<Option<String>, Skip> {
    let Some(Value::Array(list)) = value else { return Ok(word(value)) };
    let mut classes: Vec<String> = Vec::new();
    for class in list.iter().filter_map(|entry| word(Some(entry))) {
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    if classes.len() < 2 {
        return Ok(classes.pop());
    }
    let shown: Vec<&str> = classes.iter().take(CLASSES_SHOWN).map(String::as_str).collect();
    let more = if classes.len() > shown.len() { ", ..." } else { "" };
    let what = format!("it is of {} classes (`{}`{more}), and one is used", classes.len(), shown.join("`, `"));
    Err(Skip::new(SkipReason::SeveralClasses, what))
}

/// What [`class`] found for the picture `image`: the class, and apart from it that there are several.
pub(super) fn one_or_several(found: Result<Option<String>, Skip>, image: &str) -> (Option<String>, Option<Skip>) {
    match found {
        Ok(class) => (class, None),
        Err(skip) => (None, Some(Skip { detail: format!("{image}: {}", skip.detail), ..skip })),
    }
}

/// [`class`] of the first of `names` that an object has.
///
/// # Errors
/// The same.
pub(super) fn class_of(fields: &Map<String, Value>, names: &[&str]) -> Result<Option<String>, Skip> {
    names.iter().find_map(|name| class(fields.get(*name)).transpose()).transpose()
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

    fn repeated(text: &str) -> Vec<String> {
        parse(text).unwrap().repeated.iter().map(|found| found.within(0)).collect()
    }

    #[test]
    fn keys_that_stand_twice_are_found_at_any_depth() {
        assert_eq!(repeated(r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}"#), [""; 0]);
        assert_eq!(repeated(r#"{"a": 1, "b": NaN, "a": 1}"#), ["it has `a` twice"]);
        let deep = r#"[{"x": 1}, {"image": {"path": "a", "path": "b"}, "image": 2}]"#;
        assert_eq!(repeated(deep), ["it has `1.image.path` twice", "it has `1.image` twice"]);
        let found = parse(deep).unwrap().repeated;
        assert_eq!(
            (found[0].outermost(), found[0].second(), found[0].within(1).as_str()),
            ("1", Some("image"), "it has `image.path` twice")
        );
        assert_eq!(
            parse("[1, -2, 2.5, true, null, \"a\"]").unwrap().value,
            serde_json::json!([1, -2, 2.5, true, null, "a"])
        );
        for broken in ["", "{", "{} {}", "1e999", &"[".repeat(100_000)] {
            assert!(parse(broken).is_err(), "{broken:.20}");
        }
    }

    #[test]
    fn a_list_with_one_class_is_that_class_and_several_are_none() {
        let found = |text: &str| class(Some(&parse(text).unwrap().value));
        for one in [r#""cat""#, r#"["cat"]"#, r#"[null, " cat ", "", "cat"]"#] {
            assert_eq!(found(one).unwrap().as_deref(), Some("cat"), "{one}");
        }
        for none in ["null", "[]", r#"[{"name": "cat"}]"#, "{}"] {
            assert_eq!(found(none).unwrap(), None, "{none}");
        }
        let skip = found("[3, 1, 3, 0, 7, 8, 9]").unwrap_err();
        assert_eq!(skip.reason, SkipReason::SeveralClasses);
        assert_eq!(skip.detail, "it is of 6 classes (`3`, `1`, `0`, `7`, `8`, ...), and one is used");
    }

    #[test]
    fn what_is_no_text_is_counted() {
        let texts = |text: &str| Texts::of(Some(&parse(text).unwrap().value));
        let found = texts(r#"[" a ", 7, {"raw": "b"}, ["deep"], {"x": "y"}, null, " "]"#);
        assert_eq!((found.texts.as_slice(), found.odd), (&["a".to_owned(), "7".into(), "b".into()][..], 2));
        assert_eq!(found.left_out("k").unwrap().detail, "k: 2 of its 5 captions are no text");
        assert_eq!((texts("null"), texts("\"a\"").texts.len(), texts("{\"x\": 1}").odd), (Texts::default(), 1, 1));
    }
}
