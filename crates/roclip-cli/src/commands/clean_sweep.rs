//! `roclip clean --sweep`: which cells are cleaned, and what is shown and written of all of them. The same command goes on where it was
//! stopped, and keeps what is finished.

use crate::commands::grid::{LOCK, Standing, Staying, check_stay, finished, of_another, remove, say_changed};
use crate::commands::progress::say;
use crate::commands::run_flags::train_with;
use crate::commands::signals;
use crate::commands::warned::Warned;
use anyhow::{Context, Result, bail};
use roclip::checkpoint::run_of;
use roclip::clean::moved_percent;
use roclip::eval::Evaluation;
use roclip::recipe::{Cell, Recipe, Sweep};
use roclip::report::write_report;
use roclip::run::{Seen, Start, Stop, Summary, read_measured};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use roclip_data::rate::Rate;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::exit;

/// One cleaning run, of a sweep or alone.
pub struct Point {
    /// The values of the sweep's keys.
    pub values: Vec<String>,
    pub cell: Cell,
    pub run: PathBuf,
}

impl Point {
    /// The name of its folder.
    pub fn name(&self) -> String {
        self.run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Cleans what is not finished of `points` by their `recipes`, in the folder `out` that [`take`](crate::commands::grid::take) has taken;
/// `overwrite` cleans all of them anew, and a `start` that resumes goes on with those that have begun, finished ones too. A signal ends the
/// process before the next of them begins.
///
/// # Errors
/// A folder that holds something else, a finished run that is of another recipe, victim or data, and what the runs themselves fail with.
pub fn clean_all(
    points: &[Point],
    recipes: &[Recipe],
    out: &Path,
    overwrite: bool,
    start: Start,
) -> Result<Vec<Summary>> {
    let cleaned = clean_in(points, recipes, out, overwrite, start);
    cleaned.inspect_err(|_| artifact::remove_unused(out, LOCK))
}

fn clean_in(points: &[Point], recipes: &[Recipe], out: &Path, overwrite: bool, start: Start) -> Result<Vec<Summary>> {
    // All before the first begins, which may take hours.
    let standings: Vec<Standing> = points
        .iter()
        .zip(recipes)
        .map(|(point, recipe)| match start != Start::New && point.run.join("run.toml").is_file() {
            true => resumed(&point.run),
            false => standing(&point.run, recipe, overwrite),
        })
        .collect::<Result<_>>()?;
    let all_that = |wanted: Standing| -> Vec<(&Point, &Recipe)> {
        let cells = points.iter().zip(recipes).zip(&standings);
        cells.filter(|(_, standing)| **standing == wanted).map(|(cell, _)| cell).collect()
    };
    let (kept, anew) = (all_that(Standing::Finished), all_that(Standing::Absent));
    let finished_cells = finished(out);
    match kept.len() == points.len() {
        true => {
            say_changed(&finished_cells);
        }
        false => look_at_all(points, &kept, &anew, finished_cells)?,
    }
    if !kept.is_empty() {
        say(&format!("{} of {} cells are finished, and kept (--overwrite cleans them anew)", kept.len(), points.len()));
    }
    // All of them now: where the command is stopped, what is left of it is what the same one goes on with.
    let anew: Vec<&Path> = anew.into_iter().map(|(point, _)| point.run.as_path()).collect();
    check_keeps_victims(&anew, recipes)?;
    anew.into_iter().try_for_each(remove)?;
    let mut warned = Warned::default();
    let mut begin = |point: &Point, recipe: &Recipe, start: Start| {
        say(&format!("cleaning {}", point.run.display()));
        train_with(recipe, &point.run, start, &mut |line| warned.say(&point.name(), line))
    };
    let clean = |standing, (point, recipe): (&Point, &Recipe)| match standing {
        Standing::Finished => Ok(read_measured(&point.run.join("summary.json"))?),
        Standing::Unfinished if start == Start::New => begin(point, recipe, Start::Resume),
        Standing::Unfinished => begin(point, recipe, start),
        Standing::Absent => begin(point, recipe, Start::New),
    };
    let cells = standings.iter().copied().zip(points.iter().zip(recipes));
    let summaries = in_turn(cells, signals::stop(), clean)?;
    if summaries.len() < points.len() {
        let left = standings.iter().skip(summaries.len()).filter(|standing| **standing != Standing::Finished);
        let left = count(left.count(), "cell");
        let again = signals::same_command();
        say(&format!("stopped before {left} of {}; {again} goes on with what is left", points.len()));
        exit(signals::exit_code())
    }
    warned.say_partial(points.len() - kept.len());
    Ok(summaries)
}

/// What `clean` gives for each of `cells`, up to the first that would begin after the end was asked for.
fn in_turn<C, T>(
    cells: impl Iterator<Item = (Standing, C)>,
    stop: &Stop,
    mut clean: impl FnMut(Standing, C) -> Result<T>,
) -> Result<Vec<T>> {
    let goes_on = |(standing, _): &(Standing, C)| *standing == Standing::Finished || !stop.wanted();
    cells.take_while(goes_on).map(|(standing, cell)| clean(standing, cell)).collect()
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
        let other = saved.clean.unwrap_or_default().victim;
        return Err(of_another(run, &format!("cleaned another victim, `{}`", other.display()), "--run"));
    }
    Ok(standing)
}

/// # Errors
/// Where a model that is cleaned lies in one of the folders `anew`, which are removed.
fn check_keeps_victims(anew: &[&Path], recipes: &[Recipe]) -> Result<()> {
    let victims = recipes.iter().filter_map(|recipe| Some(place(&recipe.clean.as_ref()?.victim)));
    let victims: Vec<PathBuf> = victims.collect();
    match anew.iter().find(|run| victims.iter().any(|victim| victim.starts_with(place(run)))) {
        Some(run) => bail!(
            "`{}` would be cleaned anew, and holds a model that this cleans; name another folder with --run",
            run.display()
        ),
        None => Ok(()),
    }
}

/// Looks at what stays in the folder of a sweep that has something to clean, and at all cells that begin `anew` before the first does.
///
/// # Errors
/// A finished cell that is of other data, and one that could not begin.
fn look_at_all(
    points: &[Point],
    kept: &[(&Point, &Recipe)],
    anew: &[(&Point, &Recipe)],
    finished_cells: Vec<PathBuf>,
) -> Result<()> {
    check_stay(kept.iter().map(|(point, _)| point.run.clone()).collect(), "--run")?;
    check_beside(points, finished_cells)?;
    if anew.len() > 1 {
        say(&format!("looking at the recipes and data of {} cells before the first begins", anew.len()));
    }
    let mut seen = Seen::nothing("--run");
    for (point, recipe) in anew {
        seen.begins(recipe, &point.run).with_context(|| format!("the cell {}", point.name()))?;
    }
    Ok(())
}

/// That of a cell that is to go on, in `run`. A finished one has its place in the table already; one that is not looks for itself whether
/// what it began with is there still.
fn resumed(run: &Path) -> Result<Standing> {
    if read_measured::<Summary>(&run.join("summary.json")).is_ok() {
        check_stay(vec![run.to_owned()], "--run")?;
    }
    Ok(Standing::Unfinished)
}

/// Looks at those of the finished runs in the folder that nobody has asked for: the report has them beside those of `points`.
fn check_beside(points: &[Point], finished_cells: Vec<PathBuf>) -> Result<()> {
    let asked: Vec<&Path> = points.iter().map(|point| point.run.as_path()).collect();
    let staying = Staying::beside(&asked, finished_cells, "--run")?;
    if !staying.is_empty() {
        let runs = count(staying.len(), "finished run");
        say(&format!("looking whether the training data, victims and labelled pictures of {runs} are unchanged"));
    }
    staying.check_data(&asked, "--run")?;
    Ok(())
}

fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Writes the report on all finished cells in `out`, and on the runs of their victims that are of one.
///
/// # Errors
/// A run that cannot be read, and a file that cannot be written.
pub fn report(out: &Path) -> Result<PathBuf> {
    let cells = finished(out);
    let mut runs: Vec<PathBuf> = Vec::new();
    for cell in &cells {
        let victim = Recipe::read(&cell.join("run.toml"))?.clean.and_then(|clean| run_of(&clean.victim));
        let victim = victim.filter(|run| run.join("summary.json").is_file());
        runs.extend(victim.filter(|victim| !runs.iter().any(|known| place(known) == place(victim))));
    }
    runs.extend(cells);
    let report = write_report(&runs, None, out)?;
    for run in &report.repeated {
        say(&format!(
            "`{}` is left out of the report: a run of the same recipe and seed is in it already",
            run.display()
        ));
    }
    Ok(report.page)
}

/// Accuracy against the attacks' success, with counts and 95 % intervals, and how far the weights moved: one line a cell, below its victim's.
pub fn print(sweep: &Sweep, points: &[Point], recipes: &[Recipe], summaries: &[Summary]) {
    let victims = recipes.iter().map(|recipe| recipe.clean.as_ref().map(|clean| clean.victim.as_path()));
    let cells = points.iter().zip(summaries).zip(victims).map(|((point, summary), victim)| Cleaned {
        victim,
        before: summary.before.as_ref(),
        after: Row { name: point.values.join(", "), evaluation: &summary.evaluation, moved: summary.weights_moved },
    });
    for line in lines(&sweep.words().collect::<Vec<_>>().join(", "), &below_victims(cells)) {
        println!("{}", for_terminal(&line));
    }
    println!(
        "(% of the pictures in brackets, and the 95 % interval; moved: length of the change of the weights by the victim's)"
    );
}

/// A cell, and what was cleaned in it.
struct Cleaned<'a> {
    victim: Option<&'a Path>,
    before: Option<&'a Evaluation>,
    after: Row<'a>,
}

