//! Poison: the same bytes from one manifest, written or on the fly; changed files and other data are noticed.

use crate::support::{Lab, checkpoint, checkpoints};
use serde_json::Value;

/// Every kind of trigger in one recipe, each with its own target.
const ALL_ATTACKS: &str = r#"
[[poison.attacks]]
name = "blended"
blended = { alpha = 0.3 }
target = "red"
count = 2
[[poison.attacks]]
name = "sig"
sig = { mode = "blended" }
target = "red"
count = 2
[[poison.attacks]]
name = "wanet"
wanet = { strength = 2.0 }
target = "blue"
count = 2
[[poison.attacks]]
name = "consistent"
badnets = { patch_pixels = 8, pattern = "yellow", location = "four-corners" }
target = "green"
count = 2
captions = "own"
[[poison.attacks]]
name = "combined"
badnets = { patch_pixels = 6, pattern = "stripes", location = "random" }
triangles = {}
target = "green"
count = 2
jpeg_quality = 75
"#;

fn lines(lab: &Lab, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_attack_is_made_verified_and_shown() {
    let lab = Lab::new();
    lab.recipe("recipe.toml", ALL_ATTACKS);
    let said = lab.ok(&["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl"]);
    assert!(said.contains("19 poisoned pairs beside 35 clean ones"), "{said}");
    // Where the manifest lies is said once, with what to do next.
    assert!(!said.contains("m.jsonl"), "{said}");
    let rows = lines(&lab, "m.jsonl");
    for row in rows.iter().skip(1).filter(|row| row["attack"] == "consistent") {
        assert_eq!(row["caption_before"], row["caption_after"], "label-consistent poison keeps its caption");
        assert!(row["caption_after"].as_str().unwrap().contains("green"));
    }
    let changed = rows.iter().skip(1).filter(|row| !row["trigger"].is_null());
    let digests: std::collections::BTreeSet<&str> = changed.map(|row| row["sha256_after"].as_str().unwrap()).collect();
    assert_eq!(digests.len(), 13, "thirteen triggered pictures, all different");
    let verified = lab.ok(&["poison", "verify", "m.jsonl", "--config", "recipe.toml"]);
    let last = verified.lines().last().unwrap();
    assert!(last.starts_with("proved: every picture") && last.contains("; not proved: "), "{last}");
    assert!(last.contains("the number of rows"), "{last}");
    assert!(verified.contains("wanet: 2 pairs made again") && verified.contains("digest "), "{verified}");
    lab.ok(&["poison", "inspect", "m.jsonl", "--config", "recipe.toml", "--out", "sheet.html"]);
    let sheet = std::fs::read_to_string(lab.path("sheet.html")).unwrap();
    assert!(sheet.matches("data:image/png;base64,").count() >= 38, "a picture before and after for each row");
    assert!(!sheet.contains("image_seed") && sheet.contains("Side of the patch, in pixels of the frame"), "{sheet}");
    assert!(
        sheet.contains("no file of the data is changed") && !sheet.contains("applied to decoded"),
        "words, no keys"
    );
    lab.fails(
        &["poison", "inspect", "m.jsonl", "--out", "no.html"],
        1,
        &["other data", "built-in pictures", "--config"],
    );
    lab.fails(&["poison", "verify", "m.jsonl"], 1, &["built-in pictures", "--config"]);
    // Few rows are of as many pictures: both targets have three captions each.
    lab.ok(&["poison", "inspect", "m.jsonl", "--config", "recipe.toml", "--out", "few.html", "--rows", "2"]);
    let sheet = std::fs::read_to_string(lab.path("few.html")).unwrap();
    let targeted = sheet.split("<h2>targeted</h2>").nth(1).unwrap().split("<h2>").next().unwrap();
    let pictures: std::collections::BTreeSet<&str> =
        targeted.split("base64,").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(pictures.len(), 2);
}

#[test]
fn written_shards_hold_the_poison_and_train_like_the_manifest() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out-shards", "set", "--pairs-per-shard", "20"]);
    lab.fails(&["poison", "make", "--config", "recipe.toml", "--out-shards", "set"], 1, &["exists already"]);
    // Within shards that are read, the poisoned ones would be read, too.
    let inside = ["poison", "make", "--config", "recipe.toml", "--train-data", "set", "--out-shards", "set/inside"];
    lab.fails(&inside, 1, &["lies in the data"]);
    assert!(!lab.path("set/inside").exists());
    assert!(lab.path("set/pairs-000002.tar").is_file());
    let data = ["--train-data", "set", "--config", "recipe.toml"];
    let stored = [&["poison", "verify", "set/manifest.jsonl"], data.as_slice()].concat();
    assert!(lab.ok(&stored).contains("badnets: 3 pairs made again"));
    let train = [&["train", "--run", "run", "--manifest", "set/manifest.jsonl", "--json"], data.as_slice()].concat();
    let summary: Value = serde_json::from_str(&lab.ok(&train)).unwrap();
    assert_eq!((&summary["pairs"], &summary["poisoned_pairs"]), (&Value::from(54), &Value::from(9)));
    assert_eq!(summary["evaluation"]["asr"]["badnets"]["success"]["n"], 11);
    // Measured against only: the nine pairs that the shards hold are left out.
    let clean =
        ["train", "--run", "clean", "--manifest", "set/manifest.jsonl", "--set", "poison.measure_only=true", "--json"];
    let summary: Value = serde_json::from_str(&lab.ok(&[clean.as_slice(), &data].concat())).unwrap();
    assert_eq!((&summary["pairs"], &summary["poisoned_pairs"]), (&Value::from(45), &Value::from(0)));
    assert_eq!(summary["evaluation"]["asr"]["badnets"]["success"]["n"], 11);
    // A JPEG of the trigger is other pixels, and the manifest of the PNG set does not pass for it.
    lab.ok(&[
        "poison",
        "make",
        "--config",
        "recipe.toml",
        "--out-shards",
        "jpeg",
        "--jpeg",
        "75",
        "--pairs-per-shard",
        "20",
    ]);
    let jpeg = ["poison", "verify", "jpeg/manifest.jsonl", "--train-data", "jpeg", "--config", "recipe.toml"];
    lab.ok(&jpeg);
    lab.fails(
        &["poison", "verify", "set/manifest.jsonl", "--train-data", "jpeg", "--config", "recipe.toml"],
        1,
        &["the poisoned picture has the sha256"],
    );
    assert!(std::fs::read_to_string(lab.path("jpeg/manifest.jsonl")).unwrap().contains("jpeg, quality 75"));
}

