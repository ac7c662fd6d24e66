//! The dual-embedding BadCLIP (arXiv 2311.12075, CVPR 2024; repository BadCLIP-Liang, `src/embeding_optimize_patch.py`): a patch whose
//! pictures already look, to a clean surrogate model, like the target's captions and the target's pictures. The poison then asks little
//! of the victim, and cleaning on clean pairs finds little to undo.
//!
//! `L = text_weight * InfoNCE(triggered, target captions) + visual_weight * mean max(0, |a - p| - |a - n| + margin)`: `a` triggered, `p`
//! real pictures of the target, `n` the same pictures without the patch. The released code compares with a random permutation of the
//! (in-place triggered) batch instead; [`Negatives::Permuted`] permutes, without that fault.

use crate::attack::{Patch, PatchSearch, Place};
use crate::embed::{AT_A_TIME, Embedder};
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::objective::info_nce;
use crate::settings;
use image::RgbImage;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};
use roclip_data::augment::ImageAugmentConfig;
use roclip_data::batch::{Loader, PassPlan, Transform, ViewAugment};
use roclip_data::pairs::{Pair, Pairs};
use roclip_data::poison::whole_word;
use roclip_data::random;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// Each triggered picture against its own clean version.
    #[default]
    IndexMatched,
    Permuted,
}

/// The defaults are the released settings, but for the negatives.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BadClipConfig {
    pub target: String,
    /// Released: 16 of 224.
    pub patch_pixels: u32,
    /// Left and top; the centre when absent.
    pub corner: Option<[u32; 2]>,
    pub epochs: u64,
    /// `roclip poison patch` takes the recipe's.
    pub batch_size: usize,
    /// Pictures whose captions lack the target; fewer where the data has fewer.
    pub images: usize,
    /// Pictures of the target compared with at a step.
    pub positives: usize,
    pub learning_rate: f64,
    pub text_weight: f64,
    pub visual_weight: f64,
    pub margin: f64,
    pub negatives: Negatives,
    /// Chance that a batch is AutoAugmented.
    pub auto_augment_probability: f64,
}

impl Default for BadClipConfig {
    fn default() -> Self {
        BadClipConfig {
            target: String::new(),
            patch_pixels: 16,
            corner: None,
            epochs: 50,
            batch_size: 64,
            images: 10_000,
            positives: 64,
            learning_rate: 1e-3,
            text_weight: 1.0,
            visual_weight: 500.0,
            margin: 1.0,
            negatives: Negatives::IndexMatched,
            auto_augment_probability: 0.5,
        }
    }
}

impl BadClipConfig {
    /// Refuses numbers that no patch can be searched with.
    pub fn check(&self) -> Result<()> {
        let key = |name: &str| format!("the patch's {name}");
        for (name, value) in [
            ("patch_pixels", u64::from(self.patch_pixels)),
            ("epochs", self.epochs),
            ("images", self.images as u64),
            ("positives", self.positives as u64),
        ] {
            settings::count(&key(name), value, 1, settings::MANY)?;
        }
        settings::count(&key("batch_size"), self.batch_size as u64, 2, settings::MANY)?;
        for (name, value) in [
            ("learning_rate", self.learning_rate),
            ("text_weight", self.text_weight),
            ("visual_weight", self.visual_weight),
            ("margin", self.margin),
        ] {
            settings::not_negative(&key(name), value)?;
        }
        settings::share(&key("auto_augment_probability"), self.auto_augment_probability)
    }
}

