//! `roclip eval`

use crate::commands::data::check_different;
use crate::commands::described_model::{DescribedModel, say_which_weights};
use crate::commands::eval_lines::{SUPERVISED, print, print_table};
use crate::commands::numbers::up_to;
use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags, ManifestFlag, Overrides, SeedFlag};
use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::checkpoint::{self, Loaded, load_as, run_of};
use roclip::eval::{
    ClassPrompts, Classifier, Depth, EvalConfig, Evaluator, Measured, NO_IMAGES, Pictures, Prompts, data_set_name,
    file_word, write_npy, write_predictions,
};
use roclip::model::Head;
use roclip::recipe::Recipe;
use roclip::run::{Prepared, machine, prepare_clean_data, prepare_data};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::poison::{Manifest, PoisonConfig};
use roclip_data::sample::Sample;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Keys of a recipe that an evaluation depends on.
const OBEYED: [&str; 7] = ["seed", "manifest", "data", "eval", "poison", "train.threads", "train.device"];

/// As for training.
const MOST_THREADS: i32 = 1024;

#[derive(Args)]
pub struct Arguments {
    /// A run folder (its newest checkpoint), one of its checkpoints/step_N, or a folder or safetensors file in open_clip's or transformers'
    /// layout
    #[arg(value_name = "MODEL")]
    source: PathBuf,
    #[command(flatten)]
    described: DescribedModel,
    /// Measure on these labelled images under this name, and on no others; may be given several times. A folder with train/ and test/ is
    /// measured on its test/
    #[arg(long, value_name = "NAME=PATH", value_parser = named_data, conflicts_with = "val_data")]
    on: Vec<(String, String)>,
    /// Class names: `imagenet-1k`, or a file (a JSON list, or one a line)
    #[arg(long, value_name = "NAME|FILE")]
    classes: Option<String>,
    /// Prompt templates: `openai-80`, `emoji`, `captions`, or a file (a JSON list, or one a line) with {} or {c} for the class
    #[arg(long, value_name = "NAME|FILE")]
    templates: Option<String>,
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    manifest: ManifestFlag,
    /// Measure what the model can do, and no attack
    #[arg(long, conflicts_with = "manifest")]
    no_poison: bool,
    /// Of the linear probe
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    machine: MachineFlags,
    /// Train and measure the linear probe too: on the train/ of data named by --on or --val-data where there is one, else on the run's
    /// training data
    #[arg(long)]
    linear_probe: bool,
    /// Measure the accuracy of the K nearest among all labelled training images too, which are all read for it
    #[arg(long, value_name = "K", value_parser = up_to::<usize>(10_000))]
    neighbours: Option<usize>,
    /// Write what the model makes of each picture: id, label, prediction, probability and the five likeliest classes, as JSON lines (.jsonl)
    /// or a table (.csv)
    #[arg(long, value_name = "FILE", value_parser = ending_in(&["jsonl", "csv"]))]
    predictions: Option<PathBuf>,
    /// Write the image features as a NumPy array [n, dim] (projected, not normalised), and the pictures' ids beside it as JSON lines
    #[arg(long, value_name = "FILE.npy", value_parser = ending_in(&["npy"]))]
    features: Option<PathBuf>,
    /// Folder for one JSON file a task in CLIP_benchmark's format, named after data set, model, checkpoint and task
    #[arg(long = "out", alias = "output", value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

fn named_data(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if path == NO_IMAGES && !Path::new(path).exists() => Err(format!(
            "`{path}` means no images, and there is nothing to measure under the name {name}: give labelled images, or leave --on out"
        )),
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.to_owned())),
        _ => Err("give NAME=PATH, as in caltech=data/caltech101".into()),
    }
}

