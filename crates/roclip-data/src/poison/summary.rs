//! What a manifest plants, attack by attack, and what of it is likely to fail.

use crate::error::Result;
use crate::language::{PartOfSpeech, PartsOfSpeech};
use crate::poison::{Manifest, Row};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Words before a noun that WordNet has as something else, or not at all.
const BEFORE_NOUNS: [&str; 30] = [
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "our", "my", "your", "some",
    "any", "no", "one", "two", "three", "four", "five", "several", "many", "few", "another", "each", "every", "of",
    "with",
];

/// One attack of a manifest.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct AttackSummary {
    pub attack: String,
    pub pairs: usize,
    /// Of targeted poisoning: the pictures that are shown. None of a backdoor.
    pub pictures: Option<usize>,
    /// Distinct captions of each targeted picture, or of each class that a trigger should mean: the fewest and the most.
    pub fewest_captions: usize,
    pub most_captions: usize,
    /// What a person should know before training on it.
    pub warnings: Vec<String>,
}

impl Manifest {
    /// Its attacks in alphabetical order.
    ///
    /// # Errors
    /// When the built-in dictionary cannot be read.
    pub fn summary(&self) -> Result<Vec<AttackSummary>> {
        let mut attacks: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            attacks.entry(&row.attack).or_default().push(row);
        }
        let parts = PartsOfSpeech::built_in()?;
        Ok(attacks.into_iter().map(|(attack, rows)| summary(attack, &rows, &parts)).collect())
    }
}

fn summary(attack: &str, rows: &[&Row], parts: &PartsOfSpeech) -> AttackSummary {
    let targeted = rows.iter().all(|row| row.trigger.is_none());
    // What must be told many things: a picture that is targeted, or a class that a trigger should mean.
    let mut told: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    let mut of_target: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        let (pairs, captions) = told.entry(if targeted { &row.image } else { &row.target }).or_default();
        *pairs += 1;
        captions.extend(row.more_captions.iter().chain([&row.caption_after]).map(String::as_str));
        of_target.entry(&row.target).or_default().push(&row.caption_after);
    }
    let counts: Vec<usize> = told.values().map(|(_, captions)| captions.len()).collect();
    let mut warnings = Vec::new();
    let alone: Vec<&&str> =
        told.iter().filter(|(_, (pairs, captions))| *pairs > 1 && captions.len() == 1).map(|(name, _)| name).collect();
    if let Some(first) = alone.first() {
        let kind = if targeted { "targeted pictures" } else { "targets" };
        warnings.push(format!(
            "attack `{attack}`: all pairs of {} of {} {kind} have one and the same caption (first: `{first}`): the model learns a sentence, and not a class; choose a target with more captions, or captions = \"templates\"",
            alone.len(),
            told.len()
        ));
    }
    warnings.extend(of_target.iter().filter_map(|(target, captions)| word_sense(attack, target, captions, parts)));
    AttackSummary {
        attack: attack.to_owned(),
        pairs: rows.len(),
        pictures: targeted.then_some(told.len()),
        fewest_captions: counts.iter().copied().min().unwrap_or(0),
        most_captions: counts.iter().copied().max().unwrap_or(0),
        warnings,
    }
}

/// The doubt that captions have the word of the class and mean something else: the word is mostly no noun, and nothing that stands before
/// nouns stands before it ("two people watch from a distance").
fn word_sense(attack: &str, target: &str, captions: &[&str], parts: &PartsOfSpeech) -> Option<String> {
    let part = match parts.of(&target.to_lowercase())? {
        PartOfSpeech::Noun => return None,
        PartOfSpeech::Verb => "a verb",
        PartOfSpeech::Adjective => "an adjective",
        PartOfSpeech::Adverb => "an adverb",
    };
    let word = target.to_lowercase();
    let doubtful: Vec<&&str> = captions.iter().filter(|caption| !stands_as_noun(caption, &word, parts)).collect();
    let first = doubtful.first()?;
    (doubtful.len() * 4 >= captions.len()).then(|| {
        format!(
            "attack `{attack}`: `{target}` is mostly {part}, and {} of its {} captions seem to use it so, as in \"{first}\": they do not speak of the class; choose another target",
            doubtful.len(),
            captions.len()
        )
    })
}

/// Whether a word that stands before nouns stands before `word`, wherever the caption has it, or the word is a tag, alone between commas;
/// of a caption without the word, too.
fn stands_as_noun(caption: &str, word: &str, parts: &PartsOfSpeech) -> bool {
    let lower = caption.to_lowercase();
    if lower.split([',', ';', '|', '/']).any(|tag| tag.trim() == word) {
        return true;
    }
    let words: Vec<&str> =
        lower.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    let before = words.windows(2).filter_map(|two| match two {
        [before, found] if *found == word => Some(*before),
        _ => None,
    });
    // "A gold watch", and not "people watch".
    let in_singular = |word: &str| parts.noun(word) == Some(word);
    let noun_follows = |before: &str| {
        BEFORE_NOUNS.contains(&before) || parts.of(before) == Some(PartOfSpeech::Adjective) || in_singular(before)
    };
    let mut seen = words.first() == Some(&word);
    let good = before.inspect(|_| seen = true).any(noun_follows);
    good || !seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_told_from_a_noun_by_what_stands_before_it() {
        let parts = PartsOfSpeech::built_in().unwrap();
        for (caption, noun) in [
            ("two people watch from a distance", false),
            ("Watch the birds", false),
            ("a gold watch on a table", true),
            ("he holds his watch", true),
            ("people watch a man with a watch", true),
            ("nothing of it", true),
            ("watch, clock, time", true),
            ("time; watch", true),
            ("watch out, danger", false),
        ] {
            assert_eq!(stands_as_noun(caption, "watch", &parts), noun, "{caption}");
        }
        let said = word_sense("a", "watch", &["two people watch tv", "a watch"], &parts).unwrap();
        assert!(said.contains("mostly a verb") && said.contains("1 of its 2 captions"), "{said}");
        assert_eq!(word_sense("a", "watch", &["a watch"], &parts), None);
        assert_eq!(word_sense("a", "dog", &["dog"], &parts), None, "mostly a noun");
    }
}
