//! What cleaning runs do beside training: the search of ABD's patch before it, the rebound test after it.

use crate::checkpoint;
use crate::clean::{CleanConfig, CleanMethod, HarmlessTuning, ReboundConfig};
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::objective::{Phase, Place};
use crate::recipe::Recipe;
use crate::run::build::build;
use crate::run::prepare::{manifest_file, prepare_training};
use crate::run::summary::ReboundPoint;
use crate::train::Trainer;
use image::RgbImage;
use roclip_data::artifact;
use roclip_data::batch::{Loader, PassPlan, Transform};
use roclip_data::pairs::Pairs;
use roclip_data::picture::{ImageLimits, decode};
use roclip_data::trigger::Material;
use std::path::Path;
use std::sync::Arc;
use tch::Device;

pub(super) struct Cleaning<'a> {
    pub recipe: &'a Recipe,
    pub clean: &'a CleanConfig,
    pub run: &'a Path,
    pub device: Device,
}

impl Cleaning<'_> {
    /// The patch of ABD: searched once, and kept in the run as `patch.png`.
    pub fn patch(
        &self,
        pairs: &Arc<Pairs>,
        transform: &Transform,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Option<RgbImage>> {
        if self.clean.method != CleanMethod::Abd {
            return Ok(None);
        }
        let path = self.run.join("patch.png");
        if path.is_file() {
            let picture = decode(&artifact::read(&path)?, ImageLimits::default());
            return picture
                .map(Some)
                .map_err(|skip| Error::file(&path, skip.detail, "remove it, and it is searched again"));
        }
        // Searching freezes weights, so it gets a copy of its own.
        let victim = checkpoint::load(&self.clean.victim, self.device)?.model;
        let reference = self.reference(&victim)?;
        let plain = Transform {
            views: Default::default(),
            sub_captions: None,
            tokenizer: Arc::clone(&transform.tokenizer),
            ..*transform
        };
        let loader = Loader::new(Arc::clone(pairs), plain, self.recipe.train.batch_size, self.recipe.data.workers)?;
        let patch =
            self.clean.abd.search(&victim, reference.as_ref(), &loader, self.recipe.seed, self.device, progress)?;
        artifact::write(&path, Material::of_picture(&patch)?.bytes())?;
        Ok(Some(patch))
    }

    /// The clean model of ABD's backdoor term.
    fn reference(&self, victim: &Clip) -> Result<Option<Clip>> {
        let Some(path) = &self.clean.abd.reference else { return Ok(None) };
        let reference = checkpoint::load(path, self.device)?.model;
        let shape = |model: &Clip| (model.config().embed_dim, model.config().image_size());
        let ((dim, size), (wanted_dim, wanted_size)) = (shape(&reference), shape(victim));
        if (dim, size) != (wanted_dim, wanted_size) {
            return Err(Error::file(
                path,
                format!(
                    "has features of {dim} dimensions of {size} pixels, and the victim {wanted_dim} of {wanted_size}"
                ),
                "give a clean model of the victim's kind as clean.abd.reference, or none",
            ));
        }
        Ok(Some(reference))
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
        clean.method = CleanMethod::Finetune;
        clean.pairs = None;
        clean.rebound = None;
    }
    let mut prepared = prepare_training(&harmless)?;
    if let (Some(clean), Some(wanted)) = (&mut harmless.clean, config.pairs) {
        clean.pairs = Some(wanted.min(prepared.pairs.len()));
        clean.choose(&mut prepared.pairs, harmless.seed)?;
    }
    let (mut trainer, context) = build(&harmless, prepared, device, run, progress)?;
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
            trainer.step(&batch?, place)?;
            done += 1;
            measure(&trainer, done, progress)?;
        }
        epoch += 1;
    }
    Ok(points)
}
