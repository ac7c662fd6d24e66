//! Named presets: the released code, and its mended form.

use crate::error::{Error, Result};
use crate::objective::{RoClipConfig, SafeClipConfig};
use crate::recipe::{AugmentConfig, ObjectiveConfig, ObjectiveName, Recipe};
use crate::train::WeightDecayGroups;
use roclip_data::augment::{ImageAugmentConfig, TextAugmentConfig, TextRefresh};
use roclip_data::tokenizer::Truncate;

impl Recipe {
    /// The names that [`Recipe::apply_preset`] knows.
    pub const PRESETS: [&str; 5] = ["clip", "roclip", "roclip-released", "safeclip", "safeclip-released"];

    /// Sets what a named preset fixes.
    ///
    /// - `roclip-released`: the released objective, augmentation, optimizer groups and step counter, faults included.
    /// - `roclip`: the objective with mended defaults, and the paper's augmentation of pictures and captions, without which the pool keeps
    ///   next to nothing out. A recipe that says itself how it augments keeps its own.
    /// - `safeclip-released` and `safeclip`: the same for SafeCLIP.
    /// - `clip`: the plain objective without augmentation, the undefended baseline.
    pub fn apply_preset(&mut self, preset: &str) -> Result<()> {
        match preset {
            "clip" => {
                self.objective.name = ObjectiveName::Clip;
                self.augment = AugmentConfig::default();
            }
            "roclip" => self.mended(ObjectiveName::Roclip),
            "roclip-released" => {
                self.objective.name = ObjectiveName::Roclip;
                self.objective.roclip = RoClipConfig::released();
                self.released_pipeline();
                self.train.epoch_offset = 1;
                self.train.epochs = 24;
                self.train.batch_size = 512;
                self.train.learning_rate = 5e-5;
            }
            "safeclip" => self.mended(ObjectiveName::Safeclip),
            "safeclip-released" => {
                self.objective.name = ObjectiveName::Safeclip;
                self.objective.safeclip = SafeClipConfig::released();
                self.released_pipeline();
                self.train.epochs = 32;
                self.train.batch_size = 128;
                self.train.learning_rate = 5e-4;
            }
            other => {
                return Err(Error::setting(
                    format!("unknown preset `{other}`"),
                    format!("use one of {}", Recipe::PRESETS.join(", ")),
                ));
            }
        }
        Ok(())
    }

    /// An objective with its defaults, and the augmentation that it is used with.
    fn mended(&mut self, name: ObjectiveName) {
        self.objective = ObjectiveConfig { name, ..ObjectiveConfig::default() };
        if self.augment == AugmentConfig::default() {
            self.augment =
                AugmentConfig { image: Some(ImageAugmentConfig::default()), text: Some(TextAugmentConfig::default()) };
        }
    }

    /// What both released repositories share: augmentation, truncation, optimizer groups and warm-up.
    fn released_pipeline(&mut self) {
        self.augment.image = Some(ImageAugmentConfig::default());
        self.augment.text = Some(TextAugmentConfig { refresh: TextRefresh::FrozenOnce });
        self.model.truncate = Truncate::DropEot;
        self.train.weight_decay_groups = WeightDecayGroups::ByName;
        self.train.warmup_steps = Some(10_000);
        self.train.warmup_fraction = None;
    }
}
