//! Concepts: classes for images that have captions and no labels (ours).
//!
//! Zero-shot accuracy and attack success need classes. A class here is a noun, and an image's class the rarest noun that most of its
//! captions agree on: of "a dog catches a frisbee on the grass" and four more that name the frisbee, "frisbee", and not "grass".
//! The rarest, since that is what sets an image apart; a noun of too many images ("man") is no class at all.

use crate::error::{Error, Result};
use crate::language::PartsOfSpeech;
use crate::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Nouns that say where something is or how much of it, and not what ("in front of", "a group of").
const NOT_WHAT: [&str; 14] = [
    "back",
    "background",
    "bunch",
    "couple",
    "edge",
    "end",
    "foreground",
    "front",
    "group",
    "lot",
    "middle",
    "pair",
    "side",
    "top",
];

#[derive(Debug, Clone, PartialEq)]
pub struct ConceptConfig {
    /// Share of an image's captions that must have the noun: 0.8 is four of five, or the only one. What fewer say is often no more than a
    /// detail ("jacket"), and its captions are about something else.
    pub agreement: f64,
    /// Training images of which a noun must be so said to be a concept.
    pub min_images: usize,
    /// Share of the training images that a concept may have at most: what every twentieth image has sets none apart.
    pub max_share: f64,
    /// Nouns that are no concepts, whatever the captions say ("air", "wall"). A word that no caption agrees on is an error, since it is
    /// likely misspelt.
    pub exclude: Vec<String>,
}

impl Default for ConceptConfig {
    fn default() -> Self {
        ConceptConfig { agreement: 0.8, min_images: 30, max_share: 0.05, exclude: Vec::new() }
    }
}

/// The concepts of a training set.
pub struct Concepts {
    config: ConceptConfig,
    parts: PartsOfSpeech,
    /// Concept to the number of training images of which most captions have it.
    images: BTreeMap<String, usize>,
}

