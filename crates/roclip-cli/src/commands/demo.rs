//! `roclip demo`: the main job on the built-in data, or on the data of any recipe.

use crate::commands::overrides::RecipeFlags;
use crate::commands::report::print_table;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::recipe::{AugmentConfig, ObjectiveName, Recipe};
use roclip::report::write_report;
use roclip_data::artifact;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RECIPE: &str = include_str!("../../../../recipes/emoji-small.toml");

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// A third of the concepts and half the epochs: minutes instead of tens of minutes, and only a hint of the result
    #[arg(long)]
    quick: bool,
    /// Seeds, each a whole set of runs
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Rows to train; `defended` is the recipe itself
    #[arg(long, value_delimiter = ',', default_values_t = ROWS.map(str::to_owned), value_parser = ROWS)]
    rows: Vec<String>,
    /// Folder for the runs, report.html and results.json
    #[arg(long, value_name = "FOLDER", default_value = "runs/demo")]
    out: PathBuf,
    /// Runs at a time; 0 = one a processor
    #[arg(long, default_value_t = 0)]
    jobs: usize,
}

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
    let mut waiting: Vec<(String, PathBuf)> = Vec::new();
    for seed in &arguments.seeds {
        for (name, mut recipe) in rows(&base).into_iter().filter(|(name, _)| arguments.rows.iter().any(|r| r == name)) {
            recipe.seed = *seed;
            let run = arguments.out.join(format!("{name}-seed{seed}"));
            if run.exists() {
                eprintln!("`{}` replaces an older run", run.display());
                std::fs::remove_dir_all(&run)
                    .with_context(|| format!("cannot remove the old run `{}`", run.display()))?;
            }
            artifact::write(&run.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
            waiting.push((format!("{name} seed {seed}"), run));
        }
    }
    let runs: Vec<PathBuf> = waiting.iter().map(|(_, run)| run.clone()).collect();
    eprintln!("{} runs, {jobs} at a time; logs in {}/*/train.log", runs.len(), arguments.out.display());
    run_all(waiting, jobs)?;
    let results = write_report(&runs, &arguments.out)?;
    print_table(&results);
    println!("\n{}", arguments.out.join("report.html").display());
    println!("{}", arguments.out.join("results.json").display());
    Ok(())
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

/// Each run is a process of its own, so that its memory and its threads are its own.
fn run_all(waiting: Vec<(String, PathBuf)>, jobs: usize) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let started = Instant::now();
    let mut waiting = waiting.into_iter();
    let mut running: Vec<(String, PathBuf, Child)> = Vec::new();
    loop {
        while running.len() < jobs {
            let Some((name, run)) = waiting.next() else { break };
            eprintln!("[{:4.0}s] start {name}", started.elapsed().as_secs_f64());
            let child = start(&program, &run)?;
            running.push((name, run, child));
        }
        if running.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut still = Vec::new();
        for (name, run, mut child) in running {
            match child.try_wait()? {
                None => still.push((name, run, child)),
                Some(status) if status.success() => {
                    let log = std::fs::read_to_string(run.join("train.log")).unwrap_or_default();
                    eprintln!(
                        "[{:4.0}s] done  {name}: {}",
                        started.elapsed().as_secs_f64(),
                        log.lines().last().unwrap_or_default()
                    );
                }
                Some(status) => {
                    for (_, _, other) in &mut still {
                        // The run is lost with the demo; that it may have ended by itself does not matter.
                        let _ = other.kill();
                    }
                    let log = std::fs::read_to_string(run.join("train.log")).unwrap_or_default();
                    bail!("{name} failed ({status}): {}", log.lines().last().unwrap_or("no output"));
                }
            }
        }
        running = still;
    }
}

fn start(program: &Path, run: &Path) -> Result<Child> {
    let log = File::create(run.join("train.log")).with_context(|| format!("cannot write in `{}`", run.display()))?;
    Command::new(program)
        .args(["train", "--config"])
        .arg(run.join("recipe.toml"))
        .arg("--run")
        .arg(run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start `{}`", program.display()))
}
