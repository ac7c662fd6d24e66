//! Image variance as a trigger: a declared reconstruction after INK (arXiv 2304.10985), of which only the abstract was at hand. The
//! equations, the direction and the target value are ours.
//!
//! Every picture has a variance, so clean data carries this trigger by nature. Where that is enough, an attack changes labels only
//! (`clean-image`); otherwise it changes the variance of pictures of its target and keeps their labels (`clean-label`).

use crate::error::{Error, Result};
use crate::skip::Skip;
use crate::trigger::{Context, Files, Framed, Trigger, Unfit};
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// No picture of values from 0 to 1 has more.
const MOST_VARIANCE: f64 = 0.25;
/// Beyond this factor a picture is black and white but for values next to the mean.
const MOST_SCALE: f64 = 4096.0;
/// Halvings of the interval: one of 4096 becomes shorter than a float's distance at 1.
const HALVINGS: usize = 40;
/// A target that a larger share of the pictures cannot reach is out of reach.
const MOST_OUT_OF_REACH: f64 = 0.5;

/// Which end of the variances is the trigger.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum VarianceTail {
    /// Pictures of high contrast.
    #[default]
    High,
    /// Flat pictures.
    Low,
}

/// What the attacker may change.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum InkMode {
    /// Labels: pictures that lie in the tail by nature are relabelled, and stay as they are. An annotator's attack.
    #[default]
    CleanImage,
    /// Pictures: some of the target class are brought to the variance, and keep their labels (`captions = "own"`). An image provider's attack.
    CleanLabel,
}

/// A reconstruction after the abstract of INK: the variance of the picture is the trigger. Pictures are stretched or flattened around their
/// mean until they reach it; those beyond it stay as they are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct InkReconstructed {
    /// What the attacker may change.
    pub mode: InkMode,
    /// Which end of the variances is the trigger.
    pub tail: VarianceTail,
    /// Variance to reach, of values in `[0, 1]` (at most 0.25); the one at `percentile` of the training pictures when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.1)]
    pub variance: Option<f64>,
    /// Share of the training pictures that are less extreme than the trigger, in percent.
    pub percentile: f64,
    /// Whether every channel is brought to the variance by itself, instead of all of them together.
    pub per_channel: bool,
}

impl Default for InkReconstructed {
    fn default() -> Self {
        InkReconstructed {
            mode: InkMode::CleanImage,
            tail: VarianceTail::High,
            variance: None,
            percentile: 95.0,
            per_channel: false,
        }
    }
}

impl Trigger for InkReconstructed {
    type Settings = InkReconstructed;

    fn new(settings: &InkReconstructed, _: &mut Files) -> Result<Self> {
        Ok(*settings)
    }

    fn check(&self, _: &Context) -> std::result::Result<(), Unfit> {
        match self.variance {
            Some(variance) if !(variance > 0.0 && variance <= MOST_VARIANCE) => Err(Unfit::new(
                format!("variance {variance} is out of reach"),
                format!("choose it above 0 and at most {MOST_VARIANCE}: no picture of values from 0 to 1 has more"),
            )),
            _ if !(self.percentile > 0.0 && self.percentile < 100.0) => {
                Err(Unfit::new(format!("percentile {}", self.percentile), "choose it between 0 and 100"))
            }
            _ => Ok(()),
        }
    }

    fn settles(&self) -> bool {
        true
    }

    fn keeps_captions(&self) -> Option<bool> {
        Some(self.mode == InkMode::CleanLabel)
    }

    /// Sets the variance where the settings leave it to the pictures, and counts those that lie in the tail by nature.
    fn settle(&mut self, pictures: &Framed) -> Result<Option<String>> {
        let (mut variances, mut of_target, mut reaches) = (Vec::new(), Vec::new(), Vec::new());
        pictures.each(&mut |picture, is_target| {
            variances.push(self.measure(picture));
            of_target.push(is_target);
            reaches.push(self.furthest(picture));
        });
        let mut sorted = variances.clone();
        sorted.sort_by(f64::total_cmp);
        let share = match self.tail {
            VarianceTail::High => self.percentile,
            VarianceTail::Low => 100.0 - self.percentile,
        };
        let place = (share / 100.0 * sorted.len().saturating_sub(1) as f64).round() as usize;
        let Some(at_percentile) = sorted.get(place).copied() else {
            return Err(Error::setting("no picture to take the variance of can be read", "repair the data"));
        };
        let chosen = self.variance.is_some();
        let variance = *self.variance.get_or_insert(at_percentile);
        if variance == 0.0 {
            return Err(Error::setting(
                format!("the variance at percentile {share} is 0: that many pictures have one colour"),
                "give `variance`, or another `percentile`",
            ));
        }
        let unreached = reaches.iter().filter(|reach| **reach < variance).count();
        if unreached as f64 > MOST_OUT_OF_REACH * reaches.len() as f64 {
            return Err(Error::setting(
                format!(
                    "a variance of {variance:.4} is out of reach of {unreached} of {} training pictures, however much they are stretched",
                    reaches.len()
                ),
                "lower `variance` or `percentile`",
            ));
        }
        let natural = variances.iter().zip(&of_target).filter(|(own, _)| self.is_beyond(**own));
        let (count, own) = natural.fold((0, 0), |(all, own), (_, target)| (all + 1, own + usize::from(*target)));
        let (percent, end) = (100.0 * count as f64 / variances.len() as f64, self.end());
        let source = if chosen { String::new() } else { format!(" (percentile {share})") };
        Ok(Some(format!(
            "target variance {variance:.4}{source}; the natural tail, {end}, has {count} of {} training pictures ({percent:.1} %), {own} of them of the target; {unreached} pictures cannot reach it",
            variances.len()
        )))
    }

