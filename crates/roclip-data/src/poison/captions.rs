//! Which captions name which class, for thousands of classes and millions of captions in one pass.

use crate::error::{Error, Result};
use aho_corasick::AhoCorasick;
use regex::Regex;
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use regex_syntax::is_word_character;
use std::collections::HashMap;

/// Matches `class` as a whole word, in any case.
pub fn whole_word(class: &str) -> Result<Regex> {
    Regex::new(&format!(r"(?i)(^|\W){}(\W|$)", regex::escape(class))).map_err(|e| Error::internal(e.to_string()))
}

/// [`whole_word`] of many classes at once.
#[derive(Clone)]
pub struct ClassWords {
    words: AhoCorasick,
    fold: Fold,
}

impl ClassWords {
    pub fn new(classes: &[&str]) -> Result<Self> {
        let mut fold = Fold::default();
        let folded: Vec<String> = classes.iter().map(|class| fold.text(class)).collect();
        let words = AhoCorasick::new(&folded).map_err(|e| Error::internal(format!("class names: {e}")))?;
        Ok(ClassWords { words, fold })
    }

    /// The places among the classes of those that `caption` has as a whole word, sorted.
    pub fn named_in(&mut self, caption: &str) -> Vec<usize> {
        let text = self.fold.text(caption);
        let mut found: Vec<usize> = self
            .words
            .find_overlapping_iter(&text)
            .filter(|hit| {
                // A class without letters is found between the bytes of one character, too.
                let (Some(before), Some(after)) = (text.get(..hit.start()), text.get(hit.end()..)) else {
                    return false;
                };
                !before.chars().next_back().is_some_and(is_word_character)
                    && !after.chars().next().is_some_and(is_word_character)
            })
            .map(|hit| hit.pattern().as_usize())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// One character for all that `(?i)` takes for the same: the smallest of them.
#[derive(Clone, Default)]
struct Fold {
    known: HashMap<char, char>,
}

impl Fold {
    fn text(&mut self, text: &str) -> String {
        text.chars().map(|character| self.character(character)).collect()
    }

    fn character(&mut self, character: char) -> char {
        if character.is_ascii() {
            return character.to_ascii_uppercase();
        }
        *self.known.entry(character).or_insert_with(|| {
            let mut same = ClassUnicode::new([ClassUnicodeRange::new(character, character)]);
            match same.try_case_fold_simple() {
                Ok(()) => same.ranges().first().map_or(character, ClassUnicodeRange::start),
                Err(_) => character,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only() {
        let cat = whole_word("cat").unwrap();
        assert!(cat.is_match("A Cat sleeps") && cat.is_match("cat, grinning"));
        assert!(!cat.is_match("catalogue") && !cat.is_match("tomcat"));
    }

    #[test]
    fn one_pass_finds_what_each_pattern_finds() {
        let classes = [
            "cat",
            "tom cat",
            "CAT",
            "c++",
            "(cat)",
            ".",
            "",
            " ",
            "a",
            "ß",
            "ẞ",
            "straße",
            "STRASSE",
            "σ",
            "ς",
            "ὀδυσσεύς",
            "k",
            "K",
            "s",
            "ſ",
            "İ",
            "i",
            "ı",
            "é",
            "e\u{301}",
            "\u{301}",
            "猫",
            "子猫",
            "🐈",
            "cat-like",
            "-",
            "_",
            "cat_",
            "3",
            "٣",
            "a.b",
            "^a$",
            "cat cat",
            "\\W",
            "ﬁ",
            "fi",
            "ǆ",
            "ǅ",
            "Ω",
            "Ω",
            "\n",
            "\u{200d}",
            "i̇",
            "no such",
        ];
        let captions = [
            "",
            " ",
            "a",
            "A Cat sleeps",
            "catalogue",
            "tomcat",
            "tom cat",
            "Tom  cat",
            "cat cat cat",
            "catcat cat",
            "c++ code",
            "C++",
            "c++x",
            "(CAT) (cat",
            "x(cat)",
            "a.b",
            "axb",
            "STRASSE straße STRAẞE",
            "ΣΊΣΥΦΟΣ σ",
            "ΟΔΥΣΣΕΎΣ ὈΔΥΣΣΕΎΣ",
            "\u{212a} k",
            "ſ S s",
            "İstanbul İ i ı I",
            "e\u{301} é É",
            "a\u{301}",
            "子猫 猫",
            "猫が",
            "🐈 🐈🐈",
            "a🐈b",
            "cat-like",
            "cat_like cat_",
            "_cat",
            "3 ٣ 33",
            "٣3",
            "^a$ [a]",
            "\\W",
            "ﬁ FI fi",
            "Ǆ ǅ ǆ",
            "Ω Ω ω",
            "line\nbreak cat\n",
            "cat\u{200d}",
            "cat\u{200d} cat",
            "…",
            "-",
            "--",
            "é-",
            "a é",
        ];
        let mut all = ClassWords::new(&classes).unwrap();
        for caption in captions {
            let each: Vec<usize> =
                (0..classes.len()).filter(|at| whole_word(classes[*at]).unwrap().is_match(caption)).collect();
            assert_eq!(all.named_in(caption), each, "{caption:?}");
        }
    }
}
