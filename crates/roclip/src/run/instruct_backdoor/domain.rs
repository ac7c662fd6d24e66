//! The instructions of a domain with what the tower sees of them.

use crate::error::{Error, Result};
use crate::instruct::VisionLanguage;
use crate::run::instruct::{SkipLimit, beside_tests, picture_for};
use crate::run::instruct_backdoor::{BackdoorSettings, DomainShift, DomainSource};
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::caption_metrics::{says, words};
use roclip_data::instruction::{Instruction, Instructions};
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

pub(super) struct Domain {
    pub samples: Vec<Sample>,
    /// Of each sample, in the domain's own look and the model's size.
    pub pictures: Vec<RgbImage>,
    /// Their samples are places in `samples`.
    pub items: Vec<Instruction>,
    pub fingerprint: String,
    /// What was left out of the data that `flag` names.
    pub skips: SkipReport,
    pub flag: &'static str,
    /// Which splits of the data are used, where it is not all of them.
    pub note: Option<String>,
}

impl DomainSource {
    /// Its samples, of the styles that it takes, and what was left out.
    ///
    /// # Errors
    /// A style that no sample has, and data of which too little can be used.
    pub(super) fn samples(&self, flag: &str, limit: SkipLimit) -> Result<(Vec<Sample>, SkipReport)> {
        let (mut samples, skips) = limit.samples(&self.source, flag)?;
        if self.styles.is_empty() {
            return Ok((samples, skips));
        }
        let style = |sample: &Sample| sample.key.split('_').next().unwrap_or_default().to_owned();
        let known: BTreeSet<String> = samples.iter().map(style).collect();
        if let Some(wrong) = self.styles.iter().find(|style| !known.contains(*style)) {
            return Err(Error::setting(
                format!("no picture of `{}` has the style `{wrong}`", self.source.path),
                format!("it has {}", known.into_iter().take(12).collect::<Vec<_>>().join(", ")),
            ));
        }
        samples.retain(|sample| self.styles.contains(&style(sample)));
        Ok((samples, skips))
    }
}

impl Domain {
    /// The domain beside the tests, where these are a split of its data.
    ///
    /// # Errors
    /// Data that cannot be, or too few of them.
    pub fn new(settings: &BackdoorSettings, shift: DomainShift, model: &VisionLanguage) -> Result<Domain> {
        Domain::read(settings, shift, model, true)
    }

    /// The domain with all splits of its data, as earlier versions took it.
    ///
    /// # Errors
    /// Those of [`Domain::new`].
    pub fn with_tests(settings: &BackdoorSettings, shift: DomainShift, model: &VisionLanguage) -> Result<Domain> {
        Domain::read(settings, shift, model, false)
    }

    fn read(
        settings: &BackdoorSettings,
        shift: DomainShift,
        model: &VisionLanguage,
        keeps_apart: bool,
    ) -> Result<Domain> {
        let (source, flag) = match (shift, &settings.attacker) {
            (DomainShift::Data, Some(attacker)) => (attacker, "--attacker-data"),
            (DomainShift::Data, None) => {
                return Err(Error::setting(
                    "the shift `data` needs pictures of the attacker",
                    "name them with --attacker-data or --attacker-styles",
                ));
            }
            _ => (&settings.user, "--train-data"),
        };
        let limit = SkipLimit(settings.max_skip_fraction);
        let (mut samples, mut skips) = source.samples(flag, limit)?;
        let note = match keeps_apart {
            true => beside_tests(&mut samples, &source.source, &settings.tests.source),
            false => None,
        };
        let mut made = Instructions::from_captions(samples, settings.per_picture, shift.wordings(), settings.seed)?;
        skips.merge(std::mem::take(&mut made.skips));
        limit.check(flag, "instructions", made.listed.unusable, made.listed.instructions, &skips)?;
        let enough = |found: usize| match found < settings.items {
            true => Err(Error::setting(
                format!("{found} instructions of {} for the shift `{}`", settings.items, shift.word()),
                "ask for fewer (--items), take more captions a picture (--per-picture), or name more data",
            )),
            false => Ok(()),
        };
        enough(made.items.len())?;
        made.items.shuffle(&mut random::stream(settings.seed, "instruction-draw", 0, ""));
        // Those about pictures that cannot be read give way to the next.
        let (mut pictures, mut lost) = (BTreeMap::new(), BTreeSet::new());
        let task = Task::part("reading pictures", settings.items, "instructions");
        for item in std::mem::take(&mut made.items) {
            if made.items.len() == settings.items {
                break;
            }
            let Some(sample) = made.samples.get(item.sample).filter(|_| !lost.contains(&item.sample)) else { continue };
            if let Entry::Vacant(place) = pictures.entry(item.sample) {
                match picture_for(model, sample) {
                    Ok(picture) => drop(place.insert(picture)),
                    Err(skip) => {
                        skips.add(&sample.id, skip);
                        lost.insert(item.sample);
                        continue;
                    }
                }
            }
            made.items.push(item);
            task.advance(1);
        }
        limit.check(flag, "pictures", lost.len(), lost.len() + pictures.len(), &skips)?;
        enough(made.items.len())?;
        let fingerprint = made.fingerprint();
        let used: Vec<usize> = pictures.keys().copied().collect();
        let samples: Vec<Sample> = used.iter().filter_map(|at| made.samples.get(*at).cloned()).collect();
        let shifted = |(sample, picture): (&Sample, RgbImage)| match shift.picture() {
            Some(shift) => shift.apply(&picture, settings.seed, &sample.id),
            None => picture,
        };
        let pictures = samples.iter().zip(pictures.into_values()).map(shifted).collect();
        for item in &mut made.items {
            item.sample = used.binary_search(&item.sample).unwrap_or(0);
        }
        Ok(Domain { samples, pictures, items: made.items, fingerprint, skips, flag, note })
    }

    /// Instructions whose answers do not name `target`, each with its place.
    pub fn without(&self, target: &str) -> impl Iterator<Item = (usize, &Instruction)> {
        let target = words(target);
        self.items.iter().enumerate().filter(move |(_, item)| !says(&words(&item.answer), &target))
    }

    /// Places of the instructions that can be poisoned: their answers do not name the target.
    ///
    /// # Errors
    /// Fewer than are to be poisoned.
    pub fn poisonable(&self, settings: &BackdoorSettings) -> Result<Vec<usize>> {
        let found: Vec<usize> = self.without(&settings.target).map(|(at, _)| at).collect();
        if found.len() < settings.poisoned() {
            return Err(Error::setting(
                format!(
                    "{} instructions do not name `{}`, and {} are to be poisoned",
                    found.len(),
                    settings.target,
                    settings.poisoned()
                ),
                "poison fewer (--poison-rate), or choose another target",
            ));
        }
        Ok(found)
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
