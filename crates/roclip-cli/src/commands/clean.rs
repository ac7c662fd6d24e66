//! `roclip clean`

use crate::commands::overrides::RecipeFlags;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use roclip::clean::{CleanClipConfig, CleanConfig, CleanMethod};
use roclip::eval::{Evaluation, Rate};
use roclip::poison::PoisonConfig;
use roclip::recipe::Recipe;
use roclip::train::TrainConfig;
use std::path::PathBuf;

#[derive(Clone, Copy, ValueEnum)]
enum Method {
    /// CLIP loss and in-modal losses against AutoAugment and EDA views
    Cleanclip,
    /// Plain CLIP on the trusted pairs, the control
    Finetune,
}

#[derive(Args)]
pub struct Arguments {
    /// The run or checkpoint to clean
    victim: PathBuf,
    #[command(flatten)]
    recipe: RecipeFlags,
    #[arg(long, value_enum, default_value = "cleanclip")]
    method: Method,
    /// Trusted pairs, drawn among the victim's training data without its poison (or among --train-data); all when absent
    #[arg(long)]
    pairs: Option<usize>,
    /// Weight of the in-modal losses (lambda 2)
    #[arg(long, value_name = "WEIGHT")]
    inmodal_weight: Option<f64>,
    /// Folder of the cleaning run
    #[arg(long, value_name = "FOLDER")]
    run: PathBuf,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.victim.join("run.toml");
    if arguments.recipe.config.is_none() && !saved.is_file() {
        bail!("`{}` is not a run; give a recipe for its data with --config", arguments.victim.display());
    }
    let mut base = if saved.is_file() { Recipe::read(&saved)? } else { Recipe::default() };
    // The released settings (CleanCLIP repository, README); the victim's own training settings say nothing about cleaning.
    base.train = TrainConfig {
        epochs: 10,
        batch_size: 64,
        learning_rate: 1e-5,
        warmup_steps: 50,
        threads: base.train.threads,
        ..TrainConfig::default()
    };
    let mut recipe = arguments.recipe.resolve(base)?;
    recipe.poison = PoisonConfig::default();
    let given = recipe.clean.take();
    let mut cleanclip = given.as_ref().map_or_else(CleanClipConfig::default, |clean| clean.cleanclip);
    cleanclip.inmodal_weight = arguments.inmodal_weight.unwrap_or(cleanclip.inmodal_weight);
    recipe.clean = Some(CleanConfig {
        victim: arguments.victim.clone(),
        method: match arguments.method {
            Method::Cleanclip => CleanMethod::Cleanclip,
            Method::Finetune => CleanMethod::Finetune,
        },
        pairs: arguments.pairs.or(given.and_then(|clean| clean.pairs)),
        cleanclip,
    });
    let summary = roclip::train::train(&recipe, &arguments.run, false, &mut |line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else if let Some(before) = &summary.before {
        print(before, &summary.evaluation);
    }
    Ok(())
}

fn print(before: &Evaluation, after: &Evaluation) {
    let line = |name: &str, before: &Rate, after: &Rate| {
        let show = |r: &Rate| format!("{:6.2} % ({}/{})", 100.0 * r.rate, r.hits, r.n);
        println!("{name:34} {:>24} {:>24}", show(before), show(after));
    };
    println!("{:34} {:>24} {:>24}", "", "before", "after");
    line("zero-shot top-1", &before.zero_shot_top1, &after.zero_shot_top1);
    line("zero-shot top-5", &before.zero_shot_top5, &after.zero_shot_top5);
    if let (Some(before), Some(after)) = (&before.psr, &after.psr) {
        line("targeted poisoning (PSR)", before, after);
    }
    for (attack, after) in &after.asr {
        if let Some(before) = before.asr.get(attack) {
            line(&format!("{attack}: ASR"), &before.success, &after.success);
            line(&format!("{attack}: target in top 10"), &before.success_top10, &after.success_top10);
            line(&format!("{attack}: true class kept"), &before.true_class, &after.true_class);
        }
    }
}
