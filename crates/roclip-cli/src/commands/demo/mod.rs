//! `roclip demo`: the main job on the built-in data, or on the data of any recipe.

mod runs;
mod standing;

use crate::commands::overrides::PlanFlags;
use crate::commands::progress::say;
use crate::commands::report::print_table;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::recipe::{AugmentConfig, ObjectiveName, Recipe};
use roclip::report::write_report;
use roclip_data::artifact;
use roclip_data::escape::for_shell;
use roclip_data::plural::count;
use runs::{Job, run_all};
use standing::{Standing, finished, remove};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

const RECIPE: &str = include_str!("../../../../../recipes/emoji-small.toml");

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: PlanFlags,
    /// A third of the concepts and half the epochs: minutes instead of tens of minutes, and only a hint of the result
    #[arg(long)]
    quick: bool,
    /// Seeds, each a whole set of runs
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Rows to train; `defended` is the recipe itself
    #[arg(long, value_delimiter = ',', default_values_t = ROWS.map(str::to_owned), value_parser = ROWS)]
    rows: Vec<String>,
    /// Folder for the runs, report.html and results.json [default: runs/demo, with --quick runs/demo-quick]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Runs at a time; 0 = one a processor
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Train rows anew that are in the folder, finished ones too; without it they are kept, and unfinished ones go on
    #[arg(long, alias = "fresh")]
    overwrite: bool,
}

/// Seeds that a comparison should have.
const MORE_SEEDS: &str = "0,1,2";
const FOLDER: &str = "runs/demo";
const QUICK_FOLDER: &str = "runs/demo-quick";
const ROWS: [&str; 4] = ["undefended", "augmentation-only", "defended", "clean-data"];

/// The four rows that belong together: without its controls a defence's row means nothing.
fn rows(recipe: &Recipe) -> Vec<(&'static str, Recipe)> {
    let mut undefended = recipe.clone();
    undefended.objective.name = ObjectiveName::Clip;
    undefended.augment = AugmentConfig::default();
    let mut clean_data = undefended.clone();
    clean_data.poison.measure_only = true;
    let mut augmented = recipe.clone();
    augmented.objective.name = ObjectiveName::Clip;
    vec![
        ("undefended", undefended),
        ("augmentation-only", augmented),
        ("defended", recipe.clone()),
        ("clean-data", clean_data),
    ]
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut base = arguments.recipe.resolve(toml::from_str(RECIPE).context("the built-in recipe")?)?;
    if base.objective.name == ObjectiveName::Clip || base.augment == AugmentConfig::default() {
        bail!("the recipe defends nothing; give it objective.name = \"roclip\" and an [augment] section");
    }
    if arguments.quick {
        shrink(&mut base);
    }
    let processors = std::thread::available_parallelism().map(usize::from).unwrap_or(1);
    let jobs = if arguments.jobs == 0 { processors } else { arguments.jobs };
    if arguments.recipe.machine.threads.is_none() {
        base.train.threads = (processors / jobs).max(1) as i32;
    }
    let out = arguments.out.clone().unwrap_or_else(|| if arguments.quick { QUICK_FOLDER } else { FOLDER }.into());
    artifact::check_writable(&out)?;
    let _lock = lock(&out)?;
    let mut waiting: Vec<Job> = Vec::new();
    for seed in &arguments.seeds {
        for (name, mut recipe) in rows(&base).into_iter().filter(|(name, _)| arguments.rows.iter().any(|r| r == name)) {
            recipe.seed = *seed;
            let run = out.join(format!("{name}-seed{seed}"));
            let resume = match Standing::of(&run, &recipe, arguments.overwrite)? {
                Standing::Finished => {
                    say(&format!("`{}` is finished, and kept (--overwrite trains it anew)", run.display()));
                    continue;
                }
                Standing::Unfinished => true,
                Standing::Absent => {
                    remove(&run)?;
                    artifact::write(&run.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
                    false
                }
            };
            waiting.push(Job { name: format!("{name} seed {seed}"), run, resume });
        }
    }
    if !waiting.is_empty() {
        say(&format!("{}, {jobs} at a time; logs in {}/*/train.log", count(waiting.len(), "run"), out.display()));
    }
    run_all(waiting, jobs)?;
    // All rows that are finished there, whichever this command was asked to train.
    let mut results = write_report(&finished(&out, &ROWS), &out)?;
    for step in results.next_steps.iter_mut().filter(|step| step.more_seeds) {
        step.commands = vec![with_seeds(std::env::args().skip(1), MORE_SEEDS)];
    }
    print_table(&results);
    say(&format!(
        "next: roclip doctor {}",
        out.join(format!("defended-seed{}", arguments.seeds.first().unwrap_or(&0))).display()
    ));
    Ok(())
}

/// This command again with `seeds`: what is finished is kept, and the others are trained.
fn with_seeds(typed: impl Iterator<Item = String>, seeds: &str) -> String {
    let mut words = vec!["roclip".to_owned()];
    let mut values_to_skip = false;
    for word in typed {
        let value_of_seeds = std::mem::replace(&mut values_to_skip, word == "--seeds");
        let left_out =
            value_of_seeds || word.starts_with("--seeds") || ["--overwrite", "--fresh"].contains(&word.as_str());
        if !left_out {
            words.push(for_shell(&word));
        }
    }
    format!("{} --seeds {seeds}", words.join(" "))
}

/// Keeps a second demo out of the folder for as long as it is held.
fn lock(out: &Path) -> Result<File> {
    let path = out.join("demo.lock");
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder `{}`", out.display()))?;
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let lock = open.with_context(|| format!("cannot write `{}`", path.display()))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another demo is at work in `{}`; wait for it to end, or name another folder with --out",
                out.display()
            )
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(cause)) if cause.kind() != std::io::ErrorKind::Unsupported => {
            Err(cause).with_context(|| format!("cannot lock `{}`", path.display()))
        }
        _ => Ok(lock),
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
        let again = |typed: &str| with_seeds(typed.split_whitespace().map(str::to_owned), "0,1,2");
        assert_eq!(again("demo"), "roclip demo --seeds 0,1,2");
        assert_eq!(again("demo --seeds 3 --quick"), "roclip demo --quick --seeds 0,1,2");
        assert_eq!(
            again("demo --overwrite --seeds=3 --config mine.toml"),
            "roclip demo --config mine.toml --seeds 0,1,2"
        );
    }
}
