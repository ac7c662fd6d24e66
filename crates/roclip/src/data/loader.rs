//! Batches in an order that is a pure function of (pairs, seed, epoch), made ahead by workers that share nothing.
//!
//! Worker `w` of `n` makes the steps `w, w + n, ...` and hands them over through its own bounded channel, so the consumer
//! takes them in order and worker count changes speed only.

use crate::augment::{ImageAugment, ImageAugmentConfig, PerturbConfig, SubCaptions, TextAugment, perturb, preprocess};
use crate::data::{ImageLimits, Pair, Pairs, Skip, SkipReport};
use crate::error::{Error, Result};
use crate::random;
use crate::tokenizer::Tokenizer;
use image::RgbImage;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tch::{Device, Tensor};

/// Batches that a worker may be ahead.
const AHEAD: usize = 2;

/// How a pair becomes numbers.
pub struct Transform {
    pub seed: u64,
    pub image_size: u32,
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
    /// Indices into [`Pairs::pairs`]; `batch` of them, less what was skipped.
    pub pairs: Vec<usize>,
    pub view: View,
    /// Another draw of both augmentations, where it was asked for.
    pub second: Option<View>,
    pub sub_captions: Option<SubCaptionBatch>,
    pub skips: SkipReport,
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
    /// `[batch, 3, size, size]`, normalised.
    pub images: Vec<f32>,
    /// `[batch, length]`, cut to the longest caption of the batch.
    pub tokens: Vec<i64>,
    pub length: usize,
}

/// `[batch, 3, size, size]` and `[batch, length]` of one view.
pub fn tensors(view: &View, batch: usize, side: i64, device: Device) -> (Tensor, Tensor) {
    let images = Tensor::from_slice(&view.images).view([batch as i64, 3, side, side]).to_device(device);
    let tokens = Tensor::from_slice(&view.tokens).view([batch as i64, view.length as i64]).to_device(device);
    (images, tokens)
}

/// What a pass over the data asks for.
#[derive(Debug, Clone, Copy)]
pub struct PassPlan {
    pub epoch: u64,
    /// Place of the pass in its epoch, from 0.
    pub pass: u64,
    pub two_views: bool,
    /// Steps that are done already.
    pub first_step: u64,
    pub steps: u64,
}

impl PassPlan {
    /// Number of the augmentation draw: a second pass in an epoch sees other ones.
    fn draw(&self) -> u64 {
        self.epoch | (self.pass << 32)
    }
}

/// Everything workers share, all of it read-only but the cache.
struct Shared {
    pairs: Arc<Pairs>,
    transform: Transform,
    cache: Arc<Cache>,
}

/// Decoded images by sample, up to a number of bytes; filled by whoever comes first.
struct Cache {
    slots: Vec<OnceLock<Arc<RgbImage>>>,
    bytes: AtomicU64,
}

/// Makes batches of `batch_size` pairs; the incomplete last one is dropped.
pub struct Loader {
    shared: Arc<Shared>,
    batch_size: usize,
    workers: usize,
}

impl Loader {
    pub fn new(pairs: Arc<Pairs>, transform: Transform, batch_size: usize, workers: usize) -> Result<Self> {
        if batch_size < 2 {
            return Err(Error::setting(
                format!("batch size {batch_size}"),
                "a contrastive loss needs at least 2 pairs a batch",
            ));
        }
        if batch_size > pairs.len() {
            return Err(Error::setting(
                format!("batch size {batch_size} is larger than the data ({} pairs)", pairs.len()),
                "lower --batch-size or add data",
            ));
        }
        let slots = (0..pairs.samples.len()).map(|_| OnceLock::new()).collect();
        let cache = Arc::new(Cache { slots, bytes: AtomicU64::new(0) });
        let shared = Arc::new(Shared { pairs, transform, cache });
        Ok(Loader { shared, batch_size, workers: workers.max(1) })
    }

    /// Every one of `indices` once, `count` at a time and in their order: plain, or through the augmentation's draw `draw`.
    pub fn look(&self, indices: Vec<usize>, draw: Option<u64>, count: usize) -> Batches {
        let shared = match draw {
            Some(_) => Arc::clone(&self.shared),
            None => Arc::new(self.plain(Arc::clone(&self.shared.pairs))),
        };
        self.looks(shared, indices, draw.unwrap_or(0), count)
    }

    fn looks(&self, shared: Arc<Shared>, indices: Vec<usize>, draw: u64, count: usize) -> Batches {
        let steps = indices.len().div_ceil(count.max(1)) as u64;
        let plan = PassPlan { epoch: draw, pass: 0, two_views: false, first_step: 0, steps };
        self.batches(shared, indices, count.max(1), plan)
    }

    /// The same samples without augmentation.
    fn plain(&self, pairs: Arc<Pairs>) -> Shared {
        let transform = Transform {
            views: [ViewAugment::default(), ViewAugment::default()],
            sub_captions: None,
            tokenizer: Arc::clone(&self.shared.transform.tokenizer),
            ..self.shared.transform
        };
        Shared { pairs, transform, cache: Arc::clone(&self.shared.cache) }
    }

