//! The search of BadCLIP's patch, from a recipe's data and a surrogate checkpoint to a PNG file.

use crate::attack::{BadClipConfig, optimise_patch};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::eval::BackdoorOutcome;
use crate::recipe::Recipe;
use crate::run::device::device;
use crate::run::prepare::{Prepared, prepare_clean_data};
use roclip_data::artifact;
use roclip_data::batch::Transform;
use roclip_data::poison::{AttackConfig, Candidates, PatchConfig, PoisonConfig, plan};
use roclip_data::trigger::Material;
use std::path::Path;
use std::sync::Arc;

/// Name of the attack in the plan that measures the patch.
const MEASURED: &str = "patch";

/// Writes the patch to `out`. What the surrogate itself makes of test pictures that carry it.
pub fn search_patch(
    recipe: &Recipe,
    surrogate: &Path,
    config: &BadClipConfig,
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<BackdoorOutcome> {
    if recipe.train.threads > 0 {
        tch::set_num_threads(recipe.train.threads);
    }
    let device = device(&recipe.train.device)?;
    let Prepared { pairs, evaluator, .. } = prepare_clean_data(recipe)?;
    evaluator.check_target(&config.target)?;
    let loaded = checkpoint::load(surrogate, device)?;
    loaded
        .state
        .provenance
        .must_be_clean(surrogate, "give a surrogate that was trained without poison (`--set poison=`)")?;
    let tokenizer = Arc::new(loaded.tokenizer);
    let image_size = loaded.model.config().image_size();
    let transform = Transform {
        seed: recipe.seed,
        image_size,
        limits: recipe.data.limits,
        views: Default::default(),
        sub_captions: None,
        tokenizer: Arc::clone(&tokenizer),
        cache_bytes: recipe.data.cache_mib << 20,
    };
    let patch = optimise_patch(config, &loaded.model, &pairs, transform, device, progress)?;
    artifact::write(out, Material::of_picture(&patch)?.bytes())?;

    let attack = AttackConfig {
        name: MEASURED.into(),
        patch: Some(PatchConfig { picture: out.to_path_buf(), corner: config.corner }),
        target: Some(config.target.clone()),
        count: Some(1),
        ..AttackConfig::default()
    };
    let poison = PoisonConfig { attacks: vec![attack], ..PoisonConfig::default() };
    let candidates = Candidates { samples: &evaluator.samples, screen: None, read_as: None };
    let manifest = plan(&poison, recipe.seed, &pairs, candidates, &evaluator.templates.0, image_size)?;
    let mut evaluation = evaluator.evaluate(&loaded.model, &tokenizer, Some(&manifest))?;
    evaluation.asr.remove(MEASURED).ok_or_else(|| Error::internal("the patch was not measured"))
}
