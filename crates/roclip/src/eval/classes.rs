//! Class names and prompt templates, read as data: JSON or text, never code.

use crate::artifact;
use crate::data::Labels;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

const OPENAI: &str = include_str!("templates/openai-80.json");
const EMOJI: &str = include_str!("templates/emoji.json");

/// Prompts with `{}` in the place of the class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates(pub Vec<String>);

impl Templates {
    /// `openai-80`, `emoji`, or a file.
    pub fn named(name: &str) -> Result<Templates> {
        let built_in = match name {
            "openai-80" => Some(OPENAI),
            "emoji" => Some(EMOJI),
            _ => None,
        };
        let list = match built_in {
            Some(text) => serde_json::from_str(text).map_err(|e| Error::internal(format!("templates {name}: {e}")))?,
            None => read_list(Path::new(name))?,
        };
        if list.is_empty() || list.iter().any(|t: &String| !t.contains("{}")) {
            return Err(Error::setting(
                format!("the templates `{name}` are empty, or one has no {{}}"),
                "write one template a line with {} for the class",
            ));
        }
        Ok(Templates(list))
    }

    pub fn fill(&self, class: &str) -> Vec<String> {
        self.0.iter().map(|template| template.replace("{}", class)).collect()
    }
}

/// A class list without duplicates.
pub fn read_classes(path: &Path) -> Result<Vec<String>> {
    let classes = match Labels::read(path) {
        Ok(labels) if !labels.classes.is_empty() => labels.classes,
        _ => read_list(path)?,
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = classes.iter().find(|class| !seen.insert(class.as_str())) {
        return Err(Error::file(path, format!("names the class `{twice}` twice"), "remove one"));
    }
    if classes.len() < 2 {
        return Err(Error::file(path, "names fewer than two classes", "give at least two"));
    }
    Ok(classes)
}

fn read_list(path: &Path) -> Result<Vec<String>> {
    let text = artifact::read_text(path)?;
    if path.extension().is_some_and(|e| e == "json") {
        return serde_json::from_str(&text)
            .map_err(|e| Error::file(path, format!("is not a JSON list of strings: {e}"), "write [\"one\", \"two\"]"));
    }
    Ok(text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect())
}
