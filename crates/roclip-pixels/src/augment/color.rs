//! Colour operations with PIL's 8-bit arithmetic, as torchvision calls them on PIL images.

use image::RgbImage;

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
    for pixel in picture.pixels_mut() {
        let [h, s, v] = to_hsv(pixel.0);
        pixel.0 = to_rgb([h.wrapping_add(shift), s, v]);
    }
}

/// Pillow `Convert.c`, `rgb2hsv_row`.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0, 0, high];
    }
    let range = f32::from(high - low);
    let saturation = range / f32::from(high);
    let distance = |value: u8| f32::from(high - value) / range;
    // As in C, where the constants make these sums double before they become float again.
    let sum = |offset: f64, plus: f32, minus: f32| (offset + f64::from(plus) - f64::from(minus)) as f32;
    let sector = if r == high {
        distance(b) - distance(g)
    } else if g == high {
        sum(2.0, distance(r), distance(b))
    } else {
        sum(4.0, distance(g), distance(r))
    };
    // Pillow computes this line in double precision, and keeps the result in a float.
    let hue = ((f64::from(sector) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, high]
}

/// Pillow `Convert.c`, `hsv2rgb`.
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let position = f64::from(h) * 6.0 / 255.0;
    let sector = position.floor();
    let fraction = (position - sector) as f32;
    let (saturation, value) = ((f64::from(s) / 255.0) as f32, f64::from(v));
    let byte = |x: f64| x.round().clamp(0.0, 255.0) as u8;
    let p = byte(value * (1.0 - f64::from(saturation)));
    let q = byte(value * (1.0 - f64::from(saturation * fraction)));
    let t = byte(value * (1.0 - f64::from(saturation) * (1.0 - f64::from(fraction))));
    match sector as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
