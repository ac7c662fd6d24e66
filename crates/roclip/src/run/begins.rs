//! Whether runs could begin: what is wrong with any of several is found before the first of them takes its time.

use crate::error::Result;
use crate::model::ModelConfig;
use crate::objective::{RunShape, Supervision};
use crate::recipe::{AugmentConfig, ObjectiveConfig, Recipe};
use crate::run::build::build;
use crate::run::clean::without_search;
use crate::run::device::machine;
use crate::run::kind::RunKind;
use crate::run::memory::check_batch;
use crate::run::prepare::{prepare_clean_data, prepare_data};
use crate::run::session::prepare;
use crate::run::supervision::{check_same_size, without_tail};
use crate::train::TrainConfig;
use crate::world::World;
use std::path::Path;

/// What [`Seen::begins`] has read and drawn for the recipes so far.
pub struct Seen {
    /// The flag of the command that names the folder of the runs.
    named_by: &'static str,
    /// By what of a recipe says so.
    shapes: Vec<(Recipe, RunShape)>,
    /// Students whose data were looked at.
    students: Vec<Recipe>,
}

impl Seen {
    /// Nothing yet, of runs in a folder that the flag `named_by` names.
    pub fn nothing(named_by: &'static str) -> Seen {
        Seen { named_by, shapes: Vec::new(), students: Vec::new() }
    }

    /// Reads what `recipe` names, draws its poison, and builds its model and objective, as a run in the folder `run` would before its
    /// first step. Recipes that share data, poison and batch size read them once. Nothing is written.
    ///
    /// # Errors
    /// Those that the run would begin with.
    pub fn begins(&mut self, recipe: &Recipe, run: &Path) -> Result<()> {
        recipe.check_training()?;
        RunKind::Training.check(run, self.named_by)?;
        let inputs = inputs(recipe);
        // What is learned from labels and teachers depends on these, and is built whole.
        let known = self.shapes.iter().find(|(known, _)| *known == inputs && !recipe.is_labelled());
        if let Some((_, shape)) = known {
            let shape = RunShape { epochs: recipe.train.epochs, ..*shape };
            // What cleans a model minimises what its method says; the objective is that of the victim.
            if recipe.clean.is_none() {
                recipe.objective.build(shape, Supervision::default())?;
            }
            return Ok(());
        }
        let device = machine(recipe)?;
        // The run itself says what it has to say.
        let silent = &mut |_: &str| {};
        let prepared = prepare(recipe, silent)?;
        let plain = without_search(recipe);
        let (trainer, _) = build(&plain, prepared, (device, &World::alone()), run, silent)?;
        if let Some(clean) = &recipe.clean {
            clean.check_reference(&trainer.model)?;
        }
        let train = &recipe.train;
        let shape = RunShape {
            seed: recipe.seed,
            epochs: train.epochs,
            pairs: trainer.pairs.len(),
            batch_size: train.batch_size,
            embed_dim: trainer.model.config().embed_dim,
            learning_rate: train.learning_rate,
            warmup_steps: trainer.schedule.warmup_steps,
            device,
        };
        self.shapes.push((inputs, shape));
        Ok(())
    }

    /// [`Seen::begins`] for a student whose teacher `teacher` is still to train: all but what only the trained teacher tells.
    ///
    /// # Errors
    /// Those that the student would begin with.
    pub fn learns(&mut self, student: &Recipe, teacher: &Recipe) -> Result<()> {
        student.check_training()?;
        check_batch(student)?;
        let Some(config) = student.distillation() else { return Ok(()) };
        let [theirs, ours] = [teacher, student].map(|recipe| ModelConfig::named(&recipe.model.name));
        check_same_size(config, theirs?.image_size(), ours?.image_size())?;
        // Whether labels are needed is all that a student's own settings change of its data.
        let alike = |known: &Recipe| {
            let labelled = |recipe: &Recipe| recipe.distillation().is_some_and(|distil| distil.label_weight > 0.0);
            known.data == student.data && known.eval == student.eval && labelled(known) == labelled(student)
        };
        if !config.remove_tail && self.students.iter().any(alike) {
            return Ok(());
        }
        let mut prepared = prepare_clean_data(student)?;
        if config.remove_tail {
            without_tail(student, &mut prepared.pairs, prepare_data(teacher)?.manifest.as_ref())?;
        }
        self.students.push(student.clone());
        Ok(())
    }
}

/// `recipe` without the settings that its numbers alone are right or wrong in, and without those of the objective, which is built for each.
pub(super) fn inputs(recipe: &Recipe) -> Recipe {
    let train = TrainConfig {
        batch_size: recipe.train.batch_size,
        device: recipe.train.device.clone(),
        ..TrainConfig::default()
    };
    Recipe { train, objective: ObjectiveConfig::default(), augment: AugmentConfig::default(), ..recipe.clone() }
}
