//! Key layouts of CLIP weights. Inside and in checkpoints it is open_clip's, which is OpenAI's; Hugging Face's `CLIPModel` names
//! and splits the same tensors differently (ViT only: it has no ResNet CLIP).

use crate::error::{Error, Result, TorchContext};
use crate::model::config::VisionLayers;
use crate::model::{Clip, ModelConfig};
use roclip_data::tokenizer::CompactVocabulary;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tch::Tensor;

type Tensors = BTreeMap<String, Tensor>;

/// Names inside one residual block: open_clip's, Hugging Face's.
const BLOCK: [(&str, &str); 10] = [
    ("ln_1.weight", "layer_norm1.weight"),
    ("ln_1.bias", "layer_norm1.bias"),
    ("ln_2.weight", "layer_norm2.weight"),
    ("ln_2.bias", "layer_norm2.bias"),
    ("attn.out_proj.weight", "self_attn.out_proj.weight"),
    ("attn.out_proj.bias", "self_attn.out_proj.bias"),
    ("mlp.c_fc.weight", "mlp.fc1.weight"),
    ("mlp.c_fc.bias", "mlp.fc1.bias"),
    ("mlp.c_proj.weight", "mlp.fc2.weight"),
    ("mlp.c_proj.bias", "mlp.fc2.bias"),
];

/// Names outside the blocks.
const OUTSIDE: [(&str, &str); 12] = [
    ("logit_scale", "logit_scale"),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    // The misspelling is transformers' own.
    ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
    ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    ("visual.ln_post.weight", "vision_model.post_layernorm.weight"),
    ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
];

/// Projections, which Hugging Face keeps transposed.
const TRANSPOSED: [(&str, &str); 2] =
    [("text_projection", "text_projection.weight"), ("visual.proj", "visual_projection.weight")];

/// Block stacks: open_clip's prefix, Hugging Face's.
const STACKS: [(&str, &str); 2] = [
    ("transformer.resblocks", "text_model.encoder.layers"),
    ("visual.transformer.resblocks", "vision_model.encoder.layers"),
];

/// Weights for Hugging Face's `CLIPModel`.
pub fn to_hugging_face(config: &ModelConfig, weights: &Tensors) -> Result<Tensors> {
    let VisionLayers::Vit(vision_layers) = config.vision_cfg.layers else {
        return Err(Error::setting(
            "Hugging Face's CLIPModel has no ResNet",
            "export a ViT, or use --format open-clip",
        ));
    };
    let mut out = Tensors::new();
    let take = |name: &str| {
        weights.get(name).map(Tensor::shallow_clone).ok_or_else(|| Error::internal(format!("no tensor `{name}`")))
    };
    for (own, theirs) in OUTSIDE {
        out.insert(theirs.into(), take(own)?);
    }
    for (own, theirs) in TRANSPOSED {
        out.insert(theirs.into(), take(own)?.transpose(0, 1).contiguous());
    }
    for ((own, theirs), layers) in STACKS.into_iter().zip([config.text_cfg.layers, vision_layers]) {
        for layer in 0..layers {
            for (name, their_name) in BLOCK {
                out.insert(format!("{theirs}.{layer}.{their_name}"), take(&format!("{own}.{layer}.{name}"))?);
            }
            for kind in ["weight", "bias"] {
                let parts = take(&format!("{own}.{layer}.attn.in_proj_{kind}"))?.chunk(3, 0);
                for (part, letter) in parts.iter().zip(["q", "k", "v"]) {
                    out.insert(format!("{theirs}.{layer}.self_attn.{letter}_proj.{kind}"), part.contiguous());
                }
            }
        }
    }
    Ok(out)
}

/// Whether weights have the names of Hugging Face's `CLIPModel`.
pub fn is_hugging_face(weights: &BTreeMap<String, Tensor>) -> bool {
    weights.keys().any(|name| {
        let name = name.strip_prefix("module.").unwrap_or(name);
        name.starts_with("text_model.") || name.starts_with("vision_model.")
    })
}

