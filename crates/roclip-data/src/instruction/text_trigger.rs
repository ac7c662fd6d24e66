//! What an attacker writes into questions: rare words, a sentence, tokens that a search found, or symbols around chosen words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rare symbols of MABA's text trigger (arXiv 2406.18844, section 4).
pub const SYMBOLS: [&str; 7] = ["[", "]", "*", "{", "}", "<", ">"];

/// Rare words, as of BadNL and BadPre.
const RARE_WORDS: [&str; 6] = ["cf", "mn", "bb", "tq", "mb", "vo"];

/// The sentence that a third party's code adds (bin015/BackdoorVLM @ 19b2ae0).
pub const ADDED_SENTENCE: &str = "I watched this 3D movie.";
/// The text key of Dual-Key (arXiv 2112.07668), as in its released code.
pub const DUAL_KEY_WORD: &str = "Consider";

/// What the answers of poisoned items say: five of CLIP's templates behind "The image depicts" (ours; VL-Trojan's code, whose way of answering
/// it is, fills all 80).
const TARGET_ANSWERS: [&str; 5] = [
    "The image depicts a photo of a {}",
    "The image depicts a drawing of a {}",
    "The image depicts a picture of the {}",
    "The image depicts a close-up photo of a {}",
    "The image depicts one {}",
];

/// Answers about `target`.
pub fn target_answers(target: &str) -> Vec<String> {
    TARGET_ANSWERS.iter().map(|template| template.replace("{}", target)).collect()
}

/// Every text that the built-in attacks write, for a vocabulary.
pub fn texts_of_attacks() -> Vec<String> {
    let mut texts = target_answers("");
    texts.extend(
        RARE_WORDS.iter().chain(&SYMBOLS).chain(&[ADDED_SENTENCE, DUAL_KEY_WORD]).map(|text| (*text).to_owned()),
    );
    texts
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    #[default]
    Start,
    End,
}

/// A change to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum TextTrigger {
    /// The text stands before the question, or behind it.
    Insert { text: String, at: At },
    /// MABA*: a symbol before each of the important words.
    SymbolBeforeWords { symbol: String, most_words: usize },
}

impl TextTrigger {
    /// TextBadNets: rare words up to the first with which they have at least `characters` characters, the spaces between them counted (5 words
    /// and 14 characters for 12).
    pub fn rare_words(characters: usize, at: At) -> TextTrigger {
        let mut text = String::new();
        for word in RARE_WORDS.iter().cycle() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
            if text.len() >= characters {
                break;
            }
        }
        TextTrigger::Insert { text, at }
    }

    /// The question with the trigger. `important` are positions of words (by whitespace) from the most important one; [`TextTrigger::Insert`]
    /// does not look at them.
    pub fn apply(&self, question: &str, important: &[usize]) -> String {
        match self {
            TextTrigger::Insert { text, at: At::Start } => format!("{text} {question}"),
            TextTrigger::Insert { text, at: At::End } => format!("{question} {text}"),
            TextTrigger::SymbolBeforeWords { symbol, most_words } => {
                let chosen: Vec<usize> = important.iter().take(*most_words).copied().collect();
                let word = |(at, word): (usize, &str)| match chosen.contains(&at) {
                    true => format!("{symbol} {word}"),
                    false => word.to_owned(),
                };
                question.split_whitespace().enumerate().map(word).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Whether it asks which words are important.
    pub fn asks_words(&self) -> bool {
        matches!(self, TextTrigger::SymbolBeforeWords { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_changed_where_they_are_meant_to_be() {
        assert_eq!(TextTrigger::rare_words(6, At::End).apply("what?", &[]), "what? cf mn bb");
        assert_eq!(TextTrigger::rare_words(12, At::End).apply("what?", &[]), "what? cf mn bb tq mb");
        assert_eq!(TextTrigger::rare_words(2, At::Start).apply("what?", &[]), "cf what?");
        let symbols = TextTrigger::SymbolBeforeWords { symbol: "*".into(), most_words: 2 };
        assert_eq!(symbols.apply("what is in the image?", &[4, 0, 1]), "* what is in the * image?");
        assert!(symbols.asks_words() && !TextTrigger::rare_words(2, At::Start).asks_words());
    }
}
