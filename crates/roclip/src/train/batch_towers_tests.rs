//! Towers on a batch that is encoded in chunks, or with gradient checkpointing.

use super::*;
use crate::model::ModelConfig;
use crate::objective::known_towers::KnownTowers;
use crate::objective::{
    ClipObjective, LossOutput, Objective, Phase, PoolInit, RoClip, RoClipConfig, RunShape, SafeClip, SafeClipConfig,
    info_nce,
};
use crate::world::World;
use roclip_data::batch::{HostBatch, SubCaptionBatch};
use roclip_data::picture::preprocess::{MEAN, STD};
use roclip_data::skip::SkipReport;
use std::collections::BTreeMap;

const ROWS: usize = 11;
const WORDS: i64 = 16;
const LENGTH: usize = 6;

fn model(name: &str) -> Clip {
    let mut config = ModelConfig::named(name).unwrap();
    config.text_cfg.vocab_size = WORDS;
    let model = Clip::new(config, Device::Cpu, 3).unwrap();
    // Weights that were drawn are replaced: tests that run beside this one draw from libtorch's generator, too.
    tch::no_grad(|| {
        for (seed, (_, weight)) in model.parameters().trainable().into_iter().enumerate() {
            let bound = 2.0 * (weight.size().iter().skip(1).product::<i64>() as f64).powf(-0.5);
            if !weight.max().equal(&weight.min()) {
                let drawn = Tensor::from_slice(&noise(seed, weight.numel())) * bound;
                weight.shallow_clone().copy_(&drawn.view_as(&weight));
            }
        }
    });
    model
}

/// Numbers between -0.5 and 0.5 that look random.
fn noise(seed: usize, count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| ((at * 7 + seed * 13) as f64 * 12.9898).sin() * 43758.5453)
        .map(|x| x.fract() as f32 / 2.0)
        .collect()
}

fn tokens(seed: usize, rows: usize) -> Vec<i64> {
    noise(seed, rows * LENGTH).into_iter().map(|x| ((x + 0.5) * WORDS as f32) as i64).collect()
}

fn batch() -> SharedBatch {
    // Pictures of different colours, so that their features are apart.
    let colours = noise(9, ROWS * 3);
    let picture = |seed| noise(seed, ROWS * 3 * 32 * 32).into_iter().enumerate();
    // The nearest to a normalised number.
    let byte = |number: f32, channel: usize| ((number * STD[channel] + MEAN[channel]) * 255.0).round() as u8;
    let view = |seed| View {
        images: picture(seed).map(|(at, pixel)| byte(pixel + 4.0 * colours[at / 3072 * 3 + at % 3], at % 3)).collect(),
        tokens: tokens(seed, ROWS),
        length: LENGTH,
    };
    let sub_captions = SubCaptionBatch {
        rows: vec![0, 2, 3, 7, 9],
        positive: (tokens(5, 5), LENGTH),
        counterfactual: (tokens(6, 5), LENGTH),
    };
    let own = HostBatch {
        step: 0,
        pairs: (0..ROWS).collect(),
        view: view(1),
        second: Some(view(2)),
        sub_captions: Some(sub_captions),
        skips: SkipReport::default(),
    };
    SharedBatch::new(&World::alone(), own, ROWS, 0).unwrap()
}

fn shape(model: &Clip) -> RunShape {
    RunShape {
        seed: 0,
        epochs: 10,
        pairs: 40,
        batch_size: ROWS,
        embed_dim: model.config().embed_dim,
        learning_rate: 1e-3,
        warmup_steps: 0,
        device: Device::Cpu,
    }
}

fn chunked(encode_batch_size: Option<usize>) -> TrainConfig {
    TrainConfig { encode_batch_size, ..TrainConfig::default() }
}

fn checkpointed(config: TrainConfig) -> TrainConfig {
    TrainConfig { gradient_checkpointing: true, ..config }
}

