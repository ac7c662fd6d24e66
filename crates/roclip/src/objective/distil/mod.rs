//! Distillation: a student classifier learns what a teacher makes of trusted pictures, and their labels as far as it is told to. A loss is
//! one file.

mod feature;
mod relation;
mod response;

use crate::error::{Error, Result};
use crate::model::{Head, Part, copy_saved, extent};
use crate::objective::classifier::new_head;
use crate::objective::{BatchView, LossOutput, Objective, Phase, RunShape, Supervision, Teacher, Towers, Update};
use feature::Projector;
use roclip_data::source::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::Tensor;

/// What a student takes from its teacher.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum DistilLoss {
    /// Its probabilities at a temperature (Hinton et al., arXiv 1503.02531).
    #[default]
    Response,
    /// Its image features, through a linear projector. The head learns from its probabilities, which the tower takes nothing of.
    Feature,
    /// How its probabilities relate between the classes of a picture, and between the pictures of a class (DIST, arXiv 2205.10536).
    Relation,
}

/// A student that learns from a teacher on trusted pictures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DistilConfig {
    /// The teacher: a run of a classifier, one of its checkpoints, or with `zero_shot` any CLIP; `roclip distil` sets it. Its manifest, where
    /// it has one, says what is measured.
    pub teacher: PathBuf,
    /// Whether the teacher is a CLIP that teaches by its class prompts.
    pub zero_shot: bool,
    /// The model that `roclip distil` trains; `model.name` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"RN-micro-32")]
    pub student: Option<String>,
    /// The trusted pictures that `roclip distil` trains the student on; the data of the teacher's recipe when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<SourceConfig>,
    /// What the student takes from its teacher.
    pub loss: DistilLoss,
    /// Temperature of both models' probabilities.
    pub temperature: f64,
    /// Weight of the teacher's part of the loss; at 0 the student learns from labels alone, and is the control without a teacher.
    pub teacher_weight: f64,
    /// Weight of the cross-entropy with the labels of the trusted pictures, beside the teacher's part; at 0 they need no labels.
    pub label_weight: f64,
    /// Whether the trusted pictures are left out that lie in the tail of the teacher's `ink_reconstructed` trigger by nature.
    pub remove_tail: bool,
}

impl Default for DistilConfig {
    fn default() -> Self {
        DistilConfig {
            teacher: PathBuf::new(),
            zero_shot: false,
            student: None,
            trusted: None,
            loss: DistilLoss::Response,
            temperature: 4.0,
            teacher_weight: 1.0,
            label_weight: 0.0,
            remove_tail: false,
        }
    }
}

impl DistilConfig {
    /// Refuses what no student can learn with.
    pub fn check(&self) -> Result<()> {
        if self.teacher.as_os_str().is_empty() {
            return Err(Error::setting(
                "objective.distil.teacher names no model",
                "use `roclip distil TEACHER --run FOLDER`, or name the teacher in the recipe",
            ));
        }
        if !(0.0..=1.0).contains(&self.label_weight) {
            return Err(Error::setting(
                format!("objective.distil.label_weight is {}", self.label_weight),
                "choose it from 0 (the teacher alone) to 1 (--label-weight)",
            ));
        }
        if !(0.0..=1e3).contains(&self.teacher_weight) || self.teacher_weight + self.label_weight == 0.0 {
            return Err(Error::setting(
                format!(
                    "objective.distil.teacher_weight is {}, and label_weight {}",
                    self.teacher_weight, self.label_weight
                ),
                "give the teacher, the labels or both some weight",
            ));
        }
        match self.temperature > 0.0 && self.temperature.is_finite() {
            true => Ok(()),
            false => Err(Error::setting(
                format!("objective.distil.temperature is {}", self.temperature),
                "choose it above 0 (--temperature)",
            )),
        }
    }
}

/// A student and its teacher.
pub struct DistilObjective {
    config: DistilConfig,
    head: Head,
    /// Of feature distillation.
    projector: Option<Projector>,
    labels: Supervision,
    teacher: Teacher,
}

impl DistilObjective {
    /// # Errors
    /// Where `supervision` has no teacher.
    pub fn new(config: &DistilConfig, mut supervision: Supervision, shape: RunShape) -> Result<Self> {
        let Some(teacher) = supervision.teacher.take() else {
            return Err(Error::internal("a student without a teacher"));
        };
        let head = new_head(&supervision, shape);
        let projector =
            (config.loss == DistilLoss::Feature).then(|| Projector::new(shape, teacher.model.config().embed_dim));
        Ok(DistilObjective { config: config.clone(), head, projector, labels: supervision, teacher })
    }
}

