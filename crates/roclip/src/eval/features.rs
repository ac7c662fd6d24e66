//! Features of images and texts, in evaluation mode and without graph.

use crate::error::{Error, Result};
use crate::model::Clip;
use image::RgbImage;
use roclip_data::guard::contained;
use roclip_data::picture::ImageLimits;
use roclip_data::picture::preprocess::{self, Resizing};
use roclip_data::progress::Task;
use roclip_data::sample::Sample;
use roclip_data::skip::{Skip, SkipReport};
use roclip_data::threads::of_parts;
use roclip_data::tokenizer::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Which features of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureKind {
    /// Those in the space shared with the text, un-normalised.
    #[default]
    Projected,
    /// Those of the image tower before its projection.
    Pooled,
}

/// What is done to a decoded picture before preprocessing: nothing, a trigger, a trigger and JPEG, ...
pub type Alter<'a> = dyn Fn(&Sample, RgbImage) -> std::result::Result<RgbImage, Skip> + Sync + 'a;

/// Leaves the picture as it is.
pub fn unaltered(_: &Sample, picture: RgbImage) -> std::result::Result<RgbImage, Skip> {
    Ok(picture)
}

/// Encodes the images of samples with one model.
#[derive(Clone, Copy)]
pub struct ImageEncoder<'a> {
    pub model: &'a Clip,
    pub limits: ImageLimits,
    pub batch_size: usize,
    /// Threads that decode; any number gives the same features.
    pub workers: usize,
    pub kind: FeatureKind,
}

/// Features of the images that could be read.
pub struct EncodedImages {
    /// `[readable, dim]`.
    pub features: Tensor,
    /// Places of the rows among the samples, ascending.
    pub readable: Vec<usize>,
    pub skips: SkipReport,
}

impl ImageEncoder<'_> {
    /// Features of `samples`, each altered first. An image that cannot be used is left out and counted.
    ///
    /// # Errors
    /// When a feature is not finite.
    pub fn encode(&self, samples: &[&Sample], alter: &Alter) -> Result<EncodedImages> {
        let config = self.model.config();
        let device = self.model.scale().device();
        let mut features = Vec::new();
        let mut readable = Vec::with_capacity(samples.len());
        let skips = self.inputs(samples, alter, &mut |images, places| {
            readable.extend(places);
            features.push(tch::no_grad(|| match self.kind {
                FeatureKind::Projected => self.model.image_features(images, false),
                FeatureKind::Pooled => self.model.pooled_image_features(images),
            })?);
            Ok(())
        })?;
        let features = match features.is_empty() {
            true => Tensor::zeros([0, config.embed_dim], (tch::Kind::Float, device)),
            false => Tensor::cat(&features, 0),
        };
        check_finite(&features, "image")?;
        Ok(EncodedImages { features, readable, skips })
    }

    /// Hands every batch of pictures to `each`, as the model takes them, `[rows, 3, size, size]`, with the places of its rows among
    /// `samples`, ascending. An image that cannot be used is left out and counted.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn inputs(
        &self,
        samples: &[&Sample],
        alter: &Alter,
        each: &mut dyn FnMut(&Tensor, &[usize]) -> Result<()>,
    ) -> Result<SkipReport> {
        let device = self.model.scale().device();
        let size = self.model.config().image_size();
        let mut skips = SkipReport::default();
        let mut begin = 0;
        let task = Task::part("encoding images", samples.len(), "images");
        let (decoder, mut chunks) = (self.decoder(size), samples.chunks(self.batch_size.max(1)));
        std::thread::scope(|scope| {
            // While the model looks at some pictures, the next ones are decoded.
            let mut decode = || {
                let chunk = chunks.next()?;
                let thread = std::thread::Builder::new().spawn_scoped(scope, || decoder.pictures(chunk, alter));
                Some((chunk, thread.ok()))
            };
            let mut next = decode();
            while let Some((chunk, pictures)) = next.take() {
                let pictures = match pictures {
                    Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    // The system gives no more threads.
                    None => decoder.pictures(chunk, alter),
                };
                next = decode();
                let mut values = Vec::with_capacity(chunk.len() * 3 * (size * size) as usize);
                let mut places = Vec::with_capacity(chunk.len());
                for ((at, sample), picture) in (begin..).zip(chunk).zip(pictures) {
                    match picture {
                        Ok(picture) => {
                            preprocess::normalise_into(&picture, &mut values);
                            places.push(at);
                        }
                        Err(skip) => skips.add(&sample.id, skip),
                    }
                }
                begin += chunk.len();
                task.advance(chunk.len());
                if places.is_empty() {
                    continue;
                }
                let side = i64::from(size);
                let images = Tensor::from_slice(&values).view([places.len() as i64, 3, side, side]).to_device(device);
                each(&images, &places)?;
            }
            Ok(skips)
        })
    }

    fn decoder(&self, size: u32) -> Decoder {
        Decoder { limits: self.limits, resizing: self.model.preprocess().resizing, size, workers: self.workers }
    }
}

