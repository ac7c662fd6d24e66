//! Looking at pairs with the towers as they stand: without augmentation for diagnostics, and for objectives that score pairs.

use crate::embed::{AT_A_TIME, AllEmbedded, Embedded, Embedder, nothing_readable};
use crate::error::{Result, TorchContext};
use crate::objective::{AllFeatures, Encode};
use crate::train::diagnostics::SimilarityHistogram;
use crate::train::engine::Trainer;
use crate::world::World;
use rand::seq::SliceRandom;
use roclip_data::pairs::Pairs;
use roclip_data::progress::Task;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Pairs of each attack, and clean ones, whose similarity is watched: there may be any number of them, and a histogram needs no more.
const WATCHED_PAIRS: usize = 512;
/// Augmentation draw that scores use: none that training does.
const SCORE_DRAW: u64 = 1 << 48;
/// Pairs scored at a time.
const SCORED_AT_A_TIME: usize = 128;

/// The towers of a run as they stand, for its objective. Several processes share what is encoded, and all get all of it.
pub(super) struct Standing<'a> {
    pub embedder: Embedder<'a>,
    pub pairs: usize,
    pub epoch: u64,
    pub world: &'a World,
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

    /// The features of no pair, `[0, dim]`.
    fn nothing(&self) -> Tensor {
        Tensor::zeros([0, self.embedder.model.config().embed_dim], (Kind::Float, self.embedder.device))
    }
}

impl Encode for Standing<'_> {
    fn captions(&mut self, pairs: &[usize]) -> Result<Tensor> {
        let part = pairs.get(self.world.part(pairs.len(), AT_A_TIME)).unwrap_or_default();
        let own = match part.is_empty() {
            true => self.nothing(),
            false => self.embedder.captions(part)?,
        };
        self.world.gather_rows(&own)
    }

    fn similarities(&mut self, augmented: bool) -> Result<Vec<f64>> {
        let own: Vec<usize> = self.world.part(self.pairs, SCORED_AT_A_TIME).collect();
        let mut scores = vec![f64::NAN; self.pairs];
        for (pair, similarity) in self.scored(&own, augmented.then_some(SCORE_DRAW | self.epoch))? {
            if let Some(score) = scores.get_mut(pair) {
                *score = f64::from(similarity);
            }
        }
        let own = scores.get(self.world.part(self.pairs, SCORED_AT_A_TIME)).unwrap_or_default();
        Vec::try_from(self.world.gather_rows(&Tensor::from_slice(own))?).torch("reading similarities")
    }

    fn features(&mut self) -> Result<AllFeatures> {
        // Of a part that nothing can be read of, the others' is left.
        let own = match self.embedder.readable(self.world.part(self.pairs, AT_A_TIME))? {
            Some(AllEmbedded { pairs, pictures, image, text, .. }) => (pairs, pictures, image, text),
            None => (Vec::new(), Vec::new(), self.nothing(), self.nothing()),
        };
        let (pairs, pictures, image, text) = own;
        let pairs: Vec<i64> = pairs.into_iter().map(|pair| pair as i64).collect();
        let pairs: Vec<usize> = self.world.gather_list(&pairs)?.into_iter().map(|pair| pair as usize).collect();
        if pairs.is_empty() {
            return Err(nothing_readable());
        }
        let (image, text) = (self.world.gather_rows(&image)?, self.world.gather_rows(&text)?);
        Ok(AllFeatures { pairs, pictures: self.world.gather_list(&pictures)?, image, text })
    }
}

impl Trainer {
    /// Similarities of `pairs` as the model stands. All processes are asked for the same ones.
    fn scored(&self, pairs: &[usize]) -> Result<Vec<(usize, f32)>> {
        let embedder = Embedder { model: &self.model, loader: &self.loader, device: self.device };
        let standing = Standing { embedder, pairs: self.pairs.len(), epoch: self.position.epoch, world: &self.world };
        let own =
            standing.scored(pairs.get(self.world.part(pairs.len(), SCORED_AT_A_TIME)).unwrap_or_default(), None)?;
        let (places, values): (Vec<i64>, Vec<f32>) = own.into_iter().map(|(pair, value)| (pair as i64, value)).unzip();
        let places = self.world.gather_list(&places)?;
        let values: Vec<f32> =
            Vec::try_from(self.world.gather_rows(&Tensor::from_slice(&values))?).torch("reading similarities")?;
        Ok(places.into_iter().map(|pair| pair as usize).zip(values).collect())
    }

    /// Similarity of watched pairs without augmentation: 512 of each attack and 512 clean ones, which the seed draws, or all that there are.
    pub fn similarities(&self) -> Result<SimilarityHistogram> {
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (at, value) in self.scored(&watched(&self.pairs, self.seed))? {
            let pair = self.pairs.get(at);
            let mark = pair.as_ref().and_then(|pair| pair.poison.as_ref());
            values.entry(mark.map_or("clean".to_owned(), |m| m.attack.clone())).or_default().push(value);
        }
        Ok(SimilarityHistogram::new(&values))
    }
}

/// The pairs that are watched: poison in its order, and clean ones as they were drawn.
fn watched(pairs: &Pairs, seed: u64) -> Vec<usize> {
    let mut attacks: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, pair) in pairs.poisoned() {
        let attack = pair.poison.as_ref().map(|mark| mark.attack.clone()).unwrap_or_default();
        attacks.entry(attack).or_default().push(at);
    }
    let mut poison: Vec<usize> = attacks.values().flatten().copied().collect();
    poison.sort_unstable();
    let mut clean: Vec<usize> = (0..pairs.len()).filter(|at| poison.binary_search(at).is_err()).collect();
    clean.shuffle(&mut random::stream(seed, "watched-pairs", 0, ""));
    for (attack, own) in attacks.iter_mut().filter(|(_, own)| own.len() > WATCHED_PAIRS) {
        own.shuffle(&mut random::stream(seed, "watched-poison", 0, attack));
        own.truncate(WATCHED_PAIRS);
    }
    let mut watched: Vec<usize> = attacks.into_values().flatten().collect();
    watched.sort_unstable();
    watched.extend(clean.into_iter().take(WATCHED_PAIRS));
    watched
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::pairs::{Pair, PoisonMark};

    #[test]
    fn of_each_attack_and_of_clean_pairs_so_many_are_watched_as_the_seed_draws() {
        let pair = |at: usize| {
            let attack = match at % 10 {
                0..6 => None,
                6 if at < 70 => Some("rare"),
                _ => Some("often"),
            };
            let poison = attack.map(|attack| PoisonMark { attack: attack.into(), target: "cat".into() });
            Pair { id: at.to_string(), sample: at, captions: vec![String::new()], trigger: None, poison }
        };
        let of = |count: usize| Pairs::of(Vec::new(), (0..count).map(pair).collect());
        let few = watched(&of(50), 1);
        let mut all = few.clone();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>(), "all that there are");
        assert!(few[..20].is_sorted() && few[..20].iter().all(|at| at % 10 > 5), "poison comes first");
        let many = of(4000);
        let (one, same, other) = (watched(&many, 1), watched(&many, 1), watched(&many, 2));
        let count = |name: Option<&str>| {
            let of = |at: &&usize| pair(**at).poison.map(|mark| mark.attack).as_deref() == name;
            one.iter().filter(of).count()
        };
        assert_eq!((count(Some("rare")), count(Some("often")), count(None)), (7, WATCHED_PAIRS, WATCHED_PAIRS));
        assert!(one == same && one != other);
    }
}
