//! Where a run of prompt learning begins or goes on: its trainer, with the trigger that it attacks or repairs with.

use crate::attack::{DELTA, UniversalDelta};
use crate::checkpoint::{self, Description};
use crate::error::{Error, Result};
use crate::prompt::{
    ClassTokens, LearnerAbout, PromptConfig, PromptLearner, PromptPosition, PromptTally, PromptTrainer, Resumed,
    TrainingState, invert, read_training,
};
use crate::recipe::Recipe;
use crate::run::folder::RunFolder;
use crate::run::named::check_named;
use crate::run::plain::plain_transform;
use crate::run::prompt::prepare::{PromptData, prepare, section, seed_torch, unlabelled};
use crate::run::resume::{Start, check_same_pictures, checkpoint_to_take};
use crate::train::{Sgd, SgdConfig};
use roclip_data::artifact;
use roclip_data::batch::{Loader, Transform, ViewAugment};
use roclip_data::sample::Sample;
use roclip_data::tokenizer::{Tokenizer, Truncate};
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// Of the trigger that a repair learns against, among the optimizer's tensors.
pub const INVERTED: &str = "inverted.delta";

/// The trainer where the run begins or goes on, and whether it goes on.
pub fn begin<'a>(
    recipe: &Recipe,
    config: &PromptConfig,
    data: &'a PromptData,
    folder: &RunFolder,
    device: Device,
    start: Start,
    progress: &mut dyn FnMut(&str),
) -> Result<(PromptTrainer<'a>, bool)> {
    let from = checkpoint_to_take(recipe, folder.path(), start)?;
    let model = &data.loaded.model;
    // A run that goes on reads what it had; the draws that it began with are made all the same.
    seed_torch(recipe.seed, "prompt-learner");
    let reduction = config.method().is_conditioned().then_some(config.meta_reduction);
    let mut learner = match &data.delivered {
        Some(stored) => PromptLearner::from_tensors(model, &stored.tensors)?,
        None => PromptLearner::new(model, &data.loaded.tokenizer, &config.context, reduction)?,
    };
    let mut trigger = match config.method().attacks() {
        true => {
            let size = i64::from(model.config().image_size());
            Some(UniversalDelta::random(size, config.eps / 255.0, config.sgd(), device)?)
        }
        false => None,
    };
    let state = match &from {
        None => None,
        Some(from) => {
            let Resumed { about, state, tensors, optimizer } = read_training(from)?;
            check_began_with((&about, &state), recipe, data, folder.path(), from)?;
            learner = PromptLearner::from_tensors(model, &tensors)?;
            if let (Some(_), Some(delta)) = (&trigger, tensors.get(DELTA)) {
                trigger = Some(UniversalDelta::new(&delta.to_device(device), config.eps / 255.0, config.sgd())?);
            }
            if let Start::ResumeFrom(step) = start {
                checkpoint::set_newer_aside(folder.path(), step)?;
            }
            Some((state, optimizer))
        }
    };
    let words: Vec<String> = data.split.seen.iter().map(|class| class.1.clone()).collect();
    let classes = ClassTokens::new(model, &data.loaded.tokenizer, &words, &config.ending, learner.contexts())?;
    if config.repair.is_some() {
        let none = SgdConfig { momentum: 0.0, weight_decay: 0.0 };
        let kept = state.as_ref().and_then(|(_, optimizer)| optimizer.get(INVERTED));
        trigger = Some(match kept {
            Some(kept) => UniversalDelta::new(&kept.to_device(device), config.detector.eps / 255.0, none)?,
            None => inverted(recipe, config, data, &learner, &classes, folder, progress)?,
        });
    }
    let loader = loader(recipe, data)?;
    let mut trainer = PromptTrainer {
        model,
        sgd: Sgd::new(learner.tensors(), config.sgd()),
        config: config.clone(),
        classes,
        loader,
        labels: data.labels.clone(),
        learner,
        trigger,
        target: data.target_place as i64,
        device,
        position: PromptPosition { step: 0, epoch: 1, step_in_epoch: 0 },
        tally: PromptTally::default(),
        skips: data.skips.clone(),
    };
    let resumed = state.is_some();
    if let Some((state, optimizer)) = state {
        trainer.sgd.load_state(&optimizer)?;
        if let Some(trigger) = trainer.trigger.as_mut().filter(|_| config.method().attacks()) {
            trigger.optimizer_mut().load_state(&optimizer)?;
        }
        (trainer.position, trainer.tally) = (state.position, state.tally);
        progress(&format!("resumed at epoch {} step {}", trainer.position.epoch, trainer.position.step));
    }
    Ok((trainer, resumed))
}

/// Whether what the run `run` began with, by its checkpoint `from`, is what `data` is now.
///
/// # Errors
/// Names what has changed.
fn check_began_with(
    (about, state): (&LearnerAbout, &TrainingState),
    recipe: &Recipe,
    data: &PromptData,
    run: &Path,
    from: &Path,
) -> Result<()> {
    check_same_models(about, state, section(recipe)?, data, run)?;
    if state.data_fingerprint != data.pairs.fingerprint() {
        return Err(Error::file(from, "was trained on other data", "resume with the data of the run"));
    }
    let named = data.named(section(recipe)?)?;
    let began = (state.measured_on.as_deref(), &state.named);
    check_same_pictures(began, (data.measured_on.as_deref(), &named), recipe, from)?;
    check_named(&state.named, &named, from)
}

