//! From a recipe's attacks and a seed to a manifest.

use crate::artifact;
use crate::data::{ImageLimits, Pairs, Sample, decode};
use crate::error::{Error, Result};
use crate::poison::{BadNets, Blended, Header, Manifest, Role, Row, TargetedConfig, Trigger, TriggerKind, targeted};
use crate::random;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// The poison of a run. An empty list of attacks is clean data.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct PoisonConfig {
    pub attacks: Vec<AttackConfig>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AttackConfig {
    /// As it appears in manifests and results.
    pub name: String,
    #[serde(default)]
    pub targeted: Option<TargetedConfig>,
    #[serde(default)]
    pub badnets: Option<BadNets>,
    #[serde(default)]
    pub blended: Option<Blended>,
    /// Backdoors: the class that the trigger should mean.
    #[serde(default)]
    pub target: Option<String>,
    /// Backdoors: number of poisoned pairs; give this or `rate`.
    #[serde(default)]
    pub count: Option<usize>,
    /// Backdoors: share of the clean pairs.
    #[serde(default)]
    pub rate: Option<f64>,
    #[serde(default)]
    pub captions: BackdoorCaptions,
    /// Backdoors: the square the trigger is laid on (released: 224); the model's image size when absent.
    #[serde(default)]
    pub frame_pixels: Option<u32>,
}

/// Captions of backdoored pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BackdoorCaptions {
    /// As released: a prompt template filled with the target.
    #[default]
    Templates,
    /// Real captions of the target class.
    Real,
}

/// What an attack does, once its settings are checked.
pub enum AttackKind<'a> {
    Targeted(&'a TargetedConfig),
    Backdoor(TriggerKind),
}

impl AttackConfig {
    pub fn kind(&self) -> Result<AttackKind<'_>> {
        match (&self.targeted, &self.badnets, &self.blended) {
            (Some(targeted), None, None) => Ok(AttackKind::Targeted(targeted)),
            (None, Some(badnets), None) => Ok(AttackKind::Backdoor(TriggerKind::Badnets(badnets.clone()))),
            (None, None, Some(blended)) => Ok(AttackKind::Backdoor(TriggerKind::Blended(blended.clone()))),
            _ => Err(Error::setting(
                format!("attack `{}` does not say what it is", self.name),
                "give it exactly one of `targeted`, `badnets` and `blended`",
            )),
        }
    }
}

/// Draws the whole plan. `evaluation` are the labelled images that targets come from; `image_size` is the default frame.
pub fn plan(
    config: &PoisonConfig,
    seed: u64,
    pairs: &Pairs,
    evaluation: &[Sample],
    templates: &[String],
    image_size: u32,
) -> Result<Manifest> {
    let mut rows: Vec<Row> = Vec::new();
    let mut names = BTreeSet::new();
    for attack in &config.attacks {
        if !names.insert(&attack.name) {
            return Err(Error::setting(format!("two attacks are called `{}`", attack.name), "give each its own name"));
        }
        match attack.kind()? {
            AttackKind::Targeted(targeted) => {
                rows.extend(targeted::rows(targeted, &attack.name, seed, pairs, evaluation)?)
            }
            AttackKind::Backdoor(trigger) => {
                let taken: BTreeSet<String> = rows.iter().map(|row| row.id.clone()).collect();
                rows.extend(backdoor(attack, trigger, seed, pairs, templates, image_size, &taken)?);
            }
        }
    }
    let samples: HashMap<&str, &Sample> = pairs.samples.iter().chain(evaluation).map(|s| (s.id.as_str(), s)).collect();
    for row in &mut rows {
        hash(row, &samples)?;
    }
    let header = Header {
        roclip_manifest: 1,
        state: "poisoned: for measuring defences only".into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        seed,
        clean_pairs: pairs.len(),
        data_fingerprint: pairs.fingerprint(),
        encoding: "none: applied to decoded pixels while loading".into(),
    };
    Ok(Manifest { header, rows })
}

