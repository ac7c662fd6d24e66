//! Model descriptions in open_clip's JSON format.

use crate::error::{Error, Result};
use roclip_data::artifact;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The models known by name; any other is a JSON file.
const BUILT_IN: [(&str, &str); 11] = [
    ("RN50", include_str!("configs/RN50.json")),
    ("RN101", include_str!("configs/RN101.json")),
    ("RN50x4", include_str!("configs/RN50x4.json")),
    ("ViT-B-32", include_str!("configs/ViT-B-32.json")),
    ("ViT-B-16", include_str!("configs/ViT-B-16.json")),
    ("ViT-L-14", include_str!("configs/ViT-L-14.json")),
    ("RN-small-32", include_str!("configs/RN-small-32.json")),
    ("ViT-tiny-32", include_str!("configs/ViT-tiny-32.json")),
    // Of classifiers: a teacher and students, with the least text tower.
    ("RN-mini-32", include_str!("configs/RN-mini-32.json")),
    ("RN-micro-32", include_str!("configs/RN-micro-32.json")),
    ("ViT-micro-32", include_str!("configs/ViT-micro-32.json")),
];

/// Fewer pairs than this are for a small model, with a vocabulary and learning rates of its own.
pub const FEW_PAIRS: usize = 100_000;

/// Of one tower, or of one stage of a ResNet.
const MOST_LAYERS: i64 = 1_000;
/// Twice the largest CLIP that there is has 10 thousand million; 16 GB of numbers.
const MOST_WEIGHTS: f64 = 4e9;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    pub embed_dim: i64,
    /// OpenAI's weights need QuickGELU; plain GELU on them gives silently wrong numbers. Saved with every checkpoint.
    #[serde(default)]
    pub quick_gelu: bool,
    pub vision_cfg: VisionConfig,
    pub text_cfg: TextConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    pub image_size: i64,
    pub layers: VisionLayers,
    pub width: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<i64>,
    #[serde(default = "default_head_width", skip_serializing_if = "is_default_head_width")]
    pub head_width: i64,
}

/// Four stage depths make a ResNet, one number a ViT.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum VisionLayers {
    ResNet([i64; 4]),
    Vit(i64),
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    pub context_length: i64,
    pub vocab_size: i64,
    pub width: i64,
    pub heads: i64,
    pub layers: i64,
}

fn default_head_width() -> i64 {
    64
}

fn is_default_head_width(width: &i64) -> bool {
    *width == default_head_width()
}

impl ModelConfig {
    /// A built-in name (`RN50`, `ViT-B-32`, ...; `/` and `-` are the same) or the path of a JSON file.
    pub fn named(name: &str) -> Result<ModelConfig> {
        let wanted = name.replace('/', "-");
        let built_in = BUILT_IN.iter().find(|(known, _)| known.eq_ignore_ascii_case(&wanted));
        let config: ModelConfig = match built_in {
            Some((_, text)) => serde_json::from_str(text).map_err(|e| Error::internal(format!("{name}: {e}")))?,
            None if Path::new(name).is_file() => {
                let path = Path::new(name);
                ModelConfig::from_description(&artifact::read_json(path)?).map_err(|e| Error::in_file(path, &e))?
            }
            None => {
                let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
                return Err(Error::setting(
                    format!("unknown model `{name}`"),
                    format!("use one of {} or a JSON file of open_clip's or transformers'", known.join(", ")),
                ));
            }
        };
        config.check()?;
        Ok(config)
    }

