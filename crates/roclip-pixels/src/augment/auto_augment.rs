//! AutoAugment's ImageNet policy (arXiv 1805.09501) as torchvision applies it to PIL images (`AutoAugment()`: nearest interpolation,
//! black fill), which is what CleanCLIP's second view uses (repository nishadsinghi/CleanCLIP, `utils/augment_image.py`).
//!
//! Drawing and applying are apart, as in [`crate::augment::ImageAugment`]: [`draw`] decides, [`Operation::apply`] is a pure
//! function that the golden file checks.

use crate::augment::color;
use image::{Rgb, RgbImage};
use rand::RngExt;

/// One operation with its strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// Tangent of the angle.
    ShearX(f64),
    /// Degrees, counter-clockwise.
    Rotate(f64),
    /// Factors of PIL's enhancers.
    Color(f32),
    Contrast(f32),
    Sharpness(f32),
    /// Bits kept.
    Posterize(u8),
    /// Values from this on are inverted.
    Solarize(f32),
    AutoContrast,
    Equalize,
    Invert,
}

/// An operation before its sign is drawn.
#[derive(Clone, Copy)]
enum Kind {
    ShearX,
    Rotate,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

/// `(operation, probability, magnitude bin)`; bins are 0 where an operation has no magnitude.
type Step = (Kind, f64, u8);

/// The 25 sub-policies.
const POLICY: [[Step; 2]; 25] = {
    use Kind::*;
    [
        [(Posterize, 0.4, 8), (Rotate, 0.6, 9)],
        [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
        [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
        [(Posterize, 0.6, 7), (Posterize, 0.6, 6)],
        [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
        [(Equalize, 0.4, 0), (Rotate, 0.8, 8)],
        [(Solarize, 0.6, 3), (Equalize, 0.6, 0)],
        [(Posterize, 0.8, 5), (Equalize, 1.0, 0)],
        [(Rotate, 0.2, 3), (Solarize, 0.6, 8)],
        [(Equalize, 0.6, 0), (Posterize, 0.4, 6)],
        [(Rotate, 0.8, 8), (Color, 0.4, 0)],
        [(Rotate, 0.4, 9), (Equalize, 0.6, 0)],
        [(Equalize, 0.0, 0), (Equalize, 0.8, 0)],
        [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
        [(Color, 0.6, 4), (Contrast, 1.0, 8)],
        [(Rotate, 0.8, 8), (Color, 1.0, 2)],
        [(Color, 0.8, 8), (Solarize, 0.8, 7)],
        [(Sharpness, 0.4, 7), (Invert, 0.6, 0)],
        [(ShearX, 0.6, 5), (Equalize, 1.0, 0)],
        [(Color, 0.4, 0), (Equalize, 0.6, 0)],
        [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
        [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
        [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
        [(Color, 0.6, 4), (Contrast, 1.0, 8)],
        [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
    ]
};

/// Draws a sub-policy and which of its two operations happen.
pub fn draw(random: &mut impl rand::Rng) -> Vec<Operation> {
    let at = random.random_range(0..POLICY.len());
    let mut operations = Vec::new();
    for (kind, probability, bin) in POLICY.into_iter().nth(at).into_iter().flatten() {
        // The sign is drawn whether it is used or not, so that draws stay in step.
        let (happens, negative) = (random.random::<f64>() <= probability, random.random::<bool>());
        if happens {
            operations.push(operation(kind, bin, negative));
        }
    }
    operations
}

fn operation(kind: Kind, bin: u8, negative: bool) -> Operation {
    let sign = if negative { -1.0 } else { 1.0 };
    let share = f64::from(bin) / 9.0;
    let enhance = (1.0 + sign * 0.9 * share) as f32;
    match kind {
        Kind::ShearX => Operation::ShearX(sign * 0.3 * share),
        Kind::Rotate => Operation::Rotate(sign * 30.0 * share),
        Kind::Color => Operation::Color(enhance),
        Kind::Contrast => Operation::Contrast(enhance),
        Kind::Sharpness => Operation::Sharpness(enhance),
        Kind::Posterize => Operation::Posterize(8 - (f64::from(bin) / 2.25).round_ties_even() as u8),
        Kind::Solarize => Operation::Solarize((255.0 * (1.0 - share)) as f32),
        Kind::AutoContrast => Operation::AutoContrast,
        Kind::Equalize => Operation::Equalize,
        Kind::Invert => Operation::Invert,
    }
}

impl Operation {
    pub fn apply(&self, picture: &RgbImage) -> RgbImage {
        let mut out = picture.clone();
        match *self {
            Operation::ShearX(tangent) => return affine(picture, [1.0, tangent, 0.0, 0.0, 1.0, 0.0]),
            Operation::Rotate(degrees) => return rotate(picture, degrees),
            Operation::Color(factor) => color::saturation(&mut out, factor),
            Operation::Contrast(factor) => color::contrast(&mut out, factor),
            Operation::Sharpness(factor) => sharpness(&mut out, factor),
            Operation::Posterize(bits) => {
                let mask = !(((1u16 << (8 - bits.min(8))) - 1) as u8);
                out.iter_mut().for_each(|value| *value &= mask);
            }
            Operation::Solarize(threshold) => {
                out.iter_mut().filter(|value| f32::from(**value) >= threshold).for_each(|value| *value = 255 - *value);
            }
            Operation::AutoContrast => by_channel(&mut out, auto_contrast_table),
            Operation::Equalize => by_channel(&mut out, equalize_table),
            Operation::Invert => out.iter_mut().for_each(|value| *value = 255 - *value),
        }
        out
    }
}

/// PIL's `Image.transform(AFFINE, NEAREST)`, black outside: 16.16 fixed point, sampled at pixel centres.
fn affine(picture: &RgbImage, [a, b, c, d, e, f]: [f64; 6]) -> RgbImage {
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let (step_x, row_x, start_x) = (fixed(a), fixed(b), fixed(c + 0.5 * a + 0.5 * b));
    let (step_y, row_y, start_y) = (fixed(d), fixed(e), fixed(f + 0.5 * d + 0.5 * e));
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        let from_x = (start_x + y * row_x + x * step_x) >> 16;
        let from_y = (start_y + y * row_y + x * step_y) >> 16;
        let inside = u32::try_from(from_x).ok().zip(u32::try_from(from_y).ok());
        inside.and_then(|(x, y)| picture.get_pixel_checked(x, y)).copied().unwrap_or(Rgb([0; 3]))
    })
}

/// PIL's `Image.rotate`.
fn rotate(picture: &RgbImage, degrees: f64) -> RgbImage {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    let exact = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let (cos, sin) = (exact(angle.cos()), exact(angle.sin()));
    let (x, y) = (f64::from(picture.width()) / 2.0, f64::from(picture.height()) / 2.0);
    affine(picture, [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])
}

/// `ImageEnhance.Sharpness`: towards PIL's SMOOTH filter, whose border is the picture's own.
fn sharpness(picture: &mut RgbImage, factor: f32) {
    let original = picture.clone();
    let (width, height) = original.dimensions();
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let border = x == 0 || y == 0 || x + 1 >= width || y + 1 >= height;
        for (channel, value) in pixel.0.iter_mut().enumerate() {
            let at = |dx: u32, dy: u32| {
                let near = original.get_pixel_checked(x + dx - 1, y + dy - 1);
                near.and_then(|p| p.0.get(channel)).map_or(0.0, |v| f32::from(*v))
            };
            let smooth = if border {
                f32::from(*value)
            } else {
                let around: f32 = (0..3).flat_map(|dy| (0..3).map(move |dx| (dx, dy))).map(|(dx, dy)| at(dx, dy)).sum();
                ((around + 4.0 * at(1, 1)) / 13.0 + 0.5).floor()
            };
            *value = (smooth + factor * (f32::from(*value) - smooth)).clamp(0.0, 255.0) as u8;
        }
    }
}

/// Maps each channel through the table made of its histogram.
fn by_channel(picture: &mut RgbImage, table: fn(&[u64; 256]) -> [u8; 256]) {
    for channel in 0..3 {
        let mut histogram = [0u64; 256];
        for value in picture.iter().skip(channel).step_by(3) {
            if let Some(count) = histogram.get_mut(usize::from(*value)) {
                *count += 1;
            }
        }
        let table = table(&histogram);
        for value in picture.iter_mut().skip(channel).step_by(3) {
            *value = table.get(usize::from(*value)).copied().unwrap_or(*value);
        }
    }
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// `ImageOps.autocontrast`: the darkest value becomes 0, the brightest 255.
fn auto_contrast_table(histogram: &[u64; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|count| *count > 0);
    let high = histogram.iter().rposition(|count| *count > 0);
    let (Some(low), Some(high)) = (low, high) else { return identity() };
    if high <= low {
        return identity();
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|value| (value as f64 * scale + offset).clamp(0.0, 255.0) as u8)
}

/// `ImageOps.equalize`.
fn equalize_table(histogram: &[u64; 256]) -> [u8; 256] {
    let present: Vec<u64> = histogram.iter().copied().filter(|count| *count > 0).collect();
    let step = present.iter().take(present.len().saturating_sub(1)).sum::<u64>() / 255;
    if present.len() <= 1 || step == 0 {
        return identity();
    }
    let mut seen = step / 2;
    let mut table = [0u8; 256];
    for (entry, count) in table.iter_mut().zip(histogram) {
        *entry = (seen / step).min(255) as u8;
        seen += count;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[derive(serde::Deserialize)]
    struct Golden {
        width: u32,
        height: u32,
        picture: Vec<u8>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        operation: String,
        magnitude: f64,
        output: Vec<u8>,
    }

    /// torchvision 0.26 on PIL images (tests/golden/auto_augment.py).
    #[test]
    fn operations_agree_with_torchvision() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/auto_augment.json");
        let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let picture = RgbImage::from_raw(golden.width, golden.height, golden.picture).unwrap();
        assert!(golden.cases.len() > 20);
        for case in golden.cases {
            let m = case.magnitude;
            let operation = match case.operation.as_str() {
                "ShearX" => Operation::ShearX(m),
                "Rotate" => Operation::Rotate(m),
                "Color" => Operation::Color(1.0 + m as f32),
                "Contrast" => Operation::Contrast(1.0 + m as f32),
                "Sharpness" => Operation::Sharpness(1.0 + m as f32),
                "Posterize" => Operation::Posterize(m as u8),
                "Solarize" => Operation::Solarize(m as f32),
                "AutoContrast" => Operation::AutoContrast,
                "Equalize" => Operation::Equalize,
                other => {
                    assert_eq!(other, "Invert");
                    Operation::Invert
                }
            };
            let out = operation.apply(&picture);
            let wrong = out.as_raw().iter().zip(&case.output).filter(|(a, b)| a != b).count();
            assert_eq!(wrong, 0, "{operation:?} differs in {wrong} of {} values", case.output.len());
        }
    }

    #[test]
    fn magnitudes_are_those_of_the_table() {
        let bits: Vec<Operation> = (0..10).map(|bin| operation(Kind::Posterize, bin, false)).collect();
        assert_eq!(bits, [8, 8, 7, 7, 6, 6, 5, 5, 4, 4].map(Operation::Posterize));
        assert_eq!(operation(Kind::Solarize, 9, false), Operation::Solarize(0.0));
        assert_eq!(operation(Kind::Rotate, 9, true), Operation::Rotate(-30.0));
    }

    #[test]
    fn draws_repeat_and_reach_every_sub_policy() {
        let drawn = |seed: u64| draw(&mut random::stream(seed, "auto-augment", 0, ""));
        assert_eq!(drawn(5), drawn(5));
        let all: Vec<Vec<Operation>> = (0..2000).map(drawn).collect();
        assert!(all.iter().any(Vec::is_empty) && all.iter().any(|o| o.contains(&Operation::Rotate(-30.0))));
        let inverted = all.iter().flatten().filter(|o| **o == Operation::Invert).count() as f64 / 2000.0;
        assert!((inverted - 3.0 / 25.0 * 0.6).abs() < 0.02, "{inverted}");
        let white = RgbImage::from_pixel(4, 4, Rgb([255; 3]));
        assert_eq!(Operation::Invert.apply(&white).get_pixel(0, 0).0, [0; 3]);
    }
}
