//! What prompt learning trains: context vectors (CoOp, arXiv 2109.01134), and a small network that moves them by the picture (CoCoOp, arXiv
//! 2203.05557, equation 3).
//!
//! `f = unit(V(x))`, `b = h(f)`, `context = U + b` (the same bias for every vector), `g_c = unit(E(start, context, name_c, end))`,
//! `logit_c = exp(logit_scale) <f, g_c>`. `h` is Linear, ReLU, Linear.

use crate::error::{Error, Result, TorchContext};
use crate::eval::Classifier;
use crate::model::{Clip, unit};
use crate::prompt::ClassTokens;
use roclip_data::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Names of the learned tensors, as CoCoOp's code has them.
const CONTEXT: &str = "prompt_learner.ctx";
const META: [&str; 4] = [
    "prompt_learner.meta_net.linear1.weight",
    "prompt_learner.meta_net.linear1.bias",
    "prompt_learner.meta_net.linear2.weight",
    "prompt_learner.meta_net.linear2.bias",
];

/// Learned contexts, with or without the network that makes them depend on the picture.
pub struct PromptLearner {
    /// `[contexts, width]`.
    context: Tensor,
    meta: Option<[Tensor; 4]>,
}

impl PromptLearner {
    /// Contexts that begin as the token embeddings of `text`, and where `reduction` is given a network of `embed_dim / reduction` hidden
    /// units, drawn from libtorch's generator on the CPU as PyTorch's `Linear` is.
    ///
    /// # Errors
    /// A text without a token.
    pub fn new(model: &Clip, tokenizer: &Tokenizer, text: &str, reduction: Option<i64>) -> Result<Self> {
        let ids = tokenizer.encode(text);
        let ids = ids.get(1..ids.len().saturating_sub(1)).unwrap_or_default();
        if ids.is_empty() {
            return Err(Error::setting(
                format!("prompt.context is `{text}`"),
                "give the words that the contexts begin as, for example `a photo of a`",
            ));
        }
        let device = model.scale().device();
        let context = tch::no_grad(|| model.token_embeddings(&Tensor::from_slice(ids).to_device(device)));
        let config = model.config();
        let (dim, width) = (config.embed_dim, config.text_cfg.width);
        let meta = reduction.map(|reduction| {
            let hidden = (dim / reduction).max(1);
            let uniform = |shape: &[i64], fan_in: i64| {
                let bound = (fan_in as f64).powf(-0.5);
                (Tensor::rand(shape, (Kind::Float, Device::Cpu)) * (2.0 * bound) - bound).to_device(device)
            };
            [
                uniform(&[hidden, dim], dim),
                uniform(&[hidden], dim),
                uniform(&[width, hidden], hidden),
                uniform(&[width], hidden),
            ]
        });
        Ok(Self::of(context, meta))
    }

    fn of(context: Tensor, meta: Option<[Tensor; 4]>) -> Self {
        let own = |tensor: Tensor| tensor.detach().copy().set_requires_grad(true);
        PromptLearner { context: own(context), meta: meta.map(|meta| meta.map(own)) }
    }

