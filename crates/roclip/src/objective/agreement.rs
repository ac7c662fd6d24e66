//! How well a pair fits what a model has made of all the others: neighbour disagreement, by which SafeCLIP splits where it is asked to.
//! Ours.

use crate::error::{Error, Result, TorchContext};
use crate::objective::Encode;
use rand::seq::SliceRandom;
use roclip_data::random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Splits by how plausible each pair is beside all others. Ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlausibilityConfig {
    /// Neighbours that are asked about each image and each caption.
    pub neighbours: usize,
    /// Pairs among which neighbours are sought; all when there are fewer.
    pub references: usize,
    /// Whether copies of a picture may be each other's neighbours. On only to measure what an attacker gains whose copies are not
    /// recognised as copies.
    pub copies_vouch: bool,
}

impl Default for PlausibilityConfig {
    fn default() -> Self {
        PlausibilityConfig { neighbours: 10, references: 16_384, copies_vouch: false }
    }
}

impl PlausibilityConfig {
    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<()> {
        if self.neighbours == 0 || self.references <= self.neighbours {
            return Err(Error::setting(
                format!(
                    "objective.safeclip.plausibility: {} neighbours of {} references",
                    self.neighbours, self.references
                ),
                "ask at least 1 neighbour, and seek it among more references",
            ));
        }
        Ok(())
    }

    /// [`plausibility`] of each of `pairs` pairs by index, as the towers stand; not finite where a pair cannot be read.
    pub fn scores(&self, seed: u64, pairs: usize, encode: &mut dyn Encode) -> Result<Vec<f64>> {
        let seen = encode.features()?;
        let rows = 0..seen.pairs.len() as i64;
        let copies = if self.copies_vouch { rows.clone().collect() } else { seen.pictures };
        let mut references: Vec<i64> = rows.collect();
        references.shuffle(&mut random::stream(seed, "plausibility-references", 0, ""));
        references.truncate(self.references);
        let found = plausibility(&seen.image, &seen.text, &copies, &references, self.neighbours as i64)?;
        let mut scores = vec![f64::NAN; pairs];
        for (at, score) in seen.pairs.into_iter().zip(found) {
            if let Some(slot) = scores.get_mut(at) {
                *slot = score;
            }
        }
        Ok(scores)
    }
}

/// Rows compared at a time: bounds the memory of the similarity matrices.
const ROWS_AT_A_TIME: i64 = 1024;
/// Below any cosine.
const NOT_A_NEIGHBOUR: f64 = -2.0;

/// The mean of three cosines for each pair, each standardised over the pairs, higher = more plausible; its hyperbolic tangent, so that
/// it lies between -1 and 1:
///
/// 1. its image with its caption;
/// 2. its image with the images of the `neighbours` captions most like its own;
/// 3. its caption with the captions of the `neighbours` images most like its own.
///
/// `image`, `text` `[n, dim]` unit features; `copies[n]` numbers the pictures, and pairs that show the same one are not each
/// other's neighbours. Neighbours come from `references`, indices into the rows.
pub fn plausibility(
    image: &Tensor,
    text: &Tensor,
    copies: &[i64],
    references: &[i64],
    neighbours: i64,
) -> Result<Vec<f64>> {
    let device = image.device();
    let references = Tensor::from_slice(references).to_device(device);
    let copies = Tensor::from_slice(copies).to_device(device);
    let (image_there, text_there) = (image.index_select(0, &references), text.index_select(0, &references));
    let copies_there = copies.index_select(0, &references);
    let rows = crate::model::extent(image, 0);
    let own = (image * text).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let (mut by_caption, mut by_image) = (Vec::new(), Vec::new());
    for from in (0..rows).step_by(ROWS_AT_A_TIME as usize) {
        let count = ROWS_AT_A_TIME.min(rows - from);
        let same = copies.narrow(0, from, count).unsqueeze(1).eq_tensor(&copies_there.unsqueeze(0));
        let images = image.narrow(0, from, count).matmul(&image_there.transpose(0, 1));
        let texts = text.narrow(0, from, count).matmul(&text_there.transpose(0, 1));
        by_caption.push(mean_over_nearest(&texts, &images, &same, neighbours));
        by_image.push(mean_over_nearest(&images, &texts, &same, neighbours));
    }
    let (by_caption, by_image) = (Tensor::cat(&by_caption, 0), Tensor::cat(&by_image, 0));
    let mean = (standardised(&own) + standardised(&by_caption) + standardised(&by_image)) / 3.0;
    Vec::try_from(mean.tanh().to_kind(Kind::Double)).torch("reading plausibilities")
}

/// The mean of `what` `[rows, references]` over the `neighbours` largest of `near` in each row, copies left out.
fn mean_over_nearest(near: &Tensor, what: &Tensor, copies: &Tensor, neighbours: i64) -> Tensor {
    let near = near.masked_fill(copies, NOT_A_NEIGHBOUR);
    let (_, nearest) = near.topk(neighbours.min(crate::model::extent(&near, 1)), 1, true, false);
    what.gather(1, &nearest, false).mean_dim([1i64].as_slice(), false, Kind::Float)
}

fn standardised(values: &Tensor) -> Tensor {
    let spread = values.std(false).clamp_min(1e-12);
    (values - values.mean(Kind::Float)) / spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::known_towers::{KnownTowers, concepts as features};

    #[test]
    fn a_caption_that_its_neighbours_contradict_is_the_least_plausible() {
        let images = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0];
        let captions = [0, 0, 0, 1, 1, 1, 2, 2, 2, 1];
        let copies: Vec<i64> = (0..10).collect();
        let scores = plausibility(&features(&images), &features(&captions), &copies, &copies, 2).unwrap();
        let least = scores.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(least, 9);
        assert!(scores[0] > 0.0 && scores[9] < -0.9);
    }

    /// Ten pairs that can be read, of eleven; the last three show one picture.
    fn towers() -> KnownTowers {
        let of = [0, 0, 0, 1, 1, 1, 2, 3, 3, 3];
        let (pairs, pictures) = (vec![0, 1, 2, 3, 4, 5, 6, 8, 9, 10], vec![0, 1, 2, 3, 4, 5, 6, 8, 8, 8]);
        KnownTowers { pairs, pictures, ..KnownTowers::new(&of, &of) }
    }

    #[test]
    fn scores_are_by_pair_and_copies_vouch_only_where_they_are_asked_to() {
        let scores = |copies_vouch| {
            let config = PlausibilityConfig { neighbours: 2, references: 100, copies_vouch };
            config.scores(0, 11, &mut towers()).unwrap()
        };
        let (apart, vouching) = (scores(false), scores(true));
        assert_eq!(apart.iter().map(|score| score.is_nan()).filter(|unread| *unread).count(), 1);
        assert!(apart[7].is_nan() && apart[10] < apart[0] - 0.5);
        assert!((vouching[10] - vouching[0]).abs() < 1e-6 && vouching[6] < vouching[0]);
    }

    #[test]
    fn copies_of_a_picture_do_not_vouch_for_each_other() {
        // The model has learned by heart that the picture of the last three pairs is what they say.
        let images = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        let captions = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        let apart: Vec<i64> = (0..12).collect();
        let together = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9];
        let all: Vec<i64> = (0..12).collect();
        let score = |copies: &[i64]| plausibility(&features(&images), &features(&captions), copies, &all, 2).unwrap();
        assert!((score(&apart)[9] - score(&apart)[0]).abs() < 1e-6);
        assert!(score(&together)[9] < score(&together)[0] - 0.5);
    }
}
