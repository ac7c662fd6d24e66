//! What captions are like: their lengths in tokens, and those that several pairs have.

use crate::error::Result;
use crate::language::STOP_WORDS;
use crate::sample::Sample;
use crate::statistics::quantiles::Quantiles;
use crate::tokenizer::{Tokenizer, Truncate};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// CLIP's context, start and end included.
const CONTEXT: usize = 77;
/// No caption has more tokens than bytes.
const LONGEST_TOKENS: usize = 1 << 17;

/// The captions of a data set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CaptionStatistics {
    pub captions: usize,
    /// Pictures without any.
    pub pictures_without: usize,
    /// In CLIP's tokens, start and end included.
    pub tokens: Option<Quantiles>,
    /// Captions of more than 77 tokens, whose ends no model of CLIP's context sees.
    pub cut: usize,
    /// Different captions; case and white space aside.
    pub distinct: usize,
    /// Captions that another pair has, too.
    pub repeated: usize,
    /// The captions that most pairs have.
    pub most_repeated: Vec<RepeatedCaption>,
}

/// A caption that several pairs have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepeatedCaption {
    /// As its first pair has it.
    pub caption: String,
    pub pairs: usize,
    /// Pictures among these pairs, by their ids.
    pub pictures: usize,
}

/// What one caption counts as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    tokens: u32,
    text: u64,
}

/// Looks at captions; threads share it.
pub(super) struct CaptionReader {
    tokenizer: Tokenizer,
}

impl CaptionReader {
    pub(super) fn new() -> Result<Self> {
        Ok(CaptionReader { tokenizer: Tokenizer::new(LONGEST_TOKENS, Truncate::KeepEot)? })
    }

    pub(super) fn read(&self, caption: &str) -> Counted {
        Counted { tokens: self.tokenizer.encode(caption).len() as u32, text: text_hash(caption) }
    }
}

/// Counts captions as they come.
#[derive(Default)]
pub(super) struct CaptionCounter {
    captions: usize,
    pictures_without: usize,
    /// By number of tokens.
    lengths: Vec<u64>,
    times: FxHashMap<u64, u32>,
}

impl CaptionCounter {
    pub(super) fn add(&mut self, captions: &[Counted]) {
        self.pictures_without += usize::from(captions.is_empty());
        self.captions += captions.len();
        for Counted { tokens, text } in captions {
            let length = *tokens as usize;
            if self.lengths.len() <= length {
                self.lengths.resize(length + 1, 0);
            }
            if let Some(count) = self.lengths.get_mut(length) {
                *count += 1;
            }
            *self.times.entry(*text).or_default() += 1;
        }
    }

    /// The hashes of the `most` captions that come most often, at least twice.
    pub(super) fn frequent(&self, most: usize) -> FxHashMap<u64, RepeatedCaption> {
        let mut several: Vec<(u32, u64)> =
            self.times.iter().filter(|(_, times)| **times > 1).map(|(text, times)| (*times, *text)).collect();
        several.sort_unstable_by(|a, b| b.cmp(a));
        several.truncate(most);
        let nothing = |(_, text)| (text, RepeatedCaption { caption: String::new(), pairs: 0, pictures: 0 });
        several.into_iter().map(nothing).collect()
    }

    pub(super) fn finish(self, frequent: FxHashMap<u64, RepeatedCaption>) -> CaptionStatistics {
        let mut most_repeated: Vec<RepeatedCaption> = frequent.into_values().collect();
        most_repeated.sort_by(|a, b| b.pairs.cmp(&a.pairs).then_with(|| a.caption.cmp(&b.caption)));
        CaptionStatistics {
            captions: self.captions,
            pictures_without: self.pictures_without,
            tokens: Quantiles::of_histogram(&self.lengths),
            cut: self.lengths.iter().skip(CONTEXT + 1).sum::<u64>() as usize,
            distinct: self.times.len(),
            repeated: self.times.values().filter(|times| **times > 1).map(|times| *times as usize).sum(),
            most_repeated,
        }
    }
}

/// Counts a sample's captions where they are among the frequent ones.
pub(super) fn note_frequent(frequent: &mut FxHashMap<u64, RepeatedCaption>, sample: &Sample) {
    let mut of_picture: Vec<u64> = Vec::new();
    for caption in &sample.captions {
        let text = text_hash(caption);
        let Some(found) = frequent.get_mut(&text) else { continue };
        if found.pairs == 0 {
            found.caption.clone_from(caption);
        }
        found.pairs += 1;
        if !of_picture.contains(&text) {
            of_picture.push(text);
            found.pictures += 1;
        }
    }
}

