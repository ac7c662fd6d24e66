//! A sheet of a manifest's poison for a person's eye: each picture and caption before and after.

use crate::error::{Error, Result};
use crate::report::chart::escape;
use crate::report::pictures::url;
use roclip_data::artifact;
use roclip_data::pairs::Pairs;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::{Manifest, Role};
use roclip_data::sample::Sample;
use roclip_data::skip::Skip;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;

/// Side of a shown picture, in pixels.
const SIDE: u32 = 112;

/// Writes the sheet to `out` with up to `per_attack` rows of each attack. `pairs` is the data the manifest was made for, without
/// the poison; `others` the evaluation images.
pub fn write_sheet(manifest: &Manifest, pairs: &Pairs, others: &[Sample], per_attack: usize, out: &Path) -> Result<()> {
    manifest.apply(&mut pairs.clone(), others)?;
    let samples: HashMap<&str, &Sample> = pairs.samples.iter().chain(others).map(|s| (s.id.as_str(), s)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &manifest.rows {
        *counts.entry(&row.attack).or_default() += 1;
    }
    let header = &manifest.header;
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Poison sheet</title><style>{}</style><h1>Poison sheet</h1><p class=\"lead\">{} poisoned pairs beside {} clean ones; seed {}; {}. {}</p>",
        include_str!("style.css"),
        manifest.rows.len(),
        header.clean_pairs,
        header.seed,
        escape(&header.encoding),
        escape(&header.state)
    );
    for (attack, count) in counts {
        let rows = manifest.rows.iter().filter(|row| row.attack == attack);
        let _ = write!(html, "<h2>{} <small>{count} pairs</small></h2>", escape(attack));
        if let Some(trigger) = rows.clone().next().and_then(|row| row.trigger.as_ref()) {
            let settings = serde_json::to_string(trigger).map_err(|e| Error::internal(format!("JSON: {e}")))?;
            let _ = write!(html, "<p><code>{}</code></p>", escape(&settings));
        }
        html += "<table class=\"left\"><tr><th>before</th><th>after</th><th>class → target</th><th>caption before</th><th>caption after</th></tr>";
        for row in rows.take(per_attack) {
            let stored = row.role == Role::Stored;
            let id = if stored { row.id.as_str() } else { row.image.as_str() };
            let sample = samples.get(id).ok_or_else(|| Error::internal(format!("no image `{id}`")))?;
            let unusable = |skip: Skip| skip.into_error(id);
            let before = sample.picture(ImageLimits::default()).map_err(unusable)?;
            let after = match row.trigger.as_ref().filter(|_| !stored) {
                Some(trigger) => trigger.apply(&before).map_err(unusable)?,
                None => before.clone(),
            };
            let picture = |picture| -> Result<String> {
                Ok(format!(
                    "<img alt=\"\" width=\"{SIDE}\" style=\"image-rendering:pixelated\" src=\"{}\">",
                    url(picture, SIDE)?
                ))
            };
            let first = if stored { "in the data already".to_owned() } else { picture(&before)? };
            let _ = write!(
                html,
                "<tr><td>{first}</td><td>{}</td><td>{} → <b>{}</b></td><td>{}</td><td>{}</td></tr>",
                picture(&after)?,
                escape(row.true_class.as_deref().unwrap_or("?")),
                escape(&row.target),
                escape(row.caption_before.as_deref().unwrap_or("(no pair before)")),
                escape(&row.caption_after)
            );
        }
        html += "</table>";
    }
    Ok(artifact::write(out, (html + "</html>\n").as_bytes())?)
}
