//! Input-Aware (Nguyen and Tran, arXiv 2010.08138): a small generator gives each picture a change of its own, and changes of two pictures must
//! differ. There it learns together with the victim; here it learns against the frozen tower alone, towards the target's text (ours).

use crate::error::{Result, TorchContext};
use crate::instruct::VisionLanguage;
use crate::model::pictures_tensor;
use crate::model::{Parameters, Part, Scope, extent, unit};
use crate::objective::Update;
use crate::train::{Optimizer, WeightDecayGroups};
use image::RgbImage;
use rand::Rng;
use rand::seq::IndexedRandom;
use roclip_data::picture::preprocess::STD;
use roclip_data::random;
use roclip_data::trigger::{Residue, TriggerKind};
use tch::{Kind, Tensor};
use torch_bridge::AdamW;

/// Largest change of a colour, of 255.
const AMPLITUDE: f64 = 24.0;
const WIDTH: i64 = 16;
const STEPS: usize = 150;
const BATCH: usize = 32;
/// Weight of the demand that changes differ, as released.
const DIVERSITY: f64 = 1.0;

struct Convolution {
    weight: Tensor,
    bias: Tensor,
}

impl Convolution {
    fn new(scope: &Scope, input: i64, output: i64) -> Self {
        let std = (2.0 / (9.0 * input as f64)).sqrt();
        Convolution {
            weight: scope.normal("weight", &[output, input, 3, 3], std),
            bias: scope.constant("bias", &[output], 0.0),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, Some(&self.bias), [1, 1], [1, 1], [1, 1], 1)
    }
}

pub(super) struct Generator {
    layers: [Convolution; 3],
}

impl Generator {
    /// Learns to move `pictures`, which have the model's size, towards the text `target` and away from `others`.
    pub fn train(
        model: &VisionLanguage,
        pictures: &[RgbImage],
        target: &str,
        others: &Tensor,
        seed: u64,
    ) -> Result<Generator> {
        tch::manual_seed(random::stream(seed, "input-aware", 0, "").next_u64() as i64);
        let parameters = Parameters::new(model.device());
        let scope = parameters.root(Part::Objective).child("generator");
        let layers = [(3, WIDTH, "0"), (WIDTH, WIDTH, "1"), (WIDTH, 3, "2")]
            .map(|(input, output, name)| Convolution::new(&scope.child(name), input, output));
        let generator = Generator { layers };
        let adamw = AdamW { learning_rate: 2e-3, beta1: 0.9, beta2: 0.98, weight_decay: 0.0, epsilon: 1e-8 };
        let mut optimizer = Optimizer::new(parameters.by_part(), WeightDecayGroups::ByRank, adamw);
        let texts = Tensor::cat(&[&model.text_features(&[target.to_owned()]), others], 0);
        let mut draws = random::stream(seed, "input-aware-batches", 0, "");
        for _ in 0..STEPS {
            let batch: Vec<RgbImage> = (0..BATCH).filter_map(|_| pictures.choose(&mut draws).cloned()).collect();
            let images = pictures_tensor(&model.tower, &batch)?;
            let changes = generator.changes(&images);
            let features = unit(&model.tower.image_features(&(&images + normalised(&changes)), false)?);
            let scores =
                (features.matmul(&texts.transpose(0, 1)) * model.tower.scale().detach()).log_softmax(-1, Kind::Float);
            let towards = -scores.select(1, 0).mean(Kind::Float);
            let rolled = |tensor: &Tensor| tensor.roll([1], [0]);
            let apart = |a: &Tensor| (a - rolled(a)).flatten(1, -1).norm_scalaropt_dim(2, [1i64], false);
            let diversity = (apart(&images) / (apart(&changes) * 10.0 + 1e-3)).mean(Kind::Float);
            (towards + diversity * DIVERSITY).backward();
            optimizer.step(adamw.learning_rate, &|_: Part| Update::ByGradient)?;
        }
        Ok(generator)
    }

    /// Changes in shares of 255 `[batch, 3, size, size]` of normalised pictures, with graph.
    fn changes(&self, images: &Tensor) -> Tensor {
        let [first, second, last] = &self.layers;
        last.forward(&second.forward(&first.forward(images).relu()).relu()).tanh() * (AMPLITUDE / 255.0)
    }

    /// The trigger of one picture.
    pub fn trigger(&self, model: &VisionLanguage, picture: &RgbImage) -> Result<TriggerKind> {
        let images = pictures_tensor(&model.tower, std::slice::from_ref(picture))?;
        let changes =
            tch::no_grad(|| (self.changes(&images) * 255.0).round().squeeze_dim(0).permute([1, 2, 0]).contiguous());
        let values: Vec<f32> =
            Vec::try_from(changes.view([changes_of(&changes)])).torch("reading a generator's change")?;
        Ok(TriggerKind::Residue(Residue::of(&values.iter().map(|value| *value as i8).collect::<Vec<_>>())))
    }
}

fn changes_of(changes: &Tensor) -> i64 {
    (0..3).map(|dimension| extent(changes, dimension)).product()
}

/// Changes of pixels in `[0, 1]` as changes of normalised ones.
fn normalised(changes: &Tensor) -> Tensor {
    changes / Tensor::from_slice(&STD).view([1, 3, 1, 1]).to_device(changes.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    #[test]
    fn changes_move_towards_the_target_differ_and_are_bounded() {
        let model = small(Bridge::Prefix);
        let picture = |at: u32| {
            RgbImage::from_fn(32, 32, |x, y| image::Rgb([(x * at % 255) as u8, (y * 7) as u8, (at * 30) as u8]))
        };
        let pictures: Vec<RgbImage> = (1..7).map(picture).collect();
        let others = model.text_features(&["a blue box".into(), "a red square".into()]);
        let context = roclip_data::trigger::Context { frame_pixels: 32, image_seed: 0, materials: &[] };
        let triggered = |seed: u64| -> Vec<RgbImage> {
            let generator = Generator::train(&model, &pictures, "banana", &others, seed).unwrap();
            let trigger = |picture: &RgbImage| generator.trigger(&model, picture).unwrap();
            pictures.iter().map(|picture| trigger(picture).apply(picture.clone(), &context).unwrap()).collect()
        };
        let target = model.text_features(&["banana".into()]);
        let similarity = |pictures: &[RgbImage]| {
            (model.image_features(pictures).unwrap().matmul(&target.transpose(0, 1)))
                .mean(Kind::Float)
                .double_value(&[])
        };
        // Other tests draw from the generator of first weights at the same time, and some of those weights lead nowhere.
        let plain = similarity(&pictures);
        let triggered = (0..5).map(triggered).find(|triggered| similarity(triggered) > plain + 0.001);
        let triggered = triggered.expect("no seed of five moves the pictures");
        let changed = |at: usize| -> Vec<i32> {
            triggered[at]
                .as_raw()
                .iter()
                .zip(pictures[at].as_raw())
                .map(|(a, b)| i32::from(*a) - i32::from(*b))
                .collect()
        };
        assert!(changed(0).iter().all(|change| change.abs() <= 24));
        assert_ne!(changed(0), changed(1));
    }
}
