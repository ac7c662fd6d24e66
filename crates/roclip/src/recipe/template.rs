//! A recipe as a commented TOML file: every key with its help, and what the recipe does not set as comments that can be taken out.

use crate::error::{Error, Result};
use crate::eval::NO_IMAGES;
use crate::recipe::reference::{Key, Kind, Section, first_sentence, written};
use crate::recipe::{ObjectiveName, Recipe};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// What is said of single keys in one template, by dotted key.
pub type Notes = BTreeMap<String, String>;

/// How much of a recipe a template shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every key there is.
    All,
    /// What can matter to this recipe: no settings of a source, an objective or a measurement that it does not have.
    InUse,
}

/// Columns of a line of prose.
const COLUMNS: usize = 110;

const INTRODUCTION: &str = "Lines with ## explain. Lines with # are settings that are off, with an example value: remove \"# \" to set them, \
and to use a section that is off, remove it once from every line of the section (`# # key` is a key that stays off). Keys that are left out have their defaults. \
`roclip recipe --markdown` prints all this as a page.";

const LEFT_OUT: &str =
    "Left out: keys that cannot matter to these data and this objective. `roclip recipe` prints all keys.";
const OTHER_TRIGGERS: &str =
    "Further triggers (blended, sig, wanet, triangles, patch): docs/attacks.md, and `roclip recipe` for their keys.";

/// Sections that stand in a template in use only where the recipe has them.
const ONLY_IF_SET: [&str; 6] =
    ["eval.class_captions", "eval.retrieval", "eval.probe.data", "clean", "caption", "prompt"];
/// What is said of a source that is a list of pictures begins so.
const OF_LISTS: &str = "Lists: ";
const LISTS: [&str; 6] = [".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"];

/// Keys of an attack's example that are set in it; its other keys are shown as comments.
const OF_TARGETED: &[&str] = &["name"];
const OF_BACKDOORS: &[&str] = &["name", "target", "rate", "captions"];

impl Recipe {
    /// The recipe as TOML with a line of help for every key, and `notes` beside it. It parses to this recipe.
    pub fn template(&self, notes: &Notes) -> Result<String> {
        self.template_with(notes, &BTreeMap::new(), Scope::All)
    }

    /// [`Recipe::template`] of what is in `scope`, with `examples` as the values of keys that are off, by dotted key.
    pub fn template_with(&self, notes: &Notes, examples: &BTreeMap<String, Value>, scope: Scope) -> Result<String> {
        // By way of text, in which numbers are as short as they were written.
        let table: Table =
            toml::from_str(&self.to_toml()?).map_err(|e| Error::internal(format!("the recipe's own TOML: {e}")))?;
        let mut writer =
            Writer { text: String::new(), notes, examples, recipe: self, scope, explained: BTreeMap::new() };
        writer.prose(INTRODUCTION);
        if scope == Scope::InUse {
            writer.prose(LEFT_OUT);
        }
        writer.text.push('\n');
        writer.section(Section::of_recipe(), Some(&table), "");
        Ok(writer.text)
    }
}

struct Writer<'a> {
    text: String,
    notes: &'a Notes,
    examples: &'a BTreeMap<String, Value>,
    recipe: &'a Recipe,
    scope: Scope,
    /// By the names of a section's keys, the first section that has them: help is given there.
    explained: BTreeMap<String, String>,
}