/// A path with one of these endings.
fn ending_in(endings: &'static [&'static str]) -> impl Fn(&str) -> Result<PathBuf, String> + Clone {
    move |text| {
        let path = PathBuf::from(text);
        let fits = path.extension().is_some_and(|own| endings.iter().any(|ending| own.eq_ignore_ascii_case(ending)));
        if fits { Ok(path) } else { Err(format!("name a file that ends in .{}", endings.join(" or ."))) }
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    say_which_weights(&arguments.source)?;
    let run = run_of(&arguments.source);
    let recipe = recipe(&arguments, run.as_deref())?;
    if recipe.train.threads > MOST_THREADS {
        bail!("--threads {}; give at most {MOST_THREADS}", recipe.train.threads);
    }
    if arguments.neighbours == Some(0) {
        bail!("--neighbours 0; give at least 1, or leave it out");
    }
    if let Some(folder) = &arguments.output {
        artifact::check_writable(folder)?;
    }
    let ids = arguments.features.as_ref().map(|path| path.with_extension("jsonl"));
    check_different(&[
        ("--predictions", arguments.predictions.as_deref()),
        ("--features", arguments.features.as_deref()),
        ("the list of ids beside --features", ids.as_deref()),
        ("--out", arguments.output.as_deref()),
    ])?;
    let device = machine(&recipe)?;
    let loaded = load_as(&arguments.source, arguments.described.description(), device)?;
    // Everything that can be wrong is found before the first picture is encoded.
    let sets = sets(&recipe, &arguments)?;
    let prepared: Result<Vec<Task>> = sets.iter().map(|set| Task::prepare(set, &recipe, &arguments)).collect();
    let prepared = prepared?;
    let model_name = model_name(&loaded, run.as_deref())?;
    let mut all = Vec::new();
    let mut failures = Vec::new();
    let mut pictures = Vec::new();
    let mut encoded = Vec::new();
    for task in &prepared {
        let outcome = task.measure(&loaded, &model_name, &recipe, &arguments, device, &mut encoded)?;
        // What was measured is printed, whether it can be kept or not.
        if let Err(error) = write(&outcome.measured, task.set, run.as_deref(), &loaded, &arguments) {
            failures.push(format!("{error:#}"));
        }
        all.push(outcome.measured);
        failures.extend(outcome.failures);
        pictures.extend(outcome.pictures);
        // After each set, so that nothing is lost when a later one fails.
        write_pictures(&pictures, &arguments)?;
    }
    match (arguments.on.is_empty(), all.as_slice()) {
        (true, [only]) if arguments.json => println!("{}", serde_json::to_string_pretty(only)?),
        (_, all) if arguments.json => println!("{}", serde_json::to_string_pretty(all)?),
        (true, [only]) => print(only, &loaded.about()),
        (_, all) => print_table(all, &loaded.about()),
    }
    if !failures.is_empty() {
        bail!("{}; what else was asked for is measured", failures.join("; "));
    }
    Ok(())
}

/// The recipe of the run that the model belongs to, or the one given, with the flags.
fn recipe(arguments: &Arguments, run: Option<&Path>) -> Result<Recipe> {
    arguments.recipe.check_keys("eval", &OBEYED)?;
    // What is no model at all is said first.
    checkpoint::is_checkpoint(&arguments.source)?;
    let names_data = !arguments.on.is_empty() || arguments.data.names_evaluation_data();
    // The run's own copy says what it was trained on; the file that was named then may be another one now.
    let kept = run.map(|run| run.join("manifest.jsonl")).filter(|kept| kept.is_file());
    let mut base = match run {
        Some(run) => Recipe::of_run(run)?,
        None if arguments.recipe.config.is_some() || names_data => Recipe::default(),
        None => bail!(
            "`{}` belongs to no run; say what to measure it on with --on NAME=PATH, --val-data, or --config (a recipe with its data)",
            arguments.source.display()
        ),
    };
    base.manifest = kept.or(base.manifest);
    let groups: [&dyn Overrides; 4] = [&arguments.seed, &arguments.data, &arguments.manifest, &arguments.machine];
    let mut recipe = arguments.recipe.resolve(base, &groups)?;
    if arguments.no_poison {
        recipe.manifest = None;
        recipe.poison = PoisonConfig::default();
    }
    Ok(recipe)
}

/// One data set that is measured.
struct DataSet {
    name: String,
    config: EvalConfig,
    /// Whether it is what the recipe plans, or was named on the command line.
    planned: bool,
}

/// The data sets that the flags name, or that of the recipe.
fn sets(recipe: &Recipe, arguments: &Arguments) -> Result<Vec<DataSet>> {
    let of_flags = |mut config: EvalConfig| {
        config.classes = arguments.classes.clone().or(config.classes);
        config.templates = arguments.templates.clone().unwrap_or(config.templates);
        config
    };
    let own = &recipe.eval;
    if arguments.on.is_empty() {
        let planned = !arguments.data.names_evaluation_data();
        let mut config = own.clone();
        if !planned {
            // A list of classes and templates are those of the run's data, unless they were asked for together with the other images.
            let other = own.on(&own.source.path);
            let asked = |key: &str| arguments.recipe.config.is_some() || arguments.recipe.sets(key);
            config.classes = config.classes.filter(|_| asked("eval.classes"));
            config.templates = if asked("eval.templates") { config.templates } else { other.templates };
        }
        return Ok(vec![DataSet { name: data_set_name(&own.source.path), config: of_flags(config), planned }]);
    }
    let mut sets: Vec<DataSet> = Vec::new();
    for (name, path) in &arguments.on {
        if let Some(other) = sets.iter().find(|set| file_word(&set.name) == file_word(name)) {
            bail!(
                "--on {name}={path}: there is a data set `{}` already, whose files would have the same names; give it another name",
                other.name
            );
        }
        sets.push(DataSet { name: name.clone(), config: of_flags(own.on(path)), planned: false });
    }
    Ok(sets)
}

/// A data set, read and checked.
struct Task<'a> {
    set: &'a DataSet,
    evaluator: Evaluator,
    manifest: Option<Manifest>,
    /// What a probe and nearest neighbours learn from; empty where nothing that is measured learns.
    training: Vec<Sample>,
    /// Of retrieval, where it is measured.
    captioned: Option<Vec<Sample>>,
}

