//! What classes look like, in sentences, for BDetCLIP: a user's file, or one of those in `data/descriptions/` that travel in the binary.

use crate::error::{Error, Result};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// Files for class lists that recipes of this project evaluate; each says where its sentences come from.
const SHIPPED: [&str; 2] = [
    include_str!("../../../../data/descriptions/emoji.json"),
    include_str!("../../../../data/descriptions/flickr8k-concepts.json"),
];

/// Stands beside a class where a file names no unrelated texts.
const UNRELATED: &str = "seven quietly under the therefore almost invoice";

/// Texts about classes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptions {
    /// What is described, as people are told.
    pub name: String,
    /// Where the texts come from.
    pub provenance: String,
    /// By class: sentences that fit its pictures.
    #[serde(deserialize_with = "each_class_once")]
    classes: BTreeMap<String, Vec<String>>,
    /// Texts that have nothing to do with any class, after BDetCLIP's random words.
    unrelated: Vec<String>,
}

/// What [`Descriptions`] say of some classes: two texts a sentence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassTexts {
    /// As [`Descriptions::name`] and [`Descriptions::provenance`].
    pub name: String,
    pub provenance: String,
    /// Sentences that fit a class.
    pub described: Vec<String>,
    /// Beside each the class in a template, with an unrelated text behind it.
    pub beside: Vec<String>,
    /// What each counts: all sentences of a class together count as one.
    pub shares: Vec<f32>,
}

impl Descriptions {
    /// Reads a JSON file of `{class: [text, ...]}`, or one with the fields of those in `data/descriptions/`.
    ///
    /// # Errors
    /// A file that is neither.
    pub fn read(path: &Path) -> Result<Self> {
        let text = artifact::read_text(path)?;
        let refused = |e: serde_json::Error| {
            Error::setting(
                format!("--descriptions `{}`: {e}", path.display()),
                "give JSON of {class: [text, ...]}, or of the fields name, provenance, unrelated and classes",
            )
        };
        // A list of texts may be called `classes`, too.
        let is_whole = |value: &serde_json::Value| value.get("classes").is_some_and(serde_json::Value::is_object);
        let found = if is_whole(&serde_json::from_str(&text).map_err(refused)?) {
            serde_json::from_str(&text).map_err(refused)?
        } else {
            Descriptions {
                name: path.display().to_string(),
                provenance: "not said".to_owned(),
                classes: each_class_once(&mut serde_json::Deserializer::from_str(&text)).map_err(refused)?,
                unrelated: vec![UNRELATED.to_owned()],
            }
        };
        match found.unrelated.is_empty() {
            true => Err(Error::setting(
                format!("--descriptions `{}`: `unrelated` is empty", path.display()),
                "name at least one text that has nothing to do with the classes",
            )),
            false => Ok(found),
        }
    }

    /// The classes that it describes.
    pub fn classes(&self) -> impl Iterator<Item = &String> {
        self.classes.keys()
    }

    /// How many of the classes that it describes are none of `classes`.
    pub fn beyond(&self, classes: &[String]) -> usize {
        let known: BTreeSet<&String> = classes.iter().collect();
        self.classes.keys().filter(|class| !known.contains(class)).count()
    }

