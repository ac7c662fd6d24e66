//! What every key of a recipe means: names, defaults and help, read off the documentation of the settings themselves. Templates, `--help`
//! and docs/recipes.md are made from it.

use crate::recipe::Recipe;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;
use std::sync::OnceLock;
use toml::{Table, Value};

/// A section of a recipe: a TOML table.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Dotted, as `--set` takes it; empty for the recipe itself. An entry of a list has the number 0.
    pub key: String,
    pub help: String,
    /// It may be absent, and then what it describes is off.
    pub optional: bool,
    /// It is an entry of a list, as in `[[poison.attacks]]`.
    pub listed: bool,
    pub keys: Vec<Key>,
    pub sections: Vec<Section>,
}

/// A key with a value of its own.
#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    /// Dotted, as `--set` takes it.
    pub key: String,
    pub help: String,
    pub kind: Kind,
    /// It must be given where its section is.
    pub required: bool,
    /// None where it may be absent, and is.
    pub default: Option<Value>,
    /// What a key without a default could be.
    pub example: Option<Value>,
}

/// What the value of a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Text,
    WholeNumber,
    Number,
    Flag,
    List,
    Choice(Vec<Choice>),
}

/// A word that a key may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub word: String,
    pub help: String,
}

impl Section {
    /// Every section of a recipe and every key.
    pub fn of_recipe() -> &'static Section {
        static ALL: OnceLock<Section> = OnceLock::new();
        ALL.get_or_init(|| {
            let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
            let schema = settings.into_generator().into_root_schema_for::<Recipe>().to_value();
            let mut root = read_section("", &schema);
            let defaults = filled(&root).unwrap_or_default();
            root.set_defaults(&Value::Table(defaults));
            root
        })
    }

    /// The name of the section as a TOML header has it: without the numbers of list entries.
    pub fn header(&self) -> String {
        let parts: Vec<&str> = self.key.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
        let name = parts.join(".");
        if self.listed { format!("[[{name}]]") } else { format!("[{name}]") }
    }

    /// The key with this dotted name.
    pub fn find(&self, key: &str) -> Option<&Key> {
        let own = self.keys.iter().find(|own| own.key == key);
        own.or_else(|| self.sections.iter().find_map(|section| section.find(key)))
    }

    /// All dotted keys, in the order of the settings.
    pub fn all_keys(&self) -> Vec<&str> {
        let own = self.keys.iter().map(|key| key.key.as_str());
        own.chain(self.sections.iter().flat_map(Section::all_keys)).collect()
    }

    /// The section with this dotted name.
    pub fn find_section(&self, key: &str) -> Option<&Section> {
        let own = self.sections.iter().find(|own| own.key == key);
        own.or_else(|| self.sections.iter().find_map(|section| section.find_section(key)))
    }

    fn set_defaults(&mut self, filled: &Value) {
        let at = |key: &str| {
            let mut parts = key.split('.').filter(|part| !part.is_empty());
            parts.try_fold(filled, |value, part| match value {
                Value::Table(table) => table.get(part),
                Value::Array(entries) => entries.get(part.parse::<usize>().ok()?),
                _ => None,
            })
        };
        for key in &mut self.keys {
            key.default = if key.required { None } else { at(&key.key).cloned() };
        }
        self.sections.iter_mut().for_each(|section| section.set_defaults(filled));
    }
}

impl Kind {
    /// As a page or a help text says it.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::WholeNumber => "whole number",
            Kind::Number => "number",
            Kind::Flag => "true or false",
            Kind::List => "list",
            Kind::Choice(_) => "one of",
        }
    }
}

/// The help of a command-line flag that sets the recipe key `key`: its first sentence, the key and the default. Of a source's path it says
/// whose source it is, too.
pub fn flag_help(key: &str) -> String {
    let root = Section::of_recipe();
    let Some(found) = root.find(key) else { return String::new() };
    let default = found.default.as_ref().map(|value| format!(", default {}", written(value))).unwrap_or_default();
    let of_source = key.strip_suffix(".path").and_then(|source| root.find_section(source));
    let whose = of_source.map(|source| format!("{}: ", bare(&source.help))).unwrap_or_default();
    format!("{whose}{} [recipe key: {key}{default}]", bare(&found.help))
}

/// [`flag_help`] of a key whose default no command takes: what is trained on must be named.
pub fn required_flag_help(key: &str) -> String {
    let help = flag_help(key);
    match help.rsplit_once(", default ") {
        Some((before, _)) => format!("{before}]"),
        None => help,
    }
}

/// The first sentence without its full stop.
fn bare(help: &str) -> &str {
    first_sentence(help).trim_end_matches('.')
}

/// The JSON schema of a recipe, for editors.
pub fn schema() -> Json {
    schemars::schema_for!(Recipe).to_value()
}

/// A value as a recipe has it; small numbers with an exponent.
pub fn written(value: &Value) -> String {
    match value {
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        other => other.to_string(),
    }
}

/// A text up to the end of its first sentence.
pub fn first_sentence(text: &str) -> &str {
    let ends = text.match_indices(". ").map(|(at, _)| at);
    let begins = |at: &usize| text.get(at + 2..).is_some_and(|rest| rest.starts_with(|c: char| !c.is_lowercase()));
    ends.into_iter().find(begins).and_then(|at| text.get(..=at)).unwrap_or(text)
}

fn text_of(schema: &Json) -> String {
    let text = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The schema of what is there where it is not absent, and whether it may be absent.
fn present(schema: &Json) -> (&Json, bool) {
    let is_null = |schema: &&Json| schema.get("type").is_some_and(|kind| kind == "null");
    match schema.get("anyOf").and_then(Json::as_array) {
        Some(either) => {
            (either.iter().find(|one| !is_null(one)).unwrap_or(schema), either.iter().any(|one| is_null(&one)))
        }
        None => {
            let kinds = schema.get("type").and_then(Json::as_array);
            (schema, kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "null")))
        }
    }
}

