//! Numbers that PyTorch, open_clip and torchvision computed: the scripts that wrote the files stand beside them in
//! `tests/golden/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use base64::Engine;
use image::RgbImage;
use roclip::attack::{DELTA, DeltaRule, UniversalDelta};
use roclip::error::Result;
use roclip::model::{Clip, ModelConfig, read_safetensors};
use roclip::objective::{
    BatchView, ClipObjective, Objective, Phase, PoolInit, RingWrite, RoClip, RoClipConfig, RunShape,
    SubCaptionFeatures, Towers,
};
use roclip::prompt::{
    ClassTokens, MethodName, PromptConfig, PromptLearner, PromptPosition, PromptStep, PromptTally, PromptTrainer, Stage,
};
use roclip::train::Sgd;
use roclip_data::augment::{Crop, ImageAugment, Jitter};
use roclip_data::batch::{Loader, Transform};
use roclip_data::pairs::{CaptionMode, Pairs};
use roclip_data::picture::{ImageLimits, preprocess};
use roclip_data::sample::{ImageBytes, Sample};
use roclip_data::tokenizer::{Tokenizer, Truncate};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

#[test]
fn resnet_and_vit_features_equal_open_clip() {
    for name in ["rn", "vit"] {
        let mut file = read_safetensors(&golden(&format!("{name}.safetensors"))).unwrap();
        let config: ModelConfig =
            serde_json::from_slice(&std::fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap();
        let model = Clip::new(config, Device::Cpu, 0).unwrap();
        let weights: BTreeMap<String, Tensor> =
            file.iter().filter_map(|(k, v)| Some((k.strip_prefix("model.")?.to_owned(), v.shallow_clone()))).collect();
        model.load(&golden(name), &weights).unwrap();
        let mut take = |key: &str| file.remove(key).unwrap();
        let (images, tokens) = (take("images"), take("tokens"));
        tch::no_grad(|| {
            let image = model.image_features(&images, false).unwrap();
            assert!(largest_difference(&image, &take("image_features")) < 1e-4, "{name} image");
            let text = model.text_features(&tokens);
            assert!(largest_difference(&text, &take("text_features")) < 1e-4, "{name} text");
            let train = model.image_features(&images, true).unwrap();
            assert!(largest_difference(&train, &take("image_features_train")) < 1e-4, "{name} image in training mode");
        });
    }
}

/// Positions behind the longest caption cannot change the result.
#[test]
fn a_text_batch_cut_to_its_longest_caption_gives_the_same_features() {
    let config: ModelConfig = serde_json::from_slice(&std::fs::read(golden("vit.json")).unwrap()).unwrap();
    let model = Clip::new(config, Device::Cpu, 3).unwrap();
    let mut ids = vec![0i64; 20];
    ids[..6].copy_from_slice(&[298, 5, 6, 7, 8, 299]);
    let whole = model.text_features(&Tensor::from_slice(&ids).view([1, 20]));
    let cut = model.text_features(&Tensor::from_slice(&ids[..6]).view([1, 6]));
    assert!(largest_difference(&whole, &cut) < 1e-5);
}

/// One view whose features are given.
struct Given<'a> {
    image: &'a Tensor,
    text: &'a Tensor,
    scale: &'a Tensor,
    pairs: &'a [usize],
}

impl Towers for Given<'_> {
    fn pairs(&self) -> &[usize] {
        self.pairs
    }

    fn scale(&self) -> Tensor {
        self.scale.shallow_clone()
    }

    fn raw_image(&self, _view: BatchView) -> Result<Tensor> {
        Ok(self.image.shallow_clone())
    }

    fn image(&self, view: BatchView) -> Result<Tensor> {
        self.raw_image(view)
    }

    fn images(&self) -> Result<[Tensor; 2]> {
        Ok([self.image.shallow_clone(), self.image.shallow_clone()])
    }

    fn text(&self, _view: BatchView) -> Result<Tensor> {
        Ok(self.text.shallow_clone())
    }

    fn image_through(&self, _model: &Clip, _view: BatchView) -> Result<Tensor> {
        Ok(self.image.shallow_clone())
    }

    fn through(&self, _model: &Clip, _view: BatchView) -> Result<[Tensor; 2]> {
        Ok([self.image.shallow_clone(), self.text.shallow_clone()])
    }

    fn sub_captions(&self) -> Result<Option<SubCaptionFeatures>> {
        Ok(None)
    }
}