impl Objective for DistilObjective {
    fn name(&self) -> &'static str {
        "distil"
    }

    fn phase(&self, _epoch: u64) -> Phase {
        Phase::Distillation
    }

    fn update(&self, _phase: Phase, part: Part) -> Update {
        if part == Part::Text { Update::Rest } else { Update::ByGradient }
    }

    fn parameters(&self) -> BTreeMap<String, Tensor> {
        let mut own = self.head.tensors();
        own.extend(self.projector.iter().flat_map(Projector::tensors));
        own
    }

    fn head(&self) -> Option<&Head> {
        Some(&self.head)
    }

    fn teacher(&self) -> Option<&Teacher> {
        Some(&self.teacher)
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let features = towers.raw_image(BatchView::First)?;
        let logits = self.head.logits(&features);
        let taught = towers.image_through(&self.teacher.model, BatchView::First)?;
        let target = self.teacher.classifier.logits(&taught);
        if extent(&target, 1) != extent(&logits, 1) {
            return Err(Error::internal("student and teacher tell other numbers of classes apart"));
        }
        let temperature = self.config.temperature;
        let of_teacher = match &self.projector {
            Some(projector) => {
                let of_head = response::loss(&self.head.logits(&features.detach()), &target, temperature);
                projector.loss(&features, &taught) + of_head
            }
            None if self.config.loss == DistilLoss::Relation => relation::loss(&logits, &target, temperature),
            None => response::loss(&logits, &target, temperature),
        };
        let loss = of_teacher * self.config.teacher_weight;
        let loss = match self.config.label_weight {
            0.0 => loss,
            weight => loss + self.labels.cross_entropy(&logits, towers.pairs())? * weight,
        };
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
    use crate::model::{Clip, ModelConfig};
    use crate::objective::TeacherClassifier;
    use crate::objective::known_towers::{KnownBatch, concepts};
    use tch::{Device, Kind};

    fn shape() -> RunShape {
        RunShape {
            seed: 1,
            epochs: 1,
            pairs: 4,
            batch_size: 4,
            embed_dim: 4,
            learning_rate: 1e-3,
            warmup_steps: 0,
            device: Device::Cpu,
        }
    }

    fn objective(loss: DistilLoss, label_weight: f64) -> DistilObjective {
        let mut config = ModelConfig::named("ViT-tiny-32").unwrap();
        config.text_cfg.vocab_size = 8;
        (config.embed_dim, config.vision_cfg.layers) = (4, crate::model::VisionLayers::Vit(1));
        let model = Clip::new(config, Device::Cpu, 0).unwrap();
        let classifier = TeacherClassifier::Head(Head::new(3, 4, 9, Device::Cpu));
        let teacher = Some(Teacher { model, classifier });
        let labels = if label_weight > 0.0 { vec![0, 1, 2, 0] } else { vec![-1; 4] };
        let config = DistilConfig { loss, label_weight, teacher: "teacher".into(), ..DistilConfig::default() };
        let objective = DistilObjective::new(&config, Supervision { labels, classes: 3, teacher }, shape()).unwrap();
        // Other tests draw from libtorch's generator at the same time: what is compared must have the same weights.
        let TeacherClassifier::Head(taught) = &objective.teacher.classifier else { panic!("a head was given") };
        let own = [&objective.head.weight, &objective.head.bias, &taught.weight, &taught.bias];
        for (number, tensor) in (1..).zip(own) {
            let count = tensor.numel() as i64;
            let wave = (Tensor::arange(count, (Kind::Float, Device::Cpu)) * f64::from(number)).sin().view_as(tensor);
            tch::no_grad(|| tensor.shallow_clone().copy_(&(wave * 0.4)));
        }
        objective
    }

    fn batch() -> KnownBatch {
        let (student, taught) = (concepts(&[0, 1, 2, 3]), concepts(&[1, 1, 3, 2]));
        let student = (student * 1.0).set_requires_grad(true);
        KnownBatch {
            through: Some([taught.shallow_clone(), taught]),
            ..KnownBatch::new(&student, &student, 1.0, &[0, 1, 2, 3])
        }
    }

    #[test]
    fn the_weight_of_labels_adds_their_cross_entropy_and_without_it_none_are_needed() {
        let of =
            |loss, weight| objective(loss, weight).loss(Phase::Distillation, &batch()).unwrap().loss.double_value(&[]);
        for loss in [DistilLoss::Response, DistilLoss::Feature, DistilLoss::Relation] {
            let [none, half, whole] = [0.0, 0.5, 1.0].map(|weight| of(loss, weight));
            assert!(
                half > none && ((whole - none) - 2.0 * (half - none)).abs() < 1e-5,
                "{loss:?}: {none} {half} {whole}"
            );
        }
    }

    #[test]
    fn a_projector_is_trained_and_saved_with_feature_distillation_alone() {
        let mut feature = objective(DistilLoss::Feature, 0.0);
        feature.loss(Phase::Distillation, &batch()).unwrap().loss.backward();
        assert_eq!(
            feature.state().keys().collect::<Vec<_>>(),
            ["head.bias", "head.weight", "projector.bias", "projector.weight"]
        );
        assert!(feature.state().values().all(|tensor| tensor.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0));
        assert_eq!(objective(DistilLoss::Response, 0.0).state().len(), 2);
        let mut other = objective(DistilLoss::Feature, 0.0);
        let _ = tch::no_grad(|| other.head.weight.shallow_clone().zero_());
        other.load_state(&feature.state()).unwrap();
        assert!(other.head.weight.equal(&feature.head.weight));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_their_keys() {
        let refused = |change: fn(&mut DistilConfig)| {
            let mut config = DistilConfig { teacher: "teacher".into(), ..DistilConfig::default() };
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(|config| config.label_weight = 1.5).contains("label_weight is 1.5"));
        assert!(refused(|config| config.label_weight = f64::NAN).contains("label_weight is NaN"));
        assert!(refused(|config| config.teacher_weight = 0.0).contains("teacher_weight is 0"));
        assert!(refused(|config| config.temperature = 0.0).contains("temperature is 0"));
        assert!(refused(|config| config.teacher = PathBuf::new()).contains("names no model"));
    }
}