    /// All of `pairs` without augmentation, `count` at a time. They must be of the loader's samples.
    pub fn plain_batches_of(&self, pairs: &Pairs, count: usize) -> Batches {
        self.looks(Arc::new(self.plain(Arc::new(pairs.clone()))), (0..pairs.len()).collect(), 0, count)
    }

    pub fn steps_per_epoch(&self) -> u64 {
        self.steps(self.shared.pairs.len())
    }

    /// Steps of a pass over `count` pairs.
    pub fn steps(&self, count: usize) -> u64 {
        (count / self.batch_size) as u64
    }

    /// The order of a pass over `pairs` (all when none): a permutation of their indices.
    pub fn order(&self, epoch: u64, pass: u64, pairs: Option<Vec<usize>>) -> Vec<usize> {
        let mut order = pairs.unwrap_or_else(|| (0..self.shared.pairs.len()).collect());
        let id = if pass == 0 { String::new() } else { pass.to_string() };
        order.shuffle(&mut random::stream(self.shared.transform.seed, "order", epoch, &id));
        order
    }

    /// The batches of a pass.
    pub fn pass(&self, order: Vec<usize>, plan: PassPlan) -> Batches {
        self.batches(Arc::clone(&self.shared), order, self.batch_size, plan)
    }

    fn batches(&self, shared: Arc<Shared>, order: Vec<usize>, batch_size: usize, plan: PassPlan) -> Batches {
        let order = Arc::new(order);
        let mut channels = Vec::new();
        let mut threads = Vec::new();
        for worker in 0..self.workers as u64 {
            let (sender, receiver) = sync_channel(AHEAD);
            let (shared, order, workers) = (Arc::clone(&shared), Arc::clone(&order), self.workers as u64);
            threads.push(std::thread::spawn(move || {
                let mut step = plan.first_step + worker;
                while step < plan.steps {
                    let from = step as usize * batch_size;
                    let to = (from + batch_size).min(order.len());
                    let indices = order.get(from..to).unwrap_or_default();
                    if sender.send(shared.batch(step, plan.draw(), plan.two_views, indices)).is_err() {
                        return; // The consumer stopped early.
                    }
                    step += workers;
                }
            }));
            channels.push(receiver);
        }
        Batches { channels, threads, next: 0, remaining: plan.steps.saturating_sub(plan.first_step) }
    }
}

/// An iterator over a pass's batches.
pub struct Batches {
    channels: Vec<Receiver<HostBatch>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    remaining: u64,
}

impl Iterator for Batches {
    type Item = Result<HostBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        let at = self.next % self.channels.len().max(1);
        self.next += 1;
        let received = self.channels.get(at).map(|channel| channel.recv());
        Some(match received {
            Some(Ok(batch)) => Ok(batch),
            _ => Err(Error::internal("a data worker stopped")),
        })
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.channels.clear(); // Workers see their channel close and return.
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so; the batch that is missing was an error to the consumer.
            let _ = thread.join();
        }
    }
}

/// Names of the random streams of a view's augmentation.
const IMAGE_STREAMS: [&str; 2] = ["image-augment", "image-augment-2"];
/// Appended to a pair's id for a view's text augmentation.
const TEXT_MARKS: [&str; 2] = ["", "/2"];

impl Shared {
    fn batch(&self, step: u64, draw: u64, two_views: bool, indices: &[usize]) -> HostBatch {
        let (view, skips) = (View::default(), SkipReport::default());
        let mut batch = HostBatch { step, pairs: Vec::new(), view, second: None, sub_captions: None, skips };
        let count = if two_views { 2 } else { 1 };
        let views = || self.transform.views.iter().zip(IMAGE_STREAMS).zip(TEXT_MARKS).take(count);
        let mut made: Vec<(View, Vec<Vec<i64>>)> = views().map(|_| (View::default(), Vec::new())).collect();
        for index in indices {
            let Some(pair) = self.pairs.pairs.get(*index) else { continue };
            let pictures: std::result::Result<Vec<RgbImage>, Skip> =
                views().map(|((augment, stream), _)| self.image(pair, draw, augment, stream)).collect();
            match pictures {
                Ok(pictures) => {
                    batch.pairs.push(*index);
                    for (((view, captions), picture), ((augment, _), mark)) in
                        made.iter_mut().zip(pictures).zip(views())
                    {
                        preprocess::normalise_into(&picture, &mut view.images);
                        captions.push(self.transform.tokenizer.encode(&self.caption(pair, draw, augment, mark)));
                    }
                }
                Err(skip) => batch.skips.add(&pair.id, skip),
            }
        }
        let mut finished = made.into_iter().map(|(mut view, captions)| {
            (view.tokens, view.length) = self.transform.tokenizer.pad(&captions);
            view
        });
        batch.view = finished.next().unwrap_or_default();
        batch.second = finished.next();
        batch.sub_captions = self.sub_captions(draw, &batch.pairs);
        batch
    }

