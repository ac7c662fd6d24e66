//! From a batch on the host to tensors on a device.

use crate::error::{Error, Result};
use crate::model::Clip;
use image::RgbImage;
use roclip_data::batch::View;
use roclip_data::picture::preprocess::{self, MEAN, STD};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// `values` as a tensor of `shape` on `device`. A GPU takes them from pinned memory, and the host goes on meanwhile.
pub(crate) fn on_device<T: Element>(values: &[T], shape: &[i64], device: Device) -> Tensor {
    let pinned = if device.is_cuda() { torch_bridge::pinned(values).ok() } else { None };
    match pinned {
        Some(pinned) => pinned.view(shape).to_device_(device, T::KIND, true, false),
        // Where no memory can be pinned, the copy is waited for.
        None => Tensor::from_slice(values).view(shape).to_device(device),
    }
}

/// `[pictures, 3, side, side]`, normalised, of pictures `[side, side, 3]` one after the other, those of later `parts` behind those of the first.
/// A GPU is sent their bytes, a quarter of the numbers.
pub(crate) fn pictures(parts: &[&[u8]], side: i64, device: Device) -> Tensor {
    if device == Device::Cpu {
        return torch_bridge::planes(parts, side as usize, preprocess::normalised());
    }
    let sent = |part: &&[u8]| on_device(part, &[part.len() as i64 / (3 * side * side), side, side, 3], device);
    normalised(&Tensor::cat(&parts.iter().map(sent).collect::<Vec<_>>(), 0))
}

/// `[pictures, 3, side, side]` of bytes `[pictures, side, side, 3]`, by the arithmetic of [`preprocess::normalised`] where they lie.
fn normalised(bytes: &Tensor) -> Tensor {
    // Tensors, since PyTorch divides by a number as it multiplies by its inverse on a GPU, which is another last bit.
    let numbers = |values: &[f32]| on_device(values, &[values.len() as i64, 1, 1], bytes.device());
    let planes = bytes.permute([0, 3, 1, 2]);
    let mut images = Tensor::empty(planes.size(), (Kind::Float, bytes.device()));
    images.copy_(&planes);
    let _ = images.g_div_(&numbers(&[255.0]));
    let _ = images.g_sub_(&numbers(&MEAN));
    images.g_div_(&numbers(&STD))
}

/// `[batch, 3, size, size]`, normalised, and `[batch, length]` of one view.
pub fn tensors(view: &View, batch: usize, side: i64, device: Device) -> (Tensor, Tensor) {
    let images = pictures(&[&view.images], side, device);
    (images, on_device(&view.tokens, &[batch as i64, view.length as i64], device))
}

/// `[pictures, 3, size, size]`, normalised, of pictures of any size.
///
/// # Errors
/// A picture that cannot be resized.
pub fn pictures_tensor(tower: &Clip, pictures: &[RgbImage]) -> Result<Tensor> {
    let side = tower.config().image_size();
    let mut bytes = Vec::with_capacity(pictures.len() * 3 * (side * side) as usize);
    for picture in pictures {
        let same = picture.dimensions() == (side, side);
        let resized = if same { Ok(picture.clone()) } else { tower.preprocess().resizing.apply(picture, side) };
        let resized = resized.map_err(|skip| Error::internal(format!("resizing a picture: {}", skip.detail)))?;
        bytes.extend_from_slice(&resized);
    }
    Ok(self::pictures(&[&bytes], i64::from(side), tower.scale().device()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let numbers: Vec<f32> = Vec::try_from(tensor.view(-1)).unwrap();
        numbers.into_iter().map(f32::to_bits).collect()
    }

    /// Every value in every channel, on two pictures of two views.
    #[test]
    fn pictures_are_normalised_to_the_bit_wherever_that_is_done() {
        let pixel = |at: usize| [at as u8, (at * 7 + 3) as u8, 255 - at as u8];
        let bytes: Vec<u8> = (0..512).flat_map(pixel).collect();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut wanted = Vec::new();
        [first, second].iter().for_each(|picture| preprocess::normalise_into(picture, &mut wanted));
        let wanted: Vec<u32> = wanted.into_iter().map(f32::to_bits).collect();
        let at_once = pictures(&[&bytes], 16, Device::Cpu);
        assert_eq!(at_once.size(), [2, 3, 16, 16]);
        assert_eq!(bits(&at_once), wanted);
        assert_eq!(bits(&pictures(&[first, second], 16, Device::Cpu)), wanted);
        // What a GPU computes, here.
        assert_eq!(bits(&normalised(&Tensor::from_slice(&bytes).view([2, 16, 16, 3]))), wanted);
        if tch::Cuda::is_available() {
            let there = pictures(&[first, second], 16, Device::Cuda(0));
            assert_eq!((there.size(), bits(&there.to_device(Device::Cpu))), (vec![2, 3, 16, 16], wanted));
        }
    }
}
