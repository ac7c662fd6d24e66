//! How the runs were made, and the figures for other programs.

use crate::error::{Error, Result};
use crate::report::group::Group;
use crate::results::RunRecord;
use base64::Engine;
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::escape::for_shell;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a run says of its machine, by key.
type Environment = BTreeMap<String, Value>;

/// Recipe, command and machine of each row, folded.
pub fn section(groups: &[Group]) -> Result<Markup> {
    let mut parts = Vec::new();
    for group in groups {
        parts.push(of_group(group)?);
    }
    Ok(html! { @for part in parts { (part) } })
}

fn of_group(group: &Group) -> Result<Markup> {
    let run = group.first;
    let path = for_shell(&run.folder.display().to_string());
    let environment = environment(run)?;
    let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown = |value: &Value| match value {
        Value::Array(words) => words.iter().map(one).collect::<Vec<_>>().join(" "),
        other => one(other),
    };
    let recipe = run.recipe.to_toml()?;
    let folders = group.members.iter().map(|run| run.folder.display().to_string());
    Ok(html! {
        details {
            summary { (group.key()) " " (group.label) }
            p { "Runs: " (folders.collect::<Vec<_>>().join(", ")) }
            p { "Again: " code { "roclip train --config " (path) "/run.toml --run " (path) "-again" } }
            @if !environment.is_empty() {
                table.left { tbody { @for (key, value) in &environment { tr { th { (key) } td { (shown(value)) } } } } }
            }
            details { summary { "Recipe of seed " (run.row.seed) } pre { (recipe) } }
        }
    })
}

/// `env.json`; empty of a run without it.
fn environment(run: &RunRecord) -> Result<Environment> {
    let path = run.folder.join("env.json");
    Ok(if path.is_file() { artifact::read_json(&path)? } else { Environment::new() })
}

/// Links to `(file name, media type, text)`, which hold the files themselves.
pub fn downloads(files: &[(&str, &str, &str)]) -> Markup {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    html! {
        p.downloads {
            "Download: "
            @for (name, kind, text) in files {
                a download=(name) href={ "data:" (kind) ";base64," (encode(text)) } { (name) }
                " "
            }
        }
    }
}

/// Text of `value` as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::internal(format!("JSON: {e}")))
}
