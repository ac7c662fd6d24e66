//! From pairs to the numbers of a batch: decode, lay on the trigger, augment, tokenise. What a pair becomes depends on the seed, the draw and
//! its id only.

use crate::augment::{ImageAugment, ImageAugmentConfig, PerturbConfig, SubCaptions, TextAugment, perturb};
use crate::batch::places::PassPlan;
use crate::guard::contained;
use crate::pairs::{Pair, Pairs};
use crate::picture::ImageLimits;
use crate::picture::preprocess::Resizing;
use crate::random;
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::tokenizer::Tokenizer;
use image::RgbImage;
use rand::RngExt;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How a pair becomes numbers.
pub struct Transform {
    pub seed: u64,
    pub image_size: u32,
    /// How a picture that is not augmented gets that size.
    pub resizing: Resizing,
    pub limits: ImageLimits,
    /// Augmentation of the first view and of the second.
    pub views: [ViewAugment; 2],
    /// Sub-captions of so many pairs of each batch, for objectives that learn from them.
    pub sub_captions: Option<(Arc<SubCaptions>, usize)>,
    pub tokenizer: Arc<Tokenizer>,
    /// Decoded images are kept in memory up to this many bytes.
    pub cache_bytes: u64,
}

/// Augmentation of one view; none of a kind leaves it plain.
#[derive(Clone, Default)]
pub struct ViewAugment {
    pub image: Option<ImageAugmentConfig>,
    /// After `image`, at the model's input size.
    pub overlay: Option<Overlay>,
    pub text: Option<TextAugment>,
}

/// What is laid on a picture that has the model's input size.
#[derive(Clone)]
pub enum Overlay {
    Perturb(PerturbConfig),
    /// At `corner` (left, top), or somewhere else on each picture and draw.
    Patch {
        patch: Arc<RgbImage>,
        corner: Option<[u32; 2]>,
    },
}

/// One batch on the host.
#[derive(Debug)]
pub struct HostBatch {
    pub step: u64,
    /// Indices into [`Pairs::pairs`], by row. They are fewer than the batch has rows where a pair could not be used and none was found that
    /// takes its place.
    pub pairs: Vec<usize>,
    pub view: View,
    /// Another draw of both augmentations, where it was asked for.
    pub second: Option<View>,
    pub sub_captions: Option<SubCaptionBatch>,
    /// The pairs of this batch's places in the order that could not be used, replaced or not.
    pub skips: SkipReport,
}

impl HostBatch {
    /// Whether a contrastive loss can be taken: a pair needs another one to be told from.
    pub fn can_train(&self) -> bool {
        self.pairs.len() >= 2
    }
}

/// Token ids `[rows, length]` of the sub-captions of some rows of a batch.
#[derive(Debug, Default)]
pub struct SubCaptionBatch {
    /// Places in [`HostBatch::pairs`].
    pub rows: Vec<i64>,
    pub positive: (Vec<i64>, usize),
    pub counterfactual: (Vec<i64>, usize),
}

/// One augmented view of a batch.
#[derive(Debug, Default)]
pub struct View {
    /// `[batch, size, size, 3]`, as bytes: as normalised numbers, which they become where they are encoded, they are four times as many.
    pub images: Vec<u8>,
    /// `[batch, length]`, cut to the longest caption of the batch.
    pub tokens: Vec<i64>,
    pub length: usize,
}

/// One pair as numbers.
pub(super) struct Row {
    /// Index into [`Pairs::pairs`].
    pair: usize,
    /// Picture and token ids of each view.
    views: Vec<(RgbImage, Vec<i64>)>,
}

/// Makes rows and batches; what workers share, all of it read-only but the cache.
pub(super) struct BatchMaker {
    pub pairs: Arc<Pairs>,
    pub transform: Transform,
    cache: Arc<Cache>,
}

/// Decoded images by sample, up to a number of bytes, and which cannot be decoded; filled by whoever comes first.
#[derive(Default)]
struct Cache {
    pictures: RwLock<FxHashMap<usize, Arc<RgbImage>>>,
    bytes: AtomicU64,
    broken: RwLock<FxHashMap<usize, Skip>>,
}

impl Cache {
    fn skip(&self, sample: usize) -> Option<Skip> {
        self.broken.read().unwrap_or_else(PoisonError::into_inner).get(&sample).cloned()
    }

