//! Captioning: the cross-entropy of each caption's tokens, given the picture and the tokens before them.

use crate::error::{Error, Result};
use crate::model::captioner::{Architecture, Captioner, CaptionerConfig, SearchConfig};
use crate::model::{ModelConfig, Part, extent};
use crate::objective::{BatchView, LossOutput, Objective, Phase, RunShape, Towers, Update};
use rand::Rng;
use roclip_data::random;
use roclip_data::source::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// What becomes of the image tower while a captioner learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ImageTower {
    /// It stays as it is.
    #[default]
    Frozen,
    /// It learns, too.
    Tuned,
}

/// Training and measuring a captioner.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionConfig {
    /// The captioner on top of the image tower.
    pub model: CaptionerConfig,
    /// What becomes of the image tower: `frozen` or `tuned`. One with random weights has to be tuned.
    pub image_tower: ImageTower,
    /// Show-attend-tell: weight of the demand that each place of the picture is looked at once over a caption.
    pub attention_weight: f64,
    /// How captions are searched for when the captioner is measured.
    pub search: SearchConfig,
    /// Images whose captions are the references that written ones are measured by. `roclip caption train` writes the test split of the training
    /// data here, else its validation split, where a recipe leaves them out.
    pub references: SourceConfig,
}

impl Default for CaptionConfig {
    fn default() -> Self {
        CaptionConfig {
            model: CaptionerConfig::default(),
            image_tower: ImageTower::Frozen,
            attention_weight: 1.0,
            search: SearchConfig::default(),
            references: SourceConfig { split: Some("test".into()), ..SourceConfig::default() },
        }
    }
}

impl CaptionConfig {
    /// Whether every number can be used, known before anything is read.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        self.search.check(None)
    }
}

/// Trains a captioner, and the image tower where it is tuned.
pub struct CaptionObjective {
    captioner: Captioner,
    tower: ImageTower,
    attention_weight: f64,
}

impl CaptionObjective {
    /// For a run of `shape` on top of the model `clip`.
    ///
    /// # Errors
    /// Those of [`Captioner::new`], and captions that the model's context cannot hold.
    pub fn new(config: &CaptionConfig, clip: &ModelConfig, shape: RunShape) -> Result<Self> {
        config.search.check(Some(clip.text_cfg.context_length as usize))?;
        let seed = random::stream(shape.seed, "captioner", 0, "").next_u64() as i64;
        let captioner = Captioner::new(config.model.clone(), clip, shape.device, seed)?;
        // Cross-attention may look where it likes: the demand is Show, Attend and Tell's.
        let attention_weight = match config.model.architecture {
            Architecture::ShowAttendTell => config.attention_weight,
            Architecture::Bridge => 0.0,
        };
        Ok(CaptionObjective { captioner, tower: config.image_tower, attention_weight })
    }

    /// The loss of captions `tokens` `[batch, length]` of what is `seen`.
    fn loss_of(&self, seen: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let length = extent(tokens, 1);
        if length < 2 {
            return Err(Error::internal("captions without a token to learn"));
        }
        let within = within_caption(tokens);
        let forced = self.captioner.decoder().teacher_forced(seen, tokens);
        let scores = forced.logits.log_softmax(-1, Kind::Float);
        let targets = tokens.narrow(1, 1, length - 1).unsqueeze(-1);
        let told = scores.gather(2, &targets, false).squeeze_dim(2) * &within;
        let told = -told.sum(Kind::Float) / within.sum(Kind::Float);
        Ok(match forced.attention {
            Some(attention) if self.attention_weight > 0.0 => {
                let looked = (attention * within.unsqueeze(-1)).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
                told + (looked - 1.0).square().mean(Kind::Float) * self.attention_weight
            }
            _ => told,
        })
    }
}

/// Whether each of the tokens behind the first, `[batch, length - 1]`, belongs to its caption: those up to the end, which has the largest id.
fn within_caption(tokens: &Tensor) -> Tensor {
    let end = tokens.argmax(1, true);
    Tensor::arange(extent(tokens, 1) - 1, (Kind::Int64, tokens.device()))
        .unsqueeze(0)
        .less_tensor(&end)
        .to_kind(Kind::Float)
}

impl Objective for CaptionObjective {
    fn name(&self) -> &'static str {
        "caption"
    }

    fn phase(&self, _epoch: u64) -> Phase {
        Phase::Caption
    }

    fn update(&self, _phase: Phase, part: Part) -> Update {
        match (part, self.tower) {
            (Part::Objective, _) | (Part::Image, ImageTower::Tuned) => Update::ByGradient,
            _ => Update::Rest,
        }
    }

    fn parameters(&self) -> BTreeMap<String, Tensor> {
        self.captioner.parameters().trainable()
    }

    fn captioner(&self) -> Option<&Captioner> {
        Some(&self.captioner)
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let inputs = towers.inputs(BatchView::First)?;
        let seen = match self.tower {
            ImageTower::Frozen => tch::no_grad(|| self.captioner.see(inputs.model, inputs.images, false))?,
            ImageTower::Tuned => self.captioner.see(inputs.model, inputs.images, true)?,
        };
        let loss = self.loss_of(&seen, inputs.tokens)?;
        Ok(LossOutput { loss, matches: None })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.parameters()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.captioner.load(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::captioner::Bridge;

    #[test]
    fn what_comes_behind_the_end_is_not_learned() {
        let tokens = Tensor::from_slice(&[8i64, 3, 4, 9, 0, 8, 3, 9, 0, 0]).view([2, 5]);
        let within: Vec<Vec<f32>> = Vec::try_from(within_caption(&tokens)).unwrap();
        assert_eq!(within, [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]);
    }

    #[test]
    fn where_cross_attention_looks_costs_nothing() {
        let mut clip = ModelConfig::named("ViT-tiny-32").unwrap();
        clip.text_cfg.vocab_size = 12;
        let shape = RunShape {
            seed: 1,
            epochs: 1,
            pairs: 2,
            batch_size: 2,
            embed_dim: clip.embed_dim,
            learning_rate: 1e-3,
            warmup_steps: 0,
            device: tch::Device::Cpu,
        };
        let (_, channels) = clip.grid(1);
        let seen = Tensor::randn([2, 64, channels], (Kind::Float, tch::Device::Cpu));
        let tokens = Tensor::from_slice(&[10i64, 3, 4, 11, 10, 3, 11, 0]).view([2, 4]);
        // Of one captioner, with the demand and without it.
        let losses = |architecture| {
            let model = CaptionerConfig {
                architecture,
                bridge: Bridge::CrossAttention,
                width: 16,
                heads: 2,
                layers: 2,
                ..CaptionerConfig::default()
            };
            let [with, mut without] = [1.0, 0.0].map(|attention_weight| {
                let config = CaptionConfig { model: model.clone(), attention_weight, ..CaptionConfig::default() };
                CaptionObjective::new(&config, &clip, shape).unwrap()
            });
            tch::no_grad(|| {
                without.load_state(&with.state()).unwrap();
                [with, without].map(|objective| objective.loss_of(&seen, &tokens).unwrap().double_value(&[]))
            })
        };
        let [with, without] = losses(Architecture::Bridge);
        assert_eq!(with, without);
        let [with, without] = losses(Architecture::ShowAttendTell);
        assert!(with > without + 0.1, "{with} {without}");
    }
}
