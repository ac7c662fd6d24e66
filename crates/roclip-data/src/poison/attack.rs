//! Attacks as a recipe describes them.

use crate::error::{Error, Result};
use crate::poison::{CaptionRule, TargetedConfig};
use crate::trigger::{AttackTriggers, Files, MAX_FRAME_PIXELS, TriggerKind, Unfit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The longest name of an attack, in bytes: it stands in ids, tables and file names.
const MAX_NAME_BYTES: usize = 64;

/// The poison of a run. An empty list of attacks is clean data.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct PoisonConfig {
    /// The attacks, each an entry of its own.
    pub attacks: Vec<AttackConfig>,
    /// Whether the run trains without the poison and is only measured against it: what "succeeds" then is no success of an attack (base
    /// rates).
    pub measure_only: bool,
    /// Run or checkpoint of a model that was never attacked: targeted images are drawn among those that it classifies rightly, so that a
    /// hit is an answer which the attack has turned. Ours, for weak models, of whose hits a part is chance; the papers draw among all.
    #[schemars(example = &"runs/clean")]
    pub reference: Option<PathBuf>,
    /// With `reference`: targeted images are drawn among all, and none of this many first guesses of that model for an image becomes its
    /// adversarial class. Again ours: a hit is not chance either, and the images are as hard as they come.
    #[schemars(example = 10)]
    pub beyond_guesses: Option<usize>,
}

impl PoisonConfig {
    /// Whether an attack's captions are chosen by how `reference` reads them.
    pub fn reads_captions(&self) -> bool {
        let targeted = self.attacks.iter().filter_map(|attack| attack.targeted.as_ref());
        targeted.into_iter().any(|targeted| targeted.captions == CaptionRule::WordRead)
    }

    /// Whether every setting makes sense by itself. What depends on the frame and on the data is refused when the plan is drawn.
    ///
    /// # Errors
    /// The first setting that does not, with its attack's name.
    pub fn check(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for (number, attack) in self.attacks.iter().enumerate() {
            let name = &attack.name;
            if name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
                return Err(Error::setting(
                    format!("poison.attacks.{number}.name is {name:?}"),
                    format!("use 1 to {MAX_NAME_BYTES} bytes without control characters"),
                ));
            }
            if !names.insert(name) {
                return Err(Error::setting(format!("two attacks are called `{name}`"), "give each its own name"));
            }
            attack.check()?;
        }
        Ok(())
    }
}

/// An attack: `targeted`, or a backdoor of one trigger or several laid on the same picture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
pub struct AttackConfig {
    /// Name of the attack in manifests and results.
    #[schemars(example = &"backdoor")]
    pub name: String,
    /// Targeted poisoning: chosen pictures are paired with captions of another class until the model reads them as that class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targeted: Option<TargetedConfig>,
    /// Backdoors: the class that the trigger should mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"pizza")]
    pub target: Option<String>,
    /// Backdoors: number of poisoned pairs; give this or `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 50)]
    pub count: Option<usize>,
    /// Backdoors: poisoned pairs as a share of the clean ones; give this or `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.01)]
    pub rate: Option<f64>,
    /// Backdoors: which captions poisoned pairs get.
    #[serde(default)]
    pub captions: BackdoorCaptions,
    /// Backdoors: side of the square that the trigger is laid on, in pixels (released: 224); the image size of the model when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 224)]
    pub frame_pixels: Option<u32>,
    /// Backdoors: quality of the JPEG that a triggered picture goes through, 1 to 100 (released: 75); none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 75)]
    pub jpeg_quality: Option<u8>,
    /// Backdoors: the triggers, each under its own key (`badnets = { patch_pixels = 8 }`). They see to unknown keys, too.
    #[serde(flatten)]
    pub triggers: AttackTriggers,
}

/// Captions of backdoored pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BackdoorCaptions {
    /// A prompt template filled with the target, as released.
    #[default]
    Templates,
    /// Real captions of the target class.
    Real,
    /// Label-consistent: only pairs whose caption has the target as a whole word are triggered, and keep their caption. Of a pair that
    /// draws among several captions, those that have the target stay, and the others are left out.
    Own,
    /// Label-consistent as released: the target is any part of the caption, and case counts ("bananas" too).
    OwnSubstring,
}

