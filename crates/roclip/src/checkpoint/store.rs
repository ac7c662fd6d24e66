//! Checkpoints in a run folder: written whole, listed, and the older ones removed.

use crate::checkpoint::card::model_card;
use crate::checkpoint::state::State;
use crate::checkpoint::verify::{CARD, CONFIG, MODEL, OBJECTIVE, OPTIMIZER, STATE, SUMS, sums, verify};
use crate::error::{Error, IoContext, Result};
use crate::model::{Clip, ModelConfig, Preprocess, STANDARDISE, write_safetensors};
use roclip_data::artifact;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The state of a checkpoint that holds learned prompts and no model.
pub(crate) const LEARNED_PROMPTS: &str = "learner.json";

/// open_clip's `open_clip_config.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct OpenClipConfig {
    pub model_cfg: ModelConfig,
    pub preprocess_cfg: Value,
}

/// What a checkpoint is made of.
pub struct Contents<'a> {
    pub model: &'a Clip,
    pub optimizer: BTreeMap<String, Tensor>,
    pub objective: BTreeMap<String, Tensor>,
    pub state: State,
}

/// Writes `RUN/checkpoints/step_N`, and then removes older ones but the last `keep`. Checksums are taken of what is written, on its way to the
/// disk; whoever reads the checkpoint compares.
///
/// # Errors
/// Where a file cannot be written, as on a full disk; then nothing is there, and older checkpoints stay.
pub fn save(run: &Path, contents: Contents, keep: usize) -> Result<PathBuf> {
    let folder = run.join("checkpoints");
    let target = folder.join(format!("step_{}", contents.state.step));
    let mut state = contents.state;
    let metadata = weights_metadata(&state);
    let config = described(contents.model.config().clone(), contents.model.preprocess());
    let config = serde_json::to_vec_pretty(&config).map_err(|e| Error::internal(e.to_string()))?;
    artifact::replace_folder(&target, |beside| -> Result<()> {
        let none = BTreeMap::new();
        let weights = contents.model.parameters().all();
        let tensors = [
            (MODEL, &weights, &metadata),
            (OPTIMIZER, &contents.optimizer, &none),
            (OBJECTIVE, &contents.objective, &none),
        ];
        state.files.clear();
        for (name, tensors, metadata) in tensors {
            state.files.insert(name.into(), write_safetensors(&beside.join(name), tensors, metadata)?);
        }
        artifact::write(&beside.join(CONFIG), &config)?;
        state.files.insert(CONFIG.into(), artifact::sha256_hex(&config));
        artifact::write(&beside.join(CARD), model_card(&state).as_bytes())?;
        artifact::write_json(&beside.join(STATE), &state)?;
        artifact::write(&beside.join(SUMS), sums(beside)?.as_bytes())?;
        Ok(())
    })?;
    // Older ones are removed only once the disk holds the new one's name, too.
    File::open(&folder).and_then(|file| file.sync_all()).io("sync the folder", &folder)?;
    prune(&folder, keep)?;
    Ok(target)
}

fn described(model_cfg: ModelConfig, theirs: &Preprocess) -> OpenClipConfig {
    let mut preprocess_cfg = serde_json::json!({
        "mean": theirs.mean, "std": theirs.std, "interpolation": theirs.interpolation(), "resize_mode": theirs.resize_mode(),
    });
    if let (true, Some(object)) = (theirs.standardise, preprocess_cfg.as_object_mut()) {
        object.insert(STANDARDISE.to_owned(), true.into());
    }
    OpenClipConfig { model_cfg, preprocess_cfg }
}

/// What `model` is, as a checkpoint of it would say: its weights alone do not say how many heads it has, or how pictures are normalised.
pub(crate) fn configuration(model: &Clip) -> Result<Value> {
    let described = described(model.config().clone(), model.preprocess());
    serde_json::to_value(described).map_err(|e| Error::internal(e.to_string()))
}

/// A digest of [`configuration`].
pub(crate) fn configuration_digest(model: &Clip) -> Result<String> {
    Ok(artifact::sha256_hex(configuration(model)?.to_string().as_bytes()))
}

