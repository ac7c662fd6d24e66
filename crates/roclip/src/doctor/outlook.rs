//! What of a poisoning is likely to fail in the training that a recipe plans, measured before any of it.

use crate::doctor::FEW_EXPOSURES;
use crate::doctor::backdoor::hardly_reaches_the_model;
use crate::doctor::survival::survival;
use crate::error::Result;
use crate::recipe::Recipe;
use roclip_data::plural::count;
use roclip_data::poison::Manifest;
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Captions of each targeted picture that fooled a small model in most cases (the demo, docs/demo.md); fewer were not measured to.
const ENOUGH_CAPTIONS: usize = 7;

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
    for (attack, (pairs, images, targeted)) in attacks {
        let each = pairs / images.len().max(1);
        let times = (pairs as u64).saturating_mul(recipe.train.epochs);
        if targeted && each < ENOUGH_CAPTIONS {
            lines.push(format!(
                "attack `{attack}` is weak: {} a targeted picture, and {ENOUGH_CAPTIONS} were measured to fool a small model (docs/attacks.md); raise captions_per_target, or lower targets",
                count(each, "caption")
            ));
        } else if times < FEW_EXPOSURES {
            lines.push(format!(
                "attack `{attack}` is weak: {} are shown {times} times at most in {}, and below {FEW_EXPOSURES} attacks seldom take; raise the rate, the count or the epochs",
                count(pairs, "pair"),
                count(recipe.train.epochs, "epoch")
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
