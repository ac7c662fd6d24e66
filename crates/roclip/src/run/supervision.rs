//! What a classifier learns from: its labels, and a student's teacher.

use crate::checkpoint::{self, Loaded, Origin};
use crate::error::{Error, Result};
use crate::eval::{Evaluator, VarianceTrigger, variance_triggers};
use crate::model::{Clip, Head};
use crate::objective::{DistilConfig, Supervision, Teacher, TeacherClassifier};
use crate::recipe::Recipe;
use roclip_data::pairs::Pairs;
use roclip_data::poison::Manifest;
use roclip_data::progress::Task;
use roclip_data::sample::Sample;
use std::path::Path;
use tch::Device;

/// Labels of `pairs` and the teacher that `recipe` names, for `student`; with the teacher's history. Empty where captions are learned from.
///
/// # Errors
/// A teacher that cannot teach this student these classes.
pub(super) fn supervision(
    recipe: &Recipe,
    pairs: &Pairs,
    evaluator: &Evaluator,
    student: &Clip,
    device: Device,
) -> Result<(Supervision, Option<Origin>)> {
    if !recipe.is_labelled() {
        return Ok((Supervision::default(), None));
    }
    let labels = Supervision::labels(pairs.iter().map(|pair| pair.captions.first().cloned()), &evaluator.classes);
    let (teacher, origin) = match recipe.distillation() {
        None => (None, None),
        Some(config) => {
            let (teacher, origin) = teacher(config, evaluator, device)?;
            check_inputs(config, &teacher.model, student)?;
            (Some(teacher), Some(origin))
        }
    };
    Ok((Supervision { labels, classes: evaluator.classes.len(), teacher }, origin))
}

/// The classifier that `config` names.
fn teacher(config: &DistilConfig, evaluator: &Evaluator, device: Device) -> Result<(Teacher, Origin)> {
    let path = &config.teacher;
    let loaded = checkpoint::load(path, device)?;
    let origin = loaded.origin(path);
    let classes = trained_classes(&loaded);
    let classifier = match (config.zero_shot, classes.is_empty()) {
        (true, true) => evaluator.class_prompts(&loaded.model, &loaded.tokenizer)?.into_teacher(),
        (true, false) => {
            let what = "is a trained classifier, whose text tower has learned nothing";
            return Err(Error::file(path, what, "take zero_shot away (--zero-shot)"));
        }
        (false, true) => {
            return Err(Error::file(
                path,
                "is no classifier: it holds no trained head",
                "name a run of `roclip train --objective classifier`, or let a CLIP teach by its class prompts with --zero-shot (objective.distil.zero_shot)",
            ));
        }
        (false, false) => {
            let (_, objective) = checkpoint::load_training(&loaded.folder)?;
            TeacherClassifier::Head(Head::from_tensors(&objective, classes.len(), device)?)
        }
    };
    loaded.model.freeze();
    Ok((Teacher { model: loaded.model, classifier }, origin))
}

/// The classes of a trained classifier, in the order of its head; empty of other models.
fn trained_classes(loaded: &Loaded) -> &[String] {
    loaded.state.as_ref().map_or(&[], |state| &state.classes)
}

/// Whether anybody attacked the model of the run that `teacher` is or lies in; none where its recipe is not there.
pub(super) fn is_attacked(teacher: &Path) -> Option<bool> {
    let run = checkpoint::run_of(teacher)?;
    Recipe::read(&run.join("run.toml")).ok().map(|recipe| !recipe.is_unattacked())
}

/// Whether the teacher that `config` names tells the classes `ours` apart, in their order. Of what is no classifier nothing is said here.
///
/// # Errors
/// Another class list.
pub(super) fn check_classes(config: &DistilConfig, ours: &[String]) -> Result<()> {
    let path = &config.teacher;
    let theirs = match checkpoint::is_checkpoint(path)? {
        true => checkpoint::verified(&checkpoint::find(path)?)?.classes,
        false => Vec::new(),
    };
    if theirs.is_empty() || theirs == ours {
        return Ok(());
    }
    let lacks = |has: &[String], wanted: &[String]| wanted.iter().find(|class| !has.contains(class)).cloned();
    let difference = match (lacks(&theirs, ours), lacks(ours, &theirs)) {
        (Some(class), _) => format!("it does not know `{class}`"),
        (None, Some(class)) => format!("`{class}` is none of the evaluation's"),
        (None, None) => "their order differs".to_owned(),
    };
    Err(Error::file(
        &config.teacher,
        format!("tells {} classes apart, and the evaluation has {}: {difference}", theirs.len(), ours.len()),
        "give both the same class list (eval.source, eval.classes)",
    ))
}

/// Both must see the same pictures.
fn check_inputs(config: &DistilConfig, teacher: &Clip, student: &Clip) -> Result<()> {
    check_same_size(config, teacher.config().image_size(), student.config().image_size())?;
    if teacher.preprocess().resizing != student.preprocess().resizing {
        let what = "resizes its pictures otherwise than the student";
        return Err(Error::file(&config.teacher, what, "choose a teacher that is preprocessed as CLIP is"));
    }
    Ok(())
}

/// Whether teacher and student see pictures of as many pixels.
///
/// # Errors
/// They do not.
pub(super) fn check_same_size(config: &DistilConfig, theirs: u32, ours: u32) -> Result<()> {
    if theirs == ours {
        return Ok(());
    }
    Err(Error::file(
        &config.teacher,
        format!("sees pictures of {theirs} pixels, and the student of {ours}"),
        "choose a student of the same image_size (--model)",
    ))
}

/// Takes the trusted pictures out of `pairs` that lie in the tail of the teacher's variance trigger by nature, where `recipe` asks for it.
/// What a person should know of it.
///
/// # Errors
/// No such trigger, or no such picture.
pub(super) fn without_tail(recipe: &Recipe, pairs: &mut Pairs, manifest: Option<&Manifest>) -> Result<Option<String>> {
    let Some(config) = recipe.distillation().filter(|config| config.remove_tail) else { return Ok(None) };
    let triggers = variance_triggers(manifest);
    if triggers.is_empty() {
        return Err(Error::file(
            &config.teacher,
            "was not attacked by a trigger with a tail: its manifest has no ink_reconstructed",
            "take remove_tail away (--remove-tail)",
        ));
    }
    let task = Task::begin("looking for the natural tail", pairs.sample_count(), "pictures");
    let in_tail = |sample: &Sample| {
        task.advance(1);
        let picture = sample.picture(recipe.data.limits).ok();
        picture.is_some_and(|picture| {
            let framed = |(stack, ink): &VarianceTrigger| {
                stack.framed(&picture).is_ok_and(|framed| ink.is_beyond(ink.measure(&framed)))
            };
            triggers.iter().any(framed)
        })
    };
    let tail: Vec<bool> = pairs.samples().map(|sample| in_tail(&sample)).collect();
    let before = pairs.len();
    pairs.retain(|pair, _| !tail.get(pair.sample).copied().unwrap_or(false));
    match before - pairs.len() {
        0 => Err(Error::setting(
            format!("no picture of the {before} trusted ones lies in the tail of the teacher's trigger"),
            "there is nothing to remove: take remove_tail away (--remove-tail)",
        )),
        removed => Ok(Some(format!(
            "{removed} of {before} trusted pictures lie in the tail of the teacher's trigger by nature and are removed"
        ))),
    }
}
