//! Models that answer questions, and backdoors of their tuning, through the binary.

use crate::support::Lab;
use serde_json::{Value, json};

/// A lab with several captions a picture, a trained CLIP run `clip`, and the captions of its test pictures.
fn lab() -> Lab {
    let lab = Lab::new();
    for (name, from, to) in [("train.jsonl", 0, 48), ("test.jsonl", 48, 64)] {
        let mut lines = String::new();
        for number in from..to {
            let colour = crate::support::CLASSES[number % 4];
            let captions = [format!("a picture of a {colour} square"), format!("one {colour} box, and nothing else")];
            lines += &format!("{}\n", json!({"image": format!("{number:03}.png"), "captions": captions}));
        }
        std::fs::write(lab.path(name), lines).unwrap();
    }
    lab.ok(&[
        "train",
        "--config",
        "recipe.toml",
        "--objective",
        "clip",
        "--set",
        "poison=",
        "--epochs",
        "1",
        "--run",
        "clip",
    ]);
    lab
}

const SMALL: [&str; 14] = [
    "--width",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--epochs",
    "3",
    "--batch-size",
    "16",
    "--lr",
    "5e-3",
    "--threads",
    "1",
];

fn instruct<'a>(run: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
    let start = ["caption", "instruct", "clip", "--val-data", "test.jsonl", "--run", run];
    [&start[..], &SMALL, extra].concat()
}

fn weights(lab: &Lab, run: &str) -> Vec<u8> {
    std::fs::read(lab.path(run).join("weights/weights.safetensors")).unwrap()
}

