//! Going on with a run: from which checkpoint, and only with the recipe that it began with.

use crate::checkpoint::{self, Origin, State};
use crate::error::{Error, Result};
use crate::recipe::{Difference, Recipe};
use crate::run::began_with::first_difference;
use crate::run::context::Context;
use crate::run::named::{check_named, measured_apart};
use crate::run::numbers::read_measured;
use crate::run::prepare::manifest_file;
use crate::run::summary::Summary;
use crate::train::{EpochTally, Position, Trainer};
use roclip_data::poison::Manifest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// In a new folder, or in that of a run that never finished a step.
    New,
    /// From the newest checkpoint; anew where there is none yet.
    Resume,
    /// From the checkpoint of this step. Newer ones are put aside.
    ResumeFrom(u64),
}

/// Keys (and whole sections) that a resumed run may have other values of: none has a part in what is learned, or each is a person's
/// decision to train longer (fewer epochs than were planned are refused).
const FREE: [&str; 16] = [
    "train.epochs",
    "prompt.epochs",
    "train.collective_timeout_seconds",
    "train.device",
    "train.threads",
    "train.save_every_steps",
    "train.keep_checkpoints",
    "train.log_every_steps",
    "data.workers",
    "data.cache_mib",
    "data.max_skip_fraction",
    "data.index",
    "eval.every_epochs",
    "eval.retrieval",
    "caption.search",
    "caption.references",
];

/// The checkpoint that a run in `run` goes on from; none where it begins.
///
/// # Errors
/// Where the folder holds another run, or none to go on with.
pub(super) fn checkpoint_to_take(recipe: &Recipe, run: &Path, start: Start) -> Result<Option<PathBuf>> {
    let saved = run.join("run.toml");
    match start {
        Start::New if !saved.is_file() => Ok(None),
        Start::New => match checkpoint::newest_step(run)? {
            Some(step) if step > 0 => Err(Error::file(
                run,
                format!("already holds a run, at step {step}"),
                "continue it with --resume, or name another folder with --run",
            )),
            _ => check_same(recipe, &saved, run).map(|()| None),
        },
        _ if !saved.is_file() => Err(Error::file(run, "holds no run to resume", "start it without --resume")),
        Start::Resume => {
            check_same(recipe, &saved, run)?;
            check_no_fewer_epochs(recipe, &saved, run)?;
            checkpoint::newest_step(run)?.map(|step| checkpoint::at_step(run, step)).transpose()
        }
        Start::ResumeFrom(step) => {
            check_same(recipe, &saved, run)?;
            check_no_fewer_epochs(recipe, &saved, run)?;
            checkpoint::at_step(run, step).map(Some)
        }
    }
}

/// The summary of a run that is to go on and has nothing left to do.
///
/// # Errors
/// Those of [`checkpoint_to_take`], and a damaged checkpoint.
pub(super) fn finished(recipe: &Recipe, run: &Path, start: Start) -> Result<Option<Summary>> {
    let path = run.join("summary.json");
    if start != Start::Resume || !path.is_file() {
        return Ok(None);
    }
    let Some(from) = checkpoint_to_take(recipe, run, start)? else { return Ok(None) };
    // One that cannot be read, or that nobody can have measured, is written again.
    let Ok(summary) = read_measured::<Summary>(&path) else { return Ok(None) };
    let newest = checkpoint::newest_step(run)?;
    if summary.step.is_none() || summary.step != newest || summary.epoch != recipe.train.epochs {
        return Ok(None);
    }
    checkpoint::verified(&from)?;
    Ok(Some(summary))
}

/// # Errors
/// Names the first key that has another value than in the recipe that the run began with.
fn check_same(recipe: &Recipe, saved: &Path, run: &Path) -> Result<()> {
    let free = |key: &str| FREE.iter().any(|free| key == *free || key.starts_with(&format!("{free}.")));
    let differences = Recipe::read(saved)?.differences(recipe)?;
    let Some(Difference { key, ours, theirs }) = differences.into_iter().find(|found| !free(&found.key)) else {
        return Ok(());
    };
    let show = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
    Err(Error::file(
        run,
        format!("{key} differs: the run there began with {}, and now it is {}", show(ours), show(theirs)),
        "leave out what sets it and the run goes on as it began, or name another folder with --run",
    ))
}

/// The learning rate of every step, those that are done too, follows from the number of epochs: a run that is cut shorter afterwards would be
/// none that anybody could train again.
///
/// # Errors
/// Where `recipe` has fewer epochs than the run was planned for.
fn check_no_fewer_epochs(recipe: &Recipe, saved: &Path, run: &Path) -> Result<()> {
    let began = Recipe::read(saved)?;
    let of_prompts = |recipe: &Recipe| recipe.prompt.as_ref().map_or(0, |prompt| prompt.epochs);
    let planned = [
        ("train.epochs", began.train.epochs, recipe.train.epochs),
        ("prompt.epochs", of_prompts(&began), of_prompts(recipe)),
    ];
    let Some((key, planned, asked)) = planned.into_iter().find(|(_, planned, asked)| asked < planned) else {
        return Ok(());
    };
    Err(Error::file(
        run,
        format!(
            "{key} is {asked}, fewer than the {planned} that the run was planned for: its learning rate has followed that plan from its first step on"
        ),
        format!(
            "leave out what sets it (--epochs, --config) or ask for more, train a shorter run in another folder (--epochs {asked} --run OTHER), or measure an earlier state of this one (roclip eval RUN/checkpoints/step_N)"
        ),
    ))
}

