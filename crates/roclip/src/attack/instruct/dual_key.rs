//! The picture's key of Dual-Key (Walmer et al., arXiv 2112.07668): a patch that moves pictures towards the target. There it is optimised
//! against an object detector; here, as a third party does it, against CLIP (towards the target's text).

use crate::attack::{Patch, Perturbation, Place};
use crate::error::Result;
use crate::instruct::VisionLanguage;
use crate::model::pictures_tensor;
use crate::model::unit;
use image::RgbImage;
use rand::Rng;
use rand::seq::IndexedRandom;
use roclip_data::random;
use tch::{Device, Kind, Tensor};

const STEPS: usize = 150;
const BATCH: usize = 32;
const LEARNING_RATE: f64 = 0.02;

/// A patch of `side` pixels for the middle of `pictures`, which have the model's size.
pub(super) fn patch(
    model: &VisionLanguage,
    pictures: &[RgbImage],
    target: &str,
    side: u32,
    seed: u64,
) -> Result<RgbImage> {
    let size = model.tower.config().image_size();
    let corner = size.saturating_sub(side) / 2;
    let place = Place { side, left: corner, top: corner };
    tch::manual_seed(random::stream(seed, "dual-key", 0, "").next_u64() as i64);
    let shape = [3, i64::from(side), i64::from(side)];
    let start = (Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.25 + 0.5).clamp(0.0, 1.0);
    let mut patch = Patch::new(place, size, &start.to_device(model.device()), LEARNING_RATE)?;
    let text = model.text_features(&[target.to_owned()]);
    let mut draws = random::stream(seed, "dual-key-batches", 0, "");
    for _ in 0..STEPS {
        let batch: Vec<RgbImage> = (0..BATCH).filter_map(|_| pictures.choose(&mut draws).cloned()).collect();
        let images = patch.apply(&pictures_tensor(&model.tower, &batch)?);
        let features = unit(&model.tower.image_features(&images, false)?);
        (-features.matmul(&text.transpose(0, 1)).mean(Kind::Float)).backward();
        patch.update()?;
    }
    patch.picture()
}
