//! From a recipe to data: everything that can be wrong with a recipe's inputs is found here, before any work.

use crate::checkpoint::{self, Description, Loaded, Provenance};
use crate::clean::CleanConfig;
use crate::error::{Error, Result};
use crate::eval::{Evaluator, GUESSES, foreign_evaluation, unchosen_splits};
use crate::model::ModelConfig;
use crate::recipe::Recipe;
use crate::run::warnings::warnings;
use roclip_data::pairs::{Pairs, limit_pairs_per_picture};
use roclip_data::poison::{Candidates, Manifest, Planned, Screen, Source, plan};
use roclip_data::skip::SkipReport;
use roclip_data::source::{Listing, list_samples};
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
    if prepared.evaluator.is_of_nothing() && (manifest_file(recipe).is_some() || !recipe.poison.attacks.is_empty()) {
        return Err(Error::setting(
            "an attack is drawn for labelled images and measured on them, and eval.source.path is `none`",
            "name labelled images with --val-data, or take the attacks out (--set poison=)",
        ));
    }
    if let Some((planned, warning)) = manifest(recipe, &prepared)? {
        prepared.warnings.extend(warning);
        prepared.skips.merge(planned.skips);
        prepared.manifest = Some(planned.manifest);
    }
    let all = prepared.manifest.clone();
    if let Some(manifest) = &prepared.manifest {
        // A model may be cleaned for other classes than those it was attacked on: what they cannot show is said, and not measured.
        let elsewhere = recipe.clean.is_some() && !prepared.evaluator.has_targets(manifest);
        let lines = match elsewhere {
            true => {
                let (measurable, lines) = prepared.evaluator.measurable(manifest);
                prepared.manifest = measurable;
                lines
            }
            false => prepared.evaluator.check_targets(manifest)?.into_iter().collect(),
        };
        prepared.evaluator.warnings.extend(lines.clone());
        prepared.warnings.extend(lines);
    }
    if let Some(clean) = &recipe.clean {
        // The trusted pairs hold none of the poison; the manifest says what to measure, and which pairs of a written set are poison.
        leave_out_victims_poison(recipe, clean, all.as_ref(), &mut prepared)?;
        clean.keep_usable(&mut prepared.pairs, &prepared.evaluator.classes)?;
        clean.choose(&mut prepared.pairs, recipe.seed)?;
    } else if let Some(manifest) = &prepared.manifest {
        let (pairs, others) = (&mut prepared.pairs, &prepared.evaluator.samples);
        match recipe.poison.measure_only {
            true => manifest.leave_out(pairs, others)?,
            false => {
                if recipe.manifest.is_some() {
                    manifest.check_pictures(pairs, others, recipe.data.limits)?;
                }
                manifest.apply(pairs, others)?;
            }
        }
    }
    Ok(prepared)
}

/// Takes poisoned pairs that the data holds out of the trusted ones: those of `manifest`, which is measured, and those of the victim's own.
fn leave_out_victims_poison(
    recipe: &Recipe,
    clean: &CleanConfig,
    manifest: Option<&Manifest>,
    prepared: &mut Prepared,
) -> Result<()> {
    let mut left_out = manifest.map_or(0, |manifest| manifest.leave_out_stored(&mut prepared.pairs));
    if let (Some(_), Some(path)) = (&recipe.manifest, victims_manifest(clean)) {
        left_out += Manifest::read(&path, recipe.data.limits)?.leave_out_stored(&mut prepared.pairs);
    }
    if left_out > 0 {
        let said = format!("the data holds {left_out} poisoned pairs of the victim's; they are left out");
        prepared.warnings.push(said);
    }
    Ok(())
}

/// [`prepare_data`] with the pairs that training sees: at most `data.pairs_per_picture` of each picture, which takes reading them all.
pub fn prepare_training(recipe: &Recipe) -> Result<Prepared> {
    let mut prepared = prepare_data(recipe)?;
    if let Some(limit) = recipe.data.pairs_per_picture {
        let data = &recipe.data;
        let left_out = limit_pairs_per_picture(&mut prepared.pairs, limit, data.limits, data.workers, recipe.seed)?;
        prepared.skips.merge(left_out);
    }
    let poisoned = prepared.pairs.pairs.iter().filter(|pair| pair.poison.is_some()).count();
    prepared.warnings.extend(warnings(recipe, prepared.pairs.len(), poisoned));
    Ok(prepared)
}

