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
    /// The keys that `other` has other values of, in the order of the recipe. Of a section that only one of them has, every key is named.
    pub fn differences(&self, other: &Recipe) -> Result<Vec<Difference>> {
        // By way of text, in which numbers are as short as they were written.
        let table = |recipe: &Recipe| -> Result<Value> {
            let table: Table =
                toml::from_str(&recipe.to_toml()?).map_err(|e| Error::internal(format!("recipe: {e}")))?;
            Ok(Value::Table(table))
        };
        let mut found = Vec::new();
        compare(String::new(), Some(&table(self)?), Some(&table(other)?), &mut found);
        let order = Section::of_recipe().all_keys();
        found.sort_by_key(|difference| order.iter().position(|key| *key == difference.key).unwrap_or(usize::MAX));
        Ok(found)
    }
}

fn compare(key: String, ours: Option<&Value>, theirs: Option<&Value>, found: &mut Vec<Difference>) {
    let tables = [ours, theirs].map(|value| value.and_then(Value::as_table));
    let sections = match (ours, theirs) {
        (Some(Value::Table(_)), Some(Value::Table(_))) => true,
        // An empty section differs from none, and has no key to say it by.
        (Some(Value::Table(one)), None) | (None, Some(Value::Table(one))) => !one.is_empty(),
        _ => false,
    };
    if sections {
        let names: BTreeSet<&String> = tables.into_iter().flatten().flat_map(Table::keys).collect();
        for name in names {
            let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let [ours, theirs] = tables.map(|table| table.and_then(|table| table.get(name)));
            compare(inner, ours, theirs, found);
        }
    } else if ours != theirs {
        found.push(Difference { key, ours: ours.map(written), theirs: theirs.map(written) });
    }
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
        let text = found.iter().find(|difference| difference.key == "augment.text.refresh").unwrap();
        assert!(text.ours.is_none() && text.theirs.is_some());
        assert!(recipe.differences(&recipe).unwrap().is_empty());
    }
}
