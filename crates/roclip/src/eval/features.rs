//! Features of images and texts, in evaluation mode and without graph.

use crate::error::{Error, Result};
use crate::model::{Clip, extent, pictures};
use crate::world::World;
use image::RgbImage;
use roclip_data::artifact;
use roclip_data::guard::contained;
use roclip_data::picture::ImageLimits;
use roclip_data::picture::preprocess::Resizing;
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
    /// Processes that share what is encoded, and all get all of it. They encode the same samples with the same weights, at the same time.
    pub world: Option<&'a World>,
}

/// Features of the images that could be read.
pub struct EncodedImages {
    /// `[readable, dim]`.
    pub features: Tensor,
    /// Places of the rows among the samples, ascending.
    pub readable: Vec<usize>,
    pub skips: SkipReport,
}

impl EncodedImages {
    /// What all processes of `world` have encoded, each a part of the same samples that begins with the one at `first`.
    fn of_all(self, world: &World, first: usize) -> Result<EncodedImages> {
        let EncodedImages { features, readable, skips } = self;
        // What has read nothing does not know how wide features of its kind are.
        let own = extent(&features, 1);
        let widths = world.gather_numbers(&[if readable.is_empty() { 0 } else { own }])?.concat();
        let width = widths.into_iter().max().filter(|width| *width > 0).unwrap_or(own);
        let features = match readable.is_empty() {
            true => Tensor::zeros([0, width], (tch::Kind::Float, features.device())),
            false => features,
        };
        let places: Vec<i64> = readable.iter().map(|at| (first + at) as i64).collect();
        let places = world.gather_list(&places)?;
        let skips = world.gather_skips(&skips)?;
        Ok(EncodedImages {
            features: world.gather_rows(&features)?,
            readable: places.into_iter().map(|at| at as usize).collect(),
            skips,
        })
    }
}