/// Prompts of data sets that the model has encoded: others with the same classes and templates need not encode them again.
type EncodedPrompts<'t> = Vec<(&'t Prompts, ClassPrompts)>;

/// What was measured of a data set, and what of it failed.
struct Outcome {
    measured: Measured,
    failures: Vec<String>,
    pictures: Option<Pictures>,
}

impl<'a> Task<'a> {
    /// Reads the training data only where something needs it: it is large, and may have moved since the run.
    fn prepare(set: &'a DataSet, recipe: &Recipe, arguments: &Arguments) -> Result<Task<'a>> {
        let own_probe_data = set.config.probe.as_ref().is_some_and(|probe| probe.data.is_some());
        let learns = (arguments.linear_probe || arguments.neighbours.is_some()) && !own_probe_data;
        let draws = recipe.manifest.is_none() && !recipe.poison.attacks.is_empty();
        let recipe = Recipe { eval: set.config.clone(), ..recipe.clone() };
        let (mut evaluator, manifest, mut training) = if draws && set.planned {
            let Prepared { evaluator, manifest, pairs, .. } = prepare_data(&recipe)?;
            (evaluator, manifest, pairs.labelled_samples().into_owned())
        } else {
            let manifest = recipe.manifest.as_ref().map(|path| Manifest::read(path, recipe.data.limits)).transpose()?;
            let mut evaluator = Evaluator::new(&set.config, recipe.data.reading())
                .with_context(|| format!("the data set `{}`", for_terminal(&set.name)))?;
            let training = match learns && evaluator.training_split.is_empty() {
                true => prepare_clean_data(&recipe)?.pairs.labelled_samples().into_owned(),
                false => std::mem::take(&mut evaluator.training_split),
            };
            (evaluator, manifest, training)
        };
        let (manifest, lines) = match manifest {
            Some(manifest) if set.planned => {
                evaluator.check_pictures(&manifest)?;
                evaluator.measurable(&manifest)
            }
            Some(manifest) => evaluator.measurable(&manifest),
            None => (None, Vec::new()),
        };
        evaluator.warnings.extend(lines);
        if !learns {
            training.clear();
        }
        if arguments.linear_probe {
            evaluator
                .check_probe(&set.config.probe.clone().unwrap_or_default(), &training, manifest.as_ref())
                .with_context(|| format!("--linear-probe on `{}`", for_terminal(&set.name)))?;
        }
        let captioned = set.config.retrieval.as_ref().map(|source| evaluator.retrieval_images(source)).transpose()?;
        Ok(Task { set, evaluator, manifest, training, captioned })
    }

    fn measure<'t>(
        &'t self,
        loaded: &Loaded,
        model_name: &str,
        recipe: &Recipe,
        arguments: &Arguments,
        device: Device,
        encoded: &mut EncodedPrompts<'t>,
    ) -> Result<Outcome> {
        let Task { set, evaluator, training, .. } = self;
        let (manifest, model) = (self.manifest.as_ref(), &loaded.model);
        let (classifier, classified_by) = classifier(loaded, evaluator, device, encoded)?;
        say(&format!("evaluation: {}, {classified_by}", evaluator.description));
        // Those of the training data are no concern of a measurement that does not read it.
        for warning in &evaluator.warnings {
            say(&format!("warning: {warning}"));
        }
        let keep = (arguments.predictions.is_some() || arguments.features.is_some()).then_some(set.name.as_str());
        let (evaluation, pictures) = evaluator.measure(model, classifier.as_ref(), manifest, Depth::Thorough, keep)?;
        if !evaluation.skipped.is_empty() {
            let reasons: Vec<String> = evaluation.skipped.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
            say(&format!("evaluation: images left out: {}", reasons.join(", ")));
        }
        let mut measured = Measured {
            dataset: set.name.clone(),
            model: model_name.to_owned(),
            checkpoint_step: loaded.state.as_ref().map(|state| state.step),
            provenance: loaded.origin.provenance.to_string(),
            objective: loaded.state.as_ref().map(|state| state.objective.clone()),
            classes: evaluator.classes.len(),
            classified_by: classified_by.to_owned(),
            evaluation,
            linear_probe: None,
            nearest_neighbours: None,
            retrieval: None,
        };
        let mut failures = Vec::new();
        let mut failed = |task: &str, error: roclip::error::Error| {
            failures.push(format!("{task} on `{}`: {error}", for_terminal(&set.name)));
        };
        if arguments.linear_probe {
            let config = set.config.probe.clone().unwrap_or_default();
            match evaluator.probe(model, &config, training, manifest, recipe.seed) {
                Ok(accuracy) => measured.linear_probe = Some(accuracy),
                Err(error) => failed("the linear probe", error),
            }
        }
        if let Some(k) = arguments.neighbours {
            match evaluator.nearest_neighbours(model, training, manifest, k) {
                Ok(rate) => measured.nearest_neighbours = Some(rate).filter(|rate| rate.n > 0),
                Err(error) => failed("nearest neighbours", error),
            }
        }
        if let Some(samples) = &self.captioned {
            match evaluator.retrieval(model, &loaded.tokenizer, samples) {
                Ok(retrieval) => measured.retrieval = Some(retrieval),
                Err(error) => failed("retrieval", error),
            }
        }
        Ok(Outcome { measured, failures, pictures })
    }
}

