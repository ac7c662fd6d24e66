//! Image-text retrieval, both ways, as CLIP_benchmark counts it: an image finds its text when one of its captions is among the
//! k nearest texts; a text finds its image when that image is among the k nearest.

use crate::error::{Error, Result, TorchContext};
use crate::eval::features::{ImageEncoder, text_features, unaltered};
use crate::model::unit;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Recall at 1, 5 and 10.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Retrieval {
    pub images: usize,
    /// Images that could not be used.
    #[serde(default)]
    pub skipped: usize,
    pub texts: usize,
    /// Share of texts whose image is among the k nearest: `(k, rate)`.
    pub image_recall: Vec<(usize, Rate)>,
    /// Share of images with one of their captions among the k nearest: `(k, rate)`.
    pub text_recall: Vec<(usize, Rate)>,
}

const AT: [usize; 3] = [1, 5, 10];

/// Whether retrieval can be measured over `samples`.
pub fn check(samples: &[&Sample]) -> Result<()> {
    match samples.iter().filter(|sample| !sample.captions.is_empty()).count() {
        count if count < 2 => Err(Error::setting(
            format!("retrieval needs at least two images with captions, not {count}"),
            "name others in eval.retrieval",
        )),
        _ => Ok(()),
    }
}

/// Measures retrieval over `samples`; those without a caption are left out.
pub fn retrieval(encoder: &ImageEncoder, tokenizer: &Tokenizer, samples: &[&Sample]) -> Result<Retrieval> {
    check(samples)?;
    let samples: Vec<&Sample> = samples.iter().copied().filter(|s| !s.captions.is_empty()).collect();
    let encoded = encoder.encode(&samples, &unaltered)?;
    let samples: Vec<&Sample> = encoded.readable.iter().filter_map(|at| samples.get(*at).copied()).collect();
    if samples.len() < 2 {
        return Err(Error::setting(
            format!("retrieval can read {} images only: {}", samples.len(), encoded.skips.summary()),
            "repair them, or name others in eval.retrieval",
        ));
    }
    let texts: Vec<String> = samples.iter().flat_map(|s| s.captions.iter().cloned()).collect();
    let owner: Vec<usize> =
        samples.iter().enumerate().flat_map(|(at, s)| std::iter::repeat_n(at, s.captions.len())).collect();
    let images = unit(&encoded.features);
    let captions = unit(&text_features(encoder.model, tokenizer, &texts, 256, images.device())?);
    let similarity = images.matmul(&captions.transpose(0, 1));
    let by_image = nearest(&similarity)?;
    let by_text = nearest(&similarity.transpose(0, 1))?;
    let text_hits = |k: usize| {
        let found =
            |(at, best): &(usize, &Vec<i64>)| best.iter().take(k).any(|text| owner.get(*text as usize) == Some(at));
        Rate::new(by_image.iter().enumerate().filter(found).count(), samples.len())
    };
    let image_hits = |k: usize| {
        let found = |(best, own): &(&Vec<i64>, &usize)| best.iter().take(k).any(|image| *image as usize == **own);
        Rate::new(by_text.iter().zip(&owner).filter(found).count(), texts.len())
    };
    Ok(Retrieval {
        images: samples.len(),
        skipped: encoded.skips.total(),
        texts: texts.len(),
        image_recall: AT.map(|k| (k, image_hits(k))).to_vec(),
        text_recall: AT.map(|k| (k, text_hits(k))).to_vec(),
    })
}

fn nearest(similarity: &Tensor) -> Result<Vec<Vec<i64>>> {
    let columns = similarity.size().last().copied().unwrap_or(0);
    let (_, best) = similarity.topk(columns.min(10), 1, true, true);
    Vec::try_from(best).torch("reading neighbours")
}
