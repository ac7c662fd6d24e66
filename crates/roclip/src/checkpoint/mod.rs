//! Checkpoints: a folder of safetensors and JSON that appears whole or not at all, with checksums that are verified when read.

mod card;
mod export;
mod owner;
mod provenance;

pub use card::model_card;
pub use export::{ExportFormat, export};
pub use owner::run_of;
pub use provenance::Provenance;

use crate::error::{Error, IoContext, Result};
use crate::model::{Clip, ModelConfig, read_safetensors, tensors_to_safetensors};
use roclip_data::artifact;
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer, Truncate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Where a run stood, and what makes a checkpoint readable on its own.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct State {
    /// Finished optimizer steps.
    pub step: u64,
    /// The epoch of the next step, from 1.
    pub epoch: u64,
    /// Pass within the epoch, and step within the pass, from 0.
    pub pass: u64,
    pub step_in_pass: u64,
    pub seed: u64,
    pub data_fingerprint: String,
    pub provenance: Provenance,
    /// Training pairs, poison included.
    pub pairs: usize,
    /// Known poisoned pairs of each attack.
    pub poison: BTreeMap<String, usize>,
    pub objective: String,
    pub truncate: Truncate,
    pub compact_vocabulary: Option<CompactVocabulary>,
    /// What the epoch has added up, where the checkpoint is within one.
    #[serde(default)]
    pub epoch_so_far: Option<serde_json::Value>,
    /// sha256 of the other files.
    pub files: BTreeMap<String, String>,
}

/// open_clip's `open_clip_config.json`.
#[derive(Serialize, Deserialize)]
struct OpenClipConfig {
    model_cfg: ModelConfig,
    preprocess_cfg: serde_json::Value,
}

/// What a checkpoint is made of.
pub struct Contents<'a> {
    pub model: &'a Clip,
    pub optimizer: BTreeMap<String, Tensor>,
    pub objective: BTreeMap<String, Tensor>,
    pub state: State,
}

/// Writes `RUN/checkpoints/step_N`, verified, and then removes older ones but the last `keep`.
pub fn save(run: &Path, contents: Contents, keep: usize) -> Result<PathBuf> {
    let folder = run.join("checkpoints");
    let target = folder.join(format!("step_{}", contents.state.step));
    let mut state = contents.state;
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("provenance".to_owned(), state.provenance.to_string()),
        ("objective".to_owned(), state.objective.clone()),
        ("step".to_owned(), state.step.to_string()),
    ]);
    let preprocess = serde_json::json!({
        "mean": roclip_data::picture::preprocess::MEAN, "std": roclip_data::picture::preprocess::STD,
        "interpolation": "bicubic", "resize_mode": "shortest",
    });
    let config = OpenClipConfig { model_cfg: contents.model.config().clone(), preprocess_cfg: preprocess };
    let config = serde_json::to_vec_pretty(&config).map_err(|e| Error::internal(e.to_string()))?;
    let files = [
        ("model.safetensors", tensors_to_safetensors(&contents.model.parameters().all(), &metadata)?),
        ("optimizer.safetensors", tensors_to_safetensors(&contents.optimizer, &BTreeMap::new())?),
        ("objective.safetensors", tensors_to_safetensors(&contents.objective, &BTreeMap::new())?),
        ("open_clip_config.json", config),
    ];
    state.files.clear();
    state.files.extend(files.iter().map(|(name, bytes)| ((*name).to_owned(), artifact::sha256_hex(bytes))));
    artifact::replace_folder(&target, |folder| {
        for (name, bytes) in &files {
            artifact::write(&folder.join(name), bytes)?;
        }
        artifact::write(&folder.join("README.md"), model_card(&state).as_bytes())?;
        artifact::write_json(&folder.join("state.json"), &state)
    })?;
    verify(&target)?;
    prune(&folder, keep)?;
    Ok(target)
}

fn prune(folder: &Path, keep: usize) -> Result<()> {
    let all = list(folder)?;
    for (_, old) in all.iter().take(all.len().saturating_sub(keep.max(1))) {
        fs::remove_dir_all(old).io("remove an old checkpoint", old)?;
    }
    Ok(())
}

/// Whole checkpoints by step.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).io("list", folder)? {
        let path = entry.io("list", folder)?.path();
        let step = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.strip_prefix("step_"))
            .and_then(|n| n.parse().ok());
        found.extend(step.map(|step: u64| (step, path)));
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint of a run, or `path` itself if it is one.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join("state.json").is_file() {
        return Ok(path.to_owned());
    }
    let folder = path.join("checkpoints");
    let newest = if folder.is_dir() { list(&folder)?.pop() } else { None };
    newest
        .map(|(_, path)| path)
        .ok_or_else(|| Error::file(path, "holds no checkpoint", "name a run folder or one of its checkpoints/step_N"))
}

/// Checks every file against its checksum. A damaged checkpoint is an error, never a reason to take an older one in silence.
fn verify(folder: &Path) -> Result<State> {
    let state: State = artifact::read_json(&folder.join("state.json"))?;
    for (name, sha256) in &state.files {
        let path = folder.join(name);
        if artifact::sha256_hex(&artifact::read(&path)?) != *sha256 {
            return Err(Error::file(
                &path,
                "does not have the checksum in state.json",
                "use another checkpoint: this one is damaged",
            ));
        }
    }
    Ok(state)
}

/// A model read back, with what is needed to use it.
pub struct Loaded {
    pub model: Clip,
    pub tokenizer: Tokenizer,
    pub state: State,
    pub folder: PathBuf,
}

/// Reads and verifies the model of a checkpoint or of a run's newest one.
pub fn load(path: &Path, device: Device) -> Result<Loaded> {
    let folder = find(path)?;
    let state = verify(&folder)?;
    let config: OpenClipConfig = artifact::read_json(&folder.join("open_clip_config.json"))?;
    let tokenizer = Tokenizer::new(config.model_cfg.text_cfg.context_length as usize, state.truncate)?
        .with_compact(state.compact_vocabulary.clone());
    let model = Clip::new(config.model_cfg, device, 0)?;
    let weights = folder.join("model.safetensors");
    model.load(&weights, &read_safetensors(&weights)?)?;
    Ok(Loaded { model, tokenizer, state, folder })
}

/// The tensors for resuming: `(optimizer, objective)`.
pub fn load_training(folder: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, Tensor>)> {
    Ok((
        read_safetensors(&folder.join("optimizer.safetensors"))?,
        read_safetensors(&folder.join("objective.safetensors"))?,
    ))
}
