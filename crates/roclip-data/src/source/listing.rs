//! The samples that a source lists, and whether too many of them are lost.

use crate::error::{Error, Result};
use crate::escape::for_terminal;
use crate::picture::ImageLimits;
use crate::plural::count;
use crate::probe::probe_samples;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::losses::LostShard;

/// What most shares are of.
const SAMPLES: &str = "samples";

/// The samples of a source, and what it has besides them.
#[derive(Debug, Default)]
pub struct Listing {
    pub samples: Vec<Sample>,
    pub skips: SkipReport,
    /// Samples that the source names: those that are here, those of other splits, and those that were skipped.
    pub listed: usize,
    /// Pictures that were probed, and those of them that cannot be used.
    pub(super) probed: usize,
    pub(super) unusable: usize,
    /// Shards that are lost, wholly or from a place on; `skips` has them, too.
    pub(super) lost: Vec<LostShard>,
    /// About how many samples were in them.
    pub(crate) lost_samples: usize,
    /// Shards that were read, or folders that were looked into.
    pub shards: usize,
    /// Other files beside the samples, in words.
    pub remark: String,
}

impl Listing {
    /// Of samples that are elsewhere: what was left out, how many were listed, how many pictures were probed and could not be used, and the
    /// shards with about how many samples were in those that are lost.
    pub(crate) fn of_counts(
        skips: SkipReport,
        listed: usize,
        (probed, unusable): (usize, usize),
        (shards, lost_samples): (usize, usize),
    ) -> Listing {
        Listing { skips, listed, probed, unusable, shards, lost_samples, ..Listing::default() }
    }

    /// Counts shards that are lost.
    pub(super) fn add_lost(&mut self, lost: Vec<LostShard>) {
        for shard in lost {
            self.skips.add(&shard.name, shard.skip.clone());
            self.lost_samples = self.lost_samples.saturating_add(shard.samples);
            self.lost.push(shard);
        }
    }

    /// Leaves shards out of account that are lost, but lie in the folder of another split.
    pub fn forget_losses_beside(&mut self, split: &str) {
        let (kept, beside) = std::mem::take(&mut self.lost).into_iter().partition(|shard| shard.may_be_of(split));
        self.lost = kept;
        for shard in beside {
            self.skips.remove(&shard.name, shard.skip.reason);
            self.lost_samples = self.lost_samples.saturating_sub(shard.samples);
        }
    }

    /// The shards that are lost, the first of them by its name, and why; none where none are.
    pub(super) fn lost_in_words(&self) -> Option<String> {
        let first = self.lost.first()?;
        let others = match self.lost.len() {
            1 => String::new(),
            all => format!("; so are {}", count(all - 1, "other shard")),
        };
        let Skip { reason, detail } = &first.skip;
        Some(format!("`{}` is lost: {reason} ({detail}){others}", for_terminal(&first.name)))
    }

    /// Puts the name of a part of the data before all ids.
    pub(super) fn under(mut self, part: &str) -> Listing {
        for sample in &mut self.samples {
            sample.id = format!("{part}/{}", sample.id);
        }
        for shard in &mut self.lost {
            shard.name = format!("{part}/{}", shard.name);
        }
        Listing { skips: self.skips.under(part), ..self }
    }

    pub(super) fn append(&mut self, mut other: Listing) {
        self.samples.append(&mut other.samples);
        self.skips.merge(other.skips);
        self.lost.append(&mut other.lost);
        self.lost_samples = self.lost_samples.saturating_add(other.lost_samples);
        self.shards += other.shards;
        let separator = if self.remark.is_empty() || other.remark.is_empty() { "" } else { ", " };
        self.remark = format!("{}{separator}{}", self.remark, other.remark);
    }

    /// Looks at every picture's header with `workers` threads, gives the samples their digests, and skips those whose picture is not there or
    /// cannot be one.
    pub fn probe(&mut self, limits: ImageLimits, workers: usize) {
        let probed = probe_samples(&self.samples, limits, workers);
        let samples = std::mem::take(&mut self.samples);
        self.probed += samples.len();
        for (mut sample, probe) in samples.into_iter().zip(probed) {
            match probe {
                Ok(probe) => {
                    sample.digest = Some(probe.digest);
                    self.samples.push(sample);
                }
                Err(skip) => {
                    self.unusable += 1;
                    self.skips.add(&sample.id, skip);
                }
            }
        }
    }

