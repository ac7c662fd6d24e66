//! `roclip eval`

use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags, ManifestFlag, Overrides, SeedFlag};
use anyhow::Result;
use clap::Args;
use roclip::eval::{Depth, Measured};
use roclip::recipe::Recipe;
use roclip::train::{device, prepare_data};
use roclip_data::artifact;
use roclip_data::rate::Rate;
use std::path::PathBuf;

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
    /// k of the nearest-neighbour accuracy; 0 = none
    #[arg(long, default_value_t = 5)]
    neighbours: usize,
    /// Folder for one JSON file a task in CLIP_benchmark's format
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.checkpoint.join("run.toml");
    let base = if saved.is_file() { Recipe::read(&saved)? } else { Recipe::default() };
    let groups: [&dyn Overrides; 4] = [&arguments.seed, &arguments.data, &arguments.manifest, &arguments.machine];
    arguments.recipe.check_keys("eval", &OBEYED)?;
    let mut recipe = arguments.recipe.resolve(base, &groups)?;
    let kept = arguments.checkpoint.join("manifest.jsonl");
    if recipe.manifest.is_none() && kept.is_file() {
        recipe.manifest = Some(kept);
    }
    if recipe.train.threads > 0 {
        tch::set_num_threads(recipe.train.threads);
    }
    let loaded = roclip::checkpoint::load(&arguments.checkpoint, device(&recipe.train.device)?)?;
    let prepared = prepare_data(&recipe)?;
    let (evaluator, manifest) = (&prepared.evaluator, prepared.manifest.as_ref());
    let (model, tokenizer, training) = (&loaded.model, &loaded.tokenizer, &prepared.pairs.samples);
    let evaluation =
        evaluator.evaluate_by(model, &evaluator.class_prompts(model, tokenizer)?, manifest, Depth::Thorough)?;
    let linear_probe = match arguments.linear_probe {
        true => {
            let config = recipe.eval.probe.clone().unwrap_or_default();
            Some(evaluator.probe(model, &config, training, manifest, recipe.seed)?)
        }
        false => None,
    };
    let nearest_neighbours = match arguments.neighbours {
        0 => None,
        k => Some(evaluator.nearest_neighbours(model, training, manifest, k)?).filter(|rate| rate.n > 0),
    };
    let retrieval = match &recipe.eval.retrieval {
        Some(source) => Some(evaluator.retrieval(model, tokenizer, source)?),
        None => None,
    };
    let measured = Measured {
        checkpoint_step: loaded.state.step,
        provenance: loaded.state.provenance.to_string(),
        objective: loaded.state.objective.clone(),
        evaluation,
        linear_probe,
        nearest_neighbours,
        retrieval,
    };
    if saved.is_file() {
        let path = arguments.checkpoint.join(format!("eval/step_{}.json", measured.checkpoint_step));
        artifact::write_json(&path, &measured)?;
    }
    if let Some(folder) = &arguments.output {
        let names = (recipe.eval.source.path.as_str(), recipe.model.name.as_str());
        for (task, value) in measured.clip_benchmark(names.0, names.1, &arguments.checkpoint.display().to_string()) {
            artifact::write_json(&folder.join(format!("{task}.json")), &value)?;
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print(&measured);
    }
    Ok(())
}

fn print(measured: &Measured) {
    let show = |name: &str, rate: &Rate| {
        println!(
            "{name:36} {:6.2} %  {}/{}  [{:.2}, {:.2}]",
            100.0 * rate.rate,
            rate.hits,
            rate.n,
            100.0 * rate.low,
            100.0 * rate.high
        )
    };
    println!(
        "{} model of step {}, trained on {} data",
        measured.objective, measured.checkpoint_step, measured.provenance
    );
    let evaluation = &measured.evaluation;
    show("zero-shot top-1", &evaluation.zero_shot_top1);
    show("zero-shot top-5", &evaluation.zero_shot_top5);
    let per_class = |name: &str, recall: f64| println!("{name:36} {:6.2} %", 100.0 * recall);
    per_class("zero-shot, mean over classes", evaluation.mean_per_class_recall);
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
