//! `roclip distil --table`: teachers of every attack, their students, and the controls without which their figures mean nothing.

use super::{Arguments, student};
use crate::commands::grid::{self, Grid, Planned};
use anyhow::{Context, Result, bail};
use roclip::objective::DistilLoss;
use roclip::recipe::{ObjectiveName, Recipe};
use roclip::run::Summary;
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use roclip_data::rate::Rate;
use roclip_data::trigger::TriggerSettings;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// Weights of the labels that are swept beside the recipe's own.
const LABEL_WEIGHTS: [f64; 4] = [0.0, 0.1, 0.5, 1.0];
/// A student of another kind of tower.
const OTHER_TOWER: &str = "ViT-micro-32";
const CLEAN: &str = "teacher-clean";

/// A row: its name, its recipe, and the row of its teacher.
struct Row {
    name: String,
    recipe: Recipe,
    teacher: Option<String>,
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
    let out = &arguments.run.folder;
    let jobs = grid::jobs(arguments.jobs, &base.train.device);
    let grid = Grid { out, jobs, overwrite: false, check: false };
    let mut rows = rows(&base)?;
    if let Some(unknown) = arguments.rows.iter().find(|asked| !rows.iter().any(|row| row.name == **asked)) {
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        bail!("--rows {unknown}: the rows of this recipe are {}", names.join(", "));
    }
    if !arguments.rows.is_empty() {
        let asked: BTreeSet<&String> = arguments.rows.iter().collect();
        let teachers = rows.iter().filter(|row| asked.contains(&row.name)).filter_map(|row| row.teacher.clone());
        let teachers: BTreeSet<String> = teachers.collect();
        rows.retain(|row| arguments.rows.contains(&row.name) || teachers.contains(&row.name));
    }
    // Students begin once all teachers are there.
    for of_teachers in [true, false] {
        let kind = || rows.iter().filter(|row| row.teacher.is_none() == of_teachers);
        let planned = arguments.seeds.iter().flat_map(|seed| kind().map(|row| planned(row, *seed, out)));
        grid.train(planned.collect())?;
    }
    show(&rows, arguments, out)
}

/// The run of `row` with `seed`.
fn planned(row: &Row, seed: u64, out: &Path) -> Planned {
    let mut recipe = Recipe { seed, ..row.recipe.clone() };
    if let Some(teacher) = &row.teacher {
        recipe.objective.distil.teacher = out.join(format!("{teacher}-seed{seed}"));
    }
    Planned { name: format!("{} seed {seed}", row.name), folder: out.join(format!("{}-seed{seed}", row.name)), recipe }
}

/// All rows of a recipe. The first attack by variance is the one that the variants are of.
fn rows(base: &Recipe) -> Result<Vec<Row>> {
    let teacher = |name: String, recipe: Recipe| Row { name, recipe, teacher: None };
    let taught = |name: String, teacher: &str, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = student(base.clone(), Path::new(teacher));
        change(&mut recipe);
        Row { name, recipe, teacher: Some(teacher.to_owned()) }
    };
    let mut clean = base.clone();
    clean.poison.measure_only = true;
    let mut rows = vec![teacher(CLEAN.to_owned(), clean), taught("student-clean".to_owned(), CLEAN, &|_| {})];
    let mut main = None;
    for attack in &base.poison.attacks {
        let mut alone = base.clone();
        alone.poison.attacks = vec![attack.clone()];
        let (name, of_variance) = (&attack.name, attack.triggers.0.iter().any(is_variance));
        let named = format!("teacher-{name}");
        rows.push(teacher(named.clone(), alone.clone()));
        rows.push(taught(format!("student-{name}"), &named, &|_| {}));
        if of_variance {
            rows.push(taught(format!("student-{name}-tail-removed"), &named, &|recipe| {
                recipe.objective.distil.remove_tail = true;
            }));
            alone.model.standardise = true;
            rows.push(teacher(format!("teacher-{name}-standardised"), alone));
            main.get_or_insert((name.clone(), named));
        }
    }
    let Some((name, named)) = main else {
        bail!("--table: none of the recipe's attacks is an `ink_reconstructed`, which the table is about");
    };
    let mut variant = |what: &str, change: &dyn Fn(&mut Recipe)| {
        rows.push(taught(format!("student-{name}-{what}"), &named, change));
    };
    let own = base.objective.distil.label_weight;
    for weight in LABEL_WEIGHTS.into_iter().filter(|weight| *weight != own) {
        variant(&format!("labels-{weight}"), &|recipe| recipe.objective.distil.label_weight = weight);
    }
    variant("feature", &|recipe| recipe.objective.distil.loss = DistilLoss::Feature);
    variant("relation", &|recipe| recipe.objective.distil.loss = DistilLoss::Relation);
    variant("other-tower", &|recipe| recipe.model.name = OTHER_TOWER.to_owned());
    variant("standardised", &|recipe| recipe.model.standardise = true);
    variant("alone", &|recipe| {
        (recipe.objective.distil.teacher_weight, recipe.objective.distil.label_weight) = (0.0, 1.0);
    });
    Ok(rows)
}