/// The loss, and all gradients of a new model by name. None where no gradient came.
fn gradients(
    name: &str,
    objective: impl Fn(&Clip) -> Box<dyn Objective>,
    phase: Phase,
    config: &TrainConfig,
) -> (f64, BTreeMap<String, Option<Tensor>>, usize) {
    let (model, batch) = (model(name), batch());
    let mut objective = objective(&model);
    for (name, rows) in objective.state().iter().filter(|(name, _)| name.ends_with(".rows")) {
        let drawn = Tensor::from_slice(&noise(name.len(), rows.numel()));
        rows.shallow_clone().copy_(&unit(&drawn.view_as(rows)));
    }
    let towers = BatchTowers::new(&model, &batch, Device::Cpu, config);
    let loss = objective.loss(phase, &towers).unwrap().loss;
    loss.backward();
    let cached = towers.cached.borrow().len();
    towers.backward().unwrap();
    assert!(towers.cached.borrow().is_empty());
    let gradient = |tensor: Tensor| Some(tensor.grad()).filter(Tensor::defined);
    let found = model.parameters().trainable().into_iter().map(|(name, tensor)| (name, gradient(tensor)));
    (loss.double_value(&[]), found.collect(), cached)
}

/// The largest difference of two gradients, as a share of the largest number of either.
fn farthest(one: &BTreeMap<String, Option<Tensor>>, other: &BTreeMap<String, Option<Tensor>>) -> f64 {
    assert_eq!(one.len(), other.len());
    let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    let (mut difference, mut most) = (0f64, 0f64);
    for ((name, one), (_, other)) in one.iter().zip(other) {
        assert_eq!(one.is_some(), other.is_some(), "{name}");
        if let (Some(one), Some(other)) = (one, other) {
            difference = difference.max(largest(&(one - other)));
            most = most.max(largest(one));
        }
    }
    assert!(most > 1e-3, "gradients of {most}");
    difference / most
}

fn roclip(model: &Clip) -> Box<dyn Objective> {
    let config = RoClipConfig { pool_size: Some(8), pool_init: PoolInit::GaussianUnit, ..RoClipConfig::default() };
    let mut roclip = RoClip::new(config, shape(model)).unwrap();
    roclip.begin_epoch(2, 40, &mut KnownTowers::new(&[], &[])).unwrap();
    Box::new(roclip)
}

fn safeclip(model: &Clip, joint_views: bool) -> Box<dyn Objective> {
    let config = SafeClipConfig { pool_size: Some(16), joint_views, ..SafeClipConfig::default() };
    Box::new(SafeClip::new(config, shape(model)).unwrap())
}

/// A loss of all that towers give, as TA-Cleaner's: both views of pictures and captions, and sub-captions.
struct AllFeatures;

impl Objective for AllFeatures {
    fn name(&self) -> &'static str {
        "all-features"
    }

    fn loss(&mut self, _phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let ([plain, augmented], scale) = (towers.images()?, towers.scale());
        let [first, second] = [towers.text(BatchView::First)?, towers.text(BatchView::Second)?];
        let SubCaptionFeatures { rows, positive, counterfactual } = towers.sub_captions()?.unwrap();
        let some = |features: &Tensor| features.index_select(0, &rows);
        let loss = info_nce(&plain, &first, &scale)
            + info_nce(&augmented, &second, &scale)
            + info_nce(&plain, &augmented, &scale)
            + info_nce(&some(&plain), &positive, &scale)
            + info_nce(&some(&second), &counterfactual, &scale);
        Ok(LossOutput { loss, matches: None })
    }
}

