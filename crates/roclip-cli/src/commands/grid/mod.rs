//! Several runs in one folder, each a process of its own: the rows of a demo, and the cells of a sweep. The same command goes on where it
//! was stopped, and keeps what is finished.

mod foresee;
mod runs;
mod standing;
mod staying;

pub use foresee::foresee;
pub use standing::{Standing, finished, finished_rows, of_another, remove};
pub use staying::{Staying, check_stay, say_changed};

use crate::commands::progress::say;
use crate::commands::signals;
use anyhow::{Context, Result, bail};
use roclip::recipe::{Recipe, Sweep};
use roclip::run::{Seen, check_outside_of_runs, open_lock};
use roclip_data::artifact;
use roclip_data::paths::create_folder;
use roclip_data::plural::count;
use roclip_data::threads::processors;
use runs::{Job, run_all};
use std::fs::{File, TryLockError};
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
pub const LOCK: &str = "demo.lock";

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
    /// The flag that names `out`.
    pub named_by: &'static str,
    /// At a time.
    pub jobs: usize,
    /// Train anew what is there.
    pub overwrite: bool,
    /// Find what is wrong with any run before the first begins.
    pub check: bool,
    /// Whether somebody asked for this number of threads. Where nobody did, a run goes on with the number that it began with, which its sums
    /// depend on.
    pub threads_asked: bool,
    /// The finished runs of a folder that stand in one table with what is trained now, which must be of what there is today; none where
    /// nobody looks.
    pub stays: Option<fn(&Path) -> Vec<PathBuf>>,
    /// Whether an earlier step of this command found all of them unchanged, for certain, and else said what has changed; none where it has not
    /// looked.
    pub told: Option<bool>,
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

/// # Errors
/// More than [`MOST_RUNS`] without a word for it.
pub fn check_number(runs: usize, yes: bool) -> Result<()> {
    if runs > MOST_RUNS && !yes {
        bail!("these are {runs} runs, more than {MOST_RUNS}; give --yes where you mean it, or fewer values");
    }
    Ok(())
}

/// What is wrong with any of `runs`, which lie in a folder that the flag `named_by` names, found before the first of them begins.
pub fn check(runs: &[Planned], named_by: &'static str) -> Result<()> {
    let mut seen = Seen::nothing(named_by);
    for planned in runs {
        seen.begins(&planned.recipe, &planned.folder).with_context(|| format!("the run {}", planned.name))?;
    }
    Ok(())
}

/// A run that learns from the model of another one.
pub struct Taught {
    pub run: Planned,
    /// What the other one trains by.
    pub teacher: Recipe,
}

/// What is to be done of several runs.
#[derive(Default)]
struct Wanted {
    runs: Vec<Planned>,
    /// Of each, whether it goes on.
    resumes: Vec<bool>,
}

impl Grid<'_> {
    /// Trains what is not finished of `runs`. Where there was nothing to train, gives what a later step of the same command need not look at
    /// again, as [`Grid::told`] says it.
    ///
    /// # Errors
    /// A folder that holds something else, a run that could not begin, and what the runs themselves fail with.
    pub fn train(&self, runs: Vec<Planned>) -> Result<Option<bool>> {
        self.train_in_turn(runs, Vec::new())
    }

    /// [`Grid::train`] for `runs`, and then for those that learn from them.
    ///
    /// # Errors
    /// Those of [`Grid::train`], found for all of them before the first begins where `check` says so.
    pub fn train_in_turn(&self, runs: Vec<Planned>, taught: Vec<Taught>) -> Result<Option<bool>> {
        let _lock = take(self.out, self.named_by)?;
        let mut kept = Vec::new();
        let first = self.wanted(runs, &mut kept)?;
        let (taught, teachers): (Vec<Planned>, Vec<Recipe>) =
            taught.into_iter().map(|Taught { run, teacher }| (run, teacher)).unzip();
        let teachers: Vec<(PathBuf, Recipe)> = taught.iter().map(|run| run.folder.clone()).zip(teachers).collect();
        let then = self.wanted(taught, &mut kept)?;
        if let [only] = kept.as_slice() {
            say(&format!("`{}` is finished, and kept (--overwrite trains it anew)", only.display()));
        } else if !kept.is_empty() {
            say(&format!("{} runs are finished, and kept (--overwrite trains them anew)", kept.len()));
        }
        let all = first.runs.len() + then.runs.len();
        let mut told = self.told;
        let students = match all {
            0 => {
                told = told.or_else(|| self.stays.map(|stays| say_changed(&stays(self.out))));
                None
            }
            _ => self.looked_at(&first, &then, &teachers).inspect_err(|_| artifact::remove_unused(self.out, LOCK))?,
        };
        if all > 0 {
            let later = match (first.runs.len(), then.runs.len()) {
                (0, _) | (_, 0) => String::new(),
                (first, then) => format!(" ({first} first, and then the {then} that learn from such)"),
            };
            let (runs, jobs, out) = (count(all, "run"), self.jobs, self.out.display());
            say(&format!("{runs}{later}, {jobs} at a time; logs in {out}/*/train.log"));
        }
        run_all(first.begin(self.threads_asked)?, self.jobs)?;
        if let Some(students) = students {
            students.check_data(&[], self.named_by)?;
        }
        run_all(then.begin(self.threads_asked)?, self.jobs)?;
        Ok(told)
    }

    /// Looks at what stays in the folder, and at the runs before the first begins, as far as this command does so. Gives back the students that
    /// stay and can be looked at only behind their teachers.
    fn looked_at(&self, first: &Wanted, then: &Wanted, teachers: &[(PathBuf, Recipe)]) -> Result<Option<Staying>> {
        let mut students = None;
        if let Some(stays) = self.stays {
            let to_train: Vec<&Planned> = first.runs.iter().chain(&then.runs).collect();
            let folders: Vec<&Path> = to_train.iter().map(|planned| planned.folder.as_path()).collect();
            let staying = Staying::beside(&folders, stays(self.out), self.named_by)?;
            staying.check_recipes(&to_train, self.named_by)?;
            // Whether they are has been looked at in this command.
            let unchanged = staying.is_empty() || self.told == Some(true);
            if !unchanged {
                let runs = count(staying.len(), "finished run");
                say(&format!("looking whether the training data and labelled pictures of {runs} are unchanged"));
                students = Some(staying.check_data(&folders, self.named_by)?);
            }
        }
        if self.check {
            let runs = count(first.runs.len() + then.runs.len(), "run");
            say(&format!("looking at the recipes and data of {runs} before the first begins"));
            check(&first.runs, self.named_by)?;
            check_taught(&then.runs, teachers, self.named_by)?;
        }
        Ok(students)
    }

    /// What is not finished of `runs`; the folders of the others are put into `kept`.
    fn wanted(&self, runs: Vec<Planned>, kept: &mut Vec<PathBuf>) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        for planned in runs {
            match Standing::of(&planned.folder, &planned.recipe, self.overwrite, self.named_by)? {
                Standing::Finished => kept.push(planned.folder),
                standing => {
                    wanted.resumes.push(standing == Standing::Unfinished);
                    wanted.runs.push(planned);
                }
            }
        }
        Ok(wanted)
    }
}