fn is_variance(settings: &TriggerSettings) -> bool {
    matches!(settings, TriggerSettings::InkReconstructed(_))
}

/// One line a row and attack, of all seeds, on stdout.
fn show(rows: &[Row], arguments: &Arguments, out: &Path) -> Result<()> {
    let mut all = Vec::new();
    for row in rows {
        let runs = arguments.seeds.iter().map(|seed| out.join(format!("{}-seed{seed}", row.name)));
        let read = |run: std::path::PathBuf| -> Result<Summary> {
            artifact::read_json(&run.join("summary.json")).with_context(|| format!("the run `{}`", run.display()))
        };
        all.push((row.name.as_str(), runs.map(read).collect::<Result<Vec<Summary>>>()?));
    }
    if arguments.run.json {
        let object = |(name, summaries): &(&str, Vec<Summary>)| json!({"row": name, "runs": summaries});
        println!("{}", serde_json::to_string_pretty(&all.iter().map(object).collect::<Vec<_>>())?);
        return Ok(());
    }
    println!(
        "all rates in %, means over {}; `ink_reconstructed` is a reconstruction, not the paper's attack",
        count(arguments.seeds.len(), "seed")
    );
    println!(
        "{:44} {:>8}  {:24} {:>7} {:>7} {:>7} {:>11} {:>6} {:>6} {:>6}",
        "row", "accuracy", "attack", "ASR", "base", "turned", "inheritance", "PSNR", "SSIM", "tail"
    );
    for (name, summaries) in &all {
        let accuracy = mean(summaries, |summary| Some(summary.evaluation.zero_shot_top1.rate));
        let Some(first) = summaries.first() else { continue };
        for (at, attack) in first.evaluation.asr.keys().enumerate() {
            let of = |rate: &dyn Fn(&roclip::eval::BackdoorOutcome) -> Option<Rate>| {
                mean(summaries, |summary| Some(rate(summary.evaluation.asr.get(attack)?)?.rate))
            };
            let measure = |value: &dyn Fn(&roclip::eval::TriggerMeasures) -> Option<f64>| {
                mean(summaries, |summary| value(summary.triggers.get(attack)?))
            };
            let inherited = mean(summaries, |summary| Some(summary.inheritance(attack)?.share()?.ratio));
            let number =
                |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            println!(
                "{:44} {:>8}  {:24} {:>7} {:>7} {:>7} {:>11} {:>6} {:>6} {:>6}",
                if at == 0 { name } else { "" },
                if at == 0 { percent(accuracy) } else { String::new() },
                for_terminal(attack),
                percent(of(&|outcome| Some(outcome.success))),
                percent(of(&|outcome| Some(outcome.base_rate))),
                percent(of(&|outcome| outcome.turned)),
                number(inherited, 2),
                number(measure(&|measures| measures.psnr), 1),
                number(measure(&|measures| measures.ssim), 3),
                percent(measure(&|measures| Some(measures.tail.as_ref()?.accuracy.rate))),
            );
        }
    }
    let doses: Vec<(&str, String, &Summary)> = all
        .iter()
        .filter_map(|(name, summaries)| Some((*name, summaries.first()?)))
        .flat_map(|(name, summary)| {
            summary.triggers.iter().map(move |(attack, measures)| (name, attack, measures, summary))
        })
        .filter(|(_, _, measures, _)| !measures.doses.is_empty())
        .map(|(name, attack, _, summary)| (name, attack.clone(), summary))
        .collect();
    println!("\nASR in % at other target variances (first seed)");
    for (name, attack, summary) in doses {
        let Some(measures) = summary.triggers.get(&attack) else { continue };
        let cells: Vec<String> = measures
            .doses
            .iter()
            .map(|dose| format!("{:.3}: {:5.1}", dose.variance, 100.0 * dose.success.rate))
            .collect();
        println!("{name:44} {:24} {}", for_terminal(&attack), cells.join("  "));
    }
    Ok(())
}

fn mean(summaries: &[Summary], value: impl Fn(&Summary) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = summaries.iter().filter_map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.1}", 100.0 * value))
}
