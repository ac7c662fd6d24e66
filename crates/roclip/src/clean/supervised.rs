//! Supervised fine-tuning, CleanCLIP's labelled baseline (repository nishadsinghi/CleanCLIP, class `Finetune`): a linear classifier on
//! un-normalised image features, trained together with the image tower by cross-entropy. The text tower rests, and no longer fits: what is
//! measured afterwards is the classifier. (The released `--backdoor_sufi` flag is broken and left out.)

use crate::clean::{CleanConfig, cleanclip};
use crate::error::{Error, Result};
use crate::model::{Head, Part, copy_saved};
use crate::objective::{BatchView, LossOutput, Objective, Phase, RunShape, Towers, Update};
use crate::train::TrainConfig;
use rand::Rng;
use roclip_data::pairs::Pairs;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::{Device, Tensor};

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
        Supervised::labelled(pairs, classes)
    }

    fn objective(
        &self,
        _clean: &CleanConfig,
        shape: RunShape,
        pairs: &Pairs,
        classes: &[String],
    ) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Supervised::new(pairs, classes, shape.embed_dim, shape.seed, shape.device)))
    }
}

pub struct Supervised {
    head: Head,
    /// Index of the class of each pair.
    labels: Vec<i64>,
}

impl Supervised {
    /// Keeps the pairs whose class is one of `classes`. They are an error when there are none.
    pub fn labelled(pairs: &mut Pairs, classes: &[String]) -> Result<()> {
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

    /// A classifier with PyTorch's default weights, uniform within `1 / sqrt(dim)`. `pairs` went through [`Supervised::labelled`].
    pub fn new(pairs: &Pairs, classes: &[String], embed_dim: i64, seed: u64, device: Device) -> Self {
        let class = |pair: &roclip_data::pairs::Pair| pairs.sample_of(pair).and_then(|sample| sample.class.clone());
        let index =
            |class: Option<String>| classes.iter().position(|name| Some(name) == class.as_ref()).unwrap_or(0) as i64;
        let drawn = random::stream(seed, "supervised-head", 0, "").next_u64() as i64;
        let head = Head::new(classes.len(), embed_dim, drawn, device);
        Supervised { head, labels: pairs.iter().map(|pair| index(class(&pair))).collect() }
    }
}

impl Objective for Supervised {
    fn name(&self) -> &'static str {
        "supervised"
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
        let image = towers.raw_image(BatchView::First)?;
        let labels: Vec<i64> = towers.pairs().iter().filter_map(|pair| self.labels.get(*pair).copied()).collect();
        let labels = Tensor::from_slice(&labels).to_device(image.device());
        Ok(LossOutput { loss: self.head.logits(&image).cross_entropy_for_logits(&labels), matches: Vec::new() })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.parameters()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        copy_saved(&self.parameters(), state)
    }
}
