//! A model on disk: `model.json` says what it is and on which tower it stands, `weights/weights.safetensors` holds bridge and decoder and what it
//! takes to go on. Both have checksums, which are verified when they are read.

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
const CHECKSUMS: &str = "checksums.json";
const MOMENTS: &str = "optimizer.";
/// The metadata's key for [`About`].
const ABOUT: &str = "roclip_instruct";
const DAMAGED: &str =
    "bring back what was written, or train anew in another folder: this one is damaged or was changed";

/// `model.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Description {
    /// The model whose image tower it looks through.
    pub tower: PathBuf,
    /// Of that model's weights.
    pub tower_sha256: String,
    /// A digest of what that model says that it is, which its weights do not. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tower_configuration: Option<String>,
    /// What is known of the data behind the tower and the instructions.
    pub provenance: checkpoint::Provenance,
    pub config: VisionLanguageConfig,
    pub vocabulary: CompactVocabulary,
}

/// What it takes to go on with training.
pub struct Training {
    /// Steps that were done, and those of the whole training.
    pub step: u64,
    pub steps: u64,
    /// Of the instructions that it learns from.
    pub data_fingerprint: String,
    /// Of the test pictures with their references. Absent in older files.
    pub tests_fingerprint: Option<String>,
    pub optimizer: BTreeMap<String, Tensor>,
}

impl Training {
    pub fn is_finished(&self) -> bool {
        self.step >= self.steps
    }
}

/// A model, read back.
pub struct Stored {
    pub model: VisionLanguage,
    pub description: Description,
    pub training: Training,
    /// Of the file of its weights.
    pub sha256: String,
}

/// The metadata of the weights. As a part of them it has their checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    step: u64,
    steps: u64,
    data_fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tests_fingerprint: Option<String>,
    /// sha256 of `model.json`.
    description_sha256: String,
}

/// `weights/checksums.json`: sha256 of the files beside it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksums {
    files: BTreeMap<String, String>,
}

/// Writes `model.json`.
pub fn describe(folder: &Path, description: &Description) -> Result<()> {
    Ok(artifact::write_json(&folder.join(MODEL), description)?)
}

/// Whether something was learned in `folder`, and saved.
pub fn holds_weights(folder: &Path) -> bool {
    folder.join(WEIGHTS).exists()
}

/// Writes the weights, and what it takes to go on, as one file with its checksum beside it.
pub fn save(folder: &Path, weights: &BTreeMap<String, Tensor>, training: Training) -> Result<()> {
    let mut tensors: BTreeMap<String, Tensor> =
        weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let Training { step, steps, data_fingerprint, tests_fingerprint, optimizer } = training;
    tensors.extend(optimizer.into_iter().map(|(name, tensor)| (format!("{MOMENTS}{name}"), tensor)));
    let description_sha256 = checkpoint::sha256_of_file(&folder.join(MODEL))?;
    let about = About { step, steps, data_fingerprint, tests_fingerprint, description_sha256 };
    let about = serde_json::to_string(&about).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    let metadata = BTreeMap::from([(ABOUT.to_owned(), about)]);
    artifact::replace_folder(&folder.join(WEIGHTS), |beside| -> Result<()> {
        let sha256 = write_safetensors(&beside.join(FILE), &tensors, &metadata)?;
        let checksums = Checksums { files: BTreeMap::from([(FILE.to_owned(), sha256)]) };
        Ok(artifact::write_json(&beside.join(CHECKSUMS), &checksums)?)
    })
}

/// The model in `folder` with its tower, and how far its training is.
///
/// # Errors
/// A folder that holds none, or one that has learned nothing yet; a tower that is gone or another one; files that do not have their checksums.
pub fn load(folder: &Path, device: Device) -> Result<Stored> {
    let file = folder.join(MODEL);
    if !file.is_file() {
        return Err(Error::setting(
            format!("`{}` holds no model that answers questions", folder.display()),
            "train one with `roclip caption instruct`",
        ));
    }
    if !holds_weights(folder) {
        let remedy = "go on with the command that began it (`roclip caption instruct`) and --resume";
        return Err(Error::setting(format!("`{}` has learned nothing yet", folder.display()), remedy));
    }
    let (path, sha256) = verified(&folder.join(WEIGHTS))?;
    let about = read_safetensors_metadata(&path)?.get(ABOUT).and_then(|about| serde_json::from_str(about).ok());
    let about: About = about.ok_or_else(|| Error::file(&path, "does not say how far it is", DAMAGED))?;
    if checkpoint::sha256_of_file(&file)? != about.description_sha256 {
        return Err(Error::file(&file, "does not have the checksum in the metadata of the weights", DAMAGED));
    }
    let description: Description = artifact::read_json(&file)?;
    if !description.vocabulary.is_sound() {
        return Err(Error::file(&file, "has a vocabulary that is none", DAMAGED));
    }
    let tower = checkpoint::load(&description.tower, device)?;
    if tower.origin.sha256 != description.tower_sha256 {
        return Err(Error::file(
            &description.tower,
            format!("is no longer the tower of `{}`: its weights were changed", folder.display()),
            "bring them back, or train anew",
        ));
    }
    let configuration = checkpoint::configuration_digest(&tower.model)?;
    if description.tower_configuration.as_ref().is_some_and(|began| *began != configuration) {
        return Err(Error::file(
            &description.tower,
            format!(
                "is no longer the tower of `{}`: the configuration beside its weights was changed",
                folder.display()
            ),
            "bring it back, or train anew",
        ));
    }
    let Description { config, vocabulary, .. } = description.clone();
    // Its weights are read below.
    let model = VisionLanguage::new(config, vocabulary, tower.model, tower.tokenizer, 0)?;
    let (mut weights, mut optimizer) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in read_safetensors(&path)? {
        match name.strip_prefix(MOMENTS) {
            Some(name) => optimizer.insert(name.to_owned(), tensor.to_device(device)),
            None => weights.insert(name, tensor),
        };
    }
    model.load(&weights).map_err(|error| Error::in_file(&path, &error))?;
    let About { step, steps, data_fingerprint, tests_fingerprint, .. } = about;
    let training = Training { step, steps, data_fingerprint, tests_fingerprint, optimizer };
    Ok(Stored { model, description, training, sha256 })
}

/// The file of the weights in `folder`, and its sha256.
fn verified(folder: &Path) -> Result<(PathBuf, String)> {
    let list = folder.join(CHECKSUMS);
    if !list.is_file() {
        return Err(Error::file(folder, format!("holds no {CHECKSUMS}"), DAMAGED));
    }
    let Checksums { files } = artifact::read_json(&list)?;
    let sha256 = files.get(FILE).cloned();
    let sha256 = sha256.ok_or_else(|| Error::file(&list, format!("holds no checksum of {FILE}"), DAMAGED))?;
    checkpoint::check_files(folder, &files, CHECKSUMS, DAMAGED)?;
    Ok((folder.join(FILE), sha256))
}