    /// Remembers what lies in the bytes of a picture, and will be there whenever it is read. A disk that fails may not fail again.
    fn put_skip(&self, sample: usize, skip: &Skip) {
        if skip.reason.is_of_bytes() {
            self.broken.write().unwrap_or_else(PoisonError::into_inner).insert(sample, skip.clone());
        }
    }

    fn get(&self, sample: usize) -> Option<Arc<RgbImage>> {
        self.pictures.read().unwrap_or_else(PoisonError::into_inner).get(&sample).cloned()
    }

    fn put(&self, sample: usize, picture: &Arc<RgbImage>, limit_bytes: u64) {
        let size = picture.as_raw().len() as u64;
        if self.bytes.load(Ordering::Relaxed) + size > limit_bytes {
            return;
        }
        let mut pictures = self.pictures.write().unwrap_or_else(PoisonError::into_inner);
        if pictures.insert(sample, Arc::clone(picture)).is_none() {
            self.bytes.fetch_add(size, Ordering::Relaxed);
        }
    }
}

/// Names of the random streams of a view's augmentation.
const IMAGE_STREAMS: [&str; 2] = ["image-augment", "image-augment-2"];
/// Appended to a pair's id for a view's text augmentation.
const TEXT_MARKS: [&str; 2] = ["", "/2"];

impl BatchMaker {
    pub fn new(pairs: Arc<Pairs>, transform: Transform) -> Self {
        BatchMaker { pairs, transform, cache: Arc::default() }
    }

    /// One of `pairs`, which must be of the same samples, without augmentation.
    pub fn plain(&self, pairs: Arc<Pairs>) -> Self {
        let transform = Transform {
            views: [ViewAugment::default(), ViewAugment::default()],
            sub_captions: None,
            tokenizer: Arc::clone(&self.transform.tokenizer),
            ..self.transform
        };
        BatchMaker { pairs, transform, cache: Arc::clone(&self.cache) }
    }

    /// The pair `index` in augmentation draw `draw`; none where there is no such pair.
    pub fn row(&self, draw: u64, two_views: bool, index: usize) -> Option<std::result::Result<Row, (String, Skip)>> {
        let pair = self.pairs.get(index)?;
        let pair = &*pair;
        let views = self.transform.views.iter().zip(IMAGE_STREAMS).zip(TEXT_MARKS).take(if two_views { 2 } else { 1 });
        let made = contained(|| {
            views.map(|((augment, stream), mark)| self.sample(pair, draw, augment, (stream, mark))).collect()
        });
        Some(made.map(|views| Row { pair: index, views }).map_err(|skip| (pair.id.clone(), skip)))
    }

    /// The batch of `rows`, in their order, with what is known of the pairs that could not be used.
    pub fn batch(&self, step: u64, plan: &PassPlan, rows: Vec<Row>, mut skips: SkipReport) -> HostBatch {
        let pairs: Vec<usize> = rows.iter().map(|row| row.pair).collect();
        let views = if plan.two_views { 2 } else { 1 };
        let side = self.transform.image_size as usize;
        let mut made: Vec<(View, Vec<Vec<i64>>)> = (0..views).map(|_| (View::default(), Vec::new())).collect();
        for (view, captions) in &mut made {
            view.images.reserve_exact(rows.len() * 3 * side * side);
            captions.reserve_exact(rows.len());
        }
        // Row by row, so that each picture is free once it is in the batch.
        for row in rows {
            for ((view, captions), (picture, caption)) in made.iter_mut().zip(row.views) {
                view.images.extend_from_slice(&picture);
                captions.push(caption);
            }
        }
        let mut finished = made.into_iter().map(|(mut view, captions)| {
            (view.tokens, view.length) = self.transform.tokenizer.pad(&captions);
            view
        });
        let (view, second) = (finished.next().unwrap_or_default(), finished.next());
        let sub_captions = self.sub_captions(plan.draw(), &pairs, &mut skips);
        HostBatch { step, pairs, view, second, sub_captions, skips }
    }

    /// The captions of `indices` as [`BatchMaker::plain`] has them in draw 0: token ids `[indices, length]`, and the length.
    pub fn captions(&self, indices: &[usize]) -> (Vec<i64>, usize) {
        let pairs = indices.iter().filter_map(|index| self.pairs.get(*index));
        let tokenizer = &self.transform.tokenizer;
        let captions: Vec<Vec<i64>> =
            pairs.map(|pair| tokenizer.encode(pair.caption(self.transform.seed, 0))).collect();
        tokenizer.pad(&captions)
    }

