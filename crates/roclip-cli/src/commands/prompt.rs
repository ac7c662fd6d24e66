//! `roclip prompt`: learned prompts for a frozen model, cleanly or as an attacker does it, and what looks for the attack.

use crate::commands::described_model::DescribedModel;
use crate::commands::invocation;
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags, SeedFlag};
use crate::commands::progress::say;
use crate::commands::prompt_lines::{print_detections, print_measures, print_repair};
use crate::commands::run_flags::{COMMIT, RunFlags};
use crate::commands::signals;
use anyhow::{Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use roclip::checkpoint::{Description, run_of};
use roclip::error::Error;
use roclip::eval::NO_IMAGES;
use roclip::prompt::{MethodName, PromptConfig, RepairConfig, read_learner};
use roclip::recipe::{Recipe, flag_help};
use roclip::run::{Caller, Start, Summary, check_inspections, inspect_prompts, measure_prompts, train_prompts};
use roclip::world::World;
use roclip_data::artifact;
use roclip_data::augment::ImageAugmentConfig;
use roclip_data::escape::for_terminal;
use roclip_data::source::SourceConfig;
use std::path::{Path, PathBuf};
use std::process::exit;

#[derive(Subcommand)]
pub enum Command {
    /// Learn prompts for a frozen model from a few labelled pictures, cleanly or with a trigger, and measure them
    Train(Box<TrainArguments>),
    /// Measure learned prompts again, on other data or under another learner's trigger
    Eval(EvalArguments),
    /// Say whether delivered prompts hide a trigger; of several learners, how well that is told (AUROC)
    Detect(DetectArguments),
    /// Tune delivered prompts against the trigger that inversion finds in them, and measure them before and after
    Repair(Box<RepairArguments>),
}

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
    #[arg(long)]
    shots: Option<usize>,
    #[arg(help = flag_help("prompt.target"))]
    #[arg(long, value_name = "CLASS")]
    target: Option<String>,
    #[arg(help = flag_help("prompt.eps"))]
    #[arg(long, value_name = "LEVELS")]
    eps: Option<f64>,
    #[arg(help = flag_help("prompt.epochs"))]
    #[arg(long)]
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
pub struct TrainArguments {
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

#[derive(Args)]
pub struct EvalArguments {
    /// A run of learned prompts, or one of its checkpoints
    #[arg(value_name = "RUN")]
    learner: PathBuf,
    /// Measure on these labelled images under this name, too, with the target among their classes; may be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = named_data)]
    on: Vec<(String, String)>,
    /// Lay on the trigger of this learner instead of its own
    #[arg(long, value_name = "RUN")]
    trigger: Option<PathBuf>,
    #[command(flatten)]
    delivered: DeliveredFlags,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What a command that looks at a delivered learner needs, where its run does not say it.
#[derive(Args, Clone, Default)]
struct DeliveredFlags {
    /// The model that the prompts were learned on, where it lies elsewhere now or the learner is a file alone
    #[arg(long, value_name = "MODEL")]
    on_model: Option<PathBuf>,
    #[command(flatten)]
    described: DescribedModel,
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    machine: MachineFlags,
}

#[derive(Args)]
pub struct DetectArguments {
    /// Runs of learned prompts, their checkpoints, or learner.safetensors alone
    #[arg(value_name = "LEARNER", required = true)]
    learners: Vec<PathBuf>,
    #[command(flatten)]
    delivered: DeliveredFlags,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct RepairArguments {
    /// The learner: a run of learned prompts, or one of its checkpoints; a resumed run and the recipe of a repair know it
    #[arg(value_name = "LEARNER", required_unless_present_any = ["resume", "resume_from", "config"])]
    learner: Option<PathBuf>,
    /// Tune against the trigger inverted for this class, instead of the one with the largest score
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    #[arg(help = flag_help("prompt.epochs"))]
    #[arg(long)]
    epochs: Option<u64>,
    #[command(flatten)]
    delivered: DeliveredFlags,
    #[command(flatten)]
    run: RunFlags,
}

fn named_data(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.to_owned())),
        _ => Err("give NAME=PATH, as in caltech=data/caltech101".into()),
    }
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(arguments) => train(*arguments),
        Command::Eval(arguments) => eval(arguments),
        Command::Detect(arguments) => detect(arguments),
        Command::Repair(arguments) => repair(*arguments),
    }
}