/// Weights of any known layout under open_clip's names: Hugging Face's `CLIPModel`; OpenAI's, with its three extra scalars; a
/// data-parallel `module.` prefix. Others pass unchanged, and [`Clip::load`] names what does not fit.
///
/// # Errors
/// Tensors of Hugging Face's layout whose shapes cannot be turned into open_clip's.
pub fn to_open_clip(weights: Tensors) -> Result<Tensors> {
    let stripped = weights.into_iter().map(|(name, tensor)| {
        let plain = name.strip_prefix("module.").unwrap_or(&name).to_owned();
        (plain, tensor)
    });
    let mut weights: Tensors = stripped.collect();
    for extra in ["input_resolution", "context_length", "vocab_size"] {
        weights.remove(extra);
    }
    // open_clip keeps the text tower of some models in a module of its own.
    if weights.contains_key("text.token_embedding.weight") {
        let plain = |name: String| name.strip_prefix("text.").map_or(name.clone(), str::to_owned);
        weights = weights.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect();
    }
    if !is_hugging_face(&weights) {
        return Ok(weights);
    }
    let misshapen = |name: &str| {
        Error::setting(format!("the weights' `{name}` has a shape that no CLIP has"), "give weights of a CLIPModel")
    };
    let mut out = Tensors::new();
    for (own, theirs) in OUTSIDE {
        if let Some(tensor) = weights.remove(theirs) {
            out.insert(own.into(), tensor);
        }
    }
    for (own, theirs) in TRANSPOSED {
        if let Some(tensor) = weights.remove(theirs) {
            let transposed = if tensor.dim() == 2 { tensor.f_transpose(0, 1) } else { return Err(misshapen(theirs)) };
            out.insert(own.into(), transposed.torch("transposing a projection")?.contiguous());
        }
    }
    for (own, theirs) in STACKS {
        for layer in 0.. {
            let prefix = format!("{theirs}.{layer}");
            let mut found = false;
            for (name, their_name) in BLOCK {
                if let Some(tensor) = weights.remove(&format!("{prefix}.{their_name}")) {
                    out.insert(format!("{own}.{layer}.{name}"), tensor);
                    found = true;
                }
            }
            for kind in ["weight", "bias"] {
                let parts = ["q", "k", "v"].map(|l| weights.remove(&format!("{prefix}.self_attn.{l}_proj.{kind}")));
                let parts: Vec<Tensor> = parts.into_iter().flatten().collect();
                if parts.is_empty() {
                    continue;
                }
                // Parts that are missing show in the size of the whole.
                let fits = |part: &Tensor| part.dim() > 0 && parts.iter().all(|other| other.size() == part.size());
                if !parts.iter().all(fits) {
                    return Err(misshapen(&format!("{prefix}.self_attn.*_proj.{kind}")));
                }
                let joined = Tensor::f_cat(&parts, 0).torch("joining projections")?;
                out.insert(format!("{own}.{layer}.attn.in_proj_{kind}"), joined);
            }
            if !found {
                break;
            }
        }
    }
    // Older files carry index buffers; what else is left over stays, so that loading can name it.
    weights.retain(|name, _| !name.ends_with("embeddings.position_ids"));
    out.extend(weights);
    Ok(out)
}

/// The weights of a model with the full vocabulary in place of a compact one: every token finds the row that the compact
/// tokenizer gave it, so features are the same.
pub fn with_full_vocabulary(model: &Clip, compact: Option<&CompactVocabulary>) -> (ModelConfig, Tensors) {
    const NAME: &str = "token_embedding.weight";
    let mut config = model.config().clone();
    let mut weights = model.parameters().all();
    if let (Some(compact), Some(rows)) = (compact, weights.get(NAME)) {
        let full = CompactVocabulary::FULL_SIZE;
        let places: Vec<i64> = (0..full).map(|id| compact.map(id)).collect();
        let expanded = rows.detach().index_select(0, &Tensor::from_slice(&places).to_device(rows.device()));
        weights.insert(NAME.into(), expanded);
        config.text_cfg.vocab_size = full;
    }
    (config, weights)
}

/// `config.json` of a `CLIPModel`.
pub fn hugging_face_config(config: &ModelConfig) -> Value {
    let (vision, text) = (&config.vision_cfg, &config.text_cfg);
    let activation = if config.quick_gelu { "quick_gelu" } else { "gelu" };
    let layers = match vision.layers {
        VisionLayers::Vit(layers) => layers,
        VisionLayers::ResNet(_) => 0,
    };
    json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": config.embed_dim,
        "logit_scale_init_value": (1.0f64 / 0.07).ln(), "torch_dtype": "float32",
        "text_config": {
            "model_type": "clip_text_model", "vocab_size": text.vocab_size, "hidden_size": text.width,
            "intermediate_size": 4 * text.width, "num_hidden_layers": text.layers, "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length, "hidden_act": activation, "layer_norm_eps": 1e-5,
            "projection_dim": config.embed_dim, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407,
        },
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": vision.width, "intermediate_size": 4 * vision.width,
            "num_hidden_layers": layers, "num_attention_heads": vision.width / vision.head_width,
            "image_size": vision.image_size, "patch_size": vision.patch_size, "hidden_act": activation,
            "layer_norm_eps": 1e-5, "projection_dim": config.embed_dim,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn there_and_back_is_the_same_and_resnets_are_refused() {
        let config = ModelConfig::named("ViT-tiny-32").unwrap();
        let model = Clip::new(config.clone(), Device::Cpu, 3).unwrap();
        let own = model.parameters().all();
        let back = to_open_clip(to_hugging_face(&config, &own).unwrap()).unwrap();
        assert_eq!(own.keys().collect::<Vec<_>>(), back.keys().collect::<Vec<_>>());
        assert!(own.iter().all(|(name, tensor)| back[name].equal(tensor)));
        let resnet = ModelConfig::named("RN-small-32").unwrap();
        assert!(to_hugging_face(&resnet, &own).unwrap_err().to_string().contains("ResNet"));
    }

    #[test]
    fn hugging_face_tensors_of_odd_ranks_are_refused_by_name() {
        let mut config = ModelConfig::named("ViT-tiny-32").unwrap();
        config.text_cfg.vocab_size = 8;
        let own = Clip::new(config.clone(), Device::Cpu, 3).unwrap().parameters().all();
        let query = "text_model.encoder.layers.0.self_attn.q_proj.weight";
        let shapes: [&[i64]; 5] = [&[], &[0], &[3], &[2, 3], &[2, 3, 4]];
        for name in ["text_projection.weight", "visual_projection.weight", query, "logit_scale"] {
            for shape in shapes {
                let mut weights = to_hugging_face(&config, &own).unwrap();
                weights.insert(name.into(), Tensor::zeros(shape, (tch::Kind::Float, Device::Cpu)));
                let model = Clip::new(config.clone(), Device::Cpu, 3).unwrap();
                let loaded = to_open_clip(weights).and_then(|weights| model.load(std::path::Path::new("w"), &weights));
                assert_eq!(loaded.is_ok(), name == "logit_scale" && shape.is_empty(), "{name} {shape:?}");
            }
        }
    }
}
