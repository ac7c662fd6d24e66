//! Was a backdoor learned at all? The finished model reads the backdoor's own training pictures: as training showed them, with the
//! trigger as a test shows it, and without the trigger.

use crate::doctor::Case;
use crate::error::Result;
use crate::eval::{Alter, Recognizer, unaltered};
use image::RgbImage;
use roclip_data::augment::ImageAugment;
use roclip_data::pairs::Pair;
use roclip_data::poison::Backdoor;
use roclip_data::random;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Pictures looked at.
const PICTURES: usize = 256;

/// Poisoned training pictures that are read as the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Learned {
    /// With the trigger, through a draw of the training augmentation.
    pub in_training: Rate,
    /// With the trigger, as a test picture is shown.
    pub plain: Rate,
    /// As a test picture is shown, without the trigger.
    pub without: Rate,
}

/// None where every poisoned picture shows the target anyway, as label-consistent poison does.
pub(super) fn measure(case: &Case, recognizer: &Recognizer, backdoor: &Backdoor) -> Result<Option<Learned>> {
    let poisoned = poisoned(case, backdoor);
    let samples: Vec<&Sample> = poisoned.values().map(|(sample, _)| &**sample).collect();
    if samples.is_empty() {
        return Ok(None);
    }
    let target = recognizer.index(Some(&backdoor.target));
    let read_as_target = |alter: &Alter| -> Result<Rate> {
        let predictions = recognizer.predict(&samples, alter)?;
        let read = predictions.read(&samples);
        let hits = read.clone().filter(|(_, best)| best.first().copied() == target).count();
        Ok(Rate::new(hits, read.count()))
    };
    let triggered =
        |sample: &Sample, picture: RgbImage| match poisoned.get(&sample.id).and_then(|(_, p)| p.trigger.as_ref()) {
            Some(trigger) => trigger.apply(&picture),
            None => Ok(picture),
        };
    let (image_size, seed) = (case.loaded.model.config().image_size(), case.run.record.row.seed);
    let augment = case.run.recipe.augment.image.as_ref();
    let in_training = |sample: &Sample, picture: RgbImage| {
        let picture = triggered(sample, picture)?;
        let Some(config) = augment else { return Ok(picture) };
        let mut random = random::stream(seed, "doctor-augment", 0, &sample.id);
        ImageAugment::draw(config, picture.dimensions(), &mut random).apply(&picture, image_size)
    };
    Ok(Some(Learned {
        in_training: read_as_target(&in_training)?,
        plain: read_as_target(&triggered)?,
        without: read_as_target(&unaltered)?,
    }))
}

/// The backdoor's pictures that do not show its target, by sample, each with one of its poisoned pairs.
fn poisoned<'a>(case: &'a Case, backdoor: &Backdoor) -> BTreeMap<String, (Cow<'a, Sample>, Cow<'a, Pair>)> {
    let marked = case.pairs.poisoned().map(|(_, pair)| pair).filter(|pair| {
        pair.trigger.is_some() && pair.poison.as_ref().is_some_and(|mark| mark.attack == backdoor.attack)
    });
    let pictures = marked.filter_map(|pair| Some((case.pairs.sample_of(&pair)?, pair)));
    let others = pictures.filter(|(sample, _)| sample.class.as_deref() != Some(&backdoor.target));
    others.take(PICTURES).map(|(sample, pair)| (sample.id.clone(), (sample, pair))).collect()
}
