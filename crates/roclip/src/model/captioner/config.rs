//! The shape of a captioner, as a recipe says it.

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a captioner is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Soft attention over the places of the tower's grid, and a recurrent decoder (Xu et al., 2015), with a map for every word.
    #[default]
    ShowAttendTell,
    /// A bridge from the tower to a causal transformer.
    Bridge,
}

/// How a causal decoder gets the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Bridge {
    /// The image features become tokens before the caption.
    #[default]
    Prefix,
    /// The decoder looks at the tower's grid before each of its blocks, through a gate that is shut at first.
    CrossAttention,
}

/// The captioner on top of the image tower.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionerConfig {
    /// How it is built: `show-attend-tell` or `bridge`.
    pub architecture: Architecture,
    /// Width of the decoder and of its words.
    pub width: i64,
    /// Show-attend-tell: width of the layer that compares places with the decoder's state.
    pub attention_width: i64,
    /// Stage of a ResNet whose map is the grid, 1 to 4; a ViT's grid is its patches.
    pub grid_stage: usize,
    /// Bridge: how the decoder gets the picture, `prefix` or `cross-attention`.
    pub bridge: Bridge,
    /// Bridge: tokens that the image features become.
    pub prefix_tokens: i64,
    /// Bridge: blocks of the decoder.
    pub layers: i64,
    /// Bridge: heads of each block.
    pub heads: i64,
}

impl Default for CaptionerConfig {
    fn default() -> Self {
        CaptionerConfig {
            architecture: Architecture::ShowAttendTell,
            width: 128,
            attention_width: 64,
            grid_stage: 1,
            bridge: Bridge::Prefix,
            prefix_tokens: 4,
            layers: 3,
            heads: 4,
        }
    }
}

impl CaptionerConfig {
    /// Whether it looks at places of the picture, and has attention maps.
    pub fn attends(&self) -> bool {
        self.architecture == Architecture::ShowAttendTell || self.bridge == Bridge::CrossAttention
    }

    /// Side and channels of the grid that the tower `clip` gives.
    ///
    /// # Errors
    /// A tower that leaves one place of the picture, which nothing can attend to.
    pub fn grid_of(&self, clip: &ModelConfig) -> Result<(i64, i64)> {
        let (side, channels) = clip.grid(self.grid_stage);
        if side < 2 {
            return Err(Error::setting(
                format!(
                    "the image tower has no grid to attend to: stage {} leaves {side} x {side} places of a picture of {} pixels a side",
                    self.grid_stage,
                    clip.image_size()
                ),
                "lower caption.model.grid_stage, take a ViT or larger pictures, or set caption.model.architecture = \"bridge\"",
            ));
        }
        Ok((side, channels))
    }

    /// Whether every number can be used.
    pub fn check(&self) -> Result<()> {
        for (key, value, most) in
            [("width", self.width, 1 << 13), ("heads", self.heads, 1 << 10), ("layers", self.layers, 1 << 8)]
        {
            settings::count(&format!("caption.model.{key}"), u64::try_from(value).unwrap_or(0), 1, most)?;
        }
        if self.heads < 1 || self.width % self.heads != 0 {
            return Err(Error::setting(
                format!(
                    "caption.model.heads is {}, and caption.model.width {} no multiple of it",
                    self.heads, self.width
                ),
                "change one of the two",
            ));
        }
        Ok(())
    }
}
