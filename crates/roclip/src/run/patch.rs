//! The search of BadCLIP's patch, from a recipe's data and a surrogate checkpoint to a PNG file.

use crate::attack::{BadClipConfig, optimise_patch};
use crate::checkpoint::{self, Description};
use crate::error::{Error, Result};
use crate::eval::BackdoorOutcome;
use crate::recipe::Recipe;
use crate::run::device::machine;
use crate::run::plain::plain_transform;
use crate::run::prepare::{Prepared, prepare_clean_data, unattacked_model};
use roclip_data::artifact;
use roclip_data::poison::{AttackConfig, Candidates, PoisonConfig, Source, plan};
use roclip_data::trigger::{AttackTriggers, Material, PatchSettings, TriggerSettings};
use std::path::Path;
use std::sync::Arc;

/// Name of the attack in the plan that measures the patch.
const MEASURED: &str = "patch";

/// The model that a patch is optimised against.
#[derive(Debug, Clone, Copy)]
pub struct Surrogate<'a> {
    /// A run, a checkpoint, or a model of open_clip's or transformers' layout.
    pub path: &'a Path,
    /// Where such a model says what it is.
    pub description: Description<'a>,
    /// Whether it may have been trained on poison: the patch is then found against what another attack made of it.
    pub may_be_poisoned: bool,
}

/// Writes the patch to `out`. What the surrogate itself makes of test pictures that carry it.
///
/// # Errors
/// A surrogate that was trained on poison, where it must not have been.
pub fn search_patch(
    recipe: &Recipe,
    surrogate: Surrogate,
    config: &BadClipConfig,
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<BackdoorOutcome> {
    let device = machine(recipe)?;
    let Prepared { pairs, evaluator, .. } = prepare_clean_data(recipe)?;
    evaluator.check_target(&config.target)?;
    let loaded = match surrogate.may_be_poisoned {
        true => checkpoint::load_as(surrogate.path, surrogate.description, device)?,
        false => unattacked_model(surrogate.path, surrogate.description, device, "SURROGATE")?,
    };
    let tokenizer = Arc::new(loaded.tokenizer);
    let image_size = loaded.model.config().image_size();
    let transform = plain_transform(recipe, &loaded.model, Arc::clone(&tokenizer));
    let patch = optimise_patch(config, &loaded.model, &pairs, transform, device, progress)?;
    artifact::write(out, Material::of_picture(&patch)?.bytes())?;

    let attack = AttackConfig {
        name: MEASURED.into(),
        triggers: AttackTriggers(vec![TriggerSettings::Patch(PatchSettings {
            picture: out.to_path_buf(),
            corner: config.corner,
        })]),
        target: Some(config.target.clone()),
        count: Some(1),
        ..AttackConfig::default()
    };
    let poison = PoisonConfig { attacks: vec![attack], ..PoisonConfig::default() };
    let candidates = Candidates { samples: &evaluator.samples, screen: None, read_as: None };
    let source = Source {
        seed: recipe.seed,
        pairs: &pairs,
        labelled: false,
        candidates,
        templates: &evaluator.templates.0,
        image_size,
        limits: recipe.data.limits,
    };
    let manifest = plan(&poison, &source)?.manifest;
    let mut evaluation = evaluator.evaluate(&loaded.model, &tokenizer, Some(&manifest))?;
    evaluation.asr.remove(MEASURED).ok_or_else(|| Error::internal("the patch was not measured"))
}
