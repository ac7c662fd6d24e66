//! The texts that learned contexts are put into: start of text, the contexts' places, a class name, its ending, end of text.

use crate::error::{Error, Result};
use crate::model::{Clip, unit};
use roclip_data::escape::for_terminal;
use roclip_data::tokenizer::Tokenizer;
use tch::Tensor;

/// Sequences encoded at a time where no gradient is wanted.
const SEQUENCES: i64 = 4096;

/// Token embeddings around the contexts, for one list of classes (CoOp's buffers). They hold no learned number, and are built anew for
/// every other list.
pub struct ClassTokens {
    /// Start of text: `[1, width]`.
    prefix: Tensor,
    /// Class name, ending, end of text, padding: `[classes, length, width]`.
    suffix: Tensor,
    /// Where end of text stands in the whole sequence: `[classes]`.
    end: Tensor,
    contexts: i64,
}

impl ClassTokens {
    /// For the classes called `words`, behind `contexts` context vectors, each name with `ending` behind it.
    ///
    /// # Errors
    /// A name that does not fit into the model's context beside them.
    pub fn new(model: &Clip, tokenizer: &Tokenizer, words: &[String], ending: &str, contexts: i64) -> Result<Self> {
        let room = tokenizer.context_length() as i64 - contexts;
        let rows: Vec<Vec<i64>> = words.iter().map(|word| tokenizer.encode(&format!("{word}{ending}"))).collect();
        if let Some((word, _)) = words.iter().zip(&rows).find(|(_, row)| row.len() as i64 > room) {
            return Err(Error::setting(
                format!(
                    "the class `{}` does not fit behind {contexts} contexts into the {} tokens of the text tower",
                    for_terminal(word),
                    tokenizer.context_length()
                ),
                "shorten the name, or prompt.context",
            ));
        }
        let (ids, length) = tokenizer.pad(&rows);
        let ids = Tensor::from_slice(&ids).view([rows.len() as i64, length as i64]);
        let lengths: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        Ok(Self::of_ids(model, &ids, &lengths, contexts))
    }

    /// For token ids `[classes, length]` that begin with start of text, end at `lengths` and are padded behind that.
    pub fn of_ids(model: &Clip, ids: &Tensor, lengths: &[i64], contexts: i64) -> Self {
        let ends: Vec<i64> = lengths.iter().map(|length| length - 1 + contexts).collect();
        let device = model.scale().device();
        let embedded = tch::no_grad(|| model.token_embeddings(&ids.to_device(device)));
        let length = embedded.size().get(1).copied().unwrap_or(1);
        ClassTokens {
            prefix: embedded.get(0).narrow(0, 0, 1),
            suffix: embedded.narrow(1, 1, length - 1),
            end: Tensor::from_slice(&ends).to_device(device),
            contexts,
        }
    }

    /// Number of classes.
    pub fn len(&self) -> i64 {
        self.end.size().first().copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Unit text features `[rows, classes, dim]` of every class behind each row of `contexts` `[rows, contexts, width]`. With gradient to
    /// the contexts.
    pub fn text_features(&self, model: &Clip, contexts: &Tensor) -> Tensor {
        let rows = contexts.size().first().copied().unwrap_or(0);
        let (classes, width) = (self.len(), model.config().text_cfg.width);
        let length = self.suffix.size().get(1).copied().unwrap_or(0);
        let part = |tensor: Tensor, length: i64| tensor.expand([rows, classes, length, width], false);
        let sequences = Tensor::cat(
            &[
                part(self.prefix.view([1, 1, 1, width]), 1),
                part(contexts.view([rows, 1, self.contexts, width]), self.contexts),
                part(self.suffix.unsqueeze(0), length),
            ],
            2,
        );
        let sequences = sequences.view([rows * classes, 1 + self.contexts + length, width]);
        let features = model.text_features_embedded(&sequences, &self.end.repeat([rows]));
        unit(&features).view([rows, classes, -1])
    }

    /// Rows of contexts whose sequences are encoded at a time where no gradient is wanted.
    pub fn rows_at_a_time(&self) -> i64 {
        (SEQUENCES / self.len().max(1)).max(1)
    }
}