impl Writer<'_> {
    /// Writes a section, or what it would be where the recipe has no `values` of it. `off` stands before every line of what is off.
    fn section(&mut self, section: &Section, values: Option<&Table>, off: &str) {
        let off = if values.is_none() && section.optional { format!("{off}# ") } else { off.to_owned() };
        let known = self.explained_by(section);
        if !section.key.is_empty() {
            self.text.push('\n');
            self.prose(&section.help);
            if let Some(known) = &known {
                self.prose(&format!("Its keys are those of {known}."));
            }
            self.line(&off, &section.header());
        }
        // A source that is off and explained elsewhere is shown by what every one has: its path and its split.
        let shown = if known.is_some() && values.is_none() { 2 } else { usize::MAX };
        for key in section.keys.iter().take(shown) {
            let value = values.map_or(key.default.as_ref(), |values| values.get(&key.name));
            if self.scope == Scope::InUse && value == key.default.as_ref() && is_of_lists_alone(key, values) {
                continue;
            }
            self.key(key, value, &off, known.is_none());
        }
        for inner in section.sections.iter().filter(|_| shown == usize::MAX) {
            let own = values.and_then(|values| values.get(inner.key.rsplit('.').find(|part| *part != "0")?));
            match own {
                _ if self.scope == Scope::InUse && is_needless(self.recipe, inner, own.is_some()) => {}
                _ if inner.listed => self.entries(inner, own.and_then(Value::as_array), &off),
                Some(Value::Table(own)) if is_idle(inner, values, own) => {}
                _ => self.section(inner, own.and_then(Value::as_table), &off),
            }
        }
    }

    /// The entries of a list, and an example of each kind of entry.
    fn entries(&mut self, entry: &Section, own: Option<&Vec<Value>>, off: &str) {
        self.text.push('\n');
        self.prose(&entry.help);
        for values in own.into_iter().flatten().filter_map(Value::as_table) {
            self.line(off, &entry.header());
            let ordered = entry.keys.iter().map(|key| key.name.as_str());
            let names = ordered.chain(entry.sections.iter().filter_map(|inner| inner.key.rsplit('.').next()));
            for (name, value) in names.filter_map(|name| Some((name, values.get(name)?))) {
                self.line(off, &format!("{name} = {}", written(value)));
            }
            self.text.push('\n');
        }
        let off = format!("{off}# ");
        let mut explained = false;
        let shown = if self.scope == Scope::All { usize::MAX } else { 2 };
        for kind in entry.sections.iter().take(shown) {
            let name = kind.key.rsplit('.').next().unwrap_or_default();
            let targeted = name == "targeted";
            let set = if targeted { OF_TARGETED } else { OF_BACKDOORS };
            self.text.push('\n');
            self.prose(&kind.help);
            self.line(&off, &entry.header());
            for key in entry.keys.iter().filter(|key| !targeted || set.contains(&key.name.as_str())) {
                let named = Value::String(name.to_owned());
                let value = match key.name.as_str() {
                    "name" => Some(&named),
                    other if set.contains(&other) => {
                        self.examples.get(&key.key).or(key.default.as_ref()).or(key.example.as_ref())
                    }
                    _ => None,
                };
                self.key(key, value, &off, !targeted && !explained);
            }
            explained |= !targeted;
            self.line(&off, &kind.header());
            for key in &kind.keys {
                let example = self.examples.get(&key.key).or(key.default.as_ref());
                self.key(key, example.or(key.example.as_ref().filter(|_| key.required)), &off, true);
            }
        }
        if shown < entry.sections.len() {
            self.text.push('\n');
            self.prose(OTHER_TRIGGERS);
        }
    }

    fn key(&mut self, key: &Key, value: Option<&Value>, off: &str, explain: bool) {
        if explain {
            self.prose(first_sentence(&key.help));
            if let Kind::Choice(choices) = &key.kind {
                for choice in choices {
                    self.prose(&format!("- \"{}\": {}", choice.word, first_sentence(&choice.help)));
                }
            }
        }
        if let Some(note) = self.notes.get(&key.key) {
            self.prose(note);
        }
        match (value, &key.example) {
            (Some(value), _) => self.line(off, &format!("{} = {}", key.name, written(value))),
            (None, Some(example)) => self.line(off, &format!("# {} = {}", key.name, written(example))),
            (None, None) => {}
        }
    }

    /// The header of the section that has explained the keys of this one; this one does from now on where there is none.
    fn explained_by(&mut self, section: &Section) -> Option<String> {
        let names: Vec<&str> = section.keys.iter().map(|key| key.name.as_str()).collect();
        let known = self.explained.get(&names.join(" ")).cloned();
        if known.is_none() && !names.is_empty() {
            self.explained.insert(names.join(" "), section.header());
        }
        known
    }

    fn line(&mut self, off: &str, line: &str) {
        self.text += &format!("{off}{line}\n");
    }

    fn prose(&mut self, text: &str) {
        let mut before = "## ";
        for line in wrapped(text, COLUMNS) {
            self.text += &format!("{before}{line}\n");
            before = if text.starts_with("- ") { "##   " } else { "## " };
        }
    }
}

/// Whether a section cannot matter to `recipe`, which has a table of it where it is `set`.
fn is_needless(recipe: &Recipe, section: &Section, set: bool) -> bool {
    match section.key.as_str() {
        "objective.roclip" => recipe.objective.name != ObjectiveName::Roclip,
        "objective.safeclip" => recipe.objective.name != ObjectiveName::Safeclip,
        "objective.distil" => recipe.objective.name != ObjectiveName::Distil,
        "eval.probe" => !set && recipe.eval.source.path == NO_IMAGES,
        key => !set && ONLY_IF_SET.contains(&key),
    }
}

/// Whether a key of a source says how a list is read, where the source is none.
fn is_of_lists_alone(key: &Key, source: Option<&Table>) -> bool {
    let path = source.and_then(|values| values.get("path")).and_then(Value::as_str).unwrap_or_default();
    let is_list = path.split("::").any(|part| LISTS.iter().any(|ending| part.to_lowercase().ends_with(ending)));
    key.help.starts_with(OF_LISTS) && !is_list
}

