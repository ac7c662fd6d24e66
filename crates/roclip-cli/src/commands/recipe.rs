//! `roclip recipe`: a recipe with its explanations, as TOML, as a page, as a schema, or what a preset changes.

use crate::commands::overrides::RecipeFlags;
use anyhow::Result;
use clap::Args;
use roclip::recipe::{Difference, Notes, Recipe, page, schema};

#[derive(Args)]
#[command(after_help = "Examples:
  roclip recipe --preset roclip > mine.toml      every key with its explanation; edit it, then train with --config mine.toml
  roclip recipe --preset roclip-released --diff  what the preset changes")]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Switch on the section of `roclip clean`, with the rebound test
    #[arg(long)]
    clean: bool,
    /// Print only the keys that differ from the defaults: key, default, value
    #[arg(long, conflicts_with_all = ["markdown", "schema"])]
    diff: bool,
    /// Print the page of all keys (docs/recipes.md) instead of a recipe
    #[arg(long, conflicts_with = "schema")]
    markdown: bool,
    /// Print the JSON schema of recipes, for editors
    #[arg(long)]
    schema: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.markdown {
        print!("{}", page());
        return Ok(());
    }
    if arguments.schema {
        println!("{}", serde_json::to_string_pretty(&schema())?);
        return Ok(());
    }
    let mut recipe = arguments.recipe.resolve(Recipe::default())?;
    if arguments.clean {
        recipe.clean.get_or_insert_default().rebound.get_or_insert_default();
    }
    recipe.check()?;
    if arguments.diff {
        return print_differences(&recipe);
    }
    print!("{}", recipe.template(&Notes::new())?);
    Ok(())
}

fn print_differences(recipe: &Recipe) -> Result<()> {
    let differences = Recipe::default().differing_keys(recipe)?;
    let absent = || "-".to_owned();
    let cells = |found: Difference| [found.key, found.ours.unwrap_or_else(absent), found.theirs.unwrap_or_else(absent)];
    let title = ["key", "default", "here"].map(str::to_owned);
    let rows: Vec<[String; 3]> = std::iter::once(title).chain(differences.into_iter().map(cells)).collect();
    if rows.len() == 1 {
        println!("no key differs from its default");
        return Ok(());
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let (key_width, value_width) = (width(0), width(1));
    for [key, ours, theirs] in &rows {
        println!("{key:key_width$}  {ours:value_width$}  {theirs}");
    }
    Ok(())
}