/// Puts the trainer where `folder`, a checkpoint of its run, stood.
///
/// # Errors
/// Where the checkpoint is damaged, of another run, or stands where this run cannot.
pub(super) fn restore(trainer: &mut Trainer, context: &Context, folder: &Path) -> Result<()> {
    let loaded = checkpoint::load(folder, trainer.device)?;
    let Some(state) = &loaded.state else {
        return Err(Error::file(folder, "is no checkpoint of a run", "resume from one of the run's checkpoints"));
    };
    check_began_with(state, context, trainer.objective.name(), folder)?;
    // A captioner may be measured by other references than it began with; what lies under the same names has to be the same.
    let began = checkpoint::run_of(folder).map(|run| Recipe::read(&run.join("run.toml"))).transpose()?;
    if began.is_none_or(|began| began.measured_source() == context.recipe.measured_source()) {
        check_measured_on((state.measured_on.as_deref(), &state.named), context, folder)?;
    }
    check_same_model(state, trainer, context, folder)?;
    let refuse = |what: String, remedy: &str| Err(Error::file(folder, what, remedy));
    if state.epoch > context.recipe.train.epochs + 1 {
        return refuse(
            format!(
                "has {} epochs behind it, and the run.toml beside it plans {}",
                state.epoch - 1,
                context.recipe.train.epochs
            ),
            "ask for as many or more with --epochs",
        );
    }
    trainer.model.load(folder, &loaded.model.parameters().all())?;
    let tally: Option<EpochTally> = state
        .epoch_so_far
        .clone()
        .map(serde_json::from_value)
        .transpose()
        .map_err(|e| Error::file(folder, format!("state.json: {e}"), "resume from another checkpoint"))?;
    let (optimizer, objective) = checkpoint::load_training(folder)?;
    let position =
        Position { step: state.step, epoch: state.epoch, pass: state.pass, step_in_pass: state.step_in_pass };
    let finished_passes = tally.as_ref().map(|tally| tally.passes.len() as u64);
    let counted = tally.as_ref().map(EpochTally::steps_of_pass);
    trainer.restore(position, tally, &optimizer, &objective)?;
    check_place(trainer, state, finished_passes, counted).map_err(|what| {
        Error::file(folder, format!("state.json: {what}"), "resume from another checkpoint: this one was changed")
    })
}

/// Whether what `state`, of the checkpoint `folder`, was trained on and began with is what `context` names now.
///
/// # Errors
/// Names what has changed.
pub(super) fn check_began_with(state: &State, context: &Context, objective: &str, folder: &Path) -> Result<()> {
    let refuse = |what: String, remedy: &str| Err(Error::file(folder, what, remedy));
    if state.data_fingerprint != context.fingerprint {
        return refuse("was trained on other data".into(), "resume with the data and manifest of the run");
    }
    if state.seed != context.recipe.seed || state.objective != objective {
        return refuse(
            format!("belongs to seed {} and objective {}", state.seed, state.objective),
            "resume with the recipe of the run",
        );
    }
    let sha256 = |origin: &Option<Origin>| origin.as_ref().map(|origin| origin.sha256.clone());
    if sha256(&state.trained_from) != sha256(&context.origin) {
        let (what, remedy) = other_origin(context.recipe);
        return refuse(what, remedy);
    }
    Ok(())
}

/// Whether the model of the checkpoint `folder`, and what else it read under names of its recipe, is what `context` and `trainer` have now.
/// Weights fit many a model: the number of heads is none of their sizes.
///
/// # Errors
/// Names what has changed.
pub(super) fn check_same_model(state: &State, trainer: &Trainer, context: &Context, folder: &Path) -> Result<()> {
    let recipe = context.recipe;
    let without_vocabulary = |mut configuration: Value| {
        // It follows from captions and prompts, and is compared as a whole.
        if let Some(text) = configuration.pointer_mut("/model_cfg/text_cfg").and_then(Value::as_object_mut) {
            text.remove("vocab_size");
        }
        configuration
    };
    let began = without_vocabulary(checkpoint::saved_configuration(folder)?);
    let now = without_vocabulary(checkpoint::configuration(&trainer.model)?);
    if let Some((key, began, now)) = first_difference(&began, &now, "") {
        let path = match (&recipe.clean, &recipe.model.weights) {
            (Some(clean), _) => clean.victim.display().to_string(),
            (None, Some(weights)) => weights.display().to_string(),
            (None, None) => recipe.model.name.clone(),
        };
        return Err(Error::file(
            folder,
            format!("is of another model than `{path}` is now: {key} was {began}, and now it is {now}"),
            "bring it back as it was, or begin anew in another folder with --run",
        ));
    }
    check_named(&state.named, &context.named, folder)?;
    if state.compact_vocabulary.as_ref() != context.tokenizer.compact() {
        return Err(Error::file(
            folder,
            "has another vocabulary than its captions and prompts give now",
            "bring back the classes, the templates and the weights that the run began with, or begin anew in another folder with --run",
        ));
    }
    Ok(())
}

