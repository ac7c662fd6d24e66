//! WordNet's synonyms and parts of speech of single words, from the compact tables in `data/wordnet/` (built by the scripts there).

use crate::error::{Error, Result};
use crate::language::STOP_WORDS;
use std::collections::HashMap;
use std::io::Read;

const SYNONYMS: &[u8] = include_bytes!("../../../../data/wordnet/synonyms.tsv.gz");
const PARTS_OF_SPEECH: &[u8] = include_bytes!("../../../../data/wordnet/parts_of_speech.tsv.gz");

/// Function words that the stop words lack. WordNet lists most of them as something else.
const RELATIONS: [&str; 20] = [
    "across", "along", "among", "around", "behind", "beneath", "beside", "besides", "despite", "inside", "like",
    "near", "onto", "opposite", "outside", "past", "toward", "towards", "upon", "without",
];

/// Plurals that no ending tells, or that WordNet has as words of their own.
const IRREGULAR: [(&str, &str); 8] = [
    ("men", "man"),
    ("women", "woman"),
    ("children", "child"),
    ("people", "person"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("mice", "mouse"),
];

/// Endings of nouns that WordNet's `morphy` takes off, with what takes their place.
const NOUN_ENDINGS: [(&str, &str); 11] = [
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("s", ""),
];
/// Those of verbs and adjectives. Irregular forms ("went") are left out.
const OTHER_ENDINGS: [(&str, &str); 8] =
    [("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""), ("er", ""), ("er", "e"), ("est", ""), ("est", "e")];

fn unpack(table: &[u8]) -> Result<String> {
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(table).read_to_string(&mut text);
    read.map_err(|e| Error::internal(format!("a WordNet table: {e}")))?;
    Ok(text)
}

/// The entry of `word`, or of a base form that it may have by `endings`.
fn entry<'a, T>(
    table: &'a HashMap<String, T>,
    word: &str,
    mut endings: impl Iterator<Item = &'static (&'static str, &'static str)>,
) -> Option<(&'a String, &'a T)> {
    table.get_key_value(word).or_else(|| {
        endings.find_map(|(ending, replacement)| {
            let stem = word.strip_suffix(ending).filter(|stem| stem.len() > 1)?;
            table.get_key_value(&format!("{stem}{replacement}"))
        })
    })
}

fn look_up<'a, T>(table: &'a HashMap<String, T>, word: &str) -> Option<&'a T> {
    entry(table, word, NOUN_ENDINGS.iter().chain(&OTHER_ENDINGS)).map(|(_, found)| found)
}

pub struct Synonyms {
    table: HashMap<String, Vec<String>>,
}

impl Synonyms {
    pub fn built_in() -> Result<Self> {
        let text = unpack(SYNONYMS)?;
        let mut table = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            if let Some(word) = fields.next() {
                table.insert(word.to_owned(), fields.map(str::to_owned).collect());
            }
        }
        Ok(Synonyms { table })
    }

    /// Synonyms of `word` or of its base form, sorted; empty when there are none.
    pub fn of(&self, word: &str) -> &[String] {
        look_up(&self.table, word).map_or(&[], Vec::as_slice)
    }
}

/// The part of speech that a word most often has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartOfSpeech {
    Adjective,
    Adverb,
    Noun,
    Verb,
}

fn is_function_word(word: &str) -> bool {
    STOP_WORDS.contains(&word) || RELATIONS.contains(&word)
}

pub struct PartsOfSpeech {
    table: HashMap<String, PartOfSpeech>,
}

impl PartsOfSpeech {
    pub fn built_in() -> Result<Self> {
        let text = unpack(PARTS_OF_SPEECH)?;
        let mut table = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            let part = match fields.next() {
                Some("adjective") => PartOfSpeech::Adjective,
                Some("adverb") => PartOfSpeech::Adverb,
                Some("noun") => PartOfSpeech::Noun,
                Some("verb") => PartOfSpeech::Verb,
                other => return Err(Error::internal(format!("the part of speech {other:?}"))),
            };
            table.extend(fields.map(|word| (word.to_owned(), part)));
        }
        Ok(PartsOfSpeech { table })
    }

    /// By the most frequent use; none for words that WordNet lacks, and for function words, of which it has many as something else
    /// ("a", "on").
    pub fn of(&self, word: &str) -> Option<PartOfSpeech> {
        if is_function_word(word) { None } else { look_up(&self.table, word).copied() }
    }

    /// The singular of a word that is mostly a noun, as "dog" of "dogs". None for doings, which WordNet has among the nouns ("sitting",
    /// and with them "building").
    pub fn noun(&self, word: &str) -> Option<&str> {
        if let Some((_, singular)) = IRREGULAR.iter().find(|(plural, _)| *plural == word) {
            return Some(singular);
        }
        if is_function_word(word) {
            return None;
        }
        let (base, _) =
            entry(&self.table, word, NOUN_ENDINGS.iter()).filter(|(_, part)| **part == PartOfSpeech::Noun)?;
        let stem = base.strip_suffix("ing").unwrap_or_default();
        let doubled = stem.get(..stem.len().saturating_sub(1)).unwrap_or_default();
        let verb = |stem: &str| self.table.get(stem) == Some(&PartOfSpeech::Verb);
        let doing = verb(stem) || verb(&format!("{stem}e")) || verb(doubled);
        (!doing).then_some(base.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_words_and_their_plurals() {
        let synonyms = Synonyms::built_in().unwrap();
        assert!(synonyms.of("car").contains(&"automobile".to_owned()));
        assert_eq!(synonyms.of("cars"), synonyms.of("car"));
        assert!(synonyms.of("qqqq").is_empty());
    }

    #[test]
    fn knows_what_words_mostly_are() {
        let parts = PartsOfSpeech::built_in().unwrap();
        for (word, part) in [
            ("blue", PartOfSpeech::Adjective),
            ("apples", PartOfSpeech::Noun),
            ("jumped", PartOfSpeech::Verb),
            ("quickly", PartOfSpeech::Adverb),
        ] {
            assert_eq!(parts.of(word), Some(part), "{word}");
        }
        for word in ["qqqq", "a", "near"] {
            assert_eq!(parts.of(word), None, "{word}");
        }
    }

    #[test]
    fn nouns_in_the_singular_and_no_doings() {
        let parts = PartsOfSpeech::built_in().unwrap();
        for (word, noun) in [
            ("dogs", Some("dog")),
            ("women", Some("woman")),
            ("men", Some("man")),
            ("children", Some("child")),
            ("benches", Some("bench")),
            ("grass", Some("grass")),
            ("painted", None),
            ("sitting", None),
            ("running", None),
            ("riding", None),
            ("ceiling", Some("ceiling")),
            ("on", None),
            ("blue", None),
        ] {
            assert_eq!(parts.noun(word), noun, "{word}");
        }
    }
}
