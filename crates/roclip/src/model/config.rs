//! Model descriptions in open_clip's JSON format.

use crate::error::{Error, Result};
use roclip_data::artifact;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The models known by name; any other is a JSON file.
const BUILT_IN: [(&str, &str); 8] = [
    ("RN50", include_str!("configs/RN50.json")),
    ("RN101", include_str!("configs/RN101.json")),
    ("RN50x4", include_str!("configs/RN50x4.json")),
    ("ViT-B-32", include_str!("configs/ViT-B-32.json")),
    ("ViT-B-16", include_str!("configs/ViT-B-16.json")),
    ("ViT-L-14", include_str!("configs/ViT-L-14.json")),
    ("RN-small-32", include_str!("configs/RN-small-32.json")),
    ("ViT-tiny-32", include_str!("configs/ViT-tiny-32.json")),
];

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
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
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
            None if Path::new(name).is_file() => artifact::read_json(Path::new(name))?,
            None => {
                let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
                return Err(Error::setting(
                    format!("unknown model `{name}`"),
                    format!("use one of {} or a file in open_clip's JSON format", known.join(", ")),
                ));
            }
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses shapes that no tower can have, before anything is allocated.
    pub fn check(&self) -> Result<()> {
        let (vision, text) = (&self.vision_cfg, &self.text_cfg);
        let positive = [
            self.embed_dim,
            vision.image_size,
            vision.width,
            vision.head_width,
            text.context_length,
            text.vocab_size,
            text.width,
            text.heads,
            text.layers,
        ];
        let fail = |what: String| Err(Error::setting(what, "correct the model JSON"));
        if positive.iter().any(|n| *n < 1) {
            return fail("a size in the model is not positive".into());
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
                Some(patch) if patch > 0 && vision.image_size % patch == 0 && vision.width % vision.head_width == 0 => {
                    Ok(())
                }
                Some(patch) => fail(format!(
                    "patch_size {patch} or head_width {} does not fit image {} and width {}",
                    vision.head_width, vision.image_size, vision.width
                )),
                None => fail("a ViT needs patch_size".into()),
            },
            VisionLayers::ResNet(_) => Ok(()),
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
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let error = ModelConfig::named("RN5O").unwrap_err().to_string();
        assert!(error.contains("RN50x4") && error.contains("JSON"), "{error}");
    }
}
