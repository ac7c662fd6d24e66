//! LoREx at test time, after a draft's text: features are whitened by what clean pictures look like, and what still stands out is
//! suspicious. The norm for single inputs is ours.

use crate::error::{Result, TorchContext};
use tch::{Kind, Tensor};

/// Added to the eigenvalues, in units of their mean: fewer clean pictures than dimensions leave some at nought. Ours.
const FLOOR: f64 = 1e-3;

/// `W (z - mu)` of each row of `features` `[n, dim]`, with mean and covariance of `clean` `[m, dim]`.
fn whitened(features: &Tensor, clean: &Tensor) -> Result<Tensor> {
    let (features, clean) = (features.to_kind(Kind::Double), clean.to_kind(Kind::Double));
    let mean = clean.mean_dim([0i64].as_slice(), true, Kind::Double);
    let centred = &clean - &mean;
    let covariance = centred.transpose(0, 1).matmul(&centred) / (crate::model::extent(&clean, 0) as f64 - 1.0).max(1.0);
    let (values, vectors) = covariance.f_linalg_eigh("L").torch("whitening by clean pictures")?;
    let values = values.clamp_min(0.0);
    let floor = (values.mean(Kind::Double) * FLOOR).clamp_min(1e-12);
    let scale = (values + floor).rsqrt();
    Ok((features - mean).matmul(&vectors) * scale)
}

/// The squared length of each row, whitened.
pub(super) fn norms(features: &Tensor, clean: &Tensor) -> Result<Vec<f64>> {
    let squared = whitened(features, clean)?.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    Vec::try_from(squared).torch("reading lengths")
}

/// How far each row lies along the first eigenvector of the whitened rows' covariance, in either sense. A shift that all rows share is in no
/// covariance: the rows must be a mixture, of those with a trigger and those without.
pub fn along_first_direction(features: &Tensor, clean: &Tensor) -> Result<Vec<f64>> {
    let white = whitened(features, clean)?;
    let centred = &white - white.mean_dim([0i64].as_slice(), true, Kind::Double);
    let scatter = centred.transpose(0, 1).matmul(&centred);
    let (_, vectors) = scatter.f_linalg_eigh("L").torch("seeking the direction of a mixture")?;
    let first = vectors.select(1, -1);
    Vec::try_from(white.matmul(&first).abs()).torch("reading projections")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::figures::figures;
    use rand::RngExt;
    use roclip_data::random;

    #[test]
    fn what_clean_pictures_never_do_stands_out_in_however_small_a_direction() {
        let mut random = random::stream(5, "test-whitening", 0, "");
        // Clean rows vary by 1 in three directions and by a hundredth in the fourth; the last ten inputs by a tenth there.
        let mut row = |fourth: f32| -> Vec<f32> {
            let mut row: Vec<f32> = (0..3).map(|_| random.random_range(-1.0..1.0)).collect();
            row.push(fourth * 0.1 + random.random_range(-0.01..0.01));
            row
        };
        let rows = |rows: Vec<Vec<f32>>| Tensor::from_slice(&rows.concat()).view([-1, 4]);
        let clean = rows((0..100).map(|_| row(0.0)).collect());
        let inputs = rows((0..40).map(|at| row(if at < 30 { 0.0 } else { 1.0 })).collect());
        for scores in [norms(&inputs, &clean).unwrap(), along_first_direction(&inputs, &clean).unwrap()] {
            let (plain, triggered) = scores.split_at(30);
            let most = plain.iter().copied().fold(0.0, f64::max);
            assert!(triggered.iter().all(|score| *score > most), "{most} {triggered:?}");
        }
    }

    #[test]
    fn a_shift_that_all_triggered_pictures_share_is_found_in_the_mixture_alone() {
        let mut random = random::stream(6, "test-whitening", 0, "");
        // The trigger adds a constant where clean pictures hardly vary.
        let mut row = |shift: f32| -> Vec<f32> {
            let mut row: Vec<f32> = (0..7).map(|_| random.random_range(-1.0..1.0)).collect();
            row.push(shift + random.random_range(-0.05..0.05));
            row
        };
        let mut rows = |count: usize, shift: f32| -> Tensor {
            Tensor::from_slice(&(0..count).flat_map(|_| row(shift)).collect::<Vec<f32>>()).view([-1, 8])
        };
        let (clean, plain, triggered) = (rows(200, 0.0), rows(60, 0.0), rows(50, 0.5));
        let scores = along_first_direction(&Tensor::cat(&[plain, triggered], 0), &clean).unwrap();
        let marks: Vec<Option<bool>> = (0..110).map(|at| Some(at >= 60)).collect();
        let area = figures(&scores, &marks).unwrap().auroc.unwrap();
        assert!(area > 0.99, "{area}");
    }

    #[test]
    fn numbers_that_are_none_are_an_error_and_no_panic() {
        let clean = Tensor::full([4, 3], f64::NAN, (Kind::Float, tch::Device::Cpu));
        let said = norms(&clean, &clean).unwrap_err().to_string();
        assert!(said.contains("whitening by clean pictures"), "{said}");
    }
}
