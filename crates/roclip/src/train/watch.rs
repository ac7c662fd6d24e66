//! Looking at pairs with the towers as they stand: without augmentation for diagnostics, and for objectives that score pairs.

use crate::embed::{AllEmbedded, Embedded, Embedder};
use crate::error::{Result, TorchContext};
use crate::objective::{AllFeatures, Encode};
use crate::train::diagnostics::SimilarityHistogram;
use crate::train::engine::Trainer;
use rand::seq::SliceRandom;
use roclip_data::progress::Task;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Clean pairs whose similarity is watched.
const WATCHED_CLEAN_PAIRS: usize = 512;
/// Augmentation draw that scores use: none that training does.
const SCORE_DRAW: u64 = 1 << 48;
/// Pairs scored at a time.
const SCORED_AT_A_TIME: usize = 128;

/// The towers of a run as they stand, for its objective.
pub(super) struct Standing<'a> {
    pub embedder: Embedder<'a>,
    pub pairs: usize,
    pub epoch: u64,
}

impl Standing<'_> {
    /// `(pair, similarity of image and own caption)` of those that can be read.
    fn scored(&self, indices: &[usize], draw: Option<u64>) -> Result<Vec<(usize, f32)>> {
        let mut found = Vec::with_capacity(indices.len());
        let batches = self.embedder.loader.look(indices.to_vec(), draw, SCORED_AT_A_TIME);
        let task = Task::begin("scoring pairs", indices.len(), "pairs");
        for embedded in self.embedder.pairs(batches) {
            let Embedded { pairs, image, text, .. } = embedded?;
            let similarity = (image * text).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            let similarity: Vec<f32> = Vec::try_from(similarity).torch("reading similarities")?;
            task.advance(pairs.len());
            found.extend(pairs.into_iter().zip(similarity));
        }
        Ok(found)
    }
}

impl Encode for Standing<'_> {
    fn captions(&mut self, pairs: &[usize]) -> Result<Tensor> {
        self.embedder.captions(pairs)
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
        let AllEmbedded { pairs, pictures, image, text, .. } = self.embedder.all(self.pairs)?;
        Ok(AllFeatures { pairs, pictures, image, text })
    }
}

impl Trainer {
    /// Similarities of `pairs` as the model stands.
    fn scored(&self, pairs: &[usize]) -> Result<Vec<(usize, f32)>> {
        let embedder = Embedder { model: &self.model, loader: &self.loader, device: self.device };
        Standing { embedder, pairs: self.pairs.len(), epoch: self.position.epoch }.scored(pairs, None)
    }

    /// Similarity of watched pairs without augmentation: all poison, and as much of the clean data.
    pub fn similarities(&self) -> Result<SimilarityHistogram> {
        let mut watched: Vec<usize> = self.pairs.poisoned().map(|(at, _)| at).collect();
        watched.sort_unstable();
        let mut clean: Vec<usize> = (0..self.pairs.len()).filter(|at| watched.binary_search(at).is_err()).collect();
        clean.shuffle(&mut random::stream(self.seed, "watched-pairs", 0, ""));
        watched.extend(clean.into_iter().take(WATCHED_CLEAN_PAIRS));
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (at, value) in self.scored(&watched)? {
            let pair = self.pairs.get(at);
            let mark = pair.as_ref().and_then(|pair| pair.poison.as_ref());
            values.entry(mark.map_or("clean".to_owned(), |m| m.attack.clone())).or_default().push(value);
        }
        Ok(SimilarityHistogram::new(&values))
    }
}
