//! Two stages after CASCADE (arXiv 2608.04052), of which only the abstract was there to read: the pairs that fit least are taken for
//! poison, those that fit best for clean, and of the others each is as suspicious as its caption resembles the captions of the first. It
//! works where the captions of one attack resemble each other, and fails where the model takes poisoned pictures for what their captions
//! say. Shares are ours, and so is a bound on the first stage: each caption is compared with each of its captions.

use crate::detect::{Config, Features, ROWS_AT_A_TIME};
use crate::error::{Error, Result, TorchContext};
use tch::{Kind, Tensor};

/// Above all p-values: pairs of the first stage are the most suspicious, the least fitting first.
const SURELY: f64 = 1.0;

/// Pairs that are taken for poison outright, at most: a share of them would make the comparisons of all captions with theirs grow with the
/// square of the pairs. Ours.
pub const MOST_SURELY_POISONED: usize = 4096;

/// How many of `pairs` are taken for poison and how many for clean.
fn stages(config: &Config, pairs: usize) -> (usize, usize) {
    let count = |share: f64| ((share * pairs as f64).ceil() as usize).clamp(1, pairs.max(1));
    (count(config.surely_poisoned).min(MOST_SURELY_POISONED), count(config.surely_clean))
}

/// One less the p-value of each pair, of which `misfit` says how little each image resembles its caption; pairs that are taken for poison outright have more than 1.
pub(super) fn scores(config: &Config, features: &Features, misfit: &[f64]) -> Result<Vec<f64>> {
    for (name, share) in [("surely poisoned", config.surely_poisoned), ("surely clean", config.surely_clean)] {
        if !(0.0..1.0).contains(&share) || share == 0.0 {
            return Err(Error::setting(
                format!("conformal: the share that is {name} is {share}"),
                "choose a share above 0 and below 1",
            ));
        }
    }
    let mut order: Vec<usize> = (0..misfit.len()).collect();
    let of = |at: usize| misfit.get(at).copied().unwrap_or(f64::NAN);
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    let (poison, clean) = stages(config, misfit.len());
    let poisoned: Vec<i64> = order.iter().take(poison).map(|at| *at as i64).collect();
    let like = likeness(&features.text, &poisoned)?;
    let calibration: Vec<f64> = order.iter().rev().take(clean).filter_map(|at| like.get(*at).copied()).collect();
    let p = p_values(&calibration, &like);
    let mut found: Vec<f64> = p.into_iter().map(|p| 1.0 - p).collect();
    for (place, at) in order.iter().enumerate() {
        let Some(slot) = found.get_mut(*at) else { continue };
        if place < poison {
            *slot = SURELY + (poison - place) as f64;
        } else if place >= misfit.len().saturating_sub(clean) {
            *slot = 0.0;
        }
    }
    Ok(found)
}

/// The largest cosine of each caption with one of the captions `there`, itself left out, `[pairs]`.
fn likeness(text: &Tensor, there: &[i64]) -> Result<Vec<f64>> {
    let there = Tensor::from_slice(there).to_device(text.device());
    let captions = text.index_select(0, &there);
    let (mut found, rows) = (Vec::new(), crate::model::extent(text, 0));
    for from in (0..rows).step_by(ROWS_AT_A_TIME as usize) {
        let count = ROWS_AT_A_TIME.min(rows - from);
        let own = Tensor::arange_start(from, from + count, (Kind::Int64, text.device()));
        let same = own.unsqueeze(1).eq_tensor(&there.unsqueeze(0));
        let cosines = text.narrow(0, from, count).matmul(&captions.transpose(0, 1)).masked_fill(&same, -1.0);
        let (largest, _) = cosines.max_dim(1, false);
        found.push(largest);
    }
    Vec::try_from(Tensor::cat(&found, 0).to_kind(Kind::Double)).torch("reading similarities")
}

/// The conformal p-value of each of `scores` against those of pairs that are known to be clean: `(1 + #{calibration >= score}) / (n + 1)`.
/// Where clean pairs are drawn as the calibration was, at most a share `level` of them has a p-value of `level` or less.
pub fn p_values(calibration: &[f64], scores: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = calibration.iter().copied().filter(|score| !score.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let p = |score: &f64| {
        let below = sorted.partition_point(|known| known < score);
        (1 + sorted.len() - below) as f64 / (sorted.len() + 1) as f64
    };
    scores.iter().map(p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::known_features::concepts;
    use tch::Device;

    #[test]
    fn a_caption_like_those_of_the_least_fitting_pairs_is_suspicious() {
        // Pair 0 does not fit; pair 1 fits half, and says what pair 0 says; the others say what they show.
        let others = concepts(&[2, 2, 3, 3, 2, 3, 2, 3]);
        let half = (concepts(&[1]) + concepts(&[2])) / 2f64.sqrt();
        let features = Features {
            image: Tensor::cat(&[&concepts(&[0]), &half, &others], 0),
            image_norms: Tensor::ones([10], (Kind::Float, Device::Cpu)),
            text: Tensor::cat(&[&concepts(&[1, 1]), &others], 0),
            pictures: (0..10).collect(),
        };
        let config = Config { surely_poisoned: 0.1, surely_clean: 0.5, neighbours: 3, ..Config::default() };
        let misfit = crate::detect::clip_score::scores(&features).unwrap();
        let found = scores(&config, &features, &misfit).unwrap();
        assert!(found[0] > 1.0 && found[1] > 0.8, "{found:?}");
        assert!(found[2..].iter().all(|score| *score < 0.5), "{found:?}");
    }

    #[test]
    fn the_first_stage_takes_a_share_of_few_pairs_and_a_number_of_many() {
        let config = Config::default();
        let found = [1, 50, 5_000, 1_000_000].map(|pairs| stages(&config, pairs));
        assert_eq!(found, [(1, 1), (1, 25), (50, 2_500), (MOST_SURELY_POISONED, 500_000)]);
    }

    #[test]
    fn p_values_count_what_is_as_large() {
        let p = p_values(&[1.0, 2.0, 3.0, f64::NAN], &[0.0, 2.0, 2.5, 4.0]);
        assert_eq!(p, [1.0, 0.75, 0.5, 0.25]);
        assert_eq!(p_values(&[], &[1.0]), [1.0]);
    }
}