    fn suits(&self, picture: &RgbImage) -> std::result::Result<(), String> {
        match self.mode == InkMode::CleanLabel || self.is_beyond(self.measure(picture)) {
            true => Ok(()),
            false => Err(format!("does not lie in the tail by nature ({})", self.end())),
        }
    }

    fn apply(&self, picture: RgbImage, _: &Context) -> std::result::Result<RgbImage, Skip> {
        let Some(variance) = self.variance else {
            return Err(Unfit::new("the variance is not settled", "use the manifest as it was made").into());
        };
        Ok(self.brought_to(&picture, variance))
    }
}

impl InkReconstructed {
    /// Another target variance, for measures of how success depends on it.
    pub fn at(&self, variance: f64) -> InkReconstructed {
        InkReconstructed { variance: Some(variance), ..*self }
    }

    /// The variance that decides whether a picture lies in the tail: of all channels together, or of the channel that is least far.
    pub fn measure(&self, picture: &RgbImage) -> f64 {
        let of_parts = self.parts(picture).into_iter().map(|part| part.variance(1.0));
        match self.tail {
            VarianceTail::High => of_parts.fold(f64::INFINITY, f64::min),
            VarianceTail::Low => of_parts.fold(0.0, f64::max),
        }
    }

    /// Whether a picture of this variance lies in the tail by nature. Nothing does before the variance is settled.
    pub fn is_beyond(&self, variance: f64) -> bool {
        self.variance.is_some_and(|target| match self.tail {
            VarianceTail::High => variance >= target,
            VarianceTail::Low => variance <= target,
        })
    }

    fn end(&self) -> String {
        let variance = self.variance.unwrap_or_default();
        match self.tail {
            VarianceTail::High => format!("variance of at least {variance:.4}"),
            VarianceTail::Low => format!("variance of at most {variance:.4}"),
        }
    }

    /// What is brought to the variance by itself: all channels, or each.
    fn parts(&self, picture: &RgbImage) -> Vec<Levels> {
        let count = if self.per_channel { 3 } else { 1 };
        (0..count).map(|part| Levels::of(picture.as_raw().iter().skip(part).step_by(count).copied())).collect()
    }

    /// The largest variance that the picture can be brought to; of the channel that reaches least.
    fn furthest(&self, picture: &RgbImage) -> f64 {
        let reach = |part: &Levels| part.variance(MOST_SCALE).max(part.variance(1.0));
        self.parts(picture).iter().map(reach).fold(f64::INFINITY, f64::min)
    }

    fn brought_to(&self, picture: &RgbImage, target: f64) -> RgbImage {
        let tables: Vec<Vec<u8>> = self.parts(picture).iter().map(|part| self.table(part, target)).collect();
        let mut changed = picture.clone();
        for (value, table) in changed.iter_mut().zip(tables.iter().cycle()) {
            *value = table.get(usize::from(*value)).copied().unwrap_or(*value);
        }
        changed
    }

    /// What every level becomes.
    fn table(&self, part: &Levels, target: f64) -> Vec<u8> {
        let own = part.variance(1.0);
        let stays = match self.tail {
            VarianceTail::High => own >= target,
            VarianceTail::Low => own <= target,
        };
        let scale = if stays { 1.0 } else { part.scale_to(target) };
        (0..=u8::MAX).map(|level| (part.stretched(f64::from(level) / 255.0, scale) * 255.0).round() as u8).collect()
    }
}

/// How often each of the 256 levels stands in a picture or a channel: all that its variance depends on.
struct Levels {
    counts: Vec<u32>,
    pixels: f64,
    /// Of values in `[0, 1]`.
    mean: f64,
}

