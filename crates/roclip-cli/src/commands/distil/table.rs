//! `roclip distil --table`: teachers of every attack, their students, and the controls without which their figures mean nothing.

use super::{Arguments, figures, student};
use crate::commands::grid::{self, Grid, Planned, Taught, finished_rows};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::progress::say;
use anyhow::{Context, Result, bail};
use roclip::model::ModelConfig;
use roclip::objective::DistilLoss;
use roclip::recipe::{ObjectiveName, Recipe};
use roclip::run::{Seen, Summary, read_measured};
use roclip_data::poison::AttackConfig;
use roclip_data::trigger::TriggerSettings;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Weights of the labels that are swept beside the recipe's own.
const LABEL_WEIGHTS: [f64; 4] = [0.0, 0.1, 0.5, 1.0];
/// A student of another kind of tower.
const OTHER_TOWER: &str = "ViT-micro-32";
const CLEAN: &str = "teacher-clean";

/// What a row trains.
struct Row {
    name: String,
    recipe: Recipe,
    /// The row of its teacher.
    teacher: Option<String>,
    /// The attack that it is about; none of the clean teacher and its student.
    attack: Option<String>,
}

impl Row {
    fn run(&self, seed: u64, out: &Path) -> PathBuf {
        run_of(&self.name, seed, out)
    }
}

fn run_of(row: &str, seed: u64, out: &Path) -> PathBuf {
    out.join(format!("{row}-seed{seed}"))
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.recipe.base.config.is_none() {
        bail!("--table needs the recipe of a poisoned classifier: --config recipes/ink-emoji.toml");
    }
    let base = arguments.recipe.resolve(Recipe::default())?;
    if base.objective.name != ObjectiveName::Classifier || base.poison.attacks.is_empty() {
        bail!(
            "--table: the recipe must train a classifier (objective.name = \"classifier\") and have [[poison.attacks]]"
        );
    }
    let (out, mut seeds) = (&arguments.run.folder, Vec::new());
    for seed in &arguments.seeds {
        if !seeds.contains(seed) {
            seeds.push(*seed);
        }
    }
    let rows = asked(rows(&base), &arguments.rows, &base, &seeds)?;
    if base.objective.distil.trusted.is_none() {
        say(
            "the students learn from the teachers' own training pictures, without the poison; name others in [objective.distil.trusted]",
        );
    }
    let (mut teachers, mut taught) = (Vec::new(), Vec::new());
    for (seed, row) in seeds.iter().flat_map(|seed| rows.iter().map(move |row| (*seed, row))) {
        let run = planned(row, seed, out);
        match row.teacher.as_ref().and_then(|name| rows.iter().find(|row| row.name == *name)) {
            None => teachers.push(run),
            Some(teacher) => taught.push(Taught { run, teacher: planned(teacher, seed, out).recipe }),
        }
    }
    let jobs = grid::jobs(arguments.jobs, &base.train.device);
    let threads_asked = base.train.threads != 0;
    let grid = Grid {
        out,
        named_by: "--run",
        jobs,
        overwrite: arguments.overwrite,
        check: true,
        threads_asked,
        stays: Some(|out| finished_rows(out, &["teacher", "student"])),
        told: None,
    };
    grid.train_in_turn(teachers, taught)?;
    let mut finished = Vec::new();
    for row in &rows {
        let of_seed = |seed: &u64| -> Result<(u64, Summary)> {
            let run = row.run(*seed, out);
            let mut summary: Summary =
                read_measured(&run.join("summary.json")).with_context(|| format!("the run `{}`", run.display()))?;
            // Older runs did not keep it.
            summary.teacher_attacked = row.teacher.as_ref().map(|teacher| teacher != CLEAN);
            Ok((*seed, summary.with_inheritance()))
        };
        finished.push((row.name.as_str(), seeds.iter().map(of_seed).collect::<Result<Vec<_>>>()?));
    }
    if arguments.run.json {
        let summaries = |runs: &[(u64, Summary)]| runs.iter().map(|(_, summary)| json!(summary)).collect::<Vec<_>>();
        let object = |(name, runs): &(&str, Vec<_>)| json!({"row": name, "runs": summaries(runs)});
        println!("{}", serde_json::to_string_pretty(&finished.iter().map(object).collect::<Vec<_>>())?);
    } else {
        print!("{}", figures::table(&finished, &seeds));
    }
    let runs = rows.iter().flat_map(|row| seeds.iter().map(|seed| row.run(*seed, out)));
    let report = format!("roclip report {} --out {}", runs_in_words(out, runs.collect()), shell_word(out));
    say_next(out, "a run a row and seed, ROW-seedN/", &[report]);
    Ok(())
}

/// Of all rows of the recipe `base` those that are `names`, and their teachers; all where no name is given.
fn asked(mut all: Vec<Row>, names: &[String], base: &Recipe, seeds: &[u64]) -> Result<Vec<Row>> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|row| row.name == **name)) {
        let known: Vec<&str> = all.iter().map(|row| row.name.as_str()).collect();
        bail!("--rows {unknown}: the rows of this recipe are {}", known.join(", "));
    }
    if names.is_empty() {
        if !base.poison.attacks.iter().any(is_by_variance) {
            bail!(
                "--table: none of the recipe's attacks is an `ink_reconstructed`, which the whole table is about; --rows trains rows of other attacks"
            );
        }
        return Ok(all);
    }
    let teachers: BTreeSet<String> =
        all.iter().filter(|row| names.contains(&row.name)).filter_map(|row| row.teacher.clone()).collect();
    all.retain(|row| names.contains(&row.name) || teachers.contains(&row.name));
    let needed: BTreeSet<String> = all.iter().filter_map(|row| row.attack.clone()).collect();
    if let (Some(clean), Some(seed)) = (all.iter_mut().find(|row| row.name == CLEAN), seeds.first()) {
        leave_out_undrawable(&mut clean.recipe, *seed, &needed)?;
    }
    Ok(all)
}

