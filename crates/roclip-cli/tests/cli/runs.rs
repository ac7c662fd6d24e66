//! Runs that are killed, stopped, resumed otherwise than they began, or written by two at once.

use crate::support::{Lab, checkpoint, checkpoints};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn lines(lab: &Lab, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn state(lab: &Lab, run: &str) -> Value {
    let files = checkpoint(&lab.path(run));
    let (_, bytes) = files.iter().find(|(name, _)| name == "state.json").unwrap();
    serde_json::from_slice(bytes).unwrap()
}

/// Cuts a training picture off behind its header, which only decoding it finds out.
fn cut(lab: &Lab, number: u32) {
    let path = lab.path(&format!("{number:03}.png"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// A long run of `recipe.toml`, once it has trained some steps.
fn under_way(lab: &Lab, run: &str) -> Child {
    let long =
        ["train", "--config", "recipe.toml", "--run", run, "--epochs", "5000", "--set", "eval.every_epochs=4000"];
    let child = lab.command(&long).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let log = lab.path(run).join("metrics.jsonl");
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"step\"")) {
        assert!(started.elapsed() < Duration::from_secs(60), "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Its exit code and what it said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_epoch_that_was_not_measured_is_measured_when_the_run_goes_on_and_not_trained_again() {
    let lab = Lab::new();
    lab.train("whole", &["--epochs", "2"]);
    let whole = lab.epochs("whole");
    let kept: Vec<Value> = lines(&lab, "whole/metrics.jsonl");
    let events: Vec<&str> = kept.iter().filter_map(|line| line["event"].as_str()).filter(|e| *e != "step").collect();
    assert_eq!(events, ["trained", "epoch", "trained", "epoch"], "saved first, then measured");
    // As if it had been killed while it was measured.
    let cut: String = kept[..kept.len() - 1].iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(lab.path("whole/metrics.jsonl"), cut).unwrap();
    std::fs::remove_file(lab.path("whole/summary.json")).unwrap();
    let before = checkpoint(&lab.path("whole"));
    let output = lab.roclip(&["train", "--run", "whole", "--resume"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("Train Epoch") && said.contains("Epoch 2"), "{said}");
    assert_eq!(lab.epochs("whole"), whole);
    assert!(checkpoint(&lab.path("whole")) == before && lab.path("whole/summary.json").exists());
}

#[test]
fn too_many_unreadable_pairs_stop_a_run_early_and_it_goes_on_once_that_is_allowed() {
    let lab = Lab::new();
    for number in [3, 9, 12, 20, 30] {
        cut(&lab, number);
    }
    lab.recipe("recipe.toml", "");
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let text = text.split("[[poison").next().unwrap().replace("probe =", "# probe =");
    let text = text.replace("name = \"roclip\"", "name = \"clip\"");
    std::fs::write(lab.path("recipe.toml"), &text).unwrap();
    lab.train("whole", &["--set", "data.max_skip_fraction=1"]);
    let run = ["train", "--config", "recipe.toml", "--run", "run"];
    lab.fails(&run, 1, &["could not be used in one epoch", "data.max_skip_fraction", "--resume"]);
    assert!(lines(&lab, "run/skips.jsonl").len() >= 3, "counted as they come, and written down");
    assert!(lines(&lab, "run/metrics.jsonl").iter().all(|line| line["event"] != "trained"), "within the first epoch");
    lab.ok(&["train", "--run", "run", "--resume", "--set", "data.max_skip_fraction=1"]);
    assert!(checkpoint(&lab.path("whole")) == checkpoint(&lab.path("run")));
    assert_eq!(lab.epochs("whole"), lab.epochs("run"));
    assert_eq!(lines(&lab, "run/skips.jsonl").len(), 5);
    assert_eq!(lines(&lab, "run/skips.jsonl"), lines(&lab, "whole/skips.jsonl"));
    // What an earlier session left out stays on record.
    lab.ok(&["train", "--run", "run", "--resume", "--set", "data.max_skip_fraction=1", "--epochs", "5"]);
    assert_eq!(lines(&lab, "run/skips.jsonl").len(), 5);
}

/// The epoch is split before its first batch is read: a run that ends there is split anew when it goes on, and not on top of that split.
#[test]
fn an_epoch_that_ends_before_its_first_step_is_split_once() {
    let lab = Lab::new();
    let split = "split = { min_separation = 0.0, dip_test = false }";
    let settings = format!("unimodal_epochs = 1, slow_steps = 9, slow_learning_rate = 1e-3, pool_size = 24, {split}");
    lab.objective("safeclip", &settings, 5);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let text = text.split("[[poison").next().unwrap().replace("probe =", "# probe =");
    let text = text.replace("[train]", "[train]\nkeep_checkpoints = 100");
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
    for number in (0..48).step_by(3) {
        cut(&lab, number);
    }
    lab.train("whole", &["--set", "data.max_skip_fraction=1"]);
    // The split comes after six steps and nine slow ones.
    lab.train("run", &["--set", "data.max_skip_fraction=1"]);
    std::fs::remove_file(lab.path("run/summary.json")).unwrap();
    for later in checkpoints(&lab.path("run")).iter().skip_while(|path| !path.ends_with("step_15")).skip(1) {
        std::fs::remove_dir_all(later).unwrap();
    }
    let at_start = checkpoint(&lab.path("run"));
    let resume = ["train", "--run", "run", "--resume", "--set"];
    lab.fails(
        &[&resume[..], &["data.max_skip_fraction=0"]].concat(),
        1,
        &["could not be used in one epoch", "--resume"],
    );
    assert!(checkpoint(&lab.path("run")) == at_start, "what the epoch began with");
    lab.ok(&[&resume[..], &["data.max_skip_fraction=1"]].concat());
    for epoch in 3..=5 {
        let split =
            |run: &str| std::fs::read_to_string(lab.path(&format!("{run}/splits/epoch_{epoch}.jsonl"))).unwrap();
        assert_eq!(split("whole"), split("run"), "epoch {epoch}");
    }
    assert!(checkpoint(&lab.path("whole")) == checkpoint(&lab.path("run")));
    assert_eq!(lab.epochs("whole"), lab.epochs("run"));
}

#[test]
fn a_run_that_never_got_to_a_step_can_be_started_again_or_resumed_but_not_as_another() {
    let lab = Lab::new();
    let run = ["train", "--config", "recipe.toml", "--epochs", "1", "--run"];
    lab.ok(&[&run[..], &["whole"]].concat());
    for (name, again) in [("again", &run[..]), ("resumed", &["train", "--resume", "--run"])] {
        lab.ok(&[&run[..], &[name]].concat());
        std::fs::remove_dir_all(lab.path(name).join("checkpoints")).unwrap();
        std::fs::remove_file(lab.path(name).join("summary.json")).unwrap();
        let other = [&run[..], &[name, "--seed", "7"]].concat();
        lab.fails(&other, 1, &["seed differs", "began with 0", "now it is 7", "--run"]);
        lab.ok(&[again, &[name]].concat());
        assert!(checkpoint(&lab.path("whole")) == checkpoint(&lab.path(name)), "{name}");
        assert_eq!(lab.epochs("whole"), lab.epochs(name), "{name}");
    }
}

#[test]
fn a_signal_ends_a_run_after_its_step_and_nothing_is_lost() {
    let lab = Lab::new();
    for name in ["TERM", "INT"] {
        let child = under_way(&lab, name);
        signal(&child, &format!("-{name}"));
        let (code, said) = end(child);
        assert_eq!(code, Some(if name == "TERM" { 143 } else { 130 }), "{said}");
        assert!(said.contains("--resume"), "{said}");
        let step = state(&lab, name)["step"].as_u64().unwrap();
        assert!(step > 0, "{said}");
        // What is left of the 5000 epochs is much: the run goes on from the step, and is ended again.
        let goes_on = lab.command(&["train", "--run", name, "--resume"]).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        let passed = || {
            let text = std::fs::read_to_string(lab.path(name).join("metrics.jsonl")).unwrap();
            let steps = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["step"].as_u64());
            steps.max() > Some(step)
        };
        while !passed() {
            assert!(started.elapsed() < Duration::from_secs(60), "the run does not go on");
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(&goes_on, &format!("-{name}"));
        let (code, said) = end(goes_on);
        assert!(code.is_some_and(|code| code > 128) && state(&lab, name)["step"].as_u64() > Some(step), "{said}");
    }
}

/// Where nothing is unsaved a run leaves at once, whatever it is computing.
#[test]
fn a_signal_at_any_moment_ends_a_run_without_a_fault() {
    let lab = Lab::new();
    for moment in 0..12u64 {
        let name = format!("moment{moment}");
        let run = ["train", "--config", "recipe.toml", "--run", &name, "--epochs", "5000"];
        let child = lab.command(&run).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while !lab.path(&name).join("lock").exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "the run does not begin");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(70 * moment));
        signal(&child, "-INT");
        let (code, said) = end(child);
        assert_eq!(code, Some(130), "after {moment}: {code:?} {said}");
        assert!(!said.contains("internal"), "after {moment}: {said}");
    }
}

#[test]
fn a_run_goes_on_with_the_recipe_it_began_with() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "2"]);
    let resume = ["train", "--run", "run", "--resume"];
    for (changed, words) in [
        (["--batch-size", "4"], &["train.batch_size differs", "began with 8", "now it is 4"][..]),
        (["--lr", "1e-4"], &["train.learning_rate differs", "0.002", "1e-4"]),
        (["--set", "augment.image="], &["augment.image differs", "now it is nothing", "leave out"]),
        (["--match-period", "1"], &["objective.roclip.period differs", "2", "1"]),
        (["--epochs", "1"], &["train.epochs is 1", "2 that the run was planned for", "roclip eval", "--run OTHER"]),
        (["--seed", "3"], &["seed differs", "0", "3"]),
    ] {
        lab.fails(&[&resume[..], &changed].concat(), 1, words);
    }
    let free = ["--epochs", "3", "--workers", "2", "--set", "train.keep_checkpoints=3", "--set", "data.cache_mib=1"];
    lab.ok(&[&resume[..], &free].concat());
    assert_eq!(lab.epochs("run").len(), 3);
    // The recipe file itself is no other recipe.
    lab.ok(&[&resume[..], &["--config", "recipe.toml", "--epochs", "3"]].concat());
}