/// Whether a section says nothing in this recipe: the built-in set's, where another source is read.
fn is_idle(section: &Section, beside: Option<&Table>, own: &Table) -> bool {
    let path = beside.and_then(|values| values.get("path")).and_then(Value::as_str);
    let default = |key: &Key| own.get(&key.name) == key.default.as_ref();
    section.key.ends_with(".emoji")
        && path.is_some_and(|path| path.split("::").all(|part| part != "emoji"))
        && section.keys.iter().all(default)
}

/// The words of `text` in lines of at most `columns` characters, where no word is longer.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one `# ` from the lines that `of` picks.
    fn switched_on(text: &str, of: impl Fn(usize) -> bool) -> String {
        let line = |(at, line): (usize, &str)| match line.strip_prefix("# ") {
            Some(rest) if of(at) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().enumerate().map(line).collect()
    }

    fn preset(name: &str) -> Recipe {
        let mut recipe = Recipe::default();
        recipe.apply_preset(name).unwrap();
        recipe
    }

    #[test]
    fn a_template_is_its_recipe() {
        let attacks = "poison.attacks=[{name='a',target='b',badnets={patch_pixels=3},rate=0.1},{name='t',targeted={}}]";
        let full = [
            "data.source.path=pairs.csv",
            "eval.probe={}",
            attacks,
            "clean={}",
            "augment.text={}",
            "train.warmup_fraction=0.0001",
        ];
        let full = full.iter().fold(Recipe::default(), |recipe, one| recipe.assign(one).unwrap());
        let presets = Recipe::PRESETS.map(preset);
        for recipe in presets.into_iter().chain([full]) {
            let text = recipe.template(&Notes::new()).unwrap();
            assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe, "{text}");
            assert!(text.lines().all(|line| !line.starts_with("##") || line.chars().count() <= COLUMNS + 5));
        }
    }

    #[test]
    fn what_is_off_parses_when_it_is_switched_on() {
        let text = Recipe::default().template(&Notes::new()).unwrap();
        let all = switched_on(&text, |_| true);
        let recipe: Recipe = toml::from_str(&all).unwrap_or_else(|e| panic!("{e}\n{all}"));
        assert_eq!(recipe.poison.attacks.len(), 11, "targeted, and one for each trigger");
        assert!(recipe.clean.is_some() && recipe.eval.retrieval.is_some() && recipe.augment.image.is_some());
        recipe.poison.check().unwrap();
        // What is off within a section that was off.
        let deeper = switched_on(&all, |_| true);
        let recipe: Recipe = toml::from_str(&deeper).unwrap_or_else(|e| panic!("{e}\n{deeper}"));
        assert!(recipe.clean.unwrap().rebound.is_some());
        // Keys of sections that are there, one at a time.
        let mut header = String::new();
        let mut alone = 0;
        for (at, line) in text.lines().enumerate() {
            if line.starts_with('[') || line.starts_with("# [") {
                header = line.to_owned();
            } else if line.starts_with("# ") && header.starts_with('[') {
                alone += 1;
                let recipe = switched_on(&text, |other| other == at);
                let recipe: Recipe = toml::from_str(&recipe).unwrap_or_else(|e| panic!("{line}: {e}"));
                assert_ne!(recipe, Recipe::default(), "{line}");
            }
        }
        assert!(alone > 15, "{alone}");
    }

    #[test]
    fn a_template_in_use_is_its_recipe_without_what_cannot_matter() {
        let own = Recipe::default().assign("data.source.path=photos").unwrap().assign("objective.name=roclip").unwrap();
        let list = own.assign("data.source.path=pairs.csv").unwrap();
        let examples = BTreeMap::from([("poison.attacks.0.target".to_owned(), Value::String("kite".into()))]);
        let [own_text, list_text] = [&own, &list].map(|recipe| {
            let text = recipe.template_with(&Notes::new(), &examples, Scope::InUse).unwrap();
            assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), *recipe, "{text}");
            text
        });
        for needless in ["[data.source.emoji]", "[objective.safeclip]", "[clean]", "wanet]", "target = \"pizza\""] {
            assert!(!own_text.contains(needless), "{needless}: {own_text}");
        }
        assert!(own_text.contains("# target = \"kite\"") && own_text.contains("`roclip recipe` prints all keys"));
        assert!(!own_text.contains("image_column") && list_text.contains("# image_column"), "{own_text}");
        let all = own.template(&Notes::new()).unwrap();
        assert!(own_text.lines().count() * 3 < all.lines().count() * 2, "{}", own_text.lines().count());
    }

    #[test]
    fn notes_stand_beside_their_keys() {
        let notes = Notes::from([("train.epochs".to_owned(), "20 passes fit 6,000 pairs.".to_owned())]);
        let text = Recipe::default().template(&notes).unwrap();
        assert!(text.contains("## Passes over the pairs.\n## 20 passes fit 6,000 pairs.\nepochs = 32\n"), "{text}");
    }
}