impl BackdoorCaptions {
    /// Whether poisoned pairs keep their captions.
    pub fn label_consistent(self) -> bool {
        matches!(self, BackdoorCaptions::Own | BackdoorCaptions::OwnSubstring)
    }
}

/// What an attack does.
pub enum AttackKind<'a> {
    Targeted(&'a TargetedConfig),
    Backdoor(Vec<TriggerKind>),
}

impl AttackConfig {
    /// The triggers with what their files hold, read through `files`.
    pub fn kind(&self, files: &mut Files) -> Result<AttackKind<'_>> {
        self.check()?;
        match &self.targeted {
            Some(targeted) => Ok(AttackKind::Targeted(targeted)),
            None => {
                let layers = self.triggers.0.iter().map(|settings| settings.trigger(files));
                Ok(AttackKind::Backdoor(layers.collect::<Result<_>>()?))
            }
        }
    }

    fn check(&self) -> Result<()> {
        match (&self.targeted, self.triggers.0.is_empty()) {
            (Some(targeted), true) => self.check_targeted(targeted),
            (None, false) => self.check_backdoor(),
            (None, true) => Err(self.wrong(
                "nothing says what it does",
                format!(
                    "give it `targeted`, or one or more of the triggers {}",
                    crate::trigger::TriggerSettings::NAMES.join(", ")
                ),
            )),
            (Some(_), false) => Err(self.wrong("it is `targeted` and has a trigger", "make two attacks of it")),
        }
    }

    fn check_targeted(&self, targeted: &TargetedConfig) -> Result<()> {
        let of_backdoors = [
            ("target", self.target.is_some()),
            ("count", self.count.is_some()),
            ("rate", self.rate.is_some()),
            ("captions", self.captions != BackdoorCaptions::default()),
            ("frame_pixels", self.frame_pixels.is_some()),
            ("jpeg_quality", self.jpeg_quality.is_some()),
        ];
        if let Some((key, _)) = of_backdoors.iter().find(|(_, given)| *given) {
            return Err(self.wrong(
                format!("it is `targeted`, and `{key}` is of backdoors"),
                "remove it; the settings of a targeted attack stand in `targeted`",
            ));
        }
        for (key, number) in [("targets", targeted.targets), ("captions_per_target", targeted.captions_per_target)] {
            if number == 0 {
                return Err(self.wrong(format!("targeted.{key} is 0"), "set 1 or more, or remove the attack"));
            }
        }
        Ok(())
    }

    fn check_backdoor(&self) -> Result<()> {
        if self.target.as_deref().is_none_or(|target| target.trim().is_empty()) {
            return Err(self.wrong("it has no target", "set `target` to a class"));
        }
        match (self.count, self.rate) {
            (Some(0), None) => Err(self.wrong("count is 0", "set 1 or more, or remove the attack")),
            (None, Some(rate)) if !(rate > 0.0 && rate <= 1.0) => {
                Err(self
                    .wrong(format!("rate is {rate}"), "choose it above 0 and at most 1, as a share of the clean pairs"))
            }
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(self.wrong("its size is not said once", "give either `count` or `rate`")),
        }?;
        if let Some(frame) = self.frame_pixels.filter(|frame| !(1..=MAX_FRAME_PIXELS).contains(frame)) {
            let remedy = format!("choose it between 1 and {MAX_FRAME_PIXELS}");
            return Err(self.wrong(format!("frame_pixels is {frame}"), remedy));
        }
        match self.jpeg_quality {
            Some(quality) if !(1..=100).contains(&quality) => {
                Err(self.wrong(format!("jpeg_quality is {quality}"), "choose it between 1 and 100"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn wrong(&self, what: impl std::fmt::Display, remedy: impl Into<String>) -> Error {
        Error::setting(format!("attack `{}`: {what}", self.name), remedy)
    }

    pub(crate) fn unfit(&self, unfit: Unfit) -> Error {
        self.wrong(unfit.what, unfit.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(attacks: &str) -> std::result::Result<PoisonConfig, serde_json::Error> {
        serde_json::from_str(&format!(r#"{{"attacks": [{attacks}]}}"#))
    }

    #[test]
    fn numbers_that_make_no_sense_and_bad_names_are_refused() {
        let backdoor = |settings: &str| format!(r#"{{"name": "a", "badnets": {{}}, "target": "red", {settings}}}"#);
        let targeted = |settings: &str| format!(r#"{{"name": "t", "targeted": {{{settings}}}}}"#);
        let long = format!(r#"{{"name": "{}", "badnets": {{}}, "target": "red", "count": 1}}"#, "x".repeat(65));
        for (attacks, word) in [
            (backdoor(r#""rate": 0"#), "rate is 0"),
            (backdoor(r#""rate": 1.01"#), "rate is 1.01"),
            (backdoor(r#""rate": -1"#), "rate is -1"),
            (backdoor(r#""count": 0"#), "count is 0"),
            (backdoor(r#""count": 1, "rate": 0.5"#), "its size is not said once"),
            (backdoor(r#""captions": "own""#), "its size is not said once"),
            (backdoor(r#""count": 1, "frame_pixels": 0"#), "frame_pixels is 0"),
            (backdoor(r#""count": 1, "frame_pixels": 100000"#), "frame_pixels is 100000"),
            (backdoor(r#""count": 1, "jpeg_quality": 0"#), "jpeg_quality is 0"),
            (backdoor(r#""count": 1, "jpeg_quality": 101"#), "jpeg_quality is 101"),
            (r#"{"name": "a", "badnets": {}, "count": 1}"#.into(), "no target"),
            (r#"{"name": "a", "badnets": {}, "count": 1, "target": " "}"#.into(), "no target"),
            (r#"{"name": "a"}"#.into(), "nothing says"),
            (targeted(r#""targets": 0"#), "targets is 0"),
            (targeted(r#""captions_per_target": 0"#), "captions_per_target is 0"),
            (r#"{"name": "t", "targeted": {}, "rate": 0.5}"#.into(), "`rate` is of backdoors"),
            (r#"{"name": "t", "targeted": {}, "sig": {}}"#.into(), "make two attacks"),
            (r#"{"name": "", "targeted": {}}"#.into(), "name is"),
            (r#"{"name": "a\u001b[2J", "targeted": {}}"#.into(), "control characters"),
            (r#"{"name": "a\nerror: b", "targeted": {}}"#.into(), "control characters"),
            (long, "1 to 64 bytes"),
            (r#"{"name": "t", "targeted": {}}, {"name": "t", "targeted": {}}"#.into(), "two attacks"),
        ] {
            let said = config(&attacks).unwrap().check().unwrap_err().to_string();
            assert!(said.contains(word), "{attacks}: {said}");
        }
        let nan = AttackConfig { rate: Some(f64::NAN), ..config(&backdoor(r#""rate": 1"#)).unwrap().attacks.remove(0) };
        assert!(PoisonConfig { attacks: vec![nan], ..PoisonConfig::default() }.check().is_err());
        config(&[backdoor(r#""rate": 1"#), targeted(r#""targets": 1"#)].join(",")).unwrap().check().unwrap();
    }

    #[test]
    fn triggers_stand_beside_the_other_keys_and_unknown_ones_are_named() {
        let text = r#"{"name":"a","target":"red","count":2,"captions":"real","badnets":{"patch_pixels":8},"blended":{"alpha":0.5}}"#;
        let read: AttackConfig = serde_json::from_str(text).unwrap();
        let names: Vec<&str> = read.triggers.0.iter().map(|settings| settings.name()).collect();
        assert_eq!(names, ["badnets", "blended"]);
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<AttackConfig>(&written).unwrap(), read);
        let wrong = |text: &str| serde_json::from_str::<AttackConfig>(text).unwrap_err().to_string();
        assert!(wrong(r#"{"name": "a", "badnet": {}}"#).contains("unknown field `badnet`"));
        assert!(wrong(r#"{"name": "a", "badnets": {"side": 3}}"#).contains("`badnets`: unknown field `side`"));
    }
}