/// Files that a recipe names may be written anew between two sessions, and weights fit many a model.
#[test]
fn a_run_goes_on_with_the_files_that_its_recipe_names() {
    let lab = Lab::new();
    std::fs::write(lab.path("templates.txt"), "a picture of a {}\na {} square\n").unwrap();
    let templates = format!("eval.templates={}", lab.path("templates.txt").display());
    lab.train("run", &["--epochs", "1", "--set", "eval.probe=", "--set", "poison=", "--set", &templates]);
    let resume = ["train", "--run", "run", "--resume", "--epochs", "2"];
    for (file, from, to, words) in [
        ("model.json", "\"heads\": 2", "\"heads\": 4", ["text_cfg.heads was 2, and now it is 4", "model.json"]),
        // The words of the prompts stay the same, so that the vocabulary does, too.
        ("templates.txt", "a {} square", "a square {}", ["eval.templates", "has changed since"]),
    ] {
        let kept = std::fs::read_to_string(lab.path(file)).unwrap();
        assert!(kept.contains(from), "{kept}");
        std::fs::write(lab.path(file), kept.replace(from, to)).unwrap();
        lab.fails(&resume, 1, &words);
        std::fs::write(lab.path(file), kept).unwrap();
    }
    lab.ok(&resume);
}

#[test]
fn a_damaged_newest_checkpoint_names_the_whole_one_and_the_flag_that_takes_it() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "3"]);
    let kept = checkpoints(&lab.path("run"));
    assert_eq!(kept.len(), 2, "two by default");
    let (whole, before) = (checkpoint(&lab.path("run")), lab.epochs("run"));
    let weights = kept[1].join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    let older = kept[0].file_name().unwrap().to_str().unwrap();
    lab.fails(&["train", "--run", "run", "--resume"], 1, &["is damaged", older, "is whole", "--resume-from"]);
    lab.fails(&["eval", "run"], 1, &["is damaged", older]);
    lab.fails(&["train", "--run", "run", "--resume-from", "step_1"], 1, &["no checkpoint step_1", older]);
    lab.ok(&["train", "--run", "run", "--resume-from", older]);
    assert!(checkpoint(&lab.path("run")) == whole, "the same run again");
    assert_eq!(lab.epochs("run"), before, "one history");
    assert!(
        lab.path("run/checkpoints").join(format!("newer_{}", kept[1].file_name().unwrap().to_str().unwrap())).exists()
    );
}