fn read_section(key: &str, schema: &Json) -> Section {
    let mut section = Section { key: key.to_owned(), help: text_of(schema), ..Section::default() };
    let required = |name: &str| {
        let names = schema.get("required").and_then(Json::as_array);
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let (kind, optional) = present(property);
        let described = Some(text_of(property)).filter(|help| !help.is_empty());
        let help = described.unwrap_or_else(|| text_of(kind));
        let entry = kind.get("items").filter(|entry| entry.get("properties").is_some());
        if kind.get("properties").is_some() {
            section.sections.push(Section { help, optional, ..read_section(&inner, kind) });
        } else if let Some(entry) = entry {
            let listed = read_section(&format!("{inner}.0"), entry);
            section.sections.push(Section { help, listed: true, ..listed });
        } else {
            let examples = property.get("examples").or_else(|| kind.get("examples"));
            let example = examples.and_then(|examples| Value::try_from(examples.get(0)?).ok());
            let (required, kind) = (required(name), read_kind(kind));
            section.keys.push(Key { name: name.clone(), key: inner, help, kind, required, default: None, example });
        }
    }
    section
}

fn read_kind(schema: &Json) -> Kind {
    if let Some(choices) = schema.get("oneOf").and_then(Json::as_array) {
        let choice = |one: &Json| Some(Choice { word: one.get("const")?.as_str()?.to_owned(), help: text_of(one) });
        return Kind::Choice(choices.iter().filter_map(choice).collect());
    }
    let kind = schema.get("type");
    let is = |word: &str| {
        kind.is_some_and(|kind| kind == word || kind.as_array().is_some_and(|all| all.iter().any(|one| one == word)))
    };
    match () {
        () if is("boolean") => Kind::Flag,
        () if is("integer") => Kind::WholeNumber,
        () if is("number") => Kind::Number,
        () if is("array") => Kind::List,
        () => Kind::Text,
    }
}

/// The default recipe with every optional section in it, and an entry for each kind of attack.
fn filled(root: &Section) -> Option<Table> {
    let recipe: Recipe = empty_sections(root).try_into().ok()?;
    toml::from_str(&recipe.to_toml().ok()?).ok()
}

/// Tables for all sections, with nothing in them but what must be there.
fn empty_sections(section: &Section) -> Table {
    let example = |key: &Key| Some((key.name.clone(), key.example.clone()?));
    let mut table: Table = section.keys.iter().filter(|key| key.required).filter_map(example).collect();
    for inner in &section.sections {
        let parts: Vec<&str> = inner.key.rsplit('.').collect();
        match (inner.listed, parts.as_slice()) {
            // An entry may have several sections that no real one has together: nothing is checked here.
            (true, [_, name, ..]) => table.insert((*name).to_owned(), Value::Array(vec![empty_sections(inner).into()])),
            (false, [name, ..]) => table.insert((*name).to_owned(), empty_sections(inner).into()),
            _ => None,
        };
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<'a>(section: &'a Section, found: &mut Vec<(&'a Section, &'a Key)>) {
        found.extend(section.keys.iter().map(|key| (section, key)));
        section.sections.iter().for_each(|inner| all(inner, found));
    }

    #[test]
    fn every_key_has_help_and_a_default_or_an_example() {
        let mut keys = Vec::new();
        all(Section::of_recipe(), &mut keys);
        assert!(keys.len() > 200, "{}", keys.len());
        for (section, key) in keys {
            let name = &key.key;
            assert!(!section.help.is_empty(), "{}", section.key);
            let sentence = first_sentence(&key.help);
            assert!(sentence.ends_with('.') && sentence.len() > 5 && !sentence.contains("[`"), "{name}: {sentence}");
            assert!(key.default.is_some() || key.example.is_some(), "{name} has neither a default nor an example");
            if let Kind::Choice(choices) = &key.kind {
                assert!(choices.len() > 1 && choices.iter().all(|choice| choice.help.ends_with('.')), "{name}");
            }
        }
    }

    #[test]
    fn keys_are_in_the_order_of_the_settings_with_their_defaults() {
        let root = Section::of_recipe();
        let names: Vec<&str> = root.sections.iter().map(|section| section.key.as_str()).collect();
        let sections =
            ["data", "model", "augment", "objective", "train", "eval", "poison", "clean", "caption", "prompt"];
        assert_eq!(names, sections);
        let find = |key: &str| root.find(key).unwrap();
        assert_eq!(written(find("train.learning_rate").default.as_ref().unwrap()), "5e-4");
        assert_eq!(find("augment.image.crop_min_area").default, Some(Value::Float(0.08)));
        assert_eq!(find("poison.attacks.0.badnets.patch_pixels").default, Some(Value::Integer(16)));
        assert_eq!(find("clean.rebound.pairs").default, Some(Value::Integer(10_000)));
        assert_eq!(find("train.warmup_steps").default, None);
        let Kind::Choice(modes) = &find("data.captions").kind else { panic!() };
        assert_eq!(modes.iter().map(|mode| mode.word.as_str()).collect::<Vec<_>>(), ["expand", "draw", "first"]);
        assert_eq!(
            flag_help("seed"),
            "One seed for everything; every purpose draws from its own stream [recipe key: seed, default 0]"
        );
    }

    #[test]
    fn sentences_end_before_the_next_capital() {
        assert_eq!(first_sentence("One, e. g. two. Three."), "One, e. g. two.");
        assert_eq!(first_sentence("One."), "One.");
    }
}
