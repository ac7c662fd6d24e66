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
    let source: Vec<f32> = picture.as_raw().iter().map(|v| f32::from(*v)).collect();
    let row = width * 3;
    let mut middle = vec![0f32; source.len()];
    for (out, line) in middle.chunks_exact_mut(row).zip(source.chunks_exact(row)) {
        let padded: Vec<f32> = (0..width + 2 * radius)
            .flat_map(|x| line.iter().skip(reflect(x as isize - radius as isize, width) * 3).take(3).copied())
            .collect();
        for (tap, weight) in weights.iter().enumerate() {
            accumulate(out, padded.get(tap * 3..).unwrap_or_default(), *weight);
        }
    }
    let mut line = vec![0f32; row];
    for (y, out) in picture.chunks_exact_mut(row).enumerate() {
        line.fill(0.0);
        for (tap, weight) in weights.iter().enumerate() {
            let from = reflect(y as isize + tap as isize - radius as isize, height) * row;
            accumulate(&mut line, middle.get(from..).unwrap_or_default(), *weight);
        }
        for (value, sum) in out.iter_mut().zip(&line) {
            *value = sum.round_ties_even().clamp(0.0, 255.0) as u8;
        }
    }
}

fn accumulate(out: &mut [f32], source: &[f32], weight: f32) {
    for (sum, value) in out.iter_mut().zip(source) {
        *sum += weight * value;
    }
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
