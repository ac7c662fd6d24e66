//! Attacks as a recipe describes them.

use crate::error::{Error, Result};
use crate::poison::{CaptionRule, TargetedConfig};
use crate::trigger::{BadNets, BlendSource, Blended, Material, Patch, Sig, Triangles, TriggerKind, WaNet};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The poison of a run. An empty list of attacks is clean data.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct PoisonConfig {
    pub attacks: Vec<AttackConfig>,
    /// Train without the poison, but measure against it: what "succeeds" then is no success of an attack (base rates).
    pub measure_only: bool,
    /// Run or checkpoint of a model that was never attacked: targeted images are drawn among those that it classifies rightly, so that
    /// a hit is an answer which the attack has turned. Ours, for weak models, of whose hits a part is chance; the papers draw among all.
    pub reference: Option<PathBuf>,
    /// With `reference`: targeted images are drawn among all, and none of that model's first guesses for an image, this many, becomes
    /// its adversarial class. Again ours: a hit is not chance either, and the images are as hard as they come.
    pub beyond_guesses: Option<usize>,
}

impl PoisonConfig {
    /// Whether an attack's captions are chosen by how `reference` reads them.
    pub fn reads_captions(&self) -> bool {
        let targeted = self.attacks.iter().filter_map(|attack| attack.targeted.as_ref());
        targeted.into_iter().any(|targeted| targeted.captions == CaptionRule::WordRead)
    }
}

/// `targeted`, or a backdoor of one trigger or several laid on the same picture, in the order of the fields.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct AttackConfig {
    /// As it appears in manifests and results.
    pub name: String,
    #[serde(default)]
    pub targeted: Option<TargetedConfig>,
    #[serde(default)]
    pub badnets: Option<BadNets>,
    #[serde(default)]
    pub blended: Option<BlendedConfig>,
    #[serde(default)]
    pub sig: Option<Sig>,
    #[serde(default)]
    pub wanet: Option<WaNetConfig>,
    #[serde(default)]
    pub triangles: Option<Triangles>,
    #[serde(default)]
    pub patch: Option<PatchConfig>,
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
    /// Backdoors: quality of the JPEG that a triggered picture goes through (released: 75 for .jpg sources, by PIL's
    /// default); none keeps the pixels.
    #[serde(default)]
    pub jpeg_quality: Option<u8>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct BlendedConfig {
    /// 0.2 when absent, as released.
    pub alpha: Option<f32>,
    pub source: BlendSource,
    pub pattern_seed: u64,
    /// An image file to blend in instead of noise.
    pub picture: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct WaNetConfig {
    /// Side of the random grid, 4 when absent; 0 = one value a pixel, as released.
    pub grid: Option<u32>,
    /// 0.5 when absent, as in the paper; released: 1.
    pub strength: Option<f32>,
    pub grid_seed: u64,
    /// A field from a file: raw little-endian f32, an x plane and a y plane of `frame_pixels` squared (the `data/0` member of the
    /// released `.pt` file is one).
    pub grid_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// The patch as an image file.
    pub picture: PathBuf,
    /// Left and top; the centre when absent.
    #[serde(default)]
    pub corner: Option<[u32; 2]>,
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
    /// Label-consistent: only pairs whose caption has the target as a whole word are triggered, and keep their caption.
    Own,
    /// Label-consistent as released: the target is any part of the caption, case counts ("bananas" too).
    OwnSubstring,
}

/// What an attack does, once its settings are checked.
pub enum AttackKind<'a> {
    Targeted(&'a TargetedConfig),
    Backdoor { layers: Vec<TriggerKind>, materials: Vec<Material> },
}

impl AttackConfig {
    /// Checks the settings and reads the files they name. `frame_pixels` is the square the triggers will be laid on.
    pub fn kind(&self, frame_pixels: u32) -> Result<AttackKind<'_>> {
        let mut layers = Vec::new();
        let mut materials = Vec::new();
        if let Some(badnets) = &self.badnets {
            self.fits(badnets.patch_pixels, frame_pixels)?;
            layers.push(TriggerKind::Badnets(badnets.clone()));
        }
        if let Some(config) = &self.blended {
            let alpha = config.alpha.unwrap_or(Blended::default().alpha);
            if !(0.0..=1.0).contains(&alpha) {
                return Err(self.wrong(format!("alpha {alpha}"), "choose it between 0 and 1"));
            }
            let picture = config.picture.as_deref().map(Material::read_picture).transpose()?;
            let picture_sha256 = picture.as_ref().map(|m| m.sha256().to_owned());
            materials.extend(picture);
            let (source, pattern_seed) = (config.source, config.pattern_seed);
            layers.push(TriggerKind::Blended(Blended { alpha, source, pattern_seed, picture_sha256 }));
        }
        if let Some(sig) = self.sig {
            layers.push(TriggerKind::Sig(sig));
        }
        if let Some(config) = &self.wanet {
            let default = WaNet::default();
            let grid = config.grid_file.as_deref().map(Material::read_grid).transpose()?;
            if let Some(grid) = &grid {
                let found = grid.grid().map_or(0, <[f32]>::len);
                if found != (2 * frame_pixels * frame_pixels) as usize {
                    return Err(self.wrong(
                        format!("the grid file holds {found} values for a frame of {frame_pixels} pixels"),
                        "it must hold 2 x frame x frame; set frame_pixels (224 for the released file)",
                    ));
                }
            }
            let grid_sha256 = grid.as_ref().map(|m| m.sha256().to_owned());
            materials.extend(grid);
            let wanet = WaNet {
                grid: config.grid.unwrap_or(default.grid),
                strength: config.strength.unwrap_or(default.strength),
                grid_seed: config.grid_seed,
                grid_sha256,
            };
            if wanet.grid == 1 || wanet.grid > frame_pixels {
                return Err(self.wrong(
                    format!("a warping grid of {} on a frame of {frame_pixels} pixels", wanet.grid),
                    "choose 0, or 2 up to the frame",
                ));
            }
            layers.push(TriggerKind::Wanet(wanet));
        }
        if let Some(triangles) = self.triangles {
            layers.push(TriggerKind::Triangles(triangles));
        }
        if let Some(config) = &self.patch {
            let picture = Material::read_picture(&config.picture)?;
            let side = picture.picture().map_or(0, |p| p.width().max(p.height()));
            self.fits(side, frame_pixels)?;
            let picture_sha256 = picture.sha256().to_owned();
            layers.push(TriggerKind::Patch(Patch { picture_sha256, corner: config.corner }));
            materials.push(picture);
        }
        match (&self.targeted, layers.is_empty()) {
            (Some(targeted), true) => Ok(AttackKind::Targeted(targeted)),
            (None, false) => Ok(AttackKind::Backdoor { layers, materials }),
            (None, true) => Err(self.wrong(
                "nothing says what it does",
                "give it `targeted`, or one or more of badnets, blended, sig, wanet, triangles and patch",
            )),
            (Some(_), false) => Err(self.wrong("it is `targeted` and has a trigger", "make two attacks of it")),
        }
    }

    fn fits(&self, side: u32, frame_pixels: u32) -> Result<()> {
        if side == 0 || side > frame_pixels {
            return Err(self.wrong(
                format!("a patch of {side} pixels on a frame of {frame_pixels}"),
                "make the patch smaller than the frame, and not 0",
            ));
        }
        Ok(())
    }

    pub(crate) fn wrong(&self, what: impl std::fmt::Display, remedy: &str) -> Error {
        Error::setting(format!("attack `{}`: {what}", self.name), remedy)
    }
}
