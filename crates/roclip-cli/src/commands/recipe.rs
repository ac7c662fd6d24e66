//! `roclip recipe`

use crate::commands::overrides::RecipeFlags;
use anyhow::Result;
use clap::Args;
use roclip::recipe::Recipe;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Print the keys of `roclip clean` too
    #[arg(long)]
    clean: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut recipe = arguments.recipe.resolve(Recipe::default())?;
    if arguments.clean {
        recipe.clean.get_or_insert_default().rebound.get_or_insert_default();
    }
    print!("{}", recipe.to_toml()?);
    Ok(())
}