/// Whether what the finished run `run` of prompt learning began with, by its checkpoint `from`, is what `recipe` names today.
///
/// # Errors
/// Names what has changed since, or can no longer be read.
pub fn check_unchanged(recipe: &Recipe, run: &Path, from: &Path) -> Result<()> {
    let Resumed { about, state, .. } = read_training(from)?;
    let data = prepare(recipe, Description::Beside, Device::Cpu, None)?;
    check_began_with((&about, &state), recipe, &data, run, from)
}

/// Whether a run goes on with the model, the classes and the learner that it began with: the recipe names paths, and what lies there may
/// have been replaced.
///
/// # Errors
/// Names what was replaced.
fn check_same_models(
    about: &LearnerAbout,
    state: &TrainingState,
    config: &PromptConfig,
    data: &PromptData,
    run: &Path,
) -> Result<()> {
    let refuse = |path: &Path, what: String| {
        Err(Error::file(path, what, "bring it back as it was, or name another folder with --run"))
    };
    if about.model_sha256 != data.loaded.origin.sha256 {
        let what = format!("is no longer the model of `{}`: its weights were changed", run.display());
        return refuse(&config.model, what);
    }
    if about.classes != data.split.seen {
        return refuse(run, "was begun with other seen classes than its data and lists give now".into());
    }
    match (&state.repaired_sha256, &data.delivered) {
        (Some(began), Some(stored)) if *began != stored.sha256 => {
            let what = format!("is no longer the learner that `{}` repairs: it was changed", run.display());
            refuse(&stored.path, what)
        }
        _ => Ok(()),
    }
}

/// What inversion said of the learner that a repair began with. What it says of the repaired one is a detection of its own.
const INVERSION: &str = "inversion.json";

/// The trigger that inversion finds in the learner that is repaired: for the class that the recipe names, else for the one with the largest
/// score. What was found is kept.
fn inverted(
    recipe: &Recipe,
    config: &PromptConfig,
    data: &PromptData,
    learner: &PromptLearner,
    classes: &ClassTokens,
    folder: &RunFolder,
    progress: &mut dyn FnMut(&str),
) -> Result<UniversalDelta> {
    let unseen: Vec<&Sample> = data
        .training
        .iter()
        .filter(|sample| !data.split.seen.iter().any(|class| Some(&class.0) == sample.class.as_ref()))
        .collect();
    let pictures = unlabelled(&unseen, config.detector.pictures, recipe.seed, data.encoder(recipe))?;
    let names: Vec<String> = data.split.seen.iter().map(|class| class.0.clone()).collect();
    let asked = config.repair.as_ref().and_then(|repair| repair.class.clone());
    let only = match &asked {
        None => None,
        Some(asked) => Some(names.iter().position(|name| name == asked).ok_or_else(|| {
            Error::setting(
                format!("prompt.repair.class is `{asked}`, which is no seen class"),
                "name a class that the prompts were learned on",
            )
        })?),
    };
    let (detection, delta) =
        invert((&data.loaded.model, learner, classes), &names, only, &pictures, &config.detector, recipe.seed)?;
    artifact::write_json(&folder.file(INVERSION), &detection)?;
    // Of one class there is no statistic: it compares classes.
    let compared = match &asked {
        None => format!("; statistic {:.2} (threshold {:.2})", detection.statistic, detection.threshold),
        Some(_) => String::new(),
    };
    if let Some(first) = detection.classes.first() {
        if asked.is_none() && !detection.flagged {
            progress(&format!(
                "warning: no trigger was found in this learner: its statistic {:.2} is not above the threshold {:.2}. There may be nothing to repair, and `{}` is no more than the class with the largest score; --class names another one",
                detection.statistic, detection.threshold, first.class
            ));
        }
        progress(&format!(
            "repairing against the trigger inverted for `{}`, which carries {:.1} % ({}/{}) there{compared}",
            first.class,
            100.0 * first.carried.rate,
            first.carried.hits,
            first.carried.n
        ));
    }
    Ok(delta)
}

fn loader(recipe: &Recipe, data: &PromptData) -> Result<Loader> {
    let loaded = &data.loaded;
    let view = ViewAugment { image: recipe.augment.image.clone(), ..ViewAugment::default() };
    let context = loaded.tokenizer.context_length();
    // Captions are made of the same vocabulary; nothing of the loss reads them.
    let tokenizer = Tokenizer::new(context, Truncate::default())?.with_compact(loaded.tokenizer.compact().cloned());
    let transform = Transform {
        views: [view, ViewAugment::default()],
        ..plain_transform(recipe, &loaded.model, Arc::new(tokenizer))
    };
    // The loop asks for batches of its own size.
    Ok(Loader::new(Arc::new(data.pairs.clone()), transform, 2, recipe.data.workers)?)
}