    /// Sub-captions of the first pairs that have any; the order of a batch is random already.
    fn sub_captions(&self, draw: u64, pairs: &[usize]) -> Option<SubCaptionBatch> {
        let (sub_captions, count) = self.transform.sub_captions.as_ref()?;
        let made = pairs.iter().enumerate().filter_map(|(row, index)| {
            let pair = self.pairs.pairs.get(*index)?;
            let mut random = random::stream(self.transform.seed, "sub-caption", draw, &pair.id);
            let made = sub_captions.of(pair.caption(self.transform.seed, draw), &mut random)?;
            Some((row as i64, made))
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
            return preprocess::resize_and_crop(&triggered, size);
        }
        let mut random = random::stream(self.transform.seed, stream, draw, &pair.id);
        let augmented = match &augment.image {
            Some(config) => ImageAugment::draw(config, triggered.dimensions(), &mut random).apply(&triggered, size)?,
            None => preprocess::resize_and_crop(&triggered, size)?,
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
        let slot = self.cache.slots.get(pair.sample);
        if let Some(hit) = slot.and_then(OnceLock::get) {
            return Ok(Arc::clone(hit));
        }
        let sample = self.pairs.sample_of(pair).ok_or_else(|| Skip::new("no such sample", pair.id.clone()))?;
        let picture = Arc::new(sample.picture(self.transform.limits)?);
        let size = picture.as_raw().len() as u64;
        if let Some(slot) =
            slot.filter(|_| self.cache.bytes.load(Ordering::Relaxed) + size <= self.transform.cache_bytes)
            && slot.set(Arc::clone(&picture)).is_ok()
        {
            self.cache.bytes.fetch_add(size, Ordering::Relaxed);
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{CaptionMode, ImageBytes, Sample};
    use crate::tokenizer::Truncate;
    use std::collections::BTreeSet;

    /// Seven samples of one colour each, the first black, of which one has no picture.
    fn loader(workers: usize, view: ViewAugment) -> Loader {
        let samples: Vec<Sample> = (0..7u8)
            .map(|number| {
                let mut png = std::io::Cursor::new(Vec::new());
                let picture = RgbImage::from_pixel(4, 4, image::Rgb([number * 30; 3]));
                picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
                let bytes = if number == 2 { b"not a picture".to_vec() } else { png.into_inner() };
                Sample {
                    id: format!("s{number}"),
                    image: ImageBytes::Memory(Arc::from(bytes)),
                    captions: vec![format!("picture {number}")],
                    class: None,
                    group: None,
                    split: None,
                }
            })
            .collect();
        let transform = Transform {
            seed: 1,
            image_size: 4,
            limits: ImageLimits::default(),
            views: [view.clone(), view],
            sub_captions: None,
            tokenizer: Arc::new(Tokenizer::new(8, Truncate::KeepEot).unwrap()),
            cache_bytes: 0,
        };
        Loader::new(Arc::new(Pairs::new(samples, CaptionMode::Expand)), transform, 2, workers).unwrap()
    }

    #[test]
    fn a_look_sees_every_pair_once_and_in_order_whatever_the_workers() {
        let view = ViewAugment { image: Some(ImageAugmentConfig::default()), ..ViewAugment::default() };
        let look = |workers, draw| -> Vec<HostBatch> {
            loader(workers, view.clone()).look(vec![6, 5, 4, 3, 2, 1, 0], draw, 3).collect::<Result<_>>().unwrap()
        };
        let plain = look(1, None);
        let seen: Vec<Vec<usize>> = plain.iter().map(|batch| batch.pairs.clone()).collect();
        assert_eq!(seen, [vec![6, 5, 4], vec![3, 1], vec![0]], "pair 2 cannot be read");
        assert_eq!(plain[1].skips.total(), 1);
        let images = |batches: &[HostBatch]| batches.iter().flat_map(|b| b.view.images.clone()).collect::<Vec<f32>>();
        assert_eq!(images(&plain), images(&look(3, None)));
        assert_eq!(images(&look(1, Some(9))), images(&look(3, Some(9))));
        assert_ne!(images(&look(1, Some(9))), images(&plain), "a draw goes through the augmentation");
    }

    #[test]
    fn a_patch_lies_at_its_corner_or_somewhere_else_in_each_draw() {
        let bright = |corner| -> BTreeSet<Vec<usize>> {
            let patch = Arc::new(RgbImage::from_pixel(2, 2, image::Rgb([255; 3])));
            let view = ViewAugment { overlay: Some(Overlay::Patch { patch, corner }), ..ViewAugment::default() };
            let loader = loader(1, view);
            let pictures =
                (1..=20).map(|draw| loader.look(vec![0], Some(draw), 1).next().unwrap().unwrap().view.images);
            pictures.map(|rgb| (0..16).filter(|at| rgb[*at] > 0.0).collect()).collect()
        };
        assert_eq!(bright(Some([1, 2])), BTreeSet::from([vec![9, 10, 13, 14]]));
        let anywhere = bright(None);
        assert!(anywhere.len() > 3 && anywhere.iter().all(|pixels| pixels.len() == 4), "{anywhere:?}");
    }
}
