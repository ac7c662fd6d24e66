//! A sheet of a manifest's poison for a person's eye: each picture and caption before and after.

use crate::error::{Error, Result};
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
    let images = Images::new(pairs, others);
    let attacks: BTreeSet<&str> = manifest.rows.iter().map(|row| row.attack.as_str()).collect();
    let header = &manifest.header;
    let mut sections = Vec::new();
    for attack in attacks {
        let rows = || manifest.rows.iter().filter(|row| row.attack == attack);
        let trigger = rows().next().and_then(|row| row.trigger.as_ref()).map(serde_json::to_value).transpose();
        let trigger = trigger.map_err(|e| Error::internal(format!("JSON: {e}")))?;
        let distinct = |value: fn(&Row) -> &String| rows().map(value).collect::<BTreeSet<_>>().len();
        let (captions, pictures) = (distinct(|row| &row.caption_after), distinct(|row| &row.image));
        let shown = rows().take(per_attack).map(|row| row_of(row, &images, limits)).collect::<Result<Vec<_>>>()?;
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
                (manifest.rows.len()) " poisoned pairs beside " (header.clean_pairs) " clean ones; seed " (header.seed) "; "
                (header.encoding) ". " (header.state)
            }
            @for section in sections { (section) }
        },
    );
    Ok(artifact::write(out, (page.into_string() + "\n").as_bytes())?)
}

/// What a trigger is made of, in place of its JSON.
fn settings(trigger: &Value) -> Markup {
    let mut found = Vec::new();
    flatten("", trigger, &mut found);
    html! {
        details {
            summary { "The trigger's settings" }
            div.scroll { table.left { tbody { @for (key, value) in found { tr { th { (key) } td { (value) } } } } } }
        }
    }
}

fn flatten(key: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, found)),
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            entries.iter().enumerate().for_each(|(at, entry)| flatten(&below(&(at + 1).to_string()), entry, found));
        }
        Value::String(text) => found.push((key.to_owned(), text.clone())),
        other => found.push((key.to_owned(), other.to_string())),
    }
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
