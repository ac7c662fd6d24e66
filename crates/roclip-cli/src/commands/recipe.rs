//! `roclip recipe`

use crate::commands::overrides::RecipeFlags;
use anyhow::Result;
use clap::Args;
use roclip::recipe::Recipe;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
}

pub fn run(arguments: Arguments) -> Result<()> {
    print!("{}", arguments.recipe.resolve(Recipe::default())?.to_toml()?);
    Ok(())
}
