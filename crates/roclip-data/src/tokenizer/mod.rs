//! CLIP's byte-pair encoding: 49,408 tokens, equal to open_clip's `SimpleTokenizer` (checked by a golden file).

mod cache;
mod clean;
mod compact;
mod decode;
mod mend;
mod merge;
mod mojibake;

use crate::artifact;
use crate::error::{Error, Result};
use crate::tokenizer::cache::WordCache;
use crate::tokenizer::merge::Rules;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Read;

pub use compact::CompactVocabulary;
pub use decode::{Decoder, SpecialTokens};

/// OpenAI's merge list (MIT), as shipped by open_clip.
const MERGES: &[u8] = include_bytes!("../../../../data/tokenizer/bpe_simple_vocab_16e6.txt.gz");
const MERGES_SHA256: &str = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a";
const START: &str = "<start_of_text>";
const END: &str = "<end_of_text>";
const VOCABULARY_SIZE: usize = 49_408;
const START_ID: i64 = VOCABULARY_SIZE as i64 - 2;
const END_ID: i64 = VOCABULARY_SIZE as i64 - 1;
/// From a byte's token to that of the byte at a word's end.
const LAST_BYTE: u32 = 256;
/// Text longer than this is cut before the work starts: a caption of a megabyte fills any context many times over.
const TEXT_LIMIT_CHARS: usize = 1 << 16;

/// What happens to a text with more tokens than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Truncate {
    /// The last token is always end-of-text, as in OpenAI's code and open_clip.
    #[default]
    KeepEot,
    /// As released by RoCLIP, SafeCLIP and CleanCLIP: cut without restoring end-of-text, so that the tower pools at the largest token id
    /// that is left.
    DropEot,
}

pub struct Tokenizer {
    rules: Rules,
    /// The token of each byte within a word; that of a last byte is [`LAST_BYTE`] more.
    bytes: [u32; 256],
    pattern: Regex,
    cache: WordCache,
    context_length: usize,
    truncate: Truncate,
    compact: Option<CompactVocabulary>,
}

/// The built-in file, unpacked and checked.
fn merge_file() -> Result<String> {
    if artifact::sha256_hex(MERGES) != MERGES_SHA256 {
        return Err(Error::internal("the built-in vocabulary is not OpenAI's file"));
    }
    let mut text = String::new();
    let unpacked = flate2::read::GzDecoder::new(MERGES).read_to_string(&mut text);
    unpacked.map_err(|e| Error::internal(format!("the built-in vocabulary: {e}")))?;
    Ok(text)
}

fn merge_rules(text: &str) -> Vec<(&str, &str)> {
    text.lines().skip(1).take(VOCABULARY_SIZE - 512 - 2).filter_map(|line| line.split_once(' ')).collect()
}

