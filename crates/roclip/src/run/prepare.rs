//! From a recipe to data: everything that can be wrong with a recipe's inputs is found here, before any work.

use crate::checkpoint::{self, Description, Loaded, Provenance};
use crate::error::{Error, Result};
use crate::eval::{
    CaptionEvaluator, Evaluator, GUESSES, foreign_evaluation, foreign_references, trained_references, unchosen_splits,
    unseen_classes,
};
use crate::model::ModelConfig;
use crate::recipe::Recipe;
use crate::run::looked::{Looked, check_list};
use crate::run::memory::check_fits;
use crate::run::supervision::{check_classes, without_tail};
use crate::run::warnings::warnings;
use crate::run::written_poison::{check_not_twice, leave_out, unspoken_beside};
use roclip_data::index::{IndexUse, Indexed, open_or_make};
use roclip_data::pairs::{CaptionMode, DropList, LeftOutByList, Pairs, limit_pairs_per_picture, weigh_parts};
use roclip_data::plural::count;
use roclip_data::poison::{Candidates, Manifest, Planned, Screen, Source, plan};
use roclip_data::skip::SkipReport;
use roclip_data::source::{Listing, list_samples, part_count};
use roclip_data::threads::processors;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::Device;

/// Data, evaluator and manifest of a recipe: what both `train` and `poison make` begin with.
pub struct Prepared {
    pub pairs: Pairs,
    pub evaluator: Evaluator,
    /// Pictures with references, where a captioner is trained.
    pub references: Option<CaptionEvaluator>,
    pub manifest: Option<Manifest>,
    pub model: ModelConfig,
    pub skips: SkipReport,
    /// What the list at `data.drop` left out.
    pub dropped: Option<LeftOutByList>,
    /// Pairs that say themselves that they are poison, by attack.
    pub written_poison: BTreeMap<String, usize>,
    /// What a person should know before the work.
    pub warnings: Vec<String>,
    /// What triggers found in the data.
    pub remarks: Vec<String>,
}

