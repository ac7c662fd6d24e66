//! What a triggered picture may go through before it reaches the model. Pictures are stored with 8 bits a channel first, as files are; the
//! released evaluation adds the trigger to float tensors and does not.

use crate::error::{Error, Result, TorchContext};
use fast_image_resize::FilterType;
use image::RgbImage;
use roclip_data::augment::{brightness, gaussian_blur, saturation};
use roclip_data::picture::jpeg_round_trip;
use roclip_data::picture::preprocess::{self, MEAN, STD};
use roclip_data::skip::Skip;
use tch::{Kind, Tensor};

type Treat = fn(RgbImage) -> std::result::Result<RgbImage, Skip>;

/// By name.
pub const TREATMENTS: [(&str, Treat); 9] = [
    ("8-bit", Ok),
    ("jpeg-90", |picture| jpeg_round_trip(&picture, 90)),
    ("jpeg-70", |picture| jpeg_round_trip(&picture, 70)),
    ("blur-0.5", |picture| Ok(blurred(picture, 0.5))),
    ("blur-1.0", |picture| Ok(blurred(picture, 1.0))),
    ("resize-0.95", |picture| resized(&picture, 0.95)),
    ("resize-0.75", |picture| resized(&picture, 0.75)),
    ("colour-0.9", |mut picture| {
        saturation(&mut picture, 0.9);
        Ok(picture)
    }),
    ("brightness-0.9", |mut picture| {
        brightness(&mut picture, 0.9);
        Ok(picture)
    }),
];

fn blurred(mut picture: RgbImage, sigma: f32) -> RgbImage {
    gaussian_blur(&mut picture, 2 * (3.0 * sigma).ceil() as u32 + 1, sigma);
    picture
}

/// To a share of its sides and back, bicubic.
fn resized(picture: &RgbImage, share: f64) -> std::result::Result<RgbImage, Skip> {
    let (width, height) = picture.dimensions();
    let side = |length: u32| ((f64::from(length) * share).round() as u32).max(1);
    let small = preprocess::resize(picture, side(width), side(height), FilterType::CatmullRom)?;
    preprocess::resize(&small, width, height, FilterType::CatmullRom)
}

/// `images` `[batch, 3, size, size]`, normalised, after `treat`.
///
/// # Errors
/// A picture that cannot be encoded.
pub fn treated(images: &Tensor, treat: Treat) -> Result<Tensor> {
    let device = images.device();
    let [batch, _, height, width] = <[i64; 4]>::try_from(images.size().as_slice())
        .map_err(|_| Error::internal("pictures are [batch, 3, size, size]"))?;
    let channels = |values: &[f32; 3]| Tensor::from_slice(values).view([3, 1, 1]).to_device(device);
    let levels = ((images * channels(&STD) + channels(&MEAN)) * 255.0).round().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let bytes: Vec<u8> = Vec::try_from(levels.permute([0, 2, 3, 1]).contiguous().view(-1)).torch("reading pictures")?;
    let mut values = Vec::with_capacity(bytes.len());
    for picture in bytes.chunks_exact((3 * height * width).max(1) as usize) {
        let picture = RgbImage::from_raw(width as u32, height as u32, picture.to_vec())
            .ok_or_else(|| Error::internal("a picture of another size"))?;
        let picture =
            treat(picture).map_err(|skip| Error::internal(format!("a picture of the model's size: {skip:?}")))?;
        preprocess::normalise_into(&picture, &mut values);
    }
    Ok(Tensor::from_slice(&values).view([batch, 3, height, width]).to_device(device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn eight_bits_move_a_picture_by_half_a_level_and_the_others_more() {
        tch::manual_seed(0);
        let images = Tensor::rand([2, 3, 16, 16], (Kind::Float, Device::Cpu)) - 0.5;
        let change = |name: &str| {
            let (_, treat) = TREATMENTS.iter().find(|known| known.0 == name).unwrap();
            let std = Tensor::from_slice(&STD).view([3, 1, 1]);
            ((treated(&images, *treat).unwrap() - &images) * std * 255.0).abs().max().double_value(&[])
        };
        assert!((0.3..=0.51).contains(&change("8-bit")), "{}", change("8-bit"));
        for (name, _) in TREATMENTS.iter().skip(1) {
            assert!(change(name) > 1.0, "{name}");
        }
        assert!(change("jpeg-70") > change("jpeg-90"));
    }
}