impl Tokenizer {
    /// The full vocabulary.
    pub fn new(context_length: usize, truncate: Truncate) -> Result<Self> {
        if context_length < 3 {
            return Err(Error::setting(
                format!("context_length is {context_length}"),
                "use at least 3: start, one token, end",
            ));
        }
        let text = merge_file()?;
        let names = Tokenizer::vocabulary()?;
        let ids: HashMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let id = |name: &str| ids.get(name).copied();
        let rules = merge_rules(&text).into_iter().zip(2 * LAST_BYTE..);
        let rules = rules.map(|((left, right), token)| Some(((id(left)?, id(right)?), token)));
        let rules = rules
            .collect::<Option<Rules>>()
            .ok_or_else(|| Error::internal("a rule of the built-in vocabulary has no tokens"))?;
        let (alphabet, _) = byte_alphabet();
        let bytes = alphabet.map(|c| id(c.encode_utf8(&mut [0; 4])).unwrap_or(0));
        let pattern =
            Regex::new(r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
                .map_err(|e| Error::internal(e.to_string()))?;
        Ok(Tokenizer { rules, bytes, pattern, cache: WordCache::new(), context_length, truncate, compact: None })
    }

    /// All tokens in the order of their ids, as OpenAI and Hugging Face spell them.
    pub fn vocabulary() -> Result<Vec<String>> {
        let text = merge_file()?;
        let (_, in_order) = byte_alphabet();
        let mut names: Vec<String> = in_order.iter().map(char::to_string).collect();
        names.extend(in_order.iter().map(|c| format!("{c}</w>")));
        names.extend(merge_rules(&text).iter().map(|(a, b)| format!("{a}{b}")));
        names.extend(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
        Ok(names)
    }

    /// The merge rules in Hugging Face's `merges.txt`.
    pub fn merges() -> Result<String> {
        let text = merge_file()?;
        let rules = merge_rules(&text).into_iter().map(|(a, b)| format!("{a} {b}\n"));
        Ok(format!("#version: 0.2\n{}", rules.collect::<String>()))
    }

    /// The same tokenizer with its ids renumbered to those of `vocabulary`.
    pub fn with_compact(mut self, vocabulary: Option<CompactVocabulary>) -> Self {
        self.compact = vocabulary;
        self
    }

    pub fn compact(&self) -> Option<&CompactVocabulary> {
        self.compact.as_ref()
    }

    pub fn context_length(&self) -> usize {
        self.context_length
    }

    pub fn vocabulary_size(&self) -> usize {
        self.compact.as_ref().map_or(VOCABULARY_SIZE, CompactVocabulary::size)
    }

    /// Start, tokens, end; at most `context_length` ids.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let mut ids = vec![START_ID];
        ids.extend(self.tokens(text));
        ids.push(END_ID);
        if ids.len() > self.context_length {
            ids.truncate(self.context_length);
            if let (Truncate::KeepEot, Some(last)) = (self.truncate, ids.last_mut()) {
                *last = END_ID;
            }
        }
        match &self.compact {
            Some(compact) => ids.into_iter().map(|id| compact.map(id)).collect(),
            None => ids,
        }
    }

    /// The full-vocabulary ids of the text alone.
    pub(crate) fn tokens(&self, text: &str) -> Vec<i64> {
        let cut = text.char_indices().nth(TEXT_LIMIT_CHARS).and_then(|(at, _)| text.get(..at)).unwrap_or(text);
        let cleaned = clean::clean(cut);
        let mut ids = Vec::new();
        for word in self.pattern.find_iter(&cleaned) {
            match word.as_str() {
                START => ids.push(START_ID),
                END => ids.push(END_ID),
                word => self.cache.with(
                    word,
                    || self.merge(word),
                    |tokens| ids.extend(tokens.iter().map(|id| i64::from(*id))),
                ),
            }
            // Everything past the context is cut in any case.
            if ids.len() > self.context_length {
                break;
            }
        }
        ids
    }

    /// Rows of one length, the longest of the batch: `(ids [batch, length], length)`. Padding is 0, and comes after
    /// end-of-text, where a causal tower cannot see it.
    pub fn pad(&self, rows: &[Vec<i64>]) -> (Vec<i64>, usize) {
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(length * rows.len());
        for row in rows {
            ids.extend(row);
            ids.resize(ids.len() + length - row.len(), 0);
        }
        (ids, length)
    }

    fn merge(&self, word: &str) -> Vec<u32> {
        let mut tokens: Vec<u32> = word.bytes().filter_map(|b| self.bytes.get(usize::from(b))).copied().collect();
        if let Some(last) = tokens.last_mut() {
            *last += LAST_BYTE;
        }
        merge::merge(&self.rules, &tokens)
    }
}

/// GPT-2's reversible map from bytes to printable characters, and those characters in vocabulary order.
fn byte_alphabet() -> ([char; 256], Vec<char>) {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut map = ['\0'; 256];
    let mut in_order = Vec::with_capacity(256);
    for b in (0..=255u8).filter(|b| printable(*b)) {
        if let Some(slot) = map.get_mut(usize::from(b)) {
            *slot = char::from(b);
            in_order.push(char::from(b));
        }
    }
    for (b, code) in (0..=255u8).filter(|b| !printable(*b)).zip(256u32..) {
        if let (Some(slot), Some(c)) = (map.get_mut(usize::from(b)), char::from_u32(code)) {
            *slot = c;
            in_order.push(c);
        }
    }
    (map, in_order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        ids: Vec<i64>,
    }

    /// `tests/golden/tokenizer.py` wrote the file with open_clip's tokenizer.
    #[test]
    fn equals_open_clip_on_the_golden_file() {
        let golden: Vec<Golden> =
            serde_json::from_str(include_str!("../../../../tests/golden/tokenizer.json")).unwrap();
        assert!(golden.len() >= 300);
        let tokenizer = Tokenizer::new(77, Truncate::KeepEot).unwrap();
        let wrong: Vec<_> = golden.iter().filter(|g| tokenizer.encode(&g.text) != g.ids).map(|g| &g.text).collect();
        assert!(wrong.is_empty(), "{} of {} differ: {:#?}", wrong.len(), golden.len(), wrong);
    }

    #[test]
    fn over_long_text_keeps_or_drops_the_end() {
        let long = "word ".repeat(200);
        let kept = Tokenizer::new(77, Truncate::KeepEot).unwrap().encode(&long);
        let dropped = Tokenizer::new(77, Truncate::DropEot).unwrap().encode(&long);
        assert_eq!((kept.len(), kept[76]), (77, 49_407));
        assert!(dropped.len() == 77 && !dropped.contains(&49_407));
    }

    #[test]
    fn a_compact_vocabulary_keeps_the_end_largest() {
        let full = Tokenizer::new(77, Truncate::KeepEot).unwrap();
        let compact = CompactVocabulary::build(&full, ["a red apple", "a dog"].into_iter());
        let tokenizer = full.with_compact(Some(compact));
        let ids = tokenizer.encode("a red zebra");
        assert_eq!(*ids.last().unwrap() as usize, tokenizer.vocabulary_size() - 1);
        assert!(tokenizer.vocabulary_size() < 12);
    }

    /// OpenAI's loop: the pair of the lowest rank is merged wherever it occurs, left to right; then again.
    fn merged_in_rounds(rules: &Rules, tokens: &[u32]) -> Vec<u32> {
        let mut tokens = tokens.to_vec();
        while let Some(lowest) = tokens.windows(2).filter_map(|pair| rules.get(&(pair[0], pair[1]))).min() {
            let mut at = 0;
            while at + 1 < tokens.len() {
                if rules.get(&(tokens[at], tokens[at + 1])) == Some(lowest) {
                    tokens.splice(at..at + 2, [*lowest]);
                }
                at += 1;
            }
        }
        tokens
    }

    #[test]
    fn merging_by_a_heap_equals_the_reference_on_any_word() {
        let tokenizer = Tokenizer::new(77, Truncate::KeepEot).unwrap();
        let mut random = crate::random::stream(0, "test", 0, "");
        for round in 0..3000 {
            let letters =
                [&b"ab"[..], b"abcdefghijklmnopqrstuvwxyz", b"theinra", &[0xe3, 0x81, 0x82, 0xf0, 0x9f, 0x98, 0x80]]
                    [round % 4];
            let length = random.random_range(1..60);
            let mut tokens: Vec<u32> = (0..length)
                .map(|_| tokenizer.bytes[usize::from(letters[random.random_range(0..letters.len())])])
                .collect();
            *tokens.last_mut().unwrap() += LAST_BYTE;
            assert_eq!(merge::merge(&tokenizer.rules, &tokens), merged_in_rounds(&tokenizer.rules, &tokens));
        }
        let names = Tokenizer::vocabulary().unwrap();
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), VOCABULARY_SIZE);
    }

    /// Time that this thread has computed, which other processes do not add to.
    fn computed() -> std::time::Duration {
        let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        std::time::Duration::from_nanos(nanoseconds.split(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn a_word_of_a_whole_text_takes_milliseconds() {
        let tokenizer = Tokenizer::new(77, Truncate::KeepEot).unwrap();
        tokenizer.encode("caf\u{e9}"); // Tables are made by whoever comes first.
        let mut random = crate::random::stream(0, "test", 0, "");
        let letters: String = (0..TEXT_LIMIT_CHARS).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
        let garbled = "\u{c3}\u{a9}\u{192}".repeat(TEXT_LIMIT_CHARS / 3);
        let repeated = |c: &str| c.repeat(TEXT_LIMIT_CHARS / c.len());
        for word in [letters, repeated("a"), repeated("\u{1f600}"), repeated("\u{e9}"), repeated("&amp;"), garbled] {
            let begun = computed();
            let length = tokenizer.encode(&word).len();
            let took = computed() - begun;
            assert!((3..=77).contains(&length));
            assert!(took.as_millis() < 250, "{took:?} for a word of {:?}", word.chars().next());
        }
    }
}
