//! The objectives that a recipe can name. A new one is its file, its section here and one line in [`ObjectiveName::ALL`].

use crate::error::{Error, Result};
use crate::objective::{
    ClassifierObjective, ClipObjective, DistilConfig, DistilObjective, Objective, RoClip, RoClipConfig, RunShape,
    SafeClip, SafeClipConfig, Supervision,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The objectives.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveName {
    /// CLIP, which is no defence.
    #[default]
    Clip,
    /// RoCLIP (NeurIPS 2023): in matching epochs a picture learns the caption of a pool that it is most similar to.
    Roclip,
    /// SafeCLIP (ICML 2024): only pairs that look safe are trained on as pairs.
    Safeclip,
    /// A classifier of labelled pictures: cross-entropy on the image tower and a linear head; the text tower rests. No defence.
    Classifier,
    /// A classifier that learns from another model (`roclip distil`).
    Distil,
}

/// What training minimises, and the settings of every objective.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// The objective that trains.
    pub name: ObjectiveName,
    /// RoCLIP; used with `name = "roclip"`.
    pub roclip: RoClipConfig,
    /// SafeCLIP; used with `name = "safeclip"`.
    pub safeclip: SafeClipConfig,
    /// Distillation; used with `name = "distil"`.
    pub distil: DistilConfig,
}

/// What is known of an objective before it is made.
pub struct Registered {
    pub name: ObjectiveName,
    /// As recipes and flags spell it.
    pub word: &'static str,
    /// As reports write it.
    pub title: &'static str,
    /// Meant to keep poison out.
    pub defends: bool,
    /// It learns from labels, and what it trains is a classifier.
    pub labelled: bool,
    build: fn(&ObjectiveConfig, RunShape, Supervision) -> Result<Box<dyn Objective>>,
    check: fn(&ObjectiveConfig) -> Result<()>,
}

impl ObjectiveName {
    pub const ALL: [Registered; 5] = [
        Registered {
            name: ObjectiveName::Clip,
            word: "clip",
            title: "CLIP",
            defends: false,
            labelled: false,
            build: |_, _, _| Ok(Box::new(ClipObjective::default())),
            check: |_| Ok(()),
        },
        Registered {
            name: ObjectiveName::Roclip,
            word: "roclip",
            title: "RoCLIP",
            defends: true,
            labelled: false,
            build: |config, shape, _| Ok(Box::new(RoClip::new(config.roclip.clone(), shape)?)),
            check: |config| config.roclip.check(),
        },
        Registered {
            name: ObjectiveName::Safeclip,
            word: "safeclip",
            title: "SafeCLIP",
            defends: true,
            labelled: false,
            build: |config, shape, _| Ok(Box::new(SafeClip::new(config.safeclip.clone(), shape)?)),
            check: |config| config.safeclip.check(),
        },
        Registered {
            name: ObjectiveName::Classifier,
            word: "classifier",
            title: "Classifier",
            defends: false,
            labelled: true,
            build: |_, shape, supervision| Ok(Box::new(ClassifierObjective::new(supervision, shape))),
            check: |_| Ok(()),
        },
        Registered {
            name: ObjectiveName::Distil,
            word: "distil",
            title: "Student",
            defends: false,
            labelled: true,
            build: |config, shape, supervision| Ok(Box::new(DistilObjective::new(&config.distil, supervision, shape)?)),
            check: |config| config.distil.check(),
        },
    ];

    /// The objective that a recipe or flag spells so.
    pub fn named(word: &str) -> Option<ObjectiveName> {
        ObjectiveName::ALL.iter().find(|known| known.word == word).map(|known| known.name)
    }

    fn registered(self) -> Option<Registered> {
        ObjectiveName::ALL.into_iter().find(|known| known.name == self)
    }

    /// As reports write it.
    pub fn title(self) -> &'static str {
        self.registered().map_or("an objective", |known| known.title)
    }

    /// Whether it learns from labels and trains a classifier.
    pub fn labelled(self) -> bool {
        self.registered().is_some_and(|known| known.labelled)
    }

    /// Whether it is meant to keep poison out.
    pub fn defends(self) -> bool {
        self.registered().is_some_and(|known| known.defends)
    }
}

impl ObjectiveConfig {
    /// Refuses numbers that the named objective cannot train with.
    pub fn check(&self) -> Result<()> {
        self.name.registered().map_or(Ok(()), |known| (known.check)(self))
    }

    /// The named objective, for a run of this shape. `supervision` is empty of objectives that learn from captions.
    pub fn build(&self, shape: RunShape, supervision: Supervision) -> Result<Box<dyn Objective>> {
        self.check()?;
        let known = self.name.registered().ok_or_else(|| Error::internal("this objective is not registered"))?;
        (known.build)(self, shape, supervision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_objective_is_listed_under_the_word_that_recipes_use() {
        for known in ObjectiveName::ALL {
            let section = format!("name = \"{}\"\ndistil = {{ teacher = \"teacher\" }}", known.word);
            let recipe: ObjectiveConfig = toml::from_str(&section).unwrap();
            assert_eq!(recipe.name, known.name);
            assert_eq!(ObjectiveName::named(known.word), Some(known.name));
            let shape = RunShape {
                seed: 0,
                epochs: 10,
                pairs: 200,
                batch_size: 4,
                embed_dim: 4,
                learning_rate: 1e-3,
                warmup_steps: 0,
                device: tch::Device::Cpu,
            };
            match known.name {
                // It needs a model.
                ObjectiveName::Distil => assert!(recipe.build(shape, Supervision::default()).is_err()),
                _ => assert_eq!(recipe.build(shape, Supervision::default()).unwrap().name(), known.word),
            }
        }
        assert_eq!(ObjectiveName::named("roclp"), None);
    }
}
