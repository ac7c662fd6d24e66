//! Pictures as a model sees them changed: behind a trigger, a mask, a JPEG, a blur; and what the methods say of them that look at one at a
//! time.

use crate::detect::{InputFeatures, InputMethod, input_scores};
use crate::error::{Error, Result};
use crate::eval::{ImageEncoder, unaltered};
use crate::model::unit;
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::augment::gaussian_blur;
use roclip_data::picture::jpeg_round_trip;
use roclip_data::poison::Backdoor;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::{Skip, SkipReport};
use std::collections::BTreeSet;
use tch::Tensor;

/// Quality of the JPEG that pictures go through.
const QUALITY: u8 = 75;
/// Of a picture's shorter side: the blur's deviation.
const BLUR: f32 = 0.02;
/// Masks of growing size, from nothing to all.
const MASKS: u32 = 11;
/// Cells of a mask in each direction.
const CELLS: u32 = 8;

/// Pictures of one kind, as a model sees them.
pub(super) struct Group {
    /// Of each row below, its place among the samples.
    pub places: Vec<usize>,
    /// Unit features `[pictures, dim]`.
    pub plain: Tensor,
    /// What each of the methods says of this group alone, in their order.
    pub alone: Vec<Vec<f64>>,
    /// What was left out.
    pub skips: SkipReport,
}

/// What sees pictures, and what is asked of them.
pub(super) struct Views<'a> {
    pub encoder: ImageEncoder<'a>,
    pub methods: &'a [InputMethod],
    /// As [`InputFeatures::said`].
    pub said: Option<[Tensor; 2]>,
    /// Unit features of pictures that are known to be clean.
    pub clean: Tensor,
}

/// Unit features of `pictures` as they are, and which of them could not be read.
pub(super) fn plain_features(encoder: &ImageEncoder, pictures: &[Sample]) -> Result<(Tensor, SkipReport)> {
    let seen = encoder.encode(&pictures.iter().collect::<Vec<_>>(), &unaltered)?;
    Ok((unit(&seen.features), seen.skips))
}

impl Views<'_> {
    /// Looks at `samples` as they are, or behind the trigger of `backdoor`. Those that cannot be read, or are too small for the trigger, are
    /// left out.
    pub fn of(&self, samples: &[Sample], backdoor: Option<&Backdoor>) -> Result<Group> {
        let lay = |image: &Sample, picture: RgbImage| match backdoor {
            None => Ok(picture),
            Some(backdoor) => backdoor.lay_on(image, &picture),
        };
        let seen = self.encoder.encode(&samples.iter().collect::<Vec<_>>(), &lay)?;
        let plain = unit(&seen.features);
        let images: Vec<&Sample> = seen.readable.iter().filter_map(|at| samples.get(*at)).collect();
        let after = |change: &(dyn Fn(&Sample, RgbImage) -> std::result::Result<RgbImage, Skip> + Sync)| {
            let changed =
                self.encoder.encode(&images, &|image: &Sample, picture| change(image, lay(image, picture)?))?;
            match changed.readable.len() == images.len() {
                true => Ok(unit(&changed.features)),
                false => Err(Error::setting(
                    format!(
                        "{} of the pictures could be read once, and not again",
                        images.len() - changed.readable.len()
                    ),
                    "look again when nothing changes the files",
                )),
            }
        };
        let asked = |method: InputMethod| self.methods.contains(&method);
        let jpeg = asked(InputMethod::Jpeg).then(|| after(&|_, picture| jpeg_round_trip(&picture, QUALITY)));
        let blurred = asked(InputMethod::Blur).then(|| after(&|_, picture| Ok(blurred(picture))));
        let masked = match asked(InputMethod::GrowingMasks) {
            // The first mask covers nothing.
            true => std::iter::once(Ok(plain.shallow_clone()))
                .chain((1..MASKS).map(|mask| after(&|image, picture| Ok(masked(picture, mask, &image.id)))))
                .collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let features = InputFeatures {
            plain: plain.shallow_clone(),
            clean: self.clean.shallow_clone(),
            jpeg: jpeg.transpose()?,
            blurred: blurred.transpose()?,
            masked,
            said: self.said.as_ref().map(|[a, b]| [a.shallow_clone(), b.shallow_clone()]),
        };
        let alone = self.methods.iter().map(|method| input_scores(*method, &features)).collect::<Result<_>>()?;
        Ok(Group { places: seen.readable, plain, alone, skips: seen.skips })
    }
}

/// Black over so many of `MASKS - 1` parts of the cells of a grid, in an order that the picture's id draws: a mask that has grown over some
/// cells keeps them.
fn masked(mut picture: RgbImage, parts: u32, id: &str) -> RgbImage {
    let (width, height) = picture.dimensions();
    let mut order: Vec<u32> = (0..CELLS * CELLS).collect();
    order.shuffle(&mut random::stream(0, "detect-masks", 0, id));
    let count = (CELLS * CELLS * parts / (MASKS - 1)) as usize;
    let covered: BTreeSet<u32> = order.into_iter().take(count).collect();
    let cell = |at: u32, side: u32| (u64::from(at) * u64::from(CELLS) / u64::from(side.max(1))) as u32;
    let black = image::Rgb([0; 3]);
    let inside = |x: u32, y: u32| covered.contains(&(cell(y, height) * CELLS + cell(x, width)));
    picture.enumerate_pixels_mut().filter(|(x, y, _)| inside(*x, *y)).for_each(|(_, _, pixel)| *pixel = black);
    picture
}

fn blurred(mut picture: RgbImage) -> RgbImage {
    let deviation = (BLUR * picture.width().min(picture.height()) as f32).max(0.5);
    let kernel = 2 * (3.0 * deviation).ceil() as u32 + 1;
    // Reflected borders reach no further than the picture.
    let most = picture.width().min(picture.height()).saturating_sub(1) * 2 + 1;
    gaussian_blur(&mut picture, kernel.min(most), deviation);
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_grow_from_nothing_to_all_and_blurs_take_any_size() {
        let dark = |parts, id: &str| -> BTreeSet<(u32, u32)> {
            let picture = masked(RgbImage::from_pixel(32, 16, image::Rgb([255; 3])), parts, id);
            picture.enumerate_pixels().filter(|(.., pixel)| pixel.0 == [0; 3]).map(|(x, y, _)| (x, y)).collect()
        };
        assert_eq!((dark(0, "a").len(), dark(10, "a").len()), (0, 32 * 16));
        assert!((1..=10).all(|parts| dark(parts - 1, "a").is_subset(&dark(parts, "a"))));
        assert_ne!(dark(5, "a"), dark(5, "b"));
        for (width, height) in [(1, 1), (2, 3), (300, 5)] {
            assert_eq!(blurred(RgbImage::new(width, height)).dimensions(), (width, height));
        }
    }
}
