//! `roclip train`

use crate::commands::overrides::RecipeFlags;
use crate::commands::progress::say;
use crate::commands::run_flags::{RunFlags, train};
use anyhow::{Result, bail};
use clap::Args;
use roclip::recipe::Recipe;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    run: RunFlags,
    /// Check the recipe, the data and the folder as a run would, say what the run would be, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let folder = &arguments.run.folder;
    let saved = folder.join("run.toml");
    let base = match arguments.run.resumes() {
        true if !saved.is_file() => {
            bail!("`{}` holds no run to resume; start it without --resume", folder.display())
        }
        true => Recipe::read(&saved)?,
        false => Recipe::default(),
    };
    let recipe = arguments.recipe.resolve(base)?;
    if arguments.dry_run {
        println!("{}", roclip::run::check(&recipe, folder, arguments.run.start(), &mut say)?);
        return Ok(());
    }
    let summary = train(&recipe, folder, arguments.run.start())?;
    if arguments.run.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    Ok(())
}
