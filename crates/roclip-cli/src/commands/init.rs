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
    /// Any key of the recipe that is written, as in data.source.outside_paths=true; what it says of the data is heeded when they are looked at.
    /// May be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
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
    for assignment in &arguments.set {
        named = named.assign(assignment)?;
    }
    named.check_data_numbers()?;
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
            "--train-data `{}`: {}; repair the data, or name other data",
            training.source.path,
            training.losses(&survey)
        );
    }
    if survey.captions < 2 {
        bail!(
            "--train-data `{}` has {}; name at least two pairs{}",
            training.source.path,
            count(survey.captions, "pair"),
            training.left_out()
        );
    }
    let evaluation = labelled.as_ref().map(|labelled| (labelled.survey(limits), labelled.source.clone()));
    let found = Found {
        training: &survey,
        training_source: training.source.clone(),
        evaluation: evaluation.as_ref().map(|(survey, source)| (survey, source.clone())),
        attack: training.attack_example(labelled.as_ref())?,
        processors: roclip_data::threads::processors(),
    };
    let Fitted { mut recipe, mut notes, examples, .. } = fitted(found);
    let DataConfig { index, drop, weights, .. } = named.data;
    recipe.data = DataConfig { index, drop, weights, ..recipe.data };
    for assignment in &arguments.set {
        recipe = recipe.assign(assignment)?;
    }
    if !arguments.set.is_empty() {
        recipe.check()?;
        notes.retain(|key, _| !arguments.outdates(key));
    }
    let allowed = recipe.data.max_skip_fraction;
    let lost = unusable.max(training.lost()).max(labelled.as_ref().map_or(0.0, Data::lost));
    if lost > allowed {
        recipe.data.max_skip_fraction = ((lost * 150.0).ceil() / 100.0).min(1.0);
        let without = count(training.unused.total(), "picture");
        let captions = match training.unused.total() {
            0 => String::new(),
            _ => format!(
                " ({without} of the training data without a caption: write one for each, or drop them with `roclip data drop`)"
            ),
        };
        let limit = if allowed == DataConfig::default().max_skip_fraction { "usual limit" } else { "limit" };
        let said = format!(
            "{:.1} % of what was looked at cannot be used{captions}, more than the {limit} of {allowed}: look at it first",
            100.0 * lost
        );
        say(&format!("warning: {said}; data.max_skip_fraction is {} in the recipe", recipe.data.max_skip_fraction));
        notes.insert("data.max_skip_fraction".to_owned(), format!("-> {said}."));
    }
    let text = recipe.template_with(&notes, &examples, Scope::InUse)?;
    let train = &recipe.train;
    let steps = (survey.captions / train.batch_size.max(1)).max(1) * train.epochs as usize;
    say(&format!(
        "recipe: {}, batch {}, {}, {}, {} of them to warm up, {}",
        recipe.model.name,
        train.batch_size,
        count(train.epochs, "epoch"),
        count(steps, "step"),
        train.warmup(steps as u64).min(steps as u64),
        defence(&recipe)
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

impl Arguments {
    /// Whether a note at `key` may not hold any more, since --set gives the key, or one of the numbers that steps are counted by.
    fn outdates(&self, key: &str) -> bool {
        self.set.iter().any(|assignment| {
            let named = assignment.split('=').next().unwrap_or_default().trim();
            named == key || named.starts_with("train.") && key.starts_with("train.")
        })
    }
}

/// How the recipe defends, in words.
fn defence(recipe: &Recipe) -> String {
    let with = if recipe.augment.image.is_some() { "with" } else { "without" };
    format!("{} {with} augmentation", recipe.objective.name.title())
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
        // What is used whole has nothing beside it.
        self.source.split.as_ref()?;
        let there = splits(&self.all);
        TESTS.into_iter().find(|split| there.contains_key(*split))?;
        let source = SourceConfig { split: None, ..self.source.clone() };
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
        if self.source.split.is_some() {
            // It was asked for, so that nothing else is listed.
            self.used.clone_from(&self.all);
            return Ok(());
        }
        let there = splits(&self.all);
        let named = there.keys().any(|split| !split.is_empty());
        // An evaluation chooses among several on its own.
        if self.needs_no_split() && (wanted != TESTS || there.len() == 2) {
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
            check_all_parts_are_split(&self.source, self.all.iter().map(|s| (s.part, s.split.is_some())))
                .with_context(|| self.flag)?;
        }
        self.used = self.all.iter().filter(|sample| split.is_none() || sample.split == split).cloned().collect();
        Ok(())
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

    /// What cannot be used, of the pictures that were looked at for `survey` and of what the source names, the larger loss first.
    fn losses(&self, survey: &Survey) -> String {
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
