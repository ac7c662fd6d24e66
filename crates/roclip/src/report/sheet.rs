//! A sheet of a manifest's poison for a person's eye: each picture and caption before and after.

use crate::error::{Error, Result};
use crate::report::html::frame;
use crate::run::picture_url;
use image::RgbImage;
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::pairs::Pairs;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::{Images, Manifest, Role, Row};
use roclip_data::sample::Sample;
use roclip_data::skip::Skip;
use std::collections::BTreeMap;
use std::path::Path;

/// Side of a shown picture, in pixels.
const SIDE: u32 = 112;

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
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &manifest.rows {
        *counts.entry(&row.attack).or_default() += 1;
    }
    let header = &manifest.header;
    let mut sections = Vec::new();
    for (attack, count) in counts {
        let rows = || manifest.rows.iter().filter(|row| row.attack == attack);
        let trigger = rows().next().and_then(|row| row.trigger.as_ref()).map(serde_json::to_string).transpose();
        let trigger = trigger.map_err(|e| Error::internal(format!("JSON: {e}")))?;
        let shown = rows().take(per_attack).map(|row| row_of(row, &images, limits)).collect::<Result<Vec<_>>>()?;
        sections.push(html! {
            h2 { (attack) " " small { (count) " pairs" } }
            @if let Some(settings) = trigger { p { code { (settings) } } }
            table.left {
                tr { th { "before" } th { "after" } th { "class → target" } th { "caption before" } th { "caption after" } }
                @for row in shown { (row) }
            }
        });
    }
    let page = frame(
        "Poison sheet",
        "",
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

/// One row of a table. A picture that cannot be read is said in its place.
fn row_of(row: &Row, images: &Images, limits: ImageLimits) -> Result<Markup> {
    let stored = row.role == Role::Stored;
    let sample = images.of(row).ok_or_else(|| Error::internal(format!("no image for `{}`", row.id)))?;
    let before = sample.picture(limits);
    let after = before.as_ref().map_err(Skip::clone).and_then(|before| match &row.trigger {
        Some(trigger) if !stored => trigger.apply(before),
        _ => Ok(before.clone()),
    });
    let picture = |picture: &std::result::Result<RgbImage, Skip>| -> Result<Markup> {
        Ok(match picture {
            Ok(picture) => {
                html! { img alt="" width=(SIDE) style="image-rendering:pixelated" src=(picture_url(picture, SIDE)?); }
            }
            Err(skip) => html! { "cannot be shown: " (skip.reason) },
        })
    };
    let shown_before = match stored {
        true => html! { "in the data already" },
        false => picture(&before)?,
    };
    Ok(html! {
        tr {
            td { (shown_before) }
            td { (picture(&after)?) }
            td { (row.true_class.as_deref().unwrap_or("?")) " → " b { (row.target) } }
            td { (row.caption_before.as_deref().unwrap_or("(no pair before)")) }
            td { (row.caption_after) }
        }
    })
}
