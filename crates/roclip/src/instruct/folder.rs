//! A model on disk: `model.json` says what it is and on which tower it stands, `weights/weights.safetensors` holds bridge and decoder and, while it
//! learns, what it takes to go on.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::instruct::{VisionLanguage, VisionLanguageConfig};
use crate::model::{read_safetensors, read_safetensors_metadata, write_safetensors};
use roclip_data::artifact;
use roclip_data::tokenizer::CompactVocabulary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

const MODEL: &str = "model.json";
const WEIGHTS: &str = "weights";
const FILE: &str = "weights.safetensors";
const MOMENTS: &str = "optimizer.";

/// `model.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Description {
    /// The model whose image tower it looks through.
    pub tower: PathBuf,
    /// Of that model's weights.
    pub tower_sha256: String,
    /// What is known of the data behind the tower and the instructions.
    pub provenance: checkpoint::Provenance,
    pub config: VisionLanguageConfig,
    pub vocabulary: CompactVocabulary,
}

/// What it takes to go on with training.
pub struct Training {
    pub step: u64,
    pub optimizer: BTreeMap<String, Tensor>,
}

/// Writes `model.json`.
pub fn describe(folder: &Path, description: &Description) -> Result<()> {
    Ok(artifact::write_json(&folder.join(MODEL), description)?)
}

/// Writes the weights, and what it takes to go on, as one file.
pub fn save(folder: &Path, weights: &BTreeMap<String, Tensor>, training: Training) -> Result<()> {
    let mut tensors: BTreeMap<String, Tensor> =
        weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    tensors.extend(training.optimizer.into_iter().map(|(name, tensor)| (format!("{MOMENTS}{name}"), tensor)));
    let metadata = BTreeMap::from([("step".to_owned(), training.step.to_string())]);
    artifact::replace_folder(&folder.join(WEIGHTS), |beside| {
        write_safetensors(&beside.join(FILE), &tensors, &metadata).map(|_| ())
    })
}

/// The model in `folder` with its tower, and how far its training is; none where no step was saved.
///
/// # Errors
/// A folder that holds none, a tower that is gone or another one, and weights that do not fit.
pub fn load(folder: &Path, device: Device) -> Result<(VisionLanguage, Description, Option<Training>)> {
    let file = folder.join(MODEL);
    if !file.is_file() {
        return Err(Error::file(
            folder,
            "holds no model that answers questions",
            "train one with `roclip caption instruct`",
        ));
    }
    let description: Description = artifact::read_json(&file)?;
    if !description.vocabulary.is_sound() {
        return Err(Error::file(&file, "has a vocabulary that is none", "restore the file, or train anew"));
    }
    let tower = checkpoint::load(&description.tower, device)?;
    if tower.origin.sha256 != description.tower_sha256 {
        return Err(Error::file(
            &description.tower,
            format!("is no longer the tower of `{}`: its weights were changed", folder.display()),
            "bring them back, or train anew",
        ));
    }
    let Description { config, vocabulary, .. } = description.clone();
    let model = VisionLanguage::new(config, vocabulary, tower.model, tower.tokenizer, 0)?;
    let path = folder.join(WEIGHTS).join(FILE);
    if !path.is_file() {
        return Ok((model, description, None));
    }
    let step = read_safetensors_metadata(&path)?.get("step").and_then(|step| step.parse().ok());
    let step = step.ok_or_else(|| Error::file(&path, "does not say its step", "restore it, or train anew"))?;
    let (mut weights, mut optimizer) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in read_safetensors(&path)? {
        match name.strip_prefix(MOMENTS) {
            Some(name) => optimizer.insert(name.to_owned(), tensor.to_device(device)),
            None => weights.insert(name, tensor),
        };
    }
    model.load(&weights).map_err(|error| Error::in_file(&path, &error))?;
    Ok((model, description, Some(Training { step, optimizer })))
}
