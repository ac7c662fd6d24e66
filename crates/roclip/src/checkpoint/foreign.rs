//! Models that other programs wrote: weights in open_clip's or transformers' layout, and the configuration beside them.

use crate::checkpoint::loaded::{Layout, Loaded};
use crate::checkpoint::provenance::Provenance;
use crate::checkpoint::state::Origin;
use crate::checkpoint::verify::sha256_of_file;
use crate::error::{Error, Result};
use crate::model::layout::{is_hugging_face, to_open_clip};
use crate::model::{CLIP_VOCABULARY, Clip, ModelConfig, Preprocess, read_safetensors, read_safetensors_metadata};
use roclip_data::artifact;
use roclip_data::tokenizer::{Tokenizer, Truncate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Where the shape of a model is said that no checkpoint of ours describes.
#[derive(Debug, Clone, Copy)]
pub enum Description<'a> {
    /// In the configuration beside the weights.
    Beside,
    /// By a built-in name or a JSON file, whatever lies beside.
    By(&'a str),
    /// In the configuration beside the weights, or by this name where there is none.
    BesideOrBy(&'a str),
}

/// The configurations beside weights, each where it is there.
struct Beside {
    open_clip: Option<(PathBuf, Value)>,
    transformers: Option<(PathBuf, Value)>,
    /// transformers' preprocessing.
    processor: Option<(PathBuf, Value)>,
}

impl Beside {
    fn read(folder: &Path) -> Result<Beside> {
        let json = |name: &str| -> Result<Option<(PathBuf, Value)>> {
            let path = folder.join(name);
            if !path.is_file() {
                return Ok(None);
            }
            let value = artifact::read_json(&path)?;
            Ok(Some((path, value)))
        };
        let processor = match json("preprocessor_config.json")? {
            Some(found) => Some(found),
            // Newer versions keep it among the settings of all that a model's inputs go through.
            None => json("processor_config.json")?
                .and_then(|(path, mut value)| Some((path, value.get_mut("image_processor")?.take()))),
        };
        Ok(Beside { open_clip: json("open_clip_config.json")?, transformers: json("config.json")?, processor })
    }

    /// The configuration of the layout that the weights have, or the other one: both describe one model.
    fn config(&self, layout: Layout) -> Option<&(PathBuf, Value)> {
        match layout {
            Layout::Transformers => self.transformers.as_ref().or(self.open_clip.as_ref()),
            Layout::Roclip | Layout::OpenClip => self.open_clip.as_ref().or(self.transformers.as_ref()),
        }
    }

    fn preprocess(&self, layout: Layout, image_size: i64) -> Result<Preprocess> {
        let open_clip = self.open_clip.as_ref().and_then(|(path, value)| Some((path, value.get("preprocess_cfg")?)));
        let of_open_clip = |(path, value): (&PathBuf, &Value)| {
            Preprocess::from_open_clip(value, image_size).map_err(|error| Error::in_file(path, &error))
        };
        let transformers = self.processor.as_ref();
        let of_transformers = |(path, value): &(PathBuf, Value)| {
            Preprocess::from_transformers(value, image_size).map_err(|error| Error::in_file(path, &error))
        };
        match (layout, open_clip, transformers) {
            (Layout::Transformers, _, Some(theirs)) | (_, None, Some(theirs)) => of_transformers(theirs),
            (_, Some(theirs), _) => of_open_clip(theirs),
            (_, None, None) => Ok(Preprocess::default()),
        }
    }
}

/// The preprocessing in a JSON file of open_clip's, where it says it.
fn named_preprocess(path: &Path, image_size: i64) -> Result<Option<Preprocess>> {
    let description: Value = artifact::read_json(path)?;
    let theirs = description.get("preprocess_cfg");
    theirs
        .map(|theirs| Preprocess::from_open_clip(theirs, image_size).map_err(|error| Error::in_file(path, &error)))
        .transpose()
}

/// Reads the weights `files`, which `named` stands for.
///
/// # Errors
/// A configuration that is missing, is of another architecture or does not fit, and weights that are not whole, finite and the model's.
pub(super) fn load(named: &Path, files: &[PathBuf], description: Description, device: Device) -> Result<Loaded> {
    let beside = Beside::read(named.parent().unwrap_or(Path::new(".")))?;
    let mut weights: BTreeMap<String, Tensor> = BTreeMap::new();
    for file in files {
        weights.extend(read_safetensors(file)?);
    }
    let layout = if is_hugging_face(&weights) { Layout::Transformers } else { Layout::OpenClip };
    let config = match (description, beside.config(layout)) {
        (Description::By(name), _) | (Description::BesideOrBy(name), None) => ModelConfig::named(name)?,
        (_, Some((path, value))) => {
            ModelConfig::from_description(value).map_err(|error| Error::in_file(path, &error))?
        }
        (Description::Beside, None) => {
            return Err(Error::file(
                named,
                "has no open_clip_config.json or config.json beside it, and weights do not say what model they are of",
                "put it there, or name the model with --model (a built-in name or a JSON file)",
            ));
        }
    };
    let vocabulary = config.text_cfg.vocab_size;
    if vocabulary != CLIP_VOCABULARY {
        return Err(Error::file(
            named,
            format!(
                "is a model with a vocabulary of {vocabulary} tokens; CLIP's tokenizer, the only one here, has {CLIP_VOCABULARY}"
            ),
            "use a model of CLIP's vocabulary; one of roclip's own with a compact vocabulary goes by its run or checkpoint, or is exported first",
        ));
    }
    let preprocess = match (description, beside.config(layout)) {
        (Description::By(name), _) | (Description::BesideOrBy(name), None) if Path::new(name).is_file() => {
            named_preprocess(Path::new(name), config.vision_cfg.image_size)?
        }
        _ => None,
    };
    let preprocess = match preprocess {
        Some(named) => named,
        None => beside.preprocess(layout, config.vision_cfg.image_size)?,
    };
    let tokenizer = Tokenizer::new(config.text_cfg.context_length as usize, Truncate::default())?;
    let model = Clip::new(config, device, 0)?.with_preprocess(preprocess);
    let weights = to_open_clip(weights).map_err(|error| Error::in_file(named, &error))?;
    model.load(named, &weights)?;
    Ok(Loaded { model, tokenizer, state: None, folder: named.to_owned(), origin: origin(named, files)?, layout })
}

/// What the files of weights say of themselves; those that this program exported say what they are.
fn origin(named: &Path, files: &[PathBuf]) -> Result<Origin> {
    let mut provenance = Provenance::Clean;
    let mut sums = Vec::new();
    for file in files {
        let metadata = read_safetensors_metadata(file)?;
        let own = metadata.get("provenance").and_then(|name| Provenance::named(name));
        provenance = provenance.after(own.unwrap_or(Provenance::Unknown));
        sums.push(sha256_of_file(file)?);
    }
    let sha256 = match sums.as_slice() {
        [only] => only.clone(),
        all => artifact::sha256_hex(all.join("\n").as_bytes()),
    };
    Ok(Origin { path: named.display().to_string(), sha256, provenance, poison: BTreeMap::new() })
}
