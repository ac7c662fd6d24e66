//! From a recipe's attacks and a seed to a manifest.

use crate::artifact;
use crate::error::{Error, Result};
use crate::pairs::{Pair, Pairs};
use crate::picture::{ImageLimits, decode};
use crate::poison::manifest::FORMAT;
use crate::poison::{
    AttackConfig, AttackKind, BackdoorCaptions, Candidates, Header, Manifest, PoisonConfig, Role, Row, targeted,
};
use crate::random;
use crate::sample::Sample;
use crate::skip::Skip;
use crate::trigger::{Material, Trigger};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Draws the whole plan. `candidates` are the labelled images that targets come from; `image_size` is the default frame.
pub fn plan(
    config: &PoisonConfig,
    seed: u64,
    pairs: &Pairs,
    candidates: Candidates,
    templates: &[String],
    image_size: u32,
) -> Result<Manifest> {
    let mut rows: Vec<Row> = Vec::new();
    let mut names = BTreeSet::new();
    let mut materials: Vec<Material> = Vec::new();
    for attack in &config.attacks {
        if !names.insert(&attack.name) {
            return Err(Error::setting(format!("two attacks are called `{}`", attack.name), "give each its own name"));
        }
        let frame_pixels = attack.frame_pixels.unwrap_or(image_size);
        match attack.kind(frame_pixels)? {
            AttackKind::Targeted(targeted) => {
                rows.extend(targeted::rows(targeted, &attack.name, seed, pairs, candidates, templates)?)
            }
            AttackKind::Backdoor { layers, materials: own } => {
                let taken: BTreeSet<String> = rows.iter().map(|row| row.id.clone()).collect();
                let trigger = Trigger {
                    frame_pixels,
                    image_seed: 0,
                    layers,
                    jpeg_quality: attack.jpeg_quality,
                    materials: Arc::new(own.clone()),
                };
                rows.extend(backdoor(attack, &trigger, seed, pairs, templates, &taken)?);
                materials.extend(own);
            }
        }
    }
    materials.sort_by(|a, b| a.sha256().cmp(b.sha256()));
    materials.dedup();
    let samples: HashMap<&str, &Sample> =
        pairs.samples.iter().chain(candidates.samples).map(|s| (s.id.as_str(), s)).collect();
    for row in &mut rows {
        let sample =
            samples.get(row.image.as_str()).ok_or_else(|| Error::internal(format!("no sample `{}`", row.image)))?;
        (row.sha256_before, row.sha256_after) = hashes(sample, row.trigger.as_ref())?;
    }
    let header = Header {
        roclip_manifest: FORMAT,
        state: "poisoned: for measuring defences only".into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        seed,
        clean_pairs: pairs.len(),
        data_fingerprint: pairs.fingerprint(),
        encoding: "none: applied to decoded pixels while loading".into(),
        reference_sha256: None,
        materials: materials.iter().map(Material::store).collect(),
        rows_sha256: String::new(),
    };
    Ok(Manifest { header, rows })
}

fn backdoor(
    attack: &AttackConfig,
    trigger: &Trigger,
    seed: u64,
    pairs: &Pairs,
    templates: &[String],
    taken: &BTreeSet<String>,
) -> Result<Vec<Row>> {
    let name = &attack.name;
    let target = attack.target.as_deref().ok_or_else(|| attack.wrong("it has no target", "set `target` to a class"))?;
    let word = targeted::whole_word(target)?;
    let mentions = |pair: &Pair| pair.captions.iter().any(|c| word.is_match(c));
    let captions: BTreeSet<String> = match attack.captions {
        BackdoorCaptions::Templates => templates.iter().map(|t| t.replace("{}", target)).collect(),
        BackdoorCaptions::Real => {
            pairs.pairs.iter().flat_map(|p| &p.captions).filter(|c| word.is_match(c)).cloned().collect()
        }
        BackdoorCaptions::Own | BackdoorCaptions::OwnSubstring => BTreeSet::new(),
    };
    let label_consistent = matches!(attack.captions, BackdoorCaptions::Own | BackdoorCaptions::OwnSubstring);
    if captions.is_empty() && !label_consistent {
        return Err(attack.wrong(
            format!("no caption of the data contains `{target}`"),
            "choose a target that the data has, or captions = \"templates\"",
        ));
    }
    let captions: Vec<String> = captions.into_iter().collect();
    let count = match (attack.count, attack.rate) {
        (Some(count), None) => count,
        (None, Some(rate)) => (rate * pairs.len() as f64).round() as usize,
        _ => return Err(attack.wrong("it has no size", "give `count` or `rate`, not both")),
    };
    let eligible = |pair: &&Pair| {
        !taken.contains(&pair.id)
            && match attack.captions {
                BackdoorCaptions::Own => mentions(pair),
                BackdoorCaptions::OwnSubstring => pair.captions.iter().any(|c| c.contains(target)),
                _ => !mentions(pair),
            }
    };
    let mut victims: Vec<&Pair> = pairs.pairs.iter().filter(eligible).collect();
    if count == 0 || count > victims.len() {
        let which = if label_consistent { "mention" } else { "do not mention" };
        return Err(attack.wrong(
            format!("it wants {count} pairs of the {} that {which} `{target}`", victims.len()),
            "change `count` or `rate`",
        ));
    }
    let mut random = random::stream(seed, "poison-backdoor", 0, name);
    victims.shuffle(&mut random);
    let mut rows = Vec::with_capacity(count);
    for pair in victims.into_iter().take(count) {
        let sample =
            pairs.sample_of(pair).ok_or_else(|| Error::internal(format!("pair `{}` has no sample", pair.id)))?;
        let before = pair.captions.first().cloned();
        let after = match label_consistent {
            true => pair.captions.iter().find(|c| word.is_match(c) || c.contains(target)).cloned(),
            false => captions.choose(&mut random).cloned(),
        };
        rows.push(Row {
            id: pair.id.clone(),
            attack: name.clone(),
            role: Role::Replaced,
            image: sample.id.clone(),
            true_class: sample.class.clone(),
            target: target.to_owned(),
            caption_before: before,
            caption_after: after.unwrap_or_default(),
            trigger: Some(trigger.with_seed(random.random())),
            sha256_before: String::new(),
            sha256_after: String::new(),
        });
    }
    Ok(rows)
}

/// sha256 of the image file, and of the 8-bit RGB pixels that training decodes under `trigger`.
pub(crate) fn hashes(sample: &Sample, trigger: Option<&Trigger>) -> Result<(String, String)> {
    let limits = ImageLimits::default();
    let unusable = |skip: Skip| skip.into_error(&sample.id);
    let bytes = sample.image.read(limits.max_file_bytes).map_err(unusable)?;
    let decoded = decode(&bytes, limits).map_err(unusable)?;
    let after = match trigger {
        Some(trigger) => trigger.apply(&decoded).map_err(unusable)?,
        None => decoded,
    };
    Ok((artifact::sha256_hex(&bytes), artifact::sha256_hex(after.as_raw())))
}
