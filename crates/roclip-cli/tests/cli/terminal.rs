//! What a person sees and keeps: lines, bars, logs, signals, the version, completions and manual pages.

use crate::support::{Lab, checkpoint};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Every file of a folder with its bytes and when it was written.
fn contents(folder: &Path) -> BTreeSet<(String, Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(contents(&entry));
        } else {
            let written = entry.metadata().unwrap().modified().unwrap();
            found.insert((entry.display().to_string(), std::fs::read(&entry).unwrap(), written));
        }
    }
    found
}

#[test]
fn a_run_writes_down_when_how_fast_with_what_memory_and_by_which_command() {
    let lab = Lab::new();
    let output = lab.roclip(&["train", "--config", "recipe.toml", "--run", "run", "--epochs", "2"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("next:") && said.contains("roclip doctor run"), "{said}");
    assert!(said.contains("ETA: ") && said.contains("(last epoch)"), "{said}");
    for line in lines(&lab.path("run/metrics.jsonl")) {
        assert!(line["date"].as_str().unwrap().ends_with('Z') && line["elapsed_seconds"].as_f64().unwrap() > 0.0);
        assert!(line["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{line}");
        assert!(line["event"] != "step" || line["pairs_per_second"].as_f64().unwrap() > 0.0, "{line}");
    }
    let log: Vec<Value> = lines(&lab.path("run/log.jsonl"));
    let kept: Vec<&str> = log.iter().filter_map(|line| line["line"].as_str()).collect();
    assert!(kept.iter().any(|line| line.starts_with("Train Epoch")) && kept.last() == Some(&"finished"), "{kept:?}");
    for line in said.lines().filter(|line| line.starts_with("Train Epoch") || line.starts_with("Epoch")) {
        assert!(kept.contains(&line), "the log lacks `{line}`");
    }
    let environment = json(&lab.path("run/env.json"));
    assert_eq!(environment["command"][1], "train");
    assert!(environment["date"].is_string() && environment["commit"].is_string(), "{environment}");
    let events: Vec<_> = std::fs::read_dir(lab.path("run/tensorboard")).unwrap().collect();
    assert_eq!(events.len(), 1);
    let bytes = std::fs::read(events[0].as_ref().unwrap().path()).unwrap();
    for tag in ["train/loss", "train/pairs_per_second", "evaluation/zero_shot_top1", "attack/psr", "attack/asr/badnets"]
    {
        assert!(bytes.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }
}

#[test]
fn a_finished_run_says_so_and_stays_untouched_and_its_cost_adds_up() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "1"]);
    let (before, first) = (contents(&lab.path("run")), json(&lab.path("run/summary.json")));
    let again = lab.roclip(&["train", "--run", "run", "--resume", "--json"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.success() && said.contains("finished") && said.contains("nothing was done"), "{said}");
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap(), first);
    assert!(contents(&lab.path("run")) == before, "nothing is touched");
    // As if the first session had taken long and much.
    let log = lab.path("run/log.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let last =
        r#"{"date":"2026-01-01T00:00:00Z","elapsed_seconds":5000.0,"peak_memory_bytes":9000000000000,"line":"x"}"#;
    std::fs::write(&log, format!("{text}{last}\n{{\"date")).unwrap();
    lab.ok(&["train", "--run", "run", "--resume", "--epochs", "2"]);
    let second = json(&lab.path("run/summary.json"));
    assert!((5000.0..5600.0).contains(&second["seconds"].as_f64().unwrap()), "{}", second["seconds"]);
    assert_eq!(second["peak_memory_bytes"], 9_000_000_000_000u64);
    assert_eq!(std::fs::read_dir(lab.path("run/tensorboard")).unwrap().count(), 2, "a file a session");
}

#[test]
fn a_log_that_cannot_be_written_is_told_once_and_ends_no_run() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("run")).unwrap();
    std::os::unix::fs::symlink("/dev/full", lab.path("run/log.jsonl")).unwrap();
    let output = lab.roclip(&["train", "--config", "recipe.toml", "--run", "run", "--epochs", "1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("the run goes on without that file").count(), 1, "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_before_work() {
    let lab = Lab::new();
    std::fs::write(lab.path("file"), "").unwrap();
    lab.fails(&["train", "--config", "recipe.toml", "--run", "file/run"], 1, &["cannot be written in", "file"]);
    lab.fails(&["report", "run", "--out", "/proc/roclip"], 1, &["cannot be written in", "/proc"]);
}

#[test]
fn quiet_leaves_results_and_errors() {
    let lab = Lab::new();
    let run = ["train", "--config", "recipe.toml", "--epochs", "1", "--run", "run", "--json", "--quiet"];
    let output = lab.roclip(&run);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["evaluation"].is_object());
    lab.fails(&["--quiet", "train", "--config", "none.toml", "--run", "other"], 1, &["error: ", "none.toml"]);
}

/// Through `script`, which gives a program a terminal.
#[test]
fn bars_move_on_a_terminal_of_forty_columns_and_no_line_of_them_is_longer() {
    let lab = Lab::new();
    let program = env!("CARGO_BIN_EXE_roclip");
    let line = format!(
        "stty -F /dev/tty rows 24 cols 40; {program} train --config recipe.toml --run run --epochs 40 --set eval.every_epochs=100"
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(lab.folder.path()).stdin(Stdio::null());
    let Ok(output) = script.output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    // What the terminal is told between two movements of the cursor.
    let escapes = regex_free_split(&shown);
    let bars: Vec<&String> = escapes.iter().filter(|piece| piece.starts_with("training ")).collect();
    assert!(bars.len() > 3 && bars.iter().all(|bar| bar.trim_end().chars().count() <= 40), "{bars:?}");
    assert!(bars.iter().any(|bar| bar.contains("left")), "{bars:?}");
    assert!(!shown.contains("Train Epoch"), "its lines are in the log");
    assert!(std::fs::read_to_string(lab.path("run/log.jsonl")).unwrap().contains("Train Epoch"));
}

/// Text without escape sequences, cut where there was one or a line ended.
fn regex_free_split(text: &str) -> Vec<String> {
    let (mut pieces, mut piece, mut characters) = (Vec::new(), String::new(), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                characters.by_ref().find(|c| c.is_ascii_alphabetic());
                pieces.push(std::mem::take(&mut piece));
            }
            '\r' | '\n' => pieces.push(std::mem::take(&mut piece)),
            other => piece.push(other),
        }
    }
    pieces
}

