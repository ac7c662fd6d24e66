//! The residual attention blocks that both towers share.
//!
//! tch operations that cannot fail on the shapes fixed at construction are used in their infallible form, so that the
//! code reads like the formula.

use crate::error::Result;
use crate::model::packing::Packing;
use crate::model::tower::ResidualBlock;
use crate::model::{Scope, Statistics, extent};
use tch::Tensor;

const LAYER_NORM_EPSILON: f64 = 1e-5;

pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub fn new(scope: &Scope, width: i64) -> Self {
        LayerNorm { weight: scope.constant("weight", &[width], 1.0), bias: scope.constant("bias", &[width], 0.0) }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), LAYER_NORM_EPSILON, false)
    }
}

pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Weights from N(0, std); the bias is zero.
    pub fn new(scope: &Scope, input: i64, output: i64, std: f64) -> Self {
        Linear { weight: scope.normal("weight", &[output, input], std), bias: scope.constant("bias", &[output], 0.0) }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Shape and behaviour of a stack of blocks.
#[derive(Debug, Clone, Copy)]
pub struct TransformerShape {
    pub width: i64,
    pub layers: i64,
    pub heads: i64,
    /// Positions see only those before them.
    pub causal: bool,
    pub quick_gelu: bool,
}

struct Block {
    ln_1: LayerNorm,
    in_proj_weight: Tensor,
    in_proj_bias: Tensor,
    out_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    c_proj: Linear,
    shape: TransformerShape,
}

impl Block {
    fn new(scope: &Scope, shape: TransformerShape) -> Self {
        let width = shape.width;
        let d = width as f64;
        let (attention, output, mlp) =
            (d.powf(-0.5), d.powf(-0.5) * (2.0 * shape.layers as f64).powf(-0.5), (2.0 * d).powf(-0.5));
        let attn = scope.child("attn");
        Block {
            ln_1: LayerNorm::new(&scope.child("ln_1"), width),
            in_proj_weight: attn.normal("in_proj_weight", &[3 * width, width], attention),
            in_proj_bias: attn.constant("in_proj_bias", &[3 * width], 0.0),
            out_proj: Linear::new(&attn.child("out_proj"), width, width, output),
            ln_2: LayerNorm::new(&scope.child("ln_2"), width),
            c_fc: Linear::new(&scope.child("mlp").child("c_fc"), width, 4 * width, mlp),
            c_proj: Linear::new(&scope.child("mlp").child("c_proj"), 4 * width, width, output),
            shape,
        }
    }

    /// `[batch, length, width]` to the same.
    fn forward(&self, x: &Tensor) -> Tensor {
        self.behind(x + self.attend(&self.ln_1.forward(x)))
    }

    /// [`Block::forward`] of packed rows `[rows, width]`.
    fn forward_packed(&self, x: &Tensor, packing: &Packing) -> Tensor {
        let projected = packing.pad(&self.input_projection(&self.ln_1.forward(x)));
        let mixed = packing.pack(&self.mixed(self.heads(&projected)));
        self.behind(x + self.out_proj.forward(&mixed))
    }

    /// What the block makes of `x` behind its attention.
    fn behind(&self, x: Tensor) -> Tensor {
        let hidden = self.c_fc.forward(&self.ln_2.forward(&x));
        let hidden = if self.shape.quick_gelu { quick_gelu(&hidden) } else { hidden.gelu("none") };
        &x + self.c_proj.forward(&hidden)
    }

    /// [`Block::forward`] of positions that come behind others, whose keys and values are `past` (none: these are the first). All keys and
    /// values, theirs included, `[batch, heads, length, width / heads]`.
    fn forward_behind(&self, x: &Tensor, past: Option<(&Tensor, &Tensor)>) -> (Tensor, Tensor, Tensor) {
        let (query, key, value) = self.projected(&self.ln_1.forward(x));
        let (key, value) = match past {
            Some((keys, values)) => (Tensor::cat(&[keys, &key], 2), Tensor::cat(&[values, &value], 2)),
            None => (key, value),
        };
        let causal = past.is_none();
        let none = None::<&Tensor>;
        let mixed = Tensor::scaled_dot_product_attention(&query, &key, &value, none, 0.0, causal, None, false);
        let mixed = mixed.transpose(1, 2).reshape([extent(x, 0), extent(x, 1), self.shape.width]);
        (self.behind(x + self.out_proj.forward(&mixed)), key, value)
    }

    /// Queries, keys and values `[batch, heads, length, width / heads]`.
    fn projected(&self, x: &Tensor) -> (Tensor, Tensor, Tensor) {
        self.heads(&self.input_projection(x))
    }

    /// `[.., width]` to `[.., 3 * width]`.
    fn input_projection(&self, x: &Tensor) -> Tensor {
        x.linear(&self.in_proj_weight, Some(&self.in_proj_bias))
    }

    /// Queries, keys and values `[batch, heads, length, width / heads]` of what the input projection gave, `[batch, length, 3 * width]`.
    fn heads(&self, projected: &Tensor) -> (Tensor, Tensor, Tensor) {
        let (batch, length, width) = (extent(projected, 0), extent(projected, 1), self.shape.width);
        let heads =
            projected.view([batch, length, 3, self.shape.heads, width / self.shape.heads]).permute([2, 0, 3, 1, 4]);
        (heads.get(0), heads.get(1), heads.get(2))
    }

    fn attend(&self, x: &Tensor) -> Tensor {
        self.out_proj.forward(&self.mixed(self.projected(x)))
    }

    /// What attention makes of queries, keys and values, `[batch, length, width]`.
    fn mixed(&self, (query, key, value): (Tensor, Tensor, Tensor)) -> Tensor {
        let (batch, length) = (extent(&query, 0), extent(&query, 2));
        let mixed = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            self.shape.causal,
            None,
            false,
        );
        mixed.transpose(1, 2).reshape([batch, length, self.shape.width])
    }
}

