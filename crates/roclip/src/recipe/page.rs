//! docs/recipes.md: every key of a recipe in tables, one a section.

use crate::recipe::Recipe;
use crate::recipe::reference::{Key, Kind, Section, written};
use std::collections::BTreeMap;

const INTRODUCTION: &str = "# Recipes

A recipe is a TOML file that says everything about a run. `roclip recipe > mine.toml` prints one with these explanations,
`roclip recipe --preset roclip --diff` what a preset changes, `roclip recipe --schema` a JSON schema for editors, and
`roclip init --train-data DATA` writes one that fits your data. Unknown keys are errors. Any key can be set for one run by
`--set KEY=VALUE`. This page is `roclip recipe --markdown`; a test compares them.

A key without a default may be left out, and its text says what happens then.
";

/// The page.
pub fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += &format!("\nPresets (`--preset`): {}.\n", Recipe::PRESETS.map(|name| format!("`{name}`")).join(", "));
    add(&mut text, Section::of_recipe(), &mut BTreeMap::new());
    text
}

/// Adds `section` and those in it. `known` has the first section of each set of keys.
fn add(text: &mut String, section: &Section, known: &mut BTreeMap<String, String>) {
    let name = if section.key.is_empty() { "The recipe itself".to_owned() } else { format!("`{}`", section.header()) };
    let names: String = section.keys.iter().map(|key| format!("{} ", key.name)).collect();
    let off = if section.optional && !section.key.is_empty() { " Off when the section is absent." } else { "" };
    if !section.key.is_empty() || !section.keys.is_empty() {
        *text += &format!("\n## {name}\n\n{}{off}\n", section.help);
    }
    match known.get(&names) {
        Some(first) => *text += &format!("\nIts keys are those of {first}.\n"),
        None if section.keys.is_empty() => {}
        None => {
            known.insert(names, name);
            *text += "\n| key | value | default | what it is |\n|---|---|---|---|\n";
            section.keys.iter().for_each(|key| *text += &row(key));
        }
    }
    let repeated = |inner: &&Section| {
        let names: String = inner.keys.iter().map(|key| format!("{} ", key.name)).collect();
        inner.key.ends_with(".emoji") && known.contains_key(&names)
    };
    let inner: Vec<&Section> = section.sections.iter().filter(|inner| !repeated(inner)).collect();
    inner.into_iter().for_each(|inner| add(text, inner, known));
}

fn row(key: &Key) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let default = key.default.as_ref().map(|value| format!("`{}`", written(value))).unwrap_or_default();
    let mut help = cell(&key.help);
    if let Kind::Choice(choices) = &key.kind {
        for choice in choices {
            help += &format!("<br>`\"{}\"`: {}", choice.word, cell(&choice.help));
        }
    }
    let kind = match (&key.default, &key.example) {
        (None, Some(example)) => format!("{}, as in `{}`", key.kind.word(), written(example)),
        _ => key.kind.word().to_owned(),
    };
    format!("| `{}` | {} | {} | {help} |\n", key.name, cell(&kind), cell(&default))
}