#[test]
fn ten_steps_of_matching_equal_the_pytorch_program() {
    let file = read_safetensors(&golden("roclip.safetensors")).unwrap();
    let (images, texts, scale) = (&file["images"], &file["texts"], &file["scale"]);
    for (mode, ring_write) in [("truncate", RingWrite::Truncate), ("wrap", RingWrite::Wrap)] {
        let config = RoClipConfig {
            pool_size: Some(20),
            ring_write,
            pool_init: PoolInit::GaussianRaw,
            ..RoClipConfig::default()
        };
        let shape = RunShape {
            seed: 0,
            epochs: 1,
            pairs: 100,
            batch_size: 4,
            embed_dim: 8,
            learning_rate: 1e-3,
            warmup_steps: 0,
            device: Device::Cpu,
        };
        let mut roclip = RoClip::new(config, shape).unwrap();
        let state = BTreeMap::from([
            ("pool.rows".to_owned(), file["pool"].copy()),
            ("pool.owners".to_owned(), Tensor::arange(20, (Kind::Int64, Device::Cpu))),
            ("pool.position".to_owned(), Tensor::from_slice(&[0i64, 20])),
        ]);
        roclip.load_state(&state).unwrap();
        let rows_of = |roclip: &RoClip| roclip.state()["pool.rows"].copy();
        for step in 0..10i64 {
            let image = images.get(step).set_requires_grad(true);
            let before = rows_of(&roclip);
            let pairs = [0, 1, 2, 3, 4, 5];
            let output = roclip
                .loss(Phase::Matching, &Given { image: &image, text: &texts.get(step), scale, pairs: &pairs })
                .unwrap();
            output.loss.backward();
            let expected = file[&format!("{mode}.losses")].get(step).double_value(&[]);
            assert!(
                (output.loss.double_value(&[]) - expected).abs() < 1e-4 * expected.abs().max(1.0),
                "{mode} loss of step {step}"
            );
            assert!(
                largest_difference(&image.grad(), &file[&format!("{mode}.gradients")].get(step)) < 1e-4,
                "{mode} gradient of step {step}"
            );
            let neighbours: Vec<i64> = Vec::try_from(file[&format!("{mode}.neighbours")].get(step)).unwrap();
            for (found, row) in output.matches.unwrap().read().unwrap().iter().zip(neighbours) {
                let nearest = before.get(row);
                let cosine =
                    image.get(found.pair as i64).dot(&nearest).double_value(&[]) / nearest.norm().double_value(&[]);
                assert!((f64::from(found.similarity) - cosine).abs() < 1e-5, "{mode} neighbour of step {step}");
            }
        }
        assert!(largest_difference(&rows_of(&roclip), &file[&format!("{mode}.pool")]) == 0.0, "{mode} pool");
        let position: Vec<i64> = Vec::try_from(&roclip.state()["pool.position"]).unwrap();
        assert_eq!(position[0], file[&format!("{mode}.pointer")].int64_value(&[]));
    }
    for step in 0..10i64 {
        let (image, text) = (images.get(step), texts.get(step));
        let batch = Given { image: &image, text: &text, scale, pairs: &[] };
        let loss = ClipObjective::default().loss(Phase::Clip, &batch).unwrap().loss.double_value(&[]);
        assert!((loss - file["clip.losses"].get(step).double_value(&[])).abs() < 1e-5);
    }
}

#[derive(serde::Deserialize)]
struct Picture {
    width: u32,
    height: u32,
    rgb: String,
}

impl Picture {
    fn decode(&self) -> RgbImage {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&self.rgb).unwrap();
        RgbImage::from_raw(self.width, self.height, bytes).unwrap()
    }
}

#[derive(serde::Deserialize)]
struct AugmentGolden {
    input: Picture,
    cases: BTreeMap<String, Picture>,
}