    /// The built-in model of this shape, whatever its vocabulary.
    pub fn built_in_name(&self) -> Option<&'static str> {
        let same = |text: &str| {
            serde_json::from_str::<ModelConfig>(text).is_ok_and(|mut config| {
                config.text_cfg.vocab_size = self.text_cfg.vocab_size;
                config == *self
            })
        };
        BUILT_IN.iter().find(|(_, text)| same(text)).map(|(name, _)| *name)
    }

    /// Refuses shapes that no tower can have, before anything is allocated.
    pub fn check(&self) -> Result<()> {
        let (vision, text) = (&self.vision_cfg, &self.text_cfg);
        let fail = |what: String| Err(Error::setting(what, "correct the model JSON"));
        let layers = match vision.layers {
            VisionLayers::ResNet(stages) => stages.to_vec(),
            VisionLayers::Vit(layers) => vec![layers],
        };
        let sizes = [
            ("embed_dim", self.embed_dim, 1 << 16),
            ("vision_cfg.image_size", vision.image_size, 1 << 12),
            ("vision_cfg.width", vision.width, 1 << 16),
            ("vision_cfg.head_width", vision.head_width, 1 << 16),
            ("text_cfg.context_length", text.context_length, 1 << 16),
            ("text_cfg.vocab_size", text.vocab_size, 1 << 24),
            ("text_cfg.width", text.width, 1 << 16),
            ("text_cfg.heads", text.heads, 1 << 16),
            ("text_cfg.layers", text.layers, MOST_LAYERS),
        ];
        let layers = layers.into_iter().map(|layers| ("vision_cfg.layers", layers, MOST_LAYERS));
        let patch = vision.patch_size.map(|patch| ("vision_cfg.patch_size", patch, 1 << 12));
        for (name, size, most) in sizes.into_iter().chain(layers).chain(patch) {
            if !(1..=most).contains(&size) {
                return fail(format!("the model's {name} is {size}, which is not between 1 and {most}"));
            }
        }
        let weights = self.weights();
        if weights > MOST_WEIGHTS {
            return fail(format!(
                "the model would have about {weights:.1e} weights; at most {MOST_WEIGHTS:.0e} are supported"
            ));
        }
        if text.width % text.heads != 0 {
            return fail(format!("text width {} is not a multiple of its {} heads", text.width, text.heads));
        }
        match vision.layers {
            VisionLayers::ResNet(_) if vision.image_size % 32 != 0 => {
                fail(format!("image_size {} is not a multiple of 32", vision.image_size))
            }
            VisionLayers::ResNet(_) if vision.width % 2 != 0 || (vision.width * 32) % vision.head_width != 0 => {
                fail(format!("ResNet width {} does not fit head_width {}", vision.width, vision.head_width))
            }
            VisionLayers::Vit(_) => match vision.patch_size {
                Some(patch) if vision.image_size % patch == 0 && vision.width % vision.head_width == 0 => Ok(()),
                Some(patch) => fail(format!(
                    "patch_size {patch} or head_width {} does not fit image {} and width {}",
                    vision.head_width, vision.image_size, vision.width
                )),
                None => fail("a ViT needs patch_size".into()),
            },
            VisionLayers::ResNet(_) => Ok(()),
        }
    }

    /// Side and channels of the image tower's grid of places: a ViT's patches, or the map of a ResNet's stage (1 to 4).
    pub fn grid(&self, stage: usize) -> (i64, i64) {
        let vision = &self.vision_cfg;
        match (vision.layers, vision.patch_size) {
            (VisionLayers::Vit(_), Some(patch)) => (vision.image_size / patch.max(1), vision.width),
            _ => {
                let halved = stage.clamp(1, 4) as u32 - 1;
                (vision.image_size / (4 << halved), (4 * vision.width) << halved)
            }
        }
    }

    pub fn image_size(&self) -> u32 {
        self.vision_cfg.image_size as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_model_is_sound() {
        for (name, _) in BUILT_IN {
            ModelConfig::named(name).unwrap();
        }
        assert_eq!(ModelConfig::named("ViT-B/32").unwrap().vision_cfg.patch_size, Some(32));
    }

    #[test]
    fn sizes_that_no_machine_can_hold_are_refused_by_name() {
        for name in ["RN-small-32", "ViT-tiny-32"] {
            let sound = ModelConfig::named(name).unwrap();
            let refused = |change: &dyn Fn(&mut ModelConfig)| {
                let mut config = sound.clone();
                change(&mut config);
                config.check().unwrap_err().to_string()
            };
            let long = |layers| {
                if name == "ViT-tiny-32" { VisionLayers::Vit(layers) } else { VisionLayers::ResNet([1, layers, 1, 1]) }
            };
            for size in [0, -1, 1_000_000_000, i64::MAX, i64::MIN] {
                assert!(refused(&|config| config.embed_dim = size).contains("embed_dim"));
                assert!(refused(&|config| config.text_cfg.vocab_size = size).contains("vocab_size"));
                assert!(refused(&|config| config.text_cfg.context_length = size).contains("context_length"));
                assert!(refused(&|config| config.text_cfg.width = size).contains("text_cfg.width"));
                assert!(refused(&|config| config.text_cfg.heads = size).contains("heads"));
                assert!(refused(&|config| config.text_cfg.layers = size).contains("text_cfg.layers"));
                assert!(refused(&|config| config.vision_cfg.image_size = size).contains("image_size"));
                assert!(refused(&|config| config.vision_cfg.width = size).contains("vision_cfg.width"));
                assert!(refused(&|config| config.vision_cfg.head_width = size).contains("head_width"));
                assert!(refused(&|config| config.vision_cfg.patch_size = Some(size)).contains("patch_size"));
                assert!(refused(&|config| config.vision_cfg.layers = long(size)).contains("vision_cfg.layers"));
            }
            let both = refused(&|config| {
                (config.vision_cfg.width, config.vision_cfg.head_width) = (1 << 15, 64);
                (config.text_cfg.width, config.text_cfg.heads) = (1 << 15, 1);
            });
            assert!(both.contains("weights"), "{both}");
        }
    }

    #[test]
    fn the_count_of_weights_is_about_right() {
        for (name, thousands) in [("RN50", 102_007.0), ("ViT-B-32", 151_277.0), ("ViT-L-14", 427_617.0)] {
            let share = ModelConfig::named(name).unwrap().weights() / (thousands * 1e3);
            assert!((0.95..1.05).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let error = ModelConfig::named("RN5O").unwrap_err().to_string();
        assert!(error.contains("RN50x4") && error.contains("JSON"), "{error}");
    }
}
