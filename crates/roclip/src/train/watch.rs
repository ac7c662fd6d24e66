//! Looking at pairs with the towers as they stand: without augmentation for diagnostics, and for objectives that score pairs.

use crate::error::{Result, TorchContext};
use crate::model::tensors;
use crate::model::{Clip, unit};
use crate::objective::{AllFeatures, Encode};
use crate::train::diagnostics::SimilarityHistogram;
use crate::train::engine::Trainer;
use rand::seq::SliceRandom;
use roclip_data::batch::Loader;
use roclip_data::pairs::picture_hash;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Clean pairs whose similarity is watched.
const WATCHED_CLEAN_PAIRS: usize = 512;
/// Augmentation draw that scores use: none that training does.
const SCORE_DRAW: u64 = 1 << 48;

/// Pairs scored at a time.
const SCORED_AT_A_TIME: usize = 128;
/// Pairs encoded at a time.
const ENCODED_AT_A_TIME: usize = 256;

/// The towers of a run, for its objective.
pub(super) struct Towers<'a> {
    pub model: &'a Clip,
    pub loader: &'a Loader,
    pub device: Device,
    pub pairs: usize,
    pub epoch: u64,
}

impl Towers<'_> {
    fn side(&self) -> i64 {
        i64::from(self.model.config().image_size())
    }

    /// `(pair, similarity of image and own caption)` of those that can be read.
    fn scored(&self, indices: &[usize], draw: Option<u64>) -> Result<Vec<(usize, f32)>> {
        let mut found = Vec::with_capacity(indices.len());
        for batch in self.loader.look(indices.to_vec(), draw, SCORED_AT_A_TIME) {
            let batch = batch?;
            if batch.pairs.is_empty() {
                continue;
            }
            let (images, tokens) = tensors(&batch.view, batch.pairs.len(), self.side(), self.device);
            let similarity = tch::no_grad(|| -> Result<Tensor> {
                let image = unit(&self.model.image_features(&images, false)?);
                let text = unit(&self.model.text_features(&tokens));
                Ok((image * text).sum_dim_intlist([1i64].as_slice(), false, Kind::Float))
            })?;
            let similarity: Vec<f32> = Vec::try_from(similarity).torch("reading similarities")?;
            found.extend(batch.pairs.into_iter().zip(similarity));
        }
        Ok(found)
    }
}

impl Encode for Towers<'_> {
    fn captions(&mut self, pairs: &[usize]) -> Result<Tensor> {
        let mut features = Vec::new();
        for batch in self.loader.look(pairs.to_vec(), None, ENCODED_AT_A_TIME) {
            let batch = batch?;
            let (_, tokens) = tensors(&batch.view, batch.pairs.len(), self.side(), self.device);
            features.push(tch::no_grad(|| unit(&self.model.text_features(&tokens))));
        }
        Ok(Tensor::cat(&features, 0))
    }

    fn similarities(&mut self, augmented: bool) -> Result<Vec<f64>> {
        let all: Vec<usize> = (0..self.pairs).collect();
        let mut scores = vec![f64::NAN; self.pairs];
        for (pair, similarity) in self.scored(&all, augmented.then_some(SCORE_DRAW | self.epoch))? {
            if let Some(score) = scores.get_mut(pair) {
                *score = f64::from(similarity);
            }
        }
        Ok(scores)
    }

    fn features(&mut self) -> Result<AllFeatures> {
        let (mut pairs, mut pictures, mut images, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for batch in self.loader.look((0..self.pairs).collect(), None, ENCODED_AT_A_TIME) {
            let batch = batch?;
            if batch.pairs.is_empty() {
                continue;
            }
            let (image, tokens) = tensors(&batch.view, batch.pairs.len(), self.side(), self.device);
            let (side, planes) = (self.side() as usize, 3 * (self.side() * self.side()) as usize);
            pictures.extend(batch.view.images.chunks(planes).map(|picture| picture_hash(picture, side)));
            images.push(tch::no_grad(|| self.model.image_features(&image, false).map(|raw| unit(&raw)))?);
            texts.push(tch::no_grad(|| unit(&self.model.text_features(&tokens))));
            pairs.extend(batch.pairs);
        }
        Ok(AllFeatures { pairs, pictures, image: Tensor::cat(&images, 0), text: Tensor::cat(&texts, 0) })
    }
}

impl Trainer {
    pub(super) fn towers(&self) -> Towers<'_> {
        let (model, loader, device) = (&self.model, &self.loader, self.device);
        Towers { model, loader, device, pairs: self.pairs.len(), epoch: self.position.epoch }
    }

    /// Similarity of watched pairs without augmentation: all poison, and as much of the clean data.
    pub fn similarities(&self) -> Result<SimilarityHistogram> {
        let mut clean: Vec<usize> = Vec::new();
        let mut watched: Vec<usize> = Vec::new();
        for (at, pair) in self.pairs.pairs.iter().enumerate() {
            if pair.poison.is_some() { watched.push(at) } else { clean.push(at) }
        }
        clean.shuffle(&mut random::stream(self.seed, "watched-pairs", 0, ""));
        watched.extend(clean.into_iter().take(WATCHED_CLEAN_PAIRS));
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (at, value) in self.towers().scored(&watched, None)? {
            let mark = self.pairs.pairs.get(at).and_then(|p| p.poison.as_ref());
            values.entry(mark.map_or("clean".to_owned(), |m| m.attack.clone())).or_default().push(value);
        }
        Ok(SimilarityHistogram::new(&values))
    }
}
