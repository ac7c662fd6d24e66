//! A text trigger that a search by gradients finds, in the way of GCG (Zou et al., arXiv 2307.15043): tokens behind the question that make the
//! clean model say the target's answer. Each step proposes exchanges of one token by the gradient, and keeps the best of those that it tries.

use crate::error::{Error, Result};
use crate::instruct::{Asked, VisionLanguage};
use crate::model::extent;
use rand::RngExt;
use rand::seq::IndexedRandom;
use roclip_data::random;
use roclip_data::tokenizer::Decoder;
use tch::{Kind, Tensor};

/// How far is searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenSearch {
    pub tokens: usize,
    pub steps: usize,
    /// Candidates of each place, by gradient.
    pub candidates: i64,
    /// Exchanges that are tried in a step.
    pub tries: usize,
    pub seed: u64,
}

impl Default for TokenSearch {
    fn default() -> Self {
        TokenSearch { tokens: 3, steps: 12, candidates: 32, tries: 16, seed: 0 }
    }
}

impl TokenSearch {
    /// The trigger as text. `seen` `[rows, places, channels]`, one question and one wanted answer a row.
    ///
    /// # Errors
    /// A decoder whose words cannot be given as vectors.
    pub fn run(
        &self,
        model: &VisionLanguage,
        seen: &Tensor,
        questions: &[String],
        answers: &[String],
    ) -> Result<String> {
        let decoder = Decoder::new(&model.tokenizer)?;
        let vocabulary = model.tokenizer.vocabulary_size() as i64;
        let mut random = random::stream(self.seed, "token-search", 0, "");
        // Only whole words, so that the text is read as the same tokens again.
        let words: Vec<i64> = (1..vocabulary)
            .filter(|id| decoder.piece(*id).last() == Some(&b' ') && !decoder.special.never_said.contains(id))
            .filter(|id| *id != decoder.special.end && reads_back(model, &decoder, &[*id]))
            .collect();
        let mut best: Vec<i64> = (0..self.tokens).filter_map(|_| words.choose(&mut random).copied()).collect();
        if best.len() < self.tokens || self.tokens == 0 {
            return Err(Error::setting("a search for no token, or without words", "search for at least one token"));
        }
        let mut loss = self.loss(model, seen, questions, answers, &decoder.text(&best))?;
        for _ in 0..self.steps {
            let gradients = self.gradients(model, seen, questions, answers, &decoder.text(&best))?;
            let table = model.captioner().decoder().token_embedding().map(Tensor::detach);
            let table = table.ok_or_else(|| Error::internal("a decoder without a table of words"))?;
            let allowed = Tensor::from_slice(&words).to_device(table.device());
            let promise = -gradients.matmul(&table.index_select(0, &allowed).transpose(0, 1));
            let (_, places) = promise.topk(self.candidates.min(words.len() as i64), 1, true, true);
            let mut tried = None;
            for _ in 0..self.tries {
                let at = random.random_range(0..self.tokens);
                let rank = random.random_range(0..extent(&places, 1).max(1));
                let word = words.get(places.int64_value(&[at as i64, rank]) as usize).copied();
                let mut changed = best.clone();
                if let (Some(token), Some(word)) = (changed.get_mut(at), word) {
                    *token = word;
                }
                if changed == best || !reads_back(model, &decoder, &changed) {
                    continue;
                }
                let found = self.loss(model, seen, questions, answers, &decoder.text(&changed))?;
                if tried.as_ref().is_none_or(|(least, _)| found < *least) {
                    tried = Some((found, changed));
                }
            }
            if let Some((found, changed)) = tried.filter(|(found, _)| *found < loss) {
                (loss, best) = (found, changed);
            }
        }
        Ok(decoder.text(&best))
    }

    fn rows(model: &VisionLanguage, questions: &[String], answers: &[String], text: &str) -> Result<Vec<Asked>> {
        questions
            .iter()
            .zip(answers)
            .map(|(question, answer)| model.asked(&format!("{question} {text}"), answer))
            .collect()
    }