/// Reads everything a recipe names, and lays the poison over it. All errors of the recipe come from here, before any work.
pub fn prepare_data(recipe: &Recipe) -> Result<Prepared> {
    let mut prepared = prepare_clean_data(recipe)?;
    if let Some(distil) = recipe.distillation() {
        check_classes(distil, &prepared.evaluator.classes)?;
    }
    if prepared.evaluator.is_of_nothing() && poisons(recipe) {
        return Err(Error::setting(
            "an attack is drawn for labelled images and measured on them, and eval.source.path is `none`",
            "name labelled images with --val-data, or take the attacks out (--set poison=)",
        ));
    }
    if let Some((planned, warning)) = manifest(recipe, &prepared)? {
        prepared.warnings.extend(warning);
        prepared.skips.merge(planned.skips);
        prepared.remarks.extend(planned.remarks);
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
    if recipe.clean.is_none() && recipe.distillation().is_none() {
        let (found, pairs) = (&prepared.written_poison, prepared.pairs.len());
        prepared.warnings.extend(unspoken_beside(recipe, found, pairs, all.as_ref()));
    }
    // Whether these are all pairs that a look at them had, poison among them.
    let mut whole = false;
    if let Some(clean) = &recipe.clean {
        // The trusted pairs hold none of the poison; the manifest says what to measure, and which pairs of a written set are poison.
        leave_out_victims_poison(recipe, &clean.victim, all.as_ref(), &mut prepared)?;
        clean.keep_usable(&mut prepared.pairs, &prepared.evaluator.classes)?;
        clean.choose(&mut prepared.pairs, recipe.seed)?;
    } else if let Some(distil) = recipe.distillation() {
        leave_out_victims_poison(recipe, &distil.teacher, all.as_ref(), &mut prepared)?;
        prepared.remarks.extend(without_tail(recipe, &mut prepared.pairs, prepared.manifest.as_ref())?);
    } else if let Some(manifest) = &prepared.manifest {
        let (pairs, others) = (&mut prepared.pairs, &prepared.evaluator.samples);
        match recipe.poison.measure_only {
            true => manifest.leave_out(pairs, others)?,
            false => {
                if recipe.manifest.is_some() {
                    manifest.check_pictures(pairs, others, recipe.data.limits)?;
                }
                manifest.apply(pairs, others)?;
                whole = true;
            }
        }
    }
    if let (true, Some(path)) = (poisons(recipe), &recipe.data.drop) {
        let list = DropList::read(path)?;
        // A list of poisoned data names poison that these pairs are without, and pairs that were not chosen.
        let of_part = !whole && (recipe.clean.is_some() || Looked::beside(path).is_some());
        let dropped = match of_part {
            true => list.leave_out_of_part(&mut prepared.pairs)?,
            false => list.leave_out_pairs(&mut prepared.pairs)?,
        };
        if whole {
            check_list(path, &dropped)?;
        }
        prepared.dropped = Some(dropped);
    }
    prepared.warnings.extend(prepared.dropped.as_ref().and_then(LeftOutByList::warning));
    Ok(prepared)
}

/// Takes poisoned pairs that the data holds out of the trusted ones: those of `manifest`, which is measured, and those of the victim's own.
fn leave_out_victims_poison(
    recipe: &Recipe,
    victim: &Path,
    manifest: Option<&Manifest>,
    prepared: &mut Prepared,
) -> Result<()> {
    let mut left_out = manifest.map_or(0, |manifest| manifest.leave_out_stored(&mut prepared.pairs));
    if let (Some(_), Some(path)) = (&recipe.manifest, victims_manifest(victim)) {
        left_out += Manifest::read(&path, recipe.data.limits)?.leave_out_stored(&mut prepared.pairs);
    }
    if left_out > 0 {
        let said = format!("the data holds {left_out} poisoned pairs of the victim's; they are left out");
        prepared.warnings.push(said);
    }
    let written = leave_out(&mut prepared.pairs);
    if written > 0 {
        let said =
            format!("the data holds {written} pairs that `roclip poison make` wrote as poison; they are left out");
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
    if let Some(weights) = &recipe.data.weights {
        weigh_parts(&mut prepared.pairs, weights, part_count(&recipe.data.source.path), recipe.seed)?;
    }
    prepared.pairs.intact()?;
    let poisoned = prepared.pairs.poisoned().count();
    let left_out = prepared.dropped.as_ref().map_or(0, |left_out| left_out.poisoned);
    prepared.warnings.extend(warnings(recipe, prepared.pairs.len(), poisoned, left_out));
    if left_out > 0 && poisoned == 0 {
        // A limit of pairs a picture may have taken others.
        let all = if recipe.data.pairs_per_picture.is_none() { "all " } else { "" };
        let (pairs, are) = (count(left_out, "poisoned pair"), if left_out == 1 { "is" } else { "are" });
        let said = format!("{all}{pairs} {are} left out by data.drop (--drop): the model never meets the attack");
        prepared.remarks.push(said);
    }
    Ok(prepared)
}

/// The recipe's own manifest, that of the victim it cleans or the teacher it distils, or one drawn for its attacks.
/// With it what a person should know of who chose the targets.
fn manifest(recipe: &Recipe, prepared: &Prepared) -> Result<Option<(Planned, Option<String>)>> {
    if let Some(path) = manifest_file(recipe) {
        let manifest = Manifest::read(&path, recipe.data.limits)?;
        manifest.check_is_of_pairs()?;
        return Ok(Some((Planned { manifest, skips: SkipReport::default(), remarks: Vec::new() }, None)));
    }
    if recipe.clean.is_some() || recipe.distillation().is_some() || recipe.poison.attacks.is_empty() {
        return Ok(None);
    }
    check_not_twice(recipe, &prepared.written_poison)?;
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
            let captions: BTreeSet<String> = pairs.captions().map(Cow::into_owned).collect();
            Some(evaluator.read_captions(&loaded.model, &loaded.tokenizer, captions.into_iter().collect())?)
        }
        _ => None,
    };
    let candidates = Candidates { samples: &evaluator.samples, screen: screen.as_ref(), read_as: read_as.as_ref() };
    let source = Source {
        seed: recipe.seed,
        pairs,
        labelled: recipe.is_labelled(),
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

/// The manifest that the recipe names, or that of the victim it cleans or the teacher it distils, which may be a run or one of its checkpoints.
pub(super) fn manifest_file(recipe: &Recipe) -> Option<PathBuf> {
    let victim = recipe.clean.as_ref().map(|clean| &clean.victim);
    let victim = victim.or(recipe.distillation().map(|distil| &distil.teacher));
    recipe.manifest.clone().or_else(|| victim.and_then(|victim| victims_manifest(victim)))
}

/// The manifest beside the victim, or in the run that the victim is a checkpoint of.
fn victims_manifest(victim: &Path) -> Option<PathBuf> {
    let folders = [Some(victim.to_owned()), checkpoint::run_of(victim)];
    let mut kept = folders.into_iter().flatten().map(|folder| folder.join("manifest.jsonl"));
    kept.find(|path| path.is_file())
}

/// [`prepare_data`] without any poison.
pub fn prepare_clean_data(recipe: &Recipe) -> Result<Prepared> {
    let model = ModelConfig::named(&recipe.model.name)?;
    let data = &recipe.data;
    if recipe.is_labelled() {
        check_fits(&model, "model.name")?;
    }
    // Of data that poison is laid over, pairs are left out behind it: the manifest knows the data as a whole.
    let list = if poisons(recipe) { None } else { data.drop.as_deref().map(DropList::read).transpose()? };
    let wanted = match recipe.is_labelled() {
        // A classifier's labels are made of the whole list.
        true => IndexUse::Never,
        false => IndexUse::of(&data.index),
    };
    // The machine has nothing else to do then.
    let (indexed, said) = open_or_make(&data.source, data.limits, &wanted, processors())?;
    let mut remarks: Vec<String> = said.into_iter().collect();
    if let Some(Indexed { index, remark }) = indexed {
        // Single captions of pictures that draw among several cannot be left out of an index.
        if list.is_none() || data.captions == CaptionMode::Expand || index.one_caption() {
            remarks.extend(remark);
            let listing = index.listing()?;
            listing.check_shares(data.max_skip_fraction, "data.source")?;
            let mut pairs = Pairs::indexed(index, data.captions);
            let dropped = list.as_ref().map(|list| list.leave_out_pairs(&mut pairs)).transpose()?;
            pairs.intact()?;
            return measured(recipe, Listed { pairs, skips: listing.skips, dropped, remarks }, model, None);
        }
    }
    let mut listing = list_samples(&data.source, data.limits)?;
    let mut evaluator = None;
    if recipe.is_labelled() {
        let measured = Evaluator::new(&recipe.eval, recipe.data.reading())?;
        label(recipe, &mut listing, &measured)?;
        evaluator = Some(measured);
    } else if listing.samples.iter().all(|sample| sample.captions.is_empty()) {
        return Err(Error::setting(
            "no sample of the training data has a caption",
            "set the caption column, or use another source",
        ));
    } else {
        listing.require_captions();
    }
    let list = list.map(|list| list.among(listing.samples.iter().map(|sample| sample.id.as_str())));
    let dropped = list.as_ref().map(|list| list.found_in(&listing.samples)).transpose()?;
    if let Some(list) = &list {
        list.leave_out_samples(&mut listing.samples);
    }
    listing.probe(data.limits, data.workers);
    listing.check_losses(data.max_skip_fraction, "data.source")?;
    let Listing { samples, skips, .. } = listing;
    let mode = if recipe.is_labelled() { CaptionMode::First } else { data.captions };
    let pairs = match &list {
        Some(list) => list.pairs(samples, mode),
        None => Pairs::new(samples, mode),
    };
    measured(recipe, Listed { pairs, skips, dropped, remarks }, model, evaluator)
}

/// What is trained on.
struct Listed {
    pairs: Pairs,
    skips: SkipReport,
    dropped: Option<LeftOutByList>,
    remarks: Vec<String>,
}

/// The other data of a recipe beside its pairs.
fn measured(recipe: &Recipe, listed: Listed, model: ModelConfig, evaluator: Option<Evaluator>) -> Result<Prepared> {
    let Listed { mut pairs, skips, dropped, remarks } = listed;
    if let (Some(path), Some(dropped)) = (&recipe.data.drop, &dropped) {
        check_list(path, dropped)?;
    }
    let written_poison = pairs.mark_written_poison();
    let evaluator = evaluator.map_or_else(|| Evaluator::new(&recipe.eval, recipe.data.reading()), Ok)?;
    let mut warnings: Vec<String> = foreign_evaluation(&recipe.data.source, &recipe.eval.source).into_iter().collect();
    warnings.extend(unchosen_splits(&pairs.splits(), &recipe.data.source, "data.source"));
    let references = match &recipe.caption {
        Some(caption) => Some(CaptionEvaluator::new(&caption.references, recipe.data.reading())?),
        None => None,
    };
    // The samples of an index are not read for it.
    if !pairs.is_indexed() {
        let samples = pairs.all_samples();
        warnings.extend(unseen_classes(&samples, &evaluator.classes));
        let measured = references.as_ref().map_or(&[][..], |references| &references.samples);
        let remedy = "choose another split (--set data.source.split=train), or name other pictures with --val-data";
        warnings.extend(trained_references(&samples, measured, remedy));
    }
    if let Some(caption) = &recipe.caption {
        warnings.extend(foreign_references(&recipe.data.source, &caption.references));
    }
    // A captioner is measured by its captions.
    if references.is_none() || !evaluator.is_of_nothing() {
        warnings.extend(evaluator.warnings.iter().cloned());
    }
    let manifest = None;
    Ok(Prepared { pairs, evaluator, references, manifest, model, skips, dropped, written_poison, warnings, remarks })
}

/// Whether the recipe knows of poison.
fn poisons(recipe: &Recipe) -> bool {
    manifest_file(recipe).is_some() || !recipe.poison.attacks.is_empty()
}

/// Makes labelled pictures of what is listed. A student that learns from its teacher alone needs no labels.
fn label(recipe: &Recipe, listing: &mut Listing, evaluator: &Evaluator) -> Result<()> {
    if evaluator.classes.len() < 2 {
        return Err(Error::setting(
            format!("a classifier tells classes apart, and the evaluation has {}", evaluator.classes.len()),
            "name labelled images of two classes or more with --val-data (eval.source)",
        ));
    }
    let required = recipe.distillation().is_none_or(|config| config.label_weight > 0.0);
    if required && listing.samples.iter().all(|sample| sample.class.is_none()) {
        let weight =
            if recipe.distillation().is_some() { ", or give the labels no weight (--label-weight 0)" } else { "" };
        return Err(Error::setting(
            format!("no picture of the training data `{}` has a class", recipe.data.source.path),
            format!("set data.source.labels or class_column, or name folders of classes{weight}"),
        ));
    }
    listing.label(required, |sample| evaluator.class_of(sample))
}
