//! Copies of a picture, and how many pairs one picture may have.
//!
//! The released targeted attacks repeat one picture under many captions; where a crawl keeps a picture once, one such pair is left.
//! Ours: none of the papers' programs looks for copies. An attacker answers by altering every copy until it is no longer seen as one.

use crate::error::{Error, Result};
use crate::pairs::Pairs;
use crate::picture::{ImageLimits, preprocess};
use crate::progress::Task;
use crate::random;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason, SkipReport};
use rand::seq::SliceRandom;
use std::collections::HashMap;

/// Difference of two cells' brightness, in units of the normalised picture: above what another encoding changes.
const CLEARLY_BRIGHTER: f32 = 0.05;
/// Pictures are compared at this size.
const SIDE: u32 = 32;
/// The coarse grid whose neighbouring cells are compared: 7 x 9 comparisons are 63 bits.
const ROWS: usize = 7;
const COLUMNS: usize = 10;

/// 63 bits of a picture, given as normalised planes `[3, side, side]`: whether each cell of a coarse grid is clearly brighter than the
/// cell on its left. Survives another encoding or size as a rule; a picture that happens to share it with another is merely judged with it.
pub fn picture_hash(planes: &[f32], side: usize) -> i64 {
    let value =
        |channel: usize, y: usize, x: usize| planes.get((channel * side + y) * side + x).copied().unwrap_or(0.0);
    let brightness = |y: usize, x: usize| (value(0, y, x) + value(1, y, x) + value(2, y, x)) / 3.0;
    let cell = |row: usize, column: usize| {
        let (top, bottom) = (row * side / ROWS, ((row + 1) * side).div_ceil(ROWS));
        let (left, right) = (column * side / COLUMNS, ((column + 1) * side).div_ceil(COLUMNS));
        let sum: f32 =
            (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))).map(|(y, x)| brightness(y, x)).sum();
        sum / ((bottom - top) * (right - left)).max(1) as f32
    };
    let mut hash = 0;
    for bit in 0..ROWS * (COLUMNS - 1) {
        let (row, column) = (bit / (COLUMNS - 1), bit % (COLUMNS - 1));
        if cell(row, column + 1) - cell(row, column) > CLEARLY_BRIGHTER {
            hash |= 1 << bit;
        }
    }
    hash
}

/// None for a picture that cannot be read (training counts it where it meets it) or has no clear edge, which is nobody's copy.
fn hash(sample: &Sample, limits: ImageLimits) -> Option<i64> {
    let picture = preprocess::resize_and_crop(&sample.picture(limits).ok()?, SIDE).ok()?;
    let mut planes = Vec::with_capacity(3 * (SIDE * SIDE) as usize);
    preprocess::normalise_into(&picture, &mut planes);
    let hash = picture_hash(&planes, SIDE as usize);
    (hash != 0).then_some(hash)
}

/// Leaves at most `limit` pairs of each picture, drawn by `seed`, and reports the others. Reads every picture once, with `workers` threads.
///
/// # Errors
/// A `limit` of 0.
pub fn limit_pairs_per_picture(
    pairs: &mut Pairs,
    limit: usize,
    limits: ImageLimits,
    workers: usize,
    seed: u64,
) -> Result<SkipReport> {
    if limit == 0 {
        return Err(Error::setting(
            "data.pairs_per_picture is 0",
            "set 1 or more, or leave it out to keep every pair of a picture",
        ));
    }
    let task = Task::begin("comparing pictures", pairs.sample_count(), "pictures");
    let one = |sample: &Sample| {
        task.advance(1);
        hash(sample, limits)
    };
    let hashes: Vec<Option<i64>> = pairs.look_at_samples(workers, one)?;
    drop(task);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.shuffle(&mut random::stream(seed, "pairs-per-picture", 0, ""));
    let mut kept: HashMap<i64, usize> = HashMap::new();
    let mut left_out = SkipReport::default();
    for at in order {
        let Some(pair) = pairs.get(at) else { continue };
        let Some(hash) = hashes.get(pair.sample).copied().flatten() else { continue };
        let count = kept.entry(hash).or_default();
        *count += 1;
        if *count > limit {
            let detail = format!("data.pairs_per_picture is {limit}");
            left_out.add(&pair.id, Skip::new(SkipReason::EnoughPairsOfPicture, detail));
        }
    }
    pairs.retain(|pair, _| !left_out.names(&pair.id));
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::CaptionMode;
    use crate::sample::ImageBytes;
    use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
    use std::io::Cursor;

    fn sample(id: &str, picture: RgbImage, format: ImageFormat, captions: usize) -> Sample {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(picture).write_to(&mut bytes, format).unwrap();
        Sample {
            captions: (0..captions).map(|k| format!("caption {k} of {id}")).collect(),
            ..Sample::new("data".into(), id, ImageBytes::Memory(bytes.into_inner().into()))
        }
    }

    fn waves(period: f32) -> RgbImage {
        RgbImage::from_fn(96, 96, |x, y| {
            let level = 128.0 + 100.0 * (x as f32 / period + y as f32 / 17.0).sin();
            Rgb([level as u8, (level * 0.8) as u8, 90])
        })
    }

    /// The same picture as a PNG, as a JPEG and smaller is one picture; another one and flat ones are not.
    #[test]
    fn copies_share_their_limit_and_others_do_not() {
        let smaller = image::imageops::resize(&waves(9.0), 72, 72, image::imageops::FilterType::Triangle);
        let flat = || RgbImage::from_pixel(40, 40, Rgb([200, 10, 10]));
        let samples = vec![
            sample("png", waves(9.0), ImageFormat::Png, 3),
            sample("jpeg", waves(9.0), ImageFormat::Jpeg, 3),
            sample("smaller", smaller, ImageFormat::Png, 1),
            sample("other", waves(14.0), ImageFormat::Png, 2),
            sample("flat", flat(), ImageFormat::Png, 2),
            sample("flat too", flat(), ImageFormat::Png, 2),
        ];
        let kept = |seed, workers| {
            let mut pairs = Pairs::new(samples.clone(), CaptionMode::Expand);
            let report = limit_pairs_per_picture(&mut pairs, 2, ImageLimits::default(), workers, seed).unwrap();
            assert_eq!(report.total(), 5);
            pairs.iter().map(|pair| pair.id.clone()).collect::<Vec<_>>()
        };
        let ids = kept(0, 1);
        let of = |prefixes: &[&str]| ids.iter().filter(|id| prefixes.iter().any(|p| id.starts_with(p))).count();
        assert_eq!((of(&["png", "jpeg", "smaller"]), of(&["other"]), of(&["flat"])), (2, 2, 4));
        assert_eq!(kept(0, 3), ids, "however many workers");
        assert!((1..9).any(|seed| kept(seed, 1) != ids), "which pairs stay is drawn");
    }
}
