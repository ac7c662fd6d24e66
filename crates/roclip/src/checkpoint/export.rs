//! A checkpoint in the layouts that other libraries load: open_clip's folder, and Hugging Face's `CLIPModel` (ViT).

use crate::checkpoint::card::model_card;
use crate::checkpoint::load::Loaded;
use crate::checkpoint::store::weights_metadata;
use crate::error::{Error, Result};
use crate::model::{layout, write_safetensors};
use roclip_data::artifact;
use roclip_data::picture::preprocess::{MEAN, STD};
use roclip_data::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `open_clip_config.json` and `open_clip_model.safetensors`, for `open_clip.create_model("local-dir:FOLDER")`.
    OpenClip,
    /// `config.json`, `model.safetensors`, tokenizer and preprocessor files, for `CLIPModel.from_pretrained("FOLDER")`.
    HuggingFace,
}

/// Writes the model of a checkpoint to the new folder `folder`. A compact vocabulary is expanded to the full one.
pub fn export(loaded: &Loaded, format: ExportFormat, folder: &Path) -> Result<()> {
    let (config, weights) = layout::with_full_vocabulary(&loaded.model, loaded.tokenizer.compact());
    let metadata = weights_metadata(&loaded.state);
    let json = |value: &Value| serde_json::to_vec_pretty(value).map_err(|e| Error::internal(format!("JSON: {e}")));
    let mut files: Vec<(&str, Vec<u8>)> = vec![("README.md", model_card(&loaded.state).into_bytes())];
    let (file, weights) = match format {
        ExportFormat::OpenClip => {
            let preprocess = json!({
                "size": [config.vision_cfg.image_size, config.vision_cfg.image_size], "mode": "RGB", "mean": MEAN,
                "std": STD, "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
            });
            files.push(("open_clip_config.json", json(&json!({"model_cfg": config, "preprocess_cfg": preprocess}))?));
            ("open_clip_model.safetensors", weights)
        }
        ExportFormat::HuggingFace => {
            let weights = layout::to_hugging_face(&config, &weights)?;
            let (size, context) = (config.vision_cfg.image_size, config.text_cfg.context_length);
            files.push(("config.json", json(&layout::hugging_face_config(&config))?));
            files.push((
                "preprocessor_config.json",
                json(&json!({
                    "image_processor_type": "CLIPImageProcessor", "do_resize": true, "size": {"shortest_edge": size},
                    "do_center_crop": true, "crop_size": {"height": size, "width": size}, "do_normalize": true,
                    "do_rescale": true, "do_convert_rgb": true, "image_mean": MEAN, "image_std": STD, "resample": 3,
                }))?,
            ));
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
        files.iter().try_for_each(|(name, bytes)| artifact::write(&beside.join(name), bytes))?;
        write_safetensors(&beside.join(file), &weights, &metadata).map(|_| ())
    })
}
