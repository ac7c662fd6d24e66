//! Samples that `roclip init` looks at, and which of their splits it uses.

use anyhow::{Context, Result, bail};
use roclip::recipe::AttackExample;
use roclip_data::escape::for_terminal;
use roclip_data::picture::ImageLimits;
use roclip_data::plural::count;
use roclip_data::sample::{ImageBytes, Sample};
use roclip_data::skip::{Skip, SkipReason, SkipReport};
use roclip_data::source::{Listing, SourceConfig, check_all_parts_are_split, list_samples};
use roclip_data::survey::{HELD_OUT, Survey, splits};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a sample is of `split`, as sources that are asked for one see it.
fn is_of(sample: &Sample, split: &str) -> bool {
    sample.split.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(split))
}

/// Samples of one source, and of them those of the split that is used.
pub struct Data {
    pub source: SourceConfig,
    flag: &'static str,
    /// Whether no split is looked for.
    is_whole: bool,
    all: Vec<Sample>,
    skips: SkipReport,
    listed: usize,
    shards: usize,
    used: Vec<Sample>,
    /// Of the split that is used, pictures without a caption to train on, or without a class to be measured by.
    pub unused: SkipReport,
    /// Share that is lost of the shards and of what was in them.
    lost_share: f64,
}

impl Data {
    /// Lists all splits, whichever of them is asked for: others are what may be evaluated on.
    pub fn read(source: SourceConfig, limits: ImageLimits, flag: &'static str, is_whole: bool) -> Result<Data> {
        let all = SourceConfig { split: None, ..source.clone() };
        let mut listing = list_samples(&all, limits).with_context(|| flag)?;
        if let Some(split) = &source.split
            && !listing.samples.iter().any(|sample| is_of(sample, split))
        {
            // A folder may be the split itself; or there is no such split.
            listing = list_samples(&source, limits).with_context(|| flag)?;
        } else if let Some(split) = &source.split {
            // What is lost of other splits is nothing to a run on this one.
            listing.forget_losses_beside(split);
        }
        let lost_share = listing.lost_share();
        let Listing { samples, skips, listed, shards, .. } = listing;
        let unused = SkipReport::default();
        Ok(Data { source, flag, is_whole, all: samples, skips, listed, shards, used: Vec::new(), unused, lost_share })
    }

    /// Uses the split `train`, or all where there are no splits, and of them the pictures that have captions.
    pub fn for_training(mut self) -> Result<Data> {
        self.choose(&["train"])?;
        self.use_those(SkipReason::NoCaption, |sample| !sample.captions.is_empty());
        if self.used.is_empty() {
            bail!(
                "{} `{}`: none of its {} pictures has a caption; put a text beside each picture (a.jpg, a.txt), or name the column with --csv-caption-key{}",
                self.flag,
                self.source.path,
                self.all.len(),
                self.left_out()
            );
        }
        Ok(self)
    }

    /// Uses the split `test` or another one that is not trained on, or all where there are no splits, and of them the labelled pictures.
    pub fn for_evaluation(mut self) -> Result<Data> {
        self.choose(&HELD_OUT)?;
        self.use_those(SkipReason::NoClass, |sample| sample.class.is_some());
        let classes = Survey::of(&self.used, ImageLimits::default()).classes.len();
        if classes < 2 {
            bail!(
                "{} `{}` has {classes} classes, and an evaluation chooses among at least two; lay the pictures in a folder for each class, name a CSV with a class column, or make labels from captions with `roclip data concepts`{}",
                self.flag,
                self.source.path,
                self.left_out()
            );
        }
        Ok(self)
    }

    /// Keeps the pictures that have what is needed, and counts the others.
    fn use_those(&mut self, lacking: SkipReason, has: impl Fn(&Sample) -> bool) {
        self.used.retain(|sample| {
            let is_used = has(sample);
            if !is_used {
                self.unused.add(&sample.id, Skip::new(lacking, "the source gives it none"));
            }
            is_used
        });
    }

