//! Backdoors of the tuning of models that answer questions, through the binary.

use crate::instruct::{instruct, lab};
use serde_json::{Value, json};

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
    // What is known before the first cell leaves nothing behind.
    let few: Vec<&str> =
        study("blended", "1e-2", &[]).into_iter().map(|word| if word == "0.4" { "1" } else { word }).collect();
    lab.fails(&few, 1, &["instructions do not name `white`, and 20 are to be poisoned", "--poison-rate"]);
    assert!(!lab.path("study").exists());
    // No cell came to its end, and the folder takes other settings.
    lab.fails(&study("blended", "1e9", &[]), 1, &["the loss of step", "--lr"]);
    assert!(lab.path("study/backdoor.json").is_file());
    lab.ok(&study("clean", "1e-2", &[]));
    lab.fails(&study("clean", "1e-2", &[]), 1, &["already holds a study"]);
    // A rate that nobody measured does not go on into the results.
    let cells = std::fs::read_to_string(lab.path("study/cells.jsonl")).unwrap();
    let mut wrong: Value = serde_json::from_str(&cells).unwrap();
    wrong["asr"]["hits"] = 777.into();
    std::fs::write(lab.path("study/cells.jsonl"), format!("{wrong}\n")).unwrap();
    lab.fails(&study("clean", "1e-2", &["--resume"]), 1, &["cells.jsonl", "line 1: ", "asr has 777 hits of"]);
    std::fs::write(lab.path("study/cells.jsonl"), cells).unwrap();

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

/// The tests are a split of the data that everything is made of, and attacks and shifts are named twice.
#[test]
fn no_test_is_poisoned_and_nothing_is_done_twice() {
    let lab = lab();
    lab.ok(&instruct("base", &["--train-data", "train.jsonl"]));
    let split = |name: &str, split: &str| {
        let lines = std::fs::read_to_string(lab.path(name)).unwrap();
        lines.replace('{', &format!("{{\"split\": \"{split}\", "))
    };
    std::fs::write(lab.path("all.jsonl"), split("train.jsonl", "train") + &split("test.jsonl", "test")).unwrap();
    let study = |run: &'static str, extra: &[&'static str]| {
        let start = ["caption", "backdoor", "base", "--train-data", "all.jsonl", "--target", "white", "--no-filter"];
        let small = ["--test-pictures", "16", "--epochs", "1", "--batch-size", "16", "--threads", "1", "--run", run];
        [&start[..], &small, extra].concat()
    };
    // The 48 pictures that are trained on have 96 captions.
    lab.fails(
        &study("more", &["--items", "97", "--attack", "clean", "--shift", "none"]),
        1,
        &["96 instructions of 97"],
    );
    let twice = ["--attack", "blended,clean,blended", "--shift", "none,none", "--poison-rate", "0.7", "--items", "96"];
    let said = lab.stderr(&study("study", &twice));
    assert!(said.contains("`all.jsonl`: its split `test` is asked") && !said.contains("trained on, too"), "{said}");
    let manifest = std::fs::read_to_string(lab.path("study/manifests/blended-none.jsonl")).unwrap();
    assert!(manifest.lines().count() == 68 && manifest.contains("000.png"), "{manifest}");
    assert!((48..64).all(|number| !manifest.contains(&format!("{number:03}.png"))), "{manifest}");
    assert_eq!(std::fs::read_to_string(lab.path("study/cells.jsonl")).unwrap().lines().count(), 2);
    lab.ok(&study("study", &[&twice[..], &["--resume"]].concat()));
    // An earlier version took instructions of the tests, too.
    let few = ["--items", "96", "--shift", "none", "--poison-rate", "0.7"];
    let older = |extra: &[&'static str]| study("older", &[&few[..], extra].concat());
    lab.ok(&older(&["--attack", "clean", "--val-data", "test.jsonl"]));
    let settings = |run: &str| -> Value {
        serde_json::from_slice(&std::fs::read(lab.path(run).join("backdoor.json")).unwrap()).unwrap()
    };
    let mut began = settings("older");
    began["tests"] = settings("study")["tests"].take();
    std::fs::write(lab.path("older/backdoor.json"), began.to_string()).unwrap();
    let said = lab.stderr(&older(&["--attack", "clean", "--resume"]));
    assert!(said.contains("warning: `older` has all cells") && said.contains("of the test pictures, too"), "{said}");
    let more = older(&["--attack", "clean,blended", "--resume"]);
    lab.fails(&more, 1, &["`older`", "an earlier version of roclip", "of the test pictures, too", "(--run)"]);
    // Tests that somebody chose among them stay, and are said.
    let chosen = ["--val-data", "all.jsonl", "--items", "128", "--attack", "clean", "--shift", "none"];
    let said = lab.stderr(&study("chosen", &chosen));
    assert!(said.contains("warning: 16 of the 16 pictures") && said.contains("with --train-data"), "{said}");
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
            "--source-word",
            "square",
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
    assert_eq!(cell("maba", "none")["examples"].as_array().map(Vec::len), Some(3));
    assert!(cell("maba", "none")["examples"][0]["triggered_answer"].is_string());
    assert!(cell("clean", "none").get("examples").is_none());
    // All references name the source word.
    let replaced = &cell("blended", "none")["substitution"];
    assert_eq!(replaced["target"]["n"], cell("blended", "none")["asr"]["n"]);
    assert!(replaced["target_not_source"]["hits"].as_u64() <= replaced["target"]["hits"].as_u64(), "{replaced}");
    assert!(said.contains("and not `square`, of the "), "{said}");
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
        "6 epochs of batches of 8",
        "Examples: the first tests of each attack",
        "data:image/png;base64,",
        "target and not source",
    ] {
        assert!(page.contains(word), "{word}");
    }
    assert_eq!(
        page.matches("<th>blended").count(),
        6,
        "rows of each shift, of ASR-G, of the filter and of the source word"
    );
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
        (&["--attack", "blended", "--source-word", "white"], "is the target"),
        (&["--attack", "blended", "--source-word", "image"], "no test picture has references that name `image`"),
        (&["--attack", "blended", "--shift", "data"], "--attacker-data"),
        (&["--attack", "blended", "--shift", "none", "--poison-rate", "0.001"], "are none"),
        (&["--attack", "blended", "--shift", "none", "--items", "4000"], "ask for fewer"),
        (&["--attack", "blended", "--shift", "none", "--alpha", "0"], "--alpha"),
        (&["--attack", "clean,dual-key", "--shift", "none", "--patch-pixels", "40"], "a patch of 40 pixels"),
        (&["--attack", "dual-key", "--shift", "none", "--patch-pixels", "1000000"], "--patch-pixels"),
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
        assert!(!lab.path("wrong/cells.jsonl").exists(), "{extra:?}: known before the first cell");
    }
    lab.fails(&strs(&study("wrong", &["--attack", "nothing"])), 2, &["choose among clean, badnets"]);
}
