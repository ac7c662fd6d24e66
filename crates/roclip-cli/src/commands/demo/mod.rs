//! `roclip demo`: the main job on the built-in data, or on the data of any recipe.

mod detected;

use crate::commands::again::{Without, again};
use crate::commands::folder::folder;
use crate::commands::grid::{Grid, Planned, check_number, finished_rows, foresee, jobs, sweep_axis, threads};
use crate::commands::invocation;
use crate::commands::numbers::{of_key, up_to};
use crate::commands::overrides::{Overrides, PlanFlags};
use crate::commands::progress::say;
use crate::commands::report::print_table;
use anyhow::{Context, Result, bail};
use clap::Args;
use detected::{DETECTED, Detection, Look};
use roclip::recipe::{AugmentConfig, Cell, ObjectiveName, Recipe, Sweep};
use roclip::report::{Experiment, check_report_folder, enough_seeds, write_report};
use roclip_data::plural::count;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const RECIPE: &str = include_str!("../../../../../recipes/emoji-small.toml");

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: PlanFlags,
    /// A third of the concepts and half the epochs: two minutes instead of twelve, and only a hint of the result. Flags and --set go before
    /// it
    #[arg(long)]
    quick: bool,
    /// Seeds, each a whole set of runs
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = of_key::<u64>("seed"))]
    seeds: Vec<u64>,
    /// Rows to train; `defended` is the recipe itself, `detected` the undefended one without the pairs that another row's model finds
    /// suspicious
    #[arg(long, value_delimiter = ',', default_values_t = ROWS.map(str::to_owned), value_parser = ALL_ROWS)]
    rows: Vec<String>,
    /// Folder for the runs, report.html and results.json [default: runs/demo, with --quick runs/demo-quick]
    #[arg(long, value_name = "FOLDER", value_parser = folder())]
    out: Option<PathBuf>,
    /// Runs at a time; 0 = one a processor, or one on a GPU
    #[arg(long, default_value_t = 0, value_parser = up_to::<usize>(1024))]
    jobs: usize,
    /// Train the rows for each value of a recipe's key, as in objective.roclip.period=1,2,4 or
    /// poison.attacks.0.targeted.captions_per_target=3,7; several make a grid. A row that a key changes nothing of is trained once
    #[arg(long, value_name = "KEY=VALUE,VALUE", value_parser = sweep_axis)]
    sweep: Vec<String>,
    /// Look at all recipes and their data, take a few steps of the first row to say what all would take, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Begin more than 500 runs
    #[arg(long)]
    yes: bool,
    /// Train rows anew that are in the folder, finished ones too; without it they are kept, and unfinished ones go on
    #[arg(long, alias = "fresh")]
    overwrite: bool,
    // Last: its heading would stand over what follows.
    #[command(flatten)]
    detection: Detection,
}

const FOLDER: &str = "runs/demo";
const QUICK_FOLDER: &str = "runs/demo-quick";
const ROWS: [&str; 4] = ["undefended", "augmentation-only", "defended", "clean-data"];
/// Those, and the one that is trained behind them.
const ALL_ROWS: [&str; 5] = ["undefended", "augmentation-only", "defended", DETECTED, "clean-data"];

