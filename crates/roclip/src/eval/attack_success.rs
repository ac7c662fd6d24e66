//! Attack success, by one strict definition: of the images that are not the target already, how many become it.

use crate::data::Sample;
use crate::error::{Error, Result};
use crate::eval::zero_shot::{self, Predictions, index};
use crate::eval::{BackdoorOutcome, Evaluator, Rate, TargetOutcome};
use crate::model::Clip;
use crate::poison::Trigger;
use crate::random;
use rand::Rng;
use std::collections::BTreeMap;
use tch::Tensor;

/// Predictions on the images that targeted poisoning aims at.
pub fn targets(
    model: &Clip,
    classifier: &Tensor,
    images: &[&Sample],
    wanted: &BTreeMap<String, String>,
    evaluator: &Evaluator,
) -> Result<Vec<TargetOutcome>> {
    let predictions = zero_shot::predict(model, classifier, images, None, evaluator)?;
    let outcome = |(image, best): (&&Sample, &Vec<i64>)| TargetOutcome {
        image: image.id.clone(),
        true_class: image.class.clone().unwrap_or_default(),
        adversarial: wanted.get(&image.id).cloned().unwrap_or_default(),
        predicted: best.first().and_then(|at| evaluator.classes.get(*at as usize)).cloned().unwrap_or_default(),
    };
    Ok(images.iter().zip(&predictions).map(outcome).collect())
}

/// Strict ASR, base rate and true-class accuracy of one trigger. `clean` are the predictions without it.
pub fn backdoor(
    model: &Clip,
    classifier: &Tensor,
    images: &[&Sample],
    clean: &Predictions,
    target: &str,
    trigger: &Trigger,
    evaluator: &Evaluator,
) -> Result<BackdoorOutcome> {
    let target_index = index(&evaluator.classes, Some(target));
    if target_index.is_none() {
        return Err(Error::setting(
            format!("backdoor target `{target}` is not among the {} classes", evaluator.classes.len()),
            "add it to the class list: success cannot be measured without it",
        ));
    }
    let others: Vec<(&Sample, &Vec<i64>)> =
        images.iter().copied().zip(clean).filter(|(image, _)| image.class.as_deref() != Some(target)).collect();
    let victims: Vec<&Sample> = others.iter().map(|(image, _)| *image).collect();
    // A trigger that differs from picture to picture gets a fresh seed for each, as it did in training.
    let fresh = |image: &Sample| Trigger {
        image_seed: random::stream(0, "trigger-test", 0, &image.id).next_u64(),
        ..trigger.clone()
    };
    let predictions = zero_shot::predict(model, classifier, &victims, Some(&fresh), evaluator)?;
    let read_as = |best: &Vec<i64>, class: Option<i64>| class.is_some() && best.first().copied() == class;
    let success = predictions.iter().filter(|best| read_as(best, target_index)).count();
    let base = others.iter().filter(|(_, best)| read_as(best, target_index)).count();
    let truth = |image: &Sample| index(&evaluator.classes, image.class.as_deref());
    let kept = predictions.iter().zip(&victims).filter(|(best, image)| read_as(best, truth(image))).count();
    let n = victims.len();
    Ok(BackdoorOutcome {
        target: target.to_owned(),
        success: Rate::new(success, n),
        base_rate: Rate::new(base, n),
        true_class: Rate::new(kept, n),
    })
}
