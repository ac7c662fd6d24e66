//! `roclip eval`

use crate::commands::overrides::RecipeFlags;
use anyhow::Result;
use clap::Args;
use roclip::artifact;
use roclip::eval::{Rate, linear_probe};
use roclip::poison::Manifest;
use roclip::recipe::Recipe;
use roclip::train::{load_checkpoint, prepare_data};
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A run folder (its newest checkpoint) or one of its checkpoints/step_N
    #[arg(value_name = "RUN")]
    checkpoint: PathBuf,
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Train and measure the linear probe too
    #[arg(long)]
    linear_probe: bool,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.checkpoint.join("run.toml");
    let base = if saved.is_file() { Recipe::read(&saved)? } else { Recipe::default() };
    let mut recipe = arguments.recipe.resolve(base)?;
    let kept = arguments.checkpoint.join("manifest.jsonl");
    if recipe.manifest.is_none() && kept.is_file() {
        recipe.manifest = Some(kept);
    }
    let loaded = load_checkpoint(&arguments.checkpoint, tch::Device::Cpu)?;
    let prepared = prepare_data(&recipe)?;
    let evaluation = prepared.evaluator.evaluate(&loaded.model, &loaded.tokenizer, prepared.manifest.as_ref())?;
    let probe = match (arguments.linear_probe, recipe.eval.probe.clone().unwrap_or_default()) {
        (true, config) => {
            let targeted = prepared.manifest.as_ref().map(Manifest::targeted).unwrap_or_default();
            let train: Vec<_> = prepared.pairs.samples.iter().filter(|s| !targeted.contains_key(&s.id)).collect();
            let test: Vec<_> = prepared.evaluator.samples.iter().filter(|s| !targeted.contains_key(&s.id)).collect();
            Some(linear_probe(&loaded.model, &config, &train, &test, recipe.data.limits, recipe.seed)?)
        }
        (false, _) => None,
    };
    let value = serde_json::json!({
        "checkpoint_step": loaded.state.step, "provenance": loaded.state.provenance, "objective": loaded.state.objective,
        "evaluation": evaluation, "linear_probe": probe,
    });
    if saved.is_file() {
        artifact::write_json(&arguments.checkpoint.join(format!("eval/step_{}.json", loaded.state.step)), &value)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let show = |name: &str, rate: &Rate| {
        println!(
            "{name:32} {:6.2} %  {}/{}  [{:.2}, {:.2}]",
            100.0 * rate.rate,
            rate.hits,
            rate.n,
            100.0 * rate.low,
            100.0 * rate.high
        )
    };
    println!(
        "{} model of step {}, trained on {} data",
        loaded.state.objective, loaded.state.step, loaded.state.provenance
    );
    show("zero-shot top-1", &evaluation.zero_shot_top1);
    show("zero-shot top-5", &evaluation.zero_shot_top5);
    if let Some(probe) = &probe {
        show("linear probe", probe);
    }
    if let Some(psr) = &evaluation.psr {
        show("targeted poisoning success (PSR)", psr);
    }
    for (attack, outcome) in &evaluation.asr {
        show(&format!("{attack}: success (ASR)"), &outcome.success);
        show(&format!("{attack}: base rate"), &outcome.base_rate);
        show(&format!("{attack}: true class kept"), &outcome.true_class);
    }
    Ok(())
}
