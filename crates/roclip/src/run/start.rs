//! The model that a training run starts from, its tokenizer and what is known of it: random weights, those of a file, or those of a
//! checkpoint.

use crate::checkpoint::{self, Origin, Provenance, sha256_of_file};
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::model::layout::to_open_clip;
use crate::model::{Clip, ModelConfig, read_safetensors, read_safetensors_metadata};
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
    let weights = recipe.model.weights.as_deref();
    if let Some(folder) = weights.filter(|path| path.is_dir()) {
        return from_checkpoint(recipe, config, folder, device);
    }
    let tokenizer = Tokenizer::new(config.text_cfg.context_length as usize, recipe.model.truncate)?;
    let compact = recipe.model.compact_vocabulary.then(|| {
        let prompts: Vec<String> = evaluator.prompts.all().collect();
        let captions = pairs.pairs.iter().flat_map(|p| &p.captions).chain(&prompts);
        CompactVocabulary::build(&tokenizer, captions.map(String::as_str))
    });
    if let (Some(path), true) = (weights, compact.is_some()) {
        // Rows of another vocabulary of the same size would fit, and give every token another's meaning.
        return Err(Error::file(
            path,
            "does not say which tokens the rows of a compact vocabulary are",
            "name the folder of the run or checkpoint instead, or set model.compact_vocabulary = false for weights with all 49,408 rows",
        ));
    }
    let tokenizer = tokenizer.with_compact(compact);
    config.text_cfg.vocab_size = tokenizer.vocabulary_size() as i64;
    let model = Clip::new(config, device, random::stream(recipe.seed, "weights", 0, "").next_u64() as i64)?;
    let origin = match weights {
        Some(path) => {
            model.load(path, &to_open_clip(read_safetensors(path)?)?)?;
            Some(origin_of_file(path)?)
        }
        None => None,
    };
    Ok(Started { model, tokenizer, origin })
}

/// What a file of weights says of itself; one that this program wrote says what it is.
fn origin_of_file(path: &Path) -> Result<Origin> {
    let metadata = read_safetensors_metadata(path)?;
    let provenance = metadata.get("provenance").and_then(|name| Provenance::named(name));
    Ok(Origin {
        path: path.display().to_string(),
        sha256: sha256_of_file(path)?,
        provenance: provenance.unwrap_or(Provenance::Unknown),
        poison: Default::default(),
    })
}

/// The weights of a run or checkpoint, with the vocabulary they were trained with.
fn from_checkpoint(recipe: &Recipe, mut config: ModelConfig, folder: &Path, device: Device) -> Result<Started> {
    let loaded = checkpoint::load(folder, device)?;
    let compact = loaded.tokenizer.compact().cloned();
    if compact.is_some() != recipe.model.compact_vocabulary {
        let (has, set) = if compact.is_some() { ("a compact", true) } else { ("the full", false) };
        return Err(Error::file(
            folder,
            format!("has {has} vocabulary"),
            format!("set model.compact_vocabulary = {set}"),
        ));
    }
    config.text_cfg.vocab_size = loaded.model.config().text_cfg.vocab_size;
    if config != *loaded.model.config() {
        return Err(Error::file(
            folder,
            format!("is another model than {}", recipe.model.name),
            "set model.name to the one that it was trained with",
        ));
    }
    let tokenizer =
        Tokenizer::new(config.text_cfg.context_length as usize, recipe.model.truncate)?.with_compact(compact);
    let origin = Some(loaded.origin(folder));
    Ok(Started { model: loaded.model, tokenizer, origin })
}