    /// The split to evaluate on of those that are not used, where there is one.
    pub fn split_beside(&self) -> Option<&'static str> {
        // What is used whole has nothing beside it.
        let own = self.source.split.as_ref()?;
        let there = splits(&self.all);
        HELD_OUT.into_iter().find(|split| !split.eq_ignore_ascii_case(own) && there.contains_key(*split))
    }

    /// The labelled pictures of the same data that are not trained on, where there are any.
    pub fn held_out(&self) -> Option<Data> {
        let source = SourceConfig { split: Some(self.split_beside()?.to_owned()), ..self.source.clone() };
        let data = Data {
            source,
            all: self.all.clone(),
            skips: self.skips.clone(),
            used: Vec::new(),
            unused: SkipReport::default(),
            ..*self
        };
        data.for_evaluation().ok()
    }

    fn choose(&mut self, wanted: &[&str]) -> Result<()> {
        if let Some(split) = &self.source.split {
            self.check_parts()?;
            self.used = self.all.iter().filter(|sample| is_of(sample, split)).cloned().collect();
            if self.used.is_empty() {
                // A folder that is the split itself.
                self.used.clone_from(&self.all);
            }
            return Ok(());
        }
        if self.is_whole {
            self.used.clone_from(&self.all);
            return Ok(());
        }
        let there = splits(&self.all);
        let named = there.keys().any(|split| !split.is_empty());
        // An evaluation chooses among several on its own.
        if self.needs_no_split() && (wanted != HELD_OUT || there.len() == 2) {
            self.used.clone_from(&self.all);
            return Ok(());
        }
        self.source.split = wanted.iter().find(|split| there.contains_key(**split)).map(|split| (*split).to_owned());
        if named && self.source.split.is_none() && there.len() > 1 {
            let names: Vec<String> = there.keys().map(|name| format!("`{}`", for_terminal(name))).collect();
            bail!(
                "{} `{}` has the splits {}, and none is called {}; name the data of one split",
                self.flag,
                self.source.path,
                names.join(", "),
                wanted.join(" or ")
            );
        }
        let split = self.source.split.clone();
        if split.is_some() {
            self.check_parts()?;
        }
        self.used = self.all.iter().filter(|sample| split.is_none() || sample.split == split).cloned().collect();
        Ok(())
    }

    /// Whether a split can be asked for of each part that is joined.
    fn check_parts(&self) -> Result<()> {
        let parts = self.all.iter().map(|sample| (sample.part, sample.split.is_some()));
        check_all_parts_are_split(&self.source, parts).with_context(|| self.flag)
    }

    /// Whether some of the parts that are joined are of no split, and each of the others is of one, as where the files of a split were named. Of
    /// these a split cannot be asked for, and need not be.
    fn needs_no_split(&self) -> bool {
        let mut parts: BTreeMap<u32, BTreeSet<Option<&str>>> = BTreeMap::new();
        for sample in &self.all {
            parts.entry(sample.part).or_default().insert(sample.split.as_deref());
        }
        let is_of = |none: bool| parts.values().any(|splits| splits.iter().any(|split| split.is_none() == none));
        is_of(true) && is_of(false) && parts.values().all(|splits| splits.len() == 1)
    }

    pub fn survey(&self, limits: ImageLimits) -> Survey {
        Survey::of(&self.used, limits)
    }

    /// Attacks on this training data, measured on `labelled`.
    pub fn attack_example(&self, labelled: Option<&Data>) -> Result<Option<AttackExample>> {
        let pictures = labelled.map_or(&[][..], |labelled| labelled.used.as_slice());
        let classes: BTreeSet<String> = pictures.iter().filter_map(|sample| sample.class.clone()).collect();
        Ok(AttackExample::of(&self.used, &classes, pictures.len())?)
    }

    /// Share of what the source names that a run would not use, as it counts that itself: pictures without a class cost an evaluation nothing.
    pub fn lost(&self) -> f64 {
        let lost = self.skips.count(SkipReason::loses_sample);
        let lost = lost + self.unused.count(|reason| reason == SkipReason::NoCaption);
        self.lost_share.max(lost as f64 / self.listed.max(1) as f64)
    }

    /// What cannot be used, of the pictures that were looked at for `survey` and of what the source names, the larger loss first.
    pub fn losses(&self, survey: &Survey) -> String {
        let of = count(survey.sampled, "picture");
        let looked_at =
            format!("{} of {of} looked at cannot be used: {}", survey.unusable.total(), survey.unusable.summary());
        let mut before = self.skips.clone();
        before.merge(self.unused.clone());
        let lost = before.count(SkipReason::loses_sample);
        let named = format!("{lost} of {} left out: {}", count(self.listed, "sample"), before.summary());
        match lost {
            0 => looked_at,
            lost if lost > survey.unusable.total() => format!("{named}; and {looked_at}"),
            _ => format!("{looked_at}; and {named}"),
        }
    }

    pub fn left_out(&self) -> String {
        let mut all = self.skips.clone();
        all.merge(self.unused.clone());
        match all.total() {
            0 => String::new(),
            _ => format!(" (left out: {})", all.summary()),
        }
    }

    /// What was found, for people.
    pub fn line(&self, what: &str, limits: ImageLimits) -> String {
        let survey = self.survey(limits);
        let mut parts = vec![count(survey.pictures, "picture")];
        if survey.captions > 0 {
            let mean = survey.captions as f64 / survey.captioned.max(1) as f64;
            parts.push(format!(
                "{} ({mean:.1} a picture, {} at most)",
                count(survey.captions, "caption"),
                survey.most_captions
            ));
        }
        if !survey.classes.is_empty() {
            let counts = || survey.classes.values().copied();
            let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
            let classes = count(survey.classes.len(), "class");
            parts.push(match fewest == most {
                true => format!("{classes} of {}", count(most, "picture")),
                false => format!("{classes} of {fewest} to {most} pictures"),
            });
        } else {
            parts.push("no classes".to_owned());
        }
        if let (Some(smallest), Some(largest)) = (survey.shorter_sides.first(), survey.shorter_sides.last()) {
            parts.push(format!(
                "shorter side {smallest} to {largest} pixels, median {} (of {})",
                survey.median_side(),
                count(survey.sampled, "picture")
            ));
        }
        // Folders of classes and lists are told by their classes and pictures.
        if self.used.iter().any(|sample| matches!(sample.image, ImageBytes::Span { .. })) {
            parts.push(count(self.shards, "shard"));
        }
        if let Some(split) = &self.source.split {
            let others: BTreeMap<String, usize> =
                splits(&self.all).into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(split)).collect();
            let others: Vec<String> = others
                .iter()
                .map(
                    |(name, count)| {
                        if name.is_empty() { format!("{count} in none") } else { format!("{name} {count}") }
                    },
                )
                .collect();
            let others = if others.is_empty() { String::new() } else { format!(" (also {})", others.join(", ")) };
            parts.push(format!("split {split}{others}"));
        }
        if self.source.split.is_none() && self.needs_no_split() {
            let there = splits(&self.all);
            let named = |name: &str| if name.is_empty() { "none" } else { name }.to_owned();
            let there: Vec<String> = there.iter().map(|(name, count)| format!("{} {count}", named(name))).collect();
            parts.push(format!("no split is set: each joined part is of one or of none ({})", there.join(", ")));
        }
        if survey.unusable.total() > 0 {
            parts.push(format!("of {} looked at unusable: {}", survey.sampled, survey.unusable.summary()));
        }
        format!("{what} `{}`: {}{}", self.source.path, parts.join(", "), self.left_out())
    }
}