/// The whole picture, and nothing done to it.
fn nothing(picture: &RgbImage) -> ImageAugment {
    let crop = Crop { left: 0, top: 0, width: picture.width(), height: picture.height() };
    ImageAugment { policy: None, flip: false, crop, jitter: Vec::new(), grayscale: false, blur: None }
}

#[test]
fn image_operations_equal_torchvision_on_pil() {
    let golden: AugmentGolden = serde_json::from_slice(&std::fs::read(golden("augment.json")).unwrap()).unwrap();
    let input = golden.input.decode();
    for (name, expected) in &golden.cases {
        let words: Vec<&str> = name.split(' ').collect();
        let number = |at: usize| words[at].parse::<f32>().unwrap();
        let mut step = nothing(&input);
        // Colour operations round exactly as PIL does; resampling and blur may differ by one level.
        let tolerance = match words[0] {
            "crop" | "blur" => 1,
            // The resampler's 16-bit weights against Pillow's 22-bit ones: at most a level in each of two passes.
            "preprocess" => 2,
            "pipeline" => 3,
            _ => 0,
        };
        match words[0] {
            "brightness" => step.jitter = vec![Jitter::Brightness(number(1))],
            "contrast" => step.jitter = vec![Jitter::Contrast(number(1))],
            "saturation" => step.jitter = vec![Jitter::Saturation(number(1))],
            "hue" => step.jitter = vec![Jitter::Hue(number(1))],
            "grayscale" => step.grayscale = true,
            "blur" => step.blur = Some((21, number(1))),
            "crop" => {
                step.crop = Crop {
                    top: number(1) as u32,
                    left: number(2) as u32,
                    height: number(3) as u32,
                    width: number(4) as u32,
                }
            }
            "pipeline" => {
                step = ImageAugment {
                    policy: None,
                    flip: true,
                    crop: Crop { top: 5, left: 8, height: 40, width: 50 },
                    jitter: vec![
                        Jitter::Saturation(0.6),
                        Jitter::Hue(0.06),
                        Jitter::Brightness(1.3),
                        Jitter::Contrast(0.8),
                    ],
                    grayscale: false,
                    blur: Some((21, 1.1)),
                };
            }
            _ => {}
        }
        let output = match words[0] {
            "preprocess" => preprocess::resize_and_crop(&input, number(1) as u32).unwrap(),
            "crop" | "pipeline" => step.apply(&input, 32).unwrap(),
            _ => {
                let mut output = input.clone();
                step.recolour(&mut output);
                output
            }
        };
        let expected = expected.decode();
        assert_eq!(output.dimensions(), expected.dimensions(), "{name}");
        let worst = output.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= tolerance, "{name}: off by {worst}");
    }
}

/// A loader that is asked for nothing.
fn no_pictures() -> Loader {
    let sample = |key: &str| Sample {
        captions: vec!["none".into()],
        ..Sample::new("data".into(), key, ImageBytes::Memory((*b"").into()))
    };
    let transform = Transform {
        seed: 0,
        image_size: 32,
        resizing: Default::default(),
        limits: ImageLimits::default(),
        views: Default::default(),
        sub_captions: None,
        tokenizer: Arc::new(Tokenizer::new(20, Truncate::default()).unwrap()),
        cache_bytes: 0,
    };
    let pairs = Pairs::new(vec![sample("a"), sample("b")], CaptionMode::First);
    Loader::new(Arc::new(pairs), transform, 2, 1).unwrap()
}

