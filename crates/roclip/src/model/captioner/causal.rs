//! The bridge: a projector from the image features to tokens before the caption (as ClipCap, arXiv 2111.09734), or gated cross-attention to
//! the grid before each block (as Flamingo, arXiv 2204.14198), and a causal decoder of the text tower's own blocks.

use crate::model::captioner::{Bridge, CaptionerConfig, Decode, Step, TeacherForced};
use crate::model::transformer::{LayerNorm, Linear, Transformer, TransformerShape};
use crate::model::{Scope, extent};
use tch::{Kind, Tensor};

enum Link {
    /// From features to `tokens` tokens.
    Prefix { inner: Linear, outer: Linear, tokens: i64 },
    /// One before each block.
    Cross(Vec<CrossAttention>),
}

struct CrossAttention {
    norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Of which the tangent lets through, 0 at first.
    gate: Tensor,
    heads: i64,
}

impl CrossAttention {
    fn new(scope: &Scope, config: &CaptionerConfig, channels: i64) -> Self {
        let width = config.width;
        let linear = |name: &str, input: i64| Linear::new(&scope.child(name), input, width, (input as f64).powf(-0.5));
        CrossAttention {
            norm: LayerNorm::new(&scope.child("ln"), width),
            query: linear("query", width),
            key: linear("key", channels),
            value: linear("value", channels),
            output: linear("output", width),
            gate: scope.constant("gate", &[1], 0.0),
            heads: config.heads,
        }
    }

    /// `x` `[batch, length, width]` and `seen` `[batch, places, channels]` to the new `x` and the mean weights over heads `[batch, length, places]`.
    fn forward(&self, x: &Tensor, seen: &Tensor) -> (Tensor, Tensor) {
        let (batch, length, width) = (extent(x, 0), extent(x, 1), extent(x, 2));
        let head = width / self.heads;
        let split = |t: Tensor| t.view([batch, -1, self.heads, head]).transpose(1, 2);
        let (query, key) = (split(self.query.forward(&self.norm.forward(x))), split(self.key.forward(seen)));
        let value = split(self.value.forward(seen));
        let weights = (query.matmul(&key.transpose(-2, -1)) * (head as f64).powf(-0.5)).softmax(-1, Kind::Float);
        let mixed = weights.matmul(&value).transpose(1, 2).reshape([batch, length, width]);
        let mean = weights.mean_dim([1i64].as_slice(), false, Kind::Float);
        (x + self.gate.tanh() * self.output.forward(&mixed), mean)
    }
}

pub struct CausalDecoder {
    link: Link,
    token_embedding: Tensor,
    positional_embedding: Tensor,
    transformer: Transformer,
    ln_final: LayerNorm,
}

impl CausalDecoder {
    /// For captions of up to `context` tokens.
    pub fn new(scope: &Scope, config: &CaptionerConfig, channels: i64, vocabulary: i64, context: i64) -> Self {
        let width = config.width;
        let shape =
            TransformerShape { width, layers: config.layers, heads: config.heads, causal: true, quick_gelu: false };
        let (link, before) = match config.bridge {
            Bridge::Prefix => {
                let (inner, outer) = ((channels as f64).powf(-0.5), (2.0 * width as f64).powf(-0.5));
                let projector = scope.child("projector");
                let link = Link::Prefix {
                    inner: Linear::new(&projector.child("0"), channels, 2 * width, inner),
                    outer: Linear::new(&projector.child("1"), 2 * width, config.prefix_tokens * width, outer),
                    tokens: config.prefix_tokens,
                };
                (link, config.prefix_tokens)
            }
            Bridge::CrossAttention => {
                let cross = scope.child("cross");
                let layers = (0..config.layers).map(|n| CrossAttention::new(&cross.child(n), config, channels));
                (Link::Cross(layers.collect()), 0)
            }
        };
        CausalDecoder {
            link,
            token_embedding: scope.child("token_embedding").normal("weight", &[vocabulary, width], 0.02),
            positional_embedding: scope.normal("positional_embedding", &[before + context, width], 0.01),
            transformer: Transformer::new(&scope.child("transformer"), shape),
            ln_final: LayerNorm::new(&scope.child("ln_final"), width),
        }
    }

    /// Features behind each of `tokens` `[batch, length, width]`, and the last block's attention `[batch, length, places]`.
    fn features(&self, seen: &Tensor, tokens: &Tensor) -> (Tensor, Option<Tensor>) {
        self.features_embedded(seen, Tensor::embedding(&self.token_embedding, tokens, -1, false, false))
    }

    /// [`CausalDecoder::features`] of words that are embedded already `[batch, length, width]`.
    fn features_embedded(&self, seen: &Tensor, words: Tensor) -> (Tensor, Option<Tensor>) {
        let width = extent(&words, 2);
        let (x, before) = match &self.link {
            Link::Prefix { inner, outer, tokens } => {
                let prefix = outer.forward(&inner.forward(&seen.select(1, 0)).gelu("none")).view([-1, *tokens, width]);
                (Tensor::cat(&[prefix, words], 1), *tokens)
            }
            Link::Cross(_) => (words, 0),
        };
        let length = extent(&x, 1);
        let x = x + self.positional_embedding.narrow(0, 0, length);
        let mut attention = None;
        let x = self.transformer.forward_with(&x, &mut |number, x| match &self.link {
            Link::Prefix { .. } => x,
            Link::Cross(layers) => match layers.get(number) {
                Some(layer) => {
                    let (x, weights) = layer.forward(&x, seen);
                    attention = Some(weights);
                    x
                }
                None => x,
            },
        });
        (self.ln_final.forward(&x.narrow(1, before, length - before)), attention)
    }

    /// The embedding is the output's matrix, too.
    fn logits(&self, features: &Tensor) -> Tensor {
        features.matmul(&self.token_embedding.transpose(0, 1))
    }
}

impl Decode for CausalDecoder {
    fn teacher_forced(&self, seen: &Tensor, tokens: &Tensor) -> TeacherForced {
        let known = tokens.narrow(1, 0, extent(tokens, 1) - 1);
        let (features, attention) = self.features(seen, &known);
        TeacherForced { logits: self.logits(&features), attention }
    }

    fn token_embedding(&self) -> Option<&Tensor> {
        Some(&self.token_embedding)
    }

    fn teacher_forced_embedded(&self, seen: &Tensor, words: &Tensor) -> Option<TeacherForced> {
        let (features, attention) = self.features_embedded(seen, words.shallow_clone());
        Some(TeacherForced { logits: self.logits(&features), attention })
    }

    fn begin(&self, seen: &Tensor) -> Vec<Tensor> {
        let none = Tensor::zeros([extent(seen, 0), 0], (Kind::Int64, seen.device()));
        vec![seen.shallow_clone(), none]
    }

    fn begin_after(&self, seen: &Tensor, prompt: &Tensor) -> Vec<Tensor> {
        vec![seen.shallow_clone(), prompt.shallow_clone()]
    }

    fn step(&self, state: &[Tensor], tokens: &Tensor) -> Step {
        let of = |at: usize| state.get(at).map_or_else(Tensor::new, Tensor::shallow_clone);
        let (seen, before) = (of(0), of(1));
        let all = Tensor::cat(&[before, tokens.unsqueeze(1)], 1);
        let (features, attention) = self.features(&seen, &all);
        let last = extent(&features, 1) - 1;
        Step {
            logits: self.logits(&features.select(1, last)),
            state: vec![seen, all],
            attention: attention.map(|weights| weights.select(1, last)),
        }
    }
}
