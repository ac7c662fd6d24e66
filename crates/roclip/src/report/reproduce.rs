//! How the runs were made, and the figures for other programs.

use crate::error::{Error, Result};
use crate::report::group::Group;
use crate::results::RunRecord;
use base64::Engine;
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::escape::path_for_shell;
use roclip_data::paths::{beside, plain};
use serde_json::Value;
use std::collections::BTreeMap;
use toml::Table;

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
    let environment = environment(run)?;
    let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown = |value: &Value| match value {
        Value::Array(words) => words.iter().map(one).collect::<Vec<_>>().join(" "),
        other => one(other),
    };
    let recipe = used(run)?;
    let folders = group.members.iter().map(|run| run.folder.display().to_string());
    Ok(html! {
        details {
            summary { (group.key()) " " (group.label) }
            p { "Runs: " (folders.collect::<Vec<_>>().join(", ")) }
            p { "Again: " code { (again(run)) } }
            @if !environment.is_empty() {
                table.left { tbody { @for (key, value) in &environment { tr { th { (key) } td { (shown(value)) } } } } }
            }
            details { summary { "Recipe of seed " (run.row.seed) } pre { (recipe) } }
        }
    })
}

/// The command that reads the run's recipe and makes the run again.
fn again(run: &RunRecord) -> String {
    let [path, new] = [plain(&run.folder), beside(&run.folder, "again")].map(|path| path_for_shell(&path));
    let command = match &run.recipe.prompt {
        Some(prompt) if prompt.repair.is_some() => "prompt repair",
        Some(_) => "prompt train",
        // It cleans, distils and trains captioners, too, where the recipe has the section.
        None => "train",
    };
    format!("roclip {command} --config {path}/run.toml --run {new}")
}

/// Sections that say nothing of a run which learned prompts for a model that was there.
const WITHOUT_PROMPTS: [&str; 3] = ["model", "objective", "poison"];
/// Of `train`, what concerns any run.
const ANY_RUN: [&str; 5] = ["device", "threads", "log_every_steps", "save_every_steps", "keep_checkpoints"];

/// The recipe's text, without what the run did not read.
fn used(run: &RunRecord) -> Result<String> {
    let whole = run.recipe.to_toml()?;
    if run.recipe.prompt.is_none() {
        return Ok(whole);
    }
    let error = |e: &dyn std::fmt::Display| Error::internal(format!("recipe: {e}"));
    let mut table: Table = toml::from_str(&whole).map_err(|e| error(&e))?;
    table.retain(|section, _| !WITHOUT_PROMPTS.contains(&section));
    if let Some(train) = table.get_mut("train").and_then(toml::Value::as_table_mut) {
        train.retain(|key, _| ANY_RUN.contains(&key));
    }
    toml::to_string_pretty(&table).map_err(|e| error(&e))
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