/// Gradients of the learner and of the trigger, and ten steps behind two of the warm-up; the towers stay as they were, to the bit.
#[test]
fn ten_steps_of_prompt_learning_equal_the_pytorch_program() {
    let mut vit = read_safetensors(&golden("vit.safetensors")).unwrap();
    vit.retain(|name, _| name.starts_with("model."));
    let weights: BTreeMap<String, Tensor> = vit
        .iter()
        .map(|(name, tensor)| (name.trim_start_matches("model.").to_owned(), tensor.shallow_clone()))
        .collect();
    let config: ModelConfig = serde_json::from_slice(&std::fs::read(golden("vit.json")).unwrap()).unwrap();
    let model = Clip::new(config, Device::Cpu, 0).unwrap();
    model.load(&golden("vit"), &weights).unwrap();
    model.freeze();
    let file = read_safetensors(&golden("prompt.safetensors")).unwrap();
    let start: BTreeMap<String, Tensor> = file
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("start.")?.to_owned(), tensor.shallow_clone())))
        .collect();
    let (images, labels) = (&file["images"], &file["labels"]);
    let lengths: Vec<i64> = Vec::try_from(&file["end"] + 1 - 4).unwrap();
    for (name, method) in [("badclip", MethodName::Badclip), ("coop", MethodName::Coop)] {
        let attacks = method == MethodName::Badclip;
        let mut tensors = start.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect::<BTreeMap<_, _>>();
        tensors.retain(|name, _| attacks || name == "prompt_learner.ctx");
        let settings = PromptConfig { method, ..PromptConfig::default() };
        let learner = PromptLearner::from_tensors(&model, &tensors).unwrap();
        let trigger = attacks.then(|| UniversalDelta::new(&tensors[DELTA], 8.0 / 255.0, settings.sgd()).unwrap());
        let mut trainer = PromptTrainer {
            model: &model,
            classes: ClassTokens::of_ids(&model, &file["ids"], &lengths, 4),
            loader: no_pictures(),
            labels: vec![0, 0],
            sgd: Sgd::new(learner.tensors(), settings.sgd()),
            learner,
            trigger,
            config: settings,
            target: 1,
            device: Device::Cpu,
            position: PromptPosition { step: 0, epoch: 1, step_in_epoch: 0 },
            tally: PromptTally::default(),
            skips: Default::default(),
        };
        let mut losses = Vec::new();
        for step in 0..if attacks { 2 } else { 0 } {
            trainer.trigger.as_mut().unwrap().rule = DeltaRule::RawGradient { step: 0.1 };
            losses.push(trainer.step(&images.get(step), &labels.get(step), Stage::TriggerWarmup, 0.0).unwrap());
        }
        let first = PromptStep {
            model: &model,
            learner: &trainer.learner,
            classes: &trainer.classes,
            images: &images.get(0),
            labels: &labels.get(0),
            target: 1,
            trigger: trainer.trigger.as_ref(),
        };
        method.method(false).loss(&first).unwrap().backward();
        let mut learned = trainer.learner.tensors();
        learned.extend(trainer.trigger.as_ref().map(|trigger| (DELTA.to_owned(), trigger.values().shallow_clone())));
        assert_eq!(learned.len(), if attacks { 6 } else { 1 });
        for (key, tensor) in &mut learned {
            let wanted = &file[&format!("{name}.gradient.{key}")];
            let largest = wanted.abs().max().double_value(&[]);
            assert!(largest_difference(&tensor.grad(), wanted) < 1e-4 * largest.max(1e-3), "{name} gradient of {key}");
            tensor.zero_grad();
        }
        for step in 0..10 {
            if let Some(trigger) = &mut trainer.trigger {
                trigger.rule = DeltaRule::Sgd { learning_rate: 0.5 };
            }
            losses.push(trainer.step(&images.get(step), &labels.get(step), Stage::Prompts, 0.02).unwrap());
        }
        let wanted: Vec<f64> = Vec::try_from(file[&format!("{name}.losses")].to_kind(Kind::Double)).unwrap();
        assert_eq!(losses.len(), wanted.len());
        for (step, (loss, wanted)) in losses.iter().zip(&wanted).enumerate() {
            assert!((loss - wanted).abs() < 2e-4, "{name} loss of step {step}: {loss} and {wanted}");
        }
        for (key, tensor) in &learned {
            let after = &file[&format!("{name}.after.{key}")];
            assert!(largest_difference(&tensor.detach(), after) < 1e-3, "{name}: {key} after ten steps");
            assert!(largest_difference(&tensor.detach(), &start[key]) > 1e-3, "{name}: {key} has moved");
        }
    }
    for (name, tensor) in model.parameters().all() {
        assert!(tensor.equal(&weights[&name]), "the frozen model's {name} has changed");
    }
}