#[test]
fn the_version_completions_and_manual_pages_are_told() {
    let lab = Lab::new();
    let version = lab.ok(&["--version"]);
    assert!(version.starts_with("roclip 0.") && version.contains("commit ") && version.contains("libtorch 2."));
    for shell in ["bash", "zsh", "fish"] {
        let script = lab.ok(&["completions", shell]);
        assert!(script.contains("roclip") && script.contains("resume-from"), "{shell}");
    }
    let said = lab.ok(&["man", "--out", "man1"]);
    assert!(said.contains("pages"), "{said}");
    let page = std::fs::read_to_string(lab.path("man1/roclip-poison-make.1")).unwrap();
    assert!(page.contains("out\\-shards") && lab.path("man1/roclip.1").exists(), "{page}");
}

#[test]
fn results_that_a_program_may_read_are_json() {
    let lab = Lab::new();
    let read = |arguments: &[&str]| -> Value { serde_json::from_str(&lab.ok(arguments)).unwrap() };
    let config = ["--config", "recipe.toml", "--json"];
    let made = read(&[&["poison", "make", "--out", "m.jsonl", "--out-shards", "set"][..], &config].concat());
    assert_eq!((&made["out"], &made["shards"]["out"]), (&"m.jsonl".into(), &"set".into()));
    assert_eq!(made["attacks"].as_array().unwrap().len(), 2, "{made}");
    let verified = read(&[&["poison", "verify", "m.jsonl"][..], &config].concat());
    assert_eq!(verified["equal"]["badnets"], 3);
    lab.train("run", &["--epochs", "1"]);
    let exported = read(&["export", "run", "--format", "open-clip", "--out", "exported", "--json"]);
    assert_eq!(exported["step"], 6);
}