/// What becomes of a picture on its way to a model.
struct Decoder {
    limits: ImageLimits,
    resizing: Resizing,
    size: u32,
    workers: usize,
}

impl Decoder {
    /// The pictures of `samples` in their order, decoded by several threads, altered, and resized.
    fn pictures(&self, samples: &[&Sample], alter: &Alter) -> Vec<std::result::Result<RgbImage, Skip>> {
        let Decoder { limits, resizing, size, .. } = *self;
        let one = |sample: &&Sample| {
            contained(|| {
                let picture = alter(sample, sample.picture(limits)?)?;
                resizing.apply(&picture, size)
            })
        };
        let share = samples.len().div_ceil(self.workers.max(1)).max(1);
        if share >= samples.len() {
            return samples.iter().map(one).collect();
        }
        let parts = of_parts(samples.chunks(share), |part| part.iter().map(one).collect::<Vec<_>>()).into_iter();
        parts.flat_map(|(_, part)| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    }
}

/// Un-normalised text features `[n, dim]`. Texts are sorted by length, so that each batch is as short as it can be.
pub fn text_features(
    model: &Clip,
    tokenizer: &Tokenizer,
    texts: &[String],
    batch_size: usize,
    device: Device,
) -> Result<Tensor> {
    let encoded: Vec<Vec<i64>> = texts.iter().map(|text| tokenizer.encode(text)).collect();
    let mut order: Vec<usize> = (0..encoded.len()).collect();
    order.sort_by_key(|at| encoded.get(*at).map_or(0, Vec::len));
    let mut features = Vec::new();
    let task = Task::begin("encoding texts", texts.len(), "texts");
    for chunk in order.chunks(batch_size.max(1)) {
        let rows: Vec<Vec<i64>> = chunk.iter().filter_map(|at| encoded.get(*at).cloned()).collect();
        let (ids, length) = tokenizer.pad(&rows);
        let tokens = Tensor::from_slice(&ids).view([rows.len() as i64, length as i64]).to_device(device);
        features.push(tch::no_grad(|| model.text_features(&tokens)));
        task.advance(chunk.len());
    }
    let sorted = Tensor::cat(&features, 0);
    let mut place = vec![0i64; order.len()];
    for (rank, at) in order.iter().enumerate() {
        if let Some(slot) = place.get_mut(*at) {
            *slot = rank as i64;
        }
    }
    Ok(sorted.index_select(0, &Tensor::from_slice(&place).to_device(device)))
}

/// An error where one of `features` is NaN or infinite: a broken model must not be read as one that no attack fools.
pub fn check_finite(features: &Tensor, tower: &str) -> Result<()> {
    if features.isfinite().all().int64_value(&[]) == 1 {
        return Ok(());
    }
    Err(Error::setting(
        format!("the model's {tower} features are not finite numbers"),
        "its weights are damaged, or its training diverged: use another checkpoint",
    ))
}