impl Concepts {
    /// # Errors
    /// When fewer than two nouns are neither too rare nor too common, or a setting makes no sense.
    pub fn new(training: &[Sample], config: ConceptConfig) -> Result<Concepts> {
        for (name, share) in [("agreement", config.agreement), ("largest share", config.max_share)] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(Error::setting(
                    format!("the {name} of concepts is {share}"),
                    "give a number above 0 and at most 1",
                ));
            }
        }
        let mut concepts = Concepts { config, parts: PartsOfSpeech::built_in()?, images: BTreeMap::new() };
        for sample in training {
            for noun in concepts.agreed(sample) {
                *concepts.images.entry(noun).or_default() += 1;
            }
        }
        concepts.exclude()?;
        let config = &concepts.config;
        let most = (config.max_share * training.len() as f64).floor() as usize;
        concepts.images.retain(|_, images| (config.min_images..=most).contains(images));
        if config.min_images > most {
            return Err(Error::setting(
                format!(
                    "no noun can be a class: at least {} images must agree on it, and at most {most} may ({} of the {} training images)",
                    config.min_images,
                    config.max_share,
                    training.len()
                ),
                "lower --min-images, or raise --max-share",
            ));
        }
        if concepts.images.len() < 2 {
            let nouns = match concepts.images.len() {
                0 => "no noun is",
                _ => "one noun is",
            };
            return Err(Error::setting(
                format!(
                    "{nouns} agreed on in at least {} and at most {most} of the {} training images",
                    config.min_images,
                    training.len()
                ),
                "lower --min-images or --agreement, or raise --max-share",
            ));
        }
        Ok(concepts)
    }

    /// Takes the excluded nouns out.
    fn exclude(&mut self) -> Result<()> {
        for word in &self.config.exclude {
            if self.images.remove(word.to_lowercase().as_str()).is_none() {
                return Err(Error::setting(
                    format!("`{word}` is to be excluded, and no training image's captions agree on it"),
                    "give nouns in the singular, as the list of classes shows them (--exclude)",
                ));
            }
        }
        Ok(())
    }

    /// In alphabetical order, with the number of training images of which most captions have the noun (an image may have several).
    pub fn images(&self) -> &BTreeMap<String, usize> {
        &self.images
    }

    /// The rarest concept that the captions of `sample` agree on.
    pub fn of(&self, sample: &Sample) -> Option<String> {
        let common = |noun: &String| self.images.get(noun).copied();
        self.agreed(sample).into_iter().filter(|noun| common(noun).is_some()).min_by_key(|noun| common(noun))
    }

    /// Nouns that enough captions have, in alphabetical order.
    fn agreed(&self, sample: &Sample) -> Vec<String> {
        let mut captions: BTreeMap<&str, usize> = BTreeMap::new();
        for caption in &sample.captions {
            let lower = caption.to_lowercase();
            let words: BTreeSet<&str> = lower.split(|letter: char| !letter.is_alphabetic()).collect();
            let nouns: BTreeSet<&str> = words.into_iter().filter_map(|word| self.parts.noun(word)).collect();
            for noun in nouns.into_iter().filter(|noun| noun.len() > 2 && !NOT_WHAT.contains(noun)) {
                *captions.entry(noun).or_default() += 1;
            }
        }
        // A hair less, so that four of five is not missed by the rounding of 0.8.
        let enough = self.config.agreement * sample.captions.len() as f64 - 1e-9;
        captions.into_iter().filter(|(_, count)| *count as f64 >= enough).map(|(noun, _)| noun.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;
    use std::sync::Arc;

    fn sample(captions: &[&str]) -> Sample {
        Sample {
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            ..Sample::new("data".into(), String::new(), ImageBytes::Memory(Arc::from(Vec::new())))
        }
    }

    fn concepts(training: &[Sample], agreement: f64, min_images: usize, max_share: f64) -> Result<Concepts> {
        Concepts::new(training, ConceptConfig { agreement, min_images, max_share, exclude: Vec::new() })
    }

    #[test]
    fn the_rarest_noun_that_most_captions_agree_on() {
        let frisbee = sample(&["Two dogs and a frisbee.", "a dog catches a frisbee", "a dog with something red"]);
        let cat = sample(&["the red cat in front is running"]);
        let training = [frisbee.clone(), frisbee.clone(), sample(&["a dog"]), cat.clone()];
        let found = concepts(&training, 0.6, 2, 1.0).unwrap();
        let counted: Vec<(&str, usize)> = found.images().iter().map(|(noun, n)| (noun.as_str(), *n)).collect();
        assert_eq!(counted, [("dog", 3), ("frisbee", 2)]);
        assert_eq!(found.of(&frisbee).as_deref(), Some("frisbee"));
        // One caption of three is no agreement.
        assert_eq!(found.of(&sample(&["a dog", "a dog", "a frisbee"])).as_deref(), Some("dog"));
        assert_eq!(found.of(&cat), None);
        assert_eq!(found.of(&sample(&[])), None);
        let rare = concepts(&training, 0.6, 1, 0.5).unwrap();
        assert_eq!(rare.images().keys().collect::<Vec<_>>(), ["cat", "frisbee"], "three of four dogs are too many");
    }

    #[test]
    fn too_few_concepts_and_impossible_shares_are_refused() {
        let training = [sample(&["a dog"]), sample(&["a dog and a cat"])];
        let wrong = |agreement: f64, min_images: usize, max_share: f64| {
            concepts(&training, agreement, min_images, max_share)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let message = wrong(0.6, 2, 1.0);
        assert!(message.contains("one noun is agreed on in at least 2 and at most 2 of the 2"), "{message}");
        assert!(wrong(0.0, 1, 1.0).contains("agreement of concepts is 0"));
        assert!(wrong(0.6, 1, 1.5).contains("largest share of concepts is 1.5"));
    }

    #[test]
    fn excluded_nouns_are_no_concepts() {
        let training = [sample(&["a dog in the air"]), sample(&["a dog and a cat"]), sample(&["a cat in the air"])];
        let excluding = |word: &str| {
            let exclude = vec![word.to_owned()];
            Concepts::new(&training, ConceptConfig { agreement: 1.0, min_images: 1, max_share: 1.0, exclude })
        };
        let found = excluding("Air").unwrap();
        assert_eq!(found.images().keys().collect::<Vec<_>>(), ["cat", "dog"]);
        assert_eq!(found.of(&training[2]).as_deref(), Some("cat"));
        let message = excluding("airs").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("`airs` is to be excluded"), "{message}");
    }
}
