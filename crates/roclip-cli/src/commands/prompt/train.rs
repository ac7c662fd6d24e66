//! `roclip prompt train`

use crate::commands::described_model::DescribedModel;
use crate::commands::next_steps::{beside as new_folder, say_next, shell_word};
use crate::commands::numbers::of_key;
use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags, SeedFlag};
use crate::commands::progress::say;
use crate::commands::prompt::{HOLDS, run_prompts, show};
use crate::commands::run_flags::{RunFlags, not_this_kind};
use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use roclip::checkpoint::run_of;
use roclip::eval::NO_IMAGES;
use roclip::prompt::MethodName;
use roclip::recipe::{Recipe, flag_help};
use roclip_data::augment::ImageAugmentConfig;
use roclip_data::source::SourceConfig;
use std::path::PathBuf;

/// `--method`: the library's methods under their names.
fn methods() -> impl TypedValueParser<Value = MethodName> {
    let values = MethodName::ALL.map(|name| PossibleValue::new(name.method(false).name()));
    PossibleValuesParser::new(values).try_map(|given| {
        let known = MethodName::ALL.into_iter().find(|name| name.method(false).name() == given);
        known.ok_or("not a method")
    })
}

/// A line a method.
fn methods_help() -> String {
    let lines = MethodName::ALL.map(|name| format!("{}: {}", name.method(false).name(), name.method(false).about()));
    format!("What is learned (default: {})\n{}", MethodName::default().method(false).name(), lines.join("\n"))
}

/// What prompts are learned from.
#[derive(Args, Clone, Default)]
struct LearningFlags {
    #[arg(help = flag_help("prompt.shots"))]
    #[arg(long, value_parser = of_key::<usize>("prompt.shots"))]
    shots: Option<usize>,
    #[arg(help = flag_help("prompt.target"))]
    #[arg(long, value_name = "CLASS")]
    target: Option<String>,
    #[arg(help = flag_help("prompt.eps"))]
    #[arg(long, value_name = "LEVELS")]
    eps: Option<f64>,
    #[arg(help = flag_help("prompt.epochs"))]
    #[arg(long, value_parser = of_key::<u64>("prompt.epochs"))]
    epochs: Option<u64>,
    /// Class names: `imagenet-1k`, or a file (a JSON list, or one a line); the first half is seen, the rest unseen
    #[arg(long, value_name = "NAME|FILE")]
    classes: Option<String>,
}

impl LearningFlags {
    fn apply(&self, recipe: &mut Recipe) {
        recipe.eval.classes = self.classes.clone().or(recipe.eval.classes.take());
        let prompt = recipe.prompt.get_or_insert_default();
        prompt.shots = self.shots.unwrap_or(prompt.shots);
        prompt.target = self.target.clone().or(prompt.target.take());
        prompt.eps = self.eps.unwrap_or(prompt.eps);
        prompt.epochs = self.epochs.unwrap_or(prompt.epochs);
    }
}

#[derive(Args)]
pub struct Arguments {
    /// The frozen model: a run, a checkpoint, or a folder or safetensors file in open_clip's or transformers' layout; a resumed run knows it
    #[arg(value_name = "MODEL", required_unless_present_any = ["resume", "resume_from", "config"])]
    source: Option<PathBuf>,
    #[command(flatten)]
    described: DescribedModel,
    #[arg(long, hide_possible_values = true, value_parser = methods(), help = methods_help())]
    method: Option<MethodName>,
    /// Take the released settings (16 shots, 10 epochs of one picture a step, eps 4, crops as released) instead of those that fit 32 pixels
    #[arg(long)]
    released: bool,
    #[command(flatten)]
    learning: LearningFlags,
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    machine: MachineFlags,
    #[command(flatten)]
    run: RunFlags,
}

