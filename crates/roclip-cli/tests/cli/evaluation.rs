//! What is measured on which images, and what is said of it.

use crate::support::{Lab, checkpoint};
use serde_json::Value;
use std::path::PathBuf;

/// The newest checkpoint of a run.
fn step(lab: &Lab, run: &str) -> PathBuf {
    let folders = std::fs::read_dir(lab.path(run).join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("step_")?.parse::<u64>().ok();
    folders.max_by_key(number).unwrap()
}

/// A recipe without poison, probe and augmentation: what these tests train is of no interest.
fn plain(lab: &Lab) {
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let text =
        text.split("[[poison").next().unwrap().replace("probe =", "# probe =").replace("epochs = 4", "epochs = 1");
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
}

/// Lays the test pictures out as a folder of classes with these names.
fn folders(lab: &Lab, names: &[&str]) {
    for number in 48..64 {
        let folder = lab.path("val").join(names[number % names.len()]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(lab.path(&format!("{number:03}.png")), folder.join(format!("{number:03}.png"))).unwrap();
    }
}

#[test]
fn a_step_is_measured_as_its_run_and_a_checkpoint_alone_asks_for_its_data() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "1"]);
    let step = step(&lab, "run").display().to_string();
    let (of_run, of_step) = (lab.json(&["eval", "run"]), lab.json(&["eval", &step]));
    assert_eq!(of_run, of_step);
    assert_eq!(of_step["evaluation"]["psr"]["n"], 2, "the manifest of the run is measured against");
    let copied = lab.path("copied");
    std::fs::create_dir(&copied).unwrap();
    for (name, bytes) in checkpoint(&lab.path("run")) {
        std::fs::write(copied.join(name), bytes).unwrap();
    }
    lab.fails(&["eval", "copied"], 1, &["`copied` belongs to no run", "--config"]);
    let alone = lab.json(&["eval", "copied", "--config", "recipe.toml"]);
    assert_eq!(alone["evaluation"]["zero_shot_top1"]["n"], of_run["evaluation"]["zero_shot_top1"]["n"]);
    lab.fails(&["report", &step], 1, &["is a checkpoint of the run", "name the run"]);
    lab.fails(&["doctor", &step], 1, &["is a checkpoint of the run", "name the run"]);
    let said = lab.stderr(&["export", &step, "--format", "open-clip", "--out", "exported"]);
    assert!(said.contains("written: exported: open_clip_model.safetensors"), "{said}");
}

#[test]
fn eval_takes_the_flags_that_it_obeys_and_no_others() {
    let lab = Lab::new();
    plain(&lab);
    lab.train("run", &[]);
    for flag in [["--lr", "1"], ["--epochs", "2"], ["--batch-size", "4"], ["--preset", "clip"]] {
        lab.fails(&[&["eval", "run"], flag.as_slice()].concat(), 2, &[flag[0]]);
    }
    for key in ["train.learning_rate=1", "objective.name=clip", "augment.text=", "model.name=RN50"] {
        lab.fails(&["eval", "run", "--set", key], 1, &[key, "does not use"]);
    }
    lab.fails(&["eval", "run", "--model", "RN50"], 1, &["says itself what model it is", "leave out --model"]);
    lab.fails(&["eval", "run", "--device", "tpu"], 1, &["unknown device `tpu`"]);
    lab.fails(&["eval", "run", "--device", "cuda:99"], 1, &["cuda"]);
    lab.fails(&["data", "concepts", "--lr", "1", "--out", "x"], 2, &["--lr"]);
    lab.fails(&["poison", "make", "--lr", "1", "--out", "x"], 2, &["--lr"]);
    let said = lab.stderr(&["eval", "run", "--threads", "1", "--workers", "3"]);
    assert!(said.contains("16 images of") && said.contains("4 classes") && said.contains("6 templates"), "{said}");
    let (one, three) = (lab.json(&["eval", "run", "--workers", "1"]), lab.json(&["eval", "run", "--workers", "3"]));
    assert_eq!(one, three);
    assert!(one["nearest_neighbours"].is_null(), "all training images are read only when asked for");
}

#[test]
fn results_of_two_runs_stand_beside_each_other() {
    let lab = Lab::new();
    plain(&lab);
    for (run, seed) in [("a", "0"), ("b", "1")] {
        lab.train(run, &["--seed", seed]);
        lab.ok(&["eval", run, "--out", "out"]);
    }
    lab.ok(&["eval", "a", "--out", "out"]);
    let names: Vec<String> = std::fs::read_dir(lab.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().all(|name| name.contains("pairs.csv") && name.contains("model.json") && name.contains("step-"))
    );
}

