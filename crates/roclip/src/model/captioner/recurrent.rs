//! Show, Attend and Tell (Xu et al., arXiv 1502.03044) in the form of the checkpoint that AICAttack takes its attention from (sgrvinod's
//! tutorial): additive soft attention with a gate, and an LSTM cell whose state begins with the mean of the places.

use crate::model::captioner::{CaptionerConfig, Decode, Step, TeacherForced};
use crate::model::transformer::Linear;
use crate::model::{Scope, extent};
use tch::{Kind, Tensor};

const EMBEDDING_BOUND: f64 = 0.1;

pub struct RecurrentDecoder {
    embedding: Tensor,
    place: Linear,
    asked: Linear,
    score: Linear,
    gate: Linear,
    first_hidden: Linear,
    first_cell: Linear,
    input_weight: Tensor,
    input_bias: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    output: Linear,
}

impl RecurrentDecoder {
    pub fn new(scope: &Scope, config: &CaptionerConfig, channels: i64, vocabulary: i64) -> Self {
        let (width, attention) = (config.width, config.attention_width);
        let linear = |name: &str, input: i64, output: i64| {
            Linear::new(&scope.child(name), input, output, (input as f64).powf(-0.5))
        };
        let bound = (width as f64).powf(-0.5);
        let cell = scope.child("lstm");
        RecurrentDecoder {
            embedding: scope.child("embedding").uniform("weight", &[vocabulary, width], EMBEDDING_BOUND),
            place: linear("attention_place", channels, attention),
            asked: linear("attention_hidden", width, attention),
            score: linear("attention_score", attention, 1),
            gate: linear("gate", width, channels),
            first_hidden: linear("first_hidden", channels, width),
            first_cell: linear("first_cell", channels, width),
            input_weight: cell.uniform("weight_ih", &[4 * width, width + channels], bound),
            input_bias: cell.uniform("bias_ih", &[4 * width], bound),
            hidden_weight: cell.uniform("weight_hh", &[4 * width, width], bound),
            hidden_bias: cell.uniform("bias_hh", &[4 * width], bound),
            output: linear("output", width, vocabulary),
        }
    }

    /// Weights of the places `[rows, places]`, from `seen` `[rows, places, channels]` and what [`Self::place`] makes of it.
    fn attend(&self, places: &Tensor, hidden: &Tensor) -> Tensor {
        let compared = (places + self.asked.forward(hidden).unsqueeze(1)).relu();
        self.score.forward(&compared).squeeze_dim(2).softmax(1, Kind::Float)
    }

    /// The next `(hidden, cell)` `[rows, width]`, in PyTorch's order of gates.
    fn cell(&self, input: &Tensor, hidden: &Tensor, cell: &Tensor) -> (Tensor, Tensor) {
        let gates = input.linear(&self.input_weight, Some(&self.input_bias))
            + hidden.linear(&self.hidden_weight, Some(&self.hidden_bias));
        let parts = gates.chunk(4, 1);
        let part = |at: usize| parts.get(at).map_or_else(|| gates.shallow_clone(), Tensor::shallow_clone);
        let (keep, forget, new, show) = (part(0).sigmoid(), part(1).sigmoid(), part(2).tanh(), part(3).sigmoid());
        let cell = forget * cell + keep * new;
        (show * cell.tanh(), cell)
    }
}

/// Places of the state's tensors.
const SEEN: usize = 0;
const PLACES: usize = 1;
const HIDDEN: usize = 2;
const CELL: usize = 3;

impl Decode for RecurrentDecoder {
    fn teacher_forced(&self, seen: &Tensor, tokens: &Tensor) -> TeacherForced {
        let mut state = self.begin(seen);
        let (mut logits, mut attention) = (Vec::new(), Vec::new());
        for at in 0..extent(tokens, 1) - 1 {
            let step = self.step(&state, &tokens.select(1, at));
            logits.push(step.logits);
            attention.extend(step.attention);
            state = step.state;
        }
        TeacherForced { logits: Tensor::stack(&logits, 1), attention: Some(Tensor::stack(&attention, 1)) }
    }

    fn begin(&self, seen: &Tensor) -> Vec<Tensor> {
        let mean = seen.mean_dim([1i64].as_slice(), false, Kind::Float);
        let (hidden, cell) = (self.first_hidden.forward(&mean), self.first_cell.forward(&mean));
        vec![seen.shallow_clone(), self.place.forward(seen), hidden, cell]
    }

    fn step(&self, state: &[Tensor], tokens: &Tensor) -> Step {
        let of = |at: usize| state.get(at).map_or_else(Tensor::new, Tensor::shallow_clone);
        let (seen, places, hidden, cell) = (of(SEEN), of(PLACES), of(HIDDEN), of(CELL));
        let weights = self.attend(&places, &hidden);
        let context = (&seen * weights.unsqueeze(-1)).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let context = context * self.gate.forward(&hidden).sigmoid();
        let word = Tensor::embedding(&self.embedding, tokens, -1, false, false);
        let (hidden, cell) = self.cell(&Tensor::cat(&[word, context], 1), &hidden, &cell);
        Step { logits: self.output.forward(&hidden), state: vec![seen, places, hidden, cell], attention: Some(weights) }
    }
}
