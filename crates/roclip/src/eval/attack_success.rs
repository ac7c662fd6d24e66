//! Attack success, by one strict definition: of the images that are not the target already, how many become it. The looser
//! definitions of released code are computed beside it, to compare with their figures.

use crate::error::{Error, Result};
use crate::eval::{BackdoorOutcome, Depth, Predictions, Recognizer, TargetOutcome, can_miss};
use fast_image_resize::FilterType;
use image::RgbImage;
use roclip_data::picture::jpeg_round_trip;
use roclip_data::picture::preprocess;
use roclip_data::poison::{Aim, Backdoor};
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::skip::{Skip, SkipReport};
use std::collections::{BTreeMap, BTreeSet};

/// What a triggered picture may go through before it reaches the model. The names are keys of [`BackdoorOutcome::after`].
const TREATMENTS: [(&str, Treatment); 3] = [("jpeg-75", jpeg_75), ("jpeg-50", jpeg_50), ("resize-half", resize_half)];

type Treatment = fn(RgbImage) -> std::result::Result<RgbImage, Skip>;

fn jpeg_75(picture: RgbImage) -> std::result::Result<RgbImage, Skip> {
    jpeg_round_trip(&picture, 75)
}

fn jpeg_50(picture: RgbImage) -> std::result::Result<RgbImage, Skip> {
    jpeg_round_trip(&picture, 50)
}

/// Half the side and back, bicubic: what a thumbnail service does.
fn resize_half(picture: RgbImage) -> std::result::Result<RgbImage, Skip> {
    let (width, height) = picture.dimensions();
    let small = preprocess::resize(&picture, (width / 2).max(1), (height / 2).max(1), FilterType::CatmullRom)?;
    preprocess::resize(&small, width, height, FilterType::CatmullRom)
}

/// What `predictions` say of the images that targeted poisoning aims at, one outcome for each attack that does.
pub fn targets(
    recognizer: &Recognizer,
    images: &[&Sample],
    predictions: &Predictions,
    wanted: &BTreeMap<String, BTreeSet<Aim>>,
) -> Vec<TargetOutcome> {
    let name = |at: &i64| recognizer.classes.get(*at as usize).cloned().unwrap_or_default();
    let mut outcomes = Vec::new();
    for (image, best) in predictions.read(images) {
        outcomes.extend(wanted.get(&image.id).into_iter().flatten().map(|aim| TargetOutcome {
            image: image.id.clone(),
            attack: aim.attack.clone(),
            true_class: image.class.clone().unwrap_or_default(),
            rank: best.iter().position(|at| name(at) == aim.target).map(|at| at + 1),
            predicted: best.first().map(name).unwrap_or_default(),
            adversarial: aim.target.clone(),
        }));
    }
    outcomes
}

/// Rate of targeted outcomes with the adversarial class first, by attack.
pub fn rates_by_attack(targets: &[TargetOutcome]) -> BTreeMap<String, Rate> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for target in targets {
        let (hits, all) = counts.entry(&target.attack).or_default();
        *hits += usize::from(target.rank == Some(1));
        *all += 1;
    }
    counts.into_iter().map(|(attack, (hits, all))| (attack.to_owned(), Rate::new(hits, all))).collect()
}

/// The place of a backdoor's target among the classes; an error where it has none.
pub fn target_index(classes: &[String], target: &str) -> Result<i64> {
    let at = classes.iter().position(|class| class == target);
    at.map(|at| at as i64).ok_or_else(|| {
        Error::setting(
            format!("backdoor target `{target}` is not among the {} classes", classes.len()),
            "add it to the class list: success cannot be measured without it",
        )
    })
}

/// How often about all images are looked at for one backdoor.
pub fn passes(depth: Depth) -> usize {
    match depth {
        Depth::Plain => 1,
        Depth::Thorough => 1 + TREATMENTS.len(),
    }
}

