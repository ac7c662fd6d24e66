//! A classifier of labelled pictures: cross-entropy on an image tower and a linear head. The text tower rests.

use crate::error::Result;
use crate::model::{Head, Part, copy_saved};
use crate::objective::{BatchView, LossOutput, Objective, Phase, RunShape, Supervision, Towers, Update};
use rand::Rng;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::Tensor;

/// The image tower and a head on its un-normalised features, by cross-entropy with the labels.
pub struct ClassifierObjective {
    name: &'static str,
    phase: Phase,
    head: Head,
    supervision: Supervision,
}

impl ClassifierObjective {
    /// A head with random weights, drawn by the seed of the run.
    pub fn new(supervision: Supervision, shape: RunShape) -> Self {
        let head = new_head(&supervision, shape);
        ClassifierObjective { name: "classifier", phase: Phase::Labels, head, supervision }
    }

    /// The same loss where another method trains by it, with the head that the method draws. Its epochs are called `phase`.
    pub fn of_method(name: &'static str, phase: Phase, head: Head, supervision: Supervision) -> Self {
        ClassifierObjective { name, phase, head, supervision }
    }
}

/// A head over the classes of `supervision` with random weights, drawn by the seed of the run.
pub(super) fn new_head(supervision: &Supervision, shape: RunShape) -> Head {
    let seed = random::stream(shape.seed, "classifier-head", 0, "").next_u64() as i64;
    Head::new(supervision.classes, shape.embed_dim, seed, shape.device)
}

impl Objective for ClassifierObjective {
    fn name(&self) -> &'static str {
        self.name
    }

    fn phase(&self, _epoch: u64) -> Phase {
        self.phase
    }

    fn update(&self, _phase: Phase, part: Part) -> Update {
        if part == Part::Text { Update::Rest } else { Update::ByGradient }
    }

    fn parameters(&self) -> BTreeMap<String, Tensor> {
        self.head.tensors()
    }

    fn head(&self) -> Option<&Head> {
        Some(&self.head)
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let logits = self.head.logits(&towers.raw_image(BatchView::First)?);
        let loss = self.supervision.cross_entropy(&logits, towers.pairs())?;
        Ok(LossOutput { loss, matches: None })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.parameters()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        copy_saved(&self.parameters(), state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::known_towers::{KnownBatch, concepts};
    use tch::Device;

    #[test]
    fn the_loss_is_the_cross_entropy_of_the_pairs_own_labels() {
        let shape = RunShape {
            seed: 1,
            epochs: 1,
            pairs: 4,
            batch_size: 2,
            embed_dim: 4,
            learning_rate: 1e-3,
            warmup_steps: 0,
            device: Device::Cpu,
        };
        let supervision = Supervision { labels: vec![0, 1, 2, 1], classes: 3, teacher: None };
        let mut objective = ClassifierObjective::new(supervision, shape);
        let images = concepts(&[0, 3]);
        let loss = objective.loss(Phase::Labels, &KnownBatch::new(&images, &images, 1.0, &[2, 3])).unwrap().loss;
        let logits = objective.head().unwrap().logits(&images).log_softmax(1, tch::Kind::Float);
        let wanted = -(logits.double_value(&[0, 2]) + logits.double_value(&[1, 1])) / 2.0;
        assert!((loss.double_value(&[]) - wanted).abs() < 1e-6);
        loss.backward();
        assert!(objective.parameters().values().all(|tensor| tensor.grad().defined()));
    }
}
