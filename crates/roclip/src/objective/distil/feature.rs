//! Feature distillation: the student's features, through a projector that is trained with it, come near the teacher's.

use crate::objective::RunShape;
use rand::Rng;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Names of its weights in a checkpoint.
const WEIGHT: &str = "projector.weight";
const BIAS: &str = "projector.bias";

/// A linear map from the student's features to the teacher's.
pub(super) struct Projector {
    /// `[teacher's dim, student's dim]`.
    weight: Tensor,
    bias: Tensor,
}

impl Projector {
    /// Random weights as a head's, drawn by the seed of the run.
    pub fn new(shape: RunShape, teacher_dim: i64) -> Projector {
        let seed = random::stream(shape.seed, "projector", 0, "").next_u64() as i64;
        let drawn = crate::model::Head::new(teacher_dim as usize, shape.embed_dim, seed, shape.device);
        Projector { weight: drawn.weight, bias: drawn.bias }
    }

    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([(WEIGHT.to_owned(), self.weight.shallow_clone()), (BIAS.to_owned(), self.bias.shallow_clone())])
    }

    /// Mean squared difference of the projected `student` `[batch, student's dim]` and `teacher` `[batch, teacher's dim]`.
    pub fn loss(&self, student: &Tensor, teacher: &Tensor) -> Tensor {
        (student.linear(&self.weight, Some(&self.bias)) - teacher).square().mean(Kind::Float)
    }
}
