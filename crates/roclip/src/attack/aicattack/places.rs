//! Which pixels are changed: chosen by attention, or without it.

use crate::captions::AttendedWord;
use crate::error::{Error, Result};
use rand::RngExt;
use rand::seq::SliceRandom;
use roclip_data::random::Stream;
use serde::{Deserialize, Serialize};

/// How the pixels are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Places {
    /// At random in the half of the picture that the whole caption attends to most.
    Sentence,
    /// At random in the halves that its words attend to most, put one behind the other: what many words attend to is likelier.
    Word,
    /// Those that the whole caption attends to most.
    TopK,
    /// At random, each by its attention.
    Proportional,
    /// Anywhere, and the search moves them.
    None,
    /// At random in the half that the caption attends to least: a control.
    Inverse,
}

impl Places {
    pub const ALL: [Places; 6] =
        [Places::Sentence, Places::Word, Places::TopK, Places::Proportional, Places::None, Places::Inverse];

    pub fn word(self) -> &'static str {
        match self {
            Places::Sentence => "sentence",
            Places::Word => "word",
            Places::TopK => "top-k",
            Places::Proportional => "proportional",
            Places::None => "none",
            Places::Inverse => "inverse",
        }
    }

    pub fn named(word: &str) -> Option<Places> {
        Places::ALL.into_iter().find(|places| places.word() == word)
    }

    /// Whether it needs attention maps.
    pub fn attends(self) -> bool {
        self != Places::None
    }

    /// `count` pixels, as numbers of a picture read row by row, from the maps of a caption's words over all pixels. They may repeat where words
    /// share them.
    ///
    /// # Errors
    /// No map where one is needed.
    pub fn choose(self, maps: &[Vec<f32>], pixels: usize, count: usize, random: &mut Stream) -> Result<Vec<usize>> {
        if !self.attends() {
            return Ok((0..count).map(|_| random.random_range(0..pixels)).collect());
        }
        if maps.is_empty() {
            return Err(Error::setting(
                "the surrogate's caption has no word, and so no attention",
                "train the surrogate for longer, or take `none`",
            ));
        }
        let mut sum = vec![0.0; pixels];
        for map in maps {
            sum.iter_mut().zip(map).for_each(|(sum, weight)| *sum += weight);
        }
        let mut pool = match self {
            Places::Sentence => ranked(&sum, pixels / 2),
            Places::Word => maps.iter().flat_map(|map| ranked(map, pixels / 2)).collect(),
            Places::TopK => return Ok(ranked(&sum, count)),
            Places::Inverse => {
                let negative: Vec<f32> = sum.iter().map(|weight| -weight).collect();
                ranked(&negative, pixels / 2)
            }
            Places::Proportional | Places::None => return Ok(by_weight(&sum, count, random)),
        };
        pool.shuffle(random);
        pool.truncate(count);
        Ok(pool)
    }
}

/// The `count` places of the largest values, the largest first; of equal ones those that come first.
fn ranked(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let value = |at: &usize| values.get(*at).copied().unwrap_or(0.0);
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    order.truncate(count);
    order
}

/// `count` different places, each drawn with the probability of its weight among those that are left.
fn by_weight(weights: &[f32], count: usize, random: &mut Stream) -> Vec<usize> {
    // The largest of `ln(uniform) / weight` are such a draw (Efraimidis and Spirakis, 2006).
    let key = |weight: &f32| {
        let uniform: f32 = random.random_range(f32::MIN_POSITIVE..1.0);
        uniform.ln() / weight.max(f32::MIN_POSITIVE)
    };
    let keys: Vec<f32> = weights.iter().map(key).collect();
    ranked(&keys, count)
}

/// The maps of `words` over the pixels of a picture of `side` x `side`: bilinear between the places of the grid, as PIL and PyTorch
/// (`align_corners=False`) resize.
///
/// # Errors
/// A map that is no square.
pub fn attention_over(words: &[AttendedWord], side: usize) -> Result<Vec<Vec<f32>>> {
    words.iter().map(|word| resized(&word.map, side)).collect()
}

fn resized(map: &[f32], side: usize) -> Result<Vec<f32>> {
    let grid = map.len().isqrt();
    if grid == 0 || grid * grid != map.len() {
        return Err(Error::internal(format!("an attention map of {} places is no square", map.len())));
    }
    // The two places beside a pixel's middle, and the weight of the second.
    let beside = |at: usize| {
        let place = ((at as f32 + 0.5) * grid as f32 / side as f32 - 0.5).clamp(0.0, (grid - 1) as f32);
        let first = place.floor() as usize;
        (first, (first + 1).min(grid - 1), place - first as f32)
    };
    let value = |row: usize, column: usize| map.get(row * grid + column).copied().unwrap_or(0.0);
    let mut pixels = Vec::with_capacity(side * side);
    for row in 0..side {
        let (top, bottom, down) = beside(row);
        for column in 0..side {
            let (left, right, along) = beside(column);
            let upper = value(top, left) * (1.0 - along) + value(top, right) * along;
            let lower = value(bottom, left) * (1.0 - along) + value(bottom, right) * along;
            pixels.push(upper * (1.0 - down) + lower * down);
        }
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::random;
    use std::collections::BTreeSet;

    fn word(map: &[f32]) -> AttendedWord {
        AttendedWord { word: "word".into(), map: map.to_vec() }
    }

    #[test]
    fn pixels_lie_where_each_strategy_looks() {
        // The first word looks at the left upper corner of a 4 x 4 picture, the second at the right upper one.
        let maps = attention_over(&[word(&[1.0, 0.0, 0.0, 0.0]), word(&[0.0, 1.0, 0.0, 0.0])], 4).unwrap();
        let mut random = random::stream(0, "test", 0, "");
        let mut choose = |places: Places, count| places.choose(&maps, 16, count, &mut random).unwrap();
        for _ in 0..20 {
            assert!(choose(Places::Sentence, 4).iter().all(|pixel| *pixel < 8));
            assert!(choose(Places::Inverse, 4).iter().all(|pixel| *pixel >= 8));
        }
        assert_eq!(choose(Places::TopK, 4).into_iter().collect::<BTreeSet<_>>(), (0..4).collect());
        assert_eq!(choose(Places::Proportional, 16).into_iter().collect::<BTreeSet<_>>().len(), 16);
        // Both words attend to the middle of the top row, so that its pixels are in the pool twice.
        let pool = choose(Places::Word, 16);
        assert!(pool.len() == 16 && pool.iter().collect::<BTreeSet<_>>().len() < 16);
        assert!(Places::Sentence.choose(&[], 16, 4, &mut random::stream(0, "test", 0, "")).is_err());
        assert_eq!(Places::None.choose(&[], 16, 4, &mut random::stream(0, "test", 0, "")).unwrap().len(), 4);
    }

    #[test]
    fn a_map_is_resized_as_pytorch_does_it() {
        // torch.nn.functional.interpolate(torch.tensor([[[[0., 1.], [2., 3.]]]]), size=4, mode="bilinear")
        let expected = [0.0, 0.25, 0.75, 1.0, 0.5, 0.75, 1.25, 1.5, 1.5, 1.75, 2.25, 2.5, 2.0, 2.25, 2.75, 3.0];
        let found = attention_over(&[word(&[0.0, 1.0, 2.0, 3.0])], 4).unwrap();
        assert!(found[0].iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{found:?}");
        assert!(attention_over(&[word(&[1.0, 2.0, 3.0])], 4).is_err());
    }
}
