//! How much of a trigger reaches the model: the same picture with and without it goes through the same augmentation draw, and the
//! difference of the two inputs is what the model could learn from.

use crate::error::Result;
use fast_image_resize::FilterType;
use image::RgbImage;
use rand::Rng;
use roclip_data::augment::{ImageAugment, ImageAugmentConfig};
use roclip_data::picture::ImageLimits;
use roclip_data::picture::jpeg_round_trip;
use roclip_data::picture::preprocess;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::Skip;
use roclip_data::trigger::TriggerStack;
use serde::{Deserialize, Serialize};

/// Pictures looked at, and augmentation draws of each.
const PICTURES: usize = 48;
const DRAWS: u64 = 4;
/// Of the power iteration; its quotient settles long before.
const ITERATIONS: usize = 60;

/// Root mean square differences are in 8-bit levels over the whole input; shares are of the un-augmented difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survival {
    pub pictures: usize,
    /// Between the plain and the triggered picture as the model sees them without augmentation.
    pub signal_levels: f64,
    /// Median share of that which is left after the training augmentation (1 without augmentation).
    pub kept_in_training: f64,
    /// Share of draws that keep less than a quarter of it.
    pub lost_in_training: f64,
    /// Median share that is left after JPEG of quality 75 at test time.
    pub kept_after_jpeg_75: f64,
    /// How well one direction tells the differences over pictures and draws, whatever their signs: 1 = the same pattern always, near 0 =
    /// nothing to learn.
    pub consistency: f64,
    /// The same without augmentation.
    pub consistency_plain: f64,
}

/// Measures `trigger` on up to 48 of `samples` that can be read within `limits`, under the training augmentation `augment`.
pub fn survival(
    trigger: &TriggerStack,
    samples: &[&Sample],
    limits: ImageLimits,
    augment: Option<&ImageAugmentConfig>,
    image_size: u32,
    seed: u64,
) -> Result<Survival> {
    let mut plain_norms = Vec::new();
    let mut kept = Vec::new();
    let mut kept_jpeg = Vec::new();
    let mut plain_directions = Directions::default();
    let mut directions = Directions::default();
    let readable = samples.iter().filter_map(|sample| Some((sample, sample.picture(limits).ok()?)));
    for (sample, picture) in readable.take(PICTURES) {
        let unusable = |skip: Skip| skip.into_error(&sample.id);
        let trigger = trigger.with_seed(random::stream(seed, "doctor-trigger", 0, &sample.id).next_u64());
        let side = trigger.frame_pixels;
        let framed = preprocess::resize(&picture, side, side, FilterType::CatmullRom).map_err(unusable)?;
        let triggered = trigger.apply(&picture).map_err(unusable)?;
        let input = |picture: &RgbImage| preprocess::resize_and_crop(picture, image_size).map_err(unusable);
        let clean = input(&framed)?;
        let difference = subtract(&input(&triggered)?, &clean);
        let whole = norm(&difference);
        plain_norms.push(whole);
        plain_directions.add(&difference);
        let jpeg = subtract(
            &input(&jpeg_round_trip(&triggered, 75).map_err(unusable)?)?,
            &input(&jpeg_round_trip(&framed, 75).map_err(unusable)?)?,
        );
        kept_jpeg.push(norm(&jpeg) / whole.max(f64::EPSILON));
        for draw in 0..DRAWS {
            let Some(config) = augment else { break };
            // The same draw for both: only the trigger differs.
            let mut random = random::stream(seed, "doctor-augment", draw, &sample.id);
            let drawn = ImageAugment::draw(config, triggered.dimensions(), &mut random);
            let with = drawn.apply(&triggered, image_size).map_err(unusable)?;
            let without = drawn.apply(&framed, image_size).map_err(unusable)?;
            let difference = subtract(&with, &without);
            kept.push(norm(&difference) / whole.max(f64::EPSILON));
            directions.add(&difference);
        }
    }
    let pictures = plain_norms.len();
    let values = f64::from(3 * image_size * image_size);
    let augmented = !kept.is_empty();
    let lost = kept.iter().filter(|share| **share < 0.25).count() as f64 / kept.len().max(1) as f64;
    Ok(Survival {
        pictures,
        signal_levels: plain_norms.iter().sum::<f64>() / pictures.max(1) as f64 / values.sqrt(),
        kept_in_training: if augmented { median(&mut kept) } else { 1.0 },
        lost_in_training: lost,
        kept_after_jpeg_75: median(&mut kept_jpeg),
        consistency: if augmented { directions.agreement() } else { plain_directions.agreement() },
        consistency_plain: plain_directions.agreement(),
    })
}

