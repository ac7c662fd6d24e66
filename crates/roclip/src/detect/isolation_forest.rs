//! An isolation forest over image features (Liu, Ting and Zhou, ICDM 2008): random cuts set outliers apart early. A crate exists, with the
//! number of dimensions fixed when it is compiled; features of a model that a user brings have any.

use crate::detect::{Config, Features};
use crate::error::{Result, TorchContext};
use crate::model::extent;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand::seq::index::sample;
use roclip_data::random;
use tch::{Kind, Tensor};

/// Points of each tree, as in the paper.
const POINTS: usize = 256;
/// Rows that are taken out of their tensor at a time, to be scored: bounds the memory of copies.
const ROWS: i64 = 1 << 12;
/// Euler's constant.
const GAMMA: f64 = 0.577_215_664_901_532_9;

enum Node {
    Leaf { points: usize },
    Cut { dimension: usize, at: f32, below: Box<Node>, above: Box<Node> },
}

/// `2^(-mean depth / expected depth)`, between 0 and 1.
pub(super) fn scores(config: &Config, features: &Features) -> Result<Vec<f64>> {
    let Features { image, image_norms, .. } = features;
    let (count, dim) = (features.len(), extent(image, 1) as usize);
    let mut random = random::stream(config.seed, "isolation-forest", 0, "");
    let points = POINTS.min(count);
    let most_cuts = (points as f64).log2().ceil() as usize;
    let mut trees = Vec::with_capacity(config.trees);
    for _ in 0..config.trees {
        let drawn: Vec<i64> = sample(&mut random, count, points).iter().map(|at| at as i64).collect();
        let drawn = Tensor::from_slice(&drawn).to_device(image.device());
        let flat = raw(&image.index_select(0, &drawn), &image_norms.index_select(0, &drawn))?;
        trees.push(grow(flat.chunks(dim.max(1)).collect(), most_cuts, &mut random));
    }
    let expected = expected_depth(points).max(f64::MIN_POSITIVE);
    let score = |row: &[f32]| {
        let depth = trees.iter().map(|tree| depth(tree, row)).sum::<f64>() / trees.len().max(1) as f64;
        (-depth / expected).exp2()
    };
    let mut found = Vec::with_capacity(count);
    for from in (0..count as i64).step_by(ROWS as usize) {
        let some = ROWS.min(count as i64 - from);
        let flat = raw(&image.narrow(0, from, some), &image_norms.narrow(0, from, some))?;
        found.extend(flat.chunks(dim.max(1)).map(score));
    }
    Ok(found)
}

/// The values of rows that are given as unit ones and their lengths, one row behind the other.
fn raw(unit: &Tensor, norms: &Tensor) -> Result<Vec<f32>> {
    let rows = (unit * norms.unsqueeze(1)).to_kind(Kind::Float).contiguous();
    Vec::try_from(rows.view([-1])).torch("reading features")
}

fn grow(points: Vec<&[f32]>, cuts_left: usize, random: &mut impl RngExt) -> Node {
    let leaf = Node::Leaf { points: points.len() };
    let dim = points.first().map_or(0, |point| point.len());
    if cuts_left == 0 || points.len() < 2 || dim == 0 {
        return leaf;
    }
    let value = |point: &[f32], dimension: usize| point.get(dimension).copied().unwrap_or(0.0);
    let span = |dimension: usize| {
        let values = points.iter().map(|point| value(point, dimension));
        values.fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)))
    };
    let mut dimension = random.random_range(0..dim);
    let (mut low, mut high) = span(dimension);
    if low >= high {
        // As in the paper, only points that are all the same end a branch.
        let varying: Vec<usize> = (0..dim).filter(|dimension| matches!(span(*dimension), (l, h) if l < h)).collect();
        let Some(drawn) = varying.choose(random) else { return leaf };
        dimension = *drawn;
        (low, high) = span(dimension);
    }
    let at = random.random_range(low..high);
    let (below, above): (Vec<&[f32]>, Vec<&[f32]>) =
        points.into_iter().partition(|point| value(point, dimension) <= at);
    let mut side = |points| Box::new(grow(points, cuts_left - 1, random));
    Node::Cut { dimension, at, below: side(below), above: side(above) }
}

fn depth(node: &Node, point: &[f32]) -> f64 {
    match node {
        Node::Leaf { points } => expected_depth(*points),
        Node::Cut { dimension, at, below, above } => {
            let side = if point.get(*dimension).is_some_and(|value| value <= at) { below } else { above };
            1.0 + depth(side, point)
        }
    }
}

/// The mean depth of a search that fails in a binary search tree of so many points.
fn expected_depth(points: usize) -> f64 {
    match points {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + GAMMA) - 2.0 * (n - 1.0) / n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn points_far_away_are_set_apart_first() {
        let mut random = random::stream(1, "test-forest", 0, "");
        let mut flat: Vec<f32> = (0..300 * 4).map(|_| random.random_range(-1.0..1.0)).collect();
        flat[4 * 7..4 * 8].copy_from_slice(&[9.0; 4]);
        let image = Tensor::from_slice(&flat).view([300, 4]);
        let features = Features {
            text: image.shallow_clone(),
            image,
            image_norms: Tensor::ones([300], (Kind::Float, Device::Cpu)),
            pictures: (0..300).collect(),
        };
        let found = scores(&Config::default(), &features).unwrap();
        assert!(found.iter().enumerate().all(|(at, score)| at == 7 || *score < found[7] - 0.1), "{}", found[7]);
        assert_eq!(found, scores(&Config::default(), &features).unwrap(), "a seed gives one forest");
    }

    #[test]
    fn a_dimension_in_which_all_points_agree_ends_no_branch() {
        // One dimension of sixty-four varies.
        let mut flat = vec![1.0f32; 32 * 64];
        (0..32).for_each(|point| flat[64 * point + 5] = point as f32);
        let mut random = random::stream(1, "test-forest", 0, "");
        let grown = |rows: &[f32], random: &mut _| grow(rows.chunks(64).collect(), 5, random);
        for _ in 0..20 {
            assert!(matches!(grown(&flat, &mut random), Node::Cut { dimension: 5, .. }));
        }
        assert!(matches!(grown(&[1.0; 4 * 64], &mut random), Node::Leaf { points: 4 }));
    }

    /// From the paper: 256 points have 2 H(255) - 2 * 255 / 256.
    #[test]
    fn the_expected_depth_is_that_of_the_paper() {
        let harmonic: f64 = (1..=255).map(|n| 1.0 / f64::from(n)).sum();
        assert!((expected_depth(256) - (2.0 * harmonic - 2.0 * 255.0 / 256.0)).abs() < 5e-3);
    }
}
