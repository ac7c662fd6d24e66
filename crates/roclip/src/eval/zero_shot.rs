//! Zero-shot classification with averaged prompts (CleanCLIP repository, `src/evaluate.py`).

use crate::data::Sample;
use crate::error::{Result, TorchContext};
use crate::eval::{Evaluator, Rate, Templates, image_features, text_features};
use crate::model::{Clip, unit};
use crate::poison::Trigger;
use crate::tokenizer::Tokenizer;
use tch::Tensor;

/// The five best classes of each image, best first.
pub type Predictions = Vec<Vec<i64>>;

/// `[classes, dim]`: unit text embeddings averaged over the templates, of unit length again.
pub fn classifier(model: &Clip, tokenizer: &Tokenizer, classes: &[String], templates: &Templates) -> Result<Tensor> {
    let prompts: Vec<String> = classes.iter().flat_map(|class| templates.fill(class)).collect();
    let features = unit(&text_features(model, tokenizer, &prompts, 256, model.scale().device())?);
    let dim = model.config().embed_dim;
    let averaged = features.view([classes.len() as i64, -1, dim]).mean_dim([1i64].as_slice(), false, tch::Kind::Float);
    Ok(unit(&averaged))
}

/// Predictions for `samples`, each under its trigger if one is given.
pub fn predict(
    model: &Clip,
    classifier: &Tensor,
    samples: &[&Sample],
    trigger: Option<&dyn Fn(&Sample) -> Trigger>,
    evaluator: &Evaluator,
) -> Result<Predictions> {
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    let features =
        image_features(model, samples, trigger, evaluator.limits, evaluator.batch_size, classifier.device())?;
    let similarities = unit(&features).matmul(&classifier.transpose(0, 1));
    let classes = classifier.size().first().copied().unwrap_or(0);
    let (_, best) = similarities.topk(classes.min(5), 1, true, true);
    Vec::<Vec<i64>>::try_from(best).torch("reading predictions")
}

/// Top-1 and top-5 accuracy on the true classes.
pub fn accuracy(predictions: &Predictions, samples: &[&Sample], classes: &[String]) -> (Rate, Rate) {
    let mut hits = (0, 0);
    for (best, sample) in predictions.iter().zip(samples) {
        let truth = index(classes, sample.class.as_deref());
        hits.0 += usize::from(truth.is_some() && best.first().copied() == truth);
        hits.1 += usize::from(truth.is_some_and(|t| best.contains(&t)));
    }
    (Rate::new(hits.0, samples.len()), Rate::new(hits.1, samples.len()))
}

pub fn index(classes: &[String], class: Option<&str>) -> Option<i64> {
    classes.iter().position(|c| Some(c.as_str()) == class).map(|at| at as i64)
}
