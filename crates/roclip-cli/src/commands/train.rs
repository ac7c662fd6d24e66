//! `roclip train`

use crate::commands::again::{Without, again};
use crate::commands::forecast_lines::print_forecast;
use crate::commands::grid::{self, Grid, Planned, check_number, finished, sweep_axis};
use crate::commands::invocation;
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::up_to;
use crate::commands::overrides::RecipeFlags;
use crate::commands::progress::say;
use crate::commands::report::print_table;
use crate::commands::run_flags::{HOLDS, RunFlags, not_this_kind, train_together};
use anyhow::{Result, bail};
use clap::Args;
use roclip::eval::NO_IMAGES;
use roclip::recipe::{Cell, Recipe, Sweep};
use roclip::report::{Experiment, check_report_folder, enough_seeds, write_report};
use roclip::run::continued_by;
use roclip_data::plural::count;
use std::collections::{BTreeMap, BTreeSet};
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
    /// on all; several make a grid. Cells that a key changes nothing of are trained once. The same command goes on where it was stopped.
    /// `roclip demo --sweep` trains the controls, too
    #[arg(long, value_name = "KEY=VALUE,VALUE", conflicts_with_all = ["resume", "resume_from"], value_parser = sweep_axis)]
    sweep: Vec<String>,
    /// Runs of a sweep at a time; 0 = one a processor, or one on a GPU
    #[arg(long, default_value_t = 0, requires = "sweep", value_parser = up_to::<usize>(1024))]
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
        true if !saved.is_file() && continued_by(folder).is_some() => {
            return Err(not_this_kind(folder, "is no run of `roclip train`"));
        }
        true if !saved.is_file() => {
            bail!("`{}` holds no run to resume; start it without --resume", folder.display())
        }
        true => match Recipe::read(&saved)? {
            saved if saved.prompt.is_some() => return Err(not_this_kind(folder, "is a run of learned prompts")),
            saved => saved,
        },
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
        check_report_folder(out, "--run")?;
        let jobs = grid::jobs(self.jobs, &base.train.device);
        let threads_asked = base.train.threads != 0;
        if !threads_asked {
            base.train.threads = grid::threads(jobs);
        }
        let runs = planned(&sweep, &base, out)?;
        if self.dry_run {
            return grid::foresee(&runs, "--run", jobs, self.run.json, self.overwrite);
        }
        let (named_by, overwrite, stays) = ("--run", self.overwrite, Some(finished as fn(&Path) -> Vec<PathBuf>));
        Grid { out, named_by, jobs, overwrite, check: true, threads_asked, stays, told: None }.train(runs)?;
        let more_seeds = with_seeds(&invocation::typed(), &sweep, base.seed);
        let results = write_report(&finished(out), Some(&more_seeds), out)?;
        match self.run.json {
            true => println!("{}", serde_json::to_string_pretty(&results.rows)?),
            false => print_table(&results),
        }
        Ok(())
    }
}

/// This sweep again with further seeds than that of the recipe, `seed`, or those that `sweep` has: what is finished is kept.
fn with_seeds(typed: &[String], sweep: &Sweep, seed: u64) -> String {
    let at = sweep.keys().position(|key| key == "seed");
    let swept = |at: usize| sweep.cells().iter().filter_map(|cell| cell.values().nth(at)?.parse().ok()).collect();
    let seeds = enough_seeds(at.map_or_else(|| vec![seed], swept));
    let without = [Without::Valued("--seed"), Without::Key("seed"), Without::Flag("--overwrite")];
    again(typed, &without, &format!("--sweep seed={seeds}"))
}

/// Cells that are one run, as what they differ in is nothing that a run by their recipes reads.
struct Same {
    made: String,
    recipe: Recipe,
    cells: Vec<Cell>,
}

/// The names of the runs in the folder `out`, by what makes them.
fn trained_in(out: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let run = |folder: &Path| made_of(&Recipe::read(&folder.join("run.toml")).ok()?).ok();
    entries.filter_map(|entry| Some((run(&entry.path())?, entry.file_name().into_string().ok()?))).collect()
}

/// What makes a run on any machine: an earlier command may have had other threads for it.
fn made_of(recipe: &Recipe) -> Result<String> {
    Ok(Experiment::on_any_machine(recipe)?.digest())
}

