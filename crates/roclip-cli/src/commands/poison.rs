//! `roclip poison make`

use crate::commands::overrides::RecipeFlags;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use roclip::recipe::Recipe;
use roclip::train::prepare_data;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Draw the attacks of a recipe and write their manifest
    Make(MakeArguments),
}

#[derive(Args)]
pub struct MakeArguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// The manifest to write (JSON lines)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn run(command: Command) -> Result<()> {
    let Command::Make(arguments) = command;
    let mut recipe = arguments.recipe.resolve(Recipe::default())?;
    recipe.manifest = None;
    let prepared = prepare_data(&recipe)?;
    let manifest = prepared.manifest.context("the recipe has no attacks; add [[poison.attacks]] to it")?;
    manifest.write(&arguments.out)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &manifest.rows {
        *counts.entry(&row.attack).or_default() += 1;
    }
    println!(
        "{}: {} poisoned pairs beside {} clean ones",
        arguments.out.display(),
        manifest.rows.len(),
        manifest.header.clean_pairs
    );
    for (attack, count) in counts {
        println!("  {attack}: {count} ({:.3} %)", 100.0 * count as f64 / prepared.pairs.len() as f64);
    }
    Ok(())
}
