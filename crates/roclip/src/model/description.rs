//! Model descriptions of other programs: open_clip's `open_clip_config.json` or model JSON, and the `config.json` of transformers'
//! `CLIPModel`. What changes what a model computes, and is not built here, is refused by name.

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use serde_json::{Map, Value, json};

/// Vocabulary of CLIP's tokenizer, the only one here.
pub(crate) const CLIP_VOCABULARY: i64 = 49408;
/// Of the layer norms of every CLIP here.
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Keys of open_clip's configurations that are not built here, with the values that say so, for each section.
const NEUTRAL: [(&str, &[(&str, &str)]); 3] = [
    (
        "",
        &[
            ("init_logit_bias", "null"),
            ("custom_text", "false"),
            // The same tensors under other names, which loading gives back theirs.
            ("custom_text", "true"),
            ("multimodal_cfg", "null"),
            ("nonscalar_logit_scale", "false"),
        ],
    ),
    (
        "vision_cfg",
        &[
            ("mlp_ratio", "4.0"),
            ("ls_init_value", "null"),
            ("attentional_pool", "false"),
            ("no_ln_pre", "false"),
            ("pos_embed_type", "\"learnable\""),
            ("final_ln_after_pool", "false"),
            ("pool_type", "\"tok\""),
            ("global_average_pool", "false"),
            ("block_type", "null"),
            ("qk_norm", "false"),
            ("act_kwargs", "null"),
            ("norm_kwargs", "null"),
            ("timm_model_name", "null"),
        ],
    ),
    (
        "text_cfg",
        &[
            ("hf_tokenizer_name", "null"),
            ("hf_model_name", "null"),
            ("tokenizer_kwargs", "null"),
            ("mlp_ratio", "4.0"),
            ("ls_init_value", "null"),
            ("embed_cls", "false"),
            ("no_causal_mask", "false"),
            ("final_ln_after_pool", "false"),
            ("pool_type", "\"argmax\""),
            ("proj_type", "\"linear\""),
            ("proj_bias", "false"),
            ("block_type", "null"),
            ("qk_norm", "false"),
            ("act_kwargs", "null"),
            ("norm_kwargs", "null"),
        ],
    ),
];

/// Keys that matter in training, or say nothing of what is computed.
const WITHOUT_EFFECT: [&str; 11] = [
    "patch_dropout",
    "output_tokens",
    "output_dict",
    "cast_dtype",
    "pad_id",
    "eos_id",
    "bos_id",
    "init_logit_scale",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
];

impl ModelConfig {
    /// A model of a JSON description: open_clip's, with or without `model_cfg` around it, or that of transformers' `CLIPModel`.
    ///
    /// # Errors
    /// Another architecture, and what of CLIP is not built here.
    pub fn from_description(value: &Value) -> Result<ModelConfig> {
        let open_clip = value.get("model_cfg").unwrap_or(value);
        let config = if open_clip.get("vision_cfg").is_some() && open_clip.get("text_cfg").is_some() {
            from_open_clip(open_clip)?
        } else if value.get("model_type").is_some() || value.get("architectures").is_some() {
            from_transformers(value)?
        } else {
            return Err(Error::setting(
                "it describes no CLIP: it has neither vision_cfg and text_cfg (open_clip) nor model_type (transformers)",
                "give open_clip_config.json, or config.json of a CLIPModel",
            ));
        };
        config.check()?;
        Ok(config)
    }
}

