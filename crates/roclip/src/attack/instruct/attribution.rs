//! Which regions of a picture speak for a text: the greedy search over a set function of four terms of "Less is more" (Chen et al., ICLR 2024),
//! as its released code has them (RuoyuChen10/SMDL-Attribution).

use crate::error::{Result, TorchContext};
use crate::model::{Clip, unit};
use roclip_data::picture::preprocess::{MEAN, STD};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Weights of the four terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SetWeights {
    pub confidence: f64,
    pub effectiveness: f64,
    pub consistency: f64,
    pub collaboration: f64,
}

impl SetWeights {
    /// Of the released results.
    pub const RESULTS: SetWeights =
        SetWeights { confidence: 0.0, effectiveness: 0.05, consistency: 1.0, collaboration: 1.0 };
    /// Of the released script.
    pub const SCRIPT: SetWeights =
        SetWeights { confidence: 0.0, effectiveness: 1.0, consistency: 1.0, collaboration: 10.0 };
}

/// The set function of one picture and one text.
pub(super) struct SetFunction<'a> {
    pub tower: &'a Clip,
    /// `[3, size, size]`, normalised.
    pub image: &'a Tensor,
    /// Each region's pixels `[regions, 1, size, size]`, 0 and 1.
    pub regions: &'a Tensor,
    /// Unit text features `[texts, dim]`; the first is the text in question, the others are compared with.
    pub texts: &'a Tensor,
    pub weights: SetWeights,
}

impl SetFunction<'_> {
    /// Unit features of the picture with the pixels of each `mask` `[sets, 1, size, size]` alone; the others are black.
    fn features(&self, mask: &Tensor) -> Result<Tensor> {
        let constants =
            |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(self.image.device());
        let black = -constants(&MEAN) / constants(&STD);
        let images = self.image.unsqueeze(0) * mask + black * (1.0 - mask);
        Ok(unit(&self.tower.image_features(&images, false)?))
    }

    /// Probabilities of the texts for features `[sets, dim]`.
    fn probabilities(&self, features: &Tensor) -> Tensor {
        (features.matmul(&self.texts.transpose(0, 1)) * self.tower.scale()).softmax(-1, Kind::Float)
    }

    /// Angles between the regions' own features, in shares of half a turn `[regions, regions]`.
    fn angles(&self) -> Result<Vec<Vec<f64>>> {
        let own = self.features(self.regions)?;
        let angles = own.matmul(&own.transpose(0, 1)).clamp(-1.0, 1.0).acos() / std::f64::consts::PI;
        Vec::try_from(angles.to_kind(Kind::Double)).torch("reading angles between regions")
    }

    /// The value of each of `sets`.
    fn values(&self, sets: &[Vec<usize>], angles: &[Vec<f64>]) -> Result<Vec<f64>> {
        let mask =
            |set: &Vec<usize>| {
                let places: Vec<i64> = set.iter().map(|at| *at as i64).collect();
                self.regions
                    .index_select(0, &Tensor::from_slice(&places).to_device(self.regions.device()))
                    .sum_dim_intlist([0i64].as_slice(), true, Kind::Float)
            };
        let kept = Tensor::cat(&sets.iter().map(mask).collect::<Vec<_>>(), 0);
        let (with, without) =
            (self.probabilities(&self.features(&kept)?), self.probabilities(&self.features(&(1.0 - &kept))?));
        let texts = crate::model::extent(&with, 1).max(2) as f64;
        let entropy = -(&with * with.clamp_min(1e-12).log()).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let read = |tensor: Tensor| -> Result<Vec<f64>> {
            Vec::try_from(tensor.to_kind(Kind::Double)).torch("reading a set function")
        };
        let (consistency, left) = (read(with.select(1, 0))?, read(without.select(1, 0))?);
        let confidence = read(1.0 - entropy / texts.ln())?;
        let spread = |set: &Vec<usize>| -> f64 {
            let nearest = |at: &usize| {
                let others = set.iter().filter(|other| *other != at);
                let angle = |other: &usize| angles.get(*at).and_then(|row| row.get(*other)).copied().unwrap_or(0.0);
                others.map(angle).fold(f64::INFINITY, f64::min)
            };
            if set.len() < 2 { 0.0 } else { set.iter().map(nearest).sum() }
        };
        let SetWeights { confidence: c, effectiveness: e, consistency: s, collaboration: o } = self.weights;
        let terms = sets.iter().zip(confidence).zip(consistency.into_iter().zip(left));
        Ok(terms
            .map(|((set, confident), (with, left))| c * confident + e * spread(set) + s * with + o * (1.0 - left))
            .collect())
    }

    /// Up to `most` regions in the order in which the greedy search adds them, up to where it stops ([`kept_regions`]).
    pub fn greedy(&self, most: usize, tolerance: f64) -> Result<Vec<usize>> {
        tch::no_grad(|| {
            let angles = self.angles()?;
            let count = angles.len();
            let (mut chosen, mut gains, mut value) = (Vec::<usize>::new(), Vec::new(), None::<f64>);
            while chosen.len() < most.min(count) {
                let left: Vec<usize> = (0..count).filter(|at| !chosen.contains(at)).collect();
                let sets: Vec<Vec<usize>> = left.iter().map(|at| [chosen.as_slice(), &[*at]].concat()).collect();
                let values = self.values(&sets, &angles)?;
                let best = left.iter().zip(values).max_by(|a, b| a.1.total_cmp(&b.1));
                let Some((at, found)) = best else { break };
                gains.push(value.map_or(f64::INFINITY, |before| found - before));
                value = Some(found);
                chosen.push(*at);
                if kept_regions(&gains, tolerance) < gains.len() {
                    break;
                }
            }
            chosen.truncate(kept_regions(&gains, tolerance));
            Ok(chosen)
        })
    }
}