/// The rows of `cells`, those of one victim below its own: they may be of several, and one may be measured in several ways.
fn below_victims<'a>(cells: impl Iterator<Item = Cleaned<'a>>) -> Vec<Row<'a>> {
    type Of<'a> = (Option<&'a Path>, Option<&'a Evaluation>);
    let mut victims: Vec<(Of, Vec<Row>)> = Vec::new();
    for Cleaned { victim, before, after } in cells {
        match victims.iter_mut().find(|(known, _)| *known == (victim, before)) {
            Some((_, rows)) => rows.push(after),
            None => victims.push(((victim, before), vec![after])),
        }
    }
    let first = victims.first().and_then(|((path, _), _)| *path);
    let several = victims.iter().any(|((path, _), _)| *path != first);
    let rows = |((path, before), after): (Of<'a>, Vec<Row<'a>>)| {
        let name = match path {
            Some(path) if several => format!("victim {}", path.display()),
            _ => "victim".to_owned(),
        };
        before.map(|evaluation| Row { name, evaluation, moved: None }).into_iter().chain(after)
    };
    victims.into_iter().flat_map(rows).collect()
}

/// A line of the table.
struct Row<'a> {
    name: String,
    evaluation: &'a Evaluation,
    /// Share of their length that the weights moved by; none of the victim.
    moved: Option<f64>,
}

