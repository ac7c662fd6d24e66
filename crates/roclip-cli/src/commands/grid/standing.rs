//! What an earlier command left in its folder.

use anyhow::{Context, Error, Result, anyhow, bail};
use roclip::checkpoint::{find, newest_step};
use roclip::recipe::Recipe;
use roclip::report::Experiment;
use roclip::run::{LOCK, check_run_folder, foreign_file, open_lock};
use std::fs::{DirEntry, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What an earlier command left in a run folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Absent,
    Unfinished,
    Finished,
}

impl Standing {
    /// Of the run folder `run`, in a folder that the flag `named_by` names.
    ///
    /// # Errors
    /// When the folder holds something that no run made: it is not removed, whatever `overwrite` says.
    pub fn of(run: &Path, recipe: &Recipe, overwrite: bool, named_by: &str) -> Result<Standing> {
        let saved = ["run.toml", "recipe.toml"].map(|name| run.join(name)).into_iter().find(|path| path.is_file());
        let Some(saved) = saved else {
            // One that was stopped before it wrote anything else has left its lock.
            let other = |entry: DirEntry| !LEFT_FIRST.iter().any(|name| entry.file_name() == *name);
            let free = match std::fs::read_dir(run) {
                Ok(entries) => !entries.flatten().any(other),
                Err(cause) => cause.kind() == ErrorKind::NotFound,
            };
            if !free {
                bail!(
                    "`{}` holds files that are no run; move them, or name another folder with {named_by}",
                    run.display()
                );
            }
            return Ok(Standing::Absent);
        };
        check_run_folder(run, named_by)?;
        if overwrite {
            return begun_anew(run, named_by);
        }
        if never_began(run) {
            return begun_anew(run, named_by);
        }
        let same = |saved: &Recipe| -> Result<bool> {
            Ok(saved.seed == recipe.seed && Experiment::of(saved)?.digest() == Experiment::of(recipe)?.digest())
        };
        if !Recipe::read(&saved).is_ok_and(|saved| same(&saved).unwrap_or(false)) {
            return Err(of_another(run, "holds a run of another recipe", named_by));
        }
        let begun = find(run).is_ok();
        Ok(match run.join("summary.json").is_file() {
            true => Standing::Finished,
            false if begun => Standing::Unfinished,
            // There is nothing to go on from.
            false => return begun_anew(run, named_by),
        })
    }
}

/// What a run leaves that was stopped before it wrote its recipe.
const LEFT_FIRST: [&str; 2] = [LOCK, "train.log"];

/// [`Standing::Absent`] for a folder that is removed and made anew, as nothing was trained in it or somebody said so.
///
/// # Errors
/// Where somebody keeps a file of their own there.
fn begun_anew(run: &Path, named_by: &str) -> Result<Standing> {
    match foreign_file(run) {
        None => Ok(Standing::Absent),
        Some(name) => bail!(
            "`{}` holds `{name}`, which no run wrote, and is made anew before a run begins there; move that file, or name another folder \
             with {named_by}",
            run.display()
        ),
    }
}

/// Says of a run in the folder `run`, which is another one as `what` says, how to make room for what is asked for.
pub fn of_another(run: &Path, what: &str, named_by: &str) -> Error {
    let run_shown = run.display();
    match foreign_file(run) {
        None => anyhow!("`{run_shown}` {what}; --overwrite removes it, or name another folder with {named_by}"),
        Some(name) => anyhow!(
            "`{run_shown}` {what}, and `{name}`, which no run wrote, lies there; name another folder with {named_by}, or move that file"
        ),
    }
}

/// Whether a command of this kind wrote a recipe into `run` that no run has taken a checkpoint by, as where the run refused to begin: with
/// whatever recipe, there is nothing to lose.
fn never_began(run: &Path) -> bool {
    let trained = run.join("summary.json").is_file() || !newest_step(run).is_ok_and(|step| step.is_none());
    run.join("recipe.toml").is_file() && !trained
}