/// The recipe of `--config`, of the saved run where one goes on, or the defaults.
fn train(arguments: TrainArguments) -> Result<()> {
    let saved = arguments.run.folder.join("run.toml");
    let resumes = arguments.run.resumes() && saved.is_file();
    let began = resumes.then(|| Recipe::read(&saved)).transpose()?;
    if began.as_ref().is_some_and(|began| began.prompt.is_none()) {
        bail!(
            "`{}` is not a run of learned prompts; `roclip train --resume` continues it",
            arguments.run.folder.display()
        );
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
    let next = [format!("roclip prompt detect {run}"), format!("roclip prompt repair {run} --run FOLDER")];
    say_next(&arguments.run.folder, HOLDS, &next);
    Ok(())
}

/// What a finished run's folder holds.
const HOLDS: &str = "checkpoints/ (learner.safetensors), summary.json, metrics.jsonl, log.jsonl";

/// The recipe of a learner that no file describes: its pictures are those that are named, or those of the run that MODEL belongs to.
fn beside(arguments: &TrainArguments) -> Result<Recipe> {
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

fn run_prompts(recipe: &Recipe, description: Description, flags: &RunFlags) -> Result<Summary> {
    let caller = Caller { stop: signals::stop(), world: &World::alone(), commit: COMMIT, command: invocation::typed() };
    match train_prompts(recipe, description, &flags.folder, flags.start(), &caller, &mut say) {
        Err(stopped @ Error::Stopped { .. }) => {
            say(&stopped.to_string());
            exit(signals::exit_code())
        }
        other => Ok(other?),
    }
}

fn show(summary: &Summary, flags: &RunFlags) -> Result<()> {
    if flags.json {
        println!("{}", serde_json::to_string_pretty(summary)?);
        return Ok(());
    }
    match (&summary.prompt_before, &summary.prompt) {
        (Some(before), Some(after)) => print_repair(before, after),
        (_, Some(measures)) => print_measures(measures),
        (_, None) => {}
    }
    Ok(())
}

impl DeliveredFlags {
    /// The recipe of the learner's run, with the flags; of a file alone, the defaults.
    fn recipe(&self, learner: &Path) -> Result<Recipe> {
        let stored = read_learner(learner)?;
        let run = stored.path.parent().and_then(run_of);
        let mut base = match (&self.recipe.config, &run) {
            (Some(path), _) => Recipe::read(path)?,
            (None, Some(run)) => Recipe::read(&run.join("run.toml"))?,
            (None, None) => Recipe::default(),
        };
        let flags = self.recipe.without_file();
        let prompt = base.prompt.get_or_insert_with(|| PromptConfig {
            context: stored.about.context.clone(),
            ending: stored.about.ending.clone(),
            ..PromptConfig::default()
        });
        prompt.model = self.on_model.clone().unwrap_or_else(|| match prompt.model.as_os_str().is_empty() {
            true => stored.about.model.clone(),
            false => prompt.model.clone(),
        });
        flags.resolve(base, &[&self.data, &self.machine])
    }
}

fn eval(arguments: EvalArguments) -> Result<()> {
    let names: Vec<&String> = arguments.on.iter().map(|(name, _)| name).collect();
    if let Some((_, name)) =
        names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name))
    {
        bail!("--on names `{}` twice; give each data set a name of its own", for_terminal(name));
    }
    let mut recipe = arguments.delivered.recipe(&arguments.learner)?;
    // A repaired learner is measured as any other.
    if let Some(prompt) = &mut recipe.prompt {
        prompt.repair = None;
    }
    let description = arguments.delivered.described.description();
    let found = measure_prompts(&recipe, description, &arguments.learner, &arguments.on, arguments.trigger.as_deref())?;
    for warning in &found.warnings {
        say(&format!("warning: {warning}"));
    }
    let folder = read_learner(&arguments.learner)?.path;
    if let Some(run) = folder.parent().and_then(run_of) {
        let lent = if arguments.trigger.is_some() { "-lent-trigger" } else { "" };
        artifact::write_json(&run.join(format!("eval/step_{}{lent}.json", found.about.step)), &found.measures)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found.measures)?);
        return Ok(());
    }
    println!(
        "{} prompts of step {}; their provenance: {}",
        found.about.method, found.about.step, found.about.provenance
    );
    if let (Some(lender), Some(path)) = (&found.lender, &arguments.trigger) {
        println!(
            "the trigger is that of `{}`: {}, target `{}`{}",
            for_terminal(&path.display().to_string()),
            for_terminal(lender.attack().unwrap_or(&lender.method)),
            for_terminal(&found.measures.target),
            lender.eps.map(|eps| format!(", within {eps}/255")).unwrap_or_default()
        );
    }
    print_measures(&found.measures);
    Ok(())
}

