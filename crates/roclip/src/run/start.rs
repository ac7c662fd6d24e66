//! The model that a training run starts from, its tokenizer and what is known of it: random weights, those of a file, or those of a
//! checkpoint.

use crate::checkpoint::{self, Description, Origin, is_checkpoint};
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::model::{Clip, ModelConfig, Preprocess};
use crate::recipe::Recipe;
use rand::Rng;
use roclip_data::pairs::Pairs;
use roclip_data::random;
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer};
use std::path::Path;
use tch::Device;

/// A model before its first step.
pub(super) struct Started {
    pub model: Clip,
    pub tokenizer: Tokenizer,
    /// None of random weights.
    pub origin: Option<Origin>,
}

/// `config` is the model that the recipe names, with the full vocabulary.
pub(super) fn start(
    recipe: &Recipe,
    mut config: ModelConfig,
    pairs: &Pairs,
    evaluator: &Evaluator,
    device: Device,
) -> Result<Started> {
    if let Some(path) = recipe.model.weights.as_deref() {
        return from_weights(recipe, config, path, device);
    }
    let tokenizer = Tokenizer::new(config.text_cfg.context_length as usize, recipe.model.truncate)?;
    let compact = recipe.model.compact_vocabulary.then(|| {
        let prompts: Vec<String> = evaluator.prompts.all().collect();
        CompactVocabulary::build(&tokenizer, pairs.captions().chain(prompts.iter().map(|prompt| prompt.into())))
    });
    let tokenizer = tokenizer.with_compact(compact);
    config.text_cfg.vocab_size = tokenizer.vocabulary_size() as i64;
    let model = Clip::new(config, device, random::stream(recipe.seed, "weights", 0, "").next_u64() as i64)?;
    let model = model.with_preprocess(Preprocess { standardise: recipe.model.standardise, ..Preprocess::default() });
    Ok(Started { model, tokenizer, origin: None })
}

/// The weights of a model, with the vocabulary that they were trained with.
fn from_weights(recipe: &Recipe, mut config: ModelConfig, path: &Path, device: Device) -> Result<Started> {
    if recipe.model.compact_vocabulary && !is_checkpoint(path)? {
        // Rows of another vocabulary of the same size would fit, and give every token another's meaning.
        return Err(Error::file(
            path,
            "does not say which tokens the rows of a compact vocabulary are",
            "name the folder of the run or checkpoint instead, or set model.compact_vocabulary = false for weights with all 49,408 rows",
        ));
    }
    let loaded = checkpoint::load_as(path, Description::BesideOrBy(&recipe.model.name), device)?;
    let compact = loaded.tokenizer.compact().cloned();
    if compact.is_some() != recipe.model.compact_vocabulary {
        let (has, set) = if compact.is_some() { ("a compact", true) } else { ("the full", false) };
        return Err(Error::file(
            path,
            format!("has {has} vocabulary"),
            format!("set model.compact_vocabulary = {set}"),
        ));
    }
    config.text_cfg.vocab_size = loaded.model.config().text_cfg.vocab_size;
    if config != *loaded.model.config() {
        return Err(Error::file(
            path,
            format!("is another model than {}", recipe.model.name),
            "set model.name to the one that it was trained with (the JSON file beside foreign weights will do)",
        ));
    }
    let tokenizer =
        Tokenizer::new(config.text_cfg.context_length as usize, recipe.model.truncate)?.with_compact(compact);
    let origin = Some(loaded.origin(path));
    let preprocess = Preprocess { standardise: recipe.model.standardise, ..*loaded.model.preprocess() };
    Ok(Started { model: loaded.model.with_preprocess(preprocess), tokenizer, origin })
}