    /// Skips the samples that have no caption, which nothing can be trained on.
    pub fn require_captions(&mut self) {
        let Listing { samples, skips, .. } = self;
        samples.retain(|sample| {
            if sample.captions.is_empty() {
                skips.add(&sample.id, Skip::new(SkipReason::NoCaption, "the source gives it none"));
            }
            !sample.captions.is_empty()
        });
    }

    /// Makes labelled pictures of the samples: `class_of` says a sample's class, which becomes its only caption. Where `required`, samples
    /// without a class are skipped; otherwise they have no caption, either.
    ///
    /// # Errors
    /// Those of `class_of`.
    pub fn label<E>(
        &mut self,
        required: bool,
        class_of: impl Fn(&Sample) -> std::result::Result<Option<String>, E>,
    ) -> std::result::Result<(), E> {
        for mut sample in std::mem::take(&mut self.samples) {
            sample.class = class_of(&sample)?;
            sample.captions = sample.class.iter().cloned().collect();
            match required && sample.class.is_none() {
                true => self.skips.add(&sample.id, Skip::new(SkipReason::NoClass, "the source gives it none")),
                false => self.samples.push(sample),
            }
        }
        Ok(())
    }

    /// Whether enough is left of the data that the recipe names at `key`: at most `max_skip_fraction` of the samples, of the pictures that were
    /// probed, and of the shards may be lost, each rounded up. Samples of lost shards count with the others, and once more against those of the
    /// split alone. (A sample that cannot be read does not say of which split it would have been.)
    ///
    /// # Errors
    /// The losses by reason, and the name of the setting.
    pub fn check_losses(&self, max_skip_fraction: f64, key: &str) -> Result<()> {
        self.check_shares(max_skip_fraction, key)?;
        match self.samples.is_empty() {
            true => Err(Error::setting(
                format!("{key}: no sample could be used: {}", self.skips.summary()),
                "repair the data, or name other data",
            )),
            false => Ok(()),
        }
    }

    /// [`Listing::check_losses`] of samples that are elsewhere.
    ///
    /// # Errors
    /// The same.
    pub fn check_shares(&self, max_skip_fraction: f64, key: &str) -> Result<()> {
        match self.lost_beyond(max_skip_fraction) {
            Some(lost) => Err(Error::setting(
                format!("{key}: {lost}"),
                format!(
                    "repair the data, or raise data.max_skip_fraction (now {max_skip_fraction}; `roclip caption`: --max-skip-fraction)"
                ),
            )),
            None => Ok(()),
        }
    }

    /// What is lost beyond `max_skip_fraction`, in words; none where enough is left.
    pub fn lost_beyond(&self, max_skip_fraction: f64) -> Option<String> {
        let (lost, of, what) =
            self.shares().into_iter().find(|(lost, of, _)| *lost > allowed_losses(max_skip_fraction, *of))?;
        let about = if what == SAMPLES && self.lost_samples > 0 { "about " } else { "" };
        Some(format!(
            "{about}{lost} of {of} {what} could not be used (lost are {} of {} shards or folders): {}",
            self.skips.count(SkipReason::loses_shard),
            self.shards,
            self.skips.summary()
        ))
    }

    /// The share that must be allowed to be lost, so that [`Listing::check_shares`] goes on: any larger one does.
    pub fn lost_share(&self) -> f64 {
        // What is allowed is rounded up.
        let shares = self.shares().map(|(lost, of, _)| lost.saturating_sub(1) as f64 / of.max(1) as f64);
        shares.into_iter().fold(0.0, f64::max)
    }

    /// How many are lost, of how many, and of what.
    fn shares(&self) -> [(usize, usize, &'static str); 4] {
        let (lost_alone, in_shards) = (self.skips.count(SkipReason::loses_sample), self.lost_samples);
        let in_split = self.probed.max(self.samples.len()).saturating_add(in_shards);
        [
            (lost_alone.saturating_add(in_shards), self.listed.saturating_add(in_shards), SAMPLES),
            (in_shards, in_split, SAMPLES),
            (self.unusable, self.probed, "pictures"),
            (self.skips.count(SkipReason::loses_shard), self.shards, "shards or folders"),
        ]
    }
}

/// How many of `of` may be lost. A share that is no number allows nothing.
pub fn allowed_losses(max_skip_fraction: f64, of: usize) -> usize {
    (max_skip_fraction.clamp(0.0, 1.0) * of as f64).ceil() as usize
}