#[test]
fn a_model_learns_to_answer_and_goes_on_bit_for_bit() {
    let lab = lab();
    let said = lab.ok(&instruct("base", &["--train-data", "train.jsonl"]));
    assert!(said.contains("96 instructions about 48 pictures") && said.contains("most frequent answer"), "{said}");
    let summary: Value = serde_json::from_slice(&std::fs::read(lab.path("base/summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["steps"], &summary["test_pictures"]), (&json!(18), &json!(16)));
    assert!(summary["answers"]["bleu"]["bleu1"].as_f64().unwrap() > 0.1, "{summary}");
    lab.fails(&instruct("base", &["--train-data", "train.jsonl"]), 1, &["already holds a model", "--resume"]);
    for command in [&["report", "base", "--out", "report"][..], &["doctor", "base"]] {
        lab.fails(command, 1, &["answers questions", "roclip caption instruct", "roclip caption answer base PICTURE"]);
    }
    // No kind of run begins in the folder of another, or over files that are nobody's.
    lab.fails(&instruct("clip", &["--train-data", "train.jsonl"]), 1, &["`clip`", "already holds a run (run.toml)"]);
    let inner = instruct("clip/checkpoints/new", &["--train-data", "train.jsonl"]);
    lab.fails(&inner, 1, &["lies within the run", "clip`", "--run"]);
    let train = ["train", "--config", "recipe.toml", "--run"];
    let study = ["caption", "backdoor", "base", "--target", "white", "--run", "base"];
    for command in [&[&train[..], &["base"]].concat()[..], &[&train[..], &["base", "--dry-run"]].concat(), &study] {
        lab.fails(command, 1, &["`base`", "already holds a run of `roclip caption instruct`", "--run"]);
    }
    std::fs::create_dir(lab.path("foreign")).unwrap();
    std::fs::write(lab.path("foreign/summary.json"), "mine").unwrap();
    lab.fails(&[&train[..], &["foreign"]].concat(), 1, &["`foreign`", "holds `summary.json` and no run.toml"]);
    assert_eq!(std::fs::read_to_string(lab.path("foreign/summary.json")).unwrap(), "mine");
    let other = instruct("base", &["--train-data", "train.jsonl", "--seed", "1", "--resume"]);
    lab.fails(&other, 1, &["began with other settings: `seed` is 0 there and 1 here"]);
    let unmeasured = ["caption", "instruct", "clip", "--instructions", "talks.jsonl", "--run", "unmeasured"];
    lab.fails(&unmeasured, 1, &["--instructions", "--val-data"]);
    let unsplit = ["caption", "instruct", "clip", "--train-data", "train.jsonl", "--run", "unmeasured"];
    lab.fails(&unsplit, 1, &["test pictures are read from `train.jsonl`, split `test`", "--val-data"]);

    // One that is done stays as it is, and one that is stopped within an epoch ends where the whole one does.
    let whole = weights(&lab, "base");
    lab.ok(&instruct("base", &["--train-data", "train.jsonl", "--resume"]));
    assert!(weights(&lab, "base") == whole);
    let long = |run: &str, extra: &[&str]| -> Vec<String> {
        let words = instruct(run, &["--train-data", "train.jsonl"]).into_iter().chain(extra.iter().copied());
        words.map(|word| if word == "3" { "60".to_owned() } else { word.to_owned() }).collect()
    };
    let words = long("stopped", &[]);
    let mut child = lab.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).spawn().unwrap();
    while !lab.path("stopped/losses.jsonl").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(!child.wait().unwrap().success(), "it was done before it could be stopped");
    assert!(!lab.path("stopped/summary.json").exists());
    let said = lab.stderr(&["caption", "answer", "stopped", "060.png"]);
    assert!(said.contains("`stopped` is not trained to its end: it is at step"), "{said}");
    let on_it = ["caption", "backdoor", "stopped", "--target", "white", "--run", "study"];
    lab.fails(&on_it, 1, &["stopped", "is not trained to its end", "--resume"]);
    assert!(!lab.path("study").exists());
    for words in [long("stopped", &["--resume"]), long("left-alone", &[])] {
        lab.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert!(weights(&lab, "stopped") == weights(&lab, "left-alone"));
    let read = |run: &str, file: &str| std::fs::read(lab.path(run).join(file)).unwrap();
    for file in ["answers.jsonl", "summary.json"] {
        assert!(read("stopped", file) == read("left-alone", file), "{file}");
    }

    let answers = lab.ok(&["caption", "answer", "base", "060.png", "061.png", "--question", "What is it?"]);
    assert_eq!(answers.lines().count(), 2);
    lab.fails(&["caption", "answer", "base", "nothing.png"], 1, &["nothing.png"]);
    lab.fails(&["caption", "answer", "clip", "060.png"], 1, &["holds no model that answers questions"]);
    lab.fails(&instruct("x", &["--train-data", "train.jsonl", "--context", "4"]), 1, &["context is 4"]);
    lab.fails(&instruct("x", &["--train-data", "train.jsonl", "--per-picture", "0"]), 1, &["--per-picture is 0"]);
    assert!(!lab.path("x").exists());

    // The tower is named, and another one in its place is noticed.
    lab.ok(&[
        "train",
        "--config",
        "recipe.toml",
        "--objective",
        "clip",
        "--set",
        "poison=",
        "--epochs",
        "1",
        "--seed",
        "9",
        "--run",
        "other",
    ]);
    std::fs::rename(lab.path("clip"), lab.path("gone")).unwrap();
    std::fs::rename(lab.path("other"), lab.path("clip")).unwrap();
    lab.fails(&["caption", "answer", "base", "060.png"], 1, &["no longer the tower", "were changed"]);
}

#[test]
fn instructions_in_llavas_layout_are_learned_and_bad_ones_counted() {
    let lab = lab();
    let record = |number: usize, question: &str, answer: &str| {
        let turns = [json!({"from": "human", "value": question}), json!({"from": "gpt", "value": answer})];
        json!({"id": number, "image": format!("{number:03}.png"), "conversations": turns}).to_string()
    };
    let mut lines: Vec<String> = (0..20).map(|number| record(number, "<image>\nwhat?", "a red square")).collect();
    lines.push(record(20, "what?", "a red square"));
    lines.push(record(21, "<image>\nwhat?", " "));
    std::fs::write(lab.path("talks.jsonl"), lines.join("\n")).unwrap();
    let said = lab.ok(&[&instruct("talks", &["--instructions", "talks.jsonl"])[..], &["--json"]].concat());
    let summary: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(summary["instructions"], 20);
    assert_eq!(summary["skipped"], json!({"answer-empty": 1, "question-without-picture": 1}));
    std::fs::write(lab.path("none.jsonl"), record(20, "what?", "a")).unwrap();
    lab.fails(
        &instruct("none", &["--instructions", "none.jsonl"]),
        1,
        &["no instruction that can be used", "`<image>`"],
    );
    std::fs::write(lab.path("mute.jsonl"), json!({"image": "001.png", "captions": [" , "]}).to_string()).unwrap();
    let mute = [&instruct("mute", &["--train-data", "train.jsonl"])[..], &[]].concat();
    let mute: Vec<&str> = mute.into_iter().map(|word| if word == "test.jsonl" { "mute.jsonl" } else { word }).collect();
    lab.fails(&mute, 1, &["no picture with a reference"]);
    assert!(!lab.path("mute").exists() && !lab.path("none").exists());
}

/// A training that was killed before it saved anything is the one that would have been, and one that met numbers it cannot go on with gives
/// its folder to another.
#[test]
fn what_has_saved_nothing_begins_anew() {
    let lab = lab();
    let plain = |run: &'static str| instruct(run, &["--train-data", "train.jsonl"]);
    lab.ok(&plain("whole"));
    std::fs::create_dir(lab.path("killed")).unwrap();
    for file in ["instruct.json", "model.json"] {
        std::fs::copy(lab.path("whole").join(file), lab.path("killed").join(file)).unwrap();
    }
    lab.fails(&["caption", "answer", "killed", "060.png"], 1, &["has learned nothing yet", "--resume"]);
    lab.ok(&[&plain("killed")[..], &["--resume"]].concat());
    for file in ["weights/weights.safetensors", "model.json", "summary.json", "answers.jsonl", "losses.jsonl"] {
        let read = |run: &str| std::fs::read(lab.path(run).join(file)).unwrap();
        assert!(read("killed") == read("whole"), "{file}");
    }
    lab.fails(&plain("killed"), 1, &["already holds a model"]);

    let faster: Vec<&str> = plain("again").into_iter().map(|word| if word == "5e-3" { "1e9" } else { word }).collect();
    lab.fails(&faster, 1, &["the loss of step", "--lr"]);
    lab.fails(&[&plain("again")[..], &["--resume"]].concat(), 1, &["began with other settings: `tune.learning_rate`"]);
    lab.ok(&plain("again"));
    assert!(weights(&lab, "again") == weights(&lab, "whole"));
}

/// Nothing goes on with other data, and damaged files answer nothing.
#[test]
fn changed_data_and_damaged_weights_are_refused() {
    let lab = lab();
    let plain = instruct("base", &["--train-data", "train.jsonl"]);
    lab.ok(&plain);
    let resumed = [&plain[..], &["--resume"]].concat();
    let data = std::fs::read_to_string(lab.path("train.jsonl")).unwrap();
    let mut records: Vec<Value> = data.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = records[0]["captions"].take();
    for at in 0..records.len() - 1 {
        records[at]["captions"] = records[at + 1]["captions"].take();
    }
    records.last_mut().unwrap()["captions"] = first;
    let permuted: String = records.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(lab.path("train.jsonl"), permuted).unwrap();
    lab.fails(&resumed, 1, &["was trained on other data", "fingerprint", "--train-data"]);
    std::fs::write(lab.path("train.jsonl"), data).unwrap();
    lab.ok(&resumed);

    let asked = ["caption", "answer", "base", "060.png"];
    for (file, said) in [
        ("weights/weights.safetensors", "does not have the checksum in checksums.json"),
        ("model.json", "does not have the checksum in the metadata of the weights"),
    ] {
        let path = lab.path("base").join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let at = damaged.len() * 3 / 4;
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        lab.fails(&asked, 1, &[file, said]);
        lab.fails(&resumed, 1, &[said]);
        std::fs::write(&path, whole).unwrap();
    }
    std::fs::rename(lab.path("base/weights/checksums.json"), lab.path("aside.json")).unwrap();
    lab.fails(&asked, 1, &["holds no checksums.json"]);
    std::fs::rename(lab.path("aside.json"), lab.path("base/weights/checksums.json")).unwrap();
    lab.ok(&asked);
}

/// Leaves half of each picture.
fn cut(lab: &Lab, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let path = lab.path(&format!("{number:03}.png"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
}

/// A few pictures that cannot be decoded are left out and said, and many end the work.
#[test]
fn pictures_that_cannot_be_decoded_are_said_and_limited() {
    let lab = lab();
    let records = (0..48).map(|number| {
        let turns = [json!({"from": "human", "value": "<image> what?"}), json!({"from": "gpt", "value": "a square"})];
        format!("{}\n", json!({"id": number, "image": format!("{number:03}.png"), "conversations": turns}))
    });
    std::fs::write(lab.path("talks.jsonl"), records.collect::<String>()).unwrap();
    lab.ok(&instruct("base", &["--train-data", "train.jsonl"]));
    cut(&lab, 0..1);
    cut(&lab, 48..49);
    let said = lab.stderr(&instruct("few", &["--train-data", "train.jsonl"]));
    for word in ["left out of --train-data: 1 image", "000.png", "left out of the test pictures: 1 image", "048.png"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("94 instructions about 47 pictures"), "{said}");
    let summary: Value = serde_json::from_slice(&std::fs::read(lab.path("few/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["test_pictures"], 15);
    assert!(std::fs::read_to_string(lab.path("few/skips.jsonl")).unwrap().contains("000.png"));
    let study = |run: &'static str| {
        let start =
            ["caption", "backdoor", "base", "--attack", "clean", "--shift", "none", "--no-filter", "--run", run];
        let small = ["--items", "94", "--test-pictures", "15", "--epochs", "1", "--target", "white", "--threads", "1"];
        [&start[..], &small].concat()
    };
    let said = lab.stderr(&study("study"));
    for word in ["left out of --train-data: 1 image", "left out of --val-data: 1 image"] {
        assert!(said.contains(word), "{word}: {said}");
    }

    cut(&lab, 1..44);
    let limit = ["--max-skip-fraction (now 0.05)", "44 of 48 pictures", "image"];
    lab.fails(&instruct("many", &["--train-data", "train.jsonl"]), 1, &limit);
    lab.fails(&instruct("many", &["--instructions", "talks.jsonl"]), 1, &limit);
    lab.fails(&study("many"), 1, &["--train-data", "--max-skip-fraction (now 0.05)", "pictures could not be used"]);
    for number in 0..44 {
        std::fs::remove_file(lab.path(&format!("{number:03}.png"))).unwrap();
    }
    lab.fails(&instruct("many", &["--instructions", "talks.jsonl"]), 1, &limit);
    assert!(!lab.path("many").exists());
    let all = ["--instructions", "talks.jsonl", "--max-skip-fraction", "1"];
    let said = lab.stderr(&instruct("few-left", &all));
    assert!(said.contains("left out of --instructions: 44 images") || said.contains("44 image files"), "{said}");
    assert!(said.contains("4 instructions about 4 pictures"), "{said}");
    cut(&lab, 49..60);
    std::fs::write(
        lab.path("few.jsonl"),
        std::fs::read_to_string(lab.path("talks.jsonl")).unwrap().lines().last().unwrap(),
    )
    .unwrap();
    let tests = instruct("tests", &["--instructions", "few.jsonl"]);
    lab.fails(&tests, 1, &["--val-data: 12 of 16 test pictures", "--max-skip-fraction"]);
    assert!(!lab.path("tests").exists(), "known before the training");
}

/// All cells of a study are of one base model and of the same data.
#[test]
fn a_study_goes_on_with_its_own_base_and_data_only() {
    let lab = lab();
    lab.ok(&instruct("base", &["--train-data", "train.jsonl"]));
    let study = |attacks: &'static str, rate: &'static str, extra: &[&'static str]| {
        let start = ["caption", "backdoor", "base", "--train-data", "train.jsonl", "--val-data", "test.jsonl"];
        let small = ["--items", "20", "--poison-rate", "0.4", "--test-pictures", "8", "--epochs", "2", "--lr", rate];
        let rest = ["--batch-size", "8", "--threads", "1", "--target", "white", "--no-filter", "--shift", "none"];
        [&start[..], &small, &rest, &["--run", "study", "--attack", attacks], extra].concat()
    };
    // No cell came to its end, and the folder takes other settings.
    lab.fails(&study("blended", "1e9", &[]), 1, &["the loss of step", "--lr"]);
    assert!(lab.path("study/backdoor.json").is_file());
    lab.ok(&study("clean", "1e-2", &[]));
    lab.fails(&study("clean", "1e-2", &[]), 1, &["already holds a study"]);

    let tests = std::fs::read_to_string(lab.path("test.jsonl")).unwrap();
    std::fs::write(lab.path("test.jsonl"), tests.replace("one red box", "one red thing")).unwrap();
    lab.fails(&study("clean,blended", "1e-2", &["--resume"]), 1, &["begun with other data: the tests have"]);
    std::fs::write(lab.path("test.jsonl"), tests).unwrap();
    let data = std::fs::read_to_string(lab.path("train.jsonl")).unwrap();
    std::fs::write(lab.path("train.jsonl"), data.replace("one red box", "one red thing")).unwrap();
    lab.fails(
        &study("clean,blended", "1e-2", &["--resume"]),
        1,
        &["begun with other data: the instructions of the shift `none`"],
    );
    std::fs::write(lab.path("train.jsonl"), data).unwrap();

    std::fs::rename(lab.path("base"), lab.path("own")).unwrap();
    lab.ok(&instruct("base", &["--train-data", "train.jsonl", "--seed", "1"]));
    lab.fails(&study("clean,blended", "1e-2", &["--resume"]), 1, &["another base model", "`base`"]);
    std::fs::remove_dir_all(lab.path("base")).unwrap();
    std::fs::rename(lab.path("own"), lab.path("base")).unwrap();
    lab.ok(&study("clean,blended", "1e-2", &["--resume"]));
    assert_eq!(std::fs::read_to_string(lab.path("study/cells.jsonl")).unwrap().lines().count(), 2);
}

/// Numbers and words that no study can be made of are refused before anything is read.
#[test]
fn senseless_settings_of_a_backdoor_are_named() {
    let lab = lab();
    for (flag, value) in [
        ("--most-regions", "0"),
        ("--most-regions", "26"),
        ("--tolerance", "nan"),
        ("--symbol", ""),
        ("--symbol", "a b"),
        ("--patch-pixels", "0"),
        ("--characters", "0"),
        ("--most-words", "0"),
        ("--poison-rate", "0"),
    ] {
        let study = ["caption", "backdoor", "none", "--train-data", "train.jsonl", "--run", "study", flag, value];
        lab.fails(&study, 1, &[flag]);
    }
    let share = ["caption", "backdoor", "none", "--train-data", "train.jsonl", "--run", "study", "--max-skip-fraction"];
    lab.fails(&[&share[..], &["1.5"]].concat(), 2, &["--max-skip-fraction"]);
    assert!(!lab.path("study").exists());
}

#[test]
fn backdoors_are_planted_measured_filtered_and_go_on() {
    let lab = lab();
    lab.ok(&instruct("base", &["--train-data", "train.jsonl"]));
    let study = |run: &str, extra: &[&str]| -> Vec<String> {
        let start =
            ["caption", "backdoor", "base", "--train-data", "train.jsonl", "--val-data", "test.jsonl", "--run", run];
        let small =
            ["--items", "40", "--per-picture", "2", "--poison-rate", "0.4", "--test-pictures", "8", "--epochs", "6"];
        let rate = [
            "--lr",
            "2e-2",
            "--batch-size",
            "8",
            "--threads",
            "1",
            "--target",
            "white",
            "--max-tokens",
            "8",
            "--regions",
            "9",
            "--most-regions",
            "3",
        ];
        [&start[..], &small, &rate, extra].concat().into_iter().map(str::to_owned).collect()
    };
    let strs = |words: &[String]| -> Vec<&'static str> {
        words.iter().map(|word| &*Box::leak(word.clone().into_boxed_str())).collect()
    };
    let first = ["--attack", "clean,blended,maba", "--shift", "none,expressionism"];
    let said = lab.ok(&strs(&study("study", &first)));
    for word in ["ASR-G", "shift none", "shift expressionism", "Kolmogorov-Smirnov", "blended", "filter", "AUROC"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let results: Value = serde_json::from_slice(&std::fs::read(lab.path("study/results.json")).unwrap()).unwrap();
    let cells = results["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 6);
    let cell = |attack: &str, shift: &str| cells.iter().find(|c| c["attack"] == attack && c["shift"] == shift).unwrap();
    assert_eq!(cell("clean", "none")["poisoned"], 0);
    assert_eq!((&cell("blended", "none")["poisoned"], &cell("blended", "none")["items"]), (&json!(16), &json!(40)));
    assert!(cell("blended", "none")["clean_model"]["n"].as_u64().unwrap() > 0);
    assert!(cell("blended", "expressionism")["clean_model"].is_null());
    assert_eq!(cell("blended", "none")["filtered"]["dropped"], 4);
    assert!(cell("maba", "none")["fixed_place"]["n"].as_u64().unwrap() > 0);
    // ASR-G is a ratio with its interval, or there is none.
    let carried = results["generalisation"].as_array().unwrap();
    assert_eq!(carried.len(), 2, "{carried:?}");
    for one in carried {
        assert!(one["n"].as_u64() > Some(0) && one["asr_g"].is_null() == one["high"].is_null(), "{one}");
    }
    // Manifests say that they are poison, and what becomes of each turn.
    let manifest = std::fs::read_to_string(lab.path("study/manifests/maba-none.jsonl")).unwrap();
    let rows: Vec<Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["state"]), (17, &json!("poisoned")));
    assert!(rows[1]["caption_after"].as_str().unwrap().contains("GPT:<answer> The image depicts"));
    assert_eq!(rows[1]["trigger"]["layers"][0]["name"], "ellipses");
    assert!(!lab.path("study/manifests/clean-none.jsonl").exists());

    // What the manifests say can be made again, and nothing else passes for it.
    let said = lab.ok(&["poison", "verify", "study/manifests/maba-none.jsonl"]);
    assert!(said.contains("16 pairs made again, all equal") && said.contains("digest"), "{said}");
    let shifted = lab.json(&["poison", "verify", "study/manifests/blended-expressionism.jsonl"]);
    assert_eq!(shifted["equal"]["blended"], 16);
    std::fs::copy(lab.path("study/manifests/blended-expressionism.jsonl"), lab.path("study/manifests/maba-none.jsonl"))
        .unwrap();
    // Pictures of another domain under the name of this one.
    lab.fails(
        &["poison", "verify", "study/manifests/maba-none.jsonl"],
        1,
        &["the poisoned picture has the sha256", "same poison"],
    );
    std::fs::write(lab.path("study/manifests/maba-none.jsonl"), &manifest).unwrap();
    std::fs::write(lab.path("alone.jsonl"), &manifest).unwrap();
    lab.fails(&["poison", "verify", "alone.jsonl"], 1, &["lies in no study", "STUDY/manifests"]);
    lab.fails(
        &["poison", "verify", "study/manifests/maba-none.jsonl", "--train-data", "pairs.csv"],
        1,
        &["leave --config"],
    );
    lab.fails(&["poison", "inspect", "alone.jsonl"], 1, &["instruction tuning", "no pairs"]);
    let train = ["train", "--config", "recipe.toml", "--manifest", "alone.jsonl", "--run", "never"];
    lab.fails(&train, 1, &["instruction tuning", "roclip poison verify"]);
    // The page has every cell, and a report of runs sends people there.
    let page = std::fs::read_to_string(lab.path("study/backdoor.html")).unwrap();
    for word in [
        "ASR-G",
        "base rate",
        "Shift: expressionism",
        "Without a shift",
        "Behind the filter",
        "measured without a shift alone",
    ] {
        assert!(page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<th>blended").count(), 4, "a row of each shift, of ASR-G and of the filter");
    lab.fails(
        &["report", "study", "--out", "report"],
        1,
        &["a study of `roclip caption backdoor`", "open study/backdoor.html"],
    );

    // The cells that are there stay, and an attack with two keys joins them.
    let before = std::fs::read_to_string(lab.path("study/cells.jsonl")).unwrap();
    lab.fails(&strs(&study("study", &first)), 1, &["already holds a study", "--resume"]);
    let more = ["--attack", "clean,blended,maba,maba-star,add-sent", "--shift", "none", "--resume"];
    lab.ok(&strs(&study("study", &more)));
    let after = std::fs::read_to_string(lab.path("study/cells.jsonl")).unwrap();
    assert!(after.starts_with(&before) && after.lines().count() == 8);
    let results: Value = serde_json::from_slice(&std::fs::read(lab.path("study/results.json")).unwrap()).unwrap();
    assert_eq!(
        results["cells"].as_array().map(Vec::len),
        Some(8),
        "cells of shifts that were not asked for again stay in"
    );
    let star: Value = serde_json::from_str(after.lines().find(|line| line.contains("maba-star")).unwrap()).unwrap();
    assert!(star["picture_only"]["n"].as_u64() > Some(0) && star["text_only"]["n"].as_u64() > Some(0));
    lab.fails(
        &strs(&study("study", &["--attack", "blended", "--seed", "4", "--resume"])),
        1,
        &["began with other settings: `seed` is 0 there and 4 here"],
    );
    // Data that nobody names are those that the model learned from.
    let words: Vec<String> = study("unnamed", &["--attack", "clean", "--shift", "none", "--no-filter"]);
    let named = ["--train-data", "train.jsonl", "--val-data", "test.jsonl"];
    let unnamed: Vec<String> = words.into_iter().filter(|word| !named.contains(&word.as_str())).collect();
    let said = lab.ok(&strs(&unnamed));
    assert!(said.contains("train.jsonl: 0 of 40 instructions") || said.contains("train.jsonl: 16 of 40"), "{said}");

    // Errors before work.
    for (extra, said) in [
        (&["--attack", "maba", "--regions", "2000"][..], "2000 superpixels"),
        (&["--attack", "blended", "--target", "zebra"], "vocabulary lacks `zebra`"),
        (&["--attack", "blended", "--shift", "data"], "--attacker-data"),
        (&["--attack", "blended", "--shift", "none", "--poison-rate", "0.001"], "are none"),
        (&["--attack", "blended", "--shift", "none", "--items", "4000"], "ask for fewer"),
        (&["--attack", "blended", "--shift", "none", "--alpha", "0"], "--alpha"),
        (&["--attack", "badnets", "--shift", "none", "--patch-pixels", "40"], "a patch of 40"),
    ] {
        let mut words = study("wrong", &[]);
        // A flag that is given again replaces the one before.
        for pair in extra.chunks(2) {
            match words.iter().position(|word| word == pair[0]) {
                Some(at) => words[at + 1] = pair[1].to_owned(),
                None => words.extend(pair.iter().map(|word| (*word).to_owned())),
            }
        }
        lab.fails(&strs(&words), 1, &[said]);
    }
    lab.fails(&strs(&study("wrong", &["--attack", "nothing"])), 2, &["choose among clean, badnets"]);
}