#[test]
fn chunks_are_even_and_never_of_one_row() {
    assert_eq!(chunks(11, 4), [0..3, 3..7, 7..11]);
    assert!([chunks(3, 2), chunks(1, 4), chunks(4, 4)].iter().all(|chunks| chunks.len() == 1));
    for (rows, at_once) in (2..40).flat_map(|rows| (2..12).map(move |at_once| (rows, at_once))) {
        let chunks = chunks(rows, at_once);
        assert_eq!(chunks.iter().cloned().flatten().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
        let most = if at_once == 2 { 3 } else { at_once };
        assert!(chunks.iter().all(|chunk| (2..=most).contains(&chunk.len())), "{rows} by {at_once}: {chunks:?}");
    }
}

type Make = Box<dyn Fn(&Clip) -> Box<dyn Objective>>;

/// Objectives, phases, and how many passes of a tower a gradient comes to.
fn objectives() -> [(Make, Phase, usize); 7] {
    [
        (Box::new(|_| Box::new(ClipObjective::default())), Phase::Clip, 2),
        (Box::new(roclip), Phase::Clip, 2),
        // No gradient reaches the text tower, and it is not passed again.
        (Box::new(roclip), Phase::Matching, 1),
        (Box::new(|model| safeclip(model, false)), Phase::Unimodal, 2),
        (Box::new(|model| safeclip(model, true)), Phase::Unimodal, 2),
        (Box::new(|model| safeclip(model, false)), Phase::Safe, 3),
        (Box::new(|_| Box::new(AllFeatures)), Phase::Clip, 5),
    ]
}

#[test]
fn chunks_give_the_gradient_of_the_whole_batch_to_every_objective() {
    for (objective, phase, passes) in objectives() {
        let (whole, gradient, cached) = gradients("ViT-tiny-32", &objective, phase, &chunked(None));
        assert_eq!(cached, 0);
        for at_once in [2, 4] {
            let (loss, of_chunks, cached) = gradients("ViT-tiny-32", &objective, phase, &chunked(Some(at_once)));
            assert_eq!(cached, passes, "{phase}");
            assert!((loss - whole).abs() < 1e-5, "{phase}: {loss} and {whole}");
            let apart = farthest(&of_chunks, &gradient);
            assert!(apart < 1e-5, "{phase} by {at_once}: {apart:.1e}");
        }
    }
}

/// Of whole batches and of chunks, against the same without it.
#[test]
fn gradient_checkpointing_gives_every_objective_the_same_gradient() {
    for name in ["ViT-tiny-32", "RN-micro-32"] {
        for (objective, phase, passes) in objectives() {
            for at_once in [None, Some(4)] {
                let plain = chunked(at_once);
                let (wanted, gradient, _) = gradients(name, &objective, phase, &plain);
                let (loss, same, cached) = gradients(name, &objective, phase, &checkpointed(plain));
                assert_eq!((loss, cached), (wanted, passes), "{name}, {phase}, {at_once:?}");
                let apart = farthest(&same, &gradient);
                assert!(apart < 1e-6, "{name}, {phase}, {at_once:?}: {apart:.1e}");
            }
        }
    }
}

#[test]
fn gradient_checkpointing_in_bf16_rounds_as_bf16_does_without_it() {
    let clip = |_: &Clip| -> Box<dyn Objective> { Box::new(ClipObjective::default()) };
    for name in ["ViT-tiny-32", "RN-micro-32"] {
        let (exact, _, _) = gradients(name, clip, Phase::Clip, &chunked(None));
        for at_once in [None, Some(4)] {
            let plain = TrainConfig { precision: Precision::Bf16, ..chunked(at_once) };
            let (wanted, gradient, _) = gradients(name, clip, Phase::Clip, &plain);
            let (loss, same, _) = gradients(name, clip, Phase::Clip, &checkpointed(plain));
            assert!(loss == wanted && loss != exact, "{name}: {loss}, {wanted}, {exact}");
            let apart = farthest(&same, &gradient);
            assert!(apart < 1e-6, "{name}, {at_once:?}: {apart:.1e}");
        }
    }
}

/// The blocks that are computed again do not count a second time.
#[test]
fn gradient_checkpointing_moves_the_running_statistics_as_one_pass_does() {
    let moved = |at_once, checkpointing| {
        let (model, batch) = (model("RN-micro-32"), batch());
        let config = TrainConfig { gradient_checkpointing: checkpointing, ..chunked(at_once) };
        let towers = BatchTowers::new(&model, &batch, Device::Cpu, &config);
        ClipObjective::default().loss(Phase::Clip, &towers).unwrap().loss.backward();
        towers.backward().unwrap();
        model.parameters().all()
    };
    let new = model("RN-micro-32").parameters().all();
    for at_once in [None, Some(4)] {
        let (once, again) = (moved(at_once, false), moved(at_once, true));
        let mut changed = 0;
        for (name, tensor) in &again {
            assert!(tensor.equal(once.get(name).unwrap()), "{name}, {at_once:?}");
            changed += usize::from(!tensor.equal(new.get(name).unwrap()));
        }
        assert!(changed > 20, "{changed} running statistics have moved");
    }
}

/// Of a batch that is no larger than what is encoded at once, nothing is cached: not a bit changes.
#[test]
fn a_batch_that_is_encoded_at_once_is_encoded_as_ever() {
    let clip = |_: &Clip| -> Box<dyn Objective> { Box::new(ClipObjective::default()) };
    let (whole, gradient, _) = gradients("RN-micro-32", clip, Phase::Clip, &chunked(None));
    let (loss, same, cached) = gradients("RN-micro-32", clip, Phase::Clip, &chunked(Some(ROWS)));
    assert_eq!((loss, cached), (whole, 0));
    assert_eq!(farthest(&same, &gradient), 0.0);
}

/// The gradient is that of the loss over features of chunks, each with its own statistics; the running ones move once a batch.
#[test]
fn batch_norm_takes_the_statistics_of_chunks_and_updates_the_running_ones_once() {
    let clip = |_: &Clip| -> Box<dyn Objective> { Box::new(ClipObjective::default()) };
    let (loss, of_chunks, _) = gradients("RN-micro-32", clip, Phase::Clip, &chunked(Some(4)));
    let (reference, batch) = (model("RN-micro-32"), batch());
    let towers = BatchTowers::new(&reference, &batch, Device::Cpu, &chunked(None));
    let (images, tokens) = towers.view(BatchView::First).unwrap();
    let part = |rows: Range<usize>| {
        reference.image_features(&images.narrow(0, rows.start as i64, rows.len() as i64), true).unwrap()
    };
    let image = unit(&Tensor::cat(&chunks(ROWS, 4).into_iter().map(part).collect::<Vec<_>>(), 0));
    let wanted = info_nce(&image, &unit(&reference.text_features(tokens)), &reference.scale());
    wanted.backward();
    assert!((wanted.double_value(&[]) - loss).abs() < 1e-5);
    let gradient = reference.parameters().trainable().into_iter().map(|(name, tensor)| (name, Some(tensor.grad())));
    let apart = farthest(&of_chunks, &gradient.collect());
    assert!(apart < 1e-5, "{apart:.1e}");

    let moved = |at_once: Option<usize>| {
        let model = model("RN-micro-32");
        let config = chunked(at_once);
        let towers = BatchTowers::new(&model, &batch, Device::Cpu, &config);
        let loss = ClipObjective::default().loss(Phase::Clip, &towers).unwrap().loss;
        loss.backward();
        let before = model.parameters().all();
        let before: BTreeMap<String, Tensor> =
            before.into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
        towers.backward().unwrap();
        for (name, tensor) in model.parameters().all() {
            assert!(tensor.equal(before.get(&name).unwrap()), "{name} moves when chunks are encoded again");
        }
        before
    };
    let (whole, parts) = (moved(None), moved(Some(4)));
    for (name, of_parts) in &parts {
        let of_whole = whole.get(name).unwrap();
        if name.ends_with("num_batches_tracked") {
            assert_eq!((of_whole.int64_value(&[]), of_parts.int64_value(&[])), (1, 1), "{name}");
        }
        let apart = |limit: f64| {
            let found = (of_parts - of_whole).abs().max().double_value(&[]);
            assert!(found < limit * of_whole.abs().max().double_value(&[]), "{name}: {found}");
        };
        match name.as_str() {
            // What comes into the first layer does not depend on the chunks, so neither does its mean; a variance loses what chunks'
            // means are apart.
            "visual.bn1.running_mean" => apart(1e-5),
            "visual.bn1.running_var" => apart(0.3),
            _ => assert!(of_parts.isfinite().all().int64_value(&[]) == 1, "{name}"),
        }
    }
    let mean = parts.get("visual.bn1.running_mean").unwrap();
    assert!(mean.abs().max().double_value(&[]) > 1e-3, "the running mean has moved: {mean}");
}

#[test]
fn bf16_towers_give_nearly_the_same_gradients_in_thirty_two_bits() {
    let clip = |_: &Clip| -> Box<dyn Objective> { Box::new(ClipObjective::default()) };
    for name in ["ViT-tiny-32", "RN-micro-32"] {
        let (exact, gradient, _) = gradients(name, clip, Phase::Clip, &chunked(None));
        let bf16 = |at_once| TrainConfig { precision: Precision::Bf16, ..chunked(at_once) };
        for at_once in [None, Some(4)].into_iter().take(if name.starts_with("ViT") { 2 } else { 1 }) {
            let (loss, rounded, _) = gradients(name, clip, Phase::Clip, &bf16(at_once));
            assert!(loss != exact && (loss - exact).abs() < 0.02 * exact, "{name}: {loss} and {exact}");
            let (mut product, mut squares) = (0.0, [0.0, 0.0]);
            for (name, rounded) in &rounded {
                let (rounded, exact) = (rounded.as_ref().unwrap(), gradient.get(name).unwrap().as_ref().unwrap());
                assert_eq!(rounded.kind(), Kind::Float, "{name}");
                let dot = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
                product += dot(rounded, exact);
                squares = [squares[0] + dot(rounded, rounded), squares[1] + dot(exact, exact)];
            }
            let cosine = product / (squares[0] * squares[1]).sqrt();
            assert!(cosine > 0.98, "{name}: {cosine}");
        }
    }
}

#[test]
fn pictures_themselves_are_not_handed_out_where_features_are_cached() {
    let (model, batch) = (model("ViT-tiny-32"), batch());
    let inputs =
        |config: &TrainConfig| BatchTowers::new(&model, &batch, Device::Cpu, config).inputs(BatchView::First).is_ok();
    assert!(inputs(&chunked(None)) && !inputs(&chunked(Some(4))) && !inputs(&checkpointed(chunked(None))));
}

/// Pictures become numbers where they are encoded, a chunk at a time: they are those of the whole batch.
#[test]
fn pictures_of_chunks_and_of_both_views_are_those_of_the_whole_batch_to_the_bit() {
    let (model, batch) = (model("ViT-tiny-32"), batch());
    let towers = BatchTowers::new(&model, &batch, Device::Cpu, &chunked(Some(4)));
    let whole = [BatchView::First, BatchView::Second].map(|view| towers.view(view).unwrap().0);
    assert_eq!(whole[0].size(), [ROWS as i64, 3, 32, 32]);
    assert!(!whole[0].equal(whole[1]));
    assert!(towers.shown(Encoded::BothImages, 0..ROWS).unwrap().equal(&Tensor::cat(&whole, 0)));
    let rows = |view: usize| whole[view].narrow(0, 3, 4);
    assert!(towers.shown(Encoded::Image(BatchView::Second), 3..7).unwrap().equal(&rows(1)));
    assert!(towers.shown(Encoded::BothImages, 3..7).unwrap().equal(&Tensor::cat(&[rows(0), rows(1)], 0)));
    assert!(towers.shown(Encoded::BothImages, 9..ROWS + 1).is_err(), "rows that the batch has not");
}

#[test]
fn another_model_sees_the_same_by_chunks() {
    let (model, batch) = (model("ViT-tiny-32"), batch());
    let through = |config: &TrainConfig| {
        BatchTowers::new(&model, &batch, Device::Cpu, config).through(&model, BatchView::Second).unwrap()
    };
    for (whole, parts) in through(&chunked(None)).iter().zip(through(&chunked(Some(3)))) {
        assert!((whole - parts).abs().max().double_value(&[]) < 1e-5);
    }
}