/// The runs of a sweep around `base` in `out`, each once.
fn planned(sweep: &Sweep, base: &Recipe, out: &Path) -> Result<Vec<Planned>> {
    let cells = sweep.cells();
    let mut runs: Vec<Same> = Vec::new();
    for cell in &cells {
        let recipe = sweep.recipe(base, cell)?;
        let made = Experiment::exactly(&recipe)?.digest();
        match runs.iter_mut().find(|run| run.made == made) {
            Some(run) => run.cells.push(cell.clone()),
            None => runs.push(Same { made, recipe, cells: vec![cell.clone()] }),
        }
    }
    if runs.len() < cells.len() {
        let varies = |at: usize| {
            let several = |run: &Same| {
                run.cells.iter().filter_map(|cell| cell.values().nth(at)).collect::<BTreeSet<_>>().len() > 1
            };
            runs.iter().any(several)
        };
        let keys: Vec<&str> = sweep.keys().enumerate().filter(|(at, _)| varies(*at)).map(|(_, key)| key).collect();
        say(&format!(
            "{} changes nothing of some cells, which are trained once: {} for {} cells",
            keys.join(", "),
            count(runs.len(), "run"),
            cells.len()
        ));
    }
    // A run of the same recipe by a name that no cell here has.
    let mut there = trained_in(out);
    let cell_names: BTreeSet<String> = cells.iter().map(|cell| sweep.name(cell, |_| true)).collect();
    there.retain(|_, name| !cell_names.contains(name));
    let mut planned = |Same { recipe, cells, .. }: Same| -> Result<Planned> {
        // Any cell of them may have been trained by an earlier command with fewer values, or with fewer keys and by another name.
        let names: Vec<String> = cells.iter().map(|cell| sweep.name(cell, |_| true)).collect();
        let trained = names.iter().find(|name| out.join(name).join("run.toml").is_file()).cloned();
        let name = match trained {
            Some(name) => Some(name),
            None => there.remove(&made_of(&recipe)?).or_else(|| names.first().cloned()),
        };
        let name = name.unwrap_or_default();
        Ok(Planned { folder: out.join(&name), recipe, name })
    };
    runs.into_iter().map(&mut planned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_the_same_recipe_is_found_by_another_name_and_no_two_cells_share_a_folder() {
        let out = tempfile::tempdir().unwrap();
        let names = |axes: &[&str]| -> Vec<String> {
            let runs = planned(&Sweep::parse(axes).unwrap(), &Recipe::default(), out.path()).unwrap();
            runs.into_iter().map(|run| run.name).collect()
        };
        let leave = |name: &str, recipe: &Recipe| {
            std::fs::create_dir(out.path().join(name)).unwrap();
            std::fs::write(out.path().join(name).join("run.toml"), recipe.to_toml().unwrap()).unwrap();
        };
        let mut trained = Recipe::default();
        (trained.train.epochs, trained.train.threads, trained.train.keep_checkpoints) = (7, 2, 5);
        leave("epochs-7", &trained);
        assert_eq!(
            names(&["train.epochs=7,8", "seed=0,1"]),
            ["epochs-7", "epochs-7,seed-1", "epochs-8,seed-0", "epochs-8,seed-1"]
        );
        // Cells that differ in the machine alone are runs of their own.
        trained = Recipe::default();
        trained.train.threads = 1;
        leave("threads-1", &trained);
        assert_eq!(names(&["train.threads=1,2"]), ["threads-1", "threads-2"]);
        assert_eq!(names(&["train.threads=2,3"]).iter().collect::<BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn a_sweep_with_more_seeds_is_typed_as_this_one_was() {
        let again = |words: &str, axes: &[&str], seed: u64| {
            let typed: Vec<String> = words.split(' ').map(str::to_owned).collect();
            with_seeds(&typed, &Sweep::parse(axes).unwrap(), seed)
        };
        let plain = "roclip train --config mine.toml --run grid --sweep train.epochs=1,2";
        assert_eq!(again(plain, &["train.epochs=1,2"], 0), format!("{plain} --sweep seed=0,1,2"));
        let seeded = format!("{plain} --seed 5 --overwrite");
        assert_eq!(again(&seeded, &["train.epochs=1,2"], 5), format!("{plain} --sweep seed=0,1,2,5"));
        let swept = format!("{plain} --sweep seed=0,7");
        assert_eq!(again(&swept, &["train.epochs=1,2", "seed=0,7"], 0), format!("{plain} --sweep seed=0,1,2,7"));
    }
}