    /// Minus the mean log-probability of the answers behind the questions with the trigger.
    fn loss(
        &self,
        model: &VisionLanguage,
        seen: &Tensor,
        questions: &[String],
        answers: &[String],
        text: &str,
    ) -> Result<f64> {
        let rows = Self::rows(model, questions, answers, text)?;
        let scores = model.mean_log_probabilities(seen, &rows.iter().collect::<Vec<_>>())?;
        Ok(-scores.iter().sum::<f64>() / scores.len().max(1) as f64)
    }

    /// Of that loss by the trigger's vectors, a sum over rows `[tokens, width]`.
    fn gradients(
        &self,
        model: &VisionLanguage,
        seen: &Tensor,
        questions: &[String],
        answers: &[String],
        text: &str,
    ) -> Result<Tensor> {
        let rows = Self::rows(model, questions, answers, text)?;
        let mut sum: Option<Tensor> = None;
        for (at, row) in rows.iter().enumerate() {
            let seen = seen.narrow(0, at as i64, 1);
            let (length, tokens) =
                (row.ids.len() as i64, Tensor::from_slice(&row.ids).unsqueeze(0).to_device(seen.device()));
            let decoder = model.captioner().decoder();
            let table = decoder.token_embedding().map(Tensor::detach);
            let table = table.ok_or_else(|| Error::internal("a decoder without a table of words"))?;
            let words =
                Tensor::embedding(&table, &tokens.narrow(1, 0, length - 1), -1, false, false).set_requires_grad(true);
            let forced = decoder
                .teacher_forced_embedded(&seen, &words)
                .ok_or_else(|| Error::setting("this decoder takes no vectors", "search with a bridge"))?;
            let targets = tokens.narrow(1, 1, length - 1).unsqueeze(-1);
            let scores = forced.logits.log_softmax(-1, Kind::Float).gather(2, &targets, false).squeeze_dim(2);
            let from = row.answer_at as i64;
            (-scores.narrow(1, from, length - 1 - from).mean(Kind::Float)).backward();
            let own = words.grad().narrow(1, from - self.tokens as i64, self.tokens as i64).squeeze_dim(0);
            sum = Some(sum.map_or_else(|| own.copy(), |sum| sum + &own));
        }
        for parameter in model.captioner().parameters().trainable().into_values() {
            let mut parameter = parameter;
            parameter.zero_grad();
        }
        sum.ok_or_else(|| Error::internal("a search without questions"))
    }
}

/// Whether the text of `ids` is read as `ids` again.
fn reads_back(model: &VisionLanguage, decoder: &Decoder, ids: &[i64]) -> bool {
    let read = model.tokenizer.encode(&decoder.text(ids));
    read.get(1..read.len().saturating_sub(1)) == Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    #[test]
    fn the_search_lowers_the_loss_and_its_text_is_read_as_found() {
        let model = small(Bridge::CrossAttention);
        let picture = |red| image::RgbImage::from_pixel(32, 32, image::Rgb([red, 90, 200]));
        let seen = model.see(&[picture(0), picture(200)]).unwrap();
        let questions = vec!["What is it?".to_owned(); 2];
        let answers = vec!["The image depicts one banana".to_owned(); 2];
        let search = TokenSearch { steps: 6, ..TokenSearch::default() };
        let start = TokenSearch { steps: 0, ..search }.run(&model, &seen, &questions, &answers).unwrap();
        let found = search.run(&model, &seen, &questions, &answers).unwrap();
        let loss = |text: &str| search.loss(&model, &seen, &questions, &answers, text).unwrap();
        assert!(loss(&found) < loss(&start), "{found}: {} of {}", loss(&found), loss(&start));
        assert_eq!(found.split_whitespace().count(), 3);
        assert!(TokenSearch { tokens: 0, ..search }.run(&model, &seen, &questions, &answers).is_err());
    }
}
