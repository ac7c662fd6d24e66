//! Colour operations with PIL's 8-bit arithmetic, as torchvision calls them on PIL images.

use image::RgbImage;
use std::sync::LazyLock;

/// PIL's `convert("L")`: ITU-R 601 weights in 16-bit fixed point.
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// PIL's `Image.blend(degenerate, image, factor)` for one value: truncated, and clipped when extrapolating.
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(degenerate), f32::from(value));
    (from + factor * (to - from)).clamp(0.0, 255.0) as u8
}

fn blend_table(degenerate: u8, factor: f32) -> [u8; 256] {
    std::array::from_fn(|value| blend(degenerate, value as u8, factor))
}

fn apply_table(picture: &mut RgbImage, table: &[u8; 256]) {
    for value in picture.iter_mut() {
        *value = table.get(usize::from(*value)).copied().unwrap_or(*value);
    }
}

/// `ImageEnhance.Brightness`: towards black.
pub fn brightness(picture: &mut RgbImage, factor: f32) {
    apply_table(picture, &blend_table(0, factor));
}

/// `ImageEnhance.Contrast`: towards the mean grey.
pub fn contrast(picture: &mut RgbImage, factor: f32) {
    let total: u64 = picture.pixels().map(|p| u64::from(luma(p.0))).sum();
    let count = u64::from(picture.width()) * u64::from(picture.height());
    let mean = (total as f64 / count.max(1) as f64 + 0.5) as u8;
    apply_table(picture, &blend_table(mean, factor));
}

/// `ImageEnhance.Color`: towards the pixel's own grey.
pub fn saturation(picture: &mut RgbImage, factor: f32) {
    for pixel in picture.pixels_mut() {
        let grey = luma(pixel.0);
        pixel.0 = pixel.0.map(|value| blend(grey, value, factor));
    }
}

pub fn grayscale(picture: &mut RgbImage) {
    for pixel in picture.pixels_mut() {
        pixel.0 = [luma(pixel.0); 3];
    }
}

/// torchvision's `adjust_hue` on a PIL image: 8-bit HSV, the hue byte moved by `factor * 255` with wrap-around.
pub fn hue(picture: &mut RgbImage, factor: f32) {
    let shift = ((f64::from(factor) * 255.0) as i32).rem_euclid(256) as u8;
    let sectors: [(u8, f32); 256] = std::array::from_fn(|hue| sector_of(hue as u8));
    let hsv = &*HSV;
    for pixel in picture.pixels_mut() {
        let [h, s, v] = hsv.of(pixel.0);
        let sector = sectors.get(usize::from(h.wrapping_add(shift))).copied().unwrap_or_default();
        pixel.0 = to_rgb(sector, s, v);
    }
}

/// Hues and saturations of all colours: the divisions that they take are made once.
struct Hsv {
    /// By the order of the channels, and then as [`Hsv::at`] has it.
    hues: Vec<u8>,
    /// By the highest channel and the range.
    saturations: Vec<u8>,
}

static HSV: LazyLock<Hsv> = LazyLock::new(Hsv::new);

/// Which channel is the highest, and which of the others the lowest.
#[derive(Clone, Copy)]
enum Order {
    RedGreen,
    RedBlue,
    GreenRed,
    GreenBlue,
    BlueRed,
    BlueGreen,
}

impl Hsv {
    const LEVELS: usize = 256;

    /// Place of two bytes in a table.
    fn at(one: u8, other: u8) -> usize {
        usize::from(one) * Self::LEVELS + usize::from(other)
    }

    fn new() -> Hsv {
        let pairs = || (0..=255u8).flat_map(|one| (0..=255u8).map(move |other| (one, other)));
        let orders =
            [Order::RedGreen, Order::RedBlue, Order::GreenRed, Order::GreenBlue, Order::BlueRed, Order::BlueGreen];
        let hues = orders.into_iter().flat_map(|order| pairs().map(move |(range, below)| hue_of(order, range, below)));
        let saturation = |(high, range)| (f64::from(f32::from(range) / f32::from(high)) * 255.0) as u8;
        Hsv { hues: hues.collect(), saturations: pairs().map(saturation).collect() }
    }

    /// Pillow `Convert.c`, `rgb2hsv_row`.
    fn of(&self, [r, g, b]: [u8; 3]) -> [u8; 3] {
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        if high == low {
            return [0, 0, high];
        }
        let (order, middle) = if r == high {
            if g == low { (Order::RedGreen, b) } else { (Order::RedBlue, g) }
        } else if g == high {
            if r == low { (Order::GreenRed, b) } else { (Order::GreenBlue, r) }
        } else if r == low {
            (Order::BlueRed, g)
        } else {
            (Order::BlueGreen, r)
        };
        let at = order as usize * Self::LEVELS * Self::LEVELS + Self::at(high - low, high - middle);
        let hue = self.hues.get(at).copied().unwrap_or_default();
        [hue, self.saturations.get(Self::at(high, high - low)).copied().unwrap_or_default(), high]
    }
}

