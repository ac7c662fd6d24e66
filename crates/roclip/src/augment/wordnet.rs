//! WordNet's synonyms and parts of speech of single words, from the compact tables in `data/wordnet/` (built by the scripts there).

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::io::Read;

const SYNONYMS: &[u8] = include_bytes!("../../../../data/wordnet/synonyms.tsv.gz");
const PARTS_OF_SPEECH: &[u8] = include_bytes!("../../../../data/wordnet/parts_of_speech.tsv.gz");

/// Endings that WordNet's `morphy` takes off, with what takes their place. Irregular forms ("went") are left out.
const ENDINGS: [(&str, &str); 19] = [
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
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("er", "e"),
    ("est", ""),
    ("est", "e"),
];

fn unpack(table: &[u8]) -> Result<String> {
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(table).read_to_string(&mut text);
    read.map_err(|e| Error::internal(format!("a WordNet table: {e}")))?;
    Ok(text)
}

/// The entry of `word`, or of a base form that it may have.
fn look_up<'a, T>(table: &'a HashMap<String, T>, word: &str) -> Option<&'a T> {
    table.get(word).or_else(|| {
        ENDINGS.iter().find_map(|(ending, replacement)| {
            let stem = word.strip_suffix(ending).filter(|stem| stem.len() > 1)?;
            table.get(&format!("{stem}{replacement}"))
        })
    })
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

/// What a word most often is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartOfSpeech {
    Adjective,
    Adverb,
    Noun,
    Verb,
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

    /// By the most frequent use; none for words that WordNet lacks. Function words must be kept out beforehand: WordNet has many of
    /// them as something else ("a", "on").
    pub fn of(&self, word: &str) -> Option<PartOfSpeech> {
        look_up(&self.table, word).copied()
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
        assert_eq!(parts.of("qqqq"), None);
    }
}