/// What names the images, and its name: the classifier that a supervised cleaning trained, or the class prompts.
fn classifier<'t>(
    loaded: &Loaded,
    evaluator: &'t Evaluator,
    device: Device,
    encoded: &mut EncodedPrompts<'t>,
) -> Result<(Box<dyn Classifier>, &'static str)> {
    if let Some(state) = loaded.state.as_ref().filter(|state| !state.classes.is_empty()) {
        if state.classes != evaluator.classes {
            bail!(
                "`{}` is a classifier of {} classes ({}, ...), and these images have {} ({}, ...); name the list that it was trained with by --classes",
                loaded.folder.display(),
                state.classes.len(),
                for_terminal(state.classes.first().map_or("", String::as_str)),
                evaluator.classes.len(),
                for_terminal(evaluator.classes.first().map_or("", String::as_str))
            );
        }
        let (_, objective) = checkpoint::load_training(&loaded.folder)?;
        return Ok((
            Box::new(Head::from_tensors(&objective, state.classes.len(), device)?),
            "by the trained classifier",
        ));
    }
    if loaded.state.as_ref().is_none_or(|state| state.objective != SUPERVISED) {
        let known = encoded.iter().find(|(prompts, _)| *prompts == &evaluator.prompts);
        let prompts = match known {
            Some((_, classes)) => classes.shallow_clone(),
            None => {
                let classes = evaluator.class_prompts(&loaded.model, &loaded.tokenizer)?;
                encoded.push((&evaluator.prompts, classes.shallow_clone()));
                classes
            }
        };
        return Ok((Box::new(prompts), "by class prompts"));
    }
    let (_, objective) = checkpoint::load_training(&loaded.folder)?;
    let head = Head::from_tensors(&objective, evaluator.classes.len(), device)
        .with_context(|| format!("the classifier of `{}`", loaded.folder.display()))?;
    Ok((Box::new(head), "by the trained classifier, which supervised cleaning leaves in place of class prompts"))
}

