//! What a report shows of a trained model beside its rates: every class's recall, and where a few images lie in the feature space.

use crate::error::{Result, TorchContext};
use crate::eval::features::{Alter, unaltered};
use crate::eval::principal_components::{Plane, plane};
use crate::eval::{Evaluator, Recognizer};
use crate::model::unit;
use image::RgbImage;
use roclip_data::poison::Manifest;
use roclip_data::sample::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Kind;

/// Images of each kind that the projection takes.
const PROJECTED: usize = 64;

/// How the images of one class were read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRecall {
    pub hits: usize,
    pub n: usize,
    /// The most frequent of the wrong readings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mistaken_for: Option<String>,
}

/// One image in the plane of a [`Projection`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectedImage {
    /// `clean`, `targeted`, or the name of a backdoor that triggers it.
    pub kind: String,
    pub image: String,
    pub class: String,
    pub x: f64,
    pub y: f64,
}

/// The first two principal components of unit image features. Every model has a feature space of its own: planes of two models are not
/// to be laid over each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Shares of the variance along x and y.
    pub explained: [f64; 2],
    pub images: Vec<ProjectedImage>,
}

/// `details.json` of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Classes that the classifier chooses from.
    pub classes: usize,
    /// Of the classes that test images have; targeted images are left out.
    pub recall: BTreeMap<String, ClassRecall>,
    pub projection: Projection,
}

/// Looks at every evaluation image once, and at a few of them with each trigger. Images that cannot be read are left out.
pub fn details(evaluator: &Evaluator, recognizer: &Recognizer, manifest: Option<&Manifest>) -> Result<Details> {
    let targeted = manifest.map(Manifest::targeted).unwrap_or_default();
    let (targets, plain): (Vec<&Sample>, Vec<&Sample>) =
        evaluator.samples.iter().partition(|sample| targeted.contains_key(&sample.id));
    let predictions = recognizer.predict(&plain, &unaltered)?;
    let named = |at: i64| evaluator.classes.get(at as usize);
    let first = predictions
        .read(&plain)
        .filter_map(|(sample, best)| Some((sample.class.as_deref()?, named(*best.first()?)?.as_str())));
    let mut looked_at = LookedAt::default();
    let chosen = spread_out(&plain, PROJECTED);
    looked_at.add(recognizer, "clean", &chosen, &unaltered)?;
    looked_at.add(recognizer, "targeted", &spread_out(&targets, PROJECTED), &unaltered)?;
    for backdoor in manifest.map(Manifest::backdoors).unwrap_or_default() {
        let triggered = |image: &Sample, picture: RgbImage| backdoor.lay_on(image, &picture);
        let victims: Vec<&Sample> =
            chosen.iter().copied().filter(|image| image.class.as_ref() != Some(&backdoor.target)).collect();
        looked_at.add(recognizer, &backdoor.attack, &victims, &triggered)?;
    }
    Ok(Details { classes: evaluator.classes.len(), recall: recall(first), projection: looked_at.projection() })
}

/// At most `count` of `items`, evenly apart.
fn spread_out<T: Copy>(items: &[T], count: usize) -> Vec<T> {
    let step = items.len().div_ceil(count).max(1);
    items.iter().step_by(step).copied().collect()
}

/// `(true class, reading)` of each image, added up by class.
fn recall<'a>(readings: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, ClassRecall> {
    let mut by_class: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (class, reading) in readings {
        *by_class.entry(class).or_default().entry(reading).or_default() += 1;
    }
    let one = |(class, readings): (&str, BTreeMap<&str, usize>)| {
        let wrong = readings.iter().filter(|(reading, _)| **reading != class);
        let recall = ClassRecall {
            hits: readings.get(class).copied().unwrap_or(0),
            n: readings.values().sum(),
            mistaken_for: wrong.max_by_key(|(_, count)| **count).map(|(reading, _)| (*reading).to_owned()),
        };
        (class.to_owned(), recall)
    };
    by_class.into_iter().map(one).collect()
}

/// Images with their unit features.
#[derive(Default)]
struct LookedAt {
    images: Vec<ProjectedImage>,
    features: Vec<Vec<f64>>,
}

impl LookedAt {
    fn add(&mut self, recognizer: &Recognizer, kind: &str, samples: &[&Sample], alter: &Alter) -> Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        let encoded = recognizer.encoder.encode(samples, alter)?;
        if encoded.readable.is_empty() {
            return Ok(());
        }
        let rows =
            Vec::<Vec<f64>>::try_from(unit(&encoded.features).to_kind(Kind::Double)).torch("reading features")?;
        for (at, row) in encoded.readable.iter().zip(rows) {
            let Some(sample) = samples.get(*at) else { continue };
            let class = sample.class.clone().unwrap_or_default();
            self.images.push(ProjectedImage { kind: kind.to_owned(), image: sample.id.clone(), class, x: 0.0, y: 0.0 });
            self.features.push(row);
        }
        Ok(())
    }

    fn projection(self) -> Projection {
        let Plane { explained, points } = plane(&self.features);
        // Four digits place a dot.
        let short = |value: f64| (value * 1e4).round() / 1e4;
        let placed = self.images.into_iter().zip(points);
        let images = placed.map(|(image, (x, y))| ProjectedImage { x: short(x), y: short(y), ..image }).collect();
        Projection { explained: explained.map(short), images }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_knows_what_it_is_mistaken_for() {
        let readings = [("cat", "cat"), ("cat", "dog"), ("cat", "dog"), ("cat", "cow"), ("dog", "dog")];
        let found = recall(readings.into_iter());
        assert_eq!(found["cat"], ClassRecall { hits: 1, n: 4, mistaken_for: Some("dog".into()) });
        assert_eq!(found["dog"], ClassRecall { hits: 1, n: 1, mistaken_for: None });
    }

    #[test]
    fn a_sample_is_spread_over_all_and_bounded() {
        let all: Vec<usize> = (0..1000).collect();
        let some = spread_out(&all, 64);
        assert!(some.len() <= 64 && some.len() > 32 && some.last().unwrap() > &930, "{some:?}");
        assert_eq!(spread_out(&all[..5], 64), [0, 1, 2, 3, 4]);
    }
}