    /// The name of a tensor that every learner has, or that goes with others, and `tensors` lack.
    pub fn lacking(tensors: &BTreeMap<String, Tensor>) -> Option<&'static str> {
        let has_network = META.iter().any(|name| tensors.contains_key(*name));
        let network = META.into_iter().filter(|_| has_network);
        std::iter::once(CONTEXT).chain(network).find(|name| !tensors.contains_key(*name))
    }

    /// The learner among the tensors of a file.
    ///
    /// # Errors
    /// Tensors that are missing, are not finite or do not fit `model`.
    pub fn from_tensors(model: &Clip, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let config = model.config();
        let (dim, width) = (config.embed_dim, config.text_cfg.width);
        let device = model.scale().device();
        let unfit = |name: &str, why: String| {
            Error::setting(
                format!("the learner's `{name}` {why}"),
                "name the model that it was learned on with --on-model, or use another file of it where this one is damaged",
            )
        };
        let take = |name: &str| -> Result<Tensor> {
            let found = tensors.get(name).ok_or_else(|| unfit(name, "is missing".into()))?;
            match found.isfinite().all().int64_value(&[]) {
                0 => Err(unfit(name, "holds numbers that are not finite".into())),
                _ => Ok(found.to_kind(Kind::Float).to_device(device)),
            }
        };
        let context = take(CONTEXT)?;
        if context.dim() != 2 || context.size().get(1) != Some(&width) {
            return Err(unfit(CONTEXT, format!("is {:?} and the model's tokens have {width} numbers", context.size())));
        }
        let meta = match META.iter().any(|name| tensors.contains_key(*name)) {
            false => None,
            true => {
                let meta = [take(META[0])?, take(META[1])?, take(META[2])?, take(META[3])?];
                let hidden = meta[1].numel() as i64;
                let wanted = [vec![hidden, dim], vec![hidden], vec![width, hidden], vec![width]];
                if let Some((name, tensor)) = META
                    .iter()
                    .zip(&meta)
                    .zip(&wanted)
                    .find(|((_, tensor), wanted)| tensor.size() != **wanted)
                    .map(|(found, _)| found)
                {
                    return Err(unfit(name, format!("is {:?}, which does not fit the model", tensor.size())));
                }
                Some(meta)
            }
        };
        Ok(Self::of(context, meta))
    }

    /// The learned tensors by name; they share memory with the learner.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let meta = self.meta.iter().flat_map(|meta| META.iter().zip(meta));
        let all = std::iter::once((&CONTEXT, &self.context)).chain(meta);
        all.map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect()
    }

    /// Number of context vectors.
    pub fn contexts(&self) -> i64 {
        self.context.size().first().copied().unwrap_or(0)
    }

    /// Whether the contexts depend on the picture.
    pub fn is_conditioned(&self) -> bool {
        self.meta.is_some()
    }

    /// The contexts for pictures with the unit features `features` `[batch, dim]`: `[batch, contexts, width]`, or `[1, contexts, width]`
    /// where they do not depend on the picture.
    pub fn contexts_for(&self, features: &Tensor) -> Tensor {
        match &self.meta {
            None => self.context.unsqueeze(0),
            Some([weight_1, bias_1, weight_2, bias_2]) => {
                let bias = features.linear(weight_1, Some(bias_1)).relu().linear(weight_2, Some(bias_2));
                self.context.unsqueeze(0) + bias.unsqueeze(1)
            }
        }
    }

    /// Logits `[batch, classes]` of pictures with the unit features `image` `[batch, dim]`, by prompts made for pictures with the unit
    /// features `prompt` `[batch, dim]`: the same ones, but where a measurement looks at one branch alone. With gradient to everything.
    pub fn logits(&self, model: &Clip, classes: &ClassTokens, image: &Tensor, prompt: &Tensor) -> Tensor {
        let text = classes.text_features(model, &self.contexts_for(prompt));
        let scale = model.scale().detach();
        match text.size().first() {
            Some(1) => image.matmul(&text.get(0).transpose(0, 1)) * scale,
            _ => text.bmm(&image.unsqueeze(2)).squeeze_dim(2) * scale,
        }
    }
}

/// A learner over one class list, as a classifier of image features.
pub struct LearnedPrompts<'a> {
    pub model: &'a Clip,
    pub learner: &'a PromptLearner,
    pub classes: &'a ClassTokens,
}

impl LearnedPrompts<'_> {
    /// [`PromptLearner::logits`] without graph, a few rows at a time: `[n, classes]`.
    ///
    /// # Errors
    /// A failure of libtorch.
    pub fn logits_of(&self, image: &Tensor, prompt: &Tensor) -> Result<Tensor> {
        let at_a_time = if self.learner.is_conditioned() { self.classes.rows_at_a_time() } else { i64::MAX };
        let rows = image.size().first().copied().unwrap_or(0);
        if rows == 0 {
            return Ok(Tensor::zeros([0, self.classes.len()], (Kind::Float, image.device())));
        }
        tch::no_grad(|| {
            let chunks = (0..rows).step_by(at_a_time.min(rows) as usize).map(|from| {
                let count = at_a_time.min(rows - from);
                self.learner.logits(
                    self.model,
                    self.classes,
                    &image.narrow(0, from, count),
                    &prompt.narrow(0, from, count),
                )
            });
            Tensor::f_cat(&chunks.collect::<Vec<_>>(), 0).torch("joining logits")
        })
    }
}

