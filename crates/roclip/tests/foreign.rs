//! Models that open_clip and transformers wrote (tests/foreign/write_models.py), and what those libraries make of pictures and texts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use roclip::checkpoint::{self, Description, ExportFormat, Layout, Loaded, Provenance, export};
use roclip::eval::{FeatureKind, ImageEncoder, text_features, unaltered};
use roclip::model::{read_safetensors, write_safetensors};
use roclip_data::artifact::sha256_hex;
use roclip_data::picture::ImageLimits;
use roclip_data::sample::{ImageBytes, Sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-4;
/// Of pictures that are resized, whose pixels may differ by a level of 255 from Pillow's.
const RESIZED_TOLERANCE: f64 = 2e-2;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign")
}

fn numbers(rows: &Value) -> Tensor {
    let rows: Vec<Vec<f32>> = serde_json::from_value(rows.clone()).unwrap();
    Tensor::from_slice2(&rows)
}

fn compare(what: &str, found: &Tensor, wanted: &Tensor, tolerance: f64) {
    let worst = (found - wanted).abs().max().double_value(&[]);
    assert!(worst < tolerance, "{what} differs by {worst}");
}

/// Image features of the pictures and text features of the texts, against those in `NAME.json`.
fn check_features(name: &str, loaded: &Loaded) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let pictures = ["exact.png", "wide.png", "high.png"]
        .map(|name| Sample::new("golden".into(), name, ImageBytes::File(folder().join(name))));
    let kind = FeatureKind::Projected;
    let encoder = ImageEncoder {
        model: &loaded.model,
        limits: ImageLimits::default(),
        batch_size: 2,
        workers: 1,
        kind,
        world: None,
    };
    let images = encoder.encode(&pictures.iter().collect::<Vec<_>>(), &unaltered).unwrap().features;
    let wanted = numbers(&expected["image_features"]);
    compare(&format!("{name}: image features"), &images.narrow(0, 0, 1), &wanted.narrow(0, 0, 1), TOLERANCE);
    compare(&format!("{name}: features of resized pictures"), &images, &wanted, RESIZED_TOLERANCE);
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    let texts = text_features(&loaded.model, &loaded.tokenizer, &texts, 4, Device::Cpu).unwrap();
    compare(&format!("{name}: text features"), &texts, &numbers(&expected["text_features"]), TOLERANCE);
}

fn load(path: &Path) -> Result<Loaded, String> {
    checkpoint::load(path, Device::Cpu).map_err(|error| error.to_string())
}

