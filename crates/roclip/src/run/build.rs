//! From a recipe and its data to a trainer.

use crate::checkpoint;
use crate::error::Result;
use crate::eval::Evaluator;
use crate::objective::{ClipObjective, Objective, RoClip, RunShape, SafeClip};
use crate::recipe::{ObjectiveName, Recipe};
use crate::run::clean::Cleaning;
use crate::run::context::Context;
use crate::run::prepare::Prepared;
use crate::run::start::{Started, start};
use crate::train::{Parts, Trainer};
use roclip_data::augment::TextAugment;
use roclip_data::batch::{Loader, Transform, ViewAugment};
use roclip_data::pairs::Pairs;
use roclip_data::tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// Share of synonyms that may be unknown without a word.
const WORTH_A_WARNING: f64 = 0.05;

/// The trainer of a recipe, standing before its first step. `run` is the folder that ABD keeps its patch in.
pub(super) fn build<'a>(
    recipe: &'a Recipe,
    prepared: Prepared,
    device: Device,
    run: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(Trainer, Context<'a>)> {
    let Prepared { pairs, evaluator, manifest, model: config, skips, .. } = prepared;
    let clean_pairs = pairs.pairs.iter().filter(|pair| pair.poison.is_none()).count();
    let fingerprint = pairs.fingerprint();
    let Started { model, tokenizer, origin } = match &recipe.clean {
        Some(clean) => {
            let victim = checkpoint::load(&clean.victim, device)?;
            let origin = Some(victim.origin(&clean.victim));
            Started { model: victim.model, tokenizer: victim.tokenizer, origin }
        }
        None => start(recipe, config, &pairs, &evaluator, device)?,
    };
    if let (Some(text), Some(_)) = (&recipe.augment.text, tokenizer.compact()) {
        let captions = pairs.pairs.iter().flat_map(|pair| &pair.captions).map(String::as_str);
        let unknown = TextAugment::new(text.clone())?.unknown_share(&tokenizer, captions);
        if unknown > WORTH_A_WARNING {
            progress(&format!(
                "warning: {:.0} % of the synonyms that augment.text draws are not in the compact vocabulary and become its unknown token; \
                 set model.compact_vocabulary = false to keep them",
                100.0 * unknown
            ));
        }
    }
    let tokenizer = Arc::new(tokenizer);
    let pairs = Arc::new(pairs);
    let image_size = model.config().image_size();
    let transform = transform(recipe, &pairs, &tokenizer, image_size, &mut |transform| {
        let Some(clean) = &recipe.clean else { return Ok(None) };
        Cleaning { recipe, clean, run, device }.patch(&pairs, transform, progress)
    })?;
    let loader = Loader::new(Arc::clone(&pairs), transform, recipe.train.batch_size, recipe.data.workers)?;
    let shape = RunShape {
        seed: recipe.seed,
        epochs: recipe.train.epochs,
        pairs: pairs.len(),
        batch_size: recipe.train.batch_size,
        embed_dim: model.config().embed_dim,
        learning_rate: recipe.train.learning_rate,
        warmup_steps: recipe.train.warmup_steps,
        device,
    };
    let objective = objective(recipe, shape, &pairs, &evaluator)?;
    let reference = match &recipe.clean {
        Some(clean) if objective.needs_reference() => Some(checkpoint::load(&clean.victim, device)?.model),
        _ => None,
    };
    let parts = Parts { seed: recipe.seed, pairs, loader, model, reference, objective, device };
    let mut trainer = Trainer::new(recipe.train.clone(), parts);
    trainer.skips = skips;
    Ok((trainer, Context { recipe, evaluator, manifest, tokenizer, origin, fingerprint, clean_pairs }))
}

type Patch<'a> = dyn FnMut(&Transform) -> Result<Option<image::RgbImage>> + 'a;

/// What pairs go through on their way into a batch. `patch` finds the patch of the method that needs one.
fn transform(
    recipe: &Recipe,
    pairs: &Arc<Pairs>,
    tokenizer: &Arc<Tokenizer>,
    image_size: u32,
    patch: &mut Patch,
) -> Result<Transform> {
    let plain = Transform {
        seed: recipe.seed,
        image_size,
        limits: recipe.data.limits,
        views: Default::default(),
        sub_captions: None,
        tokenizer: Arc::clone(tokenizer),
        cache_bytes: recipe.data.cache_mib << 20,
    };
    match &recipe.clean {
        Some(clean) => {
            let patch = patch(&plain)?;
            let views = clean.views(patch, image_size)?;
            Ok(Transform { views, sub_captions: clean.sub_captions(pairs)?, ..plain })
        }
        None => {
            let text = recipe.augment.text.clone().map(TextAugment::new).transpose()?;
            let view = ViewAugment { image: recipe.augment.image.clone(), overlay: None, text };
            Ok(Transform { views: [view.clone(), view], ..plain })
        }
    }
}

fn objective(recipe: &Recipe, shape: RunShape, pairs: &Pairs, evaluator: &Evaluator) -> Result<Box<dyn Objective>> {
    Ok(match (&recipe.clean, recipe.objective.name) {
        (Some(clean), _) => clean.objective(shape, pairs, &evaluator.classes),
        (None, ObjectiveName::Clip) => Box::new(ClipObjective),
        (None, ObjectiveName::Roclip) => Box::new(RoClip::new(recipe.objective.roclip.clone(), shape)?),
        (None, ObjectiveName::Safeclip) => Box::new(SafeClip::new(recipe.objective.safeclip.clone(), shape)?),
    })
}
