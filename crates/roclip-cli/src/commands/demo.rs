//! `roclip demo`: the main job on the built-in data, or on the data of any recipe.

use crate::commands::overrides::RecipeFlags;
use crate::commands::parent;
use crate::commands::progress::say;
use crate::commands::report::print_table;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::checkpoint::find;
use roclip::recipe::{AugmentConfig, ObjectiveName, Recipe};
use roclip::report::{Experiment, write_report};
use roclip_data::artifact;
use std::fs::{File, OpenOptions, TryLockError};
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
    /// Remove the runs of an earlier demo in the folder, finished ones too, and start anew
    #[arg(long)]
    fresh: bool,
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
    let _lock = lock(&arguments.out)?;
    let mut runs: Vec<PathBuf> = Vec::new();
    let mut waiting: Vec<Job> = Vec::new();
    for seed in &arguments.seeds {
        for (name, mut recipe) in rows(&base).into_iter().filter(|(name, _)| arguments.rows.iter().any(|r| r == name)) {
            recipe.seed = *seed;
            let run = arguments.out.join(format!("{name}-seed{seed}"));
            runs.push(run.clone());
            let resume = match Standing::of(&run, &recipe, arguments.fresh)? {
                Standing::Finished => {
                    say(&format!("`{}` is finished, and kept (--fresh trains it anew)", run.display()));
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
    say(&format!("{} runs, {jobs} at a time; logs in {}/*/train.log", waiting.len(), arguments.out.display()));
    run_all(waiting, jobs)?;
    let results = write_report(&runs, &arguments.out)?;
    print_table(&results);
    Ok(())
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

/// What an earlier demo left in a run folder.
enum Standing {
    Absent,
    Unfinished,
    Finished,
}

impl Standing {
    /// # Errors
    /// When the folder holds something that this demo did not make: it is never removed unasked.
    fn of(run: &Path, recipe: &Recipe, fresh: bool) -> Result<Standing> {
        let saved = ["run.toml", "recipe.toml"].map(|name| run.join(name)).into_iter().find(|path| path.is_file());
        let Some(saved) = saved else {
            let empty = !run.exists() || std::fs::read_dir(run).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                bail!("`{}` holds files that are no run; move them, or name another folder with --out", run.display());
            }
            return Ok(Standing::Absent);
        };
        if fresh {
            return Ok(Standing::Absent);
        }
        let same = |saved: &Recipe| -> Result<bool> {
            Ok(saved.seed == recipe.seed && Experiment::of(saved)?.digest() == Experiment::of(recipe)?.digest())
        };
        if !Recipe::read(&saved).is_ok_and(|saved| same(&saved).unwrap_or(false)) {
            bail!(
                "`{}` holds a run of another recipe; --fresh removes it, or name another folder with --out",
                run.display()
            );
        }
        let begun = find(run).is_ok();
        Ok(match run.join("summary.json").is_file() {
            true => Standing::Finished,
            false if begun => Standing::Unfinished,
            // There is nothing to go on from, and nothing to lose.
            false => Standing::Absent,
        })
    }
}

fn remove(run: &Path) -> Result<()> {
    if run.exists() {
        std::fs::remove_dir_all(run).with_context(|| format!("cannot remove the old run `{}`", run.display()))?;
    }
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

/// A run that is to be trained.
struct Job {
    name: String,
    run: PathBuf,
    resume: bool,
}

/// A run under way. It ends with its handle: no error of the demo leaves one behind.
struct Running {
    job: Job,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each run is a process of its own, so that its memory and its threads are its own.
fn run_all(waiting: Vec<Job>, jobs: usize) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let started = Instant::now();
    let mut waiting = waiting.into_iter();
    let mut running: Vec<Running> = Vec::new();
    loop {
        while running.len() < jobs {
            let Some(job) = waiting.next() else { break };
            let how = if job.resume { "go on with" } else { "start" };
            say(&format!("[{:4.0}s] {how} {}", started.elapsed().as_secs_f64(), job.name));
            let child = start(&program, &job)?;
            running.push(Running { job, child });
        }
        if running.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut still = Vec::new();
        for mut one in std::mem::take(&mut running) {
            match one.child.try_wait()? {
                None => still.push(one),
                Some(status) if status.success() => {
                    say(&format!(
                        "[{:4.0}s] done  {}: {}",
                        started.elapsed().as_secs_f64(),
                        one.job.name,
                        last_line(&one.job.run).unwrap_or_default()
                    ));
                }
                Some(status) => {
                    let said = last_line(&one.job.run).unwrap_or_else(|| "no output".to_owned());
                    bail!("{} failed ({status}): {said}; the same command goes on with what is finished", one.job.name);
                }
            }
        }
        running = still;
    }
}

/// The last that a run said.
fn last_line(run: &Path) -> Option<String> {
    let log = std::fs::read_to_string(run.join("train.log")).ok()?;
    log.lines().last().map(str::to_owned)
}

fn start(program: &Path, job: &Job) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(job.run.join("train.log"));
    let log = log.with_context(|| format!("cannot write in `{}`", job.run.display()))?;
    let mut command = Command::new(program);
    command.arg("train").arg("--run").arg(&job.run).stdout(Stdio::null()).stderr(log);
    match job.resume {
        true => command.arg("--resume"),
        false => command.arg("--config").arg(job.run.join("recipe.toml")),
    };
    parent::spawn(&mut command).with_context(|| format!("cannot start `{}`", program.display()))
}