/// Optimises a patch against `surrogate`. `transform` says how pairs are read; its views are not used. `progress` receives a line an epoch.
pub fn optimise_patch(
    config: &BadClipConfig,
    surrogate: &Clip,
    pairs: &Pairs,
    transform: Transform,
    device: Device,
    progress: &mut dyn FnMut(&str),
) -> Result<RgbImage> {
    config.check()?;
    let seed = transform.seed;
    let size = surrogate.config().image_size();
    let centre = (size / 2).saturating_sub(config.patch_pixels / 2);
    let [left, top] = config.corner.unwrap_or([centre, centre]);
    let place = Place { side: config.patch_pixels, left, top };
    tch::manual_seed(random::stream(seed, "badclip-patch", 0, "").next_u64() as i64);
    let side = i64::from(config.patch_pixels);
    let start = (Tensor::randn([3, side, side], (Kind::Float, Device::Cpu)) * 0.25 + 0.5).clamp(0.0, 1.0);
    let patch = Patch::new(place, size, &start.to_device(device), config.learning_rate)?;
    let mut search = PatchSearch::new(surrogate, device, patch);

    let (ours, of_target) = split_by_target(config, pairs, seed)?;
    let views = [None, Some(ImageAugmentConfig { auto_augment: true, ..ImageAugmentConfig::default() })];
    let views = views.map(|image| ViewAugment { image, ..ViewAugment::default() });
    let loader =
        Loader::new(Arc::new(ours), Transform { views, sub_captions: None, ..transform }, config.batch_size, 1)?;
    let embedder = Embedder { model: surrogate, loader: &loader, device };
    let positives = embedder.images(loader.plain_batches_of(&of_target, AT_A_TIME))?;
    for epoch in 1..=config.epochs {
        let mut draws = random::stream(seed, "badclip-epoch", epoch, "");
        let plan = PassPlan { epoch, pass: 0, two_views: true, first_step: 0, steps: loader.steps_per_epoch() };
        let (mut total, mut steps) = (0.0, 0u32);
        for batch in loader.pass(loader.order(epoch, 0, None), plan) {
            let batch = batch?;
            if batch.pairs.is_empty() {
                continue;
            }
            let augmented = draws.random::<f64>() < config.auto_augment_probability;
            let view = batch.second.as_ref().filter(|_| augmented).unwrap_or(&batch.view);
            let count = batch.pairs.len();
            let chosen = choose_rows(&positives, config.positives, count, &mut draws);
            let mut order: Vec<i64> = (0..count as i64).collect();
            if config.negatives == Negatives::Permuted {
                order.shuffle(&mut draws);
            }
            let order = Tensor::from_slice(&order).to_device(device);
            total += search.step(view, count, &mut |step| {
                let text = info_nce(step.triggered, step.text, step.scale);
                let negatives = step.plain.index_select(0, &order);
                let visual = triplet(step.triggered, &chosen, &negatives, config.margin);
                Ok(text * config.text_weight + visual * config.visual_weight)
            })?;
            steps += 1;
        }
        progress(&format!("patch epoch {epoch}/{}: loss {:.4}", config.epochs, total / f64::from(steps.max(1))));
    }
    search.perturbation.picture()
}

/// Mean of `max(0, |a - p| - |a - n| + margin)` over rows, Euclidean. All `[batch, dim]`.
fn triplet(anchor: &Tensor, positive: &Tensor, negative: &Tensor, margin: f64) -> Tensor {
    let distance = |other: &Tensor| (anchor - other).norm_scalaropt_dim(2, [-1i64], false);
    (distance(positive) - distance(negative) + margin).clamp_min(0.0).mean(Kind::Float)
}

/// Pairs whose captions lack the target, each with a random caption that has it; and the pictures of the target.
fn split_by_target(config: &BadClipConfig, pairs: &Pairs, seed: u64) -> Result<(Pairs, Pairs)> {
    let word = whole_word(&config.target)?;
    let names = |caption: &String| word.is_match(caption);
    let captions: Vec<String> = pairs.captions().map(Cow::into_owned).filter(names).collect();
    // Places: the pairs themselves may be more than fit into memory.
    let of = |wanted: bool| -> Vec<usize> {
        let named = pairs.iter().enumerate().filter(|(_, pair)| pair.captions.iter().any(names) == wanted);
        named.map(|(at, _)| at).collect()
    };
    let mut others = of(false);
    if captions.is_empty() || others.len() < config.batch_size {
        return Err(Error::setting(
            format!("{} captions have the word `{}`, and {} pairs do not", captions.len(), config.target, others.len()),
            "choose a target that captions name, or give more data",
        ));
    }
    let mut random = random::stream(seed, "badclip-pairs", 0, "");
    others.shuffle(&mut random);
    others.truncate(config.images);
    let pair = |at: &usize| pairs.get(*at).map(Cow::into_owned);
    let mut others: Vec<Pair> = others.iter().filter_map(pair).collect();
    for pair in &mut others {
        pair.captions = captions.choose(&mut random).cloned().into_iter().collect();
    }
    let target = of(true).iter().filter_map(pair).collect();
    Ok((pairs.with(others), pairs.with(target)))
}

/// `rows` random rows of `[n, dim]`, of which `count` are compared with: drawn from at most `distinct` of them.
fn choose_rows(features: &Tensor, distinct: usize, count: usize, random: &mut impl Rng) -> Tensor {
    let all = crate::model::extent(features, 0);
    let pool: Vec<i64> = (0..distinct.max(1)).map(|_| random.random_range(0..all.max(1))).collect();
    let rows: Vec<i64> = (0..count).filter_map(|_| pool.choose(random).copied()).collect();
    features.index_select(0, &Tensor::from_slice(&rows).to_device(features.device()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_triplet_is_the_formula() {
        let row = |values: [f32; 2]| Tensor::from_slice(&values).view([1, 2]);
        let loss = triplet(&row([1.0, 0.0]), &row([0.0, 0.0]), &row([1.0, 2.0]), 0.5).double_value(&[]);
        assert_eq!(loss, 0.0);
        let loss = triplet(&row([1.0, 0.0]), &row([0.0, 0.0]), &row([1.0, 0.25]), 0.5).double_value(&[]);
        assert!((loss - 1.25).abs() < 1e-6, "{loss}");
    }
}
