//! What objectives learn from beside captions: labels, and a teacher.

use crate::error::{Error, Result};
use crate::model::{Clip, Head, unit};
use tch::Tensor;

/// In place of the index of a class: the pair has none.
const NO_LABEL: i64 = -1;

/// Labels and teacher of a run; empty of objectives that learn from captions.
#[derive(Default)]
pub struct Supervision {
    /// Index of the class of each pair; -1 where it has none.
    pub labels: Vec<i64>,
    pub classes: usize,
    pub teacher: Option<Teacher>,
}

impl Supervision {
    /// Index of each label among `classes`.
    pub fn labels(labels: impl Iterator<Item = Option<impl AsRef<str>>>, classes: &[String]) -> Vec<i64> {
        let index = |label: &str| classes.iter().position(|class| class == label).map(|at| at as i64);
        labels.map(|label| label.and_then(|label| index(label.as_ref())).unwrap_or(NO_LABEL)).collect()
    }

    /// Mean cross-entropy of `logits` `[batch, classes]` of `pairs` with their labels.
    ///
    /// # Errors
    /// A pair without a label.
    pub fn cross_entropy(&self, logits: &Tensor, pairs: &[usize]) -> Result<Tensor> {
        let labels: Vec<i64> = pairs.iter().map(|pair| self.labels.get(*pair).copied().unwrap_or(NO_LABEL)).collect();
        if labels.contains(&NO_LABEL) {
            return Err(Error::internal("a pair without a label is trained on by its label"));
        }
        Ok(logits.cross_entropy_for_logits(&Tensor::from_slice(&labels).to_device(logits.device())))
    }
}

/// A classifier that another one learns from, in evaluation mode.
pub struct Teacher {
    pub model: Clip,
    pub classifier: TeacherClassifier,
}

/// What reads a teacher's image features.
pub enum TeacherClassifier {
    /// A trained head.
    Head(Head),
    /// The prompts of the classes, `[classes, dim]` of unit length, and the factor of the similarities.
    Prompts { classes: Tensor, scale: f64 },
}

impl TeacherClassifier {
    /// Image features `[n, dim]`, not normalised, to logits `[n, classes]`, without graph.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        tch::no_grad(|| match self {
            TeacherClassifier::Head(head) => head.logits(features),
            TeacherClassifier::Prompts { classes, scale } => unit(features).matmul(&classes.transpose(0, 1)) * *scale,
        })
    }
}