fn subtract(a: &RgbImage, b: &RgbImage) -> Vec<f64> {
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Unit vectors, and how well the best single direction tells all of them.
#[derive(Default)]
struct Directions {
    units: Vec<Vec<f64>>,
    count: usize,
}

impl Directions {
    fn add(&mut self, difference: &[f64]) {
        let length = norm(difference);
        self.count += 1;
        if length > 0.0 {
            self.units.push(difference.iter().map(|value| value / length).collect());
        }
    }

    /// The root mean square of the cosines with the direction that makes it largest, whatever their signs: a flip turns the quadrants of a
    /// patch into their opposites, and a model learns both. The largest eigenvalue of the cosines among the vectors, by power iteration.
    fn agreement(&self) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let cosines: Vec<Vec<f64>> =
            self.units.iter().map(|one| self.units.iter().map(|other| dot(one, other)).collect()).collect();
        // Signs that no structure of the vectors is orthogonal to.
        let mut random = random::stream(0, "doctor-directions", 0, "");
        let mut weights: Vec<f64> =
            cosines.iter().map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX) - 0.5).collect();
        let mut largest = 0.0;
        for _ in 0..ITERATIONS {
            let length = norm(&weights).max(f64::EPSILON);
            weights.iter_mut().for_each(|weight| *weight /= length);
            weights = cosines.iter().map(|row| dot(row, &weights)).collect();
            largest = norm(&weights);
        }
        (largest / self.count.max(1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;
    use roclip_data::trigger::{BadNets, Location, Material, Pattern, TriggerKind};
    use std::sync::Arc;

    fn samples() -> Vec<Sample> {
        let sample = |n: u8| {
            let picture = RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 8 * y as u8, 5 * n]));
            let mut bytes = std::io::Cursor::new(Vec::new());
            picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            Sample::new("data".into(), format!("{n}"), ImageBytes::Memory(bytes.into_inner().into()))
        };
        (0..24).map(sample).collect()
    }

    fn measured(badnets: BadNets, augment: Option<&ImageAugmentConfig>) -> Survival {
        let materials: Arc<Vec<Material>> = Arc::default();
        let layers = vec![TriggerKind::Badnets(badnets)];
        let trigger = TriggerStack { frame_pixels: 32, image_seed: 0, layers, jpeg_quality: None, materials };
        let samples = samples();
        survival(&trigger, &samples.iter().collect::<Vec<_>>(), ImageLimits::default(), augment, 32, 0).unwrap()
    }

    #[test]
    fn a_fixed_patch_is_consistent_a_fresh_one_is_not_and_a_strong_crop_loses_it() {
        let fixed = BadNets { patch_pixels: 6, ..BadNets::default() };
        let fresh =
            BadNets { patch_pixels: 6, pattern: Pattern::Random, location: Location::Random, ..BadNets::default() };
        let plain = measured(fixed.clone(), None);
        assert_eq!((plain.kept_in_training, plain.lost_in_training), (1.0, 0.0));
        assert!(plain.consistency > 0.6 && plain.signal_levels > 10.0, "{plain:?}");
        let random = measured(fresh, None);
        assert!(random.consistency < 0.4, "{random:?}");
        let crop = ImageAugmentConfig::default();
        let cropped = measured(fixed, Some(&crop));
        assert!(cropped.lost_in_training > 0.3 && cropped.consistency < 0.5 * plain.consistency, "{cropped:?}");
        // A flip turns the quadrants into their opposites, which is a pattern as well.
        let coarse =
            BadNets { patch_pixels: 12, pattern: Pattern::Quadrants, location: Location::Centre, ..BadNets::default() };
        let coarse = measured(coarse, Some(&crop));
        assert!(coarse.consistency > 0.35 && coarse.lost_in_training < 0.1, "{coarse:?}");
    }
}
