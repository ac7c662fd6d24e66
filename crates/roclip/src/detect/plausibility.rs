//! How well a pair fits what a model has made of all the others: neighbour disagreement. SafeCLIP splits by it where it is asked to. Ours.

use crate::detect::ROWS_AT_A_TIME;
use crate::detect::clip_score::own_cosines;
use crate::error::{Result, TorchContext};
use tch::{Kind, Tensor};

/// Pairs among which neighbours are sought, where nothing else is said.
pub const REFERENCES: usize = 16_384;
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
/// other's neighbours: where fewer than `neighbours` of the references show another picture, the mean is over these, and 0 where none does.
/// Neighbours come from `references`, indices into the rows.
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
    let own = own_cosines(image, text, Kind::Float);
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
    let (nearness, nearest) = near.topk(neighbours.min(crate::model::extent(&near, 1)), 1, true, false);
    let found = what.gather(1, &nearest, false);
    let copy = nearness.eq(NOT_A_NEIGHBOUR);
    if copy.any().int64_value(&[]) == 0 {
        return found.mean_dim([1i64].as_slice(), false, Kind::Float);
    }
    // Some rows have fewer neighbours, and copies took the other places.
    let sum = |of: Tensor| of.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    sum(found.masked_fill(&copy, 0.0)) / sum(copy.logical_not()).clamp_min(1.0)
}

fn standardised(values: &Tensor) -> Tensor {
    let spread = values.std(false).clamp_min(1e-12);
    (values - values.mean(Kind::Float)) / spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::known_features::concepts as features;

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

    #[test]
    fn copies_take_no_place_of_neighbours_that_are_not_there() {
        let row = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3]);
        let (near, what) = (row([0.9, 0.8, 0.1]), row([1.0, 0.9, 0.25]));
        let mean = |copies: [bool; 3]| {
            let copies = Tensor::from_slice(&copies).view([1, 3]);
            mean_over_nearest(&near, &what, &copies, 2).double_value(&[0])
        };
        assert!((mean([false, false, false]) - 0.95).abs() < 1e-6);
        assert_eq!((mean([true, true, false]), mean([true, true, true])), (0.25, 0.0));
        assert!((mean([true, false, false]) - 0.575).abs() < 1e-6);
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
