//! Linear probe. [`ProbeConfig::default`] is the released recipe (RoCLIP repository, `src/evaluate.py`): un-normalised projected
//! image features without augmentation, one linear layer, cross-entropy, AdamW with cosine and no warm-up, no validation.
//! [`Solver::Lbfgs`] is the strong one: standardised features, and the penalty chosen on held-out training images.

use crate::error::{Error, Result, TorchContext};
use crate::eval::Accuracy;
use crate::eval::features::{FeatureKind, ImageEncoder, unaltered};
use crate::eval::per_class::mean_per_class_recall;
use crate::eval::softmax_regression::SoftmaxRegression;
use rand::Rng;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::source::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tch::{Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors};

/// Penalties tried by [`Solver::Lbfgs`], weakest first. On standardised features these span no shrinkage to nearly all.
const L2_GRID: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// One in so many training images chooses the penalty.
const HELD_OUT: i64 = 5;
const LBFGS_ITERATIONS: usize = 100;

/// Which label the probe learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeLabel {
    /// The class.
    #[default]
    Class,
    /// The coarser class, where the source has one.
    Group,
}

/// How the probe is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// By AdamW, as released.
    #[default]
    Adamw,
    /// To the optimum, with the l2 penalty chosen on a fifth of the training images and refitted on all. It uses none of the settings
    /// below.
    Lbfgs,
}

/// A labelled data set for the probe alone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProbeData {
    /// Labelled images that the probe is trained on.
    pub train: SourceConfig,
    /// Labelled images that it is tested on.
    pub test: SourceConfig,
}

/// Linear probe on the features after the last epoch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Which label the probe learns.
    pub label: ProbeLabel,
    /// Images of another data set, as the papers probe on CIFAR-10 and others; those of `data.source` and `eval.source` when absent.
    pub data: Option<ProbeData>,
    /// Which features the probe reads.
    pub features: FeatureKind,
    /// How the probe is fitted.
    pub solver: Solver,
    /// Passes over the features, with `adamw`.
    pub epochs: u64,
    /// Features of a step, with `adamw`.
    pub batch_size: usize,
    /// Peak learning rate, with `adamw`.
    pub learning_rate: f64,
    /// Weight decay of weights, with `adamw`; the bias does not decay.
    pub weight_decay: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        ProbeConfig {
            label: ProbeLabel::Class,
            data: None,
            features: FeatureKind::Projected,
            solver: Solver::Adamw,
            epochs: 32,
            batch_size: 512,
            learning_rate: 5e-3,
            weight_decay: 0.01,
        }
    }
}

/// More passes than any probe needs; above it lies a slip of the pen.
const MOST_EPOCHS: u64 = 100_000;

impl ProbeConfig {
    /// Whether every number can be used.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String, remedy: &str| Err(Error::setting(format!("eval.probe.{what}"), remedy));
        match self {
            Self { epochs, .. } if !(1..=MOST_EPOCHS).contains(epochs) => {
                refuse(format!("epochs is {epochs}"), "set it between 1 and 100000")
            }
            Self { batch_size: 0, .. } => refuse("batch_size is 0".into(), "set at least 1"),
            Self { learning_rate, .. } if !(learning_rate.is_finite() && *learning_rate > 0.0) => {
                refuse(format!("learning_rate is {learning_rate}"), "set a positive number")
            }
            Self { weight_decay, .. } if !(weight_decay.is_finite() && *weight_decay >= 0.0) => {
                refuse(format!("weight_decay is {weight_decay}"), "set 0 or a positive number")
            }
            _ => Ok(()),
        }
    }
}

impl ProbeLabel {
    fn of(self, sample: &Sample) -> Option<&String> {
        match self {
            ProbeLabel::Class => sample.class.as_ref(),
            ProbeLabel::Group => sample.group.as_ref(),
        }
    }
}

/// Whether a probe can be trained on `train` and tested on `test` at all: known before anything is trained.
pub fn check_labels(config: &ProbeConfig, train: &[&Sample], test: &[&Sample]) -> Result<()> {
    let known: BTreeSet<&String> = train.iter().filter_map(|s| config.label.of(s)).collect();
    let testable = test.iter().any(|s| config.label.of(s).is_some_and(|label| known.contains(label)));
    if known.len() >= 2 && testable {
        return Ok(());
    }
    Err(Error::setting(
        "the linear probe has no labels to learn",
        "give training data with classes (data.source.labels or class_column), or eval.probe.data, or remove eval.probe",
    ))
}