impl ImageEncoder<'_> {
    /// Features of `samples`, each altered first. An image that cannot be used is left out and counted.
    ///
    /// # Errors
    /// When a feature is not finite.
    pub fn encode(&self, samples: &[&Sample], alter: &Alter) -> Result<EncodedImages> {
        let encoded = match self.world.filter(|world| !world.is_alone()) {
            None => self.encode_alone(samples, alter)?,
            Some(world) => {
                same_images(world, samples)?;
                // Whole batches, so that each is computed as one process would.
                let own = world.part(samples.len(), self.batch_size);
                let first = own.start;
                self.encode_alone(samples.get(own).unwrap_or_default(), alter)?.of_all(world, first)?
            }
        };
        check_finite(&encoded.features, "image")?;
        Ok(encoded)
    }

    fn encode_alone(&self, samples: &[&Sample], alter: &Alter) -> Result<EncodedImages> {
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
            while let Some((chunk, decoded)) = next.take() {
                let decoded = match decoded {
                    Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    // The system gives no more threads.
                    None => decoder.pictures(chunk, alter),
                };
                next = decode();
                let mut bytes = Vec::with_capacity(chunk.len() * 3 * (size * size) as usize);
                let mut places = Vec::with_capacity(chunk.len());
                for ((at, sample), picture) in (begin..).zip(chunk).zip(decoded) {
                    match picture {
                        Ok(picture) => {
                            bytes.extend_from_slice(&picture);
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
                each(&pictures(&[&bytes], i64::from(size), device), &places)?;
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
    shared_text_features(model, tokenizer, texts, batch_size, device, &World::alone())
}

/// [`text_features`], encoded by the processes of `world` together: whole batches each, so that they are as one process has them.
pub(super) fn shared_text_features(
    model: &Clip,
    tokenizer: &Tokenizer,
    texts: &[String],
    batch_size: usize,
    device: Device,
    world: &World,
) -> Result<Tensor> {
    let encoded: Vec<Vec<i64>> = texts.iter().map(|text| tokenizer.encode(text)).collect();
    let mut order: Vec<usize> = (0..encoded.len()).collect();
    order.sort_by_key(|at| encoded.get(*at).map_or(0, Vec::len));
    let own = order.get(world.part(order.len(), batch_size)).unwrap_or_default();
    let mut features = vec![Tensor::zeros([0, model.config().embed_dim], (tch::Kind::Float, device))];
    let task = Task::begin("encoding texts", own.len(), "texts");
    for chunk in own.chunks(batch_size.max(1)) {
        let rows: Vec<Vec<i64>> = chunk.iter().filter_map(|at| encoded.get(*at).cloned()).collect();
        let (ids, length) = tokenizer.pad(&rows);
        let tokens = Tensor::from_slice(&ids).view([rows.len() as i64, length as i64]).to_device(device);
        features.push(tch::no_grad(|| model.text_features(&tokens)));
        task.advance(chunk.len());
    }
    let sorted = world.gather_rows(&Tensor::cat(&features, 0))?;
    let mut place = vec![0i64; order.len()];
    for (rank, at) in order.iter().enumerate() {
        if let Some(slot) = place.get_mut(*at) {
            *slot = rank as i64;
        }
    }
    Ok(sorted.index_select(0, &Tensor::from_slice(&place).to_device(device)))
}

/// Rows of the processes are joined by their places among the samples: these must be the same everywhere.
fn same_images(world: &World, samples: &[&Sample]) -> Result<()> {
    let ids: String = samples.iter().flat_map(|sample| [sample.id.as_str(), "\n"]).collect();
    let all = world.gather_texts(&artifact::sha256_hex(ids.as_bytes()))?;
    match all.iter().all(|other| Some(other) == all.first()) {
        true => Ok(()),
        false => Err(Error::setting(
            "the processes do not look at the same images",
            "give all machines the same evaluation data (--val-data)",
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use crate::world::testing::together;
    use roclip_data::sample::ImageBytes;
    use roclip_data::tokenizer::Truncate;
    use std::collections::BTreeMap;
    use std::io::Cursor;
    use std::sync::Mutex;

    fn sample(number: u8) -> Sample {
        let mut png = Cursor::new(Vec::new());
        let color = image::Rgb([number * 20, 255 - number * 20, 7]);
        RgbImage::from_pixel(32, 32, color).write_to(&mut png, image::ImageFormat::Png).unwrap();
        // The fourth is no picture.
        let bytes = if number == 3 { b"broken".to_vec() } else { png.into_inner() };
        Sample::new("test".into(), number.to_string(), ImageBytes::Memory(bytes.into()))
    }

    #[test]
    fn processes_share_what_is_encoded_and_all_get_what_one_would() {
        let samples: Vec<Sample> = (0..11).map(sample).collect();
        let texts: Vec<String> = (0..7).map(|number| "a word ".repeat(number + 1)).collect();
        // Of the part of the last process of six nothing is left: three batches of pictures.
        for (size, kind) in [(2, FeatureKind::Projected), (6, FeatureKind::Pooled)] {
            let model = || Clip::new(ModelConfig::named("ViT-tiny-32").unwrap(), Device::Cpu, 0).unwrap();
            let all: Vec<&Sample> = samples.iter().collect();
            let encode = |model: &Clip, world: &World, alter: &Alter| {
                let limits = ImageLimits::default();
                let encoder = ImageEncoder { model, limits, batch_size: 4, workers: 1, kind, world: Some(world) };
                let EncodedImages { features, readable, skips } = encoder.encode(&all, alter).unwrap();
                let tokenizer =
                    Tokenizer::new(model.config().text_cfg.context_length as usize, Truncate::default()).unwrap();
                let texts = shared_text_features(model, &tokenizer, &texts, 2, Device::Cpu, world).unwrap();
                let numbers = |features: &Tensor| Vec::<f32>::try_from(features.flatten(0, -1)).unwrap();
                (numbers(&features), readable, skips, numbers(&texts))
            };
            let first = model();
            let values =
                |tensor: Tensor| Vec::<f32>::try_from(tensor.to_kind(tch::Kind::Float).flatten(0, -1)).unwrap();
            let weights: BTreeMap<String, Vec<f32>> =
                first.parameters().all().into_iter().map(|(name, tensor)| (name, values(tensor))).collect();
            let alone = encode(&first, &World::alone(), &unaltered);
            assert_eq!((alone.1.len(), alone.2.total()), (10, 1));
            let looked_at = Mutex::new(Vec::new());
            let found = together(size, |world| {
                // All threads of tests draw from one generator.
                let model = model();
                for (name, tensor) in model.parameters().all() {
                    tch::no_grad(|| tensor.shallow_clone().view(-1).copy_(&Tensor::from_slice(&weights[&name])));
                }
                encode(&model, &world, &|sample, picture| {
                    looked_at.lock().unwrap().push(sample.id.clone());
                    Ok(picture)
                })
            });
            for one in found {
                assert!(one == alone, "as in one process, to the bit");
            }
            assert_eq!(looked_at.lock().unwrap().len(), 10, "each picture is read once");
        }
    }

    #[test]
    fn processes_that_look_at_different_images_are_told() {
        let found = together(2, |world| {
            let samples: Vec<Sample> = (0..2).map(|at| sample(at + world.rank() as u8)).collect();
            same_images(&world, &samples.iter().collect::<Vec<_>>()).map_err(|error| error.to_string())
        });
        for one in found {
            assert!(one.unwrap_err().contains("--val-data"));
        }
    }
}
