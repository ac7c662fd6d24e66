//! CLIP's text tower: a causal transformer, pooled at end-of-text.

use crate::error::Result;
use crate::model::tower::{ResidualBlock, Tower};
use crate::model::transformer::{LayerNorm, Transformer, TransformerShape};
use crate::model::{ModelConfig, Scope, Statistics, extent};
use tch::Tensor;

pub struct TextTower {
    token_embedding: Tensor,
    positional_embedding: Tensor,
    transformer: Transformer,
    ln_final: LayerNorm,
    text_projection: Tensor,
}

impl TextTower {
    pub fn new(root: &Scope, config: &ModelConfig) -> Self {
        let text = &config.text_cfg;
        let shape = TransformerShape {
            width: text.width,
            layers: text.layers,
            heads: text.heads,
            causal: true,
            quick_gelu: config.quick_gelu,
        };
        TextTower {
            token_embedding: root.child("token_embedding").normal("weight", &[text.vocab_size, text.width], 0.02),
            positional_embedding: root.normal("positional_embedding", &[text.context_length, text.width], 0.01),
            transformer: Transformer::new(&root.child("transformer"), shape),
            ln_final: LayerNorm::new(&root.child("ln_final"), text.width),
            text_projection: root.normal(
                "text_projection",
                &[text.width, config.embed_dim],
                (text.width as f64).powf(-0.5),
            ),
        }
    }

    /// `tokens` `[batch, length]` to `[batch, embed_dim]`, not normalised.
    ///
    /// `length` may be anything up to the context: the tower is causal and pools at the largest id, which is end-of-text, so
    /// positions behind the longest caption cannot change the result and need not be computed.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        self.forward_embedded(&self.embed(tokens), &end_of_text(tokens))
    }

    /// `tokens` of any shape to their embeddings, which have one dimension more, of the tower's width. Positions are not in them yet.
    pub fn embed(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.token_embedding, tokens, -1, false, false)
    }

    /// Token embeddings `[batch, length, width]` without positions to `[batch, embed_dim]`, not normalised, read at the positions `end`
    /// `[batch]`. With gradient to the embeddings, which need not be those of any token (CoOp, arXiv 2109.01134).
    pub fn forward_embedded(&self, embedded: &Tensor, end: &Tensor) -> Tensor {
        self.pooled(&self.transformer.forward(&self.with_positions(embedded)), end)
    }

    fn with_positions(&self, embedded: &Tensor) -> Tensor {
        embedded + self.positional_embedding.narrow(0, 0, extent(embedded, 1))
    }

    /// What the last block gives, `[batch, length, width]`, to `[batch, embed_dim]`, read at the positions `end` `[batch]`.
    fn pooled(&self, x: &Tensor, end: &Tensor) -> Tensor {
        let end = end.view([-1, 1, 1]).expand([-1, 1, extent(x, 2)], false);
        // The norm works on each position by itself, so pooling first gives the same numbers with less work.
        let pooled = self.ln_final.forward(&x.gather(1, &end, false).squeeze_dim(1));
        pooled.matmul(&self.text_projection)
    }
}

impl Tower for TextTower {
    fn stem(&self, tokens: &Tensor, _statistics: Statistics) -> Result<Tensor> {
        Ok(self.with_positions(&self.embed(tokens)))
    }

    fn blocks(&self) -> Vec<&dyn ResidualBlock> {
        self.transformer.blocks()
    }

    fn head(&self, x: &Tensor, tokens: &Tensor) -> Tensor {
        self.pooled(x, &end_of_text(tokens))
    }
}

/// The place of the largest id, which is end-of-text, in each line of `tokens` `[batch, length]`: `[batch]`.
fn end_of_text(tokens: &Tensor) -> Tensor {
    tokens.argmax(1, false)
}
