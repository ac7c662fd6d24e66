//! Towers whose answers are given, for tests of objectives.

use crate::error::Result;
use crate::objective::{AllFeatures, Encode};
use tch::{Device, Kind, Tensor};

pub(super) struct KnownTowers {
    pub pairs: Vec<usize>,
    pub pictures: Vec<i64>,
    /// Unit features `[pairs, dim]`.
    pub image: Tensor,
    pub text: Tensor,
    pub similarities: Vec<f64>,
}

impl KnownTowers {
    /// Pairs of different pictures, with these concepts for features.
    pub fn new(images: &[i64], captions: &[i64]) -> Self {
        KnownTowers {
            pairs: (0..images.len()).collect(),
            pictures: (0..images.len() as i64).collect(),
            image: concepts(images),
            text: concepts(captions),
            similarities: Vec::new(),
        }
    }

    /// For objectives that ask for nothing else.
    pub fn with_similarities(similarities: Vec<f64>) -> Self {
        KnownTowers { similarities, ..KnownTowers::new(&[], &[]) }
    }
}

/// Unit features `[n, 4]` of four concepts at right angles.
pub(super) fn concepts(of: &[i64]) -> Tensor {
    Tensor::eye(4, (Kind::Float, Device::Cpu)).index_select(0, &Tensor::from_slice(of))
}

impl Encode for KnownTowers {
    fn captions(&mut self, pairs: &[usize]) -> Result<Tensor> {
        let pairs: Vec<i64> = pairs.iter().map(|at| *at as i64).collect();
        Ok(self.text.index_select(0, &Tensor::from_slice(&pairs)))
    }

    fn similarities(&mut self, _augmented: bool) -> Result<Vec<f64>> {
        Ok(self.similarities.clone())
    }

    fn features(&mut self) -> Result<AllFeatures> {
        Ok(AllFeatures {
            pairs: self.pairs.clone(),
            pictures: self.pictures.clone(),
            image: self.image.shallow_clone(),
            text: self.text.shallow_clone(),
        })
    }
}