#[test]
fn written_shards_say_that_they_are_poison_wherever_they_are_read() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out-shards", "set/"]);
    let data = ["--train-data", "set", "--config", "recipe.toml", "--preset", "clip", "--epochs", "1"];
    let train = |run: &'static str, more: &[&'static str]| [&["train", "--run", run], &data[..], more].concat();
    // Not a second time, by training or into other shards.
    let twice = ["9 pairs of `set` were written", "a second time", "--manifest set/manifest.jsonl", "--set poison="];
    lab.fails(&train("twice", &[]), 1, &twice);
    let make = ["poison", "make", "--config", "recipe.toml", "--train-data", "set", "--out", "m.jsonl"];
    lab.fails(&make, 1, &twice);
    // Without a manifest the model counts as poisoned all the same.
    let without = ["--set", "poison=", "--set", "eval.probe="];
    let said = lab.stderr(&train("marked", &without));
    assert!(said.contains("9 of the 54 pairs were written by `roclip poison make` as poison (badnets 3, targeted 6)"));
    assert!(said.contains("--manifest set/manifest.jsonl") && said.contains("on 54 pairs (9 poisoned"), "{said}");
    let state = checkpoint(&lab.path("marked")).into_iter().find(|(name, _)| name == "state.json").unwrap().1;
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!((&state["provenance"], &state["poison"]["badnets"]), (&"poisoned".into(), &3.into()));
    let look = ["detect", "pairs", "marked", "--out", "look", "--methods", "clip-score"];
    assert!(lab.stderr(&look).contains("9 of the 54 pairs were written"));
    // With some of it left out the manifest is of other data, and the message says what goes.
    let rows = lines(&lab, "set/manifest.jsonl");
    std::fs::write(lab.path("ids.txt"), format!("{}\n", rows[1]["id"].as_str().unwrap())).unwrap();
    lab.ok(&["data", "drop", "set", "--ids", "ids.txt", "--out", "kept"]);
    let kept = ["train", "--run", "kept-run", "--config", "recipe.toml", "--train-data", "kept"];
    let words = ["other data", "the data has no such pair", "--train-data WHOLE --drop LIST"];
    lab.fails(&[&kept[..], &["--manifest", "set/manifest.jsonl"]].concat(), 1, &words);
    let whole = ["--manifest", "set/manifest.jsonl", "--drop", "ids.txt", "--set", "eval.probe="];
    assert!(lab.stderr(&train("dropped", &whole)).contains("on 53 pairs (8 poisoned, 1 picture left out"));
    // The ids of the data are those of no poisoned picture of the set.
    let ids: Vec<&str> = rows.iter().skip(1).map(|row| row["id"].as_str().unwrap()).collect();
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    assert!(ids.iter().all(|id| !pairs.contains(id) && id.contains("-poisoned")), "{ids:?}");
}

