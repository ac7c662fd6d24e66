//! Named presets: the released code, and its mended form.

use crate::error::{Error, Result};
use crate::objective::{RoClipConfig, SafeClipConfig};
use crate::recipe::{AugmentConfig, ObjectiveConfig, ObjectiveName, Recipe};
use crate::train::WeightDecayGroups;
use roclip_data::augment::{ImageAugmentConfig, TextAugmentConfig, TextRefresh};
use roclip_data::tokenizer::Truncate;

impl Recipe {
    /// Sets what a named preset fixes.
    ///
    /// - `roclip-released`: the released objective, augmentation, optimizer groups and step counter, faults included.
    /// - `roclip`: the objective with mended defaults.
    /// - `safeclip-released` and `safeclip`: the same for SafeCLIP.
    /// - `clip`: the plain objective without augmentation, the undefended baseline.
    pub fn apply_preset(&mut self, preset: &str) -> Result<()> {
        match preset {
            "clip" => {
                self.objective.name = ObjectiveName::Clip;
                self.augment = AugmentConfig::default();
            }
            "roclip" => self.objective = ObjectiveConfig { name: ObjectiveName::Roclip, ..ObjectiveConfig::default() },
            "roclip-released" => {
                self.objective.name = ObjectiveName::Roclip;
                self.objective.roclip = RoClipConfig::released();
                self.released_pipeline();
                self.train.epoch_offset = 1;
                self.train.epochs = 24;
                self.train.batch_size = 512;
                self.train.learning_rate = 5e-5;
            }
            "safeclip" => {
                self.objective = ObjectiveConfig { name: ObjectiveName::Safeclip, ..ObjectiveConfig::default() }
            }
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
                    "use clip, roclip, roclip-released, safeclip or safeclip-released",
                ));
            }
        }
        Ok(())
    }

    /// What both released repositories share: augmentation, truncation, optimizer groups and warm-up.
    fn released_pipeline(&mut self) {
        self.augment.image = Some(ImageAugmentConfig::default());
        self.augment.text = Some(TextAugmentConfig { refresh: TextRefresh::FrozenOnce });
        self.model.truncate = Truncate::DropEot;
        self.train.weight_decay_groups = WeightDecayGroups::ByName;
        self.train.warmup_steps = 10_000;
    }
}
