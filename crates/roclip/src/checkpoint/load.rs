//! Checkpoints, read back.

use crate::checkpoint::state::{Origin, State};
use crate::checkpoint::store::{OpenClipConfig, find, verified};
use crate::checkpoint::verify::{CONFIG, MODEL, OBJECTIVE, OPTIMIZER};
use crate::error::{Error, Result};
use crate::model::{Clip, read_safetensors};
use roclip_data::artifact;
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// A model read back, with what is needed to use it.
pub struct Loaded {
    pub model: Clip,
    pub tokenizer: Tokenizer,
    pub state: State,
    pub folder: PathBuf,
}

impl Loaded {
    /// What a run that begins with this model says of it. `path` is what the recipe calls it.
    pub fn origin(&self, path: &Path) -> Origin {
        Origin {
            path: path.display().to_string(),
            sha256: self.state.files.get(MODEL).cloned().unwrap_or_default(),
            provenance: self.state.provenance,
            poison: self.state.poison.clone(),
        }
    }
}

/// Reads and verifies the model of a checkpoint or of a run's newest one.
pub fn load(path: &Path, device: Device) -> Result<Loaded> {
    let folder = find(path)?;
    let state = verified(&folder)?;
    let config: OpenClipConfig = artifact::read_json(&folder.join(CONFIG))?;
    let tokenizer = Tokenizer::new(config.model_cfg.text_cfg.context_length as usize, state.truncate)?
        .with_compact(state.compact_vocabulary.clone());
    let sound = state.compact_vocabulary.as_ref().is_none_or(CompactVocabulary::is_sound);
    if !sound || tokenizer.vocabulary_size() as i64 != config.model_cfg.text_cfg.vocab_size {
        return Err(Error::file(
            &folder,
            "has a vocabulary that does not fit its model",
            "use another checkpoint: the state of this one was changed",
        ));
    }
    let model = Clip::new(config.model_cfg, device, 0)?;
    let weights = folder.join(MODEL);
    model.load(&weights, &read_safetensors(&weights)?)?;
    Ok(Loaded { model, tokenizer, state, folder })
}

/// The tensors for resuming: `(optimizer, objective)`.
pub fn load_training(folder: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, Tensor>)> {
    Ok((read_safetensors(&folder.join(OPTIMIZER))?, read_safetensors(&folder.join(OBJECTIVE))?))
}
