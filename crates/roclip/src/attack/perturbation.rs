//! What an attacker optimises so that a frozen model's image features move wherever a loss wants, and the search for it: the optimised
//! patch of the dual-embedding BadCLIP (an attack), and ABD's universal patch (a defence).

use crate::error::{Error, Result, TorchContext};
use crate::model::tensors;
use crate::model::{Clip, unit};
use image::{Rgb, RgbImage};
use roclip_data::batch::View;
use roclip_data::picture::preprocess::{MEAN, STD};
use tch::{Device, Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors, fused_adamw};

/// A change to pictures that a gradient improves.
pub trait Perturbation {
    /// Normalised pictures `[batch, 3, size, size]` with the change, with graph to it.
    fn apply(&self, images: &Tensor) -> Tensor;

    /// Moves by the gradient that a loss left, and forgets it. What may not be is projected back, here or in [`Perturbation::apply`].
    fn update(&mut self) -> Result<()>;
}

/// The place of the patch on the model's input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub side: u32,
    pub left: u32,
    pub top: u32,
}

impl Place {
    fn check(self, size: u32) -> Result<()> {
        let Place { side, left, top } = self;
        let outside = |from: u32| from.checked_add(side).is_none_or(|to| to > size);
        if side == 0 || outside(left) || outside(top) {
            return Err(Error::setting(
                format!("a patch of {side} pixels at ({left}, {top}) on {size} pixels"),
                "make the patch smaller, and not 0, or move it",
            ));
        }
        Ok(())
    }
}

/// A square of free pixels at a place, improved by Adam.
pub struct Patch {
    place: Place,
    /// Of the pictures it is laid on.
    image_size: u32,
    /// `[3, side, side]`, of pixels in `[0, 1]`; clamped when it is laid on.
    pixels: Tensor,
    moments: [Tensor; 2],
    steps: Tensor,
    learning_rate: f64,
}

impl Patch {
    /// `start` `[3, side, side]`, on the model's device.
    pub fn new(place: Place, image_size: u32, start: &Tensor, learning_rate: f64) -> Result<Self> {
        place.check(image_size)?;
        let pixels = start.detach().copy().set_requires_grad(true);
        let zeros = || pixels.detach().zeros_like();
        let (moments, steps) = ([zeros(), zeros()], Tensor::zeros([], (Kind::Float, pixels.device())));
        Ok(Patch { place, image_size, pixels, moments, steps, learning_rate })
    }

    /// The next steps lay it there.
    pub fn move_to(&mut self, left: u32, top: u32) -> Result<()> {
        let place = Place { left, top, ..self.place };
        place.check(self.image_size)?;
        self.place = place;
        Ok(())
    }

    /// As a picture of 8-bit pixels.
    pub fn picture(&self) -> Result<RgbImage> {
        let levels = (self.pixels.detach().clamp(0.0, 1.0) * 255.0).round().to_kind(Kind::Uint8);
        let planes: Vec<u8> =
            Vec::try_from(levels.permute([1, 2, 0]).contiguous().view(-1)).torch("reading the patch")?;
        let mut pixels = planes.chunks_exact(3);
        let mut picture = RgbImage::new(self.place.side, self.place.side);
        for pixel in picture.pixels_mut() {
            if let Some(&[red, green, blue]) = pixels.next() {
                *pixel = Rgb([red, green, blue]);
            }
        }
        Ok(picture)
    }
}

impl Perturbation for Patch {
    fn apply(&self, images: &Tensor) -> Tensor {
        let [size, side, left, top] =
            [self.image_size, self.place.side, self.place.left, self.place.top].map(i64::from);
        let padding = [left, size - left - side, top, size - top - side];
        let constants = |values: &[f32; 3]| Tensor::from_slice(values).view([3, 1, 1]).to_device(self.pixels.device());
        let normalised = (self.pixels.clamp(0.0, 1.0) - constants(&MEAN)) / constants(&STD);
        let outside = normalised.detach().zeros_like().constant_pad_nd(padding).g_add_scalar(1.0)
            - normalised.detach().ones_like().constant_pad_nd(padding);
        images * outside + normalised.constant_pad_nd(padding)
    }

    fn update(&mut self) -> Result<()> {
        let gradient = self.pixels.grad();
        let _ = self.steps.g_add_scalar_(1.0);
        let [first, second] = &self.moments;
        let tensors = AdamWTensors {
            parameters: vec![&self.pixels],
            gradients: vec![&gradient],
            first_moments: vec![first],
            second_moments: vec![second],
            steps: vec![&self.steps],
        };
        let learning_rate = self.learning_rate;
        fused_adamw(&tensors, AdamW { learning_rate, beta1: 0.9, beta2: 0.999, weight_decay: 0.0, epsilon: 1e-8 })?;
        self.pixels.zero_grad();
        Ok(())
    }
}

/// The inputs of a loss: unit features of one step, `[batch, dim]`, and the pictures.
pub struct PatchStep<'a> {
    /// Normalised pictures `[batch, 3, size, size]` with the change, with graph to it.
    pub triggered_images: &'a Tensor,
    /// With graph to the change.
    pub triggered: &'a Tensor,
    /// The same pictures without it.
    pub plain: &'a Tensor,
    pub text: &'a Tensor,
    /// Scalar.
    pub scale: &'a Tensor,
}

/// Improves a perturbation of the pictures that a frozen model sees.
pub struct PatchSearch<'a, P> {
    model: &'a Clip,
    device: Device,
    pub perturbation: P,
}

impl<'a, P: Perturbation> PatchSearch<'a, P> {
    /// Freezes `model` for good.
    pub fn new(model: &'a Clip, device: Device, perturbation: P) -> Self {
        model.freeze();
        PatchSearch { model, device, perturbation }
    }

    /// One step on `view`, which holds `count` pairs. The loss.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn step(
        &mut self,
        view: &View,
        count: usize,
        loss: &mut dyn FnMut(&PatchStep) -> Result<Tensor>,
    ) -> Result<f64> {
        let (images, tokens) = tensors(view, count, i64::from(self.model.config().image_size()), self.device);
        let (plain, text) = tch::no_grad(|| -> Result<_> {
            Ok((unit(&self.model.image_features(&images, false)?), unit(&self.model.text_features(&tokens))))
        })?;
        let triggered_images = &self.perturbation.apply(&images);
        let triggered = &unit(&self.model.image_features(triggered_images, false)?);
        let scale = &self.model.scale().detach();
        let value = loss(&PatchStep { triggered_images, triggered, plain: &plain, text: &text, scale })?;
        let number = value.f_double_value(&[]).torch("reading the patch loss")?;
        if !number.is_finite() {
            return Err(Error::Diverged {
                what: "the patch search's loss is not finite".into(),
                remedy: "lower its learning rate or its weights".into(),
                samples: Vec::new(),
            });
        }
        value.backward();
        self.perturbation.update()?;
        Ok(number)
    }
}