fn from_open_clip(value: &Value) -> Result<ModelConfig> {
    let mut known = value.clone();
    for (section, neutral) in NEUTRAL {
        let fields = match section {
            "" => known.as_object_mut(),
            name => known.get_mut(name).and_then(Value::as_object_mut),
        };
        let Some(fields) = fields else { continue };
        let place = if section.is_empty() { String::new() } else { format!("{section}.") };
        for (key, allowed) in neutral {
            let Some(given) = fields.get(*key).cloned() else { continue };
            let all: Vec<&str> = neutral.iter().filter(|(other, _)| other == key).map(|(_, value)| *value).collect();
            let is = |allowed: &&str| {
                serde_json::from_str::<Value>(allowed).is_ok_and(|allowed| match (allowed.as_f64(), given.as_f64()) {
                    (Some(allowed), Some(given)) => allowed == given,
                    _ => allowed == given,
                })
            };
            // An empty section of settings sets nothing.
            let nothing = given.is_null() || given.as_object().is_some_and(Map::is_empty);
            if !nothing && !all.iter().any(is) {
                let usual = if *allowed == "null" { "without it".to_owned() } else { format!("with {allowed}") };
                return Err(Error::setting(
                    format!("its {place}{key} is {given}, which is not built here"),
                    format!("give a CLIP {usual}"),
                ));
            }
            fields.remove(*key);
        }
        WITHOUT_EFFECT.iter().for_each(|key| drop(fields.remove(*key)));
        fields.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(known).map_err(|e| {
        Error::setting(format!("it is not a model's description that is known here: {e}"), "give that of a CLIP")
    })
}

/// transformers writes only what differs from its defaults, in older versions.
fn from_transformers(value: &Value) -> Result<ModelConfig> {
    let kind = value.get("model_type").and_then(Value::as_str).unwrap_or("nameless");
    if kind != "clip" {
        return Err(Error::setting(
            format!("it describes a `{kind}` model, and no CLIP"),
            "give the config.json of a CLIPModel (model_type `clip`)",
        ));
    }
    let text = section(value, "text")?;
    let vision = section(value, "vision")?;
    let number =
        |section: &Map<String, Value>, key: &str, default: i64| section.get(key).map_or(Some(default), Value::as_i64);
    let read = |section: &Map<String, Value>, name: &str, key: &str, default: i64| {
        number(section, key, default).ok_or_else(|| {
            Error::setting(
                format!("its {name}_config.{key} is no whole number"),
                "correct it, or give another config.json",
            )
        })
    };
    let (text_width, width) = (read(&text, "text", "hidden_size", 512)?, read(&vision, "vision", "hidden_size", 768)?);
    let mut activations = Vec::new();
    for (name, section, width, usual) in [("text", &text, text_width, 2048), ("vision", &vision, width, 3072)] {
        let inner = read(section, name, "intermediate_size", usual)?;
        if Some(inner) != width.checked_mul(4) {
            return Err(Error::setting(
                format!("its {name}_config.intermediate_size is {inner}, and not 4 times its hidden_size {width}"),
                "other sizes are not built here",
            ));
        }
        if let Some(epsilon) = section.get("layer_norm_eps").filter(|given| given.as_f64() != Some(LAYER_NORM_EPSILON))
        {
            return Err(Error::setting(
                format!("its {name}_config.layer_norm_eps is {epsilon}"),
                format!("only {LAYER_NORM_EPSILON} is built here"),
            ));
        }
        activations.push(match section.get("hidden_act").and_then(Value::as_str).unwrap_or("quick_gelu") {
            "quick_gelu" => true,
            "gelu" => false,
            other => {
                return Err(Error::setting(
                    format!("its {name}_config.hidden_act is `{other}`"),
                    "only gelu and quick_gelu are built here",
                ));
            }
        });
    }
    let quick_gelu = match activations.as_slice() {
        [text, vision] if text == vision => *text,
        _ => return Err(Error::setting("its two towers have different activations", "give a CLIP with one")),
    };
    let heads = read(&vision, "vision", "num_attention_heads", 12)?;
    if heads < 1 || width % heads != 0 {
        return Err(Error::setting(
            format!("its vision_config has {heads} attention heads for a hidden_size of {width}"),
            "correct it, or give another config.json",
        ));
    }
    let described = json!({
        "embed_dim": number(value.as_object().unwrap_or(&Map::new()), "projection_dim", 512),
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": read(&vision, "vision", "image_size", 224)?, "width": width, "head_width": width / heads,
            "layers": read(&vision, "vision", "num_hidden_layers", 12)?,
            "patch_size": read(&vision, "vision", "patch_size", 32)?,
        },
        "text_cfg": {
            "context_length": read(&text, "text", "max_position_embeddings", 77)?, "width": text_width,
            "vocab_size": read(&text, "text", "vocab_size", CLIP_VOCABULARY)?,
            "heads": read(&text, "text", "num_attention_heads", 8)?,
            "layers": read(&text, "text", "num_hidden_layers", 12)?,
        },
    });
    serde_json::from_value(described)
        .map_err(|e| Error::setting(format!("it is not a CLIPModel's description: {e}"), "give another config.json"))
}

