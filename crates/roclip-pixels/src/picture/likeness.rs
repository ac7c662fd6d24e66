//! How alike two pictures of one size are: PSNR and SSIM.

use image::RgbImage;

/// Side and deviation of SSIM's window, and its two constants (Wang et al., 2004).
const WINDOW: usize = 11;
const DEVIATION: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Peak signal-to-noise ratio in decibels over all channels; infinite for equal pictures. None where their sizes differ.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    if a.dimensions() != b.dimensions() || a.as_raw().is_empty() {
        return None;
    }
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    let error = squares.sum::<f64>() / a.as_raw().len() as f64;
    Some(10.0 * (255.0 * 255.0 / error).log10())
}

/// Structural similarity of the luma, at most 1: the mean over all places of an 11 x 11 Gaussian window (of the whole picture where it is
/// smaller). None where their sizes differ.
pub fn ssim(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    if a.dimensions() != b.dimensions() || a.as_raw().is_empty() {
        return None;
    }
    let (width, height) = (a.width() as usize, a.height() as usize);
    let side = WINDOW.min(width).min(height);
    let middle = (side as f64 - 1.0) / 2.0;
    let row: Vec<f64> =
        (0..side).map(|at| (-(at as f64 - middle).powi(2) / (2.0 * DEVIATION * DEVIATION)).exp()).collect();
    let sum: f64 = row.iter().sum();
    let row: Vec<f64> = row.iter().map(|weight| weight / sum).collect();
    let (a, b) = (luma(a), luma(b));
    // Five weighted means of each window, by one separable pass over each map.
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<f64>>();
    let maps = [product(&a, &a), product(&b, &b), product(&a, &b), a, b];
    let [aa, bb, ab, a, b] = maps.map(|map| windowed(&map, width, &row));
    let mut sum = 0.0;
    for ((((a, b), aa), bb), ab) in a.iter().zip(&b).zip(&aa).zip(&bb).zip(&ab) {
        let (variances, covariance) = (aa - a * a + bb - b * b, ab - a * b);
        sum += (2.0 * a * b + C1) * (2.0 * covariance + C2) / ((a * a + b * b + C1) * (variances + C2));
    }
    Some(sum / a.len().max(1) as f64)
}

fn luma(picture: &RgbImage) -> Vec<f64> {
    let of = |pixel: &image::Rgb<u8>| {
        let [red, green, blue] = pixel.0.map(f64::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    };
    picture.pixels().map(of).collect()
}

/// Weighted means of all windows that lie within a map of rows of `width`.
fn windowed(map: &[f64], width: usize, weights: &[f64]) -> Vec<f64> {
    let sum = |window: &[f64]| window.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f64>();
    let rows: Vec<Vec<f64>> =
        map.chunks_exact(width).map(|row| row.windows(weights.len()).map(sum).collect()).collect();
    let mut means = Vec::new();
    for window in rows.windows(weights.len()) {
        let length = window.first().map_or(0, Vec::len);
        for at in 0..length {
            let column = window.iter().zip(weights);
            means.push(column.map(|(row, weight)| row.get(at).copied().unwrap_or_default() * weight).sum());
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn figures_are_those_of_numpy() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/golden/variance.json")).unwrap();
        for case in golden["likeness"].as_array().unwrap() {
            let (side, number) = (case["side"].as_u64().unwrap() as u32, case["number"].as_u64().unwrap() as u32);
            let first = |x, y, c| (x * 11 + y * 17 + c * 31 + x * y) % 200 + 20;
            let a = RgbImage::from_fn(side, side, |x, y| Rgb([0, 1, 2].map(|c| first(x, y, c) as u8)));
            let second = |x, y, c| first(x, y, c) + (x * 5 + y * 3 + c) % (2 + number);
            let b = RgbImage::from_fn(side, side, |x, y| Rgb([0, 1, 2].map(|c| second(x, y, c) as u8)));
            assert!((psnr(&a, &b).unwrap() - case["psnr"].as_f64().unwrap()).abs() < 1e-9, "{case}");
            assert!((ssim(&a, &b).unwrap() - case["ssim"].as_f64().unwrap()).abs() < 1e-6, "{case}");
            assert!((ssim(&a, &a).unwrap() - 1.0).abs() < 1e-12 && psnr(&a, &a).unwrap().is_infinite());
        }
        assert_eq!(ssim(&RgbImage::new(8, 8), &RgbImage::new(8, 9)), None);
    }
}
