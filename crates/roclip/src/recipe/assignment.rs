//! `KEY=VALUE` on top of a recipe, for every key that it has.

use crate::error::{Error, Result};
use crate::recipe::{Recipe, most, unknown_key};
use toml::{Table, Value};

/// No key of a recipe lies deeper.
const MOST_PARTS: usize = 32;

impl Recipe {
    /// The recipe with `assignment` made: a dotted key, as in `train.epochs=3` or `poison.attacks.0.rate=0.02` (entries of a list by number,
    /// from 0), and a TOML value, or bare text. No value takes the key out: its default is back, or the section is off (`augment.text=`).
    ///
    /// # Errors
    /// A key that the recipe does not have, or a value that it cannot have.
    pub fn assign(&self, assignment: &str) -> Result<Recipe> {
        let refuse = |what: String| {
            Error::setting(
                format!("`{assignment}`: {what}"),
                "give KEY=VALUE, as in train.epochs=3; `roclip recipe` prints all keys",
            )
        };
        let (key, text) = assignment.split_once('=').ok_or_else(|| refuse("there is no `=`".into()))?;
        let internal = |e: toml::ser::Error| Error::internal(format!("recipe: {e}"));
        let mut root = Value::Table(Table::try_from(self).map_err(internal)?);
        let mut parts: Vec<&str> = key.trim().split('.').collect();
        if parts.len() > MOST_PARTS {
            return Err(Error::setting("a key of --set has too many parts", "`roclip recipe` prints all keys"));
        }
        let last = parts.pop().unwrap_or_default();
        let mut section = &mut root;
        for part in parts {
            section = match section {
                Value::Table(table) => table.entry(part).or_insert_with(|| Value::Table(Table::new())),
                Value::Array(entries) => part
                    .parse()
                    .ok()
                    .and_then(|at: usize| entries.get_mut(at))
                    .ok_or_else(|| refuse(format!("the list has no entry {part}")))?,
                _ => return Err(refuse(format!("what `{part}` is sought in is not a section"))),
            };
        }
        let Value::Table(section) = section else {
            let whole = "an entry of a list is set whole or key by key, and not taken out";
            return Err(refuse(format!("what `{last}` is sought in is not a section ({whole})")));
        };
        match text.trim() {
            "" => section.remove(last),
            text => section.insert(last.to_owned(), value(text)),
        };
        root.try_into().map_err(|e: toml::de::Error| match is_beyond_any_file(text.trim()) {
            true => refuse(format!("{} may be a whole number up to {}", key.trim(), most(key.trim()))),
            false => refuse(unknown_key::explained(e.to_string().trim()).replace('\n', " ")),
        })
    }
}

/// Whether `text` is a whole number that no TOML file can hold.
fn is_beyond_any_file(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_err()
}

/// What is not TOML is text.
fn value(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::PlausibilityConfig;
    use crate::recipe::ObjectiveName;

    fn with(assignments: &[&str]) -> Recipe {
        assignments.iter().fold(Recipe::default(), |recipe, assignment| recipe.assign(assignment).unwrap())
    }

    #[test]
    fn any_key_can_be_set_and_taken_out() {
        let recipe = with(&[
            "train.learning_rate=1",
            "objective.name=safeclip",
            "objective.safeclip.plausibility.neighbours = 5",
            "clean.abd.patch_area=0.5",
            "model.weights=a.safetensors",
            "augment.text={}",
            "manifest=\"b=c.jsonl\"",
        ]);
        assert_eq!((recipe.train.learning_rate, recipe.objective.name), (1.0, ObjectiveName::Safeclip));
        let plausibility = PlausibilityConfig { neighbours: 5, ..PlausibilityConfig::default() };
        assert_eq!(recipe.objective.safeclip.plausibility, Some(plausibility));
        assert_eq!(recipe.clean.as_ref().unwrap().abd.patch_area, 0.5);
        assert!(recipe.augment.text.is_some());
        assert_eq!(recipe.manifest.as_ref().unwrap().to_str(), Some("b=c.jsonl"));
        let without = recipe.assign("augment.text=").unwrap().assign("train.learning_rate=").unwrap();
        assert_eq!((without.augment.text, without.train.learning_rate), (None, Recipe::default().train.learning_rate));
        assert_eq!(without.model.weights, recipe.model.weights);
    }

    #[test]
    fn entries_of_a_list_are_numbered() {
        let attack = "poison.attacks=[{ name = \"a\", target = \"pizza\", rate = 0.01, badnets = {} }]";
        let recipe = with(&[attack, "poison.attacks.0.rate=0.02"]);
        assert!(recipe.to_toml().unwrap().contains("rate = 0.02"));
        let error = recipe.assign("poison.attacks.1.rate=0.02").unwrap_err().to_string();
        assert!(error.contains("no entry 1"), "{error}");
    }

    #[test]
    fn what_the_recipe_does_not_have_is_named() {
        for (assignment, named) in [
            ("train.learning_rte=1", "learning_rte"),
            ("train.epochs=many", "many"),
            ("train.epochs", "no `=`"),
            ("train.epochs.more=1", "not a section"),
            ("seed.a.b=1", "not a section"),
            ("=1", "unknown field"),
        ] {
            let error = Recipe::default().assign(assignment).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(assignment), "{assignment}: {error}");
        }
    }
}
