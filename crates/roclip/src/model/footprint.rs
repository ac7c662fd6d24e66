//! What a model takes before it is made: its weights, and what its image tower keeps of a picture until the gradient has come back.

use crate::model::{ModelConfig, VisionLayers};

impl ModelConfig {
    /// Weights of the model, norms and biases left out.
    pub fn weights(&self) -> f64 {
        let (vision, text) = (&self.vision_cfg, &self.text_cfg);
        let transformer = |width: f64, layers: i64| 12.0 * width * width * layers as f64;
        let (dim, text_width, width) = (self.embed_dim as f64, text.width as f64, vision.width as f64);
        let rows = (text.vocab_size + text.context_length) as f64 + dim;
        let image = match (vision.layers, vision.patch_size) {
            (VisionLayers::ResNet(stages), _) => {
                // A bottleneck block of `planes` has 1 x 1, 3 x 3 and 1 x 1 convolutions: 4 + 9 + 4 times its square.
                let planes = |stage: usize| width * f64::from(1 << stage);
                let blocks: f64 =
                    stages.iter().enumerate().map(|(at, depth)| 17.0 * planes(at).powi(2) * *depth as f64).sum();
                let pooled = 32.0 * width;
                let positions = (vision.image_size as f64 / 32.0).powi(2);
                blocks + pooled * (3.0 * pooled + dim + positions)
            }
            (VisionLayers::Vit(layers), patch) => {
                let patch = patch.unwrap_or(1) as f64;
                let positions = (vision.image_size as f64 / patch).powi(2);
                width * (3.0 * patch * patch + positions + dim) + transformer(width, layers)
            }
        };
        image + text_width * rows + transformer(text_width, text.layers)
    }

    /// Numbers that the image tower keeps of each picture for its gradient, at least: the output of every convolution or product, and of
    /// every activation. What is held for a moment comes on top.
    pub fn kept_of_a_picture(&self) -> f64 {
        let vision = &self.vision_cfg;
        let (side, width) = (vision.image_size as f64, vision.width as f64);
        match (vision.layers, vision.patch_size) {
            (VisionLayers::ResNet(stages), _) => {
                // Three convolutions at half the side, of half, half and all of the width.
                let mut kept = 4.0 * width * (side / 2.0).powi(2);
                for (at, blocks) in stages.into_iter().enumerate() {
                    let planes = width * f64::from(1 << at);
                    let places = (side / f64::from(4 << at)).powi(2);
                    // Of a block: two narrow convolutions with their activations, a wide one, and the sum's activation.
                    kept += 12.0 * planes * places * blocks as f64;
                }
                kept
            }
            (VisionLayers::Vit(layers), patch) => {
                let tokens = (side / patch.unwrap_or(1) as f64).powi(2) + 1.0;
                // Of a block: two norms and sums, query, key, value and what attention gives; the wide product and its activation.
                tokens * width * layers as f64 * (2.0 + 2.0 + 4.0 + 8.0)
            }
        }
    }

    /// [`ModelConfig::kept_of_a_picture`] with gradient checkpointing: what goes into each block and into the head, and what one block keeps.
    pub fn kept_with_checkpointing(&self) -> f64 {
        let vision = &self.vision_cfg;
        let (side, width) = (vision.image_size as f64, vision.width as f64);
        match (vision.layers, vision.patch_size) {
            (VisionLayers::ResNet(stages), _) => {
                let map = |stage: usize, channels: f64| channels * (side / f64::from(4 << stage)).powi(2);
                let mut taken = map(0, width);
                for (at, blocks) in stages.into_iter().enumerate() {
                    taken += map(at, 4.0 * width * f64::from(1 << at)) * blocks as f64;
                }
                // The blocks of the first stage keep most, or the stem does.
                taken + map(0, 12.0 * width).max(4.0 * width * (side / 2.0).powi(2))
            }
            (VisionLayers::Vit(layers), patch) => {
                let tokens = (side / patch.unwrap_or(1) as f64).powi(2) + 1.0;
                tokens * width * (layers as f64 + 1.0 + 16.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_takes_what_was_measured_at_most() {
        // A step of RN50 takes about 170 MB a picture more with every picture of the batch, one of ViT-B-32 about 45 MB.
        for (name, least, most) in [("RN50", 60e6, 170e6), ("ViT-B-32", 20e6, 60e6)] {
            let bytes = 4.0 * ModelConfig::named(name).unwrap().kept_of_a_picture();
            assert!((least..most).contains(&bytes), "{name}: {bytes}");
        }
    }
}
