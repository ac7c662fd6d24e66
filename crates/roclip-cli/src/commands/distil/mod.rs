//! `roclip distil`: a student from a teacher, or the whole table with its controls.

mod figures;
mod outcome;
mod table;

use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::{of_key, up_to};
use crate::commands::overrides::CleaningFlags;
use crate::commands::progress::say;
use crate::commands::run_flags::{HOLDS, RunFlags, not_this_kind, train_together};
use anyhow::{Result, bail};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use roclip::checkpoint::{self, run_of};
use roclip::objective::{DistilConfig, DistilLoss};
use roclip::recipe::{ObjectiveName, Recipe, flag_help};
use roclip_data::poison::PoisonConfig;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// The teacher: a run of a classifier (`roclip train --objective classifier`) or one of its checkpoints; a resumed run knows it. The
    /// student learns from the teacher's own training pictures, without its poison, where --train-data names no others
    #[arg(required_unless_present_any = ["resume", "resume_from", "table"])]
    teacher: Option<PathBuf>,
    #[command(flatten)]
    recipe: CleaningFlags,
    #[command(flatten)]
    distillation: DistillationFlags,
    /// Train the teachers of every attack of the recipe of --config, clean ones and their students with all controls, each in a folder of its own
    /// in --run, and print the table; the same command goes on where it was stopped
    #[arg(long, conflicts_with_all = ["teacher", "resume", "resume_from", "seed"])]
    table: bool,
    /// With --table: seeds, each a whole set of runs
    #[arg(long, value_delimiter = ',', default_value = "0", requires = "table", value_parser = of_key::<u64>("seed"))]
    seeds: Vec<u64>,
    /// With --table: these rows alone, and the teachers that they need; all when absent. They are teacher-clean and student-clean; for each
    /// attack NAME of the recipe teacher-NAME and student-NAME; for one by variance student-NAME-tail-removed and
    /// teacher-NAME-standardised, too; and for the first such one student-NAME-VARIANT, where VARIANT is labels-WEIGHT, feature, relation,
    /// other-tower, standardised or alone
    #[arg(long, value_delimiter = ',', requires = "table")]
    rows: Vec<String>,
    /// With --table: runs at a time; 0 = one a processor
    #[arg(long, default_value_t = 0, requires = "table", value_parser = up_to::<usize>(1024))]
    jobs: usize,
    /// With --table: train rows anew that are in the folder, finished ones too; without it they are kept, and unfinished ones go on
    #[arg(long, requires = "table")]
    overwrite: bool,
    #[command(flatten)]
    run: RunFlags,
}

#[derive(Args)]
struct DistillationFlags {
    #[arg(long, value_name = "LOSS", help = flag_help("objective.distil.loss"))]
    loss: Option<LossWord>,
    #[arg(long, help = flag_help("objective.distil.temperature"))]
    temperature: Option<f64>,
    #[arg(long, value_name = "WEIGHT", help = flag_help("objective.distil.label_weight"))]
    label_weight: Option<f64>,
    #[arg(long, value_name = "WEIGHT", help = flag_help("objective.distil.teacher_weight"))]
    teacher_weight: Option<f64>,
    #[arg(long, help = flag_help("objective.distil.remove_tail"))]
    remove_tail: bool,
    #[arg(long, help = flag_help("objective.distil.zero_shot"))]
    zero_shot: bool,
}

/// [`DistilLoss`] as a flag spells it.
#[derive(Clone, Copy)]
struct LossWord(DistilLoss);

impl ValueEnum for LossWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[LossWord(DistilLoss::Response), LossWord(DistilLoss::Feature), LossWord(DistilLoss::Relation)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            DistilLoss::Response => "response",
            DistilLoss::Feature => "feature",
            DistilLoss::Relation => "relation",
        }))
    }
}

impl DistillationFlags {
    fn set(&self, config: &mut DistilConfig) {
        config.loss = self.loss.map_or(config.loss, |word| word.0);
        config.temperature = self.temperature.unwrap_or(config.temperature);
        config.label_weight = self.label_weight.unwrap_or(config.label_weight);
        config.teacher_weight = self.teacher_weight.unwrap_or(config.teacher_weight);
        config.remove_tail |= self.remove_tail;
        config.zero_shot |= self.zero_shot;
    }
}

