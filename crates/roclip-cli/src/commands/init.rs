//! `roclip init`: looks at somebody's data, and writes a recipe that fits it.

use crate::commands::overrides::{DataFlags, Overrides};
use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::eval::NO_IMAGES;
use roclip::recipe::{AttackExample, DataConfig, Fitted, Found, Recipe, Scope, fitted};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::picture::ImageLimits;
use roclip_data::plural::count;
use roclip_data::sample::{ImageBytes, Sample};
use roclip_data::skip::{Skip, SkipReason, SkipReport};
use roclip_data::source::{Listing, SourceConfig, check_all_parts_are_split, list_samples};
use roclip_data::survey::{Survey, splits};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Splits that are evaluated on, the first that there is.
const TESTS: [&str; 4] = ["test", "val", "validation", "valid"];
/// What a run leaves out of its data unasked.
const USUAL_LOSS: f64 = 0.05;

#[derive(Args)]
#[command(
    mut_arg("train_data", |flag| flag.required(true)),
    after_help = "Example:
  roclip init --train-data shards/ --val-data labelled/ > mine.toml
  roclip train --config mine.toml --run runs/mine"
)]
pub struct Arguments {
    #[command(flatten)]
    data: DataFlags,
    /// File to write the recipe to, which must not be there yet; it goes to stdout otherwise
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if let Some(out) = arguments.out.as_ref().filter(|out| out.exists()) {
        bail!("--out `{}` exists already; name another file, or remove it", out.display());
    }
    let mut named = Recipe::default();
    arguments.data.apply(&mut named)?;
    let limits = named.data.limits;
    let training = Data::read(named.data.source.clone(), limits, "--train-data")?.for_training()?;
    say(&training.line("training data", limits));
    let labelled = match arguments.data.names_evaluation_data() {
        true if named.eval.source.path == NO_IMAGES => None,
        true => Some(Data::read(named.eval.source.clone(), limits, "--val-data")?.for_evaluation()?),
        false => training.held_out(),
    };
    match &labelled {
        Some(labelled) => say(&labelled.line("evaluation data", limits)),
        None => {
            say("evaluation data: none was named; the run trains without evaluation (--val-data names labelled images)")
        }
    }
    let survey = training.survey(limits);
    let unusable = survey.unusable_share();
    if unusable > 0.5 {
        bail!(
            "--train-data `{}`: {} of {} pictures that were looked at cannot be used: {}; repair the data, or name other data",
            training.source.path,
            survey.unusable.total(),
            survey.sampled,
            survey.unusable.summary()
        );
    }
    if survey.captions < 2 {
        bail!("--train-data `{}` has {} pair; name at least two pairs", training.source.path, survey.captions);
    }
    let evaluation = labelled.as_ref().map(|labelled| (labelled.survey(limits), labelled.source.clone()));
    let found = Found {
        training: &survey,
        training_source: training.source.clone(),
        evaluation: evaluation.as_ref().map(|(survey, source)| (survey, source.clone())),
        attack: training.attack_example(labelled.as_ref())?,
        processors: roclip_data::threads::processors(),
    };
    let Fitted { mut recipe, mut notes, examples, steps } = fitted(found);
    let DataConfig { index, drop, weights, .. } = named.data;
    recipe.data = DataConfig { index, drop, weights, ..recipe.data };
    let lost = unusable.max(training.lost()).max(labelled.as_ref().map_or(0.0, Data::lost));
    if lost > USUAL_LOSS {
        recipe.data.max_skip_fraction = ((lost * 150.0).ceil() / 100.0).min(1.0);
        let without = count(training.unused.total(), "picture");
        let captions = match training.unused.total() {
            0 => String::new(),
            _ => format!(
                " ({without} of the training data without a caption: write one for each, or drop them with `roclip data drop`)"
            ),
        };
        let said = format!(
            "{:.1} % of what was looked at cannot be used{captions}, more than the usual limit of {USUAL_LOSS}: look at it first",
            100.0 * lost
        );
        say(&format!("warning: {said}; data.max_skip_fraction is {} in the recipe", recipe.data.max_skip_fraction));
        notes.insert("data.max_skip_fraction".to_owned(), format!("-> {said}."));
    }
    let text = recipe.template_with(&notes, &examples, Scope::InUse)?;
    let train = &recipe.train;
    say(&format!(
        "recipe: {}, batch {}, {}, {}, {} of them to warm up, RoCLIP with augmentation",
        recipe.model.name,
        train.batch_size,
        count(train.epochs, "epoch"),
        count(steps, "step"),
        train.warmup(steps as u64)
    ));
    let file = match &arguments.out {
        None => {
            print!("{text}");
            "FILE".to_owned()
        }
        Some(out) => {
            artifact::write(out, text.as_bytes()).with_context(|| format!("--out `{}`", out.display()))?;
            println!("{}", out.display());
            out.display().to_string()
        }
    };
    say(&format!("next: roclip train --config {file} --run runs/mine (--dry-run says how long it takes)"));
    Ok(())
}

