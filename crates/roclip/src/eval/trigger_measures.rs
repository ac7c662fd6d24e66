//! What a trigger does to pictures, and how a classifier depends on the variance that one is made of.

use crate::error::Result;
use crate::eval::{Evaluator, Recognizer, unaltered};
use roclip_data::guard::contained;
use roclip_data::picture::{ImageLimits, psnr, ssim};
use roclip_data::poison::{Backdoor, Manifest};
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::trigger::{InkReconstructed, TriggerKind, TriggerStack};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Pictures whose change is measured.
const COMPARED: usize = 200;
/// Doses: target variances as parts of the trigger's own.
const DOSES: [f64; 6] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5];
/// No picture has more.
const MOST_VARIANCE: f64 = 0.25;
/// The natural tail: one test picture in so many.
const DECILE: usize = 10;

/// What is measured of one trigger beside its success.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TriggerMeasures {
    /// Peak signal-to-noise ratio of the change in decibels, the mean over the pictures that it changes; none where it changes none.
    pub psnr: Option<f64>,
    /// Structural similarity of the picture with and without it, the mean over the same pictures.
    pub ssim: Option<f64>,
    /// Pictures that it leaves as they are, among those that were compared.
    pub unchanged: Rate,
    /// Strict ASR at other target variances; of a variance trigger only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doses: Vec<Dose>,
    /// Of a variance trigger only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<NaturalTail>,
}

/// Success at one target variance.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Dose {
    pub variance: f64,
    pub success: Rate,
}

/// Untouched test pictures that are most extreme in variance.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct NaturalTail {
    /// The variance that it begins at.
    pub variance: f64,
    /// Read as what they are.
    pub accuracy: Rate,
    /// The same of all other pictures.
    pub accuracy_elsewhere: Rate,
    /// Pictures of the tail that are not of the target, read as the target.
    pub read_as_target: Rate,
}

/// A variance trigger, and the stack that it is laid on with.
pub type VarianceTrigger = (TriggerStack, InkReconstructed);

/// The variance triggers of a manifest.
pub fn variance_triggers(manifest: Option<&Manifest>) -> Vec<VarianceTrigger> {
    let backdoors = manifest.map(Manifest::backdoors).unwrap_or_default();
    backdoors.iter().filter_map(|backdoor| Some((backdoor.trigger.clone(), ink(&backdoor.trigger)?))).collect()
}

fn ink(stack: &TriggerStack) -> Option<InkReconstructed> {
    stack.layers.iter().find_map(|layer| match layer {
        TriggerKind::InkReconstructed(ink) => Some(*ink),
        _ => None,
    })
}

/// Measures every backdoor of `manifest` on the evaluation's pictures.
pub fn trigger_measures(
    evaluator: &Evaluator,
    recognizer: &Recognizer,
    manifest: &Manifest,
) -> Result<BTreeMap<String, TriggerMeasures>> {
    let mut found = BTreeMap::new();
    for backdoor in manifest.backdoors() {
        let is_victim = |sample: &&Sample| sample.class.as_ref() != Some(&backdoor.target);
        let victims: Vec<&Sample> = evaluator.samples.iter().filter(is_victim).collect();
        let mut measures = change(&backdoor, &victims, evaluator.reading.limits);
        if let Some(ink) = ink(&backdoor.trigger) {
            measures.doses = doses(recognizer, &backdoor, &ink, &victims)?;
            measures.tail = tail(evaluator, recognizer, &backdoor, &ink)?;
        }
        found.insert(backdoor.attack, measures);
    }
    Ok(found)
}