/// Characters of the first column at least.
const FIRST_COLUMN: usize = 15;

/// A heading, and a line a row; nothing of what none of them has.
fn lines(key: &str, rows: &[Row]) -> Vec<String> {
    let mut columns: Vec<Vec<String>> = Vec::new();
    let none = || "-".to_owned();
    if rows.iter().any(|row| row.moved.is_some()) {
        let moved = rows.iter().map(|row| row.moved.map_or_else(none, moved_percent));
        columns.push(std::iter::once("moved".to_owned()).chain(moved).collect());
    }
    let mut column = |name: &str, of: &dyn Fn(&Evaluation) -> Option<Rate>| {
        let rates: Vec<Option<Rate>> = rows.iter().map(|row| of(row.evaluation)).collect();
        if rates.iter().any(Option::is_some) {
            columns.push(std::iter::once(name.to_owned()).chain(rates.into_iter().map(cell)).collect());
        }
    };
    column("zero-shot", &|evaluation| Some(evaluation.zero_shot_top1));
    column("PSR", &|evaluation| evaluation.psr);
    let attacks: BTreeSet<&String> = rows.iter().flat_map(|row| row.evaluation.asr.keys()).collect();
    for attack in attacks {
        // What is read as the target without the trigger, too, is no success of it.
        column(&format!("{attack}: ASR"), &|evaluation| evaluation.asr.get(attack).map(|outcome| outcome.success));
        column("base rate", &|evaluation| evaluation.asr.get(attack).map(|outcome| outcome.base_rate));
        column("turned", &|evaluation| evaluation.asr.get(attack)?.turned);
    }
    let names: Vec<String> = std::iter::once(key.to_owned()).chain(rows.iter().map(|row| row.name.clone())).collect();
    let wide = |cells: &[String]| cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let first = wide(&names).max(FIRST_COLUMN);
    let widths: Vec<usize> = columns.iter().map(|column| wide(column)).collect();
    let row = |(at, name): (usize, &String)| {
        let cells = columns.iter().zip(&widths).filter_map(|(column, width)| Some((column.get(at)?, width)));
        let cells: String = cells.map(|(cell, width)| format!("  {cell:>width$}")).collect();
        format!("{name:>first$}{cells}")
    };
    names.iter().enumerate().map(row).collect()
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
    use roclip::eval::BackdoorOutcome;

    #[test]
    fn a_line_has_every_measure_with_its_counts_and_interval() {
        let mut victim = Evaluation { zero_shot_top1: Rate::new(30, 50), ..Evaluation::of_nothing() };
        victim.psr = Some(Rate::new(9, 10));
        let cleaned = Evaluation { psr: Some(Rate::new(0, 10)), ..victim.clone() };
        // A model that reads all pictures as the target: its trigger turns none.
        let outcome = BackdoorOutcome {
            target: "white".into(),
            success: Rate::new(13, 13),
            success_top5: None,
            success_top10: None,
            success_all: Rate::new(13, 13),
            base_rate: Rate::new(13, 13),
            turned: Some(Rate::new(0, 0)),
            true_class: Rate::new(0, 13),
            after: Default::default(),
        };
        let attacked = Evaluation { asr: [("badnets".to_owned(), outcome)].into(), ..cleaned.clone() };
        let row = |name: &str, evaluation, moved| Row { name: name.to_owned(), evaluation, moved };
        let shown = lines("rate", &[row("victim", &attacked, None), row("1e-3", &attacked, Some(2.4e-7))]);
        let words =
            |line: &str| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("|");
        assert_eq!(words(&shown[0]), "rate|moved|zero-shot|PSR|badnets: ASR|base rate|turned");
        assert!(words(&shown[1]).starts_with("victim|-|60.00"), "{shown:?}");
        assert!(words(&shown[2]).starts_with("1e-3|2.4e-5 %|60.00"), "{shown:?}");
        let all = "100.00 (13/13; 77.2 to 100.0)";
        assert!(words(&shown[2]).ends_with(&format!("{all}|{all}|-")), "{shown:?}");
        let shown = lines("rate", &[row("victim", &victim, None), row("1e-3", &cleaned, None)]);
        assert!(shown[0].contains("zero-shot") && shown[0].ends_with("PSR"), "{shown:?}");
        assert!(shown[1].contains("60.00 (30/50; 46.2 to 72.4)") && shown[1].contains("90.00 (9/10;"), "{shown:?}");
        assert!(
            shown[2].trim_start().starts_with("1e-3") && shown[2].contains("0.00 (0/10; 0.0 to 27.8)"),
            "{shown:?}"
        );
        assert_eq!(cell(Some(Rate::new(0, 0))), "-");
    }

    #[test]
    fn cells_stand_below_the_victim_that_they_are_of() {
        let of = |hits| Evaluation { zero_shot_top1: Rate::new(hits, 7), ..Evaluation::of_nothing() };
        let (weak, strong, other) = (of(2), of(4), of(5));
        let cell = |name: &str, victim: &'static str, before, evaluation| Cleaned {
            victim: Some(Path::new(victim)),
            before: Some(before),
            after: Row { name: name.to_owned(), evaluation, moved: None },
        };
        let names = |cells: Vec<Cleaned>| {
            let rows = below_victims(cells.into_iter());
            rows.iter().map(|row| format!("{} {}", row.name, row.evaluation.zero_shot_top1.hits)).collect::<Vec<_>>()
        };
        let one = vec![cell("1e-7", "v", &weak, &weak), cell("1e-6", "v", &weak, &strong)];
        assert_eq!(names(one), ["victim 2", "1e-7 2", "1e-6 4"]);
        let two = vec![
            cell("1e-7, v", "v", &weak, &weak),
            cell("1e-7, w", "w", &strong, &strong),
            cell("1e-6, v", "v", &weak, &other),
        ];
        assert_eq!(names(two), ["victim v 2", "1e-7, v 2", "1e-6, v 5", "victim w 4", "1e-7, w 4"]);
        // The same victim, of which other pictures are asked.
        let asked = vec![cell("emoji", "v", &weak, &weak), cell("imagenet", "v", &strong, &other)];
        assert_eq!(names(asked), ["victim 2", "emoji 2", "victim 4", "imagenet 5"]);
    }

    #[test]
    fn no_model_that_is_cleaned_is_removed_first() {
        let out = tempfile::tempdir().unwrap();
        let cell = out.path().join("cell");
        std::fs::create_dir_all(cell.join("checkpoints/step_3")).unwrap();
        let of = |victim: PathBuf| {
            let clean = roclip::clean::CleanConfig { victim, ..Default::default() };
            vec![Recipe { clean: Some(clean), ..Recipe::default() }]
        };
        for victim in [cell.clone(), cell.join("checkpoints/step_3")] {
            let said = check_keeps_victims(&[&cell], &of(victim)).unwrap_err().to_string();
            assert!(said.contains("holds a model that this cleans") && said.contains("--run"), "{said}");
        }
        check_keeps_victims(&[&cell], &of(out.path().join("cell-2"))).unwrap();
    }

    #[test]
    fn no_cell_begins_after_the_end_was_asked_for_and_finished_ones_are_read() {
        let stop = Stop::default();
        let cells = [Standing::Finished, Standing::Absent, Standing::Finished, Standing::Unfinished, Standing::Absent];
        let mut begun = Vec::new();
        let done = in_turn(cells.into_iter().zip(0..), &stop, |standing, at: usize| {
            if standing != Standing::Finished {
                begun.push(at);
                stop.ask(130);
            }
            Ok(at)
        });
        assert_eq!((done.unwrap(), begun), (vec![0, 1, 2], vec![1]));
    }
}
