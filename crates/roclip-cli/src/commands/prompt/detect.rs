//! `roclip prompt detect`

use crate::commands::progress::say;
use crate::commands::prompt::DeliveredFlags;
use crate::commands::prompt_lines::print_detections;
use anyhow::{Result, bail};
use clap::Args;
use roclip::prompt::read_learner;
use roclip::run::{check_inspections, inspect_prompts};
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// Runs of learned prompts, their checkpoints, or learner.safetensors alone
    #[arg(value_name = "LEARNER", required = true)]
    learners: Vec<PathBuf>,
    #[command(flatten)]
    delivered: DeliveredFlags,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
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
        // Files of the same prompts may differ, as where another program has written them again.
        let digest = read_learner(learner)?.tensors_sha256()?;
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == digest) {
            bail!("`{}` and `{}` are one learner; name each once", other.display(), learner.display());
        }
        seen.push((digest, learner));
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