/// A copy of a golden model that may be changed.
fn copied(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder().join(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn models_of_both_libraries_give_their_features() {
    for (name, layout, file) in [
        ("open_clip", Layout::OpenClip, "open_clip_model.safetensors"),
        ("transformers", Layout::Transformers, "model.safetensors"),
    ] {
        for path in [folder().join(name), folder().join(name).join(file)] {
            let loaded = load(&path).unwrap();
            assert_eq!((loaded.layout, loaded.origin.provenance), (layout, Provenance::Unknown));
            assert!(loaded.state.is_none());
            assert!(loaded.model.parameters().all().values().all(|tensor| tensor.kind() == Kind::Float));
            check_features(name, &loaded);
        }
    }
}

#[test]
fn an_export_of_a_foreign_model_is_that_model_and_its_card_names_its_own_files() {
    for (name, format) in [("open_clip", ExportFormat::HuggingFace), ("transformers", ExportFormat::OpenClip)] {
        let out = tempfile::tempdir().unwrap();
        let exported = out.path().join("exported");
        export(&load(&folder().join(name)).unwrap(), format, &exported).unwrap();
        check_features(name, &load(&exported).unwrap());
        let card = std::fs::read_to_string(exported.join("README.md")).unwrap();
        let mut listed = 0;
        for line in card.lines().filter(|line| line.contains("` sha256 ")) {
            let (file, sum) = line.trim_start_matches("- `").split_once("` sha256 ").unwrap();
            assert_eq!(sha256_hex(&std::fs::read(exported.join(file)).unwrap()), sum, "{file}");
            listed += 1;
        }
        assert_eq!(listed, std::fs::read_dir(&exported).unwrap().count() - 1, "every file but the card: {card}");
        assert!(card.contains("# CLIP, unknown") && card.contains("Copied from the weights"), "{card}");
        assert!(card.contains(if format == ExportFormat::OpenClip {
            "create_model_and_transforms"
        } else {
            "from_pretrained"
        }));
    }
}

#[test]
fn a_configuration_may_be_named_and_one_that_does_not_fit_is_refused() {
    let model = copied("open_clip");
    let weights = model.path().join("open_clip_model.safetensors");
    let config = model.path().join("open_clip_config.json");
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("described.json");
    std::fs::rename(&config, &moved).unwrap();
    let said = load(&weights).err().unwrap();
    assert!(said.contains("no open_clip_config.json or config.json") && said.contains("--model"), "{said}");
    let named = |name: &str| {
        checkpoint::load_as(&weights, Description::By(name), Device::Cpu).map_err(|error| error.to_string())
    };
    assert_eq!(named(moved.to_str().unwrap()).unwrap().model.config().embed_dim, 6);
    let said = named("ViT-B-32").err().unwrap();
    assert!(said.contains("holds") || said.contains("lacks"), "{said}");
    let text = std::fs::read_to_string(&moved).unwrap();
    let refused = |config_text: String, words: &str| {
        std::fs::write(&config, config_text).unwrap();
        let said = load(model.path()).err().unwrap();
        assert!(said.contains(words), "{words}: {said}");
    };
    refused(text.replace("\"width\": 8", "\"width\": 16"), "but this model needs");
    refused(text.replacen("\"layers\": 2", "\"layers\": 1", 1), "which this model does not have");
    refused(text.replacen("\"layers\": 2", "\"layers\": 3", 1), "lacks `visual.transformer.resblocks.2");
    refused(text.replace("49408", "1000"), "vocabulary of 1000 tokens");
    refused(text.replace("\"squash\"", "\"longest\""), "resize_mode = longest");
    refused("{}".into(), "open_clip_config.json`: it describes no CLIP");
    refused("not JSON".into(), "not the JSON expected");
    std::fs::remove_file(&config).unwrap();
    for other in ["bert", "siglip", "resnet"] {
        std::fs::write(model.path().join("config.json"), json!({"model_type": other}).to_string()).unwrap();
        assert!(load(model.path()).err().unwrap().contains(&format!("`{other}` model")));
    }
}

#[test]
fn weights_that_are_not_whole_finite_and_the_models_are_refused() {
    let model = copied("transformers");
    let weights = model.path().join("model.safetensors");
    let whole = read_safetensors(&weights).unwrap();
    let with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors: BTreeMap<String, Tensor> =
            whole.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(Kind::Float))).collect();
        change(&mut tensors);
        write_safetensors(&weights, &tensors, &BTreeMap::new()).unwrap();
        load(model.path())
    };
    check_features("transformers", &with(&|_| ()).unwrap());
    let said = with(&|tensors| {
        let _ = tensors["visual_projection.weight"].get(0).fill_(f64::NAN);
    });
    assert!(said.err().unwrap().contains("not finite"));
    let said = with(&|tensors| {
        for name in ["a", "b", "c", "d", "e"] {
            tensors.insert(name.into(), Tensor::from(1f32));
        }
    });
    assert!(said.err().unwrap().contains("holds `a`, `b`, `c` and 2 more"));
    let said = with(&|tensors| tensors.retain(|name, _| !name.starts_with("text_model.")));
    let said = said.err().unwrap();
    assert!(said.contains("lacks `ln_final.bias`, "), "{said}");
    std::fs::write(&weights, "version one of my notes").unwrap();
    assert!(load(model.path()).err().unwrap().contains("is not safetensors"));
    std::fs::write(&weights, "").unwrap();
    assert!(load(model.path()).err().unwrap().contains("is empty"));
    std::fs::remove_file(&weights).unwrap();
    assert!(load(model.path()).err().unwrap().contains("holds no model"));
    std::fs::write(model.path().join("pytorch_model.bin"), b"PK").unwrap();
    assert!(load(model.path()).err().unwrap().contains("torch pickle"));
}

#[test]
fn shards_are_one_model() {
    let model = copied("transformers");
    let weights = model.path().join("model.safetensors");
    let whole = read_safetensors(&weights).unwrap();
    std::fs::remove_file(&weights).unwrap();
    let mut map = BTreeMap::new();
    let mut shards = [BTreeMap::new(), BTreeMap::new()];
    for (at, (name, tensor)) in whole.iter().enumerate() {
        map.insert(name.clone(), format!("model-{}.safetensors", at % 2));
        shards[at % 2].insert(name.clone(), tensor.to_kind(Kind::Float));
    }
    for (at, shard) in shards.iter().enumerate() {
        write_safetensors(&model.path().join(format!("model-{at}.safetensors")), shard, &BTreeMap::new()).unwrap();
    }
    let index = model.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    check_features("transformers", &load(model.path()).unwrap());
    check_features("transformers", &load(&index).unwrap());
    std::fs::remove_file(model.path().join("model-1.safetensors")).unwrap();
    assert!(load(model.path()).err().unwrap().contains("model-1.safetensors"));
}
