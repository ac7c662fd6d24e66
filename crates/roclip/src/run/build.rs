//! From a recipe and its data to a trainer.

use crate::clean::Setup;
use crate::error::{Error, Result};
use crate::model::{ModelConfig, VisionLayers};
use crate::objective::{CaptionObjective, Objective, RunShape};
use crate::recipe::Recipe;
use crate::run::context::{Context, KnownPrompts};
use crate::run::named::named;
use crate::run::plain::plain_transform;
use crate::run::prepare::Prepared;
use crate::run::start::{Started, start};
use crate::run::supervision::supervision;
use crate::train::{BatchNormRows, Parts, TrainConfig, Trainer};
use crate::world::World;
use roclip_data::artifact;
use roclip_data::augment::TextAugment;
use roclip_data::batch::{Loader, Transform, ViewAugment};
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// Share of synonyms that may be unknown without a word.
const WORTH_A_WARNING: f64 = 0.05;

/// What there is to know of BatchNorm where a process encodes its part of a batch in chunks. None where it does not, or the model has none.
///
/// # Errors
/// Statistics of the whole batch of several processes, which cannot be had chunk by chunk.
fn batch_norm_in_chunks(train: &TrainConfig, model: &ModelConfig, world: &World) -> Result<Option<String>> {
    let own = train.batch_size.div_ceil(world.size());
    let Some(at_once) = train.encode_batch_size.filter(|at_once| *at_once < own) else { return Ok(None) };
    if !matches!(model.vision_cfg.layers, VisionLayers::ResNet(_)) {
        return Ok(None);
    }
    if !world.is_alone() && train.batch_norm == BatchNormRows::WholeBatch {
        return Err(Error::setting(
            format!(
                "train.encode_batch_size is {at_once}, and train.batch_norm is whole-batch: what is encoded {at_once} at a time has no \
                 statistics of the whole batch"
            ),
            format!(
                "set train.batch_norm = \"per-process\", which takes them from the {at_once} pairs that are encoded at once; or take \
                 train.encode_batch_size out; or train a model without BatchNorm (--model ViT-B-32)"
            ),
        ));
    }
    Ok(Some(format!(
        "BatchNorm takes its statistics from the {at_once} pairs that are encoded at once (train.encode_batch_size), not from all {own}: \
         this is another training than that of whole batches. A ViT has no BatchNorm and trains the same",
    )))
}

/// The trainer of a recipe, standing before its first step. `run` is the folder that ABD keeps its patch in; `world` says which rows of a
/// batch are this process's.
pub(super) fn build<'a>(
    recipe: &'a Recipe,
    prepared: Prepared,
    (device, world): (Device, &World),
    run: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(Trainer, Context<'a>)> {
    let Prepared { pairs, mut evaluator, references, manifest, model: config, skips, dropped, .. } = prepared;
    let clean_pairs = pairs.len() - pairs.poisoned().count();
    let fingerprint = match &dropped {
        None => pairs.fingerprint(),
        // A run goes on with the list that it began with, whatever another one would leave out.
        Some(dropped) => artifact::sha256_hex(format!("{} {}", pairs.fingerprint(), dropped.digest).as_bytes()),
    };
    let Started { model, tokenizer, mut origin } = match &recipe.clean {
        Some(clean) => {
            let victim = clean.load_victim(device)?;
            let origin = Some(victim.origin(&clean.victim));
            Started { model: victim.model, tokenizer: victim.tokenizer, origin }
        }
        None => start(recipe, config, &pairs, &evaluator, device)?,
    };
    if let (Some(text), Some(_)) = (&recipe.augment.text, tokenizer.compact()) {
        let unknown = TextAugment::new(text.clone())?.unknown_share(&tokenizer, pairs.captions());
        if unknown > WORTH_A_WARNING {
            progress(&format!(
                "{:.0} % of the synonyms that augment.text draws are not in the compact vocabulary and become its unknown token \
                 (model.compact_vocabulary = false keeps them)",
                100.0 * unknown
            ));
        }
    }
    if let Some(warning) = batch_norm_in_chunks(&recipe.train, model.config(), world)? {
        progress(&format!("warning: {warning}"));
    }
    if let Some(remark) = recipe.train.precision.remark(device) {
        progress(&format!("warning: {remark}"));
    }
    let tokenizer = Arc::new(tokenizer);
    let pairs = Arc::new(pairs);
    let plain = plain_transform(recipe, &model, Arc::clone(&tokenizer));
    let (batch_size, workers) = (recipe.train.batch_size, recipe.data.workers);
    let transform = match &recipe.clean {
        Some(clean) => {
            let pairs = &pairs;
            clean.transform(Setup { clean, run, pairs, plain: &plain, batch_size, workers, device, progress })?
        }
        None => {
            let text = recipe.augment.text.clone().map(TextAugment::new).transpose()?;
            let view = ViewAugment { image: recipe.augment.image.clone(), overlay: None, text };
            Transform { views: [view.clone(), view], ..plain }
        }
    };
    let loader = Loader::new(Arc::clone(&pairs), transform, batch_size, workers)?.shared(world.rank(), world.size())?;
    let shape = RunShape {
        seed: recipe.seed,
        epochs: recipe.train.epochs,
        pairs: pairs.len(),
        batch_size: recipe.train.batch_size,
        embed_dim: model.config().embed_dim,
        learning_rate: recipe.train.learning_rate,
        warmup_steps: recipe.train.warmup(loader.steps_per_epoch().saturating_mul(recipe.train.epochs)),
        device,
    };
    let objective: Box<dyn Objective> = match (&recipe.clean, &recipe.caption) {
        (Some(clean), _) => clean.objective(shape, &pairs, &evaluator.classes)?,
        (None, Some(caption)) => Box::new(CaptionObjective::new(caption, model.config(), shape)?),
        (None, None) => {
            let (supervision, taught_by) = supervision(recipe, &pairs, &evaluator, &model, device)?;
            origin = taught_by.or(origin);
            recipe.objective.build(shape, supervision)?
        }
    };
    let parts = Parts { seed: recipe.seed, pairs, loader, model, objective, device, world: world.clone() };
    let mut trainer = Trainer::new(recipe.train.clone(), parts);
    trainer.skips = skips;
    let teacher = trainer.objective.teacher().map(|teacher| &teacher.model);
    let named = named(recipe, &evaluator, references.as_ref(), teacher)?;
    // Until here each process has measured for itself.
    evaluator.share(world);
    Ok((
        trainer,
        Context {
            recipe,
            evaluator,
            references,
            manifest,
            tokenizer,
            origin,
            fingerprint,
            named,
            clean_pairs,
            dropped,
            prompts: KnownPrompts::default(),
        },
    ))
}
