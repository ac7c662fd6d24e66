//! What of a poisoning is likely to fail in the training that a recipe plans, measured before any of it.

use crate::doctor::backdoor::hardly_reaches_the_model;
use crate::doctor::survival::survival;
use crate::error::Result;
use crate::recipe::{ENOUGH_CAPTIONS, FEW_EXPOSURES, Recipe};
use roclip_data::plural::count;
use roclip_data::poison::Manifest;
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// A line for each attack of `manifest` that is weak, or whose trigger the augmentation of `recipe` is likely to destroy. Triggers are laid on
/// some of `pictures`, and shown to a model of inputs of `image_size` pixels.
///
/// # Errors
/// Where a picture cannot be changed as training would change it.
pub fn outlook(manifest: &Manifest, recipe: &Recipe, pictures: &[Sample], image_size: u32) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut attacks: BTreeMap<&str, (usize, BTreeSet<&str>, bool)> = BTreeMap::new();
    for row in &manifest.rows {
        let (pairs, images, targeted) = attacks.entry(&row.attack).or_insert((0, BTreeSet::new(), true));
        *pairs += 1;
        images.insert(&row.image);
        *targeted &= row.trigger.is_none();
    }
    let own = recipe.epochs_with_own_captions();
    for (attack, (pairs, images, targeted)) in attacks {
        let each = pairs / images.len().max(1);
        let times = (pairs as u64).saturating_mul(own);
        if targeted && each < ENOUGH_CAPTIONS {
            lines.push(format!(
                "attack `{attack}` is weak: {} a targeted picture, and {ENOUGH_CAPTIONS} were measured to fool a small model (docs/attacks.md); raise captions_per_target, or lower targets",
                count(each, "caption")
            ));
        } else if times < FEW_EXPOSURES {
            lines.push(format!(
                "attack `{attack}` is weak: {} are shown {times} times at most in {}{}, and below {FEW_EXPOSURES} attacks seldom take; raise the rate, the count or the epochs",
                count(pairs, "pair"),
                count(own, "epoch"),
                match recipe.train.epochs.saturating_sub(own) {
                    0 => String::new(),
                    others => format!(
                        " with their own captions ({} more {} without them, as this recipe's defence has it)",
                        count(others, "epoch"),
                        if others == 1 { "trains" } else { "train" }
                    ),
                }
            ));
        }
    }
    let Some(augment) = &recipe.augment.image else { return Ok(lines) };
    let pictures: Vec<&Sample> = pictures.iter().collect();
    for backdoor in manifest.backdoors() {
        let (limits, seed) = (recipe.data.limits, recipe.seed);
        let measured = survival(&backdoor.trigger, &pictures, limits, Some(augment), image_size, seed)?;
        if measured.pictures == 0 {
            continue;
        }
        if let Some(why) = hardly_reaches_the_model(&measured) {
            lines.push(format!(
                "attack `{}` will hardly outlive the augmentation of this recipe: {why}; docs/attacks.md has triggers of its kind that do",
                backdoor.attack
            ));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ObjectiveName;

    #[test]
    fn exposures_are_counted_in_epochs_that_show_own_captions() {
        let mut recipe = Recipe::default();
        recipe.train.epochs = 24;
        let mut own = |name, first, period| {
            recipe.objective.name = name;
            (recipe.objective.roclip.match_start, recipe.objective.roclip.period) = (first, period);
            recipe.epochs_with_own_captions()
        };
        assert_eq!(own(ObjectiveName::Clip, None, 2), 24);
        assert_eq!(own(ObjectiveName::Roclip, None, 2), 12);
        assert_eq!(own(ObjectiveName::Roclip, Some(9), 2), 16, "9, 11, ..., 23 match");
        assert_eq!(own(ObjectiveName::Roclip, Some(25), 2), 24);
        let unimodal = Recipe::default().objective.safeclip.unimodal_epochs;
        assert_eq!(own(ObjectiveName::Safeclip, None, 2), 24 - unimodal);
    }
}