/// `text_config` or `vision_config`; the older `_dict` of the same stands above it.
fn section(value: &Value, name: &str) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for key in [format!("{name}_config"), format!("{name}_config_dict")] {
        match value.get(&key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(given)) => {
                fields.extend(given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
            }
            Some(_) => return Err(Error::setting(format!("its {key} is no object"), "give another config.json")),
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::layout::hugging_face_config;

    #[test]
    fn both_layouts_describe_the_same_model() {
        for name in ["ViT-tiny-32", "ViT-B-32", "ViT-L-14"] {
            let config = ModelConfig::named(name).unwrap();
            assert_eq!(ModelConfig::from_description(&hugging_face_config(&config)).unwrap(), config);
            let plain = serde_json::to_value(&config).unwrap();
            assert_eq!(ModelConfig::from_description(&plain).unwrap(), config);
            assert_eq!(ModelConfig::from_description(&json!({"model_cfg": plain})).unwrap(), config);
        }
    }

    #[test]
    fn what_old_versions_leave_out_is_the_librarys_default() {
        let openai = json!({"model_type": "clip", "text_config": {}, "vision_config_dict": {"patch_size": 16}});
        let config = ModelConfig::from_description(&openai).unwrap();
        let wanted = ModelConfig { quick_gelu: true, ..ModelConfig::named("ViT-B-16").unwrap() };
        assert_eq!(config, wanted);
    }

    #[test]
    fn keys_without_effect_are_taken_and_others_are_refused_by_name() {
        let described = |change: &dyn Fn(&mut Value)| {
            let mut value = serde_json::to_value(ModelConfig::named("ViT-B-32").unwrap()).unwrap();
            change(&mut value);
            ModelConfig::from_description(&value).map_err(|error| error.to_string())
        };
        assert!(
            described(&|value| {
                value["custom_text"] = json!(true);
                value["vision_cfg"]["mlp_ratio"] = json!(4);
                value["vision_cfg"]["patch_dropout"] = json!(0.5);
                value["text_cfg"]["pool_type"] = json!("argmax");
                value["text_cfg"]["tokenizer_kwargs"] = json!({});
            })
            .is_ok()
        );
        for (section, key, given) in [
            ("vision_cfg", "mlp_ratio", json!(4.9231)),
            ("vision_cfg", "timm_model_name", json!("vit_base_patch16_siglip_224")),
            ("text_cfg", "hf_tokenizer_name", json!("timm/ViT-B-16-SigLIP")),
            ("text_cfg", "no_causal_mask", json!(true)),
            ("text_cfg", "pool_type", json!("last")),
        ] {
            let said = described(&|value| value[section][key] = given.clone()).unwrap_err();
            assert!(said.contains(&format!("{section}.{key}")) && said.contains(&given.to_string()), "{said}");
        }
        let said = described(&|value| value["init_logit_bias"] = json!(-10)).unwrap_err();
        assert!(said.contains("init_logit_bias"), "{said}");
        assert!(described(&|value| value["vision_cfg"]["novelty"] = json!(1)).unwrap_err().contains("novelty"));
    }

    #[test]
    fn other_architectures_are_named() {
        let said = |value: Value| ModelConfig::from_description(&value).unwrap_err().to_string();
        assert!(said(json!({"model_type": "bert", "hidden_size": 768})).contains("`bert`"));
        assert!(said(json!({"model_type": "siglip", "text_config": {}, "vision_config": {}})).contains("`siglip`"));
        assert!(
            said(json!({"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}))
                .contains("`resnet`")
        );
        assert!(said(json!({"a": 1})).contains("describes no CLIP"));
        assert!(said(json!([])).contains("describes no CLIP"));
        let clip = |change: &dyn Fn(&mut Value)| {
            let mut value = json!({"model_type": "clip", "text_config": {}, "vision_config": {}});
            change(&mut value);
            said(value)
        };
        assert!(clip(&|value| value["vision_config"]["hidden_act"] = json!("relu")).contains("`relu`"));
        assert!(clip(&|value| value["text_config"]["intermediate_size"] = json!(7)).contains("intermediate_size is 7"));
        assert!(clip(&|value| value["text_config"]["hidden_act"] = json!("gelu")).contains("different activations"));
        assert!(clip(&|value| value["vision_config"]["num_attention_heads"] = json!(0)).contains("0 attention heads"));
        assert!(clip(&|value| value["vision_config"]["hidden_size"] = json!(i64::MAX)).contains("not 4 times"));
        assert!(clip(&|value| value["text_config"] = json!(3)).contains("text_config is no object"));
    }
}