/// Measures one backdoor, and says which images could not be triggered. `clean` are the predictions of `images` without it.
pub fn backdoor(
    recognizer: &Recognizer,
    images: &[&Sample],
    clean: &Predictions,
    backdoor: &Backdoor,
    depth: Depth,
) -> Result<(BackdoorOutcome, SkipReport)> {
    let target = backdoor.target.as_str();
    let target_index = target_index(recognizer.classes, target)?;
    let is_victim = |image: &Sample| image.class.as_deref() != Some(target);
    let triggered = |image: &Sample, picture: RgbImage| backdoor.lay_on(image, &picture);
    // An image that cannot be read without the trigger has been counted already.
    let (images, clean): (Vec<&Sample>, Vec<&Vec<i64>>) = clean.read(images).unzip();
    let predictions = recognizer.predict(&images, &triggered)?;
    let within = |best: &[i64], k: usize| best.iter().take(k).any(|guess| *guess == target_index);
    // `(image, guesses without the trigger, guesses with it)` of the images that could be triggered.
    let both: Vec<(&Sample, &Vec<i64>, &Vec<i64>)> = images
        .iter()
        .zip(clean)
        .zip(&predictions.guesses)
        .filter_map(|((image, without), with)| Some((*image, without, with.as_ref()?)))
        .collect();
    let victims = || both.iter().filter(|(image, ..)| is_victim(image));
    let n = victims().count();
    let top = |k: usize| Rate::new(victims().filter(|(_, _, with)| within(with, k)).count(), n);
    let best = |k: usize| can_miss(k, recognizer.classes.len()).then(|| top(k));
    let kept = |(image, _, with): &&(&Sample, &Vec<i64>, &Vec<i64>)| {
        let truth = recognizer.index(image.class.as_deref());
        truth.is_some() && with.first().copied() == truth
    };
    let mut after = BTreeMap::new();
    let mut skips = predictions.skips.clone();
    if depth == Depth::Thorough {
        let others: Vec<&Sample> = victims().map(|(image, ..)| *image).collect();
        for (name, treatment) in TREATMENTS {
            let treated = |image: &Sample, picture: RgbImage| treatment(triggered(image, picture)?);
            let predictions = recognizer.predict(&others, &treated)?;
            let read = predictions.read(&others);
            let hits = read.clone().filter(|(_, best)| within(best, 1)).count();
            after.insert(name.to_owned(), Rate::new(hits, read.count()));
            skips.merge(predictions.skips);
        }
    }
    let outcome = BackdoorOutcome {
        target: target.to_owned(),
        success: top(1),
        success_top5: best(5),
        success_top10: best(10),
        success_all: Rate::new(both.iter().filter(|(_, _, with)| within(with, 1)).count(), both.len()),
        base_rate: Rate::new(victims().filter(|(_, without, _)| within(without, 1)).count(), n),
        turned: Some(turned(victims().map(|(_, without, with)| (within(without, 1), within(with, 1))))),
        true_class: Rate::new(victims().filter(kept).count(), n),
        after,
    };
    Ok((outcome, skips))
}

/// Of the images that are not read as the target without the trigger, those that are with it. Items are `(without, with)`.
fn turned(read_as_target: impl Iterator<Item = (bool, bool)>) -> Rate {
    let others: Vec<bool> = read_as_target.filter(|(without, _)| !without).map(|(_, with)| with).collect();
    Rate::new(others.iter().filter(|with| **with).count(), others.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_as_the_target_before_was_not_turned() {
        let images = [(false, true), (false, false), (false, false), (true, true), (true, false)];
        assert_eq!(turned(images.into_iter()), Rate::new(1, 3));
    }

    #[test]
    fn two_attacks_on_one_image_have_a_rate_each() {
        let outcome = |attack: &str, rank| TargetOutcome {
            image: "same".into(),
            attack: attack.into(),
            true_class: String::new(),
            adversarial: String::new(),
            predicted: String::new(),
            rank,
        };
        let rates = rates_by_attack(&[outcome("a", Some(1)), outcome("b", None), outcome("b", Some(2))]);
        assert_eq!(rates, BTreeMap::from([("a".to_owned(), Rate::new(1, 1)), ("b".to_owned(), Rate::new(0, 2))]));
    }
}
