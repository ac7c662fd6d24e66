//! `roclip train`

use crate::commands::overrides::RecipeFlags;
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
}

pub fn run(arguments: Arguments) -> Result<()> {
    let saved = arguments.run.folder.join("run.toml");
    let base = match arguments.run.resume {
        true if !saved.is_file() => {
            bail!("`{}` holds no run to resume; start it without --resume", arguments.run.folder.display())
        }
        true => Recipe::read(&saved)?,
        false => Recipe::default(),
    };
    let recipe = arguments.recipe.resolve(base)?;
    let summary = train(&recipe, &arguments.run.folder, arguments.run.resume)?;
    if arguments.run.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    Ok(())
}
