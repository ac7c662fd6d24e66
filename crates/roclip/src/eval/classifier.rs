//! Classifiers on image features: the prompts of the classes, or trained weights.

use crate::error::{Result, TorchContext};
use crate::eval::features::{check_finite, shared_text_features};
use crate::eval::prompts::Prompts;
use crate::model::{Clip, Head, unit};
use crate::objective::TeacherClassifier;
use crate::world::World;
use roclip_data::tokenizer::Tokenizer;
use tch::{Kind, Tensor};

/// Prompts encoded at a time; what a larger list needs of memory does not grow with it.
const PROMPTS_AT_A_TIME: usize = 100_000;
const BATCH: usize = 256;

/// Scores classes by an image's features.
pub trait Classifier {
    /// `features` `[n, dim]`, projected and not normalised, to `[n, classes]`; the largest is the guess.
    fn logits(&self, features: &Tensor) -> Tensor;

    /// What the scores are multiplied with before a softmax makes probabilities of them.
    fn scale(&self) -> f64 {
        1.0
    }
}

impl Classifier for Head {
    fn logits(&self, features: &Tensor) -> Tensor {
        tch::no_grad(|| Head::logits(self, features))
    }
}

impl Classifier for TeacherClassifier {
    fn logits(&self, features: &Tensor) -> Tensor {
        TeacherClassifier::logits(self, features)
    }
}

/// Zero-shot classification with averaged prompts (CleanCLIP repository, `src/evaluate.py`).
pub struct ClassPrompts {
    /// `[classes, dim]`: unit text embeddings of each class's prompts, averaged, and of unit length again.
    classes: Tensor,
    /// The model's `exp(logit_scale)`.
    scale: f64,
}

impl ClassPrompts {
    /// # Errors
    /// When an embedding is not finite.
    pub fn new(model: &Clip, tokenizer: &Tokenizer, prompts: &Prompts) -> Result<ClassPrompts> {
        ClassPrompts::shared(model, tokenizer, prompts, &World::alone())
    }

    /// [`ClassPrompts::new`], encoded by the processes of `world` together, all of which get all of it.
    ///
    /// # Errors
    /// When an embedding is not finite.
    pub fn shared(model: &Clip, tokenizer: &Tokenizer, prompts: &Prompts, world: &World) -> Result<ClassPrompts> {
        let mean = |of_class: &Tensor| of_class.mean_dim([0i64].as_slice(), false, Kind::Float);
        let mut averaged: Vec<Tensor> = Vec::with_capacity(prompts.classes());
        for chunk in prompts.chunks(PROMPTS_AT_A_TIME) {
            let counts: Vec<i64> = chunk.iter().map(|of_class| of_class.len() as i64).collect();
            let features = unit_text(model, tokenizer, &chunk.concat(), world)?;
            averaged.extend(features.split_with_sizes(counts, 0).iter().map(mean));
        }
        let scale = tch::no_grad(|| model.scale().double_value(&[]));
        Ok(ClassPrompts { classes: unit(&Tensor::stack(&averaged, 0)), scale })
    }

    /// The same, in the same memory.
    pub fn shallow_clone(&self) -> ClassPrompts {
        ClassPrompts { classes: self.classes.shallow_clone(), scale: self.scale }
    }

    /// What a student learns from.
    pub fn into_teacher(self) -> TeacherClassifier {
        TeacherClassifier::Prompts { classes: self.classes, scale: self.scale }
    }

    /// The class whose prompts lie nearest to each of `captions`.
    pub fn read_captions(&self, model: &Clip, tokenizer: &Tokenizer, captions: &[String]) -> Result<Vec<i64>> {
        if captions.is_empty() {
            return Ok(Vec::new());
        }
        let nearest = self.logits(&unit_text(model, tokenizer, captions, &World::alone())?).argmax(1, false);
        Vec::<i64>::try_from(nearest).torch("reading predictions")
    }
}

impl Classifier for ClassPrompts {
    fn logits(&self, features: &Tensor) -> Tensor {
        unit(features).matmul(&self.classes.transpose(0, 1))
    }

    fn scale(&self) -> f64 {
        self.scale
    }
}

fn unit_text(model: &Clip, tokenizer: &Tokenizer, texts: &[String], world: &World) -> Result<Tensor> {
    let device = model.scale().device();
    let features = unit(&shared_text_features(model, tokenizer, texts, BATCH, device, world)?);
    check_finite(&features, "text")?;
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use roclip_data::tokenizer::Truncate;
    use tch::Device;

    fn lists(prompts: &[&[&str]]) -> Prompts {
        Prompts::Captions(prompts.iter().map(|of| of.iter().map(|p| (*p).to_owned()).collect()).collect())
    }

    #[test]
    fn a_class_is_the_mean_of_its_own_prompts_however_many() {
        let model = Clip::new(ModelConfig::named("ViT-tiny-32").unwrap(), Device::Cpu, 0).unwrap();
        let tokenizer = Tokenizer::new(model.config().text_cfg.context_length as usize, Truncate::default()).unwrap();
        let rows = |prompts: &[&[&str]]| ClassPrompts::new(&model, &tokenizer, &lists(prompts)).unwrap().classes;
        let found = rows(&[&["a dog"], &["two cats", "a cat asleep on a mat"]]);
        let cat = unit(&(rows(&[&["two cats"]]) + rows(&[&["a cat asleep on a mat"]])));
        let wanted = Tensor::cat(&[rows(&[&["a dog"]]), cat], 0);
        assert!((found - wanted).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn features_that_are_no_numbers_are_an_error() {
        assert!(check_finite(&Tensor::from_slice(&[1.0f32, -2.0]), "image").is_ok());
        for broken in [f32::NAN, f32::INFINITY] {
            let error = check_finite(&Tensor::from_slice(&[1.0, broken]), "image").unwrap_err();
            assert!(error.to_string().contains("image features are not finite"), "{error}");
        }
    }
}
