//! Whether what goes on in a folder is what began there.

use crate::error::{Error, Result};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Compares `settings` with those that the file at `path` holds, which `what` began with.
///
/// # Errors
/// Names the first setting that differs, with both values.
pub(super) fn began_with<T: Serialize + DeserializeOwned + PartialEq>(
    path: &Path,
    what: &str,
    settings: &T,
) -> Result<()> {
    let there: T = artifact::read_json(path)?;
    if there == *settings {
        return Ok(());
    }
    let value = |of: &T| serde_json::to_value(of).map_err(|e| Error::internal(format!("settings as JSON: {e}")));
    let (key, there, here) = first_difference(&value(&there)?, &value(settings)?, "").unwrap_or_default();
    Err(Error::file(
        path,
        format!(
            "says that the {what} there began with other settings: `{key}` is {} there and {} here",
            for_terminal(&there),
            for_terminal(&here)
        ),
        "give the same ones, or name another folder with --run",
    ))
}

/// The key of the first value that differs, as in `tune.epochs`, and both values.
pub(super) fn first_difference(one: &Value, other: &Value, key: &str) -> Option<(String, String, String)> {
    let (Value::Object(fields), Value::Object(others)) = (one, other) else {
        return (one != other).then(|| (key.to_owned(), one.to_string(), other.to_string()));
    };
    let names = fields.keys().chain(others.keys().filter(|name| !fields.contains_key(*name)));
    names.into_iter().find_map(|name| {
        let of = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
        let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        first_difference(&of(fields), &of(others), &inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_setting_that_differs_is_named_with_both_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let there = json!({"seed": 0, "tune": {"epochs": 6, "rate": 0.5}, "data": {"path": "a"}});
        artifact::write_json(&path, &there).unwrap();
        began_with(&path, "study", &there).unwrap();
        let said = |settings: Value| began_with(&path, "study", &settings).unwrap_err().to_string();
        let longer = said(json!({"seed": 0, "tune": {"epochs": 3, "rate": 0.5}, "data": {"path": "a"}}));
        assert!(
            longer.contains("the study there") && longer.contains("`tune.epochs` is 6 there and 3 here"),
            "{longer}"
        );
        let other = said(json!({"seed": 0, "tune": {"epochs": 6, "rate": 0.5}, "data": {"file": "b"}}));
        assert!(other.contains("`data.path` is \"a\" there and null here"), "{other}");
    }
}
