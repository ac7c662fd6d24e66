//! What a model that answers questions learns from, and how much of it may be lost.

use crate::error::{Error, Result};
use crate::eval::is_for_training;
use crate::instruct::VisionLanguage;
use image::RgbImage;
use roclip_data::instruction::{Instructions, Wordings, read_instructions};
use roclip_data::picture::ImageLimits;
use roclip_data::sample::Sample;
use roclip_data::skip::{Skip, SkipReport};
use roclip_data::source::{SourceConfig, allowed_losses, list_samples};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where instructions come from.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum InstructData {
    /// Captions, worded by templates.
    Captions { source: Box<SourceConfig>, per_picture: usize, wordings: Wordings },
    /// A file in LLaVA's layout.
    File { path: PathBuf, image_root: Option<PathBuf> },
}

impl InstructData {
    /// The flag that names it.
    pub(in crate::run) fn flag(&self) -> &'static str {
        match self {
            InstructData::Captions { .. } => "--train-data",
            InstructData::File { .. } => "--instructions",
        }
    }
}

/// The instructions that `data` names, of which a share of `max_skip_fraction` may be lost; of captions those beside `tests`, and which splits
/// these are where it is not all of them. Without `tests`, those of all splits.
///
/// # Errors
/// Data of which nothing can be used, or too little.
pub(super) fn read_data(
    data: &InstructData,
    tests: Option<&SourceConfig>,
    seed: u64,
    max_skip_fraction: f64,
) -> Result<(Instructions, Option<String>)> {
    let limit = SkipLimit(max_skip_fraction);
    let mut note = None;
    let made = match data {
        InstructData::Captions { source, per_picture, wordings } => {
            let (mut samples, skips) = limit.samples(source, data.flag())?;
            note = tests.and_then(|tests| beside_tests(&mut samples, source, tests));
            let mut made = Instructions::from_captions(samples, *per_picture, *wordings, seed)?;
            made.skips.merge(skips);
            made
        }
        InstructData::File { path, image_root } => {
            read_instructions(path, image_root.as_deref(), ImageLimits::default(), 1)?
        }
    };
    let listed = made.listed;
    limit.check(data.flag(), "instructions", listed.unusable, listed.instructions, &made.skips)?;
    limit.check(data.flag(), "pictures", listed.pictures - made.samples.len(), listed.pictures, &made.skips)?;
    Ok((made, note))
}

/// Largest share of the data that may be lost, as of `data.max_skip_fraction` in recipes.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct SkipLimit(pub f64);

impl SkipLimit {
    /// The samples of `source`, which `flag` names, whose pictures are there and have a header that can be one.
    ///
    /// # Errors
    /// When too large a share of the source cannot be used.
    pub fn samples(self, source: &SourceConfig, flag: &str) -> Result<(Vec<Sample>, SkipReport)> {
        let limits = ImageLimits::default();
        let mut listing = list_samples(source, limits)?;
        listing.probe(limits, 1);
        match listing.lost_beyond(self.0) {
            Some(lost) => Err(self.exceeded(flag, &lost)),
            None if listing.samples.is_empty() => Err(Error::setting(
                format!("{flag}: no sample could be used: {}", listing.skips.summary()),
                "repair the data, or name other data",
            )),
            None => Ok((listing.samples, listing.skips)),
        }
    }

    /// # Errors
    /// When `lost` of `of` things, which `flag` names, are too many.
    pub fn check(self, flag: &str, what: &str, lost: usize, of: usize, skips: &SkipReport) -> Result<()> {
        match lost > allowed_losses(self.0, of) {
            true => Err(self.exceeded(flag, &format!("{lost} of {of} {what} could not be used: {}", skips.summary()))),
            false => Ok(()),
        }
    }

    fn exceeded(self, flag: &str, lost: &str) -> Error {
        let remedy = format!("repair the data, leave them out of it, or raise --max-skip-fraction (now {})", self.0);
        Error::setting(format!("{flag}: {lost}"), remedy)
    }
}

/// The picture of `sample` at the model's size.
///
/// # Errors
/// Why it cannot be read.
pub(in crate::run) fn picture_for(model: &VisionLanguage, sample: &Sample) -> std::result::Result<RgbImage, Skip> {
    let (side, resizing) = (model.tower.config().image_size(), model.tower.preprocess().resizing);
    roclip_data::guard::contained(|| resizing.apply(&sample.picture(ImageLimits::default())?, side))
}

/// Said of what was begun before [`beside_tests`] kept tests apart that are a split of the data.
pub(in crate::run) const LEARNED_TESTS: &str = "was begun by an earlier version of roclip, which took instructions of the test pictures, too: tests were a split of the data \
     (--train-data), and all of the data was used";

/// Where tests are a split of the data that `source` is all of, keeps those of its split for training, or else those of all other splits; says
/// which. A folder that is the tests' split itself stays as it is.
pub(in crate::run) fn beside_tests(
    samples: &mut Vec<Sample>,
    source: &SourceConfig,
    tests: &SourceConfig,
) -> Option<String> {
    let held = tests.split.as_deref().filter(|_| source.split.is_none() && source.path == tests.path)?;
    let is_held = |sample: &Sample| sample.split.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(held));
    let has_training = samples.iter().any(is_for_training);
    let kept = |sample: &Sample| if has_training { is_for_training(sample) } else { !is_held(sample) };
    let count = samples.iter().filter(|sample| kept(sample)).count();
    if count == 0 || count == samples.len() {
        return None;
    }
    samples.retain(kept);
    let used = if has_training { "its split for training" } else { "its other splits" };
    Some(format!("`{}`: its split `{held}` is asked, and instructions are of {used} ({count} pictures)", source.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;

    #[test]
    fn instructions_are_of_no_split_that_is_asked() {
        let of = |split: &str| {
            let mut sample = Sample::new("list".into(), split, ImageBytes::Memory(Vec::new().into()));
            sample.split = Some(split.to_owned()).filter(|split| !split.is_empty());
            sample
        };
        let all = SourceConfig { path: "list".into(), ..SourceConfig::default() };
        let tests = SourceConfig { split: Some("test".into()), ..all.clone() };
        let kept = |splits: &[&str], source: &SourceConfig| {
            let mut samples: Vec<Sample> = splits.iter().map(|split| of(split)).collect();
            let said = beside_tests(&mut samples, source, &tests);
            assert_eq!(said.is_some(), samples.len() < splits.len());
            samples.into_iter().map(|sample| sample.key).collect::<Vec<_>>()
        };
        assert_eq!(kept(&["train", "val", "TEST", ""], &all), ["train"]);
        assert_eq!(kept(&["a", "val", "test", ""], &all), ["a", "val", ""]);
        assert_eq!(kept(&["test", "test"], &all), ["test", "test"], "a folder that is the split itself");
        assert_eq!(kept(&["train", "test"], &tests), ["train", "test"], "a split was named");
        let other = SourceConfig { path: "other".into(), ..all.clone() };
        assert_eq!(kept(&["train", "test"], &other), ["train", "test"], "tests are of other data");
    }
}
