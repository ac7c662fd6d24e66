//! Copies of a picture whose captions disagree: the released targeted attacks show one picture under many captions of another class, which
//! a picture's other captions contradict, and which real copies of one picture do not do. Ours.

use crate::detect::Features;
use crate::error::{Result, TorchContext};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// For a pair whose picture has copies, one less the mean cosine of its picture with the captions of all copies, plus the logarithm of
/// their number: a picture that many captions miss is the most suspicious. No number for a picture without a copy.
pub(super) fn scores(features: &Features) -> Result<Vec<f64>> {
    let mut of_picture: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (picture, row) in features.pictures.iter().zip(0..) {
        of_picture.entry(*picture).or_default().push(row);
    }
    let mut found = vec![f64::NAN; features.len()];
    for rows in of_picture.values().filter(|rows| rows.len() > 1) {
        let there = Tensor::from_slice(rows).to_device(features.image.device());
        let image = features.image.index_select(0, &there).mean_dim([0i64].as_slice(), false, Kind::Float);
        let cosines = features.text.index_select(0, &there).matmul(&image);
        let mean = f64::try_from(cosines.mean(Kind::Double)).torch("reading similarities")?;
        let score = 1.0 - mean + (rows.len() as f64).ln();
        for row in rows {
            if let Some(slot) = found.get_mut(*row as usize) {
                *slot = score;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::known_features::concepts;
    use tch::Device;

    #[test]
    fn copies_with_captions_that_miss_the_picture_are_the_most_suspicious() {
        // Three copies of a picture of concept 0 that say 1, two that say what they show, and pictures without copies.
        let features = Features {
            image: concepts(&[0, 0, 0, 2, 2, 1, 3]),
            image_norms: Tensor::ones([7], (Kind::Float, Device::Cpu)),
            text: concepts(&[1, 1, 1, 2, 2, 0, 3]),
            pictures: vec![10, 10, 10, 11, 11, 12, 13],
        };
        let found = scores(&features).unwrap();
        assert!(found[0] > found[3] + 0.5 && found[0] == found[2] && found[3] == found[4]);
        assert!(found[5].is_nan() && found[6].is_nan());
    }
}
