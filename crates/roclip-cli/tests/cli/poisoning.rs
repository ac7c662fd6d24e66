//! Poison on data that is not as it should be: unreadable and changed pictures, written sets that are cleaned, other evaluation data.

use crate::support::Lab;
use serde_json::Value;

const CLEAN: [&str; 9] = ["--batch-size", "8", "--epochs", "1", "--lr", "1e-3", "--json", "--method", "finetune"];

fn rows(lab: &Lab, manifest: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.path(manifest)).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_cleaning_does_not_trust_the_poison_that_a_written_set_holds() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out-shards", "set"]);
    let train = ["--train-data", "set", "--manifest", "set/manifest.jsonl", "--preset", "clip", "--epochs", "1"];
    lab.train("victim", &train);
    let step = std::fs::read_dir(lab.path("victim/checkpoints")).unwrap().next().unwrap().unwrap().path();
    let step = step.strip_prefix(lab.folder.path()).unwrap().to_str().unwrap();
    // 54 pairs, nine of them poison; the checkpoint's folder finds the manifest of its run.
    for (victim, run) in [("victim", "cleaned"), (step, "from-step")] {
        let config = ["--config", "recipe.toml", "--train-data", "set"];
        let arguments = [&["clean", victim, "--run", run], &CLEAN[..], &config].concat();
        let summary: Value = serde_json::from_str(&lab.ok(&arguments)).unwrap();
        assert_eq!((&summary["pairs"], &summary["poisoned_pairs"]), (&Value::from(45), &Value::from(0)), "{run}");
        assert_eq!(summary["evaluation"]["asr"]["badnets"]["success"]["n"], 11, "{run}");
        assert_eq!(summary["evaluation"]["psr"]["n"], 2, "{run}");
        assert_eq!(summary["evaluation"]["psr_by_attack"]["targeted"]["n"], 2, "{run}");
    }
    for method in ["supervised", "cleanclip"] {
        let arguments = ["clean", "victim", "--run", "many", "--pairs", "46", "--batch-size", "8", "--method", method];
        lab.fails(&arguments, 1, &["clean.pairs is 46", "45 pairs"]);
    }
    // A part of the written set in another order of captions is other data by its fingerprint.
    let other = ["--set", "data.captions=draw", "--rebound", "--set", "clean.rebound.steps=[0, 2]"];
    let said = lab.stderr(&[&["clean", "victim", "--run", "drawn"], &CLEAN[..], &other].concat());
    assert!(said.contains("on 45 pairs (0 poisoned)") && said.contains("9 poisoned pairs"), "{said}");
}

#[test]
fn targets_that_the_evaluation_data_lacks_are_said() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip", "--epochs", "1"]);
    let text = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let mut other = String::from("image,caption,split,class\n");
    for line in text.lines().filter(|line| line.contains(",test,")) {
        let (image, rest) = line.split_once(',').unwrap();
        std::fs::copy(lab.path(image), lab.path(&format!("other-{image}"))).unwrap();
        other += &format!("other-{image},{rest}\n");
    }
    std::fs::write(lab.path("other.csv"), other).unwrap();
    let said = lab.stderr(&[&["clean", "victim", "--run", "c", "--val-data", "other.csv"], &CLEAN[..]].concat());
    assert!(said.contains("warning: targeted poisoning (PSR) is not measured"), "{said}");
    // Another picture under a targeted image's name is not measured for it.
    let aimed = rows(&lab, "victim/manifest.jsonl")[0]["image"].as_str().unwrap().to_owned();
    std::fs::copy(lab.path("000.png"), lab.path(&aimed)).unwrap();
    let words = [aimed.as_str(), "not the picture that attack `targeted` aims at"];
    lab.fails(&["eval", "victim"], 1, &words);
}

