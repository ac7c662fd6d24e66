//! An isolation forest over image features (Liu, Ting and Zhou, ICDM 2008): random cuts set outliers apart early. A crate exists, with the
//! number of dimensions fixed when it is compiled; features of a model that a user brings have any.

use crate::detect::{Config, Features};
use crate::error::{Result, TorchContext};
use crate::model::extent;
use rand::RngExt;
use rand::seq::index::sample;
use roclip_data::random;
use tch::Kind;

/// Points of each tree, as in the paper.
const POINTS: usize = 256;
/// Euler's constant.
const GAMMA: f64 = 0.577_215_664_901_532_9;

enum Node {
    Leaf { points: usize },
    Cut { dimension: usize, at: f32, below: Box<Node>, above: Box<Node> },
}

/// `2^(-mean depth / expected depth)`, between 0 and 1.
pub(super) fn scores(config: &Config, features: &Features) -> Result<Vec<f64>> {
    let raw = (&features.image * features.image_norms.unsqueeze(1)).to_kind(Kind::Float).contiguous();
    let (count, dim) = (features.len(), extent(&raw, 1) as usize);
    let flat = Vec::<f32>::try_from(raw.view([-1])).torch("reading features")?;
    let rows: Vec<&[f32]> = flat.chunks(dim.max(1)).collect();
    let mut random = random::stream(config.seed, "isolation-forest", 0, "");
    let points = POINTS.min(count);
    let most_cuts = (points as f64).log2().ceil() as usize;
    let tree = |random: &mut _| {
        let drawn: Vec<&[f32]> = sample(random, count, points).iter().filter_map(|at| rows.get(at).copied()).collect();
        grow(drawn, most_cuts, random)
    };
    let trees: Vec<Node> = (0..config.trees).map(|_| tree(&mut random)).collect();
    let expected = expected_depth(points).max(f64::MIN_POSITIVE);
    let score = |row: &&[f32]| {
        let depth = trees.iter().map(|tree| depth(tree, row)).sum::<f64>() / trees.len().max(1) as f64;
        (-depth / expected).exp2()
    };
    Ok(rows.iter().map(score).collect())
}

fn grow(points: Vec<&[f32]>, cuts_left: usize, random: &mut impl RngExt) -> Node {
    let leaf = Node::Leaf { points: points.len() };
    let dim = points.first().map_or(0, |point| point.len());
    if cuts_left == 0 || points.len() < 2 || dim == 0 {
        return leaf;
    }
    let dimension = random.random_range(0..dim);
    let value = |point: &&[f32]| point.get(dimension).copied().unwrap_or(0.0);
    let (low, high) = points.iter().map(value).fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low >= high {
        return leaf;
    }
    let at = random.random_range(low..high);
    let (below, above): (Vec<&[f32]>, Vec<&[f32]>) = points.into_iter().partition(|point| value(point) <= at);
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
    use tch::{Device, Tensor};

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

    /// From the paper: 256 points have 2 H(255) - 2 * 255 / 256.
    #[test]
    fn the_expected_depth_is_that_of_the_paper() {
        let harmonic: f64 = (1..=255).map(|n| 1.0 / f64::from(n)).sum();
        assert!((expected_depth(256) - (2.0 * harmonic - 2.0 * 255.0 / 256.0)).abs() < 5e-3);
    }
}
