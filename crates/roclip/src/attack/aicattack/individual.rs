//! Members of the population: changes of some pixels' colours.

use image::RgbImage;
use rand::RngExt;
use rand_distr::{Distribution, Normal};
use roclip_data::random::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The change of one pixel. In the search its parts are numbers with fractions; a picture takes them whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gene {
    pub row: f64,
    pub column: f64,
    pub colour: [f64; 3],
}

/// Changes of all pixels of an attack.
pub(super) type Individual = Vec<Gene>;

impl Gene {
    /// The parts as a vector is mutated: `a + factor * (b - c)`.
    pub fn mutated(a: &Gene, b: &Gene, c: &Gene, factor: f64) -> Gene {
        let mix = |a: f64, b: f64, c: f64| a + factor * (b - c);
        let mut colour = a.colour;
        for ((own, b), c) in colour.iter_mut().zip(b.colour).zip(c.colour) {
            *own = mix(*own, b, c);
        }
        Gene { row: mix(a.row, b.row, c.row), column: mix(a.column, b.column, c.column), colour }
    }

    /// Within the picture and the bounds of the colours, and whole as `int` makes it: towards zero.
    pub fn bounded(self, side: u32, low: f64, high: f64) -> Gene {
        let last = f64::from(side.saturating_sub(1));
        Gene {
            row: self.row.clamp(0.0, last).trunc(),
            column: self.column.clamp(0.0, last).trunc(),
            colour: self.colour.map(|part| part.clamp(low, high).trunc()),
        }
    }
}

/// Changes of `pixels`, whose colours are drawn uniformly among the whole numbers within `amplitude`.
pub(super) fn uniform(pixels: &[usize], side: u32, amplitude: i32, random: &mut Stream) -> Individual {
    of(pixels, side, || f64::from(random.random_range(-amplitude..=amplitude)))
}

/// Changes of `pixels` by Gaussian noise with the variance of the uniform draw.
pub(super) fn gaussian(pixels: &[usize], side: u32, amplitude: i32, random: &mut Stream) -> Individual {
    let most = f64::from(amplitude);
    // The deviation is positive, so that the draw cannot fail.
    let normal = Normal::new(0.0, most / 3f64.sqrt()).ok();
    of(pixels, side, || normal.map_or(0.0, |normal| normal.sample(random).clamp(-most, most).round()))
}

fn of(pixels: &[usize], side: u32, mut part: impl FnMut() -> f64) -> Individual {
    let side = side.max(1) as usize;
    let gene = |pixel: &usize| Gene {
        row: (pixel / side) as f64,
        column: (pixel % side) as f64,
        colour: [part(), part(), part()],
    };
    pixels.iter().map(gene).collect()
}

/// The picture with the changes of `individual`; colours stay within 0 to 255. Of two changes of one pixel both are added; their sum keeps within
/// `most` of both signs, where there is a bound.
pub(super) fn applied(picture: &RgbImage, individual: &[Gene], most: Option<f64>) -> RgbImage {
    let place = |gene: &Gene| (gene.column as u32, gene.row as u32);
    let changes: Vec<((u32, u32), [f64; 3])> = match most {
        None => individual.iter().map(|gene| (place(gene), gene.colour)).collect(),
        Some(most) => {
            let mut sums: BTreeMap<(u32, u32), [f64; 3]> = BTreeMap::new();
            for gene in individual {
                let sum = sums.entry(place(gene)).or_default();
                sum.iter_mut().zip(gene.colour).for_each(|(sum, part)| *sum += part);
            }
            sums.into_iter().map(|(place, sum)| (place, sum.map(|part| part.clamp(-most, most)))).collect()
        }
    };
    let mut changed = picture.clone();
    for ((x, y), colour) in changes {
        if let Some(pixel) = changed.get_pixel_mut_checked(x, y) {
            for (value, change) in pixel.0.iter_mut().zip(colour) {
                *value = (f64::from(*value) + change).clamp(0.0, 255.0) as u8;
            }
        }
    }
    changed
}

/// How far a picture is from another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Change {
    /// Pixels that differ.
    pub l0: usize,
    /// Largest difference of a colour, of 255.
    pub l_inf: u8,
    /// Euclidean distance, colours from 0 to 1.
    pub l2: f64,
}

/// The change from `a` to `b`, which have the same size.
pub fn change_between(a: &RgbImage, b: &RgbImage) -> Change {
    let mut change = Change::default();
    let mut square = 0.0;
    for (a, b) in a.pixels().zip(b.pixels()) {
        let differences = a.0.iter().zip(b.0).map(|(a, b)| a.abs_diff(b));
        change.l0 += usize::from(a != b);
        for difference in differences {
            change.l_inf = change.l_inf.max(difference);
            square += (f64::from(difference) / 255.0).powi(2);
        }
    }
    change.l2 = square.sqrt();
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::random;

    #[test]
    fn colours_are_clamped_and_only_the_chosen_pixels_change() {
        let picture = RgbImage::from_pixel(3, 3, image::Rgb([250, 5, 100]));
        let gene = Gene { row: 1.0, column: 2.0, colour: [40.0, -40.0, 7.0] };
        let changed = applied(&picture, &[gene], Some(40.0));
        assert_eq!(changed.get_pixel(2, 1).0, [255, 0, 107]);
        let change = change_between(&picture, &changed);
        assert_eq!((change.l0, change.l_inf), (1, 7));
        assert!((change.l2 - (25f64 + 25.0 + 49.0).sqrt() / 255.0).abs() < 1e-12);
    }

    #[test]
    fn changes_of_one_pixel_keep_the_bound_together() {
        let picture = RgbImage::from_pixel(2, 2, image::Rgb([100, 100, 100]));
        let gene = |colour| Gene { row: 0.0, column: 1.0, colour };
        let twice = [gene([40.0, -30.0, 40.0]), gene([40.0, -30.0, -10.0])];
        let colour = |most| applied(&picture, &twice, most).get_pixel(1, 0).0;
        assert_eq!(colour(Some(40.0)), [140, 60, 130]);
        assert_eq!(colour(None), [180, 40, 130], "as released");
    }

    #[test]
    fn mutants_are_bounded_and_cut_to_whole_numbers() {
        let at = |row: f64, red: f64| Gene { row, column: 0.0, colour: [red, 0.0, -9.0] };
        let mutant = Gene::mutated(&at(2.0, 40.0), &at(2.0, 40.0), &at(2.0, -37.0), 0.5);
        assert_eq!((mutant.row, mutant.colour[0]), (2.0, 78.5));
        assert_eq!(mutant.bounded(3, 0.0, 255.0).colour, [78.0, 0.0, 0.0], "as released: brighter only");
        assert_eq!(mutant.bounded(3, -40.0, 40.0).colour, [40.0, 0.0, -9.0]);
        let noise = gaussian(&[0, 4, 8], 3, 40, &mut random::stream(0, "test", 0, ""));
        assert!(noise.iter().flat_map(|gene| gene.colour).all(|part| part.abs() <= 40.0));
        assert_eq!((noise[1].row, noise[1].column), (1.0, 1.0));
    }
}