/// Samples of one source, and of them those of the split that is used.
struct Data {
    source: SourceConfig,
    flag: &'static str,
    all: Vec<Sample>,
    skips: SkipReport,
    listed: usize,
    shards: usize,
    used: Vec<Sample>,
    /// Of the split that is used, pictures without a caption to train on, or without a class to be measured by.
    unused: SkipReport,
    /// Share that is lost of the shards and of what was in them.
    lost_share: f64,
}

impl Data {
    fn read(source: SourceConfig, limits: ImageLimits, flag: &'static str) -> Result<Data> {
        let listing = list_samples(&source, limits).with_context(|| flag)?;
        let lost_share = listing.lost_share();
        let Listing { samples, skips, listed, shards, .. } = listing;
        let unused = SkipReport::default();
        Ok(Data { source, flag, all: samples, skips, listed, shards, used: Vec::new(), unused, lost_share })
    }

    /// Uses the split `train`, or all where there are no splits, and of them the pictures that have captions.
    fn for_training(mut self) -> Result<Data> {
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
    fn for_evaluation(mut self) -> Result<Data> {
        self.choose(&TESTS)?;
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

    /// The labelled pictures of the same data that are not trained on, where there are any.
    fn held_out(&self) -> Option<Data> {
        let split = TESTS.into_iter().find(|split| splits(&self.all).contains_key(*split))?;
        let source = SourceConfig { split: Some(split.to_owned()), ..self.source.clone() };
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
        let there = splits(&self.all);
        let named = there.keys().any(|split| !split.is_empty());
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
            check_all_parts_are_split(&self.source, self.all.iter().map(|s| (s.part, s.split.is_some())))
                .with_context(|| self.flag)?;
        }
        self.used = self.all.iter().filter(|sample| split.is_none() || sample.split == split).cloned().collect();
        Ok(())
    }

    fn survey(&self, limits: ImageLimits) -> Survey {
        Survey::of(&self.used, limits)
    }

    /// Attacks on this training data, measured on `labelled`.
    fn attack_example(&self, labelled: Option<&Data>) -> Result<Option<AttackExample>> {
        let pictures = labelled.map_or(&[][..], |labelled| labelled.used.as_slice());
        let classes: BTreeSet<String> = pictures.iter().filter_map(|sample| sample.class.clone()).collect();
        Ok(AttackExample::of(&self.used, &classes, pictures.len())?)
    }

    /// Share of what the source names that a run would not use, as it counts that itself: pictures without a class cost an evaluation nothing.
    fn lost(&self) -> f64 {
        let lost = self.skips.count(SkipReason::loses_sample);
        let lost = lost + self.unused.count(|reason| reason == SkipReason::NoCaption);
        self.lost_share.max(lost as f64 / self.listed.max(1) as f64)
    }

    fn left_out(&self) -> String {
        let mut all = self.skips.clone();
        all.merge(self.unused.clone());
        match all.total() {
            0 => String::new(),
            _ => format!(" (left out: {})", all.summary()),
        }
    }

    /// What was found, for people.
    fn line(&self, what: &str, limits: ImageLimits) -> String {
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
                splits(&self.all).into_iter().filter(|(name, _)| name != split).collect();
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
        if survey.unusable.total() > 0 {
            parts.push(format!("of {} looked at unusable: {}", survey.sampled, survey.unusable.summary()));
        }
        format!("{what} `{}`: {}{}", self.source.path, parts.join(", "), self.left_out())
    }
}
