//! A model in the layouts that other libraries load: open_clip's folder, and Hugging Face's `CLIPModel` (ViT).

use crate::checkpoint::card::{Card, OPEN_CLIP};
use crate::checkpoint::loaded::Loaded;
use crate::checkpoint::store::weights_metadata;
use crate::error::{Error, Result};
use crate::model::{layout, write_safetensors};
use roclip_data::artifact;
use roclip_data::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `open_clip_config.json` and `open_clip_model.safetensors`, for `open_clip.create_model("local-dir:FOLDER")`.
    OpenClip,
    /// `config.json`, `model.safetensors`, tokenizer and preprocessor files, for `CLIPModel.from_pretrained("FOLDER")`.
    HuggingFace,
}

impl ExportFormat {
    fn library(self) -> &'static str {
        match self {
            ExportFormat::OpenClip => OPEN_CLIP,
            ExportFormat::HuggingFace => "transformers",
        }
    }

    /// How the folder is loaded, in Python.
    fn usage(self) -> &'static str {
        match self {
            ExportFormat::OpenClip => {
                "```python\n# pip install open_clip_torch\nimport open_clip\n\nname = \"local-dir:FOLDER\"  # this folder\nmodel, _, preprocess = open_clip.create_model_and_transforms(name)\ntokenizer = open_clip.get_tokenizer(name)\nmodel.eval()\n```"
            }
            ExportFormat::HuggingFace => {
                "```python\n# pip install transformers torch pillow\nfrom transformers import CLIPModel, CLIPProcessor\n\nmodel = CLIPModel.from_pretrained(\"FOLDER\").eval()  # this folder\nprocessor = CLIPProcessor.from_pretrained(\"FOLDER\")\n```"
            }
        }
    }
}

/// # Errors
/// A model that is no CLIP to other programs: one whose text tower has learned nothing, or whose pictures go through what they do not do.
fn refuse_classifiers(loaded: &Loaded) -> Result<()> {
    loaded.must_read_captions("export a CLIP run; `roclip eval` measures classifiers")?;
    match loaded.model.preprocess().standardise {
        true => Err(Error::file(
            &loaded.folder,
            "standardises each picture by itself (model.standardise), which other programs do not do",
            "export a model that was trained without",
        )),
        false => Ok(()),
    }
}

/// Writes a model to the new folder `folder`. A compact vocabulary is expanded to the full one.
pub fn export(loaded: &Loaded, format: ExportFormat, folder: &Path) -> Result<()> {
    refuse_classifiers(loaded)?;
    let (config, weights) = layout::with_full_vocabulary(&loaded.model, loaded.tokenizer.compact());
    let metadata = match &loaded.state {
        Some(state) => weights_metadata(state),
        None => BTreeMap::from([
            ("format".to_owned(), "pt".to_owned()),
            ("provenance".to_owned(), loaded.origin.provenance.to_string()),
        ]),
    };
    let json = |value: &Value| serde_json::to_vec_pretty(value).map_err(|e| Error::internal(format!("JSON: {e}")));
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    let (preprocess, size) = (loaded.model.preprocess(), config.vision_cfg.image_size);
    let (file, weights) = match format {
        ExportFormat::OpenClip => {
            let described = json!({"model_cfg": config, "preprocess_cfg": preprocess.open_clip_config(size)});
            files.push(("open_clip_config.json", json(&described)?));
            ("open_clip_model.safetensors", weights)
        }
        ExportFormat::HuggingFace => {
            let weights = layout::to_hugging_face(&config, &weights)?;
            let context = config.text_cfg.context_length;
            files.push(("config.json", json(&layout::hugging_face_config(&config))?));
            files.push(("preprocessor_config.json", json(&preprocess.transformers_config(size))?));
            files.push((
                "tokenizer_config.json",
                json(&json!({
                    "tokenizer_class": "CLIPTokenizer", "model_max_length": context, "do_lower_case": true,
                    "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
                    "pad_token": "<|endoftext|>",
                }))?,
            ));
            let names = Tokenizer::vocabulary()?;
            let ids: Map<String, Value> = names.into_iter().enumerate().map(|(id, name)| (name, json!(id))).collect();
            files.push(("vocab.json", json(&Value::Object(ids))?));
            files.push(("merges.txt", Tokenizer::merges()?.into_bytes()));
            ("model.safetensors", weights)
        }
    };
    artifact::write_folder(folder, |beside| -> Result<()> {
        let mut sums = BTreeMap::new();
        for (name, bytes) in &files {
            artifact::write(&beside.join(name), bytes)?;
            sums.insert((*name).to_owned(), artifact::sha256_hex(bytes));
        }
        sums.insert(file.to_owned(), write_safetensors(&beside.join(file), &weights, &metadata)?);
        let origin = match &loaded.state {
            Some(state) => state.trained_from.as_ref(),
            None => Some(&loaded.origin),
        };
        let card = Card {
            provenance: loaded.origin.provenance,
            poison: &loaded.origin.poison,
            state: loaded.state.as_ref(),
            origin,
            files: &sums,
            library: format.library(),
            usage: format.usage(),
        };
        Ok(artifact::write(&beside.join("README.md"), card.text().as_bytes())?)
    })
}