impl Arguments {
    /// Whether several processes share this work.
    pub fn is_shared(&self) -> bool {
        !self.table
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.table {
        return table::run(&arguments);
    }
    let saved = arguments.run.folder.join("run.toml");
    let resumes = arguments.run.resumes() && saved.is_file();
    let recipe = match &arguments.teacher {
        Some(teacher) if !resumes => begin(&arguments, teacher)?,
        None if !saved.is_file() => {
            return Err(not_this_kind(&arguments.run.folder, "holds no distillation to resume"));
        }
        teacher => go_on(&arguments, teacher.as_deref(), Recipe::read(&saved)?)?,
    };
    if recipe.distillation().is_none() {
        return Err(not_this_kind(&arguments.run.folder, "is no distillation"));
    }
    let summary = train_together(&recipe, &arguments.run.folder, arguments.run.start())?;
    let summary = summary.with_inheritance();
    match arguments.run.json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => outcome::print(&summary),
    }
    let run = shell_word(&arguments.run.folder);
    let commands = ["eval", "report"].map(|verb| format!("roclip {verb} {run}"));
    say_next(&arguments.run.folder, HOLDS, &commands);
    Ok(())
}

/// The recipe of a new student: the teacher's data, evaluation and training settings, and the flags.
fn begin(arguments: &Arguments, teacher: &Path) -> Result<Recipe> {
    checkpoint::is_checkpoint(teacher)?;
    let run = run_of(teacher);
    if arguments.recipe.base.config.is_none() && run.is_none() && !arguments.recipe.data.names_training_data() {
        bail!(
            "`{}` is of no run; say what to teach with: --train-data (trusted pictures) and --val-data (labelled images), or a recipe with --config",
            teacher.display()
        );
    }
    let base = match (&arguments.recipe.base.config, &run) {
        (Some(config), _) => Recipe::read(config)?,
        (None, Some(run)) => Recipe::of_run(run)?,
        (None, None) => Recipe::default(),
    };
    // Of a recipe that cannot be read, nothing is said.
    let taught = run.and_then(|run| Recipe::of_run(&run).ok());
    // Flags go before the student and the trusted pictures that a recipe names, so the recipe is read first.
    let mut flags = arguments.recipe.clone();
    flags.base.config = None;
    let mut recipe = flags.resolve(student(base, teacher))?;
    arguments.distillation.set(&mut recipe.objective.distil);
    say(&learned_from(&recipe, taught.as_ref()));
    Ok(recipe)
}

/// Whose pictures the student learns from; `taught` is the teacher's recipe, where it is known.
fn learned_from(recipe: &Recipe, taught: Option<&Recipe>) -> String {
    let source = &recipe.data.source;
    let split = source.split.as_ref().map(|split| format!(" ({split})")).unwrap_or_default();
    let own = match taught.is_some_and(|taught| taught.data.source == *source) {
        true => ", the teacher's own training pictures without its poison; name others with --train-data",
        false => "",
    };
    format!("the student learns from `{}`{split}{own}", source.path)
}

/// A recipe, which may be the teacher's own, as one that distils `teacher`.
fn student(mut recipe: Recipe, teacher: &Path) -> Recipe {
    (recipe.manifest, recipe.poison, recipe.clean, recipe.model.weights) = (None, PoisonConfig::default(), None, None);
    recipe.objective.name = ObjectiveName::Distil;
    let distil = &mut recipe.objective.distil;
    distil.teacher = teacher.to_owned();
    if let Some(name) = distil.student.take() {
        recipe.model.name = name;
    }
    if let Some(source) = distil.trusted.take() {
        recipe.data.source = source;
    }
    recipe
}

/// The recipe that a student began with, and what the flags say; the run refuses what does not go with it.
fn go_on(arguments: &Arguments, teacher: Option<&Path>, saved: Recipe) -> Result<Recipe> {
    let mut recipe = arguments.recipe.resolve(saved)?;
    if recipe.objective.name == ObjectiveName::Distil {
        if let Some(teacher) = teacher {
            recipe.objective.distil.teacher = teacher.to_owned();
        }
        arguments.distillation.set(&mut recipe.objective.distil);
    }
    Ok(recipe)
}