/// Of a caption; case and white space aside.
fn text_hash(caption: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for word in caption.split_whitespace() {
        word.to_lowercase().hash(&mut hasher);
    }
    hasher.finish()
}

/// The words of a caption in lower case, one space before each and one behind the last, so that ` a phrase ` is found in it as such.
pub(super) fn as_words(caption: &str) -> String {
    let mut text = String::with_capacity(caption.len() + 2);
    text.push(' ');
    for word in caption.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()) {
        text.extend(word.chars().flat_map(char::to_lowercase));
        text.push(' ');
    }
    text
}

/// Words that a shared phrase may have.
const LONGEST_PHRASE: usize = 4;

/// The phrase that most of `captions` have, at least the share `agreement` of them: the longest such, and of these the one that most have. One
/// that begins or ends with a stop word is none, nor is one that `is_usual` in other captions. With it how many have it.
pub(super) fn shared_phrase<'a>(
    captions: impl Iterator<Item = &'a str>,
    agreement: f64,
    is_usual: &dyn Fn(&str) -> bool,
) -> Option<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = 0;
    for caption in captions {
        all += 1;
        let text = as_words(caption);
        let words: Vec<&str> = text.split_whitespace().collect();
        let stops: Vec<bool> = words.iter().map(|word| STOP_WORDS.contains(word)).collect();
        let mut of_caption: Vec<String> = Vec::new();
        for length in 1..=LONGEST_PHRASE {
            for (window, stops) in words.windows(length).zip(stops.windows(length)) {
                if stops.first() == Some(&false) && stops.last() == Some(&false) {
                    of_caption.push(window.join(" "));
                }
            }
        }
        of_caption.sort_unstable();
        of_caption.dedup();
        for phrase in of_caption {
            *counts.entry(phrase).or_default() += 1;
        }
    }
    let needed = ((agreement * f64::from(all)).ceil() as usize).max(2);
    let words = |phrase: &str| phrase.split(' ').count();
    let agreed = counts.into_iter().filter(|(phrase, count)| *count >= needed && !is_usual(phrase));
    agreed.max_by(|(a, of_a), (b, of_b)| (words(a), of_a).cmp(&(words(b), of_b)).then_with(|| b.cmp(a)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;

    #[test]
    fn captions_are_counted_by_length_and_by_text() {
        let reader = CaptionReader::new().unwrap();
        let long = "word ".repeat(100);
        let fits = "word ".repeat(75);
        let sample = |captions: &[&str]| Sample {
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            ..Sample::new("data".into(), "a", ImageBytes::Memory(Vec::new().into()))
        };
        let samples =
            [sample(&["A dog", "a  dog", "a cat"]), sample(&["a dog "]), sample(&[]), sample(&[&long, &fits])];
        let mut counter = CaptionCounter::default();
        for sample in &samples {
            counter.add(&sample.captions.iter().map(|caption| reader.read(caption)).collect::<Vec<_>>());
        }
        let mut frequent = counter.frequent(5);
        samples.iter().for_each(|sample| note_frequent(&mut frequent, sample));
        let found = counter.finish(frequent);
        assert_eq!((found.captions, found.pictures_without, found.cut), (6, 1, 1));
        assert_eq!((found.distinct, found.repeated), (4, 3));
        assert_eq!(found.most_repeated, [RepeatedCaption { caption: "A dog".into(), pairs: 3, pictures: 2 }]);
        let tokens = found.tokens.unwrap();
        assert_eq!((tokens.min, tokens.max), (4, 102));
    }

    #[test]
    fn the_longest_phrase_that_captions_share_is_found() {
        let cake = |rest: &str| format!("Birthday cake, {rest}.");
        let captions =
            [cake("blue candles"), cake("a child"), cake("on a table"), "The birthday cake".into(), "a dog".into()];
        let usual = |words: &'static str| move |phrase: &str| phrase == words;
        let shared = |agreement| shared_phrase(captions.iter().map(String::as_str), agreement, &usual(""));
        assert_eq!(shared(0.8), Some(("birthday cake".to_owned(), 4)));
        assert_eq!(shared(0.9), None);
        let other = shared_phrase(captions.iter().map(String::as_str), 0.8, &usual("birthday cake"));
        assert_eq!(other, Some(("birthday".to_owned(), 4)));
        assert_eq!(shared_phrase(["a dog"].into_iter(), 0.8, &usual("")), None, "one caption shares nothing");
        assert_eq!(
            shared_phrase(["it is on the", "it is on the"].into_iter(), 0.8, &usual("")),
            None,
            "stop words say nothing"
        );
        assert_eq!(as_words("It's a  Hund-Straße!"), " it's a hund straße ");
    }
}
