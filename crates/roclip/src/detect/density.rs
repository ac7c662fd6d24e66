//! Local-density scores of images (arXiv 2502.01385, and its released code): poisoned pictures lie where few others do. Distances are
//! Euclidean, between features that were not made unit ones, to a random batch of references. The released code counts a reference among
//! its own neighbours and shifts the neighbours' places by one; here a row is never its own neighbour.

use crate::detect::{Config, Features, Method, ROWS_AT_A_TIME};
use crate::error::{Result, TorchContext};
use tch::{Kind, Tensor};

/// The scores of each row.
pub(super) struct Densities {
    pub k_distance: Vec<f64>,
    pub slof: Vec<f64>,
    pub lid: Vec<f64>,
    pub dao: Vec<f64>,
}

/// Added within the logarithm of LID, as released.
const LOG_FLOOR: f64 = 1e-4;
/// Stands for scores that are no numbers, as released.
const NO_NUMBER: f64 = 1000.0;

/// Distances to the nearest references and their places among these, both `[rows, k]`, nearest first.
struct Nearest {
    distances: Tensor,
    places: Tensor,
}

/// All scores, from one search for neighbours.
pub(super) fn scores(config: &Config, features: &Features) -> Result<Densities> {
    let references = features.references(config);
    let sought =
        |method: Method| method.neighbourhood(config, features.len()).map_or(0, |sought| sought.neighbours as i64);
    let (k, wide) = (sought(Method::KDistance), sought(Method::Lid));
    let device = features.image.device();
    let raw = |rows: &Tensor, norms: &Tensor| rows * norms.unsqueeze(1);
    let there = Tensor::from_slice(&references).to_device(device);
    let reference_rows = raw(&features.image.index_select(0, &there), &features.image_norms.index_select(0, &there));
    // What is known of each reference among the others.
    let around = nearest(&reference_rows, &there, &reference_rows, &there, k);
    let (reach, dimension) = (last(&around.distances), dimensionality(&around.distances));
    let (mut k_distance, mut slof, mut lid, mut dao) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for from in (0..features.len() as i64).step_by(ROWS_AT_A_TIME as usize) {
        let count = ROWS_AT_A_TIME.min(features.len() as i64 - from);
        let rows = raw(&features.image.narrow(0, from, count), &features.image_norms.narrow(0, from, count));
        let own = Tensor::arange_start(from, from + count, (Kind::Int64, device));
        let Nearest { distances, places } = nearest(&rows, &own, &reference_rows, &there, k.max(wide));
        let (near, places) = (distances.narrow(1, 0, k), places.narrow(1, 0, k));
        let own_reach = last(&near);
        let gathered = |of: &Tensor| of.unsqueeze(0).expand([count, -1], false).gather(1, &places, false);
        let ratio = own_reach.unsqueeze(1) / gathered(&reach);
        let mean = |each: &Tensor| each.mean_dim([1i64].as_slice(), false, Kind::Double);
        slof.push(mean(&ratio));
        dao.push(mean(&(gathered(&dimension) * ratio.log())));
        lid.push(dimensionality(&distances.narrow(1, 0, wide)));
        k_distance.push(own_reach);
    }
    Ok(Densities { k_distance: numbers(&k_distance)?, slof: numbers(&slof)?, lid: numbers(&lid)?, dao: numbers(&dao)? })
}

fn numbers(chunks: &[Tensor]) -> Result<Vec<f64>> {
    let all: Vec<f64> = Vec::try_from(Tensor::cat(chunks, 0)).torch("reading densities")?;
    Ok(all.into_iter().map(|score| if score.is_finite() { score } else { NO_NUMBER }).collect())
}

/// The `k` nearest of `references` to each of `rows`; `own` and `there` number both, and equal numbers are one row.
fn nearest(rows: &Tensor, own: &Tensor, references: &Tensor, there: &Tensor, k: i64) -> Nearest {
    // Exact: the shortcut by a matrix product loses small distances between long features.
    let distances = Tensor::cdist(rows, references, 2.0, Some(2)).to_kind(Kind::Double);
    let same = own.unsqueeze(1).eq_tensor(&there.unsqueeze(0));
    let (distances, places) = distances.masked_fill(&same, f64::INFINITY).topk(k, 1, false, true);
    Nearest { distances, places }
}

/// The distance to the farthest of the neighbours, `[rows]`.
fn last(distances: &Tensor) -> Tensor {
    distances.select(1, -1)
}

