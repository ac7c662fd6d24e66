//! How questions and answers are worded: plainly, at length, or in brief. These templates stand in for the language models of the paper
//! (ours; its prompts are not known).

use crate::random;
use rand::seq::IndexedRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a question or an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Wording {
    #[default]
    Plain,
    Expansion,
    Summary,
    /// One of the three, drawn for each instruction.
    Any,
}

/// The wordings of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Wordings {
    pub question: Wording,
    pub answer: Wording,
}

const PLAIN: [&str; 4] = [
    "What does the image describe?",
    "What is in the image?",
    "What does this picture show?",
    "What can be seen here?",
];
const EXPANDED: [&str; 3] = [
    "Please look at the image with care and tell me in your own words what it describes.",
    "I would like to know what is shown in this picture; what can you say about it?",
    "Take a close look at this picture, and then explain to me what can be seen here.",
];
const BRIEF: [&str; 3] = ["Describe it.", "What is it?", "Caption?"];
const LONGER: [&str; 3] = [
    "The picture that you see here shows {}, as far as one can tell",
    "Looking at it with care, this is {}, and there is nothing else",
    "What the image describes is {}, drawn in its own style",
];

impl Wording {
    fn drawn(self, seed: u64, purpose: &str, id: &str) -> Wording {
        match self {
            Wording::Any => {
                let all = [Wording::Plain, Wording::Expansion, Wording::Summary];
                all.choose(&mut random::stream(seed, purpose, 0, id)).copied().unwrap_or_default()
            }
            other => other,
        }
    }
}

impl Wordings {
    /// The question about a picture, and the answer that its caption becomes. `id` and `seed` draw the template.
    pub fn word(self, caption: &str, seed: u64, id: &str) -> (String, String) {
        let question = self.question.drawn(seed, "wording-question", id);
        let answer = self.answer.drawn(seed, "wording-answer", id);
        let pick = |templates: &[&'static str], purpose| {
            templates.choose(&mut random::stream(seed, purpose, 0, id)).copied().unwrap_or("{}")
        };
        let question = match question {
            Wording::Plain | Wording::Any => pick(&PLAIN, "question"),
            Wording::Expansion => pick(&EXPANDED, "question"),
            Wording::Summary => pick(&BRIEF, "question"),
        };
        let caption = caption.trim();
        let answer = match answer {
            Wording::Plain | Wording::Any => caption.to_owned(),
            Wording::Expansion => pick(&LONGER, "answer").replace("{}", caption),
            Wording::Summary => caption.split([',', '.', ';']).next().unwrap_or(caption).trim().to_owned(),
        };
        (question.to_owned(), answer)
    }

    /// The question of tests: the first plain one, which the public sister code asks.
    pub fn test_question() -> &'static str {
        PLAIN[0]
    }

    /// Every text that the templates can add, for a vocabulary.
    pub fn texts() -> impl Iterator<Item = &'static str> {
        PLAIN.into_iter().chain(EXPANDED).chain(BRIEF).chain(LONGER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_is_longer_and_summary_shorter_and_the_draw_follows_the_id() {
        let caption = "a drawing of banana, fruit, potassium";
        let with = |question, answer| Wordings { question, answer }.word(caption, 3, "a#0");
        let (plain, long) = (with(Wording::Plain, Wording::Plain), with(Wording::Expansion, Wording::Expansion));
        let brief = with(Wording::Summary, Wording::Summary);
        assert!(long.0.len() > plain.0.len() && plain.0.len() > brief.0.len());
        assert!(long.1.contains(caption) && plain.1 == caption && brief.1 == "a drawing of banana");
        let any = Wordings { question: Wording::Any, answer: Wording::Any };
        let drawn: std::collections::BTreeSet<_> =
            (0..60).map(|number| any.word(caption, 0, &number.to_string())).collect();
        assert!(drawn.len() > 10, "{}", drawn.len());
        assert_eq!(any.word(caption, 0, "7"), any.word(caption, 0, "7"));
    }
}