/// How many of the regions in greedy order are kept, by their `gains`: up to the first whose gain is at most `tolerance` while the next one's
/// is no larger (the paper's "about 0"); all of them where there is none.
pub fn kept_regions(gains: &[f64], tolerance: f64) -> usize {
    let stops = gains.windows(2).position(|pair| matches!(pair, [gain, next] if *gain <= tolerance && next <= gain));
    stops.map_or(gains.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use tch::Device;

    #[test]
    fn regions_are_kept_up_to_where_nothing_is_gained() {
        let inf = f64::INFINITY;
        assert_eq!(kept_regions(&[inf, 0.3, 0.005, 0.001, 0.2], 0.01), 3);
        assert_eq!(kept_regions(&[inf, 0.3, 0.005, 0.2], 0.01), 4, "the next one gains more");
        assert_eq!(kept_regions(&[inf, -0.1, -0.2], 0.01), 2);
        assert_eq!(kept_regions(&[], 0.01), 0);
    }

    #[test]
    fn the_first_region_is_the_one_whose_text_it_is() {
        let tower = Clip::new(ModelConfig::named("ViT-tiny-32").unwrap(), Device::Cpu, 1).unwrap();
        let image = Tensor::randn([3, 32, 32], (Kind::Float, Device::Cpu));
        let regions = Tensor::zeros([4, 1, 32, 32], (Kind::Float, Device::Cpu));
        for at in 0..4 {
            let _ = regions.get(at).narrow(1, 16 * (at / 2), 16).narrow(2, 16 * (at % 2), 16).fill_(1.0);
        }
        let none = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let consistency = SetWeights { confidence: 0.0, effectiveness: 0.0, consistency: 1.0, collaboration: 0.0 };
        let function = |texts, weights| SetFunction { tower: &tower, image: &image, regions: &regions, texts, weights };
        let own = function(&none, consistency).features(&regions).unwrap();
        // The text in question has one region's own features, the others those of the other regions.
        let order = |at: i64| -> Vec<i64> { [vec![at], (0..4).filter(|other| *other != at).collect()].concat() };
        let texts = [0i64, 1, 2, 3].map(|at| own.index_select(0, &Tensor::from_slice(&order(at))));
        for (at, texts) in texts.iter().enumerate() {
            assert_eq!(function(texts, consistency).greedy(1, 0.01).unwrap(), [at]);
            assert_eq!(function(texts, SetWeights::SCRIPT).greedy(3, -1e9).unwrap().len(), 3);
        }
    }
}