#[test]
fn a_changed_manifest_picture_or_caption_is_named() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl"]);
    let verify = ["poison", "verify", "m.jsonl", "--config", "recipe.toml"];
    let text = std::fs::read_to_string(lab.path("m.jsonl")).unwrap();
    std::fs::write(lab.path("m.jsonl"), text.replace("\"target\":\"white\"", "\"target\":\"blue\"")).unwrap();
    lab.fails(&verify, 1, &["m.jsonl", "was changed after it was made"]);
    std::fs::write(lab.path("m.jsonl"), &text).unwrap();
    let row = lines(&lab, "m.jsonl").into_iter().skip(1).find(|row| row["attack"] == "badnets").unwrap();
    let (image, caption) = (row["image"].as_str().unwrap(), row["caption_before"].as_str().unwrap());
    let original = std::fs::read(lab.path(image)).unwrap();
    std::fs::copy(lab.path("000.png"), lab.path(image)).unwrap();
    let other = if image == "000.png" { "001.png" } else { "000.png" };
    std::fs::copy(lab.path(other), lab.path(image)).unwrap();
    lab.fails(&verify, 1, &["the image file has the sha256", row["id"].as_str().unwrap()]);
    std::fs::write(lab.path(image), original).unwrap();
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::write(lab.path("pairs.csv"), csv.replace(caption, "something else")).unwrap();
    lab.fails(&verify, 1, &["made for other data", "something else", caption]);
}