/// What the model is called: a built-in name where it has one's shape, else as its run calls it, else by where it lies.
fn model_name(loaded: &Loaded, run: Option<&Path>) -> Result<String> {
    if let Some(name) = loaded.model.config().built_in_name() {
        return Ok(name.to_owned());
    }
    let named = match run {
        Some(run) => PathBuf::from(Recipe::of_run(run)?.model.name),
        None => loaded.folder.clone(),
    };
    // A configuration or weights of a usual name are called after their folder.
    let usual = ["open_clip_config.json", "config.json", "model.safetensors", "open_clip_model.safetensors"];
    let own = named.file_name().unwrap_or_default();
    let above = named.canonicalize().ok().and_then(|path| Some(path.parent()?.file_name()?.to_owned()));
    let name = if usual.iter().any(|usual| *usual == own) { above.unwrap_or(own.to_owned()) } else { own.to_owned() };
    Ok(name.to_string_lossy().into_owned())
}

/// Writes what was measured of a data set: into the run, and in CLIP_benchmark's words into --out.
fn write(measured: &Measured, set: &DataSet, run: Option<&Path>, loaded: &Loaded, arguments: &Arguments) -> Result<()> {
    if let (Some(run), Some(step)) = (run, measured.checkpoint_step) {
        // What was measured on other data does not take the place of the run's own.
        let other = if set.planned { String::new() } else { format!("-{}", file_word(&set.name)) };
        artifact::write_json(&run.join(format!("eval/step_{step}{other}.json")), measured)?;
    }
    if let Some(folder) = &arguments.output {
        for (name, value) in measured.clip_benchmark(&loaded.folder.display().to_string()) {
            let path = folder.join(name);
            if path.is_file()
                && !artifact::read_json::<serde_json::Value>(&path).is_ok_and(|old| old.get("pretrained").is_some())
            {
                bail!(
                    "`{}` is no result of an evaluation, and is not written over; name another --out",
                    path.display()
                );
            }
            artifact::write_json(&path, &value)?;
        }
    }
    Ok(())
}

/// Writes --predictions and --features of all data sets so far.
fn write_pictures(pictures: &[Pictures], arguments: &Arguments) -> Result<()> {
    let readings: Vec<_> = pictures.iter().flat_map(|set| set.readings.iter().cloned()).collect();
    if let Some(path) = &arguments.predictions {
        write_predictions(path, &readings)?;
    }
    if let Some(path) = &arguments.features {
        let features: Vec<&Tensor> = pictures.iter().map(|set| &set.features).collect();
        write_npy(path, &Tensor::cat(&features, 0))?;
        let id = |row: (usize, &roclip::eval::PictureReading)| serde_json::json!({"row": row.0, "dataset": row.1.dataset, "id": row.1.id, "label": row.1.label});
        artifact::write_json_lines(&path.with_extension("jsonl"), readings.iter().enumerate().map(id))?;
    }
    Ok(())
}