/// The four rows that belong together: without its controls a defence's row means nothing.
fn rows(recipe: &Recipe) -> [(&'static str, Recipe); 4] {
    let mut undefended = recipe.clone();
    undefended.objective.name = ObjectiveName::Clip;
    undefended.augment = AugmentConfig::default();
    let mut clean_data = undefended.clone();
    clean_data.poison.measure_only = true;
    let mut augmented = recipe.clone();
    augmented.objective.name = ObjectiveName::Clip;
    [
        ("undefended", undefended),
        ("augmentation-only", augmented),
        ("defended", recipe.clone()),
        ("clean-data", clean_data),
    ]
}

pub fn run(arguments: Arguments) -> Result<()> {
    let sweep = Sweep::parse(&arguments.sweep)?;
    if sweep.keys().any(|key| key == "seed") {
        bail!("--sweep seed=...: give the seeds with --seeds 0,1,2");
    }
    let built_in = toml::from_str(RECIPE).context("the built-in recipe")?;
    let mut base = arguments.recipe.resolve(built_in, &Quick(arguments.quick))?;
    if base.poison.attacks.is_empty() && base.manifest.is_none() {
        say("warning: the recipe has no attacks: nobody will be fooled in any row; add [[poison.attacks]] to it");
    }
    let jobs = jobs(arguments.jobs, &base.train.device);
    if arguments.recipe.machine.threads.is_none() {
        base.train.threads = threads(jobs);
    }
    let out = arguments.out.clone().unwrap_or_else(|| if arguments.quick { QUICK_FOLDER } else { FOLDER }.into());
    check_report_folder(&out, "--out")?;
    let detects = arguments.rows.iter().any(|row| row == DETECTED);
    if let (false, Some(flag)) = (detects, arguments.detection.given()) {
        bail!("{flag} is for the row `{DETECTED}`; add it to --rows");
    }
    check_number(
        arguments.seeds.len().saturating_mul(arguments.rows.len()).saturating_mul(sweep.len()),
        arguments.yes,
    )?;
    let cells = sweep.cells();
    let rows = in_cells(&base, &sweep, &cells)?;
    let looks = if detects { arguments.looks(&rows, &sweep, &out)? } else { Vec::new() };
    if detects {
        arguments.detection.check(&base, &arguments.rows, &looks)?;
    }
    let runs = arguments.planned(&rows, &sweep, &out);
    if arguments.dry_run {
        if detects {
            let more = count(looks.len() * arguments.detection.rows(), "run");
            say(&format!(
                "the row `{DETECTED}` is not in this: {more} more when the others are done, each as long as an undefended one"
            ));
        }
        return foresee(&runs, "--out", jobs, false, arguments.overwrite);
    }
    let (overwrite, check) = (arguments.overwrite, !sweep.is_empty());
    let threads_asked = arguments.recipe.machine.threads.is_some();
    let stays = Some((|out| finished_rows(out, &ALL_ROWS)) as fn(&Path) -> Vec<PathBuf>);
    let grid = Grid { out: &out, named_by: "--out", jobs, overwrite, check, threads_asked, stays, told: None };
    let told = grid.train(runs)?;
    if detects {
        let mut without = Vec::new();
        for look in &looks {
            without.extend(arguments.detection.planned(look, &out, arguments.overwrite)?);
        }
        // Where others were trained, all that is finished there was looked at before.
        Grid { stays: stays.filter(|_| told.is_some()), told, ..grid }.train(without)?;
    }
    // All rows that are finished there, whichever this command was asked to train.
    let more_seeds = with_more_seeds(&invocation::typed());
    let results = write_report(&finished_rows(&out, &ALL_ROWS), Some(&more_seeds), &out)?;
    print_table(&results);
    if sweep.is_empty() {
        // More seeds take as long as this did.
        let next = results.next_steps.iter().filter(|step| !step.more_seeds).find_map(|step| step.commands.first());
        next.iter().for_each(|command| say(&format!("next: {command}")));
    }
    Ok(())
}

/// A row of the demo in all cells of a sweep.
struct Row<'a> {
    name: &'static str,
    cells: Vec<(&'a Cell, Recipe)>,
    /// Of each cell what its run is: runs with one digest are the same.
    made: Vec<String>,
    /// Of each key whether it changes what the row trains. Folders do not name the others, as a defence's setting in the undefended row.
    changing: Vec<bool>,
}

impl Row<'_> {
    /// The folder of `cell`, by the row, the values of the keys that change it, and the seed.
    fn folder(&self, sweep: &Sweep, cell: &Cell, seed: u64) -> String {
        format!("{}-seed{seed}", with_values(self.name, &values(sweep, cell, &self.changing)))
    }
}

/// The values of `cell` for the keys that are `changing`.
fn values(sweep: &Sweep, cell: &Cell, changing: &[bool]) -> String {
    sweep.name(cell, |key| changing.get(key).copied().unwrap_or(false))
}

fn with_values(name: &str, values: &str) -> String {
    if values.is_empty() { name.to_owned() } else { format!("{name}-{values}") }
}

/// All rows of `base` in the cells of `sweep`.
fn in_cells<'a>(base: &Recipe, sweep: &Sweep, cells: &'a [Cell]) -> Result<Vec<Row<'a>>> {
    let row = |name| Row { name, cells: Vec::new(), made: Vec::new(), changing: Vec::new() };
    let mut found: Vec<Row> = ROWS.into_iter().map(row).collect();
    for cell in cells {
        let recipe = sweep.recipe(base, cell)?;
        if !recipe.has_controls() {
            bail!(
                "the recipe defends nothing; give it objective.name = \"roclip\" and an [augment] section \
                 (`roclip train --sweep` varies any recipe)"
            );
        }
        for (row, (_, recipe)) in found.iter_mut().zip(rows(&recipe)) {
            row.made.push(Experiment::exactly(&recipe)?.digest());
            row.cells.push((cell, recipe));
        }
    }
    for row in &mut found {
        row.changing = sweep.changing(cells, &row.made);
    }
    Ok(found)
}

