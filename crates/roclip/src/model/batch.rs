//! From a batch on the host to tensors on a device.

use roclip_data::batch::View;
use tch::{Device, Tensor};

/// `[batch, 3, size, size]` and `[batch, length]` of one view.
pub fn tensors(view: &View, batch: usize, side: i64, device: Device) -> (Tensor, Tensor) {
    let images = Tensor::from_slice(&view.images).view([batch as i64, 3, side, side]).to_device(device);
    let tokens = Tensor::from_slice(&view.tokens).view([batch as i64, view.length as i64]).to_device(device);
    (images, tokens)
}
