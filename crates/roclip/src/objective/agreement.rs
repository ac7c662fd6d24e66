//! SafeCLIP's split by how plausible each pair is beside all others, where it is asked to. Ours.

use crate::detect::plausibility::{REFERENCES, plausibility};
use crate::error::{Error, Result};
use crate::objective::Encode;
use rand::seq::SliceRandom;
use roclip_data::random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Splits by how plausible each pair is beside all others. Ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlausibilityConfig {
    /// Neighbours that are asked about each image and each caption.
    pub neighbours: usize,
    /// Pairs among which neighbours are sought; all when there are fewer.
    pub references: usize,
    /// Whether copies of a picture may be each other's neighbours. On only to measure what an attacker gains whose copies are not
    /// recognised as copies.
    pub copies_vouch: bool,
}

impl Default for PlausibilityConfig {
    fn default() -> Self {
        PlausibilityConfig { neighbours: 10, references: REFERENCES, copies_vouch: false }
    }
}

impl PlausibilityConfig {
    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<()> {
        if self.neighbours == 0 || self.references <= self.neighbours {
            return Err(Error::setting(
                format!(
                    "objective.safeclip.plausibility: {} neighbours of {} references",
                    self.neighbours, self.references
                ),
                "ask at least 1 neighbour, and seek it among more references",
            ));
        }
        Ok(())
    }

    /// [`plausibility`] of each of `pairs` pairs by index, as the towers stand; not finite where a pair cannot be read.
    pub fn scores(&self, seed: u64, pairs: usize, encode: &mut dyn Encode) -> Result<Vec<f64>> {
        let seen = encode.features()?;
        let rows = 0..seen.pairs.len() as i64;
        let copies = if self.copies_vouch { rows.clone().collect() } else { seen.pictures };
        let mut references: Vec<i64> = rows.collect();
        references.shuffle(&mut random::stream(seed, "plausibility-references", 0, ""));
        references.truncate(self.references);
        let found = plausibility(&seen.image, &seen.text, &copies, &references, self.neighbours as i64)?;
        let mut scores = vec![f64::NAN; pairs];
        for (at, score) in seen.pairs.into_iter().zip(found) {
            if let Some(slot) = scores.get_mut(at) {
                *slot = score;
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::known_towers::KnownTowers;

    /// Ten pairs that can be read, of eleven; the last three show one picture.
    fn towers() -> KnownTowers {
        let of = [0, 0, 0, 1, 1, 1, 2, 3, 3, 3];
        let (pairs, pictures) = (vec![0, 1, 2, 3, 4, 5, 6, 8, 9, 10], vec![0, 1, 2, 3, 4, 5, 6, 8, 8, 8]);
        KnownTowers { pairs, pictures, ..KnownTowers::new(&of, &of) }
    }

    #[test]
    fn scores_are_by_pair_and_copies_vouch_only_where_they_are_asked_to() {
        let scores = |copies_vouch| {
            let config = PlausibilityConfig { neighbours: 2, references: 100, copies_vouch };
            config.scores(0, 11, &mut towers()).unwrap()
        };
        let (apart, vouching) = (scores(false), scores(true));
        assert_eq!(apart.iter().map(|score| score.is_nan()).filter(|unread| *unread).count(), 1);
        assert!(apart[7].is_nan() && apart[10] < apart[0] - 0.5);
        assert!((vouching[10] - vouching[0]).abs() < 1e-6 && vouching[6] < vouching[0]);
    }
}
