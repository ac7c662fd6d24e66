//! `roclip eval`

use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags, ManifestFlag, Overrides, SeedFlag};
use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::checkpoint::{self, Loaded, run_of};
use roclip::eval::{Classifier, Depth, Evaluator, Measured};
use roclip::model::Head;
use roclip::recipe::Recipe;
use roclip::run::{Prepared, device, prepare_data};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::poison::Manifest;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use std::path::{Path, PathBuf};
use tch::Device;

/// The objective whose checkpoints are measured by their classifier.
const SUPERVISED: &str = "supervised";
/// Keys of a recipe that an evaluation depends on.
const OBEYED: [&str; 7] = ["seed", "manifest", "data", "eval", "poison", "train.threads", "train.device"];

#[derive(Args)]
pub struct Arguments {
    /// A run folder (its newest checkpoint) or one of its checkpoints/step_N
    #[arg(value_name = "RUN")]
    checkpoint: PathBuf,
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    manifest: ManifestFlag,
    /// Of the linear probe
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    machine: MachineFlags,
    /// Train and measure the linear probe too
    #[arg(long)]
    linear_probe: bool,
    /// Measure the accuracy of the K nearest among all labelled training images too, which are all read for it
    #[arg(long, value_name = "K")]
    neighbours: Option<usize>,
    /// Folder for one JSON file a task in CLIP_benchmark's format, named after data set, model, checkpoint and task
    #[arg(long = "out", value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let run = run_of(&arguments.checkpoint);
    let recipe = recipe(&arguments, run.as_deref())?;
    if recipe.train.threads > 0 {
        tch::set_num_threads(recipe.train.threads);
    }
    if arguments.neighbours == Some(0) {
        bail!("--neighbours 0; give at least 1, or leave it out");
    }
    if let Some(folder) = &arguments.output {
        artifact::check_writable(folder)?;
    }
    let device = device(&recipe.train.device)?;
    let loaded = checkpoint::load(&arguments.checkpoint, device)?;
    let MeasuredData { evaluator, manifest, training } = data(&recipe, &arguments)?;
    let (evaluator, manifest, training) = (&evaluator, manifest.as_ref(), training.as_slice());
    let (model, tokenizer) = (&loaded.model, &loaded.tokenizer);
    let (classifier, classified_by) = classifier(&loaded, evaluator, device)?;
    say(&format!("evaluation: {}, {classified_by}", evaluator.description));
    // Those of the training data are no concern of a measurement that does not read it.
    for warning in &evaluator.warnings {
        say(&format!("warning: {warning}"));
    }
    let evaluation = evaluator.evaluate_by(model, classifier.as_ref(), manifest, Depth::Thorough)?;
    if !evaluation.skipped.is_empty() {
        let reasons: Vec<String> = evaluation.skipped.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        say(&format!("evaluation: images left out: {}", reasons.join(", ")));
    }
    let linear_probe = match arguments.linear_probe {
        true => {
            let config = recipe.eval.probe.clone().unwrap_or_default();
            Some(evaluator.probe(model, &config, training, manifest, recipe.seed)?)
        }
        false => None,
    };
    let nearest_neighbours = match arguments.neighbours {
        None => None,
        Some(k) => Some(evaluator.nearest_neighbours(model, training, manifest, k)?).filter(|rate| rate.n > 0),
    };
    let retrieval = match &recipe.eval.retrieval {
        Some(source) => Some(evaluator.retrieval(model, tokenizer, source)?),
        None => None,
    };
    let measured = Measured {
        checkpoint_step: loaded.state.step,
        provenance: loaded.state.provenance.to_string(),
        objective: loaded.state.objective.clone(),
        classified_by: classified_by.to_owned(),
        evaluation,
        linear_probe,
        nearest_neighbours,
        retrieval,
    };
    if let Some(run) = &run {
        let path = run.join(format!("eval/step_{}.json", measured.checkpoint_step));
        artifact::write_json(&path, &measured)?;
    }
    if let Some(folder) = &arguments.output {
        let pretrained = loaded.folder.display().to_string();
        let names = (recipe.eval.source.path.as_str(), recipe.model.name.as_str());
        for (name, value) in measured.clip_benchmark(names.0, names.1, &pretrained) {
            artifact::write_json(&folder.join(name), &value)?;
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print(&measured);
    }
    Ok(())
}

/// The recipe of the run that the checkpoint belongs to, or the one given, with the flags.
fn recipe(arguments: &Arguments, run: Option<&Path>) -> Result<Recipe> {
    arguments.recipe.check_keys("eval", &OBEYED)?;
    // What is no checkpoint at all is said first.
    checkpoint::find(&arguments.checkpoint)?;
    let base = match run {
        Some(run) => Recipe::read(&run.join("run.toml"))?,
        None if arguments.recipe.config.is_some() => Recipe::default(),
        None => bail!(
            "`{}` belongs to no run; say what to measure it on with --config (a recipe with its data)",
            arguments.checkpoint.display()
        ),
    };
    let groups: [&dyn Overrides; 4] = [&arguments.seed, &arguments.data, &arguments.manifest, &arguments.machine];
    let mut recipe = arguments.recipe.resolve(base, &groups)?;
    let kept = run.map(|run| run.join("manifest.jsonl")).filter(|kept| kept.is_file());
    recipe.manifest = recipe.manifest.or(kept);
    Ok(recipe)
}

/// What the measurement looks at.
struct MeasuredData {
    evaluator: Evaluator,
    manifest: Option<Manifest>,
    /// Empty where nothing that is measured learns from it.
    training: Vec<Sample>,
}

/// Reads the training data only where something needs it: it is large, and may have moved since the run.
fn data(recipe: &Recipe, arguments: &Arguments) -> Result<MeasuredData> {
    let own_probe_data = recipe.eval.probe.as_ref().is_some_and(|probe| probe.data.is_some());
    let learns = (arguments.linear_probe || arguments.neighbours.is_some()) && !own_probe_data;
    let draws = recipe.manifest.is_none() && !recipe.poison.attacks.is_empty();
    if learns || draws {
        let Prepared { evaluator, manifest, pairs, .. } = prepare_data(recipe)?;
        return Ok(MeasuredData { evaluator, manifest, training: pairs.samples });
    }
    let mut evaluator = Evaluator::new(&recipe.eval, recipe.data.reading())?;
    let manifest = recipe.manifest.as_ref().map(|path| Manifest::read(path, recipe.data.limits)).transpose()?;
    if let Some(manifest) = &manifest {
        let lacking = evaluator.check_targets(manifest)?;
        evaluator.warnings.extend(lacking);
    }
    Ok(MeasuredData { evaluator, manifest, training: Vec::new() })
}

/// What names the images, and its name: the classifier that a supervised cleaning trained, or the class prompts.
fn classifier(loaded: &Loaded, evaluator: &Evaluator, device: Device) -> Result<(Box<dyn Classifier>, &'static str)> {
    if loaded.state.objective != SUPERVISED {
        let prompts = evaluator.class_prompts(&loaded.model, &loaded.tokenizer)?;
        return Ok((Box::new(prompts), "by class prompts"));
    }
    let (_, objective) = checkpoint::load_training(&loaded.folder)?;
    let head = Head::from_tensors(&objective, evaluator.classes.len(), device)
        .with_context(|| format!("the classifier of `{}`", loaded.folder.display()))?;
    Ok((Box::new(head), "by the trained classifier, which supervised cleaning leaves in place of class prompts"))
}

fn print(measured: &Measured) {
    let show = |name: &str, rate: &Rate| {
        println!(
            "{:36} {:6.2} %  {}/{}  [{:.2}, {:.2}]",
            for_terminal(name),
            100.0 * rate.rate,
            rate.hits,
            rate.n,
            100.0 * rate.low,
            100.0 * rate.high
        )
    };
    println!(
        "{} model of step {}; its provenance: {}",
        measured.objective, measured.checkpoint_step, measured.provenance
    );
    let evaluation = &measured.evaluation;
    let what = if measured.objective == SUPERVISED { "classifier" } else { "zero-shot" };
    show(&format!("{what} top-1"), &evaluation.zero_shot_top1);
    show(&format!("{what} top-5"), &evaluation.zero_shot_top5);
    let per_class = |name: &str, recall: f64| println!("{name:36} {:6.2} %", 100.0 * recall);
    per_class(&format!("{what}, mean over classes"), evaluation.mean_per_class_recall);
    if let Some(probe) = &measured.linear_probe {
        show("linear probe", &probe.top1);
        per_class("linear probe, mean over classes", probe.mean_per_class_recall);
    }
    if let Some(rate) = &measured.nearest_neighbours {
        show("nearest neighbours", rate);
    }
    if let Some(retrieval) = &measured.retrieval {
        for (k, rate) in &retrieval.image_recall {
            show(&format!("image retrieval R@{k}"), rate);
        }
        for (k, rate) in &retrieval.text_recall {
            show(&format!("text retrieval R@{k}"), rate);
        }
    }
    for (name, rate) in [
        ("targeted poisoning success (PSR)", &evaluation.psr),
        ("targeted: adversarial in top 5", &evaluation.psr_top5),
    ] {
        if let Some(rate) = rate {
            show(name, rate);
        }
    }
    for (attack, rate) in evaluation.psr_by_attack.iter().filter(|_| evaluation.psr_by_attack.len() > 1) {
        show(&format!("{attack}: PSR"), rate);
    }
    for (attack, outcome) in &evaluation.asr {
        show(&format!("{attack}: success (strict ASR)"), &outcome.success);
        show(&format!("{attack}: target in top 5"), &outcome.success_top5);
        show(&format!("{attack}: target in top 10"), &outcome.success_top10);
        show(&format!("{attack}: success, target class too"), &outcome.success_all);
        show(&format!("{attack}: base rate"), &outcome.base_rate);
        if let Some(turned) = &outcome.turned {
            show(&format!("{attack}: turned by the trigger"), turned);
        }
        show(&format!("{attack}: true class kept"), &outcome.true_class);
        for (treatment, rate) in &outcome.after {
            show(&format!("{attack}: success after {treatment}"), rate);
        }
    }
}