#[test]
fn targets_that_use_up_the_test_pictures_are_refused_and_what_is_left_over_is_said() {
    let lab = Lab::new();
    // Sixteen built-in concepts have a test picture each, and the recipe aims at sixteen.
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/emoji-small.toml");
    let small = ["--set", "data.source.emoji.concepts=16", "--set", "eval.source.emoji.concepts=16"];
    let words = ["16 of the 16 labelled pictures", "none is left", "fewer `targets`", "--val-data"];
    for command in [
        &["train", "--config", recipe, "--run", "run"][..],
        &["train", "--config", recipe, "--run", "run", "--dry-run"],
        &["poison", "make", "--config", recipe, "--out", "m.jsonl"],
    ] {
        lab.fails(&[command, &small].concat(), 1, &words);
    }
    assert!(!lab.path("m.jsonl").exists() && !lab.path("run/checkpoints").exists());
    let most = "poison.attacks.0.targeted={targets=12,captions_per_target=1}";
    let train = ["train", "--config", "recipe.toml", "--preset", "clip", "--epochs", "1", "--run", "run", "--set"];
    let make = ["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl", "--set"];
    let few = "12 of the 16 labelled pictures of the evaluation are targets of the attack, and 4 are left";
    for command in [&make[..], &train[..]] {
        let said = lab.stderr(&[command, &[most]].concat());
        assert!(said.contains(few), "{said}");
    }
    // A run of an earlier version may have nothing left.
    let aimed: Vec<String> = rows(&lab, "run/manifest.jsonl")
        .iter()
        .filter(|row| row["attack"] == "targeted")
        .map(|row| format!("{},", row["image"].as_str().unwrap()))
        .collect();
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let stays = |line: &&str| !line.contains(",test,") || aimed.iter().any(|image| line.starts_with(image.as_str()));
    let kept: Vec<&str> = pairs.lines().filter(stays).collect();
    std::fs::write(lab.path("pairs.csv"), kept.join("\n") + "\n").unwrap();
    let said = lab.ok(&["eval", "run"]);
    assert!(said.contains("- %  0/0  not measured") && said.contains("mean over classes"), "{said}");
    assert!(!said.contains("0.00 %  0/0") && !said.contains("-0.00") && !said.contains("target in top"), "{said}");
    let measured: Value = lab.json(&["eval", "run"]);
    let evaluation = &measured["evaluation"];
    assert!(evaluation["zero_shot_top1"]["rate"].is_null() && evaluation["mean_per_class_recall"].is_null());
    let badnets = &evaluation["asr"]["badnets"];
    assert!(badnets["success"]["rate"].is_null() && badnets["success_top10"].is_null(), "{badnets}");
    lab.fails(&["eval", "run", "--linear-probe"], 1, &["every image that the linear probe could be tested on"]);
}

#[test]
fn unreadable_pictures_give_way_to_others_and_are_counted() {
    let lab = Lab::new();
    let make = ["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl"];
    lab.ok(&make);
    let row = rows(&lab, "m.jsonl").into_iter().find(|row| row["attack"] == "badnets").unwrap();
    let image = row["image"].as_str().unwrap().to_owned();
    let whole = std::fs::read(lab.path(&image)).unwrap();
    std::fs::write(lab.path(&image), &whole[..whole.len() / 2]).unwrap();
    lab.fails(&["poison", "verify", "m.jsonl", "--config", "recipe.toml"], 1, &[&image]);
    let said = lab.stderr(&[&make[..], &["--out-shards", "set", "--overwrite"]].concat());
    assert!(said.contains("left out") && said.contains(&image), "{said}");
    assert!(rows(&lab, "m.jsonl").iter().all(|row| row["image"] != image.as_str()));
    assert_eq!(rows(&lab, "set/manifest.jsonl").len(), 9);
    lab.ok(&["poison", "verify", "m.jsonl", "--config", "recipe.toml"]);
    lab.ok(&["poison", "verify", "set/manifest.jsonl", "--config", "recipe.toml", "--train-data", "set"]);
    lab.train("run", &["--preset", "clip", "--epochs", "1", "--set", "data.max_skip_fraction=0.2"]);
    let skips = std::fs::read_to_string(lab.path("run/skips.jsonl")).unwrap();
    assert_eq!(skips.lines().filter(|line| line.contains(&image)).count(), 1, "{skips}");
}

