//! A sheet of a manifest's poison for a person's eye: each picture and caption before and after.

use crate::error::{Error, Result};
use crate::recipe::{Section, first_sentence};
use crate::report::html::frame;
use crate::run::picture_url;
use image::RgbImage;
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::pairs::Pairs;
use roclip_data::picture::ImageLimits;
use roclip_data::plural::count;
use roclip_data::poison::{Images, Manifest, Role, Row};
use roclip_data::sample::Sample;
use roclip_data::skip::Skip;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Side of a shown picture, in pixels.
const SIDE: u32 = 160;

/// Writes the sheet to `out` with up to `per_attack` rows of each attack. `pairs` is the data the manifest was made for, without
/// the poison; `others` the evaluation images; both are read within `limits`.
pub fn write_sheet(
    manifest: &Manifest,
    pairs: &Pairs,
    others: &[Sample],
    limits: ImageLimits,
    per_attack: usize,
    out: &Path,
) -> Result<()> {
    manifest.apply(&mut pairs.clone(), others)?;
    let images = Images::new(pairs, others, &manifest.rows);
    let attacks: BTreeSet<&str> = manifest.rows.iter().map(|row| row.attack.as_str()).collect();
    let header = &manifest.header;
    let mut sections = Vec::new();
    for attack in attacks {
        let rows = || manifest.rows.iter().filter(|row| row.attack == attack);
        let trigger = rows().next().and_then(|row| row.trigger.as_ref()).map(serde_json::to_value).transpose();
        let trigger = trigger.map_err(|e| Error::internal(format!("JSON: {e}")))?;
        let distinct = |value: fn(&Row) -> &String| rows().map(value).collect::<BTreeSet<_>>().len();
        let (captions, pictures) = (distinct(|row| &row.caption_after), distinct(|row| &row.image));
        let shown = spread(rows(), per_attack)
            .into_iter()
            .map(|row| row_of(row, &images, limits))
            .collect::<Result<Vec<_>>>()?;
        sections.push(html! {
            h2 { (attack) }
            p {
                (count(rows().count(), "pair")) " of " (count(pictures, "picture")) " with " (count(captions, "distinct caption"))
                @if captions == 1 && rows().count() > 1 {
                    ": every pair says the same, which teaches that one sentence rather than the class"
                }
                "."
            }
            @if let Some(trigger) = &trigger { (settings(trigger)) }
            div.scroll tabindex="0" {
                table.left.large {
                    thead { tr { th { "before" } th { "after" } th { "class → target" } th { "caption before" } th { "caption after" } } }
                    tbody { @for row in shown { (row) } }
                }
            }
        });
    }
    let page = frame(
        "Poison sheet",
        html! {
            h1 { "Poison sheet" }
            p.lead {
                (count(manifest.rows.len(), "poisoned pair")) " beside " (count(manifest.clean_pairs_left(), "clean pair")) ", drawn with seed "
                (header.seed) ". " (how(&header.encoding))
            }
            @for section in sections { (section) }
        },
    );
    Ok(artifact::write(out, (page.into_string() + "\n").as_bytes())?)
}

/// How the poison reaches training, by what the manifest's header says of it.
fn how(encoding: &str) -> String {
    match encoding.strip_prefix("none: ") {
        Some(_) => "Triggers are laid on while training reads the pictures; no file of the data is changed.".to_owned(),
        None => format!("Triggered pictures are files: {encoding}."),
    }
}

/// Up to `most` rows, those of different pictures first: a picture with seven captions is seven rows.
fn spread<'a>(rows: impl Iterator<Item = &'a Row> + Clone, most: usize) -> Vec<&'a Row> {
    let mut seen = BTreeSet::new();
    let (mut firsts, others): (Vec<&Row>, Vec<&Row>) = rows.partition(|row| seen.insert(&row.image));
    firsts.extend(others);
    firsts.truncate(most);
    firsts
}

/// What a trigger is made of, in the words of the recipe's help.
fn settings(trigger: &Value) -> Markup {
    let mut found = Vec::new();
    for (name, value) in trigger.as_object().into_iter().flatten() {
        match name.as_str() {
            "layers" => {
                for layer in value.as_array().into_iter().flatten() {
                    let kind = layer.get("name").and_then(Value::as_str).unwrap_or_default();
                    found.push((help_of_section(kind), kind.to_owned()));
                    let keys = layer.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
                    found.extend(keys.map(|(key, value)| (help_of(&format!("{kind}.{key}"), key), shown(value))));
                }
            }
            // It seeds what is new for every picture, and says nothing to a reader.
            "image_seed" | "materials" => {}
            _ if value.is_null() => {}
            name => found.push((help_of(name, name), shown(value))),
        }
    }
    html! {
        details {
            summary { "The trigger's settings" }
            div.scroll { table.left { tbody { @for (words, value) in found { tr { th { (words) } td { (value) } } } } } }
        }
    }
}

/// The first sentence about a key of an attack; the key where there is none.
fn help_of(key: &str, name: &str) -> String {
    let found = Section::of_recipe().find(&format!("poison.attacks.0.{key}"));
    let sentence = found.map(|found| first_sentence(&found.help).trim_end_matches('.').to_owned());
    sentence.map_or_else(|| name.to_owned(), |sentence| format!("{sentence} ({name})"))
}

fn help_of_section(kind: &str) -> String {
    let found = Section::of_recipe().find_section(&format!("poison.attacks.0.{kind}"));
    found.map_or_else(String::new, |found| first_sentence(&found.help).trim_end_matches('.').to_owned())
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One row of a table. A picture that cannot be read is said in its place.
fn row_of(row: &Row, images: &Images, limits: ImageLimits) -> Result<Markup> {
    let stored = row.role == Role::Stored;
    let sample = images.of(row).ok_or_else(|| Error::internal(format!("no image for `{}`", row.id)))?;
    let before = sample.picture(limits);
    let after = before.as_ref().map_err(Skip::clone).and_then(|before| match &row.trigger {
        Some(trigger) if !stored => trigger.apply(before),
        _ => Ok(before.clone()),
    });
    let class = row.true_class.as_deref().unwrap_or("class not known");
    let picture = |picture: &std::result::Result<RgbImage, Skip>, when: &str| -> Result<Markup> {
        Ok(match picture {
            Ok(picture) => html! { img alt={ (class) ", " (when) } src=(picture_url(picture, SIDE)?); },
            Err(skip) => html! { "cannot be shown: " (skip.reason) },
        })
    };
    let shown_before = match stored {
        true => html! { "in the data already" },
        false => picture(&before, "before")?,
    };
    Ok(html! {
        tr {
            td { (shown_before) }
            td { (picture(&after, "after")?) }
            td { (class) " → " b { (row.target) } }
            td { (row.caption_before.as_deref().unwrap_or("(no pair before)")) }
            td { (row.caption_after) }
        }
    })
}