fn detect(arguments: DetectArguments) -> Result<()> {
    let mut all = Vec::new();
    let places: Vec<PathBuf> =
        arguments.learners.iter().map(|learner| learner.canonicalize().unwrap_or_else(|_| learner.clone())).collect();
    if let Some((at, place)) =
        places.iter().enumerate().find(|(at, place)| places.iter().take(*at).any(|p| p == *place))
    {
        bail!("`{}` is named twice (the {}. learner); name each learner once", place.display(), at + 1);
    }
    let mut seen: Vec<(String, &PathBuf)> = Vec::new();
    for learner in &arguments.learners {
        let sha256 = read_learner(learner)?.sha256;
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == sha256) {
            bail!("`{}` and `{}` are one learner; name each once", other.display(), learner.display());
        }
        seen.push((sha256, learner));
    }
    let with_recipe = |learner: &PathBuf| Ok((arguments.delivered.recipe(learner)?, learner.clone()));
    let learners = arguments.learners.iter().map(with_recipe).collect::<Result<Vec<_>>>()?;
    check_inspections(&learners, arguments.delivered.described.description())?;
    let mut kept = Vec::new();
    for (recipe, learner) in &learners {
        let found = inspect_prompts(recipe, arguments.delivered.described.description(), learner)?;
        kept.extend(found.keep()?);
        say(&format!("{}: statistic {:.2}", learner.display(), found.detection.statistic));
        all.push(found);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    print_detections(&all);
    for path in kept {
        say(&format!("written: {}", path.display()));
    }
    Ok(())
}

impl RepairArguments {
    /// The recipe that a repair began with, and what the flags say; the run refuses what does not go with it.
    fn go_on(&self, began: Recipe) -> Result<Recipe> {
        let Some((model, repair)) =
            began.prompt.as_ref().and_then(|prompt| Some((prompt.model.clone(), prompt.repair.clone()?)))
        else {
            bail!("`{}` is no repair; `roclip prompt train --resume` continues it", self.run.folder.display());
        };
        let given = &self.delivered;
        let mut base = match &given.recipe.config {
            Some(path) => Recipe::read(path)?,
            None => began,
        };
        let prompt = base.prompt.get_or_insert_default();
        prompt.model = given.on_model.clone().unwrap_or(model);
        prompt.repair = Some(RepairConfig {
            learner: self.learner.clone().unwrap_or(repair.learner),
            class: self.class.clone().or(repair.class),
        });
        prompt.epochs = self.epochs.unwrap_or(prompt.epochs);
        given.recipe.without_file().resolve(base, &[&given.data, &given.machine])
    }

    /// The recipe of a repair in a file, which names its learner.
    fn again(&self) -> Result<Recipe> {
        let given = &self.delivered;
        let mut recipe = given.recipe.resolve(Recipe::default(), &[&given.data, &given.machine])?;
        let Some((prompt, repair)) =
            recipe.prompt.as_mut().and_then(|prompt| prompt.repair.clone().map(|repair| (prompt, repair)))
        else {
            bail!(
                "the recipe of --config names no learner to repair (prompt.repair.learner); name it: roclip prompt repair LEARNER"
            );
        };
        prompt.repair = Some(RepairConfig { class: self.class.clone().or(repair.class), ..repair });
        prompt.epochs = self.epochs.unwrap_or(prompt.epochs);
        Ok(recipe)
    }
}

fn repair(arguments: RepairArguments) -> Result<()> {
    let saved = arguments.run.folder.join("run.toml");
    let resumes = arguments.run.start() != Start::New && saved.is_file();
    let recipe = match &arguments.learner {
        Some(learner) if !resumes => {
            let mut recipe = arguments.delivered.recipe(learner)?;
            if let Some(prompt) = &mut recipe.prompt {
                prompt.repair = Some(RepairConfig { learner: learner.clone(), class: arguments.class.clone() });
                prompt.epochs = arguments.epochs.unwrap_or(prompt.epochs);
            }
            recipe
        }
        _ if resumes => arguments.go_on(Recipe::read(&saved)?)?,
        None if arguments.delivered.recipe.config.is_some() => arguments.again()?,
        _ => bail!("`{}` holds no repair to resume", arguments.run.folder.display()),
    };
    let summary = run_prompts(&recipe, arguments.delivered.described.description(), &arguments.run)?;
    show(&summary, &arguments.run)?;
    let run = shell_word(&arguments.run.folder);
    say_next(&arguments.run.folder, HOLDS, &[format!("roclip prompt detect {run}"), format!("roclip report {run}")]);
    Ok(())
}
