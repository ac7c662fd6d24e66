//! Measuring a captioner that was trained before.

use crate::checkpoint::load_captioner;
use crate::error::{Error, Result};
use crate::eval::{CaptionEvaluation, CaptionEvaluator, CaptionLine, Captioning, Reading};
use crate::model::captioner::SearchConfig;
use crate::objective::{CaptionConfig, ImageTower};
use crate::recipe::Recipe;
use roclip_data::source::SourceConfig;
use std::path::Path;
use tch::Device;

/// The recipe of the run that the captioner at `path` comes from, with its caption section; none where it is a checkpoint outside of its run.
pub fn captioner_recipe(path: &Path) -> Result<Option<(Recipe, CaptionConfig)>> {
    let Some(recipe) = Recipe::of_path(path)? else { return Ok(None) };
    let caption = recipe.caption.clone();
    Ok(caption.map(|caption| (recipe, caption)))
}

/// What is measured other than as the run's recipe says.
#[derive(Debug, Clone, Default)]
pub struct CaptionEval {
    pub references: Option<SourceConfig>,
    pub search: Option<SearchConfig>,
    /// Largest share of the pictures that may be left out because they cannot be used.
    pub max_skip_fraction: Option<f64>,
}

/// Captions, scores and baselines of the captioner at `path`, a run or one of its checkpoints.
///
/// # Errors
/// A path without a captioner, and what is wrong with the pictures.
pub fn evaluate_captions(
    path: &Path,
    eval: &CaptionEval,
    device: Device,
) -> Result<(CaptionEvaluation, Vec<CaptionLine>)> {
    let (loaded, captioner) = load_captioner(path, device)?;
    let saved = captioner_recipe(path)?;
    let references = eval.references.clone().or_else(|| saved.as_ref().map(|(_, caption)| caption.references.clone()));
    let references = references.ok_or_else(|| {
        Error::file(path, "is a checkpoint outside of its run", "name pictures with captions by --val-data")
    })?;
    let search = eval.search.or(saved.as_ref().map(|(_, caption)| caption.search)).unwrap_or_default();
    search.check(Some(loaded.model.config().text_cfg.context_length as usize))?;
    let own = saved.as_ref().map_or_else(Reading::default, |(recipe, _)| recipe.data.reading());
    let max_skip_fraction = eval.max_skip_fraction.unwrap_or(own.max_skip_fraction);
    let reading = Reading { max_skip_fraction, ..own };
    let evaluator = CaptionEvaluator::new(&references, reading)?;
    let training = match &saved {
        Some((recipe, _)) => reading.samples(&recipe.data.source, "data.source")?.0,
        None => Vec::new(),
    };
    let frozen = saved.as_ref().is_some_and(|(_, caption)| caption.image_tower == ImageTower::Frozen);
    let contrastive = frozen && loaded.state.as_ref().is_some_and(|state| state.trained_from.is_some());
    let of =
        Captioning { model: &loaded.model, captioner: &captioner, tokenizer: &loaded.tokenizer, search, contrastive };
    evaluator.measure(of, &training)
}
