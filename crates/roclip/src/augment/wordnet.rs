//! WordNet synonyms of single words, from the compact table in `data/wordnet/` (built by `build.py` there).

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::io::Read;

const TABLE: &[u8] = include_bytes!("../../../../data/wordnet/synonyms.tsv.gz");

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

pub struct Synonyms {
    table: HashMap<String, Vec<String>>,
}

impl Synonyms {
    pub fn built_in() -> Result<Self> {
        let mut text = String::new();
        let read = flate2::read::GzDecoder::new(TABLE).read_to_string(&mut text);
        read.map_err(|e| Error::internal(format!("the synonym table: {e}")))?;
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
        let found = self.table.get(word).or_else(|| {
            ENDINGS.iter().find_map(|(ending, replacement)| {
                let stem = word.strip_suffix(ending).filter(|stem| stem.len() > 1)?;
                self.table.get(&format!("{stem}{replacement}"))
            })
        });
        found.map_or(&[], Vec::as_slice)
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
}
