//! Measuring learned prompts: on the run's own classes, and on other data sets.

use crate::attack::UniversalDelta;
use crate::checkpoint::{Description, Loaded};
use crate::error::{Error, Result};
use crate::eval::{Evaluator, ImageEncoder};
use crate::prompt::{
    ClassWords, LearnerAbout, Measurement, PromptConfig, PromptLearner, PromptMeasures, Seen, SideMeasures, Subject,
    harmonic_mean, read_learner, with_target,
};
use crate::recipe::Recipe;
use crate::run::device::machine;
use crate::run::prompt::prepare::{PromptData, delivered_trigger, prepare, same_model, section};
use roclip_data::sample::Sample;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// A learner, and the trigger that is laid on what it reads.
pub struct Learned<'a> {
    pub learner: &'a PromptLearner,
    pub trigger: Option<&'a UniversalDelta>,
    pub method: &'a str,
    /// The method that made the trigger.
    pub attack: Option<&'a str>,
    pub warmup_moved: Option<f64>,
}

/// What was measured of a learner, and what it says of itself.
pub struct MeasuredPrompts {
    pub about: LearnerAbout,
    /// What the learner says of itself that lent its trigger.
    pub lender: Option<LearnerAbout>,
    pub measures: PromptMeasures,
    pub warnings: Vec<String>,
}

/// Measures a learner (a run of learned prompts, one of its checkpoints, or its file) on the data of `recipe` and on other labelled
/// pictures by name. `trigger` names another learner whose trigger is laid on instead of its own.
///
/// # Errors
/// Data, classes or a model that are not the learner's.
pub fn measure_prompts(
    recipe: &Recipe,
    description: Description,
    learner: &Path,
    others: &[(String, String)],
    trigger: Option<&Path>,
) -> Result<MeasuredPrompts> {
    recipe.check()?;
    let stored = read_learner(learner)?;
    let other = trigger.map(read_learner).transpose()?;
    // A trigger says itself which class it is for.
    let mut recipe = recipe.clone();
    let aim = other.as_ref().unwrap_or(&stored).about.target.clone();
    if let (Some(prompt), Some(aim)) = (&mut recipe.prompt, aim) {
        prompt.target = Some(aim);
    }
    let recipe = &recipe;
    let config = section(recipe)?;
    let data = prepare(recipe, description, machine(recipe)?, Some(&stored))?;
    same_model(&stored, &data.loaded, &config.model)?;
    let evaluators: Result<BTreeMap<String, Evaluator>> = others
        .iter()
        .map(|(name, path)| Ok((name.clone(), Evaluator::new(&recipe.eval.on(path), recipe.data.reading())?)))
        .collect();
    let mine = delivered_trigger(&stored, config, &data.loaded)?;
    let lent = match &other {
        Some(other) => {
            let lent = delivered_trigger(other, config, &data.loaded)?;
            Some(lent.ok_or_else(|| {
                Error::file(
                    &other.path,
                    "has no trigger: its prompts were learned cleanly",
                    "name a learner of `--method badclip` with --trigger",
                )
            })?)
        }
        None => None,
    };
    let learner = PromptLearner::from_tensors(&data.loaded.model, &stored.tensors)?;
    let learned = Learned {
        learner: &learner,
        trigger: lent.as_ref().or(mine.as_ref()),
        method: &stored.about.method,
        attack: other.as_ref().unwrap_or(&stored).about.attack(),
        warmup_moved: None,
    };
    let measures = measure(recipe, &data, &learned, &evaluators?)?;
    let lender = other.map(|other| other.about);
    Ok(MeasuredPrompts { about: stored.about, lender, measures, warnings: data.warnings })
}

/// Measures `learned` on seen and unseen classes, and on `others`.
///
/// # Errors
/// Pictures that cannot be encoded, and failures of libtorch.
pub fn measure(
    recipe: &Recipe,
    data: &PromptData,
    learned: &Learned,
    others: &BTreeMap<String, Evaluator>,
) -> Result<PromptMeasures> {
    let config = section(recipe)?;
    let zero_shot = PromptLearner::new(&data.loaded.model, &data.loaded.tokenizer, &config.context, None)?;
    let subject = subject(&data.loaded, config, learned, &zero_shot, data.encoder(recipe), recipe.seed);
    let (unseen_classes, unseen_target) = with_target(&data.split.unseen, &data.target);
    let seen_side =
        Measurement { samples: data.of(&data.split.seen), classes: &data.split.seen, target: data.target_place };
    let unseen_side =
        Measurement { samples: data.of(&data.split.unseen), classes: &unseen_classes, target: unseen_target };
    let (seen, unseen) = (subject.look(&seen_side)?, subject.look(&unseen_side)?);
    let direction = seen.direction();
    let on_seen = subject.measure(&seen_side, &seen, direction.as_ref())?;
    let on_unseen = subject.measure(&unseen_side, &unseen, direction.as_ref())?;
    let mut on_others = BTreeMap::new();
    for (name, evaluator) in others {
        on_others.insert(name.clone(), on_other(&subject, evaluator, &data.target, direction.as_ref())?);
    }
    let cosine = |a: &Tensor, b: &Tensor| (a * b).sum(tch::Kind::Double).double_value(&[]);
    Ok(PromptMeasures {
        method: learned.method.to_owned(),
        attack: learned.trigger.and(learned.attack).map(str::to_owned),
        target: data.target.0.clone(),
        harmonic_mean: harmonic_mean(on_seen.accuracy.rate, on_unseen.accuracy.rate),
        seen: on_seen,
        unseen: on_unseen,
        others: on_others,
        shift_cosine: direction.as_ref().zip(unseen.direction()).map(|(seen, unseen)| cosine(seen, &unseen)),
        eps: learned.trigger.map(|trigger| 255.0 * trigger.eps()),
        warmup_moved: learned.warmup_moved,
    })
}

fn subject<'a>(
    loaded: &'a Loaded,
    config: &'a PromptConfig,
    learned: &Learned<'a>,
    zero_shot: &'a PromptLearner,
    encoder: ImageEncoder<'a>,
    seed: u64,
) -> Subject<'a> {
    Subject {
        model: &loaded.model,
        tokenizer: &loaded.tokenizer,
        learner: learned.learner,
        zero_shot,
        ending: &config.ending,
        trigger: learned.trigger,
        encoder,
        seed,
    }
}

/// Another data set, with the target among its classes.
fn on_other(
    subject: &Subject,
    evaluator: &Evaluator,
    target: &(String, String),
    direction: Option<&Tensor>,
) -> Result<SideMeasures> {
    let own: ClassWords = evaluator.class_words();
    let (classes, place) = with_target(&own, target);
    let samples: Vec<&Sample> = evaluator.samples.iter().collect();
    let side = Measurement { samples, classes: &classes, target: place };
    let seen: Seen = subject.look(&side)?;
    subject.measure(&side, &seen, direction)
}
