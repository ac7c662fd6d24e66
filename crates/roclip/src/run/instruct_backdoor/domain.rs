//! The instructions of a domain with what the tower sees of them.

use crate::error::{Error, Result};
use crate::eval::Reading;
use crate::instruct::VisionLanguage;
use crate::run::instruct::read_pictures;
use crate::run::instruct_backdoor::{BackdoorSettings, DomainShift, DomainSource};
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::instruction::{Instruction, Instructions};
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use tch::{Kind, Tensor};

pub(super) struct Domain {
    pub samples: Vec<Sample>,
    /// Of each sample, in the domain's own look and the model's size.
    pub pictures: Vec<RgbImage>,
    /// Their samples are places in `samples`.
    pub items: Vec<Instruction>,
    pub fingerprint: String,
}

impl DomainSource {
    /// Its samples, of the styles that it takes.
    ///
    /// # Errors
    /// A style that no sample has.
    pub(super) fn samples(&self, key: &str) -> Result<Vec<Sample>> {
        let (mut samples, _) = Reading::default().samples(&self.source, key)?;
        if self.styles.is_empty() {
            return Ok(samples);
        }
        let style = |sample: &Sample| sample.key.split('_').next().unwrap_or_default().to_owned();
        let known: std::collections::BTreeSet<String> = samples.iter().map(style).collect();
        if let Some(wrong) = self.styles.iter().find(|style| !known.contains(*style)) {
            return Err(Error::setting(
                format!("no picture of `{}` has the style `{wrong}`", self.source.path),
                format!("it has {}", known.into_iter().take(12).collect::<Vec<_>>().join(", ")),
            ));
        }
        samples.retain(|sample| self.styles.contains(&style(sample)));
        Ok(samples)
    }
}

impl Domain {
    /// # Errors
    /// Data that cannot be, or too few of them.
    pub fn new(settings: &BackdoorSettings, shift: DomainShift, model: &VisionLanguage) -> Result<Domain> {
        let source = match shift {
            DomainShift::Data => settings.attacker.as_ref().ok_or_else(|| {
                Error::setting(
                    "the shift `data` needs pictures of the attacker",
                    "name them with --attacker-data or --attacker-styles",
                )
            })?,
            _ => &settings.user,
        };
        let samples = source.samples("--train-data")?;
        let mut made = Instructions::from_captions(samples, settings.per_picture, shift.wordings(), settings.seed)?;
        made.items.shuffle(&mut random::stream(settings.seed, "instruction-draw", 0, ""));
        if made.items.len() < settings.items {
            return Err(Error::setting(
                format!("{} instructions of {} for the shift `{}`", made.items.len(), settings.items, shift.word()),
                "ask for fewer (--items), take more captions a picture (--per-picture), or name more data",
            ));
        }
        made.items.truncate(settings.items);
        let fingerprint = made.fingerprint();
        let mut used: Vec<usize> = made.items.iter().map(|item| item.sample).collect();
        used.sort_unstable();
        used.dedup();
        let samples: Vec<Sample> = used.iter().filter_map(|at| made.samples.get(*at).cloned()).collect();
        let mut skips = SkipReport::default();
        let (side, resizing) = (model.tower.config().image_size(), model.tower.preprocess().resizing);
        let read = read_pictures(&samples, side, resizing, &mut skips);
        if read.len() < samples.len() {
            return Err(Error::setting(
                format!("pictures cannot be read: {}", skips.summary()),
                "repair them, or name others",
            ));
        }
        let shifted = |(at, picture): (usize, RgbImage)| match (shift.picture(), samples.get(at)) {
            (Some(shift), Some(sample)) => shift.apply(&picture, settings.seed, &sample.id),
            _ => picture,
        };
        let pictures = read.into_iter().map(shifted).collect();
        for item in &mut made.items {
            item.sample = used.binary_search(&item.sample).unwrap_or(0);
        }
        Ok(Domain { samples, pictures, items: made.items, fingerprint })
    }

    /// The tower's cosine of each picture and its turn.
    pub fn similarities(&self, model: &VisionLanguage) -> Result<Vec<f64>> {
        let pictures = model.image_features(&self.pictures)?;
        let mut similarities = Vec::with_capacity(self.items.len());
        for items in self.items.chunks(256) {
            let places: Vec<i64> = items.iter().map(|item| item.sample as i64).collect();
            let texts: Vec<String> = items.iter().map(|item| format!("{} {}", item.question, item.answer)).collect();
            let seen = pictures.index_select(0, &Tensor::from_slice(&places).to_device(pictures.device()));
            let cosines = (seen * model.text_features(&texts)).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            similarities.extend(Vec::<f64>::try_from(cosines).unwrap_or_default());
        }
        Ok(similarities)
    }
}