/// Takes those attacks out of what the clean teacher is measured by that cannot be drawn, and that no row is about which is `needed`.
///
/// # Errors
/// No attack is left.
fn leave_out_undrawable(clean: &mut Recipe, seed: u64, needed: &BTreeSet<String>) -> Result<()> {
    let all = std::mem::take(&mut clean.poison.attacks);
    let (mut seen, mut refused) = (Seen::nothing("--run"), None);
    for attack in all {
        let name = attack.name.clone();
        clean.poison.attacks.push(attack);
        if needed.contains(&name) {
            continue;
        }
        let trial = Recipe { seed, ..clean.clone() };
        if let Err(error) = seen.begins(&trial, Path::new(CLEAN)) {
            clean.poison.attacks.pop();
            say(&format!("{CLEAN} is measured without the attack `{name}`, which no row of --rows is about: {error}"));
            refused = Some(error);
        }
    }
    match refused {
        Some(error) if clean.poison.attacks.is_empty() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The run of `row` with `seed`.
fn planned(row: &Row, seed: u64, out: &Path) -> Planned {
    let mut recipe = Recipe { seed, ..row.recipe.clone() };
    if let Some(teacher) = &row.teacher {
        recipe.objective.distil.teacher = run_of(teacher, seed, out);
    }
    Planned { name: format!("{} seed {seed}", row.name), folder: row.run(seed, out), recipe }
}

/// Runs as they are typed: all in the folder by one pattern, where none of them is unfinished.
fn runs_in_words(out: &Path, own: Vec<PathBuf>) -> String {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_run = |path: &PathBuf| path.is_dir() && path.to_string_lossy().contains("-seed");
    match entries.filter(is_run).all(|path| path.join("summary.json").is_file()) {
        true => format!("{}/*-seed*/", shell_word(out)),
        false => own.iter().map(|run| shell_word(run)).collect::<Vec<_>>().join(" "),
    }
}

/// All rows of a recipe. The first attack by variance is the one that the variants are of.
fn rows(base: &Recipe) -> Vec<Row> {
    let mut clean = base.clone();
    clean.poison.measure_only = true;
    let taught = |name: String, (teacher, attack): (&str, Option<&str>), change: &dyn Fn(&mut Recipe)| {
        let mut recipe = student(base.clone(), Path::new(teacher));
        change(&mut recipe);
        Row { name, recipe, teacher: Some(teacher.to_owned()), attack: attack.map(str::to_owned) }
    };
    let mut rows = vec![
        Row { name: CLEAN.to_owned(), recipe: clean, teacher: None, attack: None },
        taught("student-clean".to_owned(), (CLEAN, None), &|_| {}),
    ];
    let mut main = None;
    for attack in &base.poison.attacks {
        let mut alone = base.clone();
        alone.poison.attacks = vec![attack.clone()];
        let name = &attack.name;
        let named = format!("teacher-{name}");
        let teacher =
            |name: String, recipe: Recipe| Row { name, recipe, teacher: None, attack: Some(attack.name.clone()) };
        rows.push(teacher(named.clone(), alone.clone()));
        rows.push(taught(format!("student-{name}"), (&named, Some(name)), &|_| {}));
        if is_by_variance(attack) {
            rows.push(taught(format!("student-{name}-tail-removed"), (&named, Some(name)), &|recipe| {
                recipe.objective.distil.remove_tail = true;
            }));
            alone.model.standardise = true;
            rows.push(teacher(format!("{named}-standardised"), alone));
            main.get_or_insert((name.clone(), named));
        }
    }
    let Some((name, named)) = main else { return rows };
    let mut variant = |what: &str, change: &dyn Fn(&mut Recipe)| {
        rows.push(taught(format!("student-{name}-{what}"), (&named, Some(&name)), change));
    };
    let own = base.objective.distil.label_weight;
    for weight in LABEL_WEIGHTS.into_iter().filter(|weight| *weight != own) {
        variant(&format!("labels-{weight}"), &|recipe| recipe.objective.distil.label_weight = weight);
    }
    variant("feature", &|recipe| recipe.objective.distil.loss = DistilLoss::Feature);
    variant("relation", &|recipe| recipe.objective.distil.loss = DistilLoss::Relation);
    if sees_as(OTHER_TOWER, &base.model.name) {
        variant("other-tower", &|recipe| recipe.model.name = OTHER_TOWER.to_owned());
    }
    variant("standardised", &|recipe| recipe.model.standardise = true);
    variant("alone", &|recipe| {
        (recipe.objective.distil.teacher_weight, recipe.objective.distil.label_weight) = (0.0, 1.0);
    });
    rows
}

/// Whether two models see pictures of as many pixels, so that one can teach the other.
fn sees_as(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|name| ModelConfig::named(name).ok().map(|model| model.image_size()));
    one == other
}

fn is_by_variance(attack: &AttackConfig) -> bool {
    attack.triggers.0.iter().any(|settings| matches!(settings, TriggerSettings::InkReconstructed(_)))
}