/// The recipe of `--config`, of the saved run where one goes on, or the defaults.
pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.run.folder.join("run.toml");
    let resumes = arguments.run.resumes() && saved.is_file();
    let began = resumes.then(|| Recipe::read(&saved)).transpose()?;
    if began.as_ref().is_some_and(|began| began.prompt.is_none()) {
        return Err(not_this_kind(&arguments.run.folder, "is not a run of learned prompts"));
    }
    let mut base = match (&arguments.recipe.config, began) {
        (Some(path), _) => Recipe::read(path)?,
        (None, Some(began)) => began,
        (None, None) => beside(&arguments)?,
    };
    let prompt = base.prompt.take().unwrap_or_default();
    base.prompt = Some(match arguments.released {
        true => {
            base.augment.image = Some(released_augmentation());
            prompt.released()
        }
        false => prompt,
    });
    if let Some(prompt) = &mut base.prompt {
        prompt.model = arguments.source.clone().unwrap_or(std::mem::take(&mut prompt.model));
        prompt.method = arguments.method.unwrap_or(prompt.method);
    }
    arguments.learning.apply(&mut base);
    let flags = arguments.recipe.without_file();
    let mut recipe = flags.resolve(base, &[&arguments.seed, &arguments.data, &arguments.machine])?;
    shots_beside(&arguments.data, &mut recipe);
    let summary = run_prompts(&recipe, arguments.described.description(), &arguments.run)?;
    show(&summary, &arguments.run)?;
    let run = shell_word(&arguments.run.folder);
    let mut next = vec![format!("roclip prompt detect {run}")];
    // What nobody attacked needs no repair.
    if recipe.prompt.as_ref().is_some_and(|prompt| prompt.method().attacks()) {
        let repaired = shell_word(&new_folder(&arguments.run.folder, "repaired"));
        next.push(format!("roclip prompt repair {run} --run {repaired}"));
    }
    say_next(&arguments.run.folder, HOLDS, &next);
    Ok(())
}

/// The recipe of a learner that no file describes: its pictures are those that are named, or those of the run that MODEL belongs to.
fn beside(arguments: &Arguments) -> Result<Recipe> {
    let data = &arguments.data;
    if data.names_training_data() && !data.names_evaluation_data() {
        bail!("nothing says which labelled pictures to measure on; name them with --val-data");
    }
    if data.names_data() || arguments.recipe.names_data() {
        return Ok(Recipe::default());
    }
    let run = arguments.source.as_deref().and_then(run_of).map(|run| Recipe::of_run(&run)).transpose()?;
    let Some(run) = run.filter(|run| run.eval.source.path != NO_IMAGES) else {
        bail!(
            "nothing says which labelled pictures to learn from; name them with --val-data, and with --train-data where the shots are others"
        );
    };
    let same = run.data.source.path == run.eval.source.path;
    // Pairs of captions have no classes that shots could be of.
    let shots = if same { run.data.source.clone() } else { run.eval.source.clone() };
    say(&format!(
        "labelled pictures are those of the run: shots of {}, measured on {}",
        shots.path, run.eval.source.path
    ));
    let mut recipe = Recipe { eval: run.eval, data: run.data, ..Recipe::default() };
    recipe.data.source = shots;
    recipe.data.drop = None;
    recipe.data.weights = None;
    recipe.eval.probe = None;
    Ok(recipe)
}

/// The released code's: random resized crops and flips, and nothing of colour or blur.
fn released_augmentation() -> ImageAugmentConfig {
    ImageAugmentConfig {
        jitter_probability: 0.0,
        grayscale_probability: 0.0,
        blur_kernel: 0,
        ..ImageAugmentConfig::default()
    }
}

/// Where only the measured pictures are named, the shots come from the training split of the same data.
fn shots_beside(data: &DataFlags, recipe: &mut Recipe) {
    if data.names_evaluation_data() && !data.names_training_data() {
        recipe.data.source = SourceConfig { split: Some("train".into()), ..recipe.eval.source.clone() };
        recipe.eval.source.split = None;
    }
}
