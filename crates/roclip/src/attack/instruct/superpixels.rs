//! SLIC (Achanta et al., 2012): regions of similar colour, by k-means over colour and place. The attribution's released code takes OpenCV's
//! SLICO; connectivity is not enforced here (ours).

use crate::error::{Error, Result};
use image::RgbImage;

/// Weight of the place against the colour, as the released code's ruler.
const RULER: f64 = 20.0;
const ITERATIONS: usize = 20;

#[derive(Clone, Copy, Default)]
struct Centre {
    colour: [f64; 3],
    place: [f64; 2],
    count: f64,
}

/// The region of each pixel, row by row, from 0 on without gaps. About `regions` of them.
///
/// # Errors
/// More regions than pixels, or fewer than 2.
pub fn superpixels(picture: &RgbImage, regions: usize) -> Result<Vec<usize>> {
    let (width, height) = picture.dimensions();
    let pixels = width as usize * height as usize;
    if regions < 2 || regions > pixels {
        return Err(Error::setting(
            format!("{regions} superpixels of a picture of {pixels} pixels (--regions)"),
            format!("choose 2 to {pixels}; 25 is usual for 32 x 32"),
        ));
    }
    let spacing = (pixels as f64 / regions as f64).sqrt();
    let (columns, rows) =
        ((f64::from(width) / spacing).round().max(1.0), (f64::from(height) / spacing).round().max(1.0));
    let mut centres = Vec::new();
    for row in 0..rows as usize {
        for column in 0..columns as usize {
            let x = (column as f64 + 0.5) * f64::from(width) / columns;
            let y = (row as f64 + 0.5) * f64::from(height) / rows;
            let colour = picture.get_pixel_checked(x as u32, y as u32).map_or([0.0; 3], |pixel| pixel.0.map(f64::from));
            centres.push(Centre { colour, place: [x, y], count: 0.0 });
        }
    }
    let mut labels = vec![0usize; pixels];
    for _ in 0..ITERATIONS {
        for ((x, y, pixel), label) in picture.enumerate_pixels().zip(&mut labels) {
            let place = [f64::from(x), f64::from(y)];
            let distance = |centre: &Centre| {
                let far: f64 = place.iter().zip(centre.place).map(|(a, b)| (a - b).powi(2)).sum();
                // No region reaches further than twice the spacing.
                if far > 8.0 * spacing * spacing {
                    return f64::INFINITY;
                }
                let colour: f64 = pixel.0.iter().zip(centre.colour).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
                colour + far / (spacing * spacing) * RULER * RULER
            };
            let nearest = centres.iter().enumerate().map(|(at, centre)| (at, distance(centre)));
            *label = nearest.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at);
        }
        let mut moved = vec![Centre::default(); centres.len()];
        for ((x, y, pixel), label) in picture.enumerate_pixels().zip(&labels) {
            let Some(centre) = moved.get_mut(*label) else { continue };
            centre.count += 1.0;
            centre.colour.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += f64::from(value));
            centre.place.iter_mut().zip([x, y]).for_each(|(sum, value)| *sum += f64::from(value));
        }
        for (centre, sum) in centres.iter_mut().zip(moved).filter(|(_, sum)| sum.count > 0.0) {
            *centre = Centre {
                colour: sum.colour.map(|value| value / sum.count),
                place: sum.place.map(|value| value / sum.count),
                count: sum.count,
            };
        }
    }
    let mut known: Vec<usize> = labels.clone();
    known.sort_unstable();
    known.dedup();
    Ok(labels.into_iter().map(|label| known.binary_search(&label).unwrap_or(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_follow_edges_and_cover_everything() {
        let picture = RgbImage::from_fn(32, 32, |x, _| image::Rgb(if x < 13 { [250, 0, 0] } else { [0, 0, 250] }));
        let labels = superpixels(&picture, 25).unwrap();
        let count = labels.iter().max().unwrap() + 1;
        assert!((16..=30).contains(&count), "{count}");
        for label in 0..count {
            let columns: Vec<usize> = (0..1024).filter(|at| labels[*at] == label).map(|at| at % 32).collect();
            assert!(!columns.is_empty());
            assert!(
                columns.iter().all(|x| *x < 13) || columns.iter().all(|x| *x >= 13),
                "region {label} crosses the edge"
            );
        }
        for regions in [0, 1, 1025] {
            assert!(superpixels(&picture, regions).unwrap_err().to_string().contains("superpixels"));
        }
    }
}
