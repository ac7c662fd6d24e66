//! `roclip clean --sweep`: which cells are cleaned, and what is shown and written of all of them. The same command goes on where it was
//! stopped, and keeps what is finished.

use crate::commands::grid::{Standing, check_stays, remove};
use crate::commands::progress::say;
use crate::commands::run_flags::train;
use crate::commands::train::finished;
use anyhow::{Result, bail};
use roclip::checkpoint::run_of;
use roclip::eval::Evaluation;
use roclip::recipe::{Cell, Recipe, Sweep};
use roclip::report::write_report;
use roclip::run::{Start, Summary};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::rate::Rate;
use std::path::{Path, PathBuf};

/// One cleaning run, of a sweep or alone.
pub struct Point {
    /// The values of the sweep's keys.
    pub values: Vec<String>,
    pub cell: Cell,
    pub run: PathBuf,
}

/// Cleans what is not finished of `points` by their `recipes`; `overwrite` cleans all of them anew.
///
/// # Errors
/// A folder that holds something else, a finished cell that is of another recipe, victim or data, and what the runs themselves fail with.
pub fn clean_all(points: &[Point], recipes: &[Recipe], out: &Path, overwrite: bool) -> Result<Vec<Summary>> {
    if out.join("run.toml").is_file() {
        bail!("`{}` is a run itself; name another folder for several with --run", out.display());
    }
    // All before the first begins, which may take hours.
    let standings: Vec<Standing> = points
        .iter()
        .zip(recipes)
        .map(|(point, recipe)| standing(&point.run, recipe, overwrite))
        .collect::<Result<_>>()?;
    let kept = standings.iter().filter(|standing| **standing == Standing::Finished).count();
    if kept > 0 {
        say(&format!("{kept} of {} cells are finished, and kept (--overwrite cleans them anew)", points.len()));
    }
    let cell = |((point, recipe), standing): ((&Point, &Recipe), &Standing)| match standing {
        Standing::Finished => Ok(artifact::read_json(&point.run.join("summary.json"))?),
        Standing::Unfinished => train(recipe, &point.run, Start::Resume),
        Standing::Absent => {
            remove(&point.run)?;
            train(recipe, &point.run, Start::New)
        }
    };
    points.iter().zip(recipes).zip(&standings).map(cell).collect()
}

/// What an earlier command left of a cell.
fn standing(run: &Path, recipe: &Recipe, overwrite: bool) -> Result<Standing> {
    let standing = Standing::of(run, recipe, overwrite, "--run")?;
    if standing == Standing::Absent {
        return Ok(standing);
    }
    // Victims of two seeds are one experiment, and two victims.
    let victim = |recipe: &Recipe| recipe.clean.as_ref().map(|clean| place(&clean.victim));
    let saved = Recipe::read(&run.join("run.toml"))?;
    if victim(&saved) != victim(recipe) {
        bail!(
            "`{}` cleaned another victim, `{}`; --overwrite removes it, or name another folder with --run",
            run.display(),
            saved.clean.unwrap_or_default().victim.display()
        );
    }
    if standing == Standing::Finished {
        check_stays(run, "--run")?;
    }
    Ok(standing)
}

fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Writes the report on all finished cells in `out` and on the victim's run, where it is of one.
///
/// # Errors
/// A run that cannot be read, and a file that cannot be written.
pub fn report(victim: &Path, out: &Path) -> Result<PathBuf> {
    let victim = run_of(victim).filter(|run| run.join("summary.json").is_file());
    let runs: Vec<PathBuf> = victim.into_iter().chain(finished(out)).collect();
    Ok(write_report(&runs, None, out)?.page)
}

/// Accuracy against the attacks' success, with counts and 95 % intervals: one line a cell, and the victim first.
pub fn print(sweep: &Sweep, points: &[Point], summaries: &[Summary]) {
    let Some(first) = summaries.first() else { return };
    let rows = first.before.iter().map(|before| ("victim".to_owned(), before));
    let cells = points.iter().zip(summaries).map(|(point, summary)| (point.values.join(", "), &summary.evaluation));
    for line in lines(&sweep.words().collect::<Vec<_>>().join(", "), &rows.chain(cells).collect::<Vec<_>>()) {
        println!("{}", for_terminal(&line));
    }
    println!("(% of the pictures in brackets, and the 95 % interval)");
}

/// A heading, and a line an evaluation; nothing of what none of them has.
fn lines(key: &str, rows: &[(String, &Evaluation)]) -> Vec<String> {
    let mut columns: Vec<Vec<String>> = Vec::new();
    let mut column = |name: &str, of: &dyn Fn(&Evaluation) -> Option<Rate>| {
        let rates: Vec<Option<Rate>> = rows.iter().map(|(_, evaluation)| of(evaluation)).collect();
        if rates.iter().any(Option::is_some) {
            columns.push(std::iter::once(name.to_owned()).chain(rates.into_iter().map(cell)).collect());
        }
    };
    column("zero-shot", &|evaluation| Some(evaluation.zero_shot_top1));
    column("PSR", &|evaluation| evaluation.psr);
    let attacks = rows.first().map(|(_, evaluation)| evaluation.asr.keys().cloned().collect::<Vec<_>>());
    for attack in attacks.unwrap_or_default() {
        column(&format!("{attack}: ASR"), &|evaluation| evaluation.asr.get(&attack).map(|outcome| outcome.success));
    }
    let names = std::iter::once(key).chain(rows.iter().map(|(name, _)| name.as_str()));
    let wide = |cells: &[String]| cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = columns.iter().map(|column| wide(column)).collect();
    let row = |(at, name): (usize, &str)| {
        let cells = columns.iter().zip(&widths).filter_map(|(column, width)| Some((column.get(at)?, width)));
        let cells: String = cells.map(|(cell, width)| format!("  {cell:>width$}")).collect();
        format!("{name:>15}{cells}")
    };
    names.enumerate().map(row).collect()
}

/// `58.20 (291/500; 53.8 to 62.5)`.
fn cell(rate: Option<Rate>) -> String {
    let Some(rate) = rate.and_then(Rate::measured) else { return "-".to_owned() };
    let Rate { hits, n, low, high, .. } = rate;
    format!("{} ({hits}/{n}; {:.1} to {:.1})", rate.percent(2), 100.0 * low, 100.0 * high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_measure_with_its_counts_and_interval() {
        let mut victim = Evaluation { zero_shot_top1: Rate::new(30, 50), ..Evaluation::of_nothing() };
        victim.psr = Some(Rate::new(9, 10));
        let cleaned = Evaluation { psr: Some(Rate::new(0, 10)), ..victim.clone() };
        let shown = lines("rate", &[("victim".into(), &victim), ("1e-3".into(), &cleaned)]);
        assert!(shown[0].contains("zero-shot") && shown[0].ends_with("PSR"), "{shown:?}");
        assert!(shown[1].contains("60.00 (30/50; 46.2 to 72.4)") && shown[1].contains("90.00 (9/10;"), "{shown:?}");
        assert!(
            shown[2].trim_start().starts_with("1e-3") && shown[2].contains("0.00 (0/10; 0.0 to 27.8)"),
            "{shown:?}"
        );
        assert_eq!(cell(Some(Rate::new(0, 0))), "-");
    }
}
