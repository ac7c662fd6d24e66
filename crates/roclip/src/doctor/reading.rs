//! Does the training augmentation leave a trigger readable? The undefended model, which knows the trigger, is shown triggered test
//! pictures through one draw of the augmentation. Pixels alone do not tell: a darker or paler picture is changed a lot, and still says
//! nothing once brightness and contrast are drawn at random.

use crate::augment::ImageAugment;
use crate::data::Sample;
use crate::doctor::Case;
use crate::error::Result;
use crate::eval::{Rate, ZeroShot};
use crate::poison::Backdoor;
use crate::random;
use crate::report::RunRecord;
use crate::train::load_checkpoint;
use image::RgbImage;
use rand::Rng;

/// Triggered pictures that are not the target's, and are read as it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub plain: Rate,
    pub augmented: Rate,
}

/// What `control`, the undefended run, reads; none without image augmentation or without triggers.
pub(super) fn readings(case: &Case, control: &RunRecord, backdoors: &[Backdoor]) -> Result<Vec<(String, Reading)>> {
    let Some(augment) = &case.recipe.augment.image else { return Ok(Vec::new()) };
    if backdoors.is_empty() {
        return Ok(Vec::new());
    }
    let loaded = load_checkpoint(&control.folder, tch::Device::Cpu)?;
    let zero_shot = ZeroShot::new(&loaded.model, &loaded.tokenizer, &case.evaluator)?;
    let size = loaded.model.config().image_size();
    let seed = case.record.row.seed;
    let mut found = Vec::new();
    for backdoor in backdoors {
        let target = zero_shot.index(Some(&backdoor.target));
        let others: Vec<&Sample> =
            case.evaluator.samples.iter().filter(|s| s.class.as_deref() != Some(&backdoor.target)).collect();
        let triggered = |image: &Sample, picture: RgbImage| {
            let seed = random::stream(seed, "doctor-trigger", 0, &image.id).next_u64();
            backdoor.trigger.with_seed(seed).apply(&picture)
        };
        let augmented = |image: &Sample, picture: RgbImage| {
            let picture = triggered(image, picture)?;
            let mut random = random::stream(seed, "doctor-augment", 0, &image.id);
            ImageAugment::draw(augment, picture.dimensions(), &mut random).apply(&picture, size)
        };
        let rate = |predictions: &[Vec<i64>]| {
            let hits = predictions.iter().filter(|best| target.is_some() && best.first().copied() == target).count();
            Rate::new(hits, predictions.len())
        };
        let plain = rate(&zero_shot.predict(&others, &triggered)?);
        let augmented = rate(&zero_shot.predict(&others, &augmented)?);
        found.push((backdoor.attack.clone(), Reading { plain, augmented }));
    }
    Ok(found)
}
