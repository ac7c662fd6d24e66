//! Joins emojibase's labels and tags with the drawings of a style.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One emoji with the words people wrote about it.
pub struct Concept {
    /// Code points in lower-case hex, joined by `-`, without the variation selector `fe0f`.
    pub hex: String,
    pub label: String,
    pub slug: String,
    pub tags: Vec<String>,
    pub group: String,
    pub subgroup: String,
}

#[derive(Deserialize)]
struct Emoji {
    label: String,
    hexcode: String,
    #[serde(default)]
    tags: Vec<String>,
    group: Option<usize>,
    subgroup: Option<usize>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
    order: usize,
}

#[derive(Deserialize)]
struct Messages {
    groups: Vec<Message>,
    subgroups: Vec<Message>,
}

/// Every emoji that has a group, in emojibase's order (skin-tone variants are nested there, and so left out).
pub fn read_concepts(packages: &Path) -> Result<Vec<Concept>> {
    let folder = packages.join("emojibase-data/en");
    let emoji: Vec<Emoji> = read(&folder.join("data.json"))?;
    let messages: Messages = read(&folder.join("messages.json"))?;
    let name = |list: &[Message], order: usize| {
        list.iter().find(|m| m.order == order).map(|m| m.message.replace('&', "and").replace(" / ", " or "))
    };
    Ok(emoji
        .into_iter()
        .filter_map(|e| {
            let group = name(&messages.groups, e.group?)?;
            let subgroup = name(&messages.subgroups, e.subgroup?)?;
            let slug = slugify(&e.label);
            let label = match e.label.strip_prefix("flag: ") {
                Some(place) => format!("flag of {place}"),
                None => e.label.replace(": ", " with "),
            };
            Some(Concept { hex: normalise(&e.hexcode), label: label.to_lowercase(), slug, tags: e.tags, group, subgroup })
        })
        .collect())
}

#[derive(Deserialize)]
struct Icon {
    body: String,
    width: Option<f32>,
    height: Option<f32>,
    left: Option<f32>,
    top: Option<f32>,
}

#[derive(Deserialize)]
struct Alias {
    parent: String,
}

#[derive(Deserialize)]
struct IconSet {
    icons: BTreeMap<String, Icon>,
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    width: Option<f32>,
    height: Option<f32>,
}

/// The drawings of one style, by name and by code points.
pub struct Icons {
    set: IconSet,
    by_hex: BTreeMap<String, String>,
}

impl Icons {
    /// The drawing as a whole SVG document: by code points, else by slug, else `flag-for-X` as `flag-X`.
    pub fn find(&self, concept: &Concept) -> Option<String> {
        let flag = concept.slug.replacen("flag-", "flag-for-", 1);
        let icon = (self.by_hex.get(&concept.hex).and_then(|name| self.icon(name)))
            .or_else(|| self.icon(&concept.slug))
            .or_else(|| self.icon(&flag))?;
        let width = icon.width.or(self.set.width).unwrap_or(16.0);
        let height = icon.height.or(self.set.height).unwrap_or(16.0);
        let (left, top) = (icon.left.unwrap_or(0.0), icon.top.unwrap_or(0.0));
        Some(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
             viewBox=\"{left} {top} {width} {height}\">{}</svg>",
            icon.body
        ))
    }

    fn icon(&self, name: &str) -> Option<&Icon> {
        self.set.icons.get(name).or_else(|| self.set.icons.get(&self.set.aliases.get(name)?.parent))
    }
}

pub fn read_icons(packages: &Path, style: &str) -> Result<Icons> {
    let folder = packages.join(style);
    let chars: BTreeMap<String, String> = read(&folder.join("chars.json"))?;
    let by_hex = chars.into_iter().map(|(hex, name)| (normalise(&hex), name)).collect();
    Ok(Icons { set: read(&folder.join("icons.json"))?, by_hex })
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
}

fn normalise(hex: &str) -> String {
    let hex = hex.to_lowercase();
    hex.split('-').filter(|part| *part != "fe0f").collect::<Vec<_>>().join("-")
}

fn slugify(label: &str) -> String {
    let mut slug = String::new();
    for c in label.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            '\'' | '’' | '“' | '”' | '.' => {}
            _ if !slug.ends_with('-') && !slug.is_empty() => slug.push('-'),
            _ => {}
        }
    }
    slug.trim_end_matches('-').to_owned()
}