impl Wanted {
    /// Makes the folders of what is new.
    fn begin(self, threads_asked: bool) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for (Planned { name, folder, recipe }, resume) in self.runs.into_iter().zip(self.resumes) {
            if !resume {
                remove(&folder)?;
                artifact::write(&folder.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
            }
            // A run goes on with the recipe that it began with, on the machine as it is asked for now.
            let (train, data) = (&recipe.train, &recipe.data);
            let mut machine = vec![format!("--workers={}", data.workers), format!("--device={}", train.device)];
            machine.extend(threads_asked.then(|| format!("--threads={}", train.threads)));
            jobs.push(Job { name, run: folder, resume: resume.then_some(machine) });
        }
        Ok(jobs)
    }
}

/// What is wrong with any of `runs`, as far as it is known before their teachers are trained; `teachers` are their recipes, by the folder of
/// the run that learns from them.
fn check_taught(runs: &[Planned], teachers: &[(PathBuf, Recipe)], named_by: &'static str) -> Result<()> {
    let mut seen = Seen::nothing(named_by);
    for planned in runs {
        let teacher = teachers.iter().find(|(folder, _)| *folder == planned.folder);
        if let Some((_, teacher)) = teacher {
            seen.learns(&planned.recipe, teacher).with_context(|| format!("the run {}", planned.name))?;
        }
    }
    Ok(())
}

/// Takes the folder `out` of several runs, which the flag `named_by` names: no other command of this kind works in it for as long as what is
/// given back is held.
///
/// # Errors
/// A folder that is a run or lies within one, cannot be written in, or that another command is at work in.
pub fn take(out: &Path, named_by: &str) -> Result<File> {
    if out.join("run.toml").is_file() {
        bail!("`{}` is a run itself; name another folder for several with {named_by}", out.display());
    }
    check_outside_of_runs(out, named_by)?;
    artifact::check_writable(out)?;
    let lock = lock(out)?;
    signals::runs_in(out);
    Ok(lock)
}

/// [`take`] of a folder that may hold runs.
fn lock(out: &Path) -> Result<File> {
    let path = out.join(LOCK);
    create_folder(out)?;
    let lock = open_lock(&path, "a demo or a sweep")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_a_link_to_nowhere_is_named() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path().join("gone"), &link).unwrap();
        for said in [take(&link, "--out").unwrap_err(), lock(&link).unwrap_err()] {
            assert!(said.to_string().contains("link`: is a link that leads nowhere"), "{said}");
        }
    }

    #[test]
    fn a_lock_that_is_a_pipe_or_a_folder_is_refused_with_what_to_do() {
        for kind in ["mkfifo", "mkdir"] {
            let out = tempfile::tempdir().unwrap();
            assert!(std::process::Command::new(kind).arg(out.path().join(LOCK)).status().unwrap().success());
            let said = lock(out.path()).unwrap_err().to_string();
            assert!(said.contains(LOCK) && said.contains("no regular file; remove it"), "{said}");
        }
    }
}
