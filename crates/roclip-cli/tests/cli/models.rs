//! Models that other programs wrote, and data sets that a run was not planned for.

use crate::support::Lab;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn foreign(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign").join(name).display().to_string()
}

/// Lays pictures of the lab out as `ROOT/SPLIT/CLASS/*.png`, a class for each name.
fn folders(lab: &Lab, root: &str, split: &str, names: &[&str], numbers: std::ops::Range<usize>) {
    for number in numbers {
        let folder = lab.path(root).join(split).join(names[number % names.len()]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(lab.path(&format!("{number:03}.png")), folder.join(format!("{number:03}.png"))).unwrap();
    }
}

/// A run with a backdoor and targeted poisoning, in little time.
fn poisoned_run(lab: &Lab) {
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let text = text.replace("probe =", "# probe =").replace("[augment.image]\nblur_kernel = 3\n[augment.text]\n", "");
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
    lab.train("run", &["--preset", "clip", "--epochs", "1"]);
}

#[test]
fn models_of_both_libraries_are_measured_cleaned_and_exported() {
    let lab = Lab::new();
    folders(&lab, "colours", "test", &["red", "green", "blue", "white"], 48..64);
    let pairs = lab.path("pairs.csv").display().to_string();
    for (name, format) in [("open_clip", "hugging-face"), ("transformers", "open-clip")] {
        let model = foreign(name);
        lab.fails(&["eval", &model], 1, &["belongs to no run", "--on", "--val-data", "--config"]);
        let measured = lab.json(&["eval", &model, "--val-data", "colours"]);
        assert_eq!(measured["evaluation"]["zero_shot_top1"]["n"], 16);
        assert_eq!((&measured["provenance"], &measured["dataset"]), (&"unknown".into(), &"colours".into()));
        assert_eq!(measured["model"], name);
        lab.fails(&["clean", &model, "--run", "cleaned"], 1, &["is of no run", "--train-data", "--config"]);
        let cleaned = format!("cleaned-{name}");
        let clean = ["clean", &model, "--run", &cleaned, "--train-data", &pairs, "--val-data", "colours"];
        let small = ["--batch-size", "8", "--epochs", "1", "--warmup", "1", "--lr", "1e-3", "--threads", "1"];
        let said = lab.ok(&[&clean[..], &small].concat());
        assert!(said.contains("weights moved by ") && !said.contains("weights moved by 0.000 %"), "{said}");
        let measured = lab.json(&["eval", &cleaned]);
        assert_eq!((&measured["provenance"], &measured["model"]), (&"cleaned".into(), &name.into()));
        let exported = format!("exported-{name}");
        lab.ok(&["export", &cleaned, "--format", format, "--out", &exported]);
        let card = std::fs::read_to_string(lab.path(&exported).join("README.md")).unwrap();
        let library = if format == "open-clip" { "open_clip" } else { "transformers" };
        assert!(card.contains(&format!("\nlibrary_name: {library}\n")), "{card}");
        let again = lab.json(&["eval", &exported, "--val-data", "colours"]);
        assert_eq!(again["evaluation"], measured["evaluation"], "the preprocessing goes with the weights");
        assert_eq!(again["provenance"], "cleaned", "the weights say what they are");
    }
    let par = ["clean", &foreign("open_clip"), "--run", "par", "--method", "par", "--train-data", &pairs];
    let still = ["--val-data", "colours", "--batch-size", "8", "--epochs", "1", "--lr", "1e-9"];
    let said = lab.stderr(&[&par[..], &still].concat());
    assert!(said.contains("cleaned next to nothing") && said.contains("--lr"), "{said}");
    lab.fails(&["doctor", &foreign("open_clip")], 1, &["is a model and no run", "roclip eval"]);
}

#[test]
fn weights_alone_are_described_by_model_and_what_is_no_model_is_refused() {
    let lab = Lab::new();
    folders(&lab, "colours", "test", &["red", "green"], 48..56);
    // Of two files of weights one is taken, and that is said.
    std::fs::create_dir(lab.path("two")).unwrap();
    for file in ["open_clip_config.json", "open_clip_model.safetensors"] {
        std::fs::copy(foreign(&format!("open_clip/{file}")), lab.path("two").join(file)).unwrap();
    }
    std::fs::copy(foreign("open_clip/open_clip_model.safetensors"), lab.path("two/model.safetensors")).unwrap();
    let said = lab.stderr(&["eval", "two", "--val-data", "colours"]);
    assert!(said.contains("`two` holds 2 files of weights, and `open_clip_model.safetensors` is taken"), "{said}");
    let weights = lab.path("w.safetensors");
    std::fs::copy(foreign("open_clip/open_clip_model.safetensors"), &weights).unwrap();
    let on = ["--val-data", "colours"];
    lab.fails(&[&["eval", "w.safetensors"], &on[..]].concat(), 1, &["w.safetensors", "config.json", "--model"]);
    lab.fails(&[&["eval", "w.safetensors", "--model", "RN5O"], &on[..]].concat(), 1, &["unknown model `RN5O`"]);
    lab.fails(
        &[&["eval", "w.safetensors", "--model", "ViT-tiny-32"], &on[..]].concat(),
        1,
        &["lacks `visual.transformer.resblocks.2", "--model"],
    );
    let config = foreign("open_clip/open_clip_config.json");
    lab.json(&[&["eval", "w.safetensors", "--model", &config], &on[..]].concat());
    std::fs::create_dir(lab.path("empty")).unwrap();
    lab.fails(
        &[&["eval", "empty"], &on[..]].concat(),
        1,
        &["`empty`", "holds no model", "open_clip_model.safetensors"],
    );
    lab.fails(&[&["eval", "absent"], &on[..]].concat(), 1, &["find the model `absent`"]);
    std::fs::write(lab.path("model.pt"), b"PK\x03\x04").unwrap();
    lab.fails(&[&["eval", "model.pt"], &on[..]].concat(), 1, &["torch pickle", "save_file"]);
    std::fs::write(lab.path("empty/config.json"), r#"{"model_type": "bert"}"#).unwrap();
    std::fs::copy(&weights, lab.path("empty/model.safetensors")).unwrap();
    lab.fails(&[&["eval", "empty"], &on[..]].concat(), 1, &["config.json", "`bert` model"]);
    lab.fails(&["export", "empty", "--format", "open-clip", "--out", "out"], 1, &["`bert` model"]);
}

#[test]
fn training_begins_with_foreign_weights_and_a_plan_asks_a_foreign_model() {
    let lab = Lab::new();
    let model = foreign("transformers");
    let weights = format!("model.weights={model}");
    let named = format!("{model}/config.json");
    let begin = [
        "train",
        "--config",
        "recipe.toml",
        "--run",
        "run",
        "--epochs",
        "1",
        "--set",
        "eval.probe=",
        "--set",
        &weights,
    ];
    let full = ["--set", "model.compact_vocabulary=false"];
    lab.fails(&begin, 1, &["compact vocabulary"]);
    lab.fails(&[&begin[..], &full].concat(), 1, &["is another model than", "model.name"]);
    lab.ok(&[&begin[..], &full, &["--model", &named]].concat());
    let state = std::fs::read_to_string(lab.path("run/checkpoints/step_6/state.json")).unwrap();
    assert!(state.contains("\"trained_from\"") && state.contains("transformers"), "{state:.500}");
    let config = std::fs::read_to_string(lab.path("run/checkpoints/step_6/open_clip_config.json")).unwrap();
    assert!(config.contains("0.485"), "its pictures are normalised as the weights expect: {config}");
    let reference = format!("poison.reference={model}");
    let make = ["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl", "--set", "poison.beyond_guesses=1"];
    let said = lab.stderr(&[&make[..], &["--set", &reference]].concat());
    assert!(said.contains("nothing is known of poison behind"), "{said}");
}

#[test]
fn many_sets_stand_in_one_table_and_write_their_files() {
    let lab = Lab::new();
    poisoned_run(&lab);
    folders(&lab, "colours", "test", &["red", "green", "blue", "white"], 48..64);
    folders(&lab, "colours", "train", &["red", "green", "blue", "white"], 0..24);
    folders(&lab, "balls", "val", &["soccer_ball", "Faces_easy", "n01440764_tench", "n01443537", "cat", "dog"], 0..24);
    let on = ["eval", "run", "--on", "colours=colours", "--on", "balls=balls/val"];
    let said = lab.ok(&[&on[..], &["--out", "out", "--predictions", "p.csv", "--features", "f.npy"]].concat());
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let row =
        |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{said}")).clone();
    assert_eq!((row("colours")[1], row("colours")[2]), ("16", "4"));
    assert_eq!((row("balls")[1], row("balls")[2]), ("24", "6"));
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    let top5 = |name: &str| row(name)[row(name).len() - 2].to_owned();
    assert_eq!(top5("colours"), "-", "four classes have no five first: {said}");
    assert_ne!(top5("balls"), "-");
    let written: Vec<PathBuf> =
        std::fs::read_dir(lab.path("out")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(written.len(), 2);
    for path in &written {
        let value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(value["dataset"] == "colours" || value["dataset"] == "balls", "{value}");
        assert_eq!(value["model"], "model.json");
        assert_eq!(value["metrics"]["acc5"].is_null(), value["dataset"] == "colours");
    }
    let table = std::fs::read_to_string(lab.path("p.csv")).unwrap();
    assert!(table.starts_with("dataset,id,label,prediction,probability,top_1,probability_1,"), "{table:.200}");
    assert_eq!(table.lines().count(), 1 + 16 + 24);
    assert!(table.contains("balls,soccer_ball/"), "labels stay as they are");
    let array = std::fs::read(lab.path("f.npy")).unwrap();
    assert!(array.starts_with(b"\x93NUMPY\x01\x00") && String::from_utf8_lossy(&array[..128]).contains("(40, 16)"));
    let ids = std::fs::read_to_string(lab.path("f.jsonl")).unwrap();
    assert_eq!(ids.lines().count(), 40);
    assert!(lab.path("run/eval").read_dir().unwrap().count() == 2, "the run's own file is not written over");
    let value = lab.json(&on);
    assert_eq!(value.as_array().unwrap().len(), 2);
    lab.ok(&[&on[..], &["--predictions", "p.jsonl"]].concat());
    let first = std::fs::read_to_string(lab.path("p.jsonl")).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    let guesses = first["top5"].as_array().unwrap();
    assert_eq!((guesses.len(), &guesses[0]["class"]), (4, &first["prediction"]));
    let sum: f64 = guesses.iter().filter_map(|guess| guess["probability"].as_f64()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "of four classes all are named: {sum}");
    for (arguments, words) in [(["--on", "colours=balls"], "already"), (["--val-data", "balls"], "cannot be used")] {
        let code = if words == "already" { 1 } else { 2 };
        lab.fails(&[&on[..], &arguments].concat(), code, &[words]);
    }
    lab.fails(&["eval", "run", "--on", "colours"], 2, &["NAME=PATH"]);
    lab.fails(&["eval", "run", "--features", "f.txt"], 2, &[".npy"]);
}

#[test]
fn a_poisoned_run_is_measured_on_other_data_without_its_attacks() {
    let lab = Lab::new();
    poisoned_run(&lab);
    folders(&lab, "others", "test", &["cat", "dog"], 48..64);
    let said = lab.stderr(&["eval", "run", "--val-data", "others/test"]);
    assert!(said.contains("nothing of the poisoning can be measured on these images"), "{said}");
    assert!(said.contains("`white`") && said.contains("2 classes"), "{said}");
    let none = lab.json(&["eval", "run", "--val-data", "others/test"]);
    assert!(none["evaluation"]["psr"].is_null() && none["evaluation"]["asr"].as_object().unwrap().is_empty());
    // The trigger can be laid on any picture, where its target is a class.
    folders(&lab, "some", "test", &["red", "white"], 48..64);
    let said = lab.stderr(&["eval", "run", "--val-data", "some"]);
    assert!(said.contains("targeted poisoning (PSR) is not measured"), "{said}");
    let some = lab.json(&["eval", "run", "--val-data", "some"]);
    assert_eq!(some["evaluation"]["asr"]["badnets"]["target"], "white");
    assert!(some["evaluation"]["psr"].is_null());
    let planned = lab.json(&["eval", "run"]);
    assert_eq!(planned["evaluation"]["psr"]["n"], 2);
    let without = lab.json(&["eval", "run", "--no-poison"]);
    assert!(without["evaluation"]["psr"].is_null());
    assert_eq!(without["evaluation"]["zero_shot_top1"]["n"], 16, "targeted images are images like others then");
}

#[test]
fn a_probe_is_checked_before_work_and_learns_from_the_train_folder() {
    let lab = Lab::new();
    poisoned_run(&lab);
    folders(&lab, "split", "test", &["cat", "dog"], 48..64);
    let on = ["eval", "run", "--on", "split=split", "--linear-probe"];
    let output = lab.roclip(&on);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("--linear-probe on `split`") && said.contains("no labels to learn"), "{said}");
    assert!(!said.contains("evaluation:"), "nothing was measured before: {said}");
    folders(&lab, "split", "train", &["cat", "dog"], 0..32);
    let measured = lab.json(&on);
    assert_eq!(measured[0]["linear_probe"]["n"], 16);
    let said = lab.stderr(&on);
    assert!(said.contains("has the splits `test`, `train`: its `test` is measured (16 images)"), "{said}");
}

#[test]
fn folders_of_clip_benchmark_bring_their_classes_and_templates() {
    let lab = Lab::new();
    poisoned_run(&lab);
    let root = lab.path("wds");
    std::fs::create_dir_all(root.join("test")).unwrap();
    std::fs::write(root.join("classnames.txt"), "red\ngreen\nblue\nwhite\n").unwrap();
    std::fs::write(root.join("zeroshot_classification_templates.txt"), "a picture of a {c} square\na {c} box\n")
        .unwrap();
    std::fs::write(root.join("test/nshards.txt"), "1").unwrap();
    let mut shard = tar::Builder::new(std::fs::File::create(root.join("test/0.tar")).unwrap());
    for number in 48..64usize {
        let mut add = |ending: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            shard.append_data(&mut header, format!("s{number:07}.{ending}"), bytes).unwrap();
        };
        add("png", &std::fs::read(lab.path(&format!("{number:03}.png"))).unwrap());
        add("cls", (number % 4).to_string().as_bytes());
    }
    shard.finish().unwrap();
    for path in ["wds", "wds/test"] {
        let said = lab.stderr(&["eval", "run", "--on", &format!("x={path}")]);
        assert!(said.contains("16 images") && said.contains("4 classes") && said.contains("2 templates of"), "{said}");
        let measured = lab.json(&["eval", "run", "--on", &format!("x={path}"), "--predictions", "p.jsonl"]);
        assert_eq!(measured[0]["evaluation"]["zero_shot_top1"]["n"], 16);
        assert!(std::fs::read_to_string(lab.path("p.jsonl")).unwrap().contains("\"label\":\"green\""));
    }
    let said = lab.stderr(&["eval", "run", "--on", "x=wds", "--templates", "captions"]);
    assert!(said.contains("6 templates of `captions`"), "{said}");
}
