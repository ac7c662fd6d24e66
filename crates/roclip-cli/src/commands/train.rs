//! `roclip train`

use crate::commands::forecast_lines::print_forecast;
use crate::commands::grid::{self, Grid, Planned, check_number, sweep_axis};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::overrides::RecipeFlags;
use crate::commands::progress::say;
use crate::commands::report::print_table;
use crate::commands::run_flags::{HOLDS, RunFlags, train_together};
use anyhow::{Result, bail};
use clap::Args;
use roclip::eval::NO_IMAGES;
use roclip::recipe::{Recipe, Sweep};
use roclip::report::write_report;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    run: RunFlags,
    /// Check the recipe, the data and the folder as a run would, take a few steps to say what the run would take (time, memory, disk),
    /// and write nothing but the index of large data
    #[arg(long)]
    dry_run: bool,
    /// Train once with each value of a recipe's key, as in objective.roclip.period=1,2,4, each in a folder of its own in --run, and report
    /// on all; several make a grid. The same command goes on where it was stopped. `roclip demo --sweep` trains the controls, too
    #[arg(long, value_name = "KEY=VALUE,VALUE", conflicts_with_all = ["resume", "resume_from"], value_parser = sweep_axis)]
    sweep: Vec<String>,
    /// Runs of a sweep at a time; 0 = one a processor, or one on a GPU
    #[arg(long, default_value_t = 0, requires = "sweep")]
    jobs: usize,
    /// Train runs of a sweep anew that are in the folder, finished ones too
    #[arg(long, requires = "sweep")]
    overwrite: bool,
    /// Begin a sweep of more than 500 runs
    #[arg(long, requires = "sweep")]
    yes: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let folder = &arguments.run.folder;
    let saved = folder.join("run.toml");
    let base = match arguments.run.resumes() {
        true if !saved.is_file() => {
            bail!("`{}` holds no run to resume; start it without --resume", folder.display())
        }
        true => Recipe::read(&saved)?,
        false if !arguments.recipe.names_data() => bail!(
            "nothing says what to train on; name your pairs with --train-data or a recipe with --config (`roclip init --train-data DATA` \
             writes one), or give --train-data emoji for the built-in set"
        ),
        false => Recipe::default(),
    };
    let recipe = arguments.recipe.resolve(base)?;
    if !arguments.sweep.is_empty() {
        return arguments.train_all(recipe);
    }
    if arguments.dry_run {
        let forecast = roclip::run::check(&recipe, folder, arguments.run.start(), &mut say)?;
        match arguments.run.json {
            true => println!("{}", serde_json::to_string_pretty(&forecast)?),
            false => print_forecast(&forecast),
        }
        return Ok(());
    }
    let summary = train_together(&recipe, folder, arguments.run.start())?;
    if arguments.run.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    let run = shell_word(folder);
    let mut verbs = vec!["doctor", "eval", "report"];
    // Without labelled images there is nothing to evaluate on.
    verbs.retain(|verb| *verb != "eval" || recipe.eval.source.path != NO_IMAGES);
    let commands: Vec<String> = verbs.into_iter().map(|verb| format!("roclip {verb} {run}")).collect();
    say_next(folder, HOLDS, &commands);
    Ok(())
}

impl Arguments {
    /// Whether several processes share this work.
    pub fn is_shared(&self) -> bool {
        self.sweep.is_empty() && !self.dry_run
    }

    /// Trains a run a cell of the sweep around `base`.
    fn train_all(&self, mut base: Recipe) -> Result<()> {
        let sweep = Sweep::parse(&self.sweep)?;
        check_number(sweep.len(), self.yes)?;
        let out = &self.run.folder;
        let jobs = grid::jobs(self.jobs, &base.train.device);
        if base.train.threads == 0 {
            base.train.threads = grid::threads(jobs);
        }
        let planned = |cell| -> Result<Planned> {
            let name = sweep.name(cell, |_| true);
            Ok(Planned { folder: out.join(&name), recipe: sweep.recipe(&base, cell)?, name })
        };
        let runs = sweep.cells().iter().map(planned).collect::<Result<Vec<_>>>()?;
        if self.dry_run {
            return grid::foresee(&runs, jobs, self.run.json);
        }
        Grid { out, named_by: "--run", jobs, overwrite: self.overwrite, check: true }.train(runs)?;
        let results = write_report(&finished(out), None, out)?;
        match self.run.json {
            true => println!("{}", serde_json::to_string_pretty(&results.rows)?),
            false => print_table(&results),
        }
        Ok(())
    }
}

/// All finished runs in the folder of a sweep, by name.
fn finished(out: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|run| run.join("summary.json").is_file()).collect();
    found.sort();
    found
}