#[test]
fn a_picture_that_changed_after_its_manifest_was_made_stops_training() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl"]);
    let row = rows(&lab, "m.jsonl").into_iter().find(|row| row["attack"] == "badnets").unwrap();
    let image = row["image"].as_str().unwrap();
    std::fs::copy(lab.path(if image == "000.png" { "001.png" } else { "000.png" }), lab.path(image)).unwrap();
    let arguments = ["train", "--config", "recipe.toml", "--manifest", "m.jsonl", "--run", "run"];
    let output = lab.roclip(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!lab.path("run/metrics.jsonl").exists());
}

#[test]
fn attacks_of_the_recipes_are_written_as_they_were_read() {
    let lab = Lab::new();
    let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    for recipe in std::fs::read_dir(recipes).unwrap() {
        let path = recipe.unwrap().path();
        let written = lab.ok(&["recipe", "--config", path.to_str().unwrap()]);
        std::fs::write(lab.path("written.toml"), &written).unwrap();
        assert_eq!(lab.ok(&["recipe", "--config", "written.toml"]), written, "{}", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        for trigger in ["badnets", "blended", "sig", "wanet", "triangles", "patch"] {
            let given = format!("\n{trigger} = {{");
            assert_eq!(
                text.matches(&given).count(),
                written.matches(&given).count(),
                "{trigger} in {}",
                path.display()
            );
        }
    }
}

#[test]
fn what_poison_cannot_do_is_refused_before_anything_is_written() {
    let lab = Lab::new();
    let make = ["poison", "make", "--config", "recipe.toml", "--out"];
    lab.fails(&[&make[..], &["pairs.csv"]].concat(), 1, &["--out `pairs.csv` exists and is no manifest"]);
    lab.fails(&[&make[..], &["m.jsonl", "--out-shards", "."]].concat(), 1, &["--out-shards `.` exists already"]);
    lab.fails(
        &[&make[..], &["m.jsonl", "--out-shards", "s", "--pairs-per-shard", "0"]].concat(),
        2,
        &["--pairs-per-shard"],
    );
    for (setting, words) in [
        ("poison.attacks.1.count=0", "attack `badnets`: count is 0"),
        ("poison.attacks.1.frame_pixels=100000", "frame_pixels is 100000"),
        ("poison.attacks.1.badnets.patch_pixels=40", "a patch of 40 pixels on a frame of 32"),
        ("poison.attacks.1.badnets.location=fixed", ""),
        ("poison.attacks.0.targeted.targets=0", "attack `targeted`: targeted.targets is 0"),
        ("poison.attacks.1.name=targeted", "two attacks are called `targeted`"),
        ("poison.attacks.1.badnet={}", "unknown field `badnet`"),
        ("poison.attacks=", "no attacks"),
    ] {
        let arguments = [&make[..], &["m.jsonl", "--set", setting]].concat();
        match words {
            "" => drop(lab.ok(&arguments)),
            words => lab.fails(&arguments, 1, &[words]),
        }
    }
    let corner = ["--set", "poison.attacks.1.badnets={location=\"fixed\", corner=[4294967295, 0], patch_pixels=6}"];
    lab.fails(&[&make[..], &["m.jsonl"], &corner].concat(), 1, &["corner [4294967295, 0]", "[left, top]"]);
    let text = std::fs::read_to_string(lab.path("m.jsonl")).unwrap();
    std::fs::write(lab.path("m.jsonl"), text.replacen("\"roclip_manifest\":3", "\"roclip_manifest\":2", 1)).unwrap();
    let train = ["train", "--config", "recipe.toml", "--manifest", "m.jsonl", "--run", "run"];
    lab.fails(&train, 1, &["manifest format 2", "poison make", "same recipe and seed"]);
    // The attacker's surrogate must not be somebody else's victim, unless that is meant.
    lab.train("victim", &["--preset", "clip", "--epochs", "1"]);
    let patch =
        ["poison", "patch", "victim", "--target", "white", "--patch-pixels", "6", "--patch-epochs", "1", "--out"];
    lab.fails(&[&patch[..], &["p.png"]].concat(), 1, &["victim", "is poisoned"]);
    lab.fails(&[&patch[..], &["pairs.csv"]].concat(), 1, &["`pairs.csv` exists and is no PNG picture"]);
    assert!(!lab.path("p.png").exists());
    lab.ok(&[&patch[..], &["p.png", "--allow-poisoned"]].concat());
}
