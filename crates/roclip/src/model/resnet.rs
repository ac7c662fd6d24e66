//! OpenAI's ResNet (open_clip `ModifiedResNet`): a stem of three convolutions, antialiased strides, attention pooling.

use crate::error::Result;
use crate::model::tower::{ResidualBlock, Tower};
use crate::model::{ModelConfig, Scope, Statistics, extent};
use tch::{Kind, Tensor};

const EXPANSION: i64 = 4;
const BATCH_NORM_MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPSILON: f64 = 1e-5;

struct Conv {
    weight: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv {
    /// PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), which OpenAI leaves in place.
    fn new(scope: &Scope, input: i64, output: i64, kernel: i64, stride: i64) -> Self {
        let fan_in = (input * kernel * kernel) as f64;
        let weight = scope.uniform("weight", &[output, input, kernel, kernel], fan_in.powf(-0.5));
        Conv { weight, stride, padding: kernel / 2 }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.conv2d(&self.weight, None::<&Tensor>, stride, padding, [1, 1], 1)
    }
}

struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
}

impl BatchNorm {
    fn new(scope: &Scope, width: i64, scale: f64) -> Self {
        BatchNorm {
            weight: scope.constant("weight", &[width], scale),
            bias: scope.constant("bias", &[width], 0.0),
            running_mean: scope.buffer("running_mean", Tensor::zeros([width], (Kind::Float, tch::Device::Cpu))),
            running_var: scope.buffer("running_var", Tensor::ones([width], (Kind::Float, tch::Device::Cpu))),
            num_batches_tracked: scope.buffer("num_batches_tracked", Tensor::from(0i64)),
        }
    }

    fn forward(&self, x: &Tensor, statistics: Statistics) -> Result<Tensor> {
        let BatchNorm { weight, bias, running_mean, running_var, num_batches_tracked } = self;
        let epsilon = BATCH_NORM_EPSILON;
        let train = !matches!(statistics, Statistics::Running);
        let momentum = match statistics {
            Statistics::Chunk(Some(chunk)) => chunk.momentum(BATCH_NORM_MOMENTUM),
            Statistics::Chunk(None) | Statistics::WholeBatch { again: true, .. } => 0.0,
            _ => BATCH_NORM_MOMENTUM,
        };
        let ends_batch = match statistics {
            Statistics::Chunk(chunk) => chunk.is_some_and(|chunk| chunk.later == 0.0),
            Statistics::WholeBatch { again, .. } => !again,
            _ => train,
        };
        if ends_batch {
            let _ = num_batches_tracked.shallow_clone().g_add_scalar_(1);
        }
        if let Statistics::WholeBatch { collectives, counts, .. } = statistics {
            let norm = torch_bridge::BatchNorm { weight, bias, running_mean, running_var, momentum, epsilon };
            return collectives.batch_norm(x, &norm, counts);
        }
        let (mean, var) = (Some(running_mean), Some(running_var));
        Ok(x.batch_norm(Some(weight), Some(bias), mean, var, train, momentum, epsilon, true))
    }
}

struct Bottleneck {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Conv,
    bn3: BatchNorm,
    stride: i64,
    downsample: Option<(Conv, BatchNorm)>,
}

/// No gradient needs what a BatchNorm gave, so that it is changed in place.
impl Bottleneck {
    fn new(scope: &Scope, input: i64, planes: i64, stride: i64) -> Self {
        let output = planes * EXPANSION;
        let projects = stride > 1 || input != output;
        let shortcut = scope.child("downsample");
        Bottleneck {
            conv1: Conv::new(&scope.child("conv1"), input, planes, 1, 1),
            bn1: BatchNorm::new(&scope.child("bn1"), planes, 1.0),
            conv2: Conv::new(&scope.child("conv2"), planes, planes, 3, 1),
            bn2: BatchNorm::new(&scope.child("bn2"), planes, 1.0),
            conv3: Conv::new(&scope.child("conv3"), planes, output, 1, 1),
            // Zero makes each block start as the identity (OpenAI's initialisation).
            bn3: BatchNorm::new(&scope.child("bn3"), output, 0.0),
            stride,
            downsample: projects.then(|| {
                (
                    Conv::new(&shortcut.child("0"), input, output, 1, 1),
                    BatchNorm::new(&shortcut.child("1"), output, 1.0),
                )
            }),
        }
    }
}

impl ResidualBlock for Bottleneck {
    fn forward(&self, x: &Tensor, statistics: Statistics) -> Result<Tensor> {
        let out = self.bn1.forward(&self.conv1.forward(x), statistics)?.relu_();
        let out = self.bn2.forward(&self.conv2.forward(&out), statistics)?.relu_();
        let mut out = self.bn3.forward(&self.conv3.forward(&average_pool(&out, self.stride)), statistics)?;
        let identity = match &self.downsample {
            Some((conv, norm)) => norm.forward(&conv.forward(&average_pool(x, self.stride)), statistics)?,
            None => x.shallow_clone(),
        };
        out += identity;
        Ok(out.relu_())
    }
}

/// Average pooling in place of a strided convolution, which would alias.
fn average_pool(x: &Tensor, stride: i64) -> Tensor {
    if stride == 1 {
        x.shallow_clone()
    } else {
        x.avg_pool2d([stride, stride], [stride, stride], [0, 0], false, true, None::<i64>)
    }
}

