//! Several runs in one folder, each a process of its own: the rows of a demo, and the cells of a sweep. The same command goes on where it
//! was stopped, and keeps what is finished.

mod foresee;
mod runs;
mod standing;

pub use foresee::foresee;
pub use standing::finished;

use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use roclip::recipe::{Recipe, Sweep};
use roclip::run::Seen;
use roclip_data::artifact;
use roclip_data::plural::count;
use runs::{Job, run_all};
use standing::{Standing, remove};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// Runs that nobody starts by mistake.
const MOST_RUNS: usize = 500;

/// A value of `--sweep` as it was typed, where it is one.
///
/// # Errors
/// What is wrong with it.
pub fn sweep_axis(text: &str) -> Result<String, String> {
    Sweep::parse(&[text]).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The file whose lock says that a demo or a sweep is at work in a folder.
const LOCK: &str = "demo.lock";

/// A run that is wanted.
pub struct Planned {
    /// As lines call it.
    pub name: String,
    pub folder: PathBuf,
    pub recipe: Recipe,
}

/// How several runs are trained.
pub struct Grid<'a> {
    pub out: &'a Path,
    /// At a time.
    pub jobs: usize,
    /// Train anew what is there.
    pub overwrite: bool,
    /// Find what is wrong with any run before the first begins.
    pub check: bool,
}

/// `asked` runs at a time; for 0 as many as there are processors, or one on a device that they would have to share.
pub fn jobs(asked: usize, device: &str) -> usize {
    match asked {
        0 if device == "cpu" => processors(),
        asked => asked.max(1),
    }
}

/// The threads of each of `jobs` runs.
pub fn threads(jobs: usize) -> i32 {
    (processors() / jobs).max(1) as i32
}

fn processors() -> usize {
    std::thread::available_parallelism().map(usize::from).unwrap_or(1)
}

/// # Errors
/// More than [`MOST_RUNS`] without a word for it.
pub fn check_number(runs: usize, yes: bool) -> Result<()> {
    if runs > MOST_RUNS && !yes {
        bail!("these are {runs} runs, more than {MOST_RUNS}; give --yes where you mean it, or fewer values");
    }
    Ok(())
}

/// What is wrong with any of `runs`, found before the first of them begins.
pub fn check(runs: &[Planned]) -> Result<()> {
    let mut seen = Seen::default();
    for planned in runs {
        seen.begins(&planned.recipe, &planned.folder).with_context(|| format!("the run {}", planned.name))?;
    }
    Ok(())
}

impl Grid<'_> {
    /// Trains what is not finished of `runs`.
    ///
    /// # Errors
    /// A folder that holds something else, a run that could not begin, and what the runs themselves fail with.
    pub fn train(&self, runs: Vec<Planned>) -> Result<()> {
        if self.out.join("run.toml").is_file() {
            bail!("`{}` is a run itself; name another folder for several", self.out.display());
        }
        artifact::check_writable(self.out)?;
        let _lock = lock(self.out)?;
        let (mut wanted, mut kept) = (Vec::new(), Vec::new());
        for planned in runs {
            match Standing::of(&planned.folder, &planned.recipe, self.overwrite)? {
                Standing::Finished => kept.push(planned),
                standing => wanted.push((planned, standing == Standing::Unfinished)),
            }
        }
        if let [only] = kept.as_slice() {
            say(&format!("`{}` is finished, and kept (--overwrite trains it anew)", only.folder.display()));
        } else if !kept.is_empty() {
            say(&format!("{} runs are finished, and kept (--overwrite trains them anew)", kept.len()));
        }
        let (wanted, resumes): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        if self.check && !wanted.is_empty() {
            say(&format!("looking at the recipes and data of {} before the first begins", count(wanted.len(), "run")));
            if let Err(refused) = check(&wanted) {
                artifact::remove_unused(self.out, LOCK);
                return Err(refused);
            }
        }
        let mut waiting = Vec::new();
        for (Planned { name, folder, recipe }, resume) in wanted.into_iter().zip(resumes) {
            if !resume {
                remove(&folder)?;
                artifact::write(&folder.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
            }
            waiting.push(Job { name, run: folder, resume });
        }
        if !waiting.is_empty() {
            let (runs, jobs) = (count(waiting.len(), "run"), self.jobs);
            say(&format!("{runs}, {jobs} at a time; logs in {}/*/train.log", self.out.display()));
        }
        run_all(waiting, self.jobs)
    }
}

/// Keeps a second command of this kind out of the folder for as long as it is held.
fn lock(out: &Path) -> Result<File> {
    let path = out.join(LOCK);
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder `{}`", out.display()))?;
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let lock = open.with_context(|| format!("cannot write `{}`", path.display()))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("another demo or sweep is at work in `{}`; wait for it to end, or name another folder", out.display())
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(cause)) if cause.kind() != std::io::ErrorKind::Unsupported => {
            Err(cause).with_context(|| format!("cannot lock `{}`", path.display()))
        }
        _ => Ok(lock),
    }
}
