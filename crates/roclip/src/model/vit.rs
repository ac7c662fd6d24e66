//! OpenAI's vision transformer (open_clip `VisionTransformer`).

use crate::error::Result;
use crate::model::tower::{ResidualBlock, Tower};
use crate::model::transformer::{LayerNorm, Transformer, TransformerShape};
use crate::model::{ModelConfig, Scope, Statistics, extent};
use tch::Tensor;

pub struct Vit {
    conv1: Tensor,
    patch_size: i64,
    class_embedding: Tensor,
    positional_embedding: Tensor,
    ln_pre: LayerNorm,
    transformer: Transformer,
    ln_post: LayerNorm,
    proj: Tensor,
}

impl Vit {
    /// `patch_size` and `layers` come checked from the configuration.
    pub fn new(scope: &Scope, config: &ModelConfig, patch_size: i64, layers: i64) -> Self {
        let vision = &config.vision_cfg;
        let width = vision.width;
        let scale = (width as f64).powf(-0.5);
        let positions = (vision.image_size / patch_size).pow(2) + 1;
        let fan_in = (3 * patch_size * patch_size) as f64;
        let heads = width / vision.head_width;
        let shape = TransformerShape { width, layers, heads, causal: false, quick_gelu: config.quick_gelu };
        Vit {
            class_embedding: scope.normal("class_embedding", &[width], scale),
            positional_embedding: scope.normal("positional_embedding", &[positions, width], scale),
            proj: scope.normal("proj", &[width, config.embed_dim], scale),
            conv1: scope.child("conv1").uniform("weight", &[width, 3, patch_size, patch_size], fan_in.powf(-0.5)),
            patch_size,
            ln_pre: LayerNorm::new(&scope.child("ln_pre"), width),
            transformer: Transformer::new(&scope.child("transformer"), shape),
            ln_post: LayerNorm::new(&scope.child("ln_post"), width),
        }
    }

    /// `[batch, 3, size, size]` to `[batch, embed_dim]`, not normalised.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        self.projected(&self.positions(images))
    }

    /// `[batch, 3, size, size]` to the normalised class token `[batch, width]`.
    pub fn class_token(&self, images: &Tensor) -> Tensor {
        self.class_token_of(&self.positions(images))
    }

    fn class_token_of(&self, positions: &Tensor) -> Tensor {
        self.ln_post.forward(&positions.select(1, 0))
    }

    fn projected(&self, positions: &Tensor) -> Tensor {
        self.class_token_of(positions).matmul(&self.proj)
    }

    /// `[batch, 3, size, size]` to the normalised patches `[batch, patches, width]`, row by row.
    pub fn patches(&self, images: &Tensor) -> Tensor {
        let positions = self.positions(images);
        self.ln_post.forward(&positions.narrow(1, 1, extent(&positions, 1) - 1))
    }

    /// The class token and the patches behind it, `[batch, 1 + patches, width]`, as the last block gives them.
    fn positions(&self, images: &Tensor) -> Tensor {
        self.transformer.forward(&self.embedded(images))
    }

    /// The class token and the patches behind it, `[batch, 1 + patches, width]`, as the first block takes them.
    fn embedded(&self, images: &Tensor) -> Tensor {
        let stride = [self.patch_size, self.patch_size];
        let patches =
            images.conv2d(&self.conv1, None::<&Tensor>, stride, [0, 0], [1, 1], 1).flatten(2, 3).transpose(1, 2);
        let batch = extent(&patches, 0);
        let class = self.class_embedding.view([1, 1, -1]).expand([batch, 1, -1], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.positional_embedding;
        self.ln_pre.forward(&x)
    }
}

impl Tower for Vit {
    fn stem(&self, images: &Tensor, _statistics: Statistics) -> Result<Tensor> {
        Ok(self.embedded(images))
    }

    fn blocks(&self) -> Vec<&dyn ResidualBlock> {
        self.transformer.blocks()
    }

    fn head(&self, x: &Tensor, _images: &Tensor) -> Tensor {
        self.projected(x)
    }
}