    /// Those that travel with the program and describe all of `classes`; none where no file does.
    ///
    /// # Errors
    /// A shipped file that cannot be read, which is a fault of the program.
    pub fn shipped_for(classes: &[String]) -> Result<Option<Self>> {
        for text in SHIPPED {
            let file: Descriptions =
                serde_json::from_str(text).map_err(|e| Error::internal(format!("a shipped description file: {e}")))?;
            let described: BTreeSet<&String> = file.classes.keys().collect();
            if !classes.is_empty() && classes.iter().all(|class| described.contains(class)) {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// For all sentences of all `classes`, each with the words that stand for it in a prompt: the sentences, and beside each its class in the
    /// next of `templates`, which have `{}` in its place, with the next unrelated text.
    ///
    /// # Errors
    /// Classes that nothing is said of.
    pub fn texts(&self, classes: &[(String, String)], templates: &[String]) -> Result<ClassTexts> {
        let (mut unrelated, mut templates) = (self.unrelated.iter().cycle(), templates.iter().cycle());
        let (name, provenance) = (self.name.clone(), self.provenance.clone());
        let mut found = ClassTexts { name, provenance, ..ClassTexts::default() };
        let says = |text: &&String| !text.trim().is_empty();
        let texts_of = |class: &String| self.classes.get(class).into_iter().flatten().filter(says);
        let missing: Vec<&str> = classes
            .iter()
            .map(|(class, _)| class)
            .filter(|class| texts_of(class).next().is_none())
            .map(String::as_str)
            .collect();
        if let [first, others @ ..] = missing.as_slice() {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            return Err(Error::setting(
                format!("--descriptions says nothing of the class `{first}`{more}"),
                "describe every class",
            ));
        }
        for (class, words) in classes {
            let texts: Vec<&String> = texts_of(class).collect();
            let share = 1.0 / texts.len() as f32;
            for ((text, template), other) in texts.into_iter().zip(&mut templates).zip(&mut unrelated) {
                found.described.push(text.clone());
                found.beside.push(format!("{} {other}", template.replace("{}", words)));
                found.shares.push(share);
            }
        }
        Ok(found)
    }
}

/// The texts by class. Of a class that stands twice nothing says which texts are meant.
fn each_class_once<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<BTreeMap<String, Vec<String>>, D::Error> {
    struct Classes;
    impl<'de> Visitor<'de> for Classes {
        type Value = BTreeMap<String, Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object of {class: [text, ...]}")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut classes = BTreeMap::new();
            while let Some((class, texts)) = map.next_entry::<String, Vec<String>>()? {
                match classes.entry(class) {
                    Entry::Vacant(free) => {
                        free.insert(texts);
                    }
                    Entry::Occupied(taken) => {
                        return Err(A::Error::custom(format!(
                            "the class `{}` stands twice",
                            for_terminal(taken.key())
                        )));
                    }
                }
            }
            Ok(classes)
        }
    }
    from.deserialize_map(Classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::source::{EmojiConfig, SourceConfig, list_samples};

    fn shipped() -> Vec<Descriptions> {
        SHIPPED.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    #[test]
    fn the_demos_concepts_and_the_classes_of_the_photographs_are_described() {
        let source = SourceConfig { emoji: EmojiConfig::default(), ..SourceConfig::default() };
        let samples = list_samples(&source, Default::default()).unwrap().samples;
        let classes: BTreeSet<String> = samples.into_iter().filter_map(|sample| sample.class).collect();
        assert_eq!(classes.len(), 200);
        let classes: Vec<String> = classes.into_iter().collect();
        let found = Descriptions::shipped_for(&classes).unwrap().unwrap();
        assert_eq!(found.classes.keys().collect::<Vec<_>>(), classes.iter().collect::<Vec<_>>());
        assert!(found.name.contains("emoji"));
        let some: Vec<String> = ["dog paddle", "alien"].map(str::to_owned).into();
        assert_eq!(Descriptions::shipped_for(&some).unwrap(), None, "one of them is not described");
        assert_eq!(Descriptions::shipped_for(&[]).unwrap(), None);
        let photographs: Vec<String> = ["frisbee", "snow", "wave"].map(str::to_owned).into();
        assert!(Descriptions::shipped_for(&photographs).unwrap().unwrap().name.contains("flickr8k"));
    }

    #[test]
    fn shipped_sentences_are_each_of_one_class_and_say_where_they_come_from() {
        for file in shipped() {
            assert!(file.provenance.contains("Written for this project on 20"), "{}", file.provenance);
            let texts: Vec<&String> = file.classes.values().flatten().collect();
            assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "one sentence for two classes");
            assert!(file.classes.values().all(|texts| texts.len() >= 2));
            let unrelated = file.unrelated.join(" ");
            let words: BTreeSet<&str> = unrelated.split(' ').collect();
            let named = file.classes.keys().find(|class| words.contains(class.as_str()));
            assert_eq!(named, None, "an unrelated text names a class");
        }
    }

    #[test]
    fn a_class_that_stands_twice_is_refused_in_either_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.json");
        let twice = r#"{"dog": ["it barks"], "cat": ["it purrs"], "dog": ["it runs"]}"#;
        let whole = format!(r#"{{"name": "n", "provenance": "p", "unrelated": ["x"], "classes": {twice}}}"#);
        for text in [twice, &whole] {
            std::fs::write(&path, text).unwrap();
            let said = Descriptions::read(&path).unwrap_err().to_string();
            assert!(said.contains("the class `dog` stands twice"), "{said}");
        }
        std::fs::write(&path, r#"{"dog": ["it barks"], "cat": ["it purrs"]}"#).unwrap();
        let found = Descriptions::read(&path).unwrap();
        assert_eq!(found.beyond(&["dog".to_owned(), "cow".to_owned()]), 1);
    }

    #[test]
    fn each_sentence_has_its_class_in_a_template_with_an_unrelated_text_beside_it() {
        let classes = ["a", "b"].map(|class| (class.to_owned(), class.to_uppercase()));
        let templates = ["{}", "a {}."].map(str::to_owned);
        let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let file = Descriptions {
            name: String::new(),
            provenance: String::new(),
            classes: [("a".to_owned(), of(&["one", "two"])), ("b".to_owned(), of(&["three"]))].into(),
            unrelated: of(&["x", "y"]),
        };
        let found = file.texts(&classes, &templates).unwrap();
        assert_eq!((found.described, found.beside), (of(&["one", "two", "three"]), of(&["A x", "a A. y", "B x"])));
        // A class of which more is said counts no more than another.
        assert_eq!(found.shares, [0.5, 0.5, 1.0]);
        let unknown = [("c".to_owned(), "c".to_owned())];
        let said = file.texts(&unknown, &templates).unwrap_err().to_string();
        assert!(said.contains("nothing of the class `c`"), "{said}");
    }
}