/// LID of sorted `distances` `[rows, k]`: `-k / sum_i log(d_i / d_k + 1e-4)`.
fn dimensionality(distances: &Tensor) -> Tensor {
    let k = crate::model::extent(distances, 1) as f64;
    let logs = (distances / last(distances).unsqueeze(1) + LOG_FLOOR).log();
    logs.sum_dim_intlist([1i64].as_slice(), false, Kind::Double).reciprocal() * -k
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use roclip_data::random;

    fn points(count: usize, dim: usize) -> Vec<Vec<f64>> {
        let mut random = random::stream(3, "test-density", 0, "");
        (0..count).map(|_| (0..dim).map(|_| random.random_range(-3.0..3.0)).collect()).collect()
    }

    fn features(points: &[Vec<f64>]) -> Features {
        let flat: Vec<f32> = points.iter().flatten().map(|value| *value as f32).collect();
        let rows = Tensor::from_slice(&flat).view([points.len() as i64, -1]);
        let norms = rows.norm_scalaropt_dim(2, [1i64], false);
        let image = &rows / norms.unsqueeze(1);
        Features {
            text: image.shallow_clone(),
            image,
            image_norms: norms,
            pictures: (0..points.len() as i64).collect(),
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Score {
        KDistance,
        Slof,
        Lid,
        Dao,
    }

    impl Score {
        fn of(self, found: &Densities) -> &[f64] {
            match self {
                Score::KDistance => &found.k_distance,
                Score::Slof => &found.slof,
                Score::Lid => &found.lid,
                Score::Dao => &found.dao,
            }
        }
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
    }

    /// The `k` nearest of `among` to the point `at`, itself left out: distances and places, nearest first.
    fn neighbours(points: &[Vec<f64>], at: usize, among: &[usize], k: usize) -> Vec<(f64, usize)> {
        let others = among.iter().filter(|other| **other != at);
        let mut all: Vec<(f64, usize)> = others.map(|other| (distance(&points[at], &points[*other]), *other)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.truncate(k);
        all
    }

    fn lid(near: &[(f64, usize)]) -> f64 {
        let far = near.last().unwrap().0;
        -(near.len() as f64) / near.iter().map(|(d, _)| (d / far + 1e-4).ln()).sum::<f64>()
    }

    /// Every score by its definition, point by point.
    fn oracle(points: &[Vec<f64>], among: &[usize], k: usize, score: Score) -> Vec<f64> {
        let near = |at: usize| neighbours(points, at, among, k);
        let reach = |at: usize| near(at).last().unwrap().0;
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let of = |at: usize| match score {
            Score::KDistance => reach(at),
            Score::Slof => mean(near(at).iter().map(|(_, y)| reach(at) / reach(*y)).collect()),
            Score::Lid => lid(&near(at)),
            Score::Dao => mean(near(at).iter().map(|(_, y)| lid(&near(*y)) * (reach(at) / reach(*y)).ln()).collect()),
        };
        (0..points.len()).map(of).collect()
    }

    #[test]
    fn scores_are_those_of_their_definitions() {
        let points = points(60, 5);
        let features = features(&points);
        for references in [60, 25] {
            let config = Config { neighbours: 6, dimension_neighbours: 9, references, ..Config::default() };
            let among: Vec<usize> = features.references(&config).iter().map(|row| *row as usize).collect();
            let all = scores(&config, &features).unwrap();
            for score in [Score::KDistance, Score::Slof, Score::Lid, Score::Dao] {
                let k = if score == Score::Lid { 9 } else { 6 };
                for (found, expected) in score.of(&all).iter().zip(oracle(&points, &among, k, score)) {
                    assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{score:?}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_point_far_from_all_is_the_most_suspicious_and_copies_are_no_numbers() {
        let mut points = points(60, 5);
        points[17] = vec![40.0; 5];
        let config = Config { neighbours: 6, references: 60, ..Config::default() };
        let most = |found: &[f64]| found.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let all = scores(&config, &features(&points)).unwrap();
        for score in [Score::KDistance, Score::Slof, Score::Dao] {
            assert_eq!(most(score.of(&all)), 17, "{score:?}");
        }
        let same = vec![vec![1.0, 2.0, 3.0]; 40];
        let found = scores(&config, &features(&same)).unwrap();
        assert!(found.slof.iter().all(|score| *score == NO_NUMBER), "zero by zero");
    }
}
