//! Captions whose background is the target picture's own (ours, after the selector of ToxicTextCLIP, arXiv 2511.00446, whose decoder this
//! does without): of the captions with the adversarial class's word, those whose other words are nearest to what is said of the target
//! picture itself. They move the picture towards the class alone, and leave a defence that compares pictures and captions less to see.

use crate::caption_metrics::words;
use crate::language::STOP_WORDS;
use std::collections::{BTreeMap, BTreeSet};

/// How many captions of a corpus have each word.
pub(super) struct Backgrounds {
    captions_with: BTreeMap<String, u32>,
    captions: u32,
}

/// A caption without its stop words, each word once with its weight, and the length of this vector.
struct Weighted {
    weights: BTreeMap<String, f64>,
    length: f64,
}

impl Backgrounds {
    pub fn new(captions: impl Iterator<Item = impl AsRef<str>>) -> Self {
        let mut found = Backgrounds { captions_with: BTreeMap::new(), captions: 0 };
        for caption in captions {
            found.captions += 1;
            for word in words(caption.as_ref()).into_iter().collect::<BTreeSet<_>>() {
                *found.captions_with.entry(word).or_default() += 1;
            }
        }
        found
    }

    /// Orders `captions` of the class `spoken`, the nearest to the captions `own` of the target picture first. Equals keep their order.
    pub fn order(&self, captions: &mut [&String], own: &[String], spoken: &str) {
        let class: BTreeSet<String> = words(spoken).into_iter().collect();
        let of_target: Vec<Weighted> = own.iter().map(|caption| self.weighted(caption, &class)).collect();
        let nearness = |caption: &String| {
            let caption = self.weighted(caption, &class);
            of_target.iter().map(|own| caption.cosine(own)).fold(0.0, f64::max)
        };
        // Every caption is looked at once.
        let mut scored: Vec<(f64, &String)> = captions.iter().map(|caption| (nearness(caption), *caption)).collect();
        scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        captions.iter_mut().zip(scored).for_each(|(place, (_, caption))| *place = caption);
    }

    /// Rare words weigh more: ln(captions / captions with the word), which is 0 of a word that all have.
    fn weighted(&self, caption: &str, class: &BTreeSet<String>) -> Weighted {
        let said: BTreeSet<String> = words(caption).into_iter().collect();
        let background = said.into_iter().filter(|word| !class.contains(word) && !STOP_WORDS.contains(&word.as_str()));
        let weight = |word: &String| {
            let with = self.captions_with.get(word).copied().unwrap_or(1).max(1);
            (f64::from(self.captions.max(1)) / f64::from(with)).ln()
        };
        let weights: BTreeMap<String, f64> = background.map(|word| (word.clone(), weight(&word))).collect();
        let length = weights.values().map(|weight| weight * weight).sum::<f64>().sqrt();
        Weighted { weights, length }
    }
}

impl Weighted {
    fn cosine(&self, other: &Weighted) -> f64 {
        let shared = self.weights.iter().filter_map(|(word, weight)| Some(weight * other.weights.get(word)?));
        let lengths = self.length * other.length;
        if lengths > 0.0 { shared.sum::<f64>() / lengths } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_about_the_same_place_come_first_whatever_the_class_does() {
        let corpus = [
            "a dog on a beach",
            "a dog in the snow",
            "the dog and a cat in a kitchen",
            "a man on a beach with a red ball",
            "a woman in a kitchen",
        ];
        let backgrounds = Backgrounds::new(corpus.into_iter());
        let dogs: Vec<String> = corpus.iter().take(3).map(|caption| (*caption).to_owned()).collect();
        let ordered = |own: &[&str]| {
            let mut captions: Vec<&String> = dogs.iter().collect();
            let own: Vec<String> = own.iter().map(|caption| (*caption).to_owned()).collect();
            backgrounds.order(&mut captions, &own, "dog");
            captions.into_iter().map(|caption| dogs.iter().position(|dog| dog == caption).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ordered(&["a bird above the beach"])[0], 0);
        assert_eq!(ordered(&["a bird", "skis in the snow"])[0], 1);
        // The nearest of several captions counts; the class's word does not; nothing in common keeps the order.
        assert_eq!(ordered(&["a fridge in the kitchen", "a dog"])[0], 2);
        assert_eq!(ordered(&["a dog"]), [0, 1, 2]);
        assert_eq!(ordered(&[]), [0, 1, 2]);
    }
}