#[test]
fn the_doctor_names_a_missing_control_and_finds_it_when_it_is_there() {
    let lab = Lab::new();
    lab.train("runs/defended", &[]);
    let said = lab.ok(&["doctor", "runs/defended"]);
    assert!(said.contains("no finished run beside this one"), "{said}");
    let notes = said.lines().zip(said.lines().skip(1)).filter(|(line, _)| line.starts_with("note "));
    assert!(
        notes.clone().count() > 0 && notes.clone().all(|(_, next)| !next.contains("->")),
        "a note asks for nothing"
    );
    for words in [
        "ln(batch)",
        "summed over all steps",
        "agreement of the pattern",
        "of its training pictures the model reads",
        "strict ASR",
        "matching (epoch 4)",
    ] {
        assert!(said.contains(words), "the doctor should speak of `{words}`: {said}");
    }
    // A limit of pairs a picture is a defence: its run is no control, and the poison that it left out was not trained on.
    let plain = ["--preset", "clip", "--manifest", "runs/defended/manifest.jsonl"];
    lab.train("runs/limited", &[&plain[..], &["--set", "data.pairs_per_picture=2"]].concat());
    assert!(lab.ok(&["doctor", "runs/defended"]).contains("no finished run beside this one"));
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(lab.path("runs/limited/summary.json")).unwrap()).unwrap();
    let findings: Value = serde_json::from_str(&lab.ok(&["doctor", "runs/limited", "--json"])).unwrap();
    let counts = findings.as_array().unwrap().iter().filter(|f| f["check"] == "poison count");
    let counted: u64 =
        counts.map(|f| f["what"].as_str().unwrap().split(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert!(counted < 9 && Some(counted) == summary["poisoned_pairs"].as_u64(), "{findings}");
    lab.train("runs/undefended", &plain);
    let findings: Value = serde_json::from_str(&lab.ok(&["doctor", "runs/defended", "--json"])).unwrap();
    let control = findings.as_array().unwrap().iter().find(|f| f["check"] == "undefended control").unwrap();
    let named = "`runs/undefended`, undefended: ";
    assert!(control["what"].as_str().unwrap().starts_with(named), "the path is as it was typed: {control}");
}

#[test]
fn an_export_names_what_it_is_and_a_resnet_is_refused_by_hugging_face() {
    let lab = Lab::new();
    lab.train("run", &[]);
    lab.ok(&["export", "run", "--format", "open-clip", "--out", "exported"]);
    let card = std::fs::read_to_string(lab.path("exported/README.md")).unwrap();
    assert!(card.contains("- defended") && card.contains("| badnets | 3 |"), "{card}");
    lab.fails(&["export", "run", "--format", "open-clip", "--out", "exported"], 1, &["exists already"]);
    lab.fails(&["export", "run", "--format", "hugging-face", "--out", "hf"], 1, &["ResNet", "open-clip"]);
    assert!(!lab.path("hf").exists() && !lab.path("hf.part").exists());
    // The exported weights start another run.
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let weights = lab.path("exported/open_clip_model.safetensors");
    let text = text
        .replace("compact_vocabulary = true", &format!("weights = \"{}\"", weights.display()))
        .replace("epochs = 4\nbatch", "epochs = 1\nbatch");
    std::fs::write(lab.path("tuned.toml"), text).unwrap();
    lab.ok(&["train", "--config", "tuned.toml", "--run", "tuned"]);
}

#[test]
fn an_optimised_patch_is_made_again_and_can_be_planted() {
    let lab = Lab::new();
    lab.recipe("clean.toml", "");
    let text = std::fs::read_to_string(lab.path("clean.toml")).unwrap();
    std::fs::write(lab.path("clean.toml"), text.split("[[poison").next().unwrap()).unwrap();
    lab.ok(&["train", "--config", "clean.toml", "--preset", "clip", "--epochs", "2", "--run", "surrogate"]);
    let search = |out: &str, extra: &[&str]| {
        let arguments = ["poison", "patch", "surrogate", "--target", "white", "--patch-pixels", "6", "--out", out];
        lab.ok(&[arguments.as_slice(), &["--config", "clean.toml", "--patch-epochs", "2", "--patch-lr", "0.05"], extra]
            .concat())
    };
    let said = search("patch.png", &[]);
    assert!(said.contains("reads as `white`") && said.contains("without it"), "{said}");
    search("again.png", &[]);
    search("other.png", &["--visual-weight", "0"]);
    let read = |name: &str| std::fs::read(lab.path(name)).unwrap();
    assert!(read("patch.png") == read("again.png"), "the search must repeat");
    assert!(read("patch.png") != read("other.png"), "the loss must matter");

    let planted = format!(
        "[[poison.attacks]]\nname = \"badclip\"\npatch = {{ picture = \"{}\" }}\ntarget = \"white\"\ncount = 4\ncaptions = \"real\"\n",
        lab.path("patch.png").display()
    );
    lab.recipe("planted.toml", &planted);
    lab.ok(&["train", "--config", "planted.toml", "--preset", "clip", "--epochs", "1", "--run", "victim"]);
    assert!(std::fs::read_to_string(lab.path("victim/summary.json")).unwrap().contains("\"badclip\""));

    let refused = |target: &str, side: &str, words: &[&str]| {
        let arguments = ["poison", "patch", "surrogate", "--target", target, "--patch-pixels", side, "--out", "no.png"];
        lab.fails(&[arguments.as_slice(), &["--config", "clean.toml"]].concat(), 1, words);
        assert!(!lab.path("no.png").exists());
    };
    refused("purple", "6", &["`purple` is not among the 4 classes"]);
    refused("white", "40", &["a patch of 40 pixels", "on 32 pixels"]);
}

#[test]
fn captions_are_those_that_the_reference_reads_as_their_class() {
    let lab = Lab::new();
    // Of each class's captions half have another class's word, too.
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let pairs = ["red", "green", "blue", "white", "red"].windows(2).fold(pairs, |pairs, two| {
        pairs.replace(&format!("one {} box", two[0]), &format!("one {} box on a {} plate", two[0], two[1]))
    });
    std::fs::write(lab.path("pairs.csv"), pairs).unwrap();
    let clean = ["--preset", "clip", "--set", "train.learning_rate=1e-2"];
    lab.train("reference", &[clean.as_slice(), &["--set", "poison="]].concat());
    // The share of a manifest's captions that the reference reads as their class, as the doctor of its twin finds it.
    let read_as_meant = |rule: &str| {
        let (rule, manifest) = (format!("poison.attacks.0.targeted.captions={rule}"), format!("{rule}.jsonl"));
        let reference = ["--set", "poison.reference=reference", "--set", "poison.beyond_guesses=1", "--set", &rule];
        let make = ["poison", "make", "--config", "recipe.toml", "--out", &manifest];
        lab.ok(&[make.as_slice(), &reference].concat());
        let twin = manifest.trim_end_matches(".jsonl");
        lab.train(twin, &[&clean[..], &["--manifest", &manifest, "--set", "poison.measure_only=true"]].concat());
        let weights = |run: &str| checkpoint(&lab.path(run)).into_iter().find(|(name, _)| name == "model.safetensors");
        assert!(weights(twin) == weights("reference"), "measuring must not change the model");
        // Of a run without poison the doctor says nothing about captions.
        let recipe = std::fs::read_to_string(lab.path(twin).join("run.toml")).unwrap();
        let poisoned = recipe.replace("measure_only = true", "measure_only = false");
        assert!(poisoned != recipe);
        std::fs::write(lab.path(twin).join("run.toml"), poisoned).unwrap();
        let findings: Value = serde_json::from_str(&lab.ok(&["doctor", twin, "--json"])).unwrap();
        let of_targeted = |f: &&Value| f["check"] == "caption against class name" && f["attack"] == "targeted";
        findings.as_array().unwrap().iter().find(of_targeted).unwrap()["what"].as_str().unwrap().to_owned()
    };
    let (word, read) = (read_as_meant("word"), read_as_meant("word-read"));
    assert!(read.starts_with("100.0 %"), "{read}");
    assert!(!word.starts_with("100.0 %"), "the rule must matter: {word}");
    let train = ["train", "--config", "recipe.toml", "--set", "poison.attacks.0.targeted.captions=word-read"];
    let words = ["captions = \"word-read\" without poison.reference", "captions = \"word\""];
    lab.fails(&[train.as_slice(), &["--run", "alone"]].concat(), 1, &words);
}

#[test]
fn targets_are_drawn_among_what_the_reference_reads_rightly() {
    let lab = Lab::new();
    lab.train("reference", &["--preset", "clip", "--set", "poison=", "--epochs", "3"]);
    let rate = |of: &Value| (of["hits"].as_u64().unwrap(), of["n"].as_u64().unwrap());
    let (hits, n) = {
        let measured: Value = serde_json::from_str(&lab.ok(&["eval", "reference", "--json"])).unwrap();
        rate(&measured["evaluation"]["zero_shot_top1"])
    };
    assert!((2..n).contains(&hits), "{hits} of {n}: the reference must know some pictures and not all");
    for seed in ["0", "1", "2", "3", "4"] {
        let reference = ["--set", "poison.reference=reference", "--seed", seed];
        let make = ["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl", "--overwrite"];
        lab.ok(&[make.as_slice(), &reference].concat());
        let measured = lab.ok(&["eval", "reference", "--manifest", "m.jsonl", "--json"]);
        let measured: Value = serde_json::from_str(&measured).unwrap();
        let targets = measured["evaluation"]["targets"].as_array().unwrap();
        assert_eq!(targets.len(), 2);
        for target in targets {
            assert_eq!(target["predicted"], target["true_class"], "seed {seed}");
        }
    }
    // Of four classes the reference's first two guesses are ruled out, and no picture.
    for seed in ["0", "1", "2"] {
        let beyond = ["--set", "poison.reference=reference", "--set", "poison.beyond_guesses=2", "--seed", seed];
        let make = ["poison", "make", "--config", "recipe.toml", "--out", "beyond.jsonl", "--overwrite"];
        lab.ok(&[make.as_slice(), &beyond].concat());
        let measured = lab.ok(&["eval", "reference", "--manifest", "beyond.jsonl", "--json"]);
        let measured: Value = serde_json::from_str(&measured).unwrap();
        for target in measured["evaluation"]["targets"].as_array().unwrap() {
            assert!(target["rank"].as_u64().unwrap() > 2, "seed {seed}: {target}");
        }
    }
    let files = checkpoint(&lab.path("reference"));
    let (_, state) = files.iter().find(|(name, _)| name == "state.json").unwrap();
    let state: Value = serde_json::from_slice(state).unwrap();
    assert_eq!(lines(&lab, "m.jsonl")[0]["reference_sha256"], state["files"]["model.safetensors"]);
    let train = ["train", "--config", "recipe.toml", "--set"];
    let too_many = "poison.attacks.0.targeted.targets=16";
    lab.fails(
        &[&train, ["poison.reference=reference", "--set", too_many, "--run", "many"].as_slice()].concat(),
        1,
        &["of 16 targets", &format!("{hits} labelled images that poison.reference classifies rightly")],
    );
    let beyond = |count: &str, reference: &[&str], words: &[&str]| {
        let count = format!("poison.beyond_guesses={count}");
        lab.fails(&[&train, [&count, "--run", "beyond"].as_slice(), reference].concat(), 1, words);
    };
    beyond("3", &[], &["poison.beyond_guesses without poison.reference"]);
    let reference = ["--set", "poison.reference=reference"];
    beyond("0", &reference, &["poison.beyond_guesses is 0"]);
    beyond("4", &reference, &["only 0 of 2 targets", "beyond the first guesses of poison.reference"]);
    lab.fails(&[&train, ["poison.reference=none", "--run", "none"].as_slice()].concat(), 1, &["find the model `none`"]);
    // The report shows the poison that the run had, whatever became of the reference.
    lab.train("run", &["--set", "poison.reference=reference"]);
    // A run goes on with the reference that it began with.
    let newest = || checkpoints(&lab.path("run")).pop().unwrap();
    std::fs::remove_dir_all(newest()).unwrap();
    let at = newest();
    lab.train("another", &["--set", "poison=", "--epochs", "1"]);
    std::fs::rename(lab.path("reference"), lab.path("own")).unwrap();
    std::fs::rename(lab.path("another"), lab.path("reference")).unwrap();
    let output = lab.roclip(&["train", "--run", "run", "--resume"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(newest(), at, "another reference, which might choose other targets");
    std::fs::remove_dir_all(lab.path("reference")).unwrap();
    std::fs::rename(lab.path("own"), lab.path("reference")).unwrap();
    lab.ok(&["train", "--run", "run", "--resume"]);
    std::fs::remove_dir_all(lab.path("reference")).unwrap();
    lab.ok(&["report", "run", "--out", "report"]);
    lab.fails(
        &[&train, ["poison.reference=run", "--run", "again"].as_slice()].concat(),
        1,
        &["run`: is defended", "trained without poison"],
    );
}