impl Classifier for LearnedPrompts<'_> {
    fn logits(&self, features: &Tensor) -> Tensor {
        let features = unit(features);
        tch::no_grad(|| self.learner.logits(self.model, self.classes, &features, &features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use roclip_data::tokenizer::Truncate;

    fn model() -> (Clip, Tokenizer) {
        let model = Clip::new(ModelConfig::named("ViT-tiny-32").unwrap(), Device::Cpu, 0).unwrap();
        let tokenizer = Tokenizer::new(model.config().text_cfg.context_length as usize, Truncate::default()).unwrap();
        (model, tokenizer)
    }

    /// A learner that has learned nothing reads as its words do.
    #[test]
    fn contexts_begin_as_the_words_that_they_are_made_of() {
        let (model, tokenizer) = model();
        let learner = PromptLearner::new(&model, &tokenizer, "a photo of a", None).unwrap();
        assert_eq!((learner.contexts(), learner.is_conditioned()), (4, false));
        let words = ["dog".to_owned(), "polar bear".to_owned()];
        let classes = ClassTokens::new(&model, &tokenizer, &words, ".", 4).unwrap();
        let (ids, length) = tokenizer.pad(&words.map(|word| tokenizer.encode(&format!("a photo of a {word}."))));
        let plain = unit(&model.text_features(&Tensor::from_slice(&ids).view([2, length as i64])));
        let learned = classes.text_features(&model, &learner.contexts_for(&plain)).get(0);
        assert!((plain - learned).abs().max().double_value(&[]) < 1e-5);
        assert!(ClassTokens::new(&model, &tokenizer, &["word ".repeat(40)], ".", 4).is_err());
        assert!(PromptLearner::new(&model, &tokenizer, " ", None).is_err());
    }

    #[test]
    fn prompts_of_another_picture_read_differently_only_where_they_depend_on_it() {
        let (model, tokenizer) = model();
        let words = ["dog".to_owned(), "cat".to_owned(), "fish".to_owned()];
        let classes = ClassTokens::new(&model, &tokenizer, &words, "", 4).unwrap();
        tch::manual_seed(1);
        let features = || unit(&Tensor::randn([5, model.config().embed_dim], (Kind::Float, Device::Cpu)));
        let (image, other) = (features(), features());
        for (reduction, differ) in [(None, false), (Some(16), true)] {
            let learner = PromptLearner::new(&model, &tokenizer, "a photo of a", reduction).unwrap();
            let prompts = LearnedPrompts { model: &model, learner: &learner, classes: &classes };
            let (own, lent) = (prompts.logits_of(&image, &image).unwrap(), prompts.logits_of(&image, &other).unwrap());
            assert_eq!((own.size(), !own.allclose(&lent, 1e-6, 1e-6, false)), (vec![5, 3], differ));
            let again = PromptLearner::from_tensors(&model, &learner.tensors()).unwrap();
            let again = LearnedPrompts { model: &model, learner: &again, classes: &classes };
            assert!(again.logits_of(&image, &image).unwrap().equal(&own));
        }
    }

    #[test]
    fn tensors_of_another_model_are_refused_by_name() {
        let (model, tokenizer) = model();
        let learner = PromptLearner::new(&model, &tokenizer, "a photo of a", Some(16)).unwrap();
        let refused = |name: &str, tensor: Option<Tensor>| {
            let mut tensors = learner.tensors();
            match tensor {
                Some(tensor) => drop(tensors.insert(name.into(), tensor)),
                None => drop(tensors.remove(name)),
            }
            PromptLearner::from_tensors(&model, &tensors).err().unwrap().to_string()
        };
        let ones = |shape: &[i64]| Some(Tensor::ones(shape, (Kind::Float, Device::Cpu)));
        assert!(refused(CONTEXT, ones(&[4, 7])).contains("[4, 7]"));
        assert!(refused(CONTEXT, None).contains("is missing"));
        assert!(refused(META[2], ones(&[3, 3])).contains("linear2.weight"));
        assert!(refused(META[1], ones(&[8]).map(|ones| ones * f64::NAN)).contains("not finite"));
    }
}