/// Removes a run that is to be trained anew.
///
/// # Errors
/// Where another process writes in it, and what cannot be removed.
pub fn remove(run: &Path) -> Result<()> {
    // Held until the folder is gone, so that nobody begins in it.
    let file = run.join(LOCK);
    let lock = file.symlink_metadata().is_ok().then(|| open_lock(&file, "a run")).transpose()?;
    let lock = lock.map(|lock| (lock.try_lock(), lock));
    if let Some((Err(TryLockError::WouldBlock), _)) = lock {
        bail!("`{}` is being written by another process; wait for it to end", run.display());
    }
    if run.exists() {
        std::fs::remove_dir_all(run).with_context(|| format!("cannot remove the old run `{}`", run.display()))?;
    }
    Ok(())
}

/// All finished runs in the folder of a sweep, by name.
pub fn finished(out: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|run| run.join("summary.json").is_file()).collect();
    found.sort();
    found
}

/// The finished runs of a demo's `rows` in its folder, whenever they were trained: by seed, then in the order of the rows, then by the
/// values of a sweep.
pub fn finished_rows(out: &Path, rows: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let mut found: Vec<((u64, usize), PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let (row, seed) = name.to_str()?.rsplit_once("-seed")?;
            let of =
                |known: &&str| row.strip_prefix(*known).is_some_and(|cell| cell.is_empty() || cell.starts_with('-'));
            let place = (seed.parse().ok()?, rows.iter().position(of)?);
            entry.path().join("summary.json").is_file().then(|| (place, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, run)| run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_never_began_is_begun_with_the_recipe_as_it_is_now() {
        let out = tempfile::tempdir().unwrap();
        let run = out.path().join("row-seed0");
        std::fs::create_dir(&run).unwrap();
        let (asked, earlier) = (Recipe::default(), Recipe { seed: 7, ..Recipe::default() });
        std::fs::write(run.join("recipe.toml"), earlier.to_toml().unwrap()).unwrap();
        std::fs::write(run.join("train.log"), "attack `ink`: it wants 12 pairs\n").unwrap();
        let standing = || Standing::of(&run, &asked, false, "--run");
        assert_eq!(standing().unwrap(), Standing::Absent);
        // What somebody keeps there is not removed unasked.
        std::fs::write(run.join("notes.md"), "precious").unwrap();
        let said = standing().unwrap_err().to_string();
        assert!(said.contains("notes.md") && said.contains("--run"), "{said}");
        let overwritten = || Standing::of(&run, &asked, true, "--run");
        assert!(overwritten().unwrap_err().to_string().contains("notes.md"));
        std::fs::remove_file(run.join("notes.md")).unwrap();
        assert_eq!(overwritten().unwrap(), Standing::Absent);
        // A run of somebody who wrote its recipe by hand is none of this command's, and one that has trained is kept.
        std::fs::rename(run.join("recipe.toml"), run.join("run.toml")).unwrap();
        assert!(standing().unwrap_err().to_string().contains("name another folder with --run"));
        std::fs::rename(run.join("run.toml"), run.join("recipe.toml")).unwrap();
        for (name, text) in
            [("run.toml", earlier.to_toml().unwrap()), ("lock", String::new()), ("summary.json", "{}".into())]
        {
            std::fs::write(run.join(name), text).unwrap();
        }
        assert!(standing().unwrap_err().to_string().contains("a run of another recipe"));
        assert_eq!(overwritten().unwrap(), Standing::Absent);
    }

    #[test]
    fn what_is_somebodys_own_is_no_run_of_another_recipe_and_is_never_removed() {
        let recipe = Recipe { seed: 7, ..Recipe::default() }.to_toml().unwrap();
        for (text, words) in
            [("[foo]\n", "no recipe of a run"), ("", "no recipe of a run"), (&recipe, "nothing else of a run")]
        {
            let out = tempfile::tempdir().unwrap();
            std::fs::write(out.path().join("run.toml"), text).unwrap();
            std::fs::write(out.path().join("thesis.txt"), "precious").unwrap();
            for overwrite in [false, true] {
                let said = Standing::of(out.path(), &Recipe::default(), overwrite, "--out").unwrap_err().to_string();
                assert!(said.contains(words) && said.contains("--out"), "{said}");
                assert!(!said.contains("--overwrite") && !said.contains("another recipe"), "{said}");
            }
        }
        // Nor what somebody keeps beside a run.
        let out = tempfile::tempdir().unwrap();
        for name in ["lock", "summary.json", "thesis.txt"] {
            std::fs::write(out.path().join(name), "").unwrap();
        }
        std::fs::write(out.path().join("run.toml"), recipe).unwrap();
        for overwrite in [false, true] {
            let said = Standing::of(out.path(), &Recipe::default(), overwrite, "--out").unwrap_err().to_string();
            assert!(said.contains("`thesis.txt`, which no run wrote") && said.contains("--out"), "{said}");
            assert!(!said.contains("--overwrite"), "{said}");
        }
    }

    #[test]
    fn a_run_of_another_version_of_the_program_is_removed_where_somebody_says_so() {
        let out = tempfile::tempdir().unwrap();
        for (name, text) in [("run.toml", "key_of_tomorrow = 1\n"), ("lock", ""), ("summary.json", "{}")] {
            std::fs::write(out.path().join(name), text).unwrap();
        }
        let standing = |overwrite| Standing::of(out.path(), &Recipe::default(), overwrite, "--out");
        let said = standing(false).unwrap_err().to_string();
        assert!(said.contains("a run of another recipe") && said.contains("--overwrite"), "{said}");
        assert_eq!(standing(true).unwrap(), Standing::Absent);
        // So is one with a report in its folder.
        std::fs::write(out.path().join("report.html"), "<!DOCTYPE html><title>roclip report</title>").unwrap();
        assert_eq!(standing(true).unwrap(), Standing::Absent);
    }

    #[test]
    fn a_lock_that_is_a_pipe_is_not_waited_for() {
        let out = tempfile::tempdir().unwrap();
        assert!(std::process::Command::new("mkfifo").arg(out.path().join("lock")).status().unwrap().success());
        assert!(remove(out.path()).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn a_folder_with_a_lock_alone_is_that_of_a_run_that_never_began() {
        let out = tempfile::tempdir().unwrap();
        let standing = || Standing::of(out.path(), &Recipe::default(), false, "--run");
        std::fs::write(out.path().join("lock"), "4711\n").unwrap();
        assert_eq!(standing().unwrap(), Standing::Absent);
        std::fs::write(out.path().join("notes.md"), "precious").unwrap();
        assert!(standing().unwrap_err().to_string().contains("files that are no run"));
        // One that somebody works in at this moment is not taken away.
        let held = std::fs::File::open(out.path().join("lock")).unwrap();
        held.lock().unwrap();
        let said = remove(out.path()).unwrap_err().to_string();
        assert!(said.contains("written by another process"), "{said}");
        drop(held);
        remove(out.path()).unwrap();
        assert!(!out.path().exists());
    }

    #[test]
    fn finished_runs_are_found_in_the_order_of_seeds_and_rows() {
        let out = tempfile::tempdir().unwrap();
        for name in ["b-seed0", "a-seed10", "a-seed9", "a-k-2-seed0", "a-seed0", "ab-seed0", "other-seed0", "a-seedx"] {
            std::fs::create_dir(out.path().join(name)).unwrap();
            std::fs::write(out.path().join(name).join("summary.json"), "{}").unwrap();
        }
        std::fs::create_dir(out.path().join("b-seed9")).unwrap();
        let names: Vec<String> = finished_rows(out.path(), &["a", "b"])
            .iter()
            .map(|run| run.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a-k-2-seed0", "a-seed0", "b-seed0", "a-seed9", "a-seed10"]);
    }
}