struct Projection {
    weight: Tensor,
    bias: Tensor,
}

impl Projection {
    fn new(scope: &Scope, input: i64, output: i64) -> Self {
        let std = (input as f64).powf(-0.5);
        Projection {
            weight: scope.normal("weight", &[output, input], std),
            bias: scope.uniform("bias", &[output], std),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Attention pooling: the mean position asks, all positions answer. Only that one query is computed.
struct AttentionPool {
    positional_embedding: Tensor,
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    heads: i64,
}

impl AttentionPool {
    fn new(scope: &Scope, side: i64, width: i64, heads: i64, output: i64) -> Self {
        AttentionPool {
            positional_embedding: scope.normal(
                "positional_embedding",
                &[side * side + 1, width],
                (width as f64).powf(-0.5),
            ),
            key: Projection::new(&scope.child("k_proj"), width, width),
            query: Projection::new(&scope.child("q_proj"), width, width),
            value: Projection::new(&scope.child("v_proj"), width, width),
            output: Projection::new(&scope.child("c_proj"), width, output),
            heads,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.flatten(2, 3).transpose(1, 2).contiguous();
        let mean = x.mean_dim([1i64].as_slice(), true, Kind::Float);
        let x = Tensor::cat(&[mean, x], 1) + &self.positional_embedding;
        let (batch, width) = (extent(&x, 0), extent(&x, 2));
        let split = |t: Tensor| t.view([batch, -1, self.heads, width / self.heads]).transpose(1, 2);
        let query = split(self.query.forward(&x.narrow(1, 0, 1)));
        let (key, value) = (split(self.key.forward(&x)), split(self.value.forward(&x)));
        let pooled =
            Tensor::scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, false, None, false);
        self.output.forward(&pooled.transpose(1, 2).reshape([batch, width]))
    }
}

pub struct ResNet {
    stem: Vec<(Conv, BatchNorm)>,
    blocks: Vec<Bottleneck>,
    /// Blocks of each stage.
    layers: [i64; 4],
    attnpool: AttentionPool,
}

impl ResNet {
    pub fn new(scope: &Scope, config: &ModelConfig, layers: [i64; 4]) -> Self {
        let vision = &config.vision_cfg;
        let width = vision.width;
        let shapes = [(3, width / 2, 2), (width / 2, width / 2, 1), (width / 2, width, 1)];
        let stem = shapes.into_iter().zip(1..).map(|((input, output, stride), n)| {
            let conv = Conv::new(&scope.child(format!("conv{n}")), input, output, 3, stride);
            (conv, BatchNorm::new(&scope.child(format!("bn{n}")), output, 1.0))
        });
        let stem = stem.collect();
        let mut blocks = Vec::new();
        let mut input = width;
        for (stage, depth) in layers.into_iter().enumerate() {
            let planes = width << stage;
            for n in 0..depth {
                let stride = if stage > 0 && n == 0 { 2 } else { 1 };
                blocks.push(Bottleneck::new(
                    &scope.child(format!("layer{}", stage + 1)).child(n),
                    input,
                    planes,
                    stride,
                ));
                input = planes * EXPANSION;
            }
        }
        let pooled = width * 32;
        let attnpool = AttentionPool::new(
            &scope.child("attnpool"),
            vision.image_size / 32,
            pooled,
            pooled / vision.head_width,
            config.embed_dim,
        );
        ResNet { stem, blocks, layers, attnpool }
    }

    /// `[batch, 3, size, size]` to `[batch, embed_dim]`, not normalised.
    pub fn forward(&self, images: &Tensor, statistics: Statistics) -> Result<Tensor> {
        Ok(self.attnpool.forward(&self.trunk(images, statistics)?))
    }

    /// `[batch, 3, size, size]` to the last stage's map `[batch, 32 * width, size / 32, size / 32]`.
    pub fn trunk(&self, images: &Tensor, statistics: Statistics) -> Result<Tensor> {
        self.stage(images, 4, statistics)
    }

    /// The map of the stage `stage` (1 to 4): `[batch, 4 * width * 2^(stage - 1), side, side]`, where `side` is `size / (4 * 2^(stage - 1))`.
    pub fn stage(&self, images: &Tensor, stage: usize, statistics: Statistics) -> Result<Tensor> {
        let blocks = self.layers.iter().take(stage).sum::<i64>() as usize;
        let x = self.stem(images, statistics)?;
        self.blocks.iter().take(blocks).try_fold(x, |x, block| block.forward(&x, statistics))
    }
}

impl Tower for ResNet {
    fn stem(&self, images: &Tensor, statistics: Statistics) -> Result<Tensor> {
        let x = self.stem.iter().try_fold(images.shallow_clone(), |x, (conv, norm)| {
            Ok::<_, crate::error::Error>(norm.forward(&conv.forward(&x), statistics)?.relu_())
        })?;
        Ok(average_pool(&x, 2))
    }

    fn blocks(&self) -> Vec<&dyn ResidualBlock> {
        self.blocks.iter().map(|block| block as &dyn ResidualBlock).collect()
    }

    fn head(&self, x: &Tensor, _images: &Tensor) -> Tensor {
        self.attnpool.forward(x)
    }
}
