//! Zero-shot classification with averaged prompts (CleanCLIP repository, `src/evaluate.py`).

use crate::error::{Result, TorchContext};
use crate::eval::Evaluator;
use crate::eval::features::{Alter, FeatureKind, ImageEncoder, text_features};
use crate::eval::per_class::mean_per_class_recall;
use crate::model::{Clip, Head, unit};
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::tokenizer::Tokenizer;
use tch::Tensor;

/// As many guesses as the field's widest top-k.
pub const GUESSES: usize = 10;

/// The best classes of each image (ten, or all there are), best first.
pub type Predictions = Vec<Vec<i64>>;

/// `[classes, dim]`: unit text embeddings of each class's prompts, averaged, and of unit length again.
pub fn classifier(model: &Clip, tokenizer: &Tokenizer, prompts: &[Vec<String>]) -> Result<Tensor> {
    let features = unit(&text_features(model, tokenizer, &prompts.concat(), 256, model.scale().device())?);
    let counts: Vec<i64> = prompts.iter().map(|of_class| of_class.len() as i64).collect();
    let mean = |of_class: &Tensor| of_class.mean_dim([0i64].as_slice(), false, tch::Kind::Float);
    let averaged: Vec<Tensor> = features.split_with_sizes(counts, 0).iter().map(mean).collect();
    Ok(unit(&Tensor::stack(&averaged, 0)))
}

/// A model with its classifier, ready to name images.
pub struct ZeroShot<'a> {
    pub encoder: ImageEncoder<'a>,
    /// `[classes, dim]`.
    pub classifier: Tensor,
    /// Names images instead of `classifier`, where there is one.
    pub head: Option<&'a Head>,
    pub classes: &'a [String],
}

impl<'a> ZeroShot<'a> {
    pub fn new(model: &'a Clip, tokenizer: &Tokenizer, evaluator: &'a Evaluator) -> Result<Self> {
        let encoder = ImageEncoder {
            model,
            limits: evaluator.limits,
            batch_size: evaluator.batch_size,
            kind: FeatureKind::Projected,
        };
        let classifier = classifier(model, tokenizer, &evaluator.prompts)?;
        Ok(ZeroShot { encoder, classifier, head: None, classes: &evaluator.classes })
    }

    /// Predictions for `samples`, each altered first.
    pub fn predict(&self, samples: &[&Sample], alter: &Alter) -> Result<Predictions> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.encoder.encode(samples, alter)?;
        let similarities = match self.head {
            Some(head) => tch::no_grad(|| head.logits(&features)),
            None => unit(&features).matmul(&self.classifier.transpose(0, 1)),
        };
        let guesses = GUESSES.min(self.classes.len());
        let (_, best) = similarities.topk(guesses as i64, 1, true, true);
        Vec::<Vec<i64>>::try_from(best).torch("reading predictions")
    }

    /// The class whose prompts lie nearest to each of `captions`.
    pub fn read_captions(&self, tokenizer: &Tokenizer, captions: &[String]) -> Result<Vec<i64>> {
        let model = self.encoder.model;
        let features = unit(&text_features(model, tokenizer, captions, 256, model.scale().device())?);
        let nearest = features.matmul(&self.classifier.transpose(0, 1)).argmax(1, false);
        Vec::<i64>::try_from(nearest).torch("reading predictions")
    }

    pub fn index(&self, class: Option<&str>) -> Option<i64> {
        self.classes.iter().position(|c| Some(c.as_str()) == class).map(|at| at as i64)
    }

    /// How many of `predictions` have the sample's own class among the first `k`.
    pub fn accuracy(&self, predictions: &Predictions, samples: &[&Sample], k: usize) -> Rate {
        let hit = |(best, sample): &(&Vec<i64>, &&Sample)| {
            self.index(sample.class.as_deref()).is_some_and(|truth| best.iter().take(k).any(|guess| *guess == truth))
        };
        Rate::new(predictions.iter().zip(samples).filter(hit).count(), samples.len())
    }

    /// [`mean_per_class_recall`] of `predictions`.
    pub fn mean_per_class_recall(&self, predictions: &Predictions, samples: &[&Sample]) -> f64 {
        mean_per_class_recall(predictions.iter().zip(samples).filter_map(|(best, sample)| {
            let class = sample.class.as_deref()?;
            Some((class, best.first().copied() == self.index(Some(class))))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use roclip_data::tokenizer::Truncate;
    use tch::Device;

    #[test]
    fn a_class_is_the_mean_of_its_own_prompts_however_many() {
        let model = Clip::new(ModelConfig::named("ViT-tiny-32").unwrap(), Device::Cpu, 0).unwrap();
        let tokenizer = Tokenizer::new(model.config().text_cfg.context_length as usize, Truncate::default()).unwrap();
        let class = |prompts: &[&str]| prompts.iter().map(|p| (*p).to_owned()).collect::<Vec<String>>();
        let prompts = [class(&["a dog"]), class(&["two cats", "a cat asleep on a mat"])];
        let rows = classifier(&model, &tokenizer, &prompts).unwrap();
        let each = |text: &str| classifier(&model, &tokenizer, &[class(&[text])]).unwrap();
        let cat = unit(&(each("two cats") + each("a cat asleep on a mat")));
        let wanted = Tensor::cat(&[each("a dog"), cat], 0);
        assert!((rows - wanted).abs().max().double_value(&[]) < 1e-5);
    }
}