/// The hue of a colour whose channels are `range` apart, the middle one `below` the highest.
fn hue_of(order: Order, range: u8, below: u8) -> u8 {
    // How far a channel is below the highest, as a share of the range; the lowest is all of it.
    let (middle, lowest) = (f32::from(below) / f32::from(range), 1.0f32);
    // As in C, where the constants make these sums double before they become float again.
    let sum = |offset: f64, plus: f32, minus: f32| (offset + f64::from(plus) - f64::from(minus)) as f32;
    let sector = match order {
        Order::RedGreen => middle - lowest,
        Order::RedBlue => lowest - middle,
        Order::GreenRed => sum(2.0, lowest, middle),
        Order::GreenBlue => sum(2.0, middle, lowest),
        Order::BlueRed => sum(4.0, middle, lowest),
        Order::BlueGreen => sum(4.0, lowest, middle),
    };
    // Pillow computes this line in double precision, and keeps the result in a float.
    let hue = ((f64::from(sector) / 6.0 + 1.0) % 1.0) as f32;
    (f64::from(hue) * 255.0) as u8
}

/// The sixth of the colour circle that a hue lies in, and how far into it.
fn sector_of(hue: u8) -> (u8, f32) {
    let position = f64::from(hue) * 6.0 / 255.0;
    let sector = position.floor();
    (sector as u8 % 6, (position - sector) as f32)
}

/// Rounded half up, for numbers that are not negative: the library's function is a call for each pixel.
fn byte(x: f64) -> u8 {
    let whole = x as u8;
    whole.saturating_add(u8::from(x - f64::from(whole) >= 0.5))
}

/// Pillow `Convert.c`, `hsv2rgb`.
fn to_rgb((sector, fraction): (u8, f32), s: u8, v: u8) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let (saturation, value) = ((f64::from(s) / 255.0) as f32, f64::from(v));
    let p = byte(value * (1.0 - f64::from(saturation)));
    let falling = || byte(value * (1.0 - f64::from(saturation * fraction)));
    let rising = || byte(value * (1.0 - f64::from(saturation) * (1.0 - f64::from(fraction))));
    match sector {
        0 => [v, rising(), p],
        1 => [falling(), v, p],
        2 => [p, v, rising()],
        3 => [p, falling(), v],
        4 => [rising(), p, v],
        _ => [v, p, falling()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversions as Pillow has them, with the library's functions.
    fn by_the_library([r, g, b]: [u8; 3], shift: u8) -> [u8; 3] {
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        if high == low {
            return [high; 3];
        }
        let range = f32::from(high - low);
        let saturation = ((f64::from(range / f32::from(high)) * 255.0) as u8, high);
        let distance = |value: u8| f64::from(f32::from(high - value) / range);
        let sector = if r == high {
            distance(b) - distance(g)
        } else if g == high {
            2.0 + distance(r) - distance(b)
        } else {
            4.0 + distance(g) - distance(r)
        } as f32;
        let hue = ((f64::from(sector) / 6.0 + 1.0).rem_euclid(1.0)) as f32;
        let hue = ((f64::from(hue) * 255.0) as u8).wrapping_add(shift);
        let (s, v) = saturation;
        if s == 0 {
            return [v; 3];
        }
        let position = f64::from(hue) * 6.0 / 255.0;
        let fraction = (position - position.floor()) as f32;
        let (saturation, value) = ((f64::from(s) / 255.0) as f32, f64::from(v));
        let byte = |x: f64| x.round().clamp(0.0, 255.0) as u8;
        let p = byte(value * (1.0 - f64::from(saturation)));
        let q = byte(value * (1.0 - f64::from(saturation * fraction)));
        let t = byte(value * (1.0 - f64::from(saturation) * (1.0 - f64::from(fraction))));
        [[v, t, p], [q, v, p], [p, v, t], [p, q, v], [t, p, v], [v, p, q]][position.floor() as usize % 6]
    }

    #[test]
    fn hues_are_those_of_the_library_s_rounding() {
        let levels = (0..=255u8).step_by(3);
        let colours = levels.clone().flat_map(|r| (0..=255u8).step_by(5).map(move |g| [r, g]));
        let colours = colours.flat_map(|[r, g]| (0..=255u8).step_by(7).map(move |b| [r, g, b]));
        let (mut picture, colours): (Vec<u8>, Vec<[u8; 3]>) = (Vec::new(), colours.collect());
        colours.iter().for_each(|colour| picture.extend(colour));
        let mut picture = RgbImage::from_raw(colours.len() as u32, 1, picture).unwrap();
        hue(&mut picture, 0.3);
        for (found, colour) in picture.pixels().zip(colours) {
            assert_eq!(found.0, by_the_library(colour, (0.3f32 as f64 * 255.0) as u8), "{colour:?}");
        }
    }
}