/// [`configuration`] of the model that the checkpoint `folder` is of.
pub(crate) fn saved_configuration(folder: &Path) -> Result<Value> {
    let path = folder.join(CONFIG);
    let OpenClipConfig { model_cfg, preprocess_cfg } = artifact::read_json(&path)?;
    // Read as numbers of the model's own kind: those in the text may be rounded otherwise.
    let preprocess = Preprocess::from_open_clip(&preprocess_cfg, model_cfg.vision_cfg.image_size)
        .map_err(|error| Error::in_file(&path, &error))?;
    serde_json::to_value(described(model_cfg, &preprocess)).map_err(|e| Error::internal(e.to_string()))
}

/// What the weights' file says of itself, wherever it is copied to.
pub(super) fn weights_metadata(state: &State) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("provenance".to_owned(), state.provenance.to_string()),
        ("objective".to_owned(), state.objective.clone()),
        ("step".to_owned(), state.step.to_string()),
    ])
}

/// Removes all checkpoints of a run but the last `keep`.
pub(crate) fn keep_newest(run: &Path, keep: usize) -> Result<()> {
    prune(&run.join("checkpoints"), keep)
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
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
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

/// Step of the newest checkpoint of a run; none where it has none.
pub fn newest_step(run: &Path) -> Result<Option<u64>> {
    Ok(list(&run.join("checkpoints"))?.pop().map(|(step, _)| step))
}

/// The checkpoint of a run at `step`.
pub fn at_step(run: &Path, step: u64) -> Result<PathBuf> {
    let all = list(&run.join("checkpoints"))?;
    let steps: Vec<String> = all.iter().map(|(step, _)| format!("step_{step}")).collect();
    all.into_iter().find(|(at, _)| *at == step).map(|(_, path)| path).ok_or_else(|| {
        Error::file(run, format!("holds no checkpoint step_{step}"), format!("it holds {}", steps.join(", ")))
    })
}

/// Renames the checkpoints after `step` to `newer_step_N`, so that a run that goes on from there has one history.
pub fn set_newer_aside(run: &Path, step: u64) -> Result<()> {
    let folder = run.join("checkpoints");
    for (newer, path) in list(&folder)?.into_iter().filter(|(at, _)| *at > step) {
        let aside = folder.join(format!("newer_step_{newer}"));
        if aside.exists() {
            fs::remove_dir_all(&aside).io("remove", &aside)?;
        }
        fs::rename(&path, &aside).io("put aside", &path)?;
    }
    Ok(())
}

/// The newest checkpoint of a run, or `path` itself if it is one.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join(STATE).is_file() {
        return Ok(path.to_owned());
    }
    let newest = list(&path.join("checkpoints"))?.pop().map(|(_, path)| path);
    let prompts = |folder: &Path| folder.join(LEARNED_PROMPTS).is_file();
    if prompts(path) || newest.as_deref().is_some_and(prompts) {
        return Err(Error::file(
            path,
            "holds learned prompts, and not the model that they were learned on",
            "measure them with `roclip prompt eval`; name the model that its run.toml names for anything else",
        ));
    }
    newest.ok_or_else(|| Error::file(path, "holds no checkpoint", "name a run folder or one of its checkpoints/step_N"))
}

/// The state of the checkpoint `folder`, verified. Where it is a damaged one of a run, the error names the newest whole one.
pub(crate) fn verified(folder: &Path) -> Result<State> {
    verify(folder).map_err(|damage| {
        let own = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let older = list(folder.parent().unwrap_or(folder)).unwrap_or_default();
        let before = |(step, path): &&(u64, PathBuf)| format!("step_{step}") != own && verify(path).is_ok();
        match older.iter().rev().find(before) {
            None => damage,
            Some((step, path)) => Error::file(
                folder,
                format!("is damaged ({damage})"),
                format!(
                    "`{}` is whole: train and clean go on from it with --resume-from step_{step}, other commands take its path",
                    path.display()
                ),
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs and studies keep digests of it: a setting that is new must be left out where a model is as models were.
    #[test]
    fn what_a_model_is_reads_as_it_always_did() {
        let theirs =
            serde_json::to_value(described(ModelConfig::named("RN50").unwrap(), &Preprocess::default())).unwrap();
        let keys = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        let model = &theirs["model_cfg"];
        assert_eq!(keys(model), "embed_dim quick_gelu text_cfg vision_cfg");
        assert_eq!(keys(&model["vision_cfg"]), "image_size layers width");
        assert_eq!(keys(&model["text_cfg"]), "context_length heads layers vocab_size width");
        assert_eq!(keys(&theirs["preprocess_cfg"]), "interpolation mean resize_mode std");
    }
}