fn quick_gelu(hidden: &Tensor) -> Tensor {
    // What fails there (memory that is short) fails in the plain form in tch's words.
    torch_bridge::quick_gelu(hidden).unwrap_or_else(|_| hidden * (hidden * 1.702).sigmoid())
}

impl ResidualBlock for Block {
    fn forward(&self, x: &Tensor, _statistics: Statistics) -> Result<Tensor> {
        Ok(Block::forward(self, x))
    }
}

pub struct Transformer {
    blocks: Vec<Block>,
}

impl Transformer {
    /// Initialised as OpenAI's `initialize_parameters` does for the text tower (CLIP repository, `clip/model.py`).
    pub fn new(scope: &Scope, shape: TransformerShape) -> Self {
        let blocks = (0..shape.layers).map(|n| Block::new(&scope.child("resblocks").child(n), shape)).collect();
        Transformer { blocks }
    }

    pub fn blocks(&self) -> Vec<&dyn ResidualBlock> {
        self.blocks.iter().map(|block| block as &dyn ResidualBlock).collect()
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_with(x, &mut |_, x| x)
    }

    /// [`Transformer::forward`], where `before` changes what goes into each block; it is told the block's number.
    pub fn forward_with(&self, x: &Tensor, before: &mut dyn FnMut(usize, Tensor) -> Tensor) -> Tensor {
        let blocks = self.blocks.iter().enumerate();
        blocks.fold(x.shallow_clone(), |x, (number, block)| block.forward(&before(number, x)))
    }

    /// [`Transformer::forward`] of a causal one over packed rows `[rows, width]`.
    pub fn forward_packed(&self, x: &Tensor, packing: &Packing) -> Tensor {
        self.blocks.iter().fold(x.shallow_clone(), |x, block| block.forward_packed(&x, packing))
    }

    /// [`Transformer::forward_with`] of a causal one, position by position: `x` holds the first positions, or one behind those whose keys and
    /// values are `past`, two for each block. The outcome at `x`, and the keys and values of all.
    pub fn forward_behind(
        &self,
        x: &Tensor,
        past: &[Tensor],
        before: &mut dyn FnMut(usize, Tensor) -> Tensor,
    ) -> (Tensor, Vec<Tensor>) {
        let mut all = Vec::with_capacity(2 * self.blocks.len());
        let mut x = x.shallow_clone();
        for (number, block) in self.blocks.iter().enumerate() {
            let known = past.get(2 * number).zip(past.get(2 * number + 1));
            let (next, key, value) = block.forward_behind(&before(number, x), known);
            x = next;
            all.extend([key, value]);
        }
        (x, all)
    }
}
