//! Supervised fine-tuning, CleanCLIP's labelled baseline (repository nishadsinghi/CleanCLIP, class `Finetune`): a linear classifier on
//! un-normalised image features, trained together with the image tower by cross-entropy. The text tower rests, and no longer fits: what is
//! measured afterwards is the classifier. (The released `--backdoor_sufi` flag is broken and left out.)

use crate::clean::{CleanConfig, cleanclip};
use crate::error::{Error, Result};
use crate::model::Head;
use crate::objective::{ClassifierObjective, Objective, Phase, RunShape, Supervision};
use crate::train::TrainConfig;
use rand::Rng;
use roclip_data::pairs::Pairs;
use roclip_data::random;

pub(super) struct Method;

impl super::Method for Method {
    fn name(&self) -> &'static str {
        "supervised"
    }

    fn title(&self) -> &'static str {
        "Supervised on trusted images"
    }

    fn about(&self) -> &'static str {
        "A linear classifier and the image tower on labelled trusted images; measured by the classifier"
    }

    /// Batch 80 by the parser's default of the linear probe, which this baseline shares.
    fn training(&self) -> TrainConfig {
        TrainConfig {
            batch_size: 80,
            learning_rate: 1e-4,
            warmup_steps: Some(500),
            weight_decay: 0.01,
            ..cleanclip::released_training()
        }
    }

    fn keep_usable(&self, pairs: &mut Pairs, classes: &[String]) -> Result<()> {
        keep_labelled(pairs, classes)
    }

    fn objective(
        &self,
        _clean: &CleanConfig,
        shape: RunShape,
        pairs: &Pairs,
        classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        let of_pairs = pairs.iter().map(|pair| pairs.sample_of(&pair).and_then(|sample| sample.class.clone()));
        let labels = Supervision::labels(of_pairs, classes);
        // PyTorch's default weights, uniform within `1 / sqrt(dim)`.
        let drawn = random::stream(shape.seed, "supervised-head", 0, "").next_u64() as i64;
        let head = Head::new(classes.len(), shape.embed_dim, drawn, shape.device);
        let supervision = Supervision { labels, classes: classes.len(), teacher: None };
        Ok(Box::new(ClassifierObjective::of_method("supervised", Phase::Clip, head, supervision)))
    }
}

/// Keeps the pairs whose class is one of `classes`. They are an error when there are none.
fn keep_labelled(pairs: &mut Pairs, classes: &[String]) -> Result<()> {
    let known = |class: Option<&String>| class.is_some_and(|class| classes.contains(class));
    pairs.retain(|_, sample| known(sample.and_then(|sample| sample.class.as_ref())));
    if pairs.is_empty() {
        return Err(Error::setting(
            "no trusted pair has one of the evaluation's classes",
            "supervised cleaning needs labelled images: set data.source.labels or class_column",
        ));
    }
    Ok(())
}
