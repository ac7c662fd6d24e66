//! CLIP's text tower: a causal transformer, pooled at end-of-text.

use crate::error::Result;
use crate::model::packing::Packing;
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
    /// positions behind the longest caption cannot change the result and need not be computed. Those behind each caption's own end are not
    /// computed either where that is faster.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let end = end_of_text(tokens);
        match Packing::worthwhile(&end, extent(tokens, 1), extent(&self.token_embedding, 1)) {
            Some(packing) => self.forward_packed(tokens, &packing),
            None => self.forward_embedded(&self.embed(tokens), &end),
        }
    }

    fn forward_packed(&self, tokens: &Tensor, packing: &Packing) -> Tensor {
        let positions = self.positional_embedding.index_select(0, &packing.positions());
        let x = self.embed(&packing.pack(&tokens.unsqueeze(-1)).squeeze_dim(1)) + positions;
        let x = self.transformer.forward_packed(&x, packing);
        self.projected(&packing.at_ends(&x))
    }

    /// `[batch, width]` of the last block at the ends to `[batch, embed_dim]`.
    fn projected(&self, pooled: &Tensor) -> Tensor {
        self.ln_final.forward(pooled).matmul(&self.text_projection)
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
        self.projected(&x.gather(1, &end, false).squeeze_dim(1))
    }
}

/// Captions are padded here: what is kept of each block has one shape then.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Clip;
    use tch::{Device, Kind};

    #[test]
    fn packed_captions_have_the_features_and_gradients_of_padded_ones() {
        let mut config = ModelConfig::named("ViT-B-32").unwrap();
        (config.text_cfg.layers, config.text_cfg.vocab_size) = (2, 100);
        config.vision_cfg.layers = crate::model::VisionLayers::Vit(1);
        let model = Clip::new(config, Device::Cpu, 0).unwrap();
        let token = |at: i64, length: i64| match at.cmp(&length) {
            std::cmp::Ordering::Less => at,
            std::cmp::Ordering::Equal => 99,
            std::cmp::Ordering::Greater => 0,
        };
        let tokens: Vec<i64> =
            [5, 12, 3, 7].into_iter().flat_map(|length| (1..=12).map(move |at| token(at, length))).collect();
        let tokens = Tensor::from_slice(&tokens).view([4, 12]);
        let goal = Tensor::randn([4, 512], (Kind::Float, Device::Cpu));
        let parameters = model.parameters().trainable();
        let gradients = |features: &Tensor| {
            (features * &goal).sum(Kind::Float).backward();
            let gradients: Vec<Tensor> = parameters
                .iter()
                .filter(|(_, parameter)| parameter.grad().defined())
                .map(|(_, parameter)| parameter.grad().copy())
                .collect();
            parameters.values().filter(|p| p.grad().defined()).for_each(|p| p.shallow_clone().zero_grad());
            gradients
        };
        let end = tokens.argmax(1, false);
        assert!(Packing::worthwhile(&end, 12, 512).is_some());
        let packed = model.text_features(&tokens);
        let padded = model.text_features_embedded(&model.token_embeddings(&tokens), &end);
        assert!(f64::try_from((&packed - &padded).abs().max()).unwrap() < 1e-5);
        let (packed, padded) = (gradients(&packed), gradients(&padded));
        assert!(packed.len() > 20);
        for (packed, padded) in packed.iter().zip(&padded) {
            let largest = f64::try_from(padded.abs().max()).unwrap();
            assert!(f64::try_from((packed - padded).abs().max()).unwrap() <= 1e-5 * largest.max(1.0));
        }
    }
}
