//! Gradient search for one patch that moves the image features of a frozen model wherever a loss wants: the optimised patch of the
//! dual-embedding BadCLIP (an attack), and ABD's universal patch (a defence).

use crate::error::{Error, Result, TorchContext};
use crate::model::tensors;
use crate::model::{Clip, unit};
use image::{Rgb, RgbImage};
use roclip_data::batch::View;
use roclip_data::picture::preprocess::{MEAN, STD};
use tch::{Device, Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors, fused_adamw};

/// Where the patch lies on the model's input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub side: u32,
    pub left: u32,
    pub top: u32,
}

impl Place {
    fn check(self, size: u32) -> Result<()> {
        let Place { side, left, top } = self;
        if side == 0 || left + side > size || top + side > size {
            return Err(Error::setting(
                format!("a patch of {side} pixels at ({left}, {top}) on {size} pixels"),
                "make the patch smaller, and not 0, or move it",
            ));
        }
        Ok(())
    }
}

/// What a loss is made of: unit features of one step, `[batch, dim]`, but for the pictures.
pub struct PatchStep<'a> {
    /// Normalised pictures `[batch, 3, size, size]` with the patch on, with graph to it.
    pub triggered_images: &'a Tensor,
    /// With graph to the patch.
    pub triggered: &'a Tensor,
    /// The same pictures without the patch.
    pub plain: &'a Tensor,
    pub text: &'a Tensor,
    /// Scalar.
    pub scale: &'a Tensor,
}

pub struct PatchSearch<'a> {
    model: &'a Clip,
    device: Device,
    place: Place,
    /// `[3, side, side]`, of pixels in `[0, 1]`; clamped when it is laid on.
    patch: Tensor,
    moments: [Tensor; 2],
    steps: Tensor,
    learning_rate: f64,
}

impl<'a> PatchSearch<'a> {
    /// `start` `[3, side, side]`. Freezes `model` for good.
    pub fn new(model: &'a Clip, device: Device, place: Place, start: &Tensor, learning_rate: f64) -> Result<Self> {
        place.check(model.config().image_size())?;
        model.freeze();
        let patch = start.to_device(device).detach().copy().set_requires_grad(true);
        let zeros = || patch.detach().zeros_like();
        let (moments, steps) = ([zeros(), zeros()], Tensor::zeros([], (Kind::Float, device)));
        Ok(PatchSearch { model, device, place, patch, moments, steps, learning_rate })
    }

    /// The next steps lay the patch there.
    pub fn move_to(&mut self, left: u32, top: u32) -> Result<()> {
        let place = Place { left, top, ..self.place };
        place.check(self.model.config().image_size())?;
        self.place = place;
        Ok(())
    }

    /// One step of Adam on `view`, which holds `count` pairs. The loss.
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
        let triggered_images = &self.lay_on(&images);
        let triggered = &unit(&self.model.image_features(triggered_images, false)?);
        let scale = &self.model.scale().detach();
        let value = loss(&PatchStep { triggered_images, triggered, plain: &plain, text: &text, scale })?;
        let number = value.f_double_value(&[]).torch("reading the patch loss")?;
        if !number.is_finite() {
            return Err(Error::Diverged {
                what: "the patch search's loss is not finite".into(),
                remedy: "lower its learning rate or its weights".into(),
            });
        }
        value.backward();
        let gradient = self.patch.grad();
        let _ = self.steps.g_add_scalar_(1.0);
        let [first, second] = &self.moments;
        let tensors = AdamWTensors {
            parameters: vec![&self.patch],
            gradients: vec![&gradient],
            first_moments: vec![first],
            second_moments: vec![second],
            steps: vec![&self.steps],
        };
        let learning_rate = self.learning_rate;
        fused_adamw(&tensors, AdamW { learning_rate, beta1: 0.9, beta2: 0.999, weight_decay: 0.0, epsilon: 1e-8 })?;
        self.patch.zero_grad();
        Ok(number)
    }

    /// `images` `[batch, 3, size, size]`, normalised, with the patch on.
    fn lay_on(&self, images: &Tensor) -> Tensor {
        let size = i64::from(self.model.config().image_size());
        let Place { side, left, top } = self.place;
        let (side, left, top) = (i64::from(side), i64::from(left), i64::from(top));
        let padding = [left, size - left - side, top, size - top - side];
        let constants = |values: &[f32; 3]| Tensor::from_slice(values).view([3, 1, 1]).to_device(self.device);
        let normalised = (self.patch.clamp(0.0, 1.0) - constants(&MEAN)) / constants(&STD);
        let outside = normalised.detach().zeros_like().constant_pad_nd(padding).g_add_scalar(1.0)
            - normalised.detach().ones_like().constant_pad_nd(padding);
        images * outside + normalised.constant_pad_nd(padding)
    }

    /// The patch as a picture of 8-bit pixels.
    pub fn picture(&self) -> Result<RgbImage> {
        let levels = (self.patch.detach().clamp(0.0, 1.0) * 255.0).round().to_kind(Kind::Uint8);
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