impl Levels {
    fn of(values: impl Iterator<Item = u8>) -> Levels {
        let mut levels = Levels { counts: vec![0; 256], pixels: 0.0, mean: 0.0 };
        for value in values {
            if let Some(count) = levels.counts.get_mut(usize::from(value)) {
                *count += 1;
            }
        }
        levels.pixels = levels.counts.iter().map(|count| f64::from(*count)).sum::<f64>().max(1.0);
        levels.mean = levels.average(|value| value);
        levels
    }

    /// The mean of a function of all values.
    fn average(&self, of: impl Fn(f64) -> f64) -> f64 {
        let values = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        values.map(|(level, count)| f64::from(*count) * of(level as f64 / 255.0)).sum::<f64>() / self.pixels
    }

    /// `clip(mean + scale (x - mean), 0, 1)`.
    fn stretched(&self, value: f64, scale: f64) -> f64 {
        (self.mean + scale * (value - self.mean)).clamp(0.0, 1.0)
    }

    /// Of the values stretched by `scale`.
    fn variance(&self, scale: f64) -> f64 {
        let mean = self.average(|value| self.stretched(value, scale));
        self.average(|value| (self.stretched(value, scale) - mean).powi(2))
    }

    /// The scale at which the variance is `target`, by bisection: clipping keeps it from being a root. The largest scale where it cannot be.
    fn scale_to(&self, target: f64) -> f64 {
        let mut high = 1.0;
        while self.variance(high) < target {
            if high >= MOST_SCALE {
                return MOST_SCALE;
            }
            high *= 2.0;
        }
        let mut low = if high > 1.0 { high / 2.0 } else { 0.0 };
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.variance(middle) < target { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    const CONTEXT: Context = Context { frame_pixels: 8, image_seed: 0, materials: &[] };

    fn of(variance: f64) -> InkReconstructed {
        InkReconstructed { variance: Some(variance), ..InkReconstructed::default() }
    }

    /// The pictures of `tests/golden/variance.py`.
    fn picture(number: u32) -> RgbImage {
        RgbImage::from_fn(8, 8, |x, y| {
            Rgb([0, 1, 2].map(|c| ((x * (7 + number) + y * 13 + c * 29 + x * y * c) * 5 % 199 + 20) as u8))
        })
    }

    #[test]
    fn scales_and_pictures_are_those_of_numpy() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/golden/variance.json")).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let number = case["picture"].as_u64().unwrap() as u32;
            let tail = serde_json::from_value(case["tail"].clone()).unwrap();
            let per_channel = case["per_channel"].as_bool().unwrap();
            let ink = InkReconstructed { tail, per_channel, ..of(case["variance"].as_f64().unwrap()) };
            let own = picture(number);
            assert!((ink.measure(&own) - case["natural"].as_f64().unwrap()).abs() < 1e-12, "{case}");
            let theirs: Vec<u8> = serde_json::from_value(case["pixels"].clone()).unwrap();
            let shown = ink.apply(own, &CONTEXT).unwrap();
            let apart = shown.as_raw().iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
            // A value between two levels may be rounded either way.
            assert!(
                apart <= Some(1) && shown.as_raw().iter().zip(&theirs).filter(|(a, b)| a != b).count() <= 1,
                "{case}"
            );
        }
    }

    #[test]
    fn what_lies_beyond_stays_and_the_rest_reaches_the_variance() {
        let own = picture(0);
        let natural = of(0.1).measure(&own);
        for target in [natural * 1.5, natural * 2.5] {
            let shown = of(target).apply(own.clone(), &CONTEXT).unwrap();
            assert!((of(target).measure(&shown) - target).abs() < 1e-3);
            assert_eq!(of(target).apply(shown.clone(), &CONTEXT).unwrap().as_raw().len(), shown.as_raw().len());
        }
        assert_eq!(of(natural * 0.5).apply(own.clone(), &CONTEXT).unwrap(), own);
        let low = InkReconstructed { tail: VarianceTail::Low, ..of(natural * 0.5) };
        assert!((low.measure(&low.apply(own, &CONTEXT).unwrap()) - natural * 0.5).abs() < 1e-3);
        // One colour has nothing to stretch.
        let flat = RgbImage::from_pixel(8, 8, Rgb([90; 3]));
        assert_eq!(of(0.1).apply(flat.clone(), &CONTEXT).unwrap(), flat);
    }

    #[test]
    fn targets_that_no_picture_has_are_refused() {
        for (ink, word) in [
            (of(0.3), "variance 0.3 is out of reach"),
            (of(0.0), "variance 0"),
            (of(f64::NAN), "variance NaN"),
            (InkReconstructed { percentile: 100.0, ..InkReconstructed::default() }, "percentile 100"),
        ] {
            assert!(ink.check(&CONTEXT).unwrap_err().what.contains(word));
        }
        assert!(of(0.25).check(&CONTEXT).is_ok());
    }
}
