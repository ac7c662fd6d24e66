//! The model: how a question and an answer become tokens, what the decoder says of them, and what it answers.

use crate::error::{Error, Result, TorchContext};
use crate::model::captioner::{Architecture, Captioner, CaptionerConfig, SearchConfig, Written};
use crate::model::{Clip, extent, pictures_tensor};
use image::RgbImage;
use roclip_data::instruction::{Wordings, texts_of_attacks};
use roclip_data::tokenizer::{CompactVocabulary, Decoder, Tokenizer, Truncate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Pictures that are looked at, or answered about, at a time.
const AT_A_TIME: usize = 64;

/// The shape of the model on top of a tower.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct VisionLanguageConfig {
    /// The bridge and the decoder; `show-attend-tell` reads no questions.
    pub captioner: CaptionerConfig,
    /// Tokens of question and answer together, with their starts and the end.
    pub context: usize,
}

impl Default for VisionLanguageConfig {
    fn default() -> Self {
        let captioner = CaptionerConfig {
            architecture: Architecture::Bridge,
            bridge: crate::model::captioner::Bridge::CrossAttention,
            ..CaptionerConfig::default()
        };
        VisionLanguageConfig { captioner, context: 64 }
    }
}

impl VisionLanguageConfig {
    pub fn check(&self) -> Result<()> {
        if self.captioner.architecture != Architecture::Bridge {
            return Err(Error::setting(
                "show-attend-tell reads no questions",
                "set the architecture to `bridge`, with prefix or cross-attention",
            ));
        }
        crate::settings::count("context", self.context as u64, 8, 512)?;
        self.captioner.check()
    }
}

/// Which parameters learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tuned {
    /// The bridge and the decoder.
    All,
    /// The bridge alone.
    Bridge,
}

/// A question with its answer as tokens: start, question, start, answer, end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub ids: Vec<i64>,
    /// Index of the second start, behind which the answer stands.
    pub answer_at: usize,
}

/// What the decoder gives for answers that it is shown.
pub struct Forced {
    /// Log-probability of each token behind the first `[batch, length - 1]`.
    pub scores: Tensor,
    /// 1 where that token belongs to the answer or is its end, else 0 `[batch, length - 1]`.
    pub within: Tensor,
    /// `[batch, length - 1, places]`; none without cross-attention.
    pub attention: Option<Tensor>,
}

pub struct VisionLanguage {
    pub tower: Clip,
    /// The tower's own, for its text side.
    pub tower_tokenizer: Tokenizer,
    pub tokenizer: Tokenizer,
    captioner: Captioner,
    decoder: Decoder,
    config: VisionLanguageConfig,
}

