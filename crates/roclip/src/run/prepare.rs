//! From a recipe to data: everything that can be wrong with a recipe's inputs is found here, before any work.

use crate::checkpoint::{self, Loaded};
use crate::error::{Error, Result};
use crate::eval::{Evaluator, GUESSES};
use crate::model::ModelConfig;
use crate::recipe::Recipe;
use crate::run::warnings::warnings;
use roclip_data::pairs::{Pairs, limit_pairs_per_picture};
use roclip_data::poison::{Candidates, Manifest, Screen, plan};
use roclip_data::skip::SkipReport;
use roclip_data::source::read_samples;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::Device;

/// Data, evaluator and manifest of a recipe: what both `train` and `poison make` begin with.
pub struct Prepared {
    pub pairs: Pairs,
    pub evaluator: Evaluator,
    pub manifest: Option<Manifest>,
    pub model: ModelConfig,
    pub skips: SkipReport,
    /// What a person should know before the work.
    pub warnings: Vec<String>,
}

/// Reads everything a recipe names, and lays the poison over it. All errors of the recipe come from here, before any work.
pub fn prepare_data(recipe: &Recipe) -> Result<Prepared> {
    let mut prepared = prepare_clean_data(recipe)?;
    prepared.manifest = manifest(recipe, &prepared)?;
    if let Some(manifest) = &prepared.manifest {
        prepared.evaluator.check_targets(manifest)?;
    }
    if let Some(clean) = &recipe.clean {
        // The trusted pairs hold none of the poison; the manifest only says what to measure.
        clean.keep_usable(&mut prepared.pairs, &prepared.evaluator.classes)?;
        clean.choose(&mut prepared.pairs, recipe.seed)?;
    } else if let Some(manifest) = &prepared.manifest {
        let (pairs, others) = (&mut prepared.pairs, &prepared.evaluator.samples);
        match recipe.poison.measure_only {
            true => manifest.leave_out(pairs, others)?,
            false => manifest.apply(pairs, others)?,
        }
    }
    Ok(prepared)
}

/// [`prepare_data`] with the pairs that training sees: at most `data.pairs_per_picture` of each picture, which takes reading them all.
pub fn prepare_training(recipe: &Recipe) -> Result<Prepared> {
    let mut prepared = prepare_data(recipe)?;
    if let Some(limit) = recipe.data.pairs_per_picture {
        let data = &recipe.data;
        let left_out = limit_pairs_per_picture(&mut prepared.pairs, limit, data.limits, data.workers, recipe.seed)?;
        prepared.skips.merge(left_out);
    }
    prepared.warnings.extend(warnings(recipe, prepared.pairs.len()));
    Ok(prepared)
}

/// The recipe's own manifest, that of the victim it cleans, or one drawn for its attacks.
fn manifest(recipe: &Recipe, prepared: &Prepared) -> Result<Option<Manifest>> {
    if let Some(path) = manifest_file(recipe) {
        return Ok(Some(Manifest::read(&path)?));
    }
    if recipe.clean.is_some() || recipe.poison.attacks.is_empty() {
        return Ok(None);
    }
    let Prepared { pairs, evaluator, model, .. } = prepared;
    let reference = match &recipe.poison.reference {
        Some(path) => Some(reference(path)?),
        None => None,
    };
    let screen = match (&reference, recipe.poison.beyond_guesses) {
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Error::setting(
                "poison.beyond_guesses without poison.reference",
                "say whose guesses, or leave it out",
            ));
        }
        (Some(Loaded { model, tokenizer, .. }), None) => {
            Some(Screen::ReadRightly(evaluator.read_rightly(model, tokenizer)?))
        }
        (Some(_), Some(count)) if !(1..=GUESSES).contains(&count) => {
            return Err(Error::setting(
                format!("poison.beyond_guesses = {count}"),
                format!("choose it between 1 and {GUESSES}"),
            ));
        }
        (Some(Loaded { model, tokenizer, .. }), Some(count)) => {
            Some(Screen::Guesses(evaluator.first_guesses(model, tokenizer, count)?))
        }
    };
    let read_as = match &reference {
        Some(loaded) if recipe.poison.reads_captions() => {
            let captions: BTreeSet<&String> = pairs.pairs.iter().flat_map(|pair| &pair.captions).collect();
            Some(evaluator.read_captions(&loaded.model, &loaded.tokenizer, captions.into_iter().cloned().collect())?)
        }
        _ => None,
    };
    let candidates = Candidates { samples: &evaluator.samples, screen: screen.as_ref(), read_as: read_as.as_ref() };
    let templates = &evaluator.templates.0;
    let mut manifest = plan(&recipe.poison, recipe.seed, pairs, candidates, templates, model.image_size())?;
    manifest.header.reference_sha256 = reference.and_then(|mut loaded| loaded.state.files.remove("model.safetensors"));
    Ok(Some(manifest))
}

/// The model that says what may become a target. On the CPU, so that no plan depends on the device.
fn reference(path: &Path) -> Result<Loaded> {
    let loaded = checkpoint::load(path, Device::Cpu)?;
    let remedy = "set poison.reference to a model trained without poison (`--set poison=`)";
    loaded.state.provenance.must_be_clean(path, remedy)?;
    Ok(loaded)
}

/// The manifest that the recipe names, or that of the victim it cleans.
pub(super) fn manifest_file(recipe: &Recipe) -> Option<PathBuf> {
    let victims = recipe.clean.as_ref().map(|clean| clean.victim.join("manifest.jsonl"));
    recipe.manifest.clone().or_else(|| victims.filter(|path| path.is_file()))
}

/// [`prepare_data`] without any poison.
pub fn prepare_clean_data(recipe: &Recipe) -> Result<Prepared> {
    let model = ModelConfig::named(&recipe.model.name)?;
    let (samples, skips) = read_samples(&recipe.data.source)?;
    let mut pairs = Pairs::new(samples, recipe.data.captions);
    pairs.pairs.retain(|pair| !pair.captions.is_empty());
    if pairs.is_empty() {
        return Err(Error::setting(
            "no sample of the training data has a caption",
            "set the caption column, or use another source",
        ));
    }
    let evaluator = Evaluator::new(&recipe.eval, recipe.data.limits)?;
    Ok(Prepared { pairs, evaluator, manifest: None, model, skips, warnings: Vec::new() })
}
