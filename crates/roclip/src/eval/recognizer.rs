//! A model that names images, by a classifier on its image features.

use crate::error::{Result, TorchContext};
use crate::eval::classifier::Classifier;
use crate::eval::features::{Alter, ImageEncoder};
use crate::eval::per_class::mean_per_class_recall;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use tch::{Kind, Tensor};

/// As many guesses as the field's widest top-k.
pub const GUESSES: usize = 10;

/// The best classes of each image (ten, or all there are), best first; none for an image that cannot be used.
pub struct Predictions {
    pub guesses: Vec<Option<Vec<i64>>>,
    /// Of the guesses, of each image that was read.
    pub probabilities: Vec<Vec<f64>>,
    /// `[read, dim]`.
    pub features: Tensor,
    /// The images that cannot be used.
    pub skips: SkipReport,
}

impl Predictions {
    /// `(sample, best classes)` of the images that were read. `samples` are those that the predictions are of.
    pub fn read<'a>(&'a self, samples: &'a [&'a Sample]) -> impl Iterator<Item = (&'a Sample, &'a Vec<i64>)> + Clone {
        samples.iter().zip(&self.guesses).filter_map(|(sample, best)| Some((*sample, best.as_ref()?)))
    }
}

pub struct Recognizer<'a> {
    pub encoder: ImageEncoder<'a>,
    pub classifier: &'a dyn Classifier,
    pub classes: &'a [String],
}

impl Recognizer<'_> {
    /// Predictions for `samples`, each altered first.
    pub fn predict(&self, samples: &[&Sample], alter: &Alter) -> Result<Predictions> {
        let encoded = self.encoder.encode(samples, alter)?;
        let mut guesses = vec![None; samples.len()];
        let mut probabilities = Vec::new();
        if !encoded.readable.is_empty() {
            let count = GUESSES.min(self.classes.len()) as i64;
            let logits = self.classifier.logits(&encoded.features);
            let (_, best) = logits.topk(count, 1, true, true);
            let softmax = (logits * self.classifier.scale()).softmax(1, Kind::Double).gather(1, &best, false);
            probabilities = Vec::<Vec<f64>>::try_from(softmax).torch("reading probabilities")?;
            let best = Vec::<Vec<i64>>::try_from(best).torch("reading predictions")?;
            for (at, best) in encoded.readable.into_iter().zip(best) {
                if let Some(guess) = guesses.get_mut(at) {
                    *guess = Some(best);
                }
            }
        }
        Ok(Predictions { guesses, probabilities, features: encoded.features, skips: encoded.skips })
    }

    pub fn index(&self, class: Option<&str>) -> Option<i64> {
        self.classes.iter().position(|c| Some(c.as_str()) == class).map(|at| at as i64)
    }

    /// How many of the images that were read have their own class among the first `k`.
    pub fn accuracy(&self, predictions: &Predictions, samples: &[&Sample], k: usize) -> Rate {
        let hit = |(sample, best): &(&Sample, &Vec<i64>)| {
            self.index(sample.class.as_deref()).is_some_and(|truth| best.iter().take(k).any(|guess| *guess == truth))
        };
        let read = predictions.read(samples);
        Rate::new(read.clone().filter(hit).count(), read.count())
    }

    /// [`mean_per_class_recall`] of `predictions`.
    pub fn mean_per_class_recall(&self, predictions: &Predictions, samples: &[&Sample]) -> Option<f64> {
        mean_per_class_recall(predictions.read(samples).filter_map(|(sample, best)| {
            let class = sample.class.as_deref()?;
            Some((class, best.first().copied() == self.index(Some(class))))
        }))
    }
}
