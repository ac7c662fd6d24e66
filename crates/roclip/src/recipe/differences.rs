//! Where two recipes differ.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::recipe::reference::{Section, written};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// One key that two recipes have other values of.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Dotted, as `--set` takes it.
    pub key: String,
    /// As TOML; none where the recipe lacks the key.
    pub ours: Option<String>,
    pub theirs: Option<String>,
}

impl Recipe {
    /// The keys that `other` has other values of, in the order of the recipe. A section that only one of them has is one difference.
    pub fn differences(&self, other: &Recipe) -> Result<Vec<Difference>> {
        self.compared(other, true)
    }

    /// [`Recipe::differences`] with every key of a section that only one of the recipes has.
    pub fn differing_keys(&self, other: &Recipe) -> Result<Vec<Difference>> {
        self.compared(other, false)
    }

    fn compared(&self, other: &Recipe, whole_sections: bool) -> Result<Vec<Difference>> {
        // By way of text, in which numbers are as short as they were written.
        let table = |recipe: &Recipe| -> Result<Value> {
            let table: Table =
                toml::from_str(&recipe.to_toml()?).map_err(|e| Error::internal(format!("recipe: {e}")))?;
            Ok(Value::Table(table))
        };
        let mut found = Vec::new();
        compare(String::new(), [Some(&table(self)?), Some(&table(other)?)], whole_sections, &mut found);
        let order = Section::of_recipe().all_keys();
        let place = |difference: &Difference| {
            let within = format!("{}.", difference.key);
            // Entries of a list, numbered here, stay together.
            let listed = difference.key.split_once(".attacks.").map(|(list, _)| format!("{list}.attacks."));
            order.iter().position(|key| {
                *key == difference.key
                    || key.starts_with(&within)
                    || listed.as_ref().is_some_and(|listed| key.starts_with(listed))
            })
        };
        found.sort_by_key(|difference| place(difference).unwrap_or(usize::MAX));
        Ok(found)
    }
}

fn compare(key: String, values: [Option<&Value>; 2], whole_sections: bool, found: &mut Vec<Difference>) {
    let tables = values.map(|value| value.and_then(Value::as_table));
    let sections = match (values, tables) {
        (_, [Some(_), Some(_)]) => true,
        // An empty section differs from none, and has no key to say it by.
        ([_, None], [Some(one), _]) | ([None, _], [_, Some(one)]) => !whole_sections && !one.is_empty(),
        _ => false,
    };
    if sections {
        let names: BTreeSet<&String> = tables.into_iter().flatten().flat_map(Table::keys).collect();
        for name in names {
            let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let values = tables.map(|table| table.and_then(|table| table.get(name)));
            compare(inner, values, whole_sections, found);
        }
    } else if !whole_sections && values.into_iter().flatten().any(is_list_of_sections) {
        let entries = values.map(|value| value.and_then(Value::as_array));
        for at in 0..entries.into_iter().flatten().map(Vec::len).max().unwrap_or(0) {
            compare(format!("{key}.{at}"), entries.map(|all| all.and_then(|all| all.get(at))), whole_sections, found);
        }
    } else if let [ours, theirs] = values
        && ours != theirs
    {
        let [ours, theirs] = [ours, theirs].map(|value| value.map(written));
        found.push(Difference { key, ours, theirs });
    }
}

fn is_list_of_sections(value: &Value) -> bool {
    value.as_array().is_some_and(|entries| entries.iter().any(Value::is_table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_keys_are_named_with_both_values() {
        let recipe = Recipe::default();
        let other = recipe.assign("train.batch_size=32").unwrap().assign("augment.text={}").unwrap();
        let found = recipe.differences(&other).unwrap();
        let keys: Vec<&str> = found.iter().map(|difference| difference.key.as_str()).collect();
        assert_eq!(keys.len(), 2, "{keys:?}");
        let batch = found.iter().find(|difference| difference.key == "train.batch_size").unwrap();
        assert_eq!((batch.ours.as_deref(), batch.theirs.as_deref()), (Some("512"), Some("32")));
        let text = found.iter().find(|difference| difference.key == "augment.text").unwrap();
        assert!(text.ours.is_none() && text.theirs.is_some());
        let keys = recipe.differing_keys(&other).unwrap();
        assert!(keys.iter().any(|difference| difference.key == "augment.text.refresh"), "{keys:?}");
        assert!(recipe.differences(&recipe).unwrap().is_empty());
    }
}
