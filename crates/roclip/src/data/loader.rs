//! Batches in an order that is a pure function of (pairs, seed, epoch), made ahead by workers that share nothing.
//!
//! Worker `w` of `n` makes the steps `w, w + n, ...` and hands them over through its own bounded channel, so the consumer
//! takes them in order and worker count changes speed only.

use crate::augment::{ImageAugment, ImageAugmentConfig, TextAugment, preprocess};
use crate::data::{ImageLimits, Pair, Pairs, Skip, SkipReport, decode};
use crate::error::{Error, Result};
use crate::random;
use crate::tokenizer::Tokenizer;
use image::RgbImage;
use rand::seq::SliceRandom;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Batches that a worker may be ahead.
const AHEAD: usize = 2;

/// How a pair becomes numbers.
pub struct Transform {
    pub seed: u64,
    pub image_size: u32,
    pub limits: ImageLimits,
    pub image_augment: Option<ImageAugmentConfig>,
    pub text_augment: Option<TextAugment>,
    pub tokenizer: Arc<Tokenizer>,
    /// Decoded images are kept in memory up to this many bytes.
    pub cache_bytes: u64,
}

/// One batch on the host.
#[derive(Debug)]
pub struct HostBatch {
    pub step: u64,
    /// Indices into [`Pairs::pairs`]; `batch` of them, less what was skipped.
    pub pairs: Vec<usize>,
    /// `[batch, 3, size, size]`, normalised.
    pub images: Vec<f32>,
    /// `[batch, length]`, cut to the longest caption of the batch.
    pub tokens: Vec<i64>,
    pub length: usize,
    pub skips: SkipReport,
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

    /// The given pairs without augmentation, as one batch.
    pub fn plain_batch(&self, indices: &[usize]) -> HostBatch {
        let transform = Transform {
            image_augment: None,
            text_augment: None,
            tokenizer: Arc::clone(&self.shared.transform.tokenizer),
            ..self.shared.transform
        };
        let plain = Shared { pairs: Arc::clone(&self.shared.pairs), transform, cache: Arc::clone(&self.shared.cache) };
        plain.batch(0, 0, indices)
    }

    pub fn steps_per_epoch(&self) -> u64 {
        (self.shared.pairs.len() / self.batch_size) as u64
    }

    /// The order of an epoch: a permutation of the pair indices.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shared.pairs.len()).collect();
        order.shuffle(&mut random::stream(self.shared.transform.seed, "order", epoch, ""));
        order
    }

    /// The batches of `epoch` from step `first` on.
    pub fn epoch(&self, epoch: u64, first: u64) -> Epoch {
        let order = Arc::new(self.order(epoch));
        let steps = self.steps_per_epoch();
        let mut channels = Vec::new();
        let mut threads = Vec::new();
        for worker in 0..self.workers as u64 {
            let (sender, receiver) = sync_channel(AHEAD);
            let (shared, order) = (Arc::clone(&self.shared), Arc::clone(&order));
            let (workers, batch_size) = (self.workers as u64, self.batch_size);
            threads.push(std::thread::spawn(move || {
                let mut step = first + worker;
                while step < steps {
                    let from = step as usize * batch_size;
                    let indices = order.get(from..from + batch_size).unwrap_or_default();
                    if sender.send(shared.batch(step, epoch, indices)).is_err() {
                        return; // The consumer stopped early.
                    }
                    step += workers;
                }
            }));
            channels.push(receiver);
        }
        Epoch { channels, threads, next: 0, remaining: steps.saturating_sub(first) }
    }
}

/// An iterator over an epoch's batches.
pub struct Epoch {
    channels: Vec<Receiver<HostBatch>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    remaining: u64,
}

impl Iterator for Epoch {
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

impl Drop for Epoch {
    fn drop(&mut self) {
        self.channels.clear(); // Workers see their channel close and return.
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so; the batch that is missing was an error to the consumer.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn batch(&self, step: u64, epoch: u64, indices: &[usize]) -> HostBatch {
        let size = self.transform.image_size as usize;
        let mut batch = HostBatch {
            step,
            pairs: Vec::with_capacity(indices.len()),
            images: Vec::with_capacity(indices.len() * 3 * size * size),
            tokens: Vec::new(),
            length: 0,
            skips: SkipReport::default(),
        };
        let mut captions = Vec::with_capacity(indices.len());
        for index in indices {
            let Some(pair) = self.pairs.pairs.get(*index) else { continue };
            match self.image(pair, epoch) {
                Ok(picture) => {
                    preprocess::normalise_into(&picture, &mut batch.images);
                    batch.pairs.push(*index);
                    captions.push(self.transform.tokenizer.encode(&self.caption(pair, epoch)));
                }
                Err(skip) => batch.skips.add(&pair.id, skip),
            }
        }
        (batch.tokens, batch.length) = self.transform.tokenizer.pad(&captions);
        batch
    }

    fn image(&self, pair: &Pair, epoch: u64) -> std::result::Result<RgbImage, Skip> {
        let decoded = self.decoded(pair)?;
        let triggered = match &pair.trigger {
            Some(trigger) => Arc::new(trigger.apply(&decoded)?),
            None => decoded,
        };
        let size = self.transform.image_size;
        let augmented = match &self.transform.image_augment {
            Some(config) => {
                let mut random = random::stream(self.transform.seed, "image-augment", epoch, &pair.id);
                ImageAugment::draw(config, triggered.dimensions(), &mut random).apply(&triggered, size)?
            }
            None => preprocess::resize_and_crop(&triggered, size)?,
        };
        Ok(augmented)
    }

    fn caption(&self, pair: &Pair, epoch: u64) -> String {
        let caption = pair.caption(self.transform.seed, epoch);
        match &self.transform.text_augment {
            Some(augment) => augment.apply(caption, self.transform.seed, epoch, &pair.id),
            None => caption.to_owned(),
        }
    }

    fn decoded(&self, pair: &Pair) -> std::result::Result<Arc<RgbImage>, Skip> {
        let slot = self.cache.slots.get(pair.sample);
        if let Some(hit) = slot.and_then(OnceLock::get) {
            return Ok(Arc::clone(hit));
        }
        let sample = self.pairs.sample_of(pair).ok_or_else(|| Skip::new("no such sample", pair.id.clone()))?;
        let bytes = sample.image.read(self.transform.limits.max_file_bytes)?;
        let picture = Arc::new(decode(&bytes, self.transform.limits)?);
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
