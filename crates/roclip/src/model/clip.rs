//! CLIP (arXiv 2103.00020): two towers into one space, and a learned temperature.

use crate::error::{Error, Result};
use crate::model::config::VisionLayers;
use crate::model::preprocess::Renormalise;
use crate::model::resnet::ResNet;
use crate::model::text::TextTower;
use crate::model::tower::Tower;
use crate::model::vit::Vit;
use crate::model::{ModelConfig, Parameters, Part, Preprocess, Statistics};
use tch::{Device, Tensor};

enum Vision {
    ResNet(ResNet),
    Vit(Vit),
}

pub struct Clip {
    config: ModelConfig,
    parameters: Parameters,
    vision: Vision,
    text: TextTower,
    logit_scale: Tensor,
    preprocess: Preprocess,
    /// Of a model whose pictures are not normalised as CLIP's.
    renormalise: Option<Renormalise>,
}

impl Clip {
    /// A model with random weights, drawn from libtorch's generator seeded with `seed`. The process keeps what it frees from then on, see
    /// [`torch_bridge::keep_freed_memory`]: not before, since lists that grow while data are read leave a quarter more behind than they hold.
    pub fn new(config: ModelConfig, device: Device, seed: i64) -> Result<Clip> {
        config.check()?;
        torch_bridge::keep_freed_memory();
        tch::manual_seed(seed);
        let parameters = Parameters::new(device);
        let visual = parameters.root(Part::Image).child("visual");
        let vision = match (&config.vision_cfg.layers, config.vision_cfg.patch_size) {
            (VisionLayers::ResNet(layers), _) => Vision::ResNet(ResNet::new(&visual, &config, *layers)),
            (VisionLayers::Vit(layers), Some(patch)) => Vision::Vit(Vit::new(&visual, &config, patch, *layers)),
            (VisionLayers::Vit(_), None) => {
                return Err(Error::setting("a ViT without patch_size", "set vision_cfg.patch_size"));
            }
        };
        let text = TextTower::new(&parameters.root(Part::Text), &config);
        let logit_scale = parameters.root(Part::Scale).constant("logit_scale", &[], (1.0f64 / 0.07).ln());
        Ok(Clip { config, parameters, vision, text, logit_scale, preprocess: Preprocess::default(), renormalise: None })
    }

    /// The model for pictures that are preprocessed so; it is CLIP's preprocessing where nothing else is said.
    pub fn with_preprocess(self, preprocess: Preprocess) -> Clip {
        let renormalise = Renormalise::new(&preprocess, self.parameters.device());
        Clip { preprocess, renormalise, ..self }
    }

    /// What its pictures go through. Their resizing is left to who reads them; their normalisation is not.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// `[batch, 3, size, size]`, normalised as CLIP's, to what the image tower takes.
    pub(crate) fn tower_input(&self, images: &Tensor) -> Result<Tensor> {
        let images = self.renormalise.as_ref().map_or_else(|| images.shallow_clone(), |change| change.apply(images));
        match self.vision {
            Vision::ResNet(_) => Ok(torch_bridge::channels_last(&images)?),
            Vision::Vit(_) => Ok(images),
        }
    }

    /// The image tower, which takes what [`Clip::tower_input`] makes of pictures.
    pub(crate) fn image_tower(&self) -> &dyn Tower {
        match &self.vision {
            Vision::ResNet(resnet) => resnet,
            Vision::Vit(vit) => vit,
        }
    }

    /// The text tower, which takes token ids `[batch, length]`.
    pub(crate) fn text_tower(&self) -> &dyn Tower {
        &self.text
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// No parameter has a gradient from here on, for good; what the model computes still carries those of its inputs.
    pub fn freeze(&self) {
        for parameter in self.parameters.trainable().values() {
            let _ = parameter.set_requires_grad(false);
        }
    }

    /// `[batch, 3, size, size]` to `[batch, embed_dim]`, not normalised. The pictures are normalised as CLIP's, whatever the
    /// model expects. `train` decides BatchNorm's statistics.
    pub fn image_features(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self.image_features_by(images, Statistics::of_process(train))
    }

    /// [`Clip::image_features`] with BatchNorm's statistics from where it is said.
    pub fn image_features_by(&self, images: &Tensor, statistics: Statistics) -> Result<Tensor> {
        let images = &self.tower_input(images)?;
        match &self.vision {
            Vision::ResNet(resnet) => resnet.forward(images, statistics),
            Vision::Vit(vit) => Ok(vit.forward(images)),
        }
    }

    /// `[batch, 3, size, size]` to the image tower's features before the projection: the mean over positions of a ResNet's
    /// last stage `[batch, 32 * width]`, a ViT's class token after its last norm `[batch, width]`. Evaluation mode.
    pub fn pooled_image_features(&self, images: &Tensor) -> Result<Tensor> {
        let images = &self.tower_input(images)?;
        Ok(match &self.vision {
            Vision::ResNet(resnet) => {
                let positions = resnet.trunk(images, Statistics::Running)?;
                positions.mean_dim([2i64, 3].as_slice(), false, tch::Kind::Float)
            }
            Vision::Vit(vit) => vit.class_token(images),
        })
    }

    /// `[batch, 3, size, size]` to the places of [`ModelConfig::grid`], row by row: `[batch, side * side, channels]`. A ViT's patches come
    /// after its last norm, and `stage` is a ResNet's. `train` decides BatchNorm's statistics.
    pub fn grid_features(&self, images: &Tensor, stage: usize, train: bool) -> Result<Tensor> {
        let images = &self.tower_input(images)?;
        Ok(match &self.vision {
            Vision::ResNet(resnet) => {
                let statistics = Statistics::of_process(train);
                let places = resnet.stage(images, stage, statistics)?;
                places.flatten(2, 3).transpose(1, 2)
            }
            Vision::Vit(vit) => vit.patches(images),
        })
    }

    /// `[batch, length]` token ids to `[batch, embed_dim]`, not normalised.
    pub fn text_features(&self, tokens: &Tensor) -> Tensor {
        self.text.forward(tokens)
    }

    /// Token ids of any shape to the text tower's token embeddings, with one dimension more: `text_cfg.width`.
    pub fn token_embeddings(&self, tokens: &Tensor) -> Tensor {
        self.text.embed(tokens)
    }

    /// [`Clip::text_features`] of token embeddings `[batch, length, width]`, read at the positions `end` `[batch]`.
    pub fn text_features_embedded(&self, embedded: &Tensor, end: &Tensor) -> Tensor {
        self.text.forward_embedded(embedded, end)
    }

    /// `exp(logit_scale)`, with gradient.
    pub fn scale(&self) -> Tensor {
        self.logit_scale.exp()
    }

    /// Keeps the scale in [1, 100], after each optimizer step.
    pub fn clamp_scale(&self) {
        tch::no_grad(|| {
            let _ = self.logit_scale.shallow_clone().clamp_(0.0, 100f64.ln());
        });
    }
}

/// Rows of length one; `features` `[batch, dim]`.
pub fn unit(features: &Tensor) -> Tensor {
    let norm = features.norm_scalaropt_dim(2, [-1i64], true);
    features / norm.clamp_min(1e-12)
}
