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

    /// `[batch, length, width]` to `[batch, heads, length, width / heads]`.
    fn split(&self, x: &Tensor) -> Tensor {
        x.view([extent(x, 0), -1, self.heads, extent(x, 2) / self.heads]).transpose(1, 2)
    }

    /// Keys and values of what is seen `[batch, places, channels]`.
    fn looked_at(&self, seen: &Tensor) -> [Tensor; 2] {
        [self.split(&self.key.forward(seen)), self.split(&self.value.forward(seen))]
    }

    /// `x` `[batch, length, width]` and keys and values of what is seen to the new `x` and the mean weights over heads `[batch, length, places]`.
    fn forward(&self, x: &Tensor, key: &Tensor, value: &Tensor) -> (Tensor, Tensor) {
        let (batch, length, width) = (extent(x, 0), extent(x, 1), extent(x, 2));
        let head = width / self.heads;
        let query = self.split(&self.query.forward(&self.norm.forward(x)));
        let weights = (query.matmul(&key.transpose(-2, -1)) * (head as f64).powf(-0.5)).softmax(-1, Kind::Float);
        let mixed = weights.matmul(value).transpose(1, 2).reshape([batch, length, width]);
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
                    let [key, value] = layer.looked_at(seen);
                    let (x, weights) = layer.forward(&x, &key, &value);
                    attention = Some(weights);
                    x
                }
                None => x,
            },
        });
        (self.ln_final.forward(&x.narrow(1, before, length - before)), attention)
    }

    /// What comes behind a state, which [`Decode::begin`] makes: keys and values of what is seen, two for each block that looks, and behind them
    /// those of the positions so far, two for each block; without any of these the prefix comes first. The features of the last of `tokens`
    /// `[rows, length]`, its attention, and the new state.
    fn continued(&self, state: &[Tensor], tokens: &Tensor) -> (Tensor, Option<Tensor>, Vec<Tensor>) {
        let words = Tensor::embedding(&self.token_embedding, tokens, -1, false, false);
        let fixed = match &self.link {
            Link::Prefix { .. } => 1,
            Link::Cross(layers) => 2 * layers.len(),
        };
        let (seen, past) = state.split_at_checked(fixed).unwrap_or((state, &[]));
        let x = match (&self.link, past.is_empty(), seen.first()) {
            (Link::Prefix { .. }, true, Some(prefix)) => Tensor::cat(&[prefix, &words], 1),
            _ => words,
        };
        let from = past.first().map_or(0, |keys| extent(keys, 2));
        let length = extent(&x, 1);
        let x = x + self.positional_embedding.narrow(0, from, length);
        let mut attention = None;
        let (x, known) = self.transformer.forward_behind(&x, past, &mut |number, x| match &self.link {
            Link::Prefix { .. } => x,
            Link::Cross(layers) => match (layers.get(number), seen.get(2 * number), seen.get(2 * number + 1)) {
                (Some(layer), Some(key), Some(value)) => {
                    let (x, weights) = layer.forward(&x, key, value);
                    attention = Some(weights);
                    x
                }
                _ => x,
            },
        });
        let last = |tensor: &Tensor| tensor.select(1, extent(tensor, 1) - 1);
        let state = seen.iter().map(Tensor::shallow_clone).chain(known).collect();
        (self.ln_final.forward(&last(&x)), attention.as_ref().map(last), state)
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
        match &self.link {
            Link::Prefix { inner, outer, tokens } => {
                let width = extent(&self.token_embedding, 1);
                vec![outer.forward(&inner.forward(&seen.select(1, 0)).gelu("none")).view([-1, *tokens, width])]
            }
            Link::Cross(layers) => layers.iter().flat_map(|layer| layer.looked_at(seen)).collect(),
        }
    }

    fn begin_after(&self, seen: &Tensor, prompt: &Tensor) -> Vec<Tensor> {
        let state = self.begin(seen);
        if extent(prompt, 1) == 0 { state } else { self.continued(&state, prompt).2 }
    }

    fn step(&self, state: &[Tensor], tokens: &Tensor) -> Step {
        let (features, attention, state) = self.continued(state, &tokens.unsqueeze(1));
        Step { logits: self.logits(&features), state, attention }
    }
}