/// The recipe's own manifest, that of the victim it cleans, or one drawn for its attacks.
/// With it what a person should know of who chose the targets.
fn manifest(recipe: &Recipe, prepared: &Prepared) -> Result<Option<(Planned, Option<String>)>> {
    if let Some(path) = manifest_file(recipe) {
        let manifest = Manifest::read(&path, recipe.data.limits)?;
        return Ok(Some((Planned { manifest, skips: SkipReport::default() }, None)));
    }
    if recipe.clean.is_some() || recipe.poison.attacks.is_empty() {
        return Ok(None);
    }
    let Prepared { pairs, evaluator, model, .. } = prepared;
    let reference = match &recipe.poison.reference {
        Some(path) => Some(unattacked_model(path, Description::Beside, Device::Cpu, "poison.reference")?),
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
    let source = Source {
        seed: recipe.seed,
        pairs,
        candidates,
        templates: &evaluator.templates.0,
        image_size: model.image_size(),
        limits: recipe.data.limits,
    };
    let mut planned = plan(&recipe.poison, &source)?;
    let unknown = reference.as_ref().filter(|loaded| loaded.origin.provenance == Provenance::Unknown);
    let warning = unknown.map(|loaded| {
        format!(
            "nothing is known of poison behind `{}` (poison.reference), which has a say in what becomes a target",
            loaded.origin.path
        )
    });
    planned.manifest.header.reference_sha256 = reference.map(|loaded| loaded.origin.sha256);
    Ok(Some((planned, warning)))
}

/// A model that is not known to have been attacked, for `setting`. What says what may become a target is loaded on the CPU, so that no plan
/// depends on the device.
pub(super) fn unattacked_model(path: &Path, description: Description, device: Device, setting: &str) -> Result<Loaded> {
    let loaded = checkpoint::load_as(path, description, device)?;
    let remedy = format!("set {setting} to a model trained without poison (`--set poison=`)");
    loaded.origin.provenance.must_not_be_attacked(path, &remedy)?;
    Ok(loaded)
}

/// The manifest that the recipe names, or that of the victim it cleans, which may be a run or one of its checkpoints.
pub(super) fn manifest_file(recipe: &Recipe) -> Option<PathBuf> {
    recipe.manifest.clone().or_else(|| recipe.clean.as_ref().and_then(victims_manifest))
}

/// The manifest beside the victim, or in the run that the victim is a checkpoint of.
fn victims_manifest(clean: &CleanConfig) -> Option<PathBuf> {
    let folders = [Some(clean.victim.clone()), checkpoint::run_of(&clean.victim)];
    let mut kept = folders.into_iter().flatten().map(|folder| folder.join("manifest.jsonl"));
    kept.find(|path| path.is_file())
}

/// [`prepare_data`] without any poison.
pub fn prepare_clean_data(recipe: &Recipe) -> Result<Prepared> {
    let model = ModelConfig::named(&recipe.model.name)?;
    let data = &recipe.data;
    let mut listing = list_samples(&data.source, data.limits)?;
    if listing.samples.iter().all(|sample| sample.captions.is_empty()) {
        return Err(Error::setting(
            "no sample of the training data has a caption",
            "set the caption column, or use another source",
        ));
    }
    listing.require_captions();
    listing.probe(data.limits, data.workers);
    listing.check_losses(data.max_skip_fraction, "data.source")?;
    let Listing { samples, skips, .. } = listing;
    let pairs = Pairs::new(samples, data.captions);
    let evaluator = Evaluator::new(&recipe.eval, recipe.data.reading())?;
    let mut warnings: Vec<String> = foreign_evaluation(&recipe.data.source, &recipe.eval.source).into_iter().collect();
    warnings.extend(unchosen_splits(&pairs.samples, &recipe.data.source, "data.source"));
    warnings.extend(evaluator.warnings.iter().cloned());
    Ok(Prepared { pairs, evaluator, manifest: None, model, skips, warnings })
}