/// Accuracy on `test` of a probe trained on `train`; classes are those of `train`, and test images of others are left out. Images that
/// cannot be read are left out and counted; training's own are counted where training meets them.
pub fn linear_probe(
    encoder: ImageEncoder,
    config: &ProbeConfig,
    train: &[&Sample],
    test: &[&Sample],
    seed: u64,
) -> Result<Accuracy> {
    check_labels(config, train, test)?;
    let label = |s: &Sample| config.label.of(s).cloned();
    let device = encoder.model.scale().device();
    let encoder = ImageEncoder { kind: config.features, ..encoder };
    let labelled: Vec<&Sample> = train.iter().copied().filter(|s| label(s).is_some()).collect();
    let (x, train, _) = readable(&encoder, &labelled)?;
    let known: BTreeSet<String> = train.iter().filter_map(|s| label(s)).collect();
    let names: Vec<String> = known.into_iter().collect();
    let testable: Vec<&Sample> =
        test.iter().copied().filter(|s| label(s).is_some_and(|l| names.contains(&l))).collect();
    let (test_x, test, skipped) = readable(&encoder, &testable)?;
    check_labels(config, &train, &test)?;
    let indices = |samples: &[&Sample]| -> Tensor {
        let of = |s: &&Sample| label(s).and_then(|l| names.binary_search(&l).ok()).map_or(0, |at| at as i64);
        Tensor::from_slice(&samples.iter().map(of).collect::<Vec<_>>()).to_device(device)
    };
    let y = indices(&train);
    let classes = names.len() as i64;
    let predicted = match config.solver {
        Solver::Adamw => {
            let (weight, bias) = fit(config, &x, &y, classes, seed)?;
            tch::no_grad(|| test_x.linear(&weight, Some(&bias)).argmax(1, false))
        }
        Solver::Lbfgs => {
            let mean = x.mean_dim([0i64].as_slice(), true, Kind::Double);
            let deviation = x.std_dim([0i64].as_slice(), false, true).to_kind(Kind::Double).clamp_min(1e-6);
            let standard = |x: &Tensor| (x.to_kind(Kind::Double) - &mean) / &deviation;
            strongest(&standard(&x), &y, classes, seed).predict(&standard(&test_x))
        }
    };
    let hits = Vec::<bool>::try_from(predicted.eq_tensor(&indices(&test))).torch("reading the probe's predictions")?;
    let top1 = Rate::new(hits.iter().filter(|hit| **hit).count(), test.len());
    let mean_per_class_recall = mean_per_class_recall(test.iter().map(|s| config.label.of(s)).zip(hits));
    Ok(Accuracy { top1, mean_per_class_recall, skipped })
}

/// Features of the samples that can be read, those samples, and how many cannot.
fn readable<'a>(encoder: &ImageEncoder, samples: &[&'a Sample]) -> Result<(Tensor, Vec<&'a Sample>, usize)> {
    let encoded = encoder.encode(samples, &unaltered)?;
    let read = encoded.readable.iter().filter_map(|at| samples.get(*at).copied()).collect();
    Ok((encoded.features, read, encoded.skips.total()))
}

/// The regression with the penalty that does best on held-out rows (the strongest of equals), refitted on all of them.
fn strongest(x: &Tensor, y: &Tensor, classes: i64, seed: u64) -> SoftmaxRegression {
    let count = x.size().first().copied().unwrap_or(0);
    tch::manual_seed(random::stream(seed, "linear-probe-split", 0, "").next_u64() as i64);
    let order = Tensor::randperm(count, (Kind::Int64, x.device()));
    let held = (count / HELD_OUT).max(1);
    let (held, rest) = (order.narrow(0, 0, held), order.narrow(0, held, count - held));
    let rows = |at: &Tensor| (x.index_select(0, at), y.index_select(0, at));
    let ((fit_x, fit_y), (test_x, test_y)) = (rows(&rest), rows(&held));
    let hits = |l2: &f64| {
        let fitted = SoftmaxRegression::fit(&fit_x, &fit_y, classes, *l2, LBFGS_ITERATIONS);
        fitted.predict(&test_x).eq_tensor(&test_y).sum(Kind::Int64).int64_value(&[])
    };
    let best = L2_GRID.into_iter().max_by_key(hits).unwrap_or(1e-2);
    SoftmaxRegression::fit(x, y, classes, best, LBFGS_ITERATIONS)
}

/// Weight `[classes, dim]` and bias `[classes]`.
fn fit(config: &ProbeConfig, x: &Tensor, y: &Tensor, classes: i64, seed: u64) -> Result<(Tensor, Tensor)> {
    let (count, dim) = x.size2().torch("reading features")?;
    let batch = (config.batch_size as i64).clamp(1, count);
    let steps = count / batch;
    tch::manual_seed(random::stream(seed, "linear-probe", 0, "").next_u64() as i64);
    let bound = (dim as f64).powf(-0.5);
    let init = |shape: &[i64]| {
        (Tensor::rand(shape, (Kind::Float, x.device())) * (2.0 * bound) - bound).set_requires_grad(true)
    };
    let (mut weight, mut bias) = (init(&[classes, dim]), init(&[classes]));
    let moments: Vec<(Tensor, Tensor)> =
        [&weight, &bias].iter().map(|p| (p.detach().zeros_like(), p.detach().zeros_like())).collect();
    let mut step = Tensor::zeros([], (Kind::Float, x.device()));
    let total = (config.epochs as i64 * steps) as f64;
    let task = Task::begin("linear probe", config.epochs as usize, "epochs");
    for epoch in 0..config.epochs as i64 {
        let order = Tensor::randperm(count, (Kind::Int64, x.device()));
        for at in 0..steps {
            let rows = order.narrow(0, at * batch, batch);
            let logits = x.index_select(0, &rows).linear(&weight, Some(&bias));
            logits.cross_entropy_for_logits(&y.index_select(0, &rows)).backward();
            let _ = step.g_add_scalar_(1.0);
            let progress = (epoch * steps + at) as f64 / total;
            let learning_rate = 0.5 * config.learning_rate * (1.0 + (std::f64::consts::PI * progress).cos());
            for ((parameter, (first, second)), weight_decay) in
                [&mut weight, &mut bias].into_iter().zip(&moments).zip([config.weight_decay, 0.0])
            {
                let gradient = parameter.grad();
                let tensors = AdamWTensors {
                    parameters: vec![&*parameter],
                    gradients: vec![&gradient],
                    first_moments: vec![first],
                    second_moments: vec![second],
                    steps: vec![&step],
                };
                torch_bridge::fused_adamw(
                    &tensors,
                    AdamW { learning_rate, beta1: 0.9, beta2: 0.999, weight_decay, epsilon: 1e-8 },
                )?;
                parameter.zero_grad();
            }
        }
        task.advance(1);
    }
    Ok((weight, bias))
}