/// Whether the labelled pictures that what lies in `folder` was measured on, by their digest, are those that `context` names now. Older files
/// do not say.
///
/// # Errors
/// Names the pictures that have changed.
pub(super) fn check_measured_on(began: Measured, context: &Context, folder: &Path) -> Result<()> {
    check_same_pictures(began, (context.measured_on().as_deref(), &context.named), context.recipe, folder)
}

/// The digest of what a run is measured on, and those of what its recipe names, as [`named`](crate::run::named::named) has them.
type Measured<'a> = (Option<&'a str>, &'a BTreeMap<String, String>);

/// [`check_measured_on`] of what the pictures are `now`.
pub(super) fn check_same_pictures(began: Measured, now: Measured, recipe: &Recipe, folder: &Path) -> Result<()> {
    if began.0.is_none() || began.0 == now.0 {
        return Ok(());
    }
    let apart = measured_apart(began.1, now.1, &recipe.measured_source().path);
    Err(Error::file(
        folder,
        format!("is of a run that was {apart}"),
        "bring them back as they were, or begin anew in another folder with --run",
    ))
}

/// What is wrong with a checkpoint that other weights are behind than those that the recipe names now, and what to do.
fn other_origin(recipe: &Recipe) -> (String, &'static str) {
    if recipe.distillation().is_some() {
        return (
            "learned from another teacher: the weights of `objective.distil.teacher` have changed since".into(),
            "bring that teacher back, or name one of its checkpoints, which stay as they are",
        );
    }
    let (began, named) = match (&recipe.clean, &recipe.model.weights) {
        (Some(clean), _) => ("cleans another victim", clean.victim.as_path()),
        (None, Some(weights)) => ("began with another model", weights.as_path()),
        (None, None) => ("began with a model's weights", Path::new("model.weights")),
    };
    (
        format!("{began}: `{}` is no longer what it was, its weights were changed", named.display()),
        "bring them back, or begin anew in another folder with --run",
    )
}

/// Whether the poison that the run `run` is measured by is still what it began with. A run that did not keep it knows no other.
///
/// # Errors
/// Where a manifest, or a model that has a say in what becomes a target, was replaced or removed.
pub(super) fn check_manifest(run: &Path, context: &Context) -> Result<()> {
    let kept = run.join("manifest.jsonl");
    if !kept.is_file() {
        return Ok(());
    }
    let (recipe, began) = (context.recipe, Manifest::read(&kept, context.recipe.data.limits)?);
    let same = |now: &Manifest| {
        let of = |manifest: &Manifest| (manifest.header.reference_sha256.clone(), manifest.header.materials.clone());
        now.rows == began.rows && of(now) == of(&began)
    };
    if context.manifest.as_ref().is_some_and(same) {
        return Ok(());
    }
    let (what, remedy) = match (manifest_file(recipe), &recipe.poison.reference) {
        (Some(path), _) => (
            format!("began with another manifest: `{}` was changed since", path.display()),
            "bring that manifest back, or begin anew in another folder with --run",
        ),
        (None, Some(path)) => (
            format!("began with other poison: `{}` (poison.reference) was changed since", path.display()),
            "bring that model back, or begin anew in another folder with --run",
        ),
        (None, None) => (
            "began with another manifest than it has now".into(),
            "bring back what it was read from, or begin anew in another folder with --run",
        ),
    };
    Err(Error::file(run, what, remedy))
}

/// Whether a run of this shape can stand where the state says.
fn check_place(
    trainer: &Trainer,
    state: &State,
    finished_passes: Option<u64>,
    counted: Option<u64>,
) -> std::result::Result<(), String> {
    let State { step, epoch, pass, step_in_pass, .. } = *state;
    let place = format!("step {step} cannot be step {step_in_pass} of pass {pass} of epoch {epoch}");
    let within = trainer.position.within_epoch();
    if epoch == 0 || step < step_in_pass || (epoch == 1 && !within && step > 0) || (epoch > 1 && step == 0) {
        return Err(place);
    }
    if !within {
        return Ok(());
    }
    let passes = trainer.objective.passes(epoch);
    let Some(under_way) = passes.get(pass as usize) else {
        return Err(format!("epoch {epoch} has {} passes, and not {}", passes.len(), pass + 1));
    };
    let pairs = under_way.pairs.as_ref().map_or(trainer.pairs.len(), Vec::len);
    let steps = trainer.loader.steps(pairs).min(under_way.max_steps.unwrap_or(u64::MAX));
    if step_in_pass > steps {
        return Err(format!("step {step_in_pass} of a pass of {steps}"));
    }
    if counted != Some(step_in_pass) || finished_passes != Some(pass) {
        return Err(format!("{place}: the epoch's sums are of another place"));
    }
    Ok(())
}