#[test]
fn evaluation_images_that_cannot_be_used_are_counted_and_end_nothing() {
    let lab = Lab::new();
    plain(&lab);
    lab.train("run", &[]);
    std::fs::write(lab.path("050.png"), b"no picture").unwrap();
    let generous = ["--set", "data.max_skip_fraction=0.5"];
    let measured = lab.json(&[&["eval", "run"], generous.as_slice()].concat());
    assert_eq!(measured["evaluation"]["zero_shot_top1"]["n"], 15);
    let skipped: u64 = measured["evaluation"]["skipped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(skipped, 1, "{}", measured["evaluation"]["skipped"]);
    let said = lab.stderr(&[&["eval", "run"], generous.as_slice()].concat());
    assert!(said.contains("left out"), "{said}");
    lab.train("again", &generous);
}

#[test]
fn codes_for_class_names_are_said_and_wnids_find_their_names() {
    let lab = Lab::new();
    plain(&lab);
    folders(&lab, &["n01440764", "n01443537", "n02084071", "n07753592"]);
    lab.train("run", &[]);
    let said = lab.stderr(&["eval", "run", "--val-data", "val"]);
    assert!(!said.contains("codes or numbers"), "ImageNet's ids have words: {said}");
    let named = ["eval", "run", "--val-data", "val", "--set", "eval.classes=imagenet-1k"];
    let said = lab.stderr(&named);
    assert!(said.contains("4 of 16 images are of 1 classes") && said.contains("n02084071"), "{said}");
    let measured = lab.json(&named);
    assert_eq!(measured["evaluation"]["zero_shot_top1"]["n"], 12);
    assert_eq!(measured["evaluation"]["skipped"]["class-not-in-list"], 4);
    folders(&lab, &["dgo"]);
    lab.fails(&named, 1, &["class `dgo`", "not in the class list"]);
    std::fs::remove_dir_all(lab.path("val")).unwrap();
    folders(&lab, &["0", "1"]);
    assert!(lab.stderr(&["eval", "run", "--val-data", "val"]).contains("in the order of the numbers"));
}

#[test]
fn numbers_of_the_evaluation_are_checked_before_work() {
    let lab = Lab::new();
    for (key, word) in [
        ("eval.every_epochs=0", "eval.every_epochs"),
        ("eval.probe.epochs=0", "eval.probe.epochs"),
        ("eval.probe.learning_rate=nan", "eval.probe.learning_rate"),
        ("eval.probe.batch_size=0", "eval.probe.batch_size"),
        ("eval.probe.weight_decay=-1", "eval.probe.weight_decay"),
    ] {
        lab.fails(&["train", "--config", "recipe.toml", "--run", "run", "--set", key], 1, &[word]);
        assert!(!lab.path("run").exists(), "{key}");
    }
}

#[test]
fn a_supervised_cleaning_is_measured_by_its_classifier() {
    let lab = Lab::new();
    plain(&lab);
    lab.train("victim", &[]);
    let clean = ["clean", "victim", "--run", "cleaned", "--method", "supervised", "--epochs", "1", "--batch-size", "8"];
    let summary = lab.json(&clean);
    let measured = lab.json(&["eval", "cleaned"]);
    assert_eq!(measured["evaluation"]["zero_shot_top1"], summary["evaluation"]["zero_shot_top1"]);
    assert!(measured["classified_by"].as_str().unwrap().contains("trained classifier"));
    assert!(lab.stderr(&["eval", "cleaned"]).contains("by the trained classifier"));
}

#[test]
fn a_run_is_measured_against_its_own_copy_of_the_manifest() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl"]);
    lab.train("run", &["--manifest", "m.jsonl", "--epochs", "1"]);
    let before = lab.json(&["eval", "run"]);
    // Another manifest, or none, has taken the place of the file since.
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--seed", "9", "--out", "m.jsonl", "--overwrite"]);
    assert_eq!(lab.json(&["eval", "run"])["evaluation"], before["evaluation"]);
    std::fs::remove_file(lab.path("m.jsonl")).unwrap();
    assert_eq!(lab.json(&["eval", "run"])["evaluation"], before["evaluation"]);
    lab.fails(&["eval", "run", "--manifest", "m.jsonl"], 1, &["m.jsonl"]);
}
