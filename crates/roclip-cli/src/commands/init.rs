//! `roclip init`: looks at somebody's data, and writes a recipe that fits it.

use crate::commands::init_data::Data;
use crate::commands::overrides::{DataFlags, Overrides};
use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::eval::NO_IMAGES;
use roclip::recipe::{
    DataConfig, Fitted, Found, ObjectiveName, Recipe, Scope, VIEWS_BEFORE_MATCHING_IN_THE_DEMO, fitted,
    views_before_matching,
};
use roclip_data::artifact;
use roclip_data::plural::count;
use roclip_data::source::SourceConfig;
use std::path::PathBuf;

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
    // What a recipe is measured on where nobody says it is no part of what --set says.
    named.eval.source = SourceConfig::default();
    arguments.data.apply(&mut named)?;
    for assignment in &arguments.set {
        named = named.assign(assignment)?;
    }
    named.check_data_numbers()?;
    let limits = named.data.limits;
    let is_whole = arguments.takes_out("data.source.split");
    let training = Data::read(named.data.source.clone(), limits, "--train-data", is_whole)?.for_training()?;
    say(&training.line("training data", limits));
    let labelled = arguments.labelled(&named, &training)?;
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
        epochs: arguments.sets("train.epochs").then_some(named.train.epochs),
        batch_size: arguments.sets("train.batch_size").then_some(named.train.batch_size),
    };
    let Fitted { mut recipe, mut notes, examples, .. } = fitted(found);
    let DataConfig { index, drop, weights, .. } = named.data;
    recipe.data = DataConfig { index, drop, weights, ..recipe.data };
    for assignment in &arguments.set {
        recipe = recipe.assign(assignment)?;
    }
    // The look heeded what --set says of them, and found the splits besides.
    recipe.data.source = training.source.clone();
    if let Some(labelled) = &labelled {
        recipe.eval.source = labelled.source.clone();
    }
    if !arguments.set.is_empty() {
        recipe.check()?;
        notes.retain(|key, _| !arguments.outdates(key));
    }
    let allowed = recipe.data.max_skip_fraction;
    let lost = unusable.max(training.lost()).max(labelled.as_ref().map_or(0.0, Data::lost));
    if lost > allowed {
        let is_set = arguments.sets("data.max_skip_fraction");
        if !is_set {
            recipe.data.max_skip_fraction = ((lost * 150.0).ceil() / 100.0).min(1.0);
        }
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
        let so = match is_set {
            true => "a run refuses the data until they are repaired or --set gives a larger data.max_skip_fraction"
                .to_owned(),
            false => format!("data.max_skip_fraction is {} in the recipe", recipe.data.max_skip_fraction),
        };
        say(&format!("warning: {said}; {so}"));
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
    let roclip = &recipe.objective.roclip;
    let views = views_before_matching(roclip.first_match(), survey.captions);
    if let Some(views) = views.filter(|_| recipe.objective.name == ObjectiveName::Roclip) {
        say(&format!(
            "each pair is seen {} before RoCLIP first matches ({VIEWS_BEFORE_MATCHING_IN_THE_DEMO} in the demo, of 5,437 pairs), and {} may teach their poison by then: attack your own data, and measure (docs/defences.md)",
            count(views, "time"),
            count(survey.captions, "pair")
        ));
    }
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
    /// The keys that --set gives, each with its value, which is empty where the key is taken out.
    fn assigned(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set.iter().filter_map(|assignment| {
            let (key, value) = assignment.split_once('=')?;
            Some((key.trim(), value.trim()))
        })
    }

    /// Whether --set gives `key`, or a section that has it.
    fn sets(&self, key: &str) -> bool {
        let is_within = |section| key.strip_prefix(section).is_some_and(|rest: &str| rest.starts_with('.'));
        self.assigned().any(|(named, _)| named == key || is_within(named))
    }

    /// Whether the last word of --set on `key` is that there is none.
    fn takes_out(&self, key: &str) -> bool {
        self.assigned().filter(|(named, _)| *named == key).last().is_some_and(|(_, value)| value.is_empty())
    }

    /// Whether a note at `key` may not hold any more, since --set gives the key, or one of the numbers that steps are counted by.
    fn outdates(&self, key: &str) -> bool {
        self.assigned().any(|(named, _)| named == key || named.starts_with("train.") && key.starts_with("train."))
    }

    /// Whether --val-data or --set says where the labelled pictures lie.
    fn names_labelled(&self, named: &Recipe) -> bool {
        let is_path = |(key, _): (&str, &str)| key == "eval.source" || key == "eval.source.path";
        self.data.names_evaluation_data()
            || self.assigned().any(is_path)
            || named.eval.source.path != SourceConfig::default().path
    }

    /// The labelled pictures that are `named`, or else those of the training data that are not trained on, where there are any.
    fn labelled(&self, named: &Recipe, training: &Data) -> Result<Option<Data>> {
        let flag = if self.data.names_evaluation_data() { "--val-data" } else { "--set eval.source" };
        let read = |source| {
            let is_whole = self.takes_out("eval.source.split");
            Data::read(source, named.data.limits, flag, is_whole)?.for_evaluation().map(Some)
        };
        if self.names_labelled(named) {
            return if named.eval.source.path == NO_IMAGES { Ok(None) } else { read(named.eval.source.clone()) };
        }
        // --set may say how they are read, or of which split they are, and leave them beside the training data.
        let how = self.set.iter().filter(|assignment| assignment.trim_start().starts_with("eval.source."));
        let how: Vec<&String> = how.collect();
        let beside = training.split_beside();
        if how.is_empty() || beside.is_none() && !self.sets("eval.source.split") {
            return Ok(training.held_out());
        }
        let mut recipe = named.clone();
        recipe.eval.source = SourceConfig { split: beside.map(str::to_owned), ..training.source.clone() };
        for assignment in how {
            recipe = recipe.assign(assignment)?;
        }
        read(recipe.eval.source)
    }
}

/// How the recipe defends, in words.
fn defence(recipe: &Recipe) -> String {
    let with = if recipe.augment.image.is_some() { "with" } else { "without" };
    format!("{} {with} augmentation", recipe.objective.name.title())
}
