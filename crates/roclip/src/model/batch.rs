//! From a batch on the host to tensors on a device.

use roclip_data::batch::View;
use tch::kind::Element;
use tch::{Device, Tensor};

/// `values` as a tensor of `shape` on `device`. A GPU takes them from pinned memory, and the host goes on meanwhile.
pub(crate) fn on_device<T: Element>(values: &[T], shape: &[i64], device: Device) -> Tensor {
    let pinned = if device.is_cuda() { torch_bridge::pinned(values).ok() } else { None };
    match pinned {
        Some(pinned) => pinned.view(shape).to_device_(device, T::KIND, true, false),
        // Where no memory can be pinned, the copy is waited for.
        None => Tensor::from_slice(values).view(shape).to_device(device),
    }
}

/// `[batch, 3, size, size]` and `[batch, length]` of one view.
pub fn tensors(view: &View, batch: usize, side: i64, device: Device) -> (Tensor, Tensor) {
    let images = on_device(&view.images, &[batch as i64, 3, side, side], device);
    (images, on_device(&view.tokens, &[batch as i64, view.length as i64], device))
}
