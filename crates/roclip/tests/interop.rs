//! Exports loaded by the real open_clip and transformers. `make interop` installs both and runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use roclip::checkpoint::{ExportFormat, export};
use roclip::checkpoint::{Layout, Loaded, Origin, Provenance, State};
use roclip::model::{Clip, ModelConfig, write_safetensors};
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer, Truncate};
use std::collections::BTreeMap;
use std::process::Command;
use tch::{Device, Kind, Tensor};

const TEXTS: [&str; 4] = [
    "a photo of a cat",
    "two dogs, running!",
    "",
    "café naïve 123 and a caption that is much longer than all of the others here",
];

fn check(model: &str, compact: bool) {
    let python = std::env::var("ROCLIP_INTEROP_PYTHON").expect("run this through `make interop`");
    let mut config = ModelConfig::named(model).unwrap();
    let tokenizer = Tokenizer::new(config.text_cfg.context_length as usize, Truncate::KeepEot).unwrap();
    let vocabulary = compact.then(|| CompactVocabulary::build(&tokenizer, TEXTS.into_iter()));
    let tokenizer = tokenizer.with_compact(vocabulary.clone());
    config.text_cfg.vocab_size = tokenizer.vocabulary_size() as i64;
    let model = Clip::new(config, Device::Cpu, 5).unwrap();
    let size = i64::from(model.config().image_size());
    let images = Tensor::randn([3, 3, size, size], (Kind::Float, Device::Cpu));
    let (ids, length) = tokenizer.pad(&TEXTS.map(|text| tokenizer.encode(text)));
    let tokens = Tensor::from_slice(&ids).view([TEXTS.len() as i64, length as i64]);
    let features = tch::no_grad(|| (model.image_features(&images, false).unwrap(), model.text_features(&tokens)));
    let folder = tempfile::tempdir().unwrap();
    let expected = BTreeMap::from([
        ("images".to_owned(), images),
        ("image_features".to_owned(), features.0),
        ("text_features".to_owned(), features.1),
    ]);
    write_safetensors(&folder.path().join("expected.safetensors"), &expected, &BTreeMap::new()).unwrap();
    std::fs::write(folder.path().join("texts.json"), serde_json::to_string(&TEXTS).unwrap()).unwrap();
    let is_vit = model.config().vision_cfg.patch_size.is_some();
    let state = State {
        classes: Vec::new(),
        captioner: None,
        step: 1,
        epoch: 1,
        pass: 0,
        step_in_pass: 0,
        seed: 5,
        data_fingerprint: String::new(),
        measured_on: None,
        named: BTreeMap::new(),
        provenance: Provenance::Clean,
        trained_from: None,
        pairs: 0,
        poison: BTreeMap::new(),
        objective: "clip".into(),
        truncate: Truncate::KeepEot,
        compact_vocabulary: vocabulary,
        epoch_so_far: None,
        files: BTreeMap::new(),
    };
    let origin =
        Origin { path: String::new(), sha256: String::new(), provenance: state.provenance, poison: BTreeMap::new() };
    let folder_of = folder.path().to_owned();
    let loaded = Loaded { model, tokenizer, state: Some(state), folder: folder_of, origin, layout: Layout::Roclip };
    export(&loaded, ExportFormat::OpenClip, &folder.path().join("open_clip")).unwrap();
    if is_vit {
        export(&loaded, ExportFormat::HuggingFace, &folder.path().join("hugging_face")).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/check_export.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs the Python packages that `make interop` installs"]
fn a_vit_with_a_compact_vocabulary_loads_in_both_libraries() {
    check("ViT-tiny-32", true);
}

#[test]
#[ignore = "needs the Python packages that `make interop` installs"]
fn a_resnet_with_the_full_vocabulary_loads_in_open_clip() {
    check("RN-small-32", false);
}
