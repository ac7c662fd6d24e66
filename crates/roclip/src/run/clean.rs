//! What cleaning runs do beside training: no patch but their own, how far weights moved, and the rebound test.

use crate::clean::{CleanMethod, HarmlessTuning, PATCH, ReboundConfig};
use crate::error::{IoContext, Result};
use crate::model::Clip;
use crate::objective::{Phase, Place};
use crate::recipe::Recipe;
use crate::run::build::build;
use crate::run::prepare::{manifest_file, prepare_training};
use crate::run::summary::ReboundPoint;
use crate::train::{SharedBatch, Trainer};
use crate::world::World;
use roclip_data::batch::PassPlan;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// How far the weights of `cleaned` lie from those of `victim`, by the length of the victim's.
pub(super) fn distance(victim: &Clip, cleaned: &Clip) -> f64 {
    let (before, after) = (victim.parameters().trainable(), cleaned.parameters().trainable());
    let square = |tensor: &Tensor| tch::no_grad(|| tensor.square().sum(Kind::Double).double_value(&[]));
    let of = |difference: bool| -> f64 {
        let pairs = before.iter().filter_map(|(name, old)| Some((old, after.get(name)?)));
        pairs.map(|(old, new)| if difference { square(&tch::no_grad(|| new - old)) } else { square(old) }).sum()
    };
    (of(true) / of(false).max(f64::MIN_POSITIVE)).sqrt()
}

/// `recipe` without the search of a patch, which is work and leaves a file: whether a run could begin does not depend on what it finds.
pub(super) fn without_search(recipe: &Recipe) -> Recipe {
    let mut plain = recipe.clone();
    if let Some(clean) = plain.clean.as_mut().filter(|clean| clean.method == CleanMethod::Abd) {
        clean.method = CleanMethod::Finetune;
    }
    plain
}

/// Removes the patch that an earlier beginning in the folder `run` left, before its first checkpoint: it may be one of another victim.
pub(super) fn forget_patch(run: &Path) -> Result<()> {
    let patch = run.join(PATCH);
    match patch.is_file() {
        true => std::fs::remove_file(&patch).io("remove", &patch),
        false => Ok(()),
    }
}

/// The rebound test of the cleaned model in `run`: harmless fine-tuning, and the attacks measured along the way.
pub(super) fn rebound(
    recipe: &Recipe,
    config: &ReboundConfig,
    run: &Path,
    device: Device,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<ReboundPoint>> {
    // Another seed draws other pairs in another order than cleaning did.
    let (seed, manifest) = (recipe.seed.wrapping_add(1 << 32), manifest_file(recipe));
    let mut harmless = Recipe { seed, manifest, ..recipe.clone() };
    if let Some(clean) = &mut harmless.clean {
        clean.victim = run.to_path_buf();
        clean.victim_model = None;
        clean.method = CleanMethod::Finetune;
        clean.pairs = None;
        clean.rebound = None;
    }
    let mut prepared = prepare_training(&harmless)?;
    if let (Some(clean), Some(wanted)) = (&mut harmless.clean, config.pairs) {
        clean.pairs = Some(wanted.min(prepared.pairs.len()));
        clean.choose(&mut prepared.pairs, harmless.seed)?;
    }
    let (mut trainer, context) = build(&harmless, prepared, (device, &World::alone()), run, progress)?;
    let learning_rate = config.learning_rate.unwrap_or(recipe.train.learning_rate);
    trainer.objective = Box::new(HarmlessTuning { learning_rate });
    let mut points = Vec::new();
    let mut wanted = config.steps.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let last = wanted.last().copied().unwrap_or(0);
    let mut measure = |trainer: &Trainer, step: u64, progress: &mut dyn FnMut(&str)| -> Result<()> {
        if wanted.contains(&step) {
            let evaluation = context.evaluate(trainer)?;
            progress(&format!("rebound: {step} harmless steps"));
            points.push(ReboundPoint { step, evaluation });
        }
        Ok(())
    };
    measure(&trainer, 0, progress)?;
    let steps = trainer.loader.steps_per_epoch();
    let (mut done, mut epoch) = (0, 1);
    while done < last {
        let plan = PassPlan { epoch, pass: 0, two_views: false, first_step: 0, steps: steps.min(last - done) };
        for batch in trainer.loader.pass(trainer.loader.order(epoch, 0, None), plan) {
            let place = Place { phase: Phase::Clip, epoch, step: done, steps: last };
            let batch = SharedBatch::new(&trainer.world, batch?, recipe.train.batch_size, 0)?;
            trainer.step(&batch, place)?;
            done += 1;
            measure(&trainer, done, progress)?;
        }
        epoch += 1;
    }
    Ok(points)
}
