//! Where two recipes differ.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
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
    /// The keys that `other` has other values of, in the order of the recipe.
    pub fn differences(&self, other: &Recipe) -> Result<Vec<Difference>> {
        let table = |recipe: &Recipe| {
            Table::try_from(recipe).map(Value::Table).map_err(|e| Error::internal(format!("recipe: {e}")))
        };
        let mut found = Vec::new();
        compare(String::new(), Some(&table(self)?), Some(&table(other)?), &mut found);
        Ok(found)
    }
}

fn compare(key: String, ours: Option<&Value>, theirs: Option<&Value>, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Some(Value::Table(ours)), Some(Value::Table(theirs))) => {
            let names: Vec<&String> =
                ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))).collect();
            for name in names {
                let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(inner, ours.get(name), theirs.get(name), found);
            }
        }
        (ours, theirs) if ours == theirs => {}
        (ours, theirs) => {
            let text = |value: &Value| value.to_string();
            found.push(Difference { key, ours: ours.map(text), theirs: theirs.map(text) });
        }
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
        let text = found.iter().find(|difference| difference.key == "augment.text").unwrap();
        assert!(text.ours.is_none() && text.theirs.is_some());
        assert!(recipe.differences(&recipe).unwrap().is_empty());
    }
}
