//! Models, read back: checkpoints of this program, and what others wrote.

use crate::checkpoint::foreign::{self, Description};
use crate::checkpoint::loaded::{Layout, Loaded};
use crate::checkpoint::source::{ModelFiles, model_files};
use crate::checkpoint::state::Origin;
use crate::checkpoint::store::{OpenClipConfig, verified};
use crate::checkpoint::verify::{CONFIG, MODEL, OBJECTIVE, OPTIMIZER};
use crate::error::{Error, Result};
use crate::model::captioner::Captioner;
use crate::model::{Clip, Preprocess, read_safetensors};
use roclip_data::artifact;
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Reads a model: a run's newest checkpoint, a checkpoint (both verified), or a folder or file of weights with its configuration beside it.
pub fn load(path: &Path, device: Device) -> Result<Loaded> {
    load_as(path, Description::Beside, device)
}

/// [`load`] of weights that may say what they are elsewhere. A checkpoint of this program always says it itself.
pub fn load_as(path: &Path, description: Description, device: Device) -> Result<Loaded> {
    match model_files(path)? {
        ModelFiles::Checkpoint(_) if matches!(description, Description::By(_)) => {
            Err(Error::file(path, "is a checkpoint of roclip, which says itself what model it is", "leave out --model"))
        }
        ModelFiles::Checkpoint(folder) => load_checkpoint(path, folder, device),
        ModelFiles::Weights { named, files } => foreign::load(&named, &files, description, device),
    }
}

/// Whether `path` means a checkpoint of this program.
///
/// # Errors
/// Where it means no model at all.
pub fn is_checkpoint(path: &Path) -> Result<bool> {
    Ok(matches!(model_files(path)?, ModelFiles::Checkpoint(_)))
}

fn load_checkpoint(path: &Path, folder: PathBuf, device: Device) -> Result<Loaded> {
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
    let preprocess = Preprocess::from_open_clip(&config.preprocess_cfg, config.model_cfg.vision_cfg.image_size)
        .map_err(|error| Error::in_file(&folder.join(CONFIG), &error))?;
    let model = Clip::new(config.model_cfg, device, 0)?.with_preprocess(preprocess);
    let weights = folder.join(MODEL);
    model.load(&weights, &read_safetensors(&weights)?)?;
    let origin = Origin {
        path: path.display().to_string(),
        sha256: state.files.get(MODEL).cloned().unwrap_or_default(),
        provenance: state.provenance,
        poison: state.poison.clone(),
    };
    Ok(Loaded { model, tokenizer, state: Some(state), folder, origin, layout: Layout::Roclip })
}

/// A captioner: that of a run of `roclip caption train`, or of one of its checkpoints, and the model that it looks through.
///
/// # Errors
/// Those of [`load`], and a model that no captioner was trained on.
pub fn load_captioner(path: &Path, device: Device) -> Result<(Loaded, Captioner)> {
    let loaded = load(path, device)?;
    let config = loaded.state.as_ref().and_then(|state| state.captioner.clone());
    let config = config.ok_or_else(|| {
        Error::file(path, "holds no captioner", "name a run of `roclip caption train` or one of its checkpoints")
    })?;
    let captioner = Captioner::new(config, loaded.model.config(), device, 0)?;
    let weights = loaded.folder.join(OBJECTIVE);
    captioner.load(&read_safetensors(&weights)?).map_err(|error| Error::in_file(&weights, &error))?;
    Ok((loaded, captioner))
}

impl Loaded {
    /// Of all weights that captions depend on: the tower's and those of the captioner, which lie beside each other. A captioner on a frozen
    /// tower shares the tower's file with others.
    pub fn sha256_with_captioner(&self) -> String {
        let of = |name| self.state.as_ref().and_then(|state| state.files.get(name)).map_or("", String::as_str);
        artifact::sha256_hex(format!("{}\n{}", of(MODEL), of(OBJECTIVE)).as_bytes())
    }
}

/// The tensors for resuming: `(optimizer, objective)`.
pub fn load_training(folder: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, Tensor>)> {
    Ok((read_safetensors(&folder.join(OPTIMIZER))?, read_safetensors(&folder.join(OBJECTIVE))?))
}
