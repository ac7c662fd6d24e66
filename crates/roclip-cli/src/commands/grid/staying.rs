//! Finished runs that stay in the folder of a demo, a sweep or a table, beside what is trained now: one table holds both.

use crate::commands::grid::Planned;
use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use roclip::error::Error;
use roclip::recipe::Recipe;
use roclip::report::{Experiment, read_run};
use roclip::run::{changes, check_unchanged};
use roclip_data::error::Error as DataError;
use roclip_data::plural::count;
use std::path::{Path, PathBuf};

/// A finished run that nobody trains anew.
struct Stay {
    run: PathBuf,
    recipe: Recipe,
}

/// The finished runs of a folder that are not among those to be trained.
pub struct Staying(Vec<Stay>);

impl Staying {
    /// Of `finished` runs, of which those in the folders `to_train` may be some.
    ///
    /// # Errors
    /// A run that could be no row of a table, which would be found only when all others are trained.
    pub fn beside(to_train: &[&Path], mut finished: Vec<PathBuf>, named_by: &str) -> Result<Staying> {
        finished.retain(|run| !to_train.contains(&run.as_path()));
        let stay = |run: PathBuf| -> Result<Stay> {
            let read = || -> roclip::error::Result<Recipe> {
                read_run(&run)?;
                Recipe::read(&run.join("run.toml"))
            };
            let recipe = read().with_context(|| {
                format!(
                    "`{}` would stand in one table with what is trained now, and cannot; move it away, or name another folder with {named_by}",
                    run.display()
                )
            })?;
            Ok(Stay { run, recipe })
        };
        finished.into_iter().map(stay).collect::<Result<Vec<_>>>().map(Staying)
    }

    /// Whether `to_train` are, but for their seeds, what the rows of their names are that stay.
    ///
    /// # Errors
    /// Names the first key that differs.
    pub fn check_recipes(&self, to_train: &[&Planned], named_by: &str) -> Result<()> {
        for planned in to_train {
            let Some((row, _)) = seeded(&planned.folder) else { continue };
            for stay in self.0.iter().filter(|stay| seeded(&stay.run).is_some_and(|(other, _)| other == row)) {
                // Each seed has a teacher of its own, which may be still to train; it is a row that is compared by itself.
                let mut ours = Recipe { seed: stay.recipe.seed, ..planned.recipe.clone() };
                ours.objective.distil.teacher.clone_from(&stay.recipe.objective.distil.teacher);
                if Experiment::of(&stay.recipe)?.digest() == Experiment::of(&ours)?.digest() {
                    continue;
                }
                let differences = stay.recipe.differences(&ours)?;
                let key = differences.first().map_or("a setting", |difference| difference.key.as_str());
                bail!(
                    "`{}` was trained with another {key} than the run {} would be, and seeds of one row are compared as one experiment; \
                     leave out what sets it, or name another folder with {named_by}",
                    stay.run.display(),
                    planned.name
                );
            }
        }
        Ok(())
    }

    /// Whether those that stay were trained on what there is today. Those that learned from one in the folders `to_train`, a teacher that is
    /// trained anew, are left for [`Staying::check_data`] of what is given back.
    ///
    /// # Errors
    /// Names the run, and what has changed since.
    pub fn check_data(self, to_train: &[&Path], named_by: &str) -> Result<Staying> {
        let learned =
            |stay: &Stay| stay.recipe.distillation().is_some_and(|distil| to_train.contains(&distil.teacher.as_path()));
        let (later, now): (Vec<Stay>, Vec<Stay>) = self.0.into_iter().partition(learned);
        check_stay(now.into_iter().map(|stay| stay.run).collect(), named_by)?;
        Ok(Staying(later))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether what the finished `runs` learned from, and were measured on, is what there is today, so that they may stand beside new ones. One
/// without checkpoints whose summary does not say it is taken with a warning.
///
/// # Errors
/// Names the first run of which something has changed since, and what.
pub fn check_stay(runs: Vec<PathBuf>, named_by: &str) -> Result<()> {
    for (run, found) in runs.iter().zip(check_unchanged(&runs)) {
        let known = found.with_context(|| {
            format!(
                "the run `{}` is finished and would stand in one table with what is trained now; bring back what it was trained or measured \
                 on, let --overwrite train it anew in a command that asks for it, move it away, or name another folder with {named_by}",
                run.display()
            )
        })?;
        if !known {
            say(&format!(
                "warning: `{}` has no checkpoints, so that nobody can say whether all that it learned from is as it was; it is kept",
                run.display()
            ));
        }
    }
    Ok(())
}

/// Says of `finished` runs, of which nothing is trained and whose table is shown again, what they learned from or were measured on that has
/// changed since. Gives back whether nothing of any has, for certain.
pub fn say_changed(finished: &[PathBuf]) -> bool {
    // What can be no row is refused where the table is made.
    let rows: Vec<PathBuf> = finished.iter().filter(|run| read_run(run).is_ok()).cloned().collect();
    if rows.is_empty() {
        return finished.is_empty();
    }
    let runs = count(rows.len(), "finished run");
    say(&format!("looking whether what {runs} learned from and were measured on is unchanged"));
    let mut changed: Vec<(String, Vec<String>)> = Vec::new();
    let found = changes(&rows);
    let unchanged = rows.len() == finished.len() && found.iter().all(|found| matches!(found, Ok(true)));
    for (run, found) in rows.iter().zip(found) {
        let Err(error) = found else { continue };
        let (what, name) = (what_changed(&error, run), format!("`{}`", run.display()));
        match changed.iter_mut().find(|(known, _)| *known == what) {
            Some((_, runs)) => runs.push(name),
            None => changed.push((what, vec![name])),
        }
    }
    for (what, runs) in changed {
        say(&format!(
            "warning: what {} learned from or was measured on has changed since ({what}): the table has the figures of then; --overwrite trains \
             anew what the command asks for",
            runs.join(", ")
        ));
    }
    unchanged
}

/// What is wrong, without what a run that goes on would do about it.
fn what_changed(error: &Error, run: &Path) -> String {
    match error {
        Error::Data(DataError::File { path, what, .. }) if path.starts_with(run) => what.clone(),
        Error::Data(DataError::File { path, what, .. }) => format!("`{}`: {what}", path.display()),
        Error::Data(DataError::Setting { what, .. }) => what.clone(),
        other => other.to_string(),
    }
}

/// `ROW-seedN` apart.
fn seeded(run: &Path) -> Option<(&str, u64)> {
    let (row, seed) = run.file_name()?.to_str()?.rsplit_once("-seed")?;
    Some((row, seed.parse().ok()?))
}
