//! From a recipe's attacks and a seed to a manifest.

use crate::error::{Error, Result};
use crate::escape::for_terminal;
use crate::pairs::Pairs;
use crate::poison::manifest::FORMAT;
use crate::poison::{AttackKind, Header, Manifest, PoisonConfig, Role, Row, Source, backdoor, targeted};
use crate::skip::SkipReport;
use crate::trigger::{Files, Material, TriggerKind, TriggerStack};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// A plan, and the pictures that were drawn for it and could not be read; others took their places.
#[derive(Debug, Clone)]
pub struct Planned {
    pub manifest: Manifest,
    pub skips: SkipReport,
    /// What a person should know of what triggers found in the data.
    pub remarks: Vec<String>,
}

/// Draws the whole plan.
///
/// # Errors
/// Settings that make no sense, or ask for more than the data has.
pub fn plan(config: &PoisonConfig, source: &Source) -> Result<Planned> {
    config.check()?;
    let mut rows: Vec<Row> = Vec::new();
    let (mut skips, mut remarks) = (SkipReport::default(), Vec::new());
    let mut files = Files::new(source.limits);
    for attack in &config.attacks {
        match attack.kind(&mut files)? {
            AttackKind::Targeted(_) if source.labelled => {
                return Err(attack.wrong(
                    "it is `targeted`, which pairs pictures with captions, and a classifier learns from labels",
                    "use a backdoor: it changes the labels of the pictures that it poisons",
                ));
            }
            AttackKind::Targeted(targeted) => rows.extend(targeted::rows(source, targeted, &attack.name, &mut skips)?),
            AttackKind::Backdoor(layers) => {
                let taken: BTreeSet<String> = rows.iter().map(|row| row.id.clone()).collect();
                let mut trigger = TriggerStack {
                    frame_pixels: attack.frame_pixels.unwrap_or(source.image_size),
                    image_seed: 0,
                    layers,
                    jpeg_quality: attack.jpeg_quality,
                    materials: Arc::new(files.materials().to_vec()),
                };
                trigger.check().map_err(|unfit| attack.unfit(unfit))?;
                if trigger.layers.iter().any(TriggerKind::settles) {
                    remarks.extend(backdoor::settle(source, attack, &mut trigger)?);
                }
                rows.extend(backdoor::rows(source, attack, &trigger, &taken, &mut skips)?);
            }
        }
    }
    check_ids(&rows, source.pairs)?;
    let header = Header {
        roclip_manifest: FORMAT,
        state: "poisoned: for measuring defences only".into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        seed: source.seed,
        clean_pairs: source.pairs.len(),
        rows: Some(rows.len()),
        data_fingerprint: source.pairs.fingerprint(),
        encoding: "none: applied to decoded pixels while loading".into(),
        reference_sha256: None,
        materials: files.into_materials().iter().map(Material::store).collect(),
        file_sha256: String::new(),
    };
    Ok(Planned { manifest: Manifest { header, rows }, skips, remarks })
}

/// A pair that is added must not be called as a pair of the data, or as another that is added.
fn check_ids(rows: &[Row], pairs: &Pairs) -> Result<()> {
    let added = || rows.iter().filter(|row| row.role == Role::Added);
    let of_data = pairs.places(added().map(|row| row.id.as_str()));
    let mut seen: HashSet<&str> = HashSet::new();
    match added().find(|row| of_data.contains_key(&row.id) || !seen.insert(&row.id)) {
        Some(row) => Err(Error::setting(
            format!(
                "the data has a pair called `{}`, as attack `{}` calls one that it adds",
                for_terminal(&row.id),
                row.attack
            ),
            "give the attack another name",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
