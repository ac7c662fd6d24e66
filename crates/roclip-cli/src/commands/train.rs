//! `roclip train`

use crate::commands::overrides::RecipeFlags;
use anyhow::{Result, bail};
use clap::Args;
use roclip::recipe::Recipe;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Folder of the run: run.toml, metrics.jsonl, checkpoints/, summary.json
    #[arg(long, value_name = "FOLDER")]
    run: PathBuf,
    /// Go on from the newest checkpoint of the run, with the recipe saved there
    #[arg(long)]
    resume: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.run.join("run.toml");
    let base = match arguments.resume {
        true if !saved.is_file() => {
            bail!("`{}` holds no run to resume; start it without --resume", arguments.run.display())
        }
        true => Recipe::read(&saved)?,
        false => Recipe::default(),
    };
    let recipe = arguments.recipe.resolve(base)?;
    let summary = roclip::train::train(&recipe, &arguments.run, arguments.resume, &mut |line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    Ok(())
}