/// Process ids of runs in the lab's folder.
fn runs_of(lab: &Lab) -> Vec<u32> {
    let place = lab.folder.path().display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let folder = std::fs::read_link(format!("/proc/{id}/cwd")).unwrap_or_default();
        folder.display().to_string() == place && String::from_utf8_lossy(&command).contains("train")
    })
    .collect()
}

#[test]
fn a_signal_to_the_demo_lets_its_runs_save_and_the_next_demo_goes_on() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let lab = Lab::new();
        let demo = ["demo", "--config", "recipe.toml", "--out", "demo", "--jobs", "2", "--rows", "undefended,defended"];
        let long = [&demo[..], &["--epochs", "3000", "--set", "eval.every_epochs=2000"]].concat();
        let child = lab.command(&long).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let trains = |row: &str| {
            let metrics = lab.path("demo").join(format!("{row}-seed0/metrics.jsonl"));
            std::fs::read_to_string(metrics).is_ok_and(|text| text.contains("\"step\""))
        };
        while !(trains("undefended") && trains("defended")) {
            assert!(started.elapsed() < Duration::from_secs(60), "the runs do not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("every run is saved") && runs_of(&lab).is_empty(), "{said}");
        for row in ["undefended", "defended"] {
            let files = checkpoint(&lab.path("demo").join(format!("{row}-seed0")));
            let state = files.iter().find(|(name, _)| name == "state.json").unwrap();
            assert!(serde_json::from_slice::<Value>(&state.1).unwrap()["step"].as_u64().unwrap() > 0, "{row}");
        }
        let said = lab.path("said");
        let stderr = std::fs::File::create(&said).unwrap();
        let mut again = lab.command(&long).stderr(stderr).stdout(Stdio::null()).spawn().unwrap();
        let said = || std::fs::read_to_string(&said).unwrap();
        let started = Instant::now();
        while !said().contains("go on with defended") {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").args([signal, &again.id().to_string()]).status().unwrap().success());
        assert_eq!(again.wait().unwrap().code(), Some(code), "{}", said());
        assert!(said().contains("go on with undefended") && runs_of(&lab).is_empty(), "{}", said());
    }
}

#[test]
fn a_demo_reports_rows_that_it_did_not_train_and_quick_has_a_folder_of_its_own() {
    let lab = Lab::new();
    let demo = |row: &str| {
        lab.ok(&["demo", "--config", "recipe.toml", "--out", "demo", "--epochs", "1", "--rows", row]);
        let results = std::fs::read_to_string(lab.path("demo/results.json")).unwrap();
        results.matches("\"zero_shot_top1\"").count()
    };
    let one = demo("undefended");
    assert!(one > 0 && demo("clean-data") > one, "both rows are in the report");
    // What is asked for goes before what is quick.
    let quick = ["demo", "--quick", "--dry-run", "--config", "recipe.toml", "--rows", "undefended", "--epochs", "6"];
    assert!(lab.ok(&quick).contains(" in 6 epochs"));
    assert!(lab.ok(&[&quick[..], &["--set", "train.epochs=8"]].concat()).contains(" in 8 epochs"));
    lab.fails(&[&quick[..], &["--drop-fraction", "0.1"]].concat(), 1, &["--drop-fraction", "`detected`", "--rows"]);
    let harmless = lab.stderr(&[&quick[..], &["--set", "poison="]].concat());
    assert!(harmless.contains("warning: the recipe has no attacks"), "{harmless}");
    let help = lab.ok(&["demo", "--help"]);
    assert!(help.contains("demo-quick") && help.contains("--overwrite"), "{help}");
}

#[test]
fn colours_are_shown_where_they_are_asked_for_and_never_elsewhere() {
    let lab = Lab::new();
    let shown = |flags: &[&str]| lab.ok(&[flags, &["--help"]].concat()).contains('\u{1b}');
    assert!(shown(&["--color", "always"]) && shown(&["train", "--color=always"]));
    assert!(!shown(&[]) && !shown(&["--color", "never"]) && !shown(&["--color=auto"]));
    lab.fails(&["train", "--color", "often"], 2, &["--color", "always"]);
    let wrong = lab.roclip(&["train", "--no-such-flag", "--color", "always"]);
    assert!(String::from_utf8(wrong.stderr).unwrap().contains('\u{1b}'), "errors of usage, too");
}