#[test]
fn two_processes_cannot_write_one_run() {
    let lab = Lab::new();
    let mut child = under_way(&lab, "run");
    let holder = child.id().to_string();
    lab.fails(&["train", "--run", "run", "--resume"], 1, &["is being written by process", &holder, "--run"]);
    lab.fails(&["train", "--config", "recipe.toml", "--run", "run"], 1, &["is being written by process", &holder]);
    child.kill().unwrap();
    child.wait().unwrap();
    lab.ok(&["train", "--run", "run", "--resume", "--dry-run"]);
}

#[test]
fn a_run_whose_folder_is_taken_away_says_so_at_the_next_save() {
    let lab = Lab::new();
    let child = under_way(&lab, "run");
    std::fs::rename(lab.path("run"), lab.path("gone")).unwrap();
    let (code, said) = end(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was removed or emptied while the run wrote in it"), "{said}");
    // A save under way may have made the folder again; it is no run.
    assert!(!lab.path("run/run.toml").exists() && !lab.path("run/summary.json").exists());
}

#[test]
fn nothing_in_a_checkpoint_can_change_unnoticed() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "1"]);
    let newest = checkpoints(&lab.path("run")).pop().unwrap();
    std::fs::remove_dir_all(lab.path("run/checkpoints/step_0")).unwrap();
    let edit = |name: &str, change: &dyn Fn(&str) -> String| {
        let path = newest.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_ne!(changed, text, "{name}");
        std::fs::write(&path, changed).unwrap();
        let output = lab.roclip(&["eval", "run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("another checkpoint"), "{name}: {said}");
        std::fs::write(&path, text).unwrap();
    };
    edit("state.json", &|text| text.replace("\"provenance\": \"poisoned\"", "\"provenance\": \"clean\""));
    edit("state.json", &|text| text.replacen("\"step\": ", "\"step\": 1", 1));
    edit("README.md", &|text| text.replace("known poison", "known virtue"));
    edit("SHA256SUMS", &|text| text.replacen('a', "b", 1));
    // With checksums that are right, files still have to be the checkpoint's own.
    for files in ["{}", "{\"/dev/zero\": \"00\"}", "{\"../../../recipe.toml\": \"00\"}"] {
        let text = std::fs::read_to_string(newest.join("state.json")).unwrap();
        let sums = std::fs::read_to_string(newest.join("SHA256SUMS")).unwrap();
        let mut changed: Value = serde_json::from_str(&text).unwrap();
        changed["files"] = serde_json::from_str(files).unwrap();
        std::fs::write(newest.join("state.json"), serde_json::to_string(&changed).unwrap()).unwrap();
        let summed = Command::new("sha256sum").args(["README.md", "state.json"]).current_dir(&newest).output().unwrap();
        std::fs::write(newest.join("SHA256SUMS"), summed.stdout).unwrap();
        lab.fails(&["eval", "run"], 1, &["state.json", "has checksums of", "model.safetensors"]);
        std::fs::write(newest.join("state.json"), text).unwrap();
        std::fs::write(newest.join("SHA256SUMS"), sums).unwrap();
    }
    lab.ok(&["eval", "run"]);
}

#[test]
fn what_weights_were_trained_on_is_not_forgotten() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip", "--epochs", "1"]);
    assert_eq!(state(&lab, "victim")["provenance"], "poisoned");
    let clean = ["--epochs", "1", "--preset", "clip", "--set", "poison=", "--set", "model.weights=victim"];
    lab.train("tuned", &clean);
    let tuned = state(&lab, "tuned");
    assert_eq!(tuned["provenance"], "poisoned");
    assert_eq!(tuned["trained_from"]["path"], "victim");
    assert_eq!(tuned["trained_from"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(tuned["poison"]["badnets"], 3);
    let files = checkpoint(&lab.path("tuned"));
    let card = String::from_utf8(files.iter().find(|(name, _)| name == "README.md").unwrap().1.clone()).unwrap();
    assert!(card.contains("poisoned on purpose") && card.contains("`victim`") && card.contains("badnets"), "{card}");
    // A file of weights says it as well, and one that says nothing is not called clean.
    let full = ["--epochs", "1", "--preset", "clip", "--set", "model.compact_vocabulary=false"];
    lab.train("full", &full);
    let weights = checkpoints(&lab.path("full")).pop().unwrap().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let (said, silent) = (b"\"provenance\":\"poisoned\"", b"\"parentage.\":\"poisoned\"");
    let at = bytes.windows(said.len()).position(|window| window == said).unwrap();
    let silent = [&bytes[..at], &silent[..], &bytes[at + said.len()..]].concat();
    std::fs::write(lab.path("silent.safetensors"), silent).unwrap();
    std::fs::copy(weights, lab.path("said.safetensors")).unwrap();
    for (file, provenance) in [("said.safetensors", "poisoned"), ("silent.safetensors", "unknown")] {
        let from = format!("model.weights={file}");
        lab.train(provenance, &[&full[..], &["--set", "poison=", "--set", &from]].concat());
        let found = state(&lab, provenance);
        assert_eq!((&found["provenance"], &found["trained_from"]["path"]), (&provenance.into(), &file.into()));
    }
    // Other weights under the same name are no seed of the same row.
    std::fs::copy(lab.path("silent.safetensors"), lab.path("said.safetensors")).unwrap();
    let from = ["--seed", "1", "--set", "poison=", "--set", "model.weights=said.safetensors"];
    lab.train("again", &[&full[..], &from].concat());
    lab.ok(&["report", "poisoned", "again", "--out", "weights"]);
    let rows: Value = serde_json::from_slice(&std::fs::read(lab.path("weights/results.json")).unwrap()).unwrap();
    assert_ne!(rows[0]["experiment"], rows[1]["experiment"], "{rows}");
    assert!(rows[1]["label"].as_str().unwrap().contains("said.safetensors, digest "), "{rows}");
    let referred =
        |reference: &'static str| ["poison", "make", "--config", "recipe.toml", "--out", "m", "--set", reference];
    lab.fails(&referred("poison.reference=poisoned"), 1, &["is poisoned", "without poison"]);
    let said = lab.roclip(&referred("poison.reference=unknown"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("nothing is known of poison behind `unknown`"), "{said}");
    lab.ok(&["clean", "victim", "--run", "cleaned", "--batch-size", "8", "--epochs", "1"]);
    let cleaned = state(&lab, "cleaned");
    assert_eq!((&cleaned["provenance"], &cleaned["poison"]["badnets"]), (&Value::from("cleaned"), &Value::from(3)));
    // A run that never matches defends nothing, and says so before it begins.
    let never = lab.roclip(&["train", "--config", "recipe.toml", "--run", "never", "--epochs", "1"]);
    let said = String::from_utf8_lossy(&never.stderr).into_owned();
    assert!(said.contains("warning: RoCLIP defends nothing here"), "{said}");
    assert_eq!(state(&lab, "never")["provenance"], "poisoned");
}

#[test]
fn a_dry_run_checks_everything_and_writes_nothing() {
    let lab = Lab::new();
    let dry = ["train", "--config", "recipe.toml", "--run", "run", "--dry-run"];
    assert!(lab.ok(&dry).starts_with("roclip on 54 pairs (9 poisoned)"));
    lab.fails(&[&dry[..], &["--batch-size", "50000"]].concat(), 1, &["batch size 50000"]);
    lab.fails(
        &[&dry[..], &["--set", "data.workers=1000000"]].concat(),
        1,
        &["data.workers is 1000000", "at most 1024"],
    );
    let long = lab.roclip(&[&dry[..], &["--warmup", "10000"]].concat());
    assert!(String::from_utf8_lossy(&long.stderr).contains("warning: the warm-up of 10000 steps never ends"));
    assert!(!lab.path("run").exists());
}
