//! torchvision's `GaussianBlur`: a square kernel, reflected borders, rounded back to 8 bits.

use image::RgbImage;

/// Blurs in two passes (the kernel is separable); `kernel` is odd, `sigma` in pixels.
pub fn gaussian(picture: &mut RgbImage, kernel: u32, sigma: f32) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let full = weights(kernel as usize, sigma);
    // Weights under half a millionth cannot move an 8-bit value; dropping them saves most of a wide kernel's work.
    let negligible = full.iter().take_while(|w| **w < 5e-7).count();
    let weights: Vec<f32> = full.iter().skip(negligible).take(full.len() - 2 * negligible).copied().collect();
    let radius = weights.len() / 2;
    if radius == 0 {
        return;
    }
    let row = width * 3;
    let mut middle = vec![0f32; row * height];
    let mut padded = vec![0f32; row + 6 * radius];
    for (out, line) in middle.chunks_exact_mut(row).zip(picture.as_raw().chunks_exact(row)) {
        for (place, value) in padded.iter_mut().skip(3 * radius).zip(line) {
            *place = f32::from(*value);
        }
        for x in (0..radius).chain(radius + width..width + 2 * radius) {
            let from = reflect(x as isize - radius as isize, width) * 3;
            for (place, value) in padded.iter_mut().skip(3 * x).zip(line.iter().skip(from).take(3)) {
                *place = f32::from(*value);
            }
        }
        let padded = padded.as_slice();
        weighted(out, &weights, |tap| padded.get(3 * tap..).unwrap_or_default());
    }
    let mut line = vec![0f32; row];
    for (y, out) in picture.chunks_exact_mut(row).enumerate() {
        let tapped: Vec<&[f32]> = (0..weights.len())
            .map(|tap| {
                let from = reflect(y as isize + tap as isize - radius as isize, height) * row;
                middle.get(from..).unwrap_or_default()
            })
            .collect();
        weighted(&mut line, &weights, |tap| tapped.get(tap).copied().unwrap_or_default());
        for (value, sum) in out.iter_mut().zip(&line) {
            *value = round_to_byte(*sum);
        }
    }
}

/// Numbers that are summed at once, in registers.
const AT_ONCE: usize = 16;

/// `out[i]` becomes the sum of `weights[tap] * source(tap)[i]`, the first tap first.
fn weighted<'a>(out: &mut [f32], weights: &[f32], source: impl Fn(usize) -> &'a [f32]) {
    let whole = out.len() - out.len() % AT_ONCE;
    let (blocks, rest) = out.split_at_mut(whole);
    for (block, out) in blocks.chunks_exact_mut(AT_ONCE).enumerate() {
        let mut sums = [0f32; AT_ONCE];
        for (tap, weight) in weights.iter().enumerate() {
            let Some(values) = source(tap).get(block * AT_ONCE..).and_then(<[f32]>::first_chunk::<AT_ONCE>) else {
                break;
            };
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
        out.copy_from_slice(&sums);
    }
    rest.fill(0.0);
    for (tap, weight) in weights.iter().enumerate() {
        for (sum, value) in rest.iter_mut().zip(source(tap).iter().skip(whole)) {
            *sum += weight * value;
        }
    }
}

/// Rounded half to even, by adding what leaves no bit for fractions: the library's function is a call for each number.
fn round_to_byte(value: f32) -> u8 {
    const NO_FRACTIONS: f32 = 8_388_608.0;
    (value.clamp(0.0, 255.0) + NO_FRACTIONS).to_bits() as u8
}

/// `exp(-x^2 / 2 sigma^2)` at the integers around 0, summing to 1.
fn weights(kernel: usize, sigma: f32) -> Vec<f32> {
    let half = (kernel / 2) as isize;
    let raw: Vec<f32> = (-half..=half).map(|x| (-0.5 * (x as f32 / sigma).powi(2)).exp()).collect();
    let total: f32 = raw.iter().sum();
    raw.iter().map(|w| w / total).collect()
}

/// PyTorch's `reflect` padding: the border pixel is not repeated.
fn reflect(at: isize, length: usize) -> usize {
    let last = length as isize - 1;
    if last <= 0 {
        return 0;
    }
    let folded = at.rem_euclid(2 * last);
    (if folded > last { 2 * last - folded } else { folded }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_half_to_even() {
        for value in (-8..2100).map(|eighth| eighth as f32 / 8.0).chain([0.499_999_97, 254.499_98, 1e9, -1e9]) {
            assert_eq!(round_to_byte(value), value.round_ties_even().clamp(0.0, 255.0) as u8, "{value}");
        }
    }

    #[test]
    fn two_passes_give_the_sums_of_the_whole_kernel_with_reflected_borders() {
        for (width, height, kernel) in [(37, 9, 21), (3, 40, 21), (16, 16, 3), (1, 5, 5)] {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([(x * 37 + y * 11) as u8, (x * y * 7) as u8, (y * 91) as u8])
            });
            let mut blurred = picture.clone();
            gaussian(&mut blurred, kernel, 1.9);
            let (taps, half) = (weights(kernel as usize, 1.9), (kernel / 2) as isize);
            for (x, y, found) in blurred.enumerate_pixels() {
                for channel in 0..3 {
                    let mut sum = 0.0;
                    for (dy, down) in (-half..).zip(&taps) {
                        for (dx, across) in (-half..).zip(&taps) {
                            let column = reflect(x as isize + dx, width as usize) as u32;
                            let row = reflect(y as isize + dy, height as usize) as u32;
                            sum += down * across * f32::from(picture.get_pixel(column, row).0[channel]);
                        }
                    }
                    assert!((f32::from(found.0[channel]) - sum).abs() < 0.51, "{width} x {height} at {x}, {y}");
                }
            }
        }
    }
}