/// How the trigger changes pictures, on its frame.
fn change(backdoor: &Backdoor, victims: &[&Sample], limits: ImageLimits) -> TriggerMeasures {
    let step = victims.len().div_ceil(COMPARED).max(1);
    let (mut peaks, mut similarities, mut compared) = (Vec::new(), Vec::new(), 0);
    for sample in victims.iter().step_by(step) {
        let both = contained(|| {
            let picture = sample.picture(limits)?;
            Ok((backdoor.trigger.framed(&picture)?, backdoor.lay_on(sample, &picture)?))
        });
        let Ok((plain, shown)) = both else { continue };
        compared += 1;
        if let (Some(peak), Some(similarity), true) = (psnr(&plain, &shown), ssim(&plain, &shown), plain != shown) {
            peaks.push(peak);
            similarities.push(similarity);
        }
    }
    let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    TriggerMeasures {
        psnr: mean(&peaks),
        ssim: mean(&similarities),
        unchanged: Rate::new(compared - peaks.len(), compared),
        doses: Vec::new(),
        tail: None,
    }
}

fn doses(
    recognizer: &Recognizer,
    backdoor: &Backdoor,
    ink: &InkReconstructed,
    victims: &[&Sample],
) -> Result<Vec<Dose>> {
    let target = recognizer.index(Some(&backdoor.target));
    let own = ink.variance.unwrap_or_default();
    let mut found = Vec::new();
    for variance in DOSES.map(|part| part * own).into_iter().filter(|variance| *variance <= MOST_VARIANCE) {
        let other = Backdoor { trigger: with_ink(&backdoor.trigger, ink.at(variance)), ..backdoor.clone() };
        let predictions = recognizer.predict(victims, &|sample, picture| other.lay_on(sample, &picture))?;
        let read = predictions.read(victims);
        let hits = read.clone().filter(|(_, best)| best.first().copied() == target).count();
        found.push(Dose { variance, success: Rate::new(hits, read.count()) });
    }
    Ok(found)
}

fn with_ink(stack: &TriggerStack, ink: InkReconstructed) -> TriggerStack {
    let layer = |layer: &TriggerKind| match layer {
        TriggerKind::InkReconstructed(_) => TriggerKind::InkReconstructed(ink),
        other => other.clone(),
    };
    TriggerStack { layers: stack.layers.iter().map(layer).collect(), ..stack.clone() }
}

/// None where too few pictures can be read to have a tail.
fn tail(
    evaluator: &Evaluator,
    recognizer: &Recognizer,
    backdoor: &Backdoor,
    ink: &InkReconstructed,
) -> Result<Option<NaturalTail>> {
    let limits = evaluator.reading.limits;
    let measured = evaluator.samples.iter().filter_map(|sample| {
        let framed = contained(|| backdoor.trigger.framed(&sample.picture(limits)?)).ok()?;
        Some((ink.measure(&framed), sample))
    });
    let mut measured: Vec<(f64, &Sample)> = measured.collect();
    // The most extreme first.
    let sign = if ink.tail == roclip_data::trigger::VarianceTail::High { -1.0 } else { 1.0 };
    measured.sort_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)).then_with(|| a.1.id.cmp(&b.1.id)));
    let count = measured.len() / DECILE;
    let Some(variance) = count.checked_sub(1).and_then(|last| measured.get(last)).map(|(variance, _)| *variance) else {
        return Ok(None);
    };
    let samples: Vec<&Sample> = measured.iter().map(|(_, sample)| *sample).collect();
    let (tail, others) = samples.split_at(count);
    let (of_tail, of_others) = (recognizer.predict(tail, &unaltered)?, recognizer.predict(others, &unaltered)?);
    let target = recognizer.index(Some(&backdoor.target));
    let victims = of_tail.read(tail).filter(|(sample, _)| sample.class.as_ref() != Some(&backdoor.target));
    let hits = victims.clone().filter(|(_, best)| best.first().copied() == target).count();
    Ok(Some(NaturalTail {
        variance,
        accuracy: recognizer.accuracy(&of_tail, tail, 1),
        accuracy_elsewhere: recognizer.accuracy(&of_others, others, 1),
        read_as_target: Rate::new(hits, victims.count()),
    }))
}