impl Arguments {
    /// The runs of all rows, seeds and cells. A row that a key changes nothing of, as a defence's setting changes nothing of the
    /// undefended one, is trained once for all of the key's values.
    fn planned(&self, rows: &[Row], sweep: &Sweep, out: &Path) -> Vec<Planned> {
        let (mut planned, mut folders) = (Vec::new(), BTreeSet::new());
        for seed in &self.seeds {
            for row in rows.iter().filter(|row| self.rows.iter().any(|asked| asked == row.name)) {
                for (cell, recipe) in &row.cells {
                    let folder = out.join(row.folder(sweep, cell, *seed));
                    if folders.insert(folder.clone()) {
                        let name = with_values(row.name, &values(sweep, cell, &row.changing));
                        let recipe = Recipe { seed: *seed, ..recipe.clone() };
                        planned.push(Planned { name: format!("{name} seed {seed}"), folder, recipe });
                    }
                }
            }
        }
        planned
    }

    /// What the row [`DETECTED`] looks at in the cells and seeds, each once: the undefended row's pairs, with the model of the row that
    /// encodes them in the same cell.
    fn looks(&self, rows: &[Row], sweep: &Sweep, out: &Path) -> Result<Vec<Look>> {
        let [undefended, ..] = rows else { return Ok(Vec::new()) };
        let Some(encoder) = rows.iter().find(|row| row.name == self.detection.encoder_row()) else {
            bail!("--detect-with: there is no row `{}`", self.detection.encoder_row());
        };
        let made: Vec<(&String, &String)> = undefended.made.iter().zip(&encoder.made).collect();
        let cells: Vec<Cell> = undefended.cells.iter().map(|(cell, _)| (*cell).clone()).collect();
        let changing = sweep.changing(&cells, &made);
        let (mut looks, mut known) = (Vec::new(), BTreeSet::new());
        for seed in &self.seeds {
            for (cell, recipe) in &undefended.cells {
                let values = values(sweep, cell, &changing);
                if known.insert((*seed, values.clone())) {
                    let encoder = out.join(encoder.folder(sweep, cell, *seed));
                    looks.push(Look { undefended: Recipe { seed: *seed, ..recipe.clone() }, encoder, values });
                }
            }
        }
        Ok(looks)
    }
}

/// This command again with the seeds that a comparison should have: what is finished is kept, and the others are trained.
fn with_more_seeds(typed: &[String]) -> String {
    let without = [Without::Valued("--seeds"), Without::Flag("--overwrite"), Without::Flag("--fresh")];
    again(typed, &without, &format!("--seeds {}", enough_seeds([])))
}

/// `--quick`, which flags may change again.
struct Quick(bool);

impl Overrides for Quick {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if self.0 {
            shrink(recipe);
        }
        Ok(())
    }
}

/// Fewer concepts, targets and epochs. Small enough for a smoke test; the pattern needs the whole demo.
fn shrink(recipe: &mut Recipe) {
    let captions = recipe.eval.class_captions.as_mut();
    for source in [&mut recipe.data.source, &mut recipe.eval.source].into_iter().chain(captions) {
        source.emoji.concepts = 64;
    }
    recipe.train.epochs = recipe.train.epochs.div_ceil(2);
    recipe.objective.roclip.pool_size = recipe.objective.roclip.pool_size.map(|size| size / 3);
    for attack in &mut recipe.poison.attacks {
        if let Some(targeted) = &mut attack.targeted {
            targeted.targets = targeted.targets.min(8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_demo_with_more_seeds_is_typed_as_this_one_was() {
        let words = |typed: &str| format!("roclip {typed}").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let again = |typed: &str| with_more_seeds(&words(typed));
        assert_eq!(again("demo"), "roclip demo --seeds 0,1,2");
        assert_eq!(again("demo --seeds 3 --quick"), "roclip demo --quick --seeds 0,1,2");
        assert_eq!(
            again("demo --overwrite --seeds=3 --config mine.toml"),
            "roclip demo --config mine.toml --seeds 0,1,2"
        );
    }
}