impl VisionLanguage {
    /// The vocabulary of `texts`, of all templates and of what the built-in attacks write.
    pub fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>, context: usize) -> Result<CompactVocabulary> {
        let mut all = texts_of_attacks();
        all.extend(texts.map(str::to_owned));
        all.extend(Wordings::texts().map(str::to_owned));
        Ok(CompactVocabulary::build(&Tokenizer::new(context, Truncate::KeepEot)?, all.iter().map(String::as_str)))
    }

    /// A model with random weights, drawn from libtorch's generator seeded with `seed`.
    ///
    /// # Errors
    /// Sizes that cannot be.
    pub fn new(
        config: VisionLanguageConfig,
        vocabulary: CompactVocabulary,
        tower: Clip,
        tower_tokenizer: Tokenizer,
        seed: i64,
    ) -> Result<Self> {
        config.check()?;
        tower.freeze();
        let tokenizer = Tokenizer::new(config.context, Truncate::KeepEot)?.with_compact(Some(vocabulary));
        let mut clip = tower.config().clone();
        clip.text_cfg.vocab_size = tokenizer.vocabulary_size() as i64;
        clip.text_cfg.context_length = config.context as i64;
        let captioner = Captioner::new(config.captioner.clone(), &clip, tower.scale().device(), seed)?;
        let decoder = Decoder::new(&tokenizer)?;
        Ok(VisionLanguage { tower, tower_tokenizer, tokenizer, captioner, decoder, config })
    }

    pub fn config(&self) -> &VisionLanguageConfig {
        &self.config
    }

    pub fn captioner(&self) -> &Captioner {
        &self.captioner
    }

    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    pub fn device(&self) -> Device {
        self.tower.scale().device()
    }

    /// Copies of all weights.
    pub fn weights(&self) -> BTreeMap<String, Tensor> {
        self.captioner.parameters().trainable().into_iter().map(|(name, own)| (name, own.detach().copy())).collect()
    }

    /// # Errors
    /// Weights of another model.
    pub fn load(&self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        self.captioner.load(weights)
    }

    /// Whether a parameter of this name is of the bridge.
    pub fn is_bridge(name: &str) -> bool {
        name.contains(".cross.") || name.contains(".projector.")
    }

    /// What the tower sees of pictures: `[pictures, places, channels]`, without graph.
    pub fn see(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        let mut parts = Vec::new();
        for pictures in pictures.chunks(AT_A_TIME) {
            let images = pictures_tensor(&self.tower, pictures)?;
            parts.push(tch::no_grad(|| self.captioner.see(&self.tower, &images, false))?);
        }
        match parts.is_empty() {
            true => Err(Error::internal("no pictures to look at")),
            false => Ok(Tensor::cat(&parts, 0)),
        }
    }

    /// Unit image features of the tower `[pictures, dim]`, without graph.
    pub fn image_features(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        let mut parts = Vec::new();
        for pictures in pictures.chunks(AT_A_TIME) {
            let images = pictures_tensor(&self.tower, pictures)?;
            parts.push(tch::no_grad(|| {
                self.tower.image_features(&images, false).map(|seen| crate::model::unit(&seen))
            })?);
        }
        Ok(Tensor::cat(&parts, 0))
    }

    /// Unit text features of the tower `[texts, dim]`, without graph.
    pub fn text_features(&self, texts: &[String]) -> Tensor {
        let rows: Vec<Vec<i64>> = texts.iter().map(|text| self.tower_tokenizer.encode(text)).collect();
        let (ids, length) = self.tower_tokenizer.pad(&rows);
        let tokens = Tensor::from_slice(&ids).view([rows.len() as i64, length as i64]).to_device(self.device());
        tch::no_grad(|| crate::model::unit(&self.tower.text_features(&tokens)))
    }

    /// The tokens of a question with its answer. An answer that does not fit the context is cut, with its end kept.
    ///
    /// # Errors
    /// A question that leaves no room for an answer.
    pub fn asked(&self, question: &str, answer: &str) -> Result<Asked> {
        let mut ids = self.prompt(question)?;
        let answer_at = ids.len();
        ids.extend(self.tokenizer.encode(answer));
        if ids.len() > self.config.context {
            ids.truncate(self.config.context);
            if let Some(last) = ids.last_mut() {
                *last = self.decoder.special.end;
            }
        }
        Ok(Asked { ids, answer_at })
    }

    /// Start and tokens of a question.
    fn prompt(&self, question: &str) -> Result<Vec<i64>> {
        let mut ids = self.tokenizer.encode(question);
        ids.pop();
        match ids.len() + 3 <= self.config.context {
            true => Ok(ids),
            false => Err(Error::setting(
                format!("a question of {} tokens leaves no room for an answer in {}", ids.len(), self.config.context),
                "ask a shorter one, or train with a larger context",
            )),
        }
    }

    /// Whether the model's vocabulary has every token of `text`.
    pub fn knows(&self, text: &str) -> bool {
        let unknown = self.tokenizer.compact().map(CompactVocabulary::unknown);
        unknown.is_none_or(|unknown| !self.tokenizer.encode(text).contains(&unknown))
    }

    /// What the decoder makes of `rows` about `seen` `[rows, places, channels]`, with graph to whatever learns.
    pub fn forced(&self, seen: &Tensor, rows: &[&Asked]) -> Forced {
        let length = rows.iter().map(|row| row.ids.len()).max().unwrap_or(2).max(2);
        let (mut ids, mut within) = (Vec::new(), Vec::new());
        for row in rows {
            ids.extend(row.ids.iter().copied().chain(std::iter::repeat(0)).take(length));
            within.extend((1..length).map(|at| f32::from(u8::from(at > row.answer_at && at < row.ids.len()))));
        }
        let tokens = Tensor::from_slice(&ids).view([-1, length as i64]).to_device(self.device());
        let within = Tensor::from_slice(&within).view([-1, length as i64 - 1]).to_device(self.device());
        let forced = self.captioner.decoder().teacher_forced(seen, &tokens);
        let targets = tokens.narrow(1, 1, length as i64 - 1).unsqueeze(-1);
        let scores = forced.logits.log_softmax(-1, Kind::Float).gather(2, &targets, false).squeeze_dim(2);
        Forced { scores, within, attention: forced.attention }
    }

    /// Mean log-probability of the tokens of each answer `[rows]`, without graph.
    pub fn mean_log_probabilities(&self, seen: &Tensor, rows: &[&Asked]) -> Result<Vec<f64>> {
        let mean = tch::no_grad(|| {
            let Forced { scores, within, .. } = self.forced(seen, rows);
            let sum = |tensor: Tensor| tensor.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            sum(scores * &within) / sum(within).clamp_min(1.0)
        });
        Vec::try_from(mean).torch("reading log-probabilities")
    }

    /// One answer for each question about its row of `seen`.
    ///
    /// # Errors
    /// Those of [`Captioner::write`], and questions that leave no room.
    pub fn answers(&self, seen: &Tensor, questions: &[String], search: SearchConfig) -> Result<Vec<String>> {
        let written = self.written(seen, questions, search)?;
        Ok(written.iter().map(|written| self.decoder.text(&written.ids)).collect())
    }

    /// [`VisionLanguage::answers`] as tokens, with their attention.
    ///
    /// # Errors
    /// Those of [`VisionLanguage::answers`].
    pub fn written(&self, seen: &Tensor, questions: &[String], search: SearchConfig) -> Result<Vec<Written>> {
        let prompts = questions.iter().map(|question| self.prompt(question)).collect::<Result<Vec<_>>>()?;
        // Rows of a search have prompts of one length.
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, prompt) in prompts.iter().enumerate() {
            by_length.entry(prompt.len()).or_default().push(at);
        }
        let empty = Written { ids: Vec::new(), log_probability: 0.0, attention: None };
        let mut answers = vec![empty; questions.len()];
        for (length, rows) in by_length {
            for rows in rows.chunks(AT_A_TIME) {
                let ids: Vec<i64> = rows.iter().filter_map(|at| prompts.get(*at)).flatten().copied().collect();
                let prompt = Tensor::from_slice(&ids).view([-1, length as i64]).to_device(self.device());
                let places: Vec<i64> = rows.iter().map(|at| *at as i64).collect();
                let seen = seen.index_select(0, &Tensor::from_slice(&places).to_device(self.device()));
                let room = (self.config.context.saturating_sub(length + 1)).max(1);
                let search = SearchConfig { max_tokens: search.max_tokens.min(room), ..search };
                let special = &self.decoder.special;
                let written = tch::no_grad(|| self.captioner.write_after(&seen, &prompt, special, search))?;
                for (at, written) in rows.iter().zip(written) {
                    if let Some(answer) = answers.get_mut(*at) {
                        *answer = written;
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Entropy of the attention over the places of the picture, in shares of the largest there can be, a mean over the tokens of each answer;
    /// without graph. None without cross-attention.
    pub fn attention_entropy(&self, seen: &Tensor, rows: &[&Asked]) -> Result<Option<Vec<f64>>> {
        let entropies = tch::no_grad(|| {
            let Forced { within, attention, .. } = self.forced(seen, rows);
            let attention = attention?;
            let most = (extent(&attention, 2).max(2) as f64).ln();
            let logs = attention.clamp_min(1e-12).log();
            let each = -(attention * logs).sum_dim_intlist([2i64].as_slice(), false, Kind::Double) / most;
            let sum = |tensor: Tensor| tensor.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            Some(sum(each * &within) / sum(within).clamp_min(1.0))
        });
        entropies.map(|entropies| Vec::try_from(entropies).torch("reading attention")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    fn pictures(count: u8) -> Vec<RgbImage> {
        (0..count).map(|at| RgbImage::from_pixel(32, 32, image::Rgb([at * 40, 90, 200 - at * 30]))).collect()
    }

    #[test]
    fn the_answer_alone_is_scored_whatever_stands_beside_it() {
        for bridge in [Bridge::Prefix, Bridge::CrossAttention] {
            let model = small(bridge);
            let seen = model.see(&pictures(2)).unwrap();
            let short = model.asked("What is it?", "a red square").unwrap();
            let long = model.asked("What does the image describe?", "a red square, a blue box, a red square").unwrap();
            let alone = model.mean_log_probabilities(&seen.narrow(0, 0, 1), &[&short]).unwrap()[0];
            let beside = model.mean_log_probabilities(&seen, &[&short, &long]).unwrap();
            assert!((alone - beside[0]).abs() < 1e-5, "padding changed it: {alone} {beside:?}");
            let forced = model.forced(&seen, &[&short, &long]);
            let counted: Vec<f64> =
                Vec::try_from(forced.within.sum_dim_intlist([1i64].as_slice(), false, Kind::Double)).unwrap();
            assert_eq!(counted, [4.0, 12.0], "words, commas and the end");
            let entropy = model.attention_entropy(&seen, &[&short, &long]).unwrap();
            match bridge {
                Bridge::Prefix => assert!(entropy.is_none()),
                Bridge::CrossAttention => assert!(entropy.unwrap().iter().all(|e| (0.5..=1.0 + 1e-6).contains(e))),
            }
        }
    }

    #[test]
    fn answers_depend_on_the_question_and_not_on_the_batch() {
        let model = small(Bridge::CrossAttention);
        let seen = model.see(&pictures(3)).unwrap();
        let questions = ["What is it?", "Describe it.", "What does the image describe?"].map(str::to_owned);
        let search = SearchConfig { beam: 1, min_tokens: 1, max_tokens: 6 };
        let together = model.answers(&seen, &questions, search).unwrap();
        for (at, question) in questions.iter().enumerate() {
            let alone = model.answers(&seen.narrow(0, at as i64, 1), std::slice::from_ref(question), search).unwrap();
            assert_eq!(alone[0], together[at]);
        }
        assert!(model.knows("a red banana") && !model.knows("zebra crossing"));
        let endless = vec!["what ".repeat(60)];
        assert!(model.answers(&seen.narrow(0, 0, 1), &endless, search).unwrap_err().to_string().contains("no room"));
    }
}