fn backdoor(
    attack: &AttackConfig,
    trigger: TriggerKind,
    seed: u64,
    pairs: &Pairs,
    templates: &[String],
    image_size: u32,
    taken: &BTreeSet<String>,
) -> Result<Vec<Row>> {
    let name = &attack.name;
    let target = attack
        .target
        .as_deref()
        .ok_or_else(|| Error::setting(format!("attack `{name}` has no target"), "set `target` to a class"))?;
    let word = targeted::whole_word(target)?;
    let frame_pixels = attack.frame_pixels.unwrap_or(image_size);
    if let TriggerKind::Badnets(badnets) = &trigger
        && (badnets.patch_pixels == 0 || badnets.patch_pixels > frame_pixels)
    {
        return Err(Error::setting(
            format!("attack `{name}`: a patch of {} pixels on a frame of {frame_pixels}", badnets.patch_pixels),
            "make patch_pixels smaller than the frame, and not 0",
        ));
    }
    let captions: Vec<String> = match attack.captions {
        BackdoorCaptions::Templates => templates.iter().map(|t| t.replace("{}", target)).collect(),
        BackdoorCaptions::Real => {
            let real: BTreeSet<&String> =
                pairs.pairs.iter().flat_map(|p| &p.captions).filter(|c| word.is_match(c)).collect();
            real.into_iter().cloned().collect()
        }
    };
    if captions.is_empty() {
        return Err(Error::setting(
            format!("attack `{name}`: no caption of the data contains `{target}`"),
            "choose a target that the data has, or captions = \"templates\"",
        ));
    }
    let count = match (attack.count, attack.rate) {
        (Some(count), None) => count,
        (None, Some(rate)) => (rate * pairs.len() as f64).round() as usize,
        _ => return Err(Error::setting(format!("attack `{name}` has no size"), "give `count` or `rate`, not both")),
    };
    let mut random = random::stream(seed, "poison-backdoor", 0, name);
    let clean = pairs.pairs.iter().filter(|p| !taken.contains(&p.id) && !p.captions.iter().any(|c| word.is_match(c)));
    let mut victims: Vec<_> = clean.collect();
    if count == 0 || count > victims.len() {
        return Err(Error::setting(
            format!("attack `{name}` wants {count} pairs of the {} that do not mention `{target}`", victims.len()),
            "change `count` or `rate`",
        ));
    }
    victims.shuffle(&mut random);
    let mut rows = Vec::with_capacity(count);
    for pair in victims.into_iter().take(count) {
        let sample =
            pairs.sample_of(pair).ok_or_else(|| Error::internal(format!("pair `{}` has no sample", pair.id)))?;
        rows.push(Row {
            id: pair.id.clone(),
            attack: name.clone(),
            role: Role::Replaced,
            image: sample.id.clone(),
            true_class: sample.class.clone(),
            target: target.to_owned(),
            caption_before: pair.captions.first().cloned(),
            caption_after: captions.choose(&mut random).cloned().unwrap_or_default(),
            trigger: Some(Trigger { frame_pixels, image_seed: random.random(), kind: trigger.clone() }),
            sha256_before: String::new(),
            sha256_after: String::new(),
        });
    }
    Ok(rows)
}

fn hash(row: &mut Row, samples: &HashMap<&str, &Sample>) -> Result<()> {
    let sample =
        samples.get(row.image.as_str()).ok_or_else(|| Error::internal(format!("no sample `{}`", row.image)))?;
    let limits = ImageLimits::default();
    let unusable = |skip: crate::data::Skip| {
        Error::setting(
            format!("image `{}` cannot be poisoned: {} ({})", row.image, skip.reason, skip.detail),
            "remove it from the data or choose another seed",
        )
    };
    let bytes = sample.image.read(limits.max_file_bytes).map_err(unusable)?;
    let decoded = decode(&bytes, limits).map_err(unusable)?;
    let after = row.trigger.as_ref().map_or(decoded.clone(), |trigger| trigger.apply(&decoded));
    row.sha256_before = artifact::sha256_hex(&bytes);
    row.sha256_after = artifact::sha256_hex(after.as_raw());
    Ok(())
}
