//! What is wrong with an evaluation though it can be made: a person should read it before the numbers.

use roclip_data::sample::Sample;
use roclip_data::source::SourceConfig;
use std::collections::BTreeMap;

/// The built-in data set.
const BUILT_IN: &str = "emoji";
/// Names shown of a list.
const SHOWN: usize = 3;

/// Class names that are codes (WordNet ids, numbers, `class_12`): a prompt of one says nothing.
pub(super) fn codes(classes: &[String]) -> Option<String> {
    let codes: Vec<&str> = classes.iter().map(String::as_str).filter(|name| is_code(name)).collect();
    if codes.is_empty() || codes.len() * 2 < classes.len() {
        return None;
    }
    let first: Vec<String> = codes.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let remedy = match codes.iter().any(|name| is_wnid(name)) {
        true => {
            "these are WordNet ids (wnids): set eval.classes = \"imagenet-1k\" for ImageNet's names, or eval.source.labels"
        }
        false => "set eval.classes to the list of names, in the order of the numbers, or eval.source.labels",
    };
    Some(format!(
        "{} of {} class names are codes or numbers ({}), and prompts like \"a photo of a {}\" mean nothing to a model; {remedy}",
        codes.len(),
        classes.len(),
        first.join(", "),
        codes.first().unwrap_or(&"")
    ))
}

/// `n` and the eight digits of a WordNet 3.0 noun.
pub(super) fn is_wnid(name: &str) -> bool {
    name.strip_prefix('n').is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_code(name: &str) -> bool {
    let lower = name.to_lowercase();
    let rest =
        ["class", "label", "cls", "category", "id"].iter().find_map(|word| lower.strip_prefix(word)).unwrap_or(&lower);
    let digits = rest.trim_start_matches([' ', '_', '-', '#']);
    is_wnid(name) || (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A model that is trained on own data and measured on the built-in pictures.
pub fn foreign(training: &SourceConfig, evaluation: &SourceConfig) -> Option<String> {
    let own = !training.path.split("::").any(|part| part == BUILT_IN);
    (own && evaluation.path == BUILT_IN).then(|| {
        format!(
            "accuracy will be measured on the built-in emoji, not on data like `{}`; name labelled images with --val-data (eval.source)",
            training.path
        )
    })
}

/// Samples of several splits where none was chosen. `key` is the place of the source in the recipe.
pub fn splits(samples: &[Sample], source: &SourceConfig, key: &str) -> Option<String> {
    if source.split.is_some() {
        return None;
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for split in samples.iter().filter_map(|sample| sample.split.as_deref()) {
        *counts.entry(split).or_default() += 1;
    }
    let (first, _) = counts.first_key_value().filter(|_| counts.len() > 1)?;
    let named: Vec<String> = counts.iter().take(SHOWN).map(|(split, count)| format!("`{split}` ({count})")).collect();
    Some(format!(
        "`{}` has the splits {}, and all of them are read; choose one with --set {key}.split={first}",
        source.path,
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<String> {
        codes(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn codes_are_told_from_names() {
        assert!(of(&["n01440764", "n01443537"]).unwrap().contains("imagenet-1k"));
        for names in [["0", "1"], ["007", "12"], ["class_1", "class_2"], ["label 3", "Label 4"], ["cls-1", "ID7"]] {
            assert!(of(&names).unwrap().contains("in the order of the numbers"), "{names:?}");
        }
        assert!(of(&["cat", "dog", "7"]).is_none(), "one number among names may be a name");
        assert!(of(&["n0144", "night", "class", "boeing 747", "id card"]).is_none());
    }

    #[test]
    fn own_data_measured_on_emoji_is_said() {
        let source = |path: &str| SourceConfig { path: path.into(), ..SourceConfig::default() };
        assert!(foreign(&source("mine.csv"), &source("emoji")).unwrap().contains("built-in emoji"));
        assert!(foreign(&source("emoji"), &source("emoji")).is_none());
        assert!(foreign(&source("emoji::mine.csv"), &source("emoji")).is_none());
        assert!(foreign(&source("mine.csv"), &source("test.csv")).is_none());
    }
}