    /// Picture and token ids of a pair in one view; `marks` tell its random streams from the other view's.
    fn sample(
        &self,
        pair: &Pair,
        draw: u64,
        augment: &ViewAugment,
        (stream, mark): (&str, &str),
    ) -> std::result::Result<(RgbImage, Vec<i64>), Skip> {
        let picture = self.image(pair, draw, augment, stream)?;
        Ok((picture, self.transform.tokenizer.encode(&self.caption(pair, draw, augment, mark))))
    }

    /// Sub-captions of the first pairs that have any; the order of a batch is random already.
    fn sub_captions(&self, draw: u64, pairs: &[usize], skips: &mut SkipReport) -> Option<SubCaptionBatch> {
        let (sub_captions, count) = self.transform.sub_captions.as_ref()?;
        let made = pairs.iter().enumerate().filter_map(|(row, index)| {
            let pair = self.pairs.get(*index)?;
            let mut random = random::stream(self.transform.seed, "sub-caption", draw, &pair.id);
            let made = contained(|| Ok(sub_captions.of(pair.caption(self.transform.seed, draw), &mut random)));
            let made = made.unwrap_or_else(|skip| {
                skips.add(&pair.id, skip);
                None
            });
            Some((row as i64, made?))
        });
        let mut rows = Vec::new();
        let (mut positive, mut counterfactual) = (Vec::new(), Vec::new());
        for (row, made) in made.take(*count) {
            rows.push(row);
            positive.push(self.transform.tokenizer.encode(&made.positive));
            counterfactual.push(self.transform.tokenizer.encode(&made.counterfactual));
        }
        let pad = |captions| self.transform.tokenizer.pad(captions);
        Some(SubCaptionBatch { rows, positive: pad(&positive), counterfactual: pad(&counterfactual) })
    }

    fn image(
        &self,
        pair: &Pair,
        draw: u64,
        augment: &ViewAugment,
        stream: &str,
    ) -> std::result::Result<RgbImage, Skip> {
        let decoded = self.decoded(pair)?;
        let triggered = match &pair.trigger {
            Some(trigger) => Arc::new(trigger.apply(&decoded)?),
            None => decoded,
        };
        let size = self.transform.image_size;
        if augment.image.is_none() && augment.overlay.is_none() {
            return self.transform.resizing.apply(&triggered, size);
        }
        let mut random = random::stream(self.transform.seed, stream, draw, &pair.id);
        let augmented = match &augment.image {
            Some(config) => ImageAugment::draw(config, triggered.dimensions(), &mut random).apply(&triggered, size)?,
            None => self.transform.resizing.apply(&triggered, size)?,
        };
        Ok(match &augment.overlay {
            None => augmented,
            Some(Overlay::Perturb(config)) => perturb(config, augmented, &mut random),
            Some(Overlay::Patch { patch, corner }) => {
                let mut patched = augmented;
                let room = |side: u32| size.saturating_sub(side);
                let [left, top] = corner
                    .unwrap_or_else(|| [patch.width(), patch.height()].map(|side| random.random_range(0..=room(side))));
                image::imageops::replace(&mut patched, patch.as_ref(), i64::from(left), i64::from(top));
                patched
            }
        })
    }

    fn caption(&self, pair: &Pair, draw: u64, augment: &ViewAugment, mark: &str) -> String {
        let caption = pair.caption(self.transform.seed, draw);
        match &augment.text {
            Some(text) => text.apply(caption, self.transform.seed, draw, &format!("{}{mark}", pair.id)),
            None => caption.to_owned(),
        }
    }

    fn decoded(&self, pair: &Pair) -> std::result::Result<Arc<RgbImage>, Skip> {
        if let Some(hit) = self.cache.get(pair.sample) {
            return Ok(hit);
        }
        if let Some(skip) = self.cache.skip(pair.sample) {
            return Err(skip);
        }
        let sample = self.pairs.sample_of(pair).ok_or_else(|| Skip::new(SkipReason::NoSuchSample, pair.id.clone()))?;
        let picture =
            sample.picture(self.transform.limits).inspect_err(|skip| self.cache.put_skip(pair.sample, skip))?;
        let picture = Arc::new(picture);
        self.cache.put(pair.sample, &picture, self.transform.cache_bytes);
        Ok(picture)
    }
}
