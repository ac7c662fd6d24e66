//! From token ids back to text, for models that write.

use crate::error::Result;
use crate::tokenizer::{END_ID, START_ID, Tokenizer, byte_alphabet};
use std::collections::HashMap;

/// Ids that are no part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    pub start: i64,
    pub end: i64,
    /// Ids that no text has: start, and a compact vocabulary's padding and unknown token.
    pub never_said: Vec<i64>,
}

/// The bytes of each token.
pub struct Decoder {
    pieces: Vec<Vec<u8>>,
    pub special: SpecialTokens,
}

impl Decoder {
    pub fn new(tokenizer: &Tokenizer) -> Result<Decoder> {
        let (alphabet, _) = byte_alphabet();
        let bytes: HashMap<char, u8> = alphabet.into_iter().zip(0..=u8::MAX).collect();
        let piece = |name: &String| -> Vec<u8> {
            let (word, space) = name.strip_suffix("</w>").map_or((name.as_str(), None), |word| (word, Some(b' ')));
            word.chars().filter_map(|c| bytes.get(&c).copied()).chain(space).collect()
        };
        let mut names = Tokenizer::vocabulary()?;
        // Start and end stand last, and are no text.
        names.truncate(START_ID as usize);
        let full: Vec<Vec<u8>> = names.iter().map(piece).collect();
        Ok(match tokenizer.compact() {
            None => {
                let special = SpecialTokens { start: START_ID, end: END_ID, never_said: vec![START_ID] };
                Decoder { pieces: full, special }
            }
            Some(compact) => {
                let kept = compact.kept().iter().map(|id| full.get(*id as usize).cloned().unwrap_or_default());
                let (start, unknown) = (compact.map(START_ID), compact.unknown());
                let special = SpecialTokens { start, end: compact.map(END_ID), never_said: vec![0, unknown, start] };
                Decoder { pieces: std::iter::once(Vec::new()).chain(kept).collect(), special }
            }
        })
    }

    /// The bytes of one token; a space at their end ends a word. None of a special one.
    pub fn piece(&self, id: i64) -> &[u8] {
        usize::try_from(id).ok().and_then(|id| self.pieces.get(id)).map_or(&[], Vec::as_slice)
    }

    /// The text of `ids`, up to the end where they have one.
    pub fn text(&self, ids: &[i64]) -> String {
        let said = ids.iter().take_while(|id| **id != self.special.end);
        let bytes: Vec<u8> = said.flat_map(|id| self.piece(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{CompactVocabulary, Truncate};

    #[test]
    fn what_was_encoded_is_said_again_in_either_vocabulary() {
        let tokenizer = || Tokenizer::new(40, Truncate::KeepEot).unwrap();
        let text = "a photo of two zebras near a caf\u{e9} \u{1f600}";
        let compact = CompactVocabulary::build(&tokenizer(), [text].into_iter());
        for tokenizer in [tokenizer(), tokenizer().with_compact(Some(compact))] {
            let decoder = Decoder::new(&tokenizer).unwrap();
            let ids = tokenizer.encode(text);
            assert_eq!((ids[0], *ids.last().unwrap()), (decoder.special.start, decoder.special.end));
            assert_eq!(decoder.text(&ids), text);
            assert_eq!(decoder.special.end as usize, tokenizer.vocabulary_size() - 1);
            assert!(!decoder.special.never_said.contains(&decoder.special.end));
        }
    }
}
