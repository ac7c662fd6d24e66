//! Bad input: a clear error that names the thing and the remedy, or a counted skip, and nothing half-written.

use crate::support::{Lab, checkpoints};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Runs `train` with `extra` flags and expects failure before any file of the run is written.
fn refuses(lab: &Lab, extra: &[&str], words: &[&str]) {
    let mut arguments = vec!["train", "--config", "recipe.toml", "--run", "run"];
    arguments.extend(extra);
    lab.fails(&arguments, 1, words);
    assert!(!lab.path("run").exists(), "{extra:?} left files behind");
}

fn replace(lab: &Lab, from: &str, to: &str) {
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(lab.path("recipe.toml"), text.replacen(from, to, 1)).unwrap();
}

#[test]
fn what_does_not_exist_or_fit_is_refused_before_work_starts() {
    let lab = Lab::new();
    refuses(&lab, &["--train-data", "absent.csv"], &["absent.csv", "No such file", "check the path"]);
    refuses(&lab, &["--csv-caption-key", "words"], &["`words`", "`image`, `caption`", "caption_column"]);
    refuses(&lab, &["--batch-size", "500"], &["batch size 500", "54 pairs"]);
    refuses(&lab, &["--batch-size", "1"], &["batch_size is 1", "at least 2"]);
    refuses(&lab, &["--pool-size", "5000"], &["pool (5000 captions)", "larger than the data", "54"]);
    refuses(&lab, &["--match-period", "0"], &["period is 0"]);
    refuses(&lab, &["--epochs", "0"], &["epochs is 0"]);
    refuses(&lab, &["--set", "data.pairs_per_picture=0"], &["pairs_per_picture is 0"]);
    refuses(&lab, &["--model", "RN5O"], &["unknown model `RN5O`", "RN50"]);
    refuses(&lab, &["--device", "tpu"], &["unknown device `tpu`", "cuda"]);
    refuses(&lab, &["--preset", "magic"], &["unknown preset `magic`", "roclip-released"]);
    refuses(&lab, &["--manifest", "absent.jsonl"], &["absent.jsonl"]);
    std::fs::write(lab.path("empty.csv"), "").unwrap();
    refuses(&lab, &["--train-data", "empty.csv"], &["empty.csv", "is empty"]);
    std::fs::write(lab.path("header.csv"), "image,caption\n").unwrap();
    refuses(&lab, &["--train-data", "header.csv"], &["no samples", "header.csv"]);
    std::fs::create_dir(lab.path("shards")).unwrap();
    refuses(&lab, &["--train-data", "shards"], &["no samples in `shards`"]);
}

#[test]
fn usage_errors_exit_with_two() {
    let lab = Lab::new();
    lab.fails(&["train", "--run", "run", "--no-such-flag"], 2, &["--no-such-flag"]);
    lab.fails(&["train"], 2, &["--run"]);
    lab.fails(&["frobnicate"], 2, &["frobnicate"]);
    // Whatever command takes it: no recipe and no manifest could name such a path.
    for command in [&["eval"][..], &["report"], &["train", "--run"], &["data", "stats"]] {
        let output = lab.command(command).arg(OsStr::from_bytes(b"v\xff")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("is not UTF-8"), "{command:?}: {said}");
    }
}

#[test]
fn an_unknown_key_in_a_recipe_is_named() {
    let lab = Lab::new();
    replace(&lab, "epochs = 4", "epoches = 4");
    refuses(&lab, &[], &["epoches", "recipe.toml"]);
}

#[test]
fn an_assignment_that_cannot_be_is_named() {
    let lab = Lab::new();
    refuses(&lab, &["--set", "train.learning_rte=1"], &["train.learning_rte=1", "unknown field", "roclip recipe"]);
    refuses(&lab, &["--set", "train.epochs=many"], &["train.epochs=many", "expected u64"]);
    let printed = lab.ok(&[
        "recipe",
        "--config",
        "recipe.toml",
        "--epochs",
        "3",
        "--set",
        "train.epochs=5",
        "--set",
        "eval.probe=",
    ]);
    assert!(printed.contains("\nepochs = 5\n") && printed.contains("\n# [eval.probe]\n"), "{printed}");
}

#[test]
fn attacks_that_cannot_be_are_refused() {
    for (from, to, words) in [
        ("targets = 2", "targets = 40", vec!["of 40 targets"]),
        ("captions_per_target = 3", "captions_per_target = 300", vec!["at least 300 captions"]),
        ("patch_pixels = 6", "patch_pixels = 60", vec!["patch of 60 pixels", "frame of 32"]),
        ("count = 3", "count = 300", vec!["wants 300 pairs"]),
        (
            "target = \"white\"",
            "target = \"purple\"\ncaptions = \"real\"",
            vec!["no caption of the data contains `purple`"],
        ),
        ("target = \"white\"", "target = \"purple\"", vec!["backdoor target `purple` is not among the 4 classes"]),
        ("badnets = {", "targeted = {}\nbadnets = {", vec!["make two attacks of it"]),
        ("badnets = { patch_pixels = 6 }\n", "", vec!["nothing says what it does"]),
        ("badnets = {", "wanet = { grid = 40 }\nbadnets = {", vec!["warping grid of 40", "frame of 32"]),
        ("badnets = {", "blended = { picture = \"no.png\" }\nbadnets = {", vec!["no.png"]),
        ("count = 3", "count = 30\ncaptions = \"own\"", vec!["of the 12 that mention `white`"]),
    ] {
        let lab = Lab::new();
        replace(&lab, from, to);
        refuses(&lab, &[], &words);
    }
}

#[test]
fn class_lists_and_templates_that_cannot_be_are_refused() {
    let lab = Lab::new();
    std::fs::write(lab.path("classes.txt"), "red\ngreen\nred\n").unwrap();
    std::fs::write(lab.path("few.txt"), "red\ngreen\nblue\n").unwrap();
    std::fs::write(lab.path("templates.txt"), "\n").unwrap();
    let root = lab.folder.path().display().to_string();
    for (setting, words) in [
        (format!("classes = \"{root}/classes.txt\""), vec!["`red` twice", "remove one"]),
        (format!("classes = \"{root}/few.txt\""), vec!["class `white`", "not in the class list"]),
        (format!("templates = \"{root}/templates.txt\""), vec!["templates.txt", "empty"]),
    ] {
        lab.recipe("recipe.toml", "");
        if setting.starts_with("templates") {
            replace(&lab, "templates = \"emoji\"", &setting);
        } else {
            replace(&lab, "[eval]", &format!("[eval]\n{setting}"));
        }
        refuses(&lab, &[], &words);
    }
}

#[test]
fn a_manifest_of_other_data_is_refused() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out", "manifest.jsonl"]);
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap().replacen("a picture of", "a photo of", 1);
    std::fs::write(lab.path("pairs.csv"), csv).unwrap();
    refuses(&lab, &["--manifest", "manifest.jsonl"], &["made for other data"]);
}

#[test]
fn bad_samples_are_skipped_and_counted_by_reason() {
    let lab = Lab::new();
    let whole = std::fs::read(lab.path("001.png")).unwrap();
    std::fs::write(lab.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    let mut bomb = whole;
    bomb[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    // With a valid checksum of the header, so that nothing but the size is wrong with it.
    let checksum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    std::fs::write(lab.path("bomb.png"), bomb).unwrap();
    let mut csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    csv += "cut.png,a cut picture,train,red\nbomb.png,a large picture,train,red\nabsent.png,no picture,train,red\n";
    csv += &format!("002.png,{},train,blue\n", "long ".repeat(200_000));
    csv += "045.png,12 34 !!,train,green\n";
    std::fs::write(lab.path("pairs.csv"), csv).unwrap();
    replace(&lab, "workers = 1", "workers = 1\nmax_skip_fraction = 0.2");
    lab.train("run", &["--epochs", "1"]);
    let skips = std::fs::read_to_string(lab.path("run/skips.jsonl")).unwrap();
    for (id, reason) in [
        ("cut.png", "image-undecodable"),
        ("bomb.png", "image-too-many-pixels"),
        ("absent.png", "image-file-unreadable"),
        ("row", "caption-too-large"),
    ] {
        assert!(skips.lines().any(|l| l.contains(id) && l.contains(reason)), "{id} {reason}: {skips}");
    }
    assert_eq!(skips.lines().count(), 4);
    // The same data with the default tolerance is refused, with the reasons.
    replace(&lab, "max_skip_fraction = 0.2", "max_skip_fraction = 0.01");
    lab.fails(
        &["train", "--config", "recipe.toml", "--run", "strict", "--epochs", "1"],
        1,
        &["could not be used", "data.max_skip_fraction"],
    );
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    })
}

#[test]
fn a_run_that_diverges_stops_with_the_samples_of_the_batch() {
    let lab = Lab::new();
    lab.fails(
        &["train", "--config", "recipe.toml", "--run", "run", "--lr", "1e6", "--warmup", "1"],
        1,
        &["not finite", "samples of the batch", ".png and 5 more", "learning_rate", "diverged.json"],
    );
    assert!(!lab.path("run/summary.json").exists());
}

#[test]
fn what_is_damaged_gone_or_of_another_model_is_refused() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "1"]);
    lab.fails(&["train", "--config", "recipe.toml", "--run", "run"], 1, &["already holds a run", "--resume"]);
    lab.fails(&["train", "--run", "elsewhere", "--resume"], 1, &["no run to resume"]);
    lab.fails(&["eval", "elsewhere"], 1, &["find the model `elsewhere`"]);
    let checkpoint = checkpoints(&lab.path("run")).pop().unwrap();
    let weights = checkpoint.join("model.safetensors");
    let model =
        std::fs::read_to_string(lab.path("model.json")).unwrap().replace("\"embed_dim\": 16", "\"embed_dim\": 24");
    std::fs::write(lab.path("other.json"), model).unwrap();
    std::fs::copy(&weights, lab.path("kept.safetensors")).unwrap();
    let from = |weights: &str, more: &[&str], words: &[&str]| {
        let set = format!("model.weights={weights}");
        lab.fails(&[&["train", "--config", "recipe.toml", "--run", "other", "--set", &set], more].concat(), 1, words);
    };
    from("kept.safetensors", &[], &["kept.safetensors", "which tokens", "name the folder"]);
    let full = ["--set", "model.compact_vocabulary=false"];
    from("kept.safetensors", &full, &["kept.safetensors", "this model needs"]);
    from("run", &full, &["`run`: has a compact vocabulary", "compact_vocabulary = true"]);
    from("run", &["--model", "other.json"], &["is another model than", "other.json"]);
    from("nothing", &full, &["nothing"]);
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    lab.fails(&["eval", "run"], 1, &["model.safetensors", "checksum", "damaged"]);
}

#[test]
fn a_probe_without_labels_is_refused_before_anything_is_trained() {
    let lab = Lab::new();
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    // Training rows keep no class; test rows do.
    let unlabelled: Vec<String> = csv
        .lines()
        .map(|line| match line.rsplit_once(',') {
            Some((row, _)) if row.ends_with(",train") => format!("{row},"),
            _ => line.to_owned(),
        })
        .collect();
    std::fs::write(lab.path("pairs.csv"), unlabelled.join("\n")).unwrap();
    refuses(&lab, &[], &["linear probe has no labels", "data.source.labels"]);
}

#[test]
fn lists_of_addresses_and_of_old_line_ends_are_told_from_broken_ones() {
    let lab = Lab::new();
    std::fs::write(lab.path("urls.csv"), "url,caption\nhttps://a.example/1.jpg,a dog\n").unwrap();
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::write(lab.path("mac.csv"), csv.replace('\n', "\r")).unwrap();
    let init = |data| ["init", "--train-data", data];
    lab.fails(&init("urls.csv"), 1, &["column `url`", "not fetched here", "img2dataset"]);
    std::fs::write(lab.path("dos.csv"), csv.replace('\n', "\r\n")).unwrap();
    for list in ["mac.csv", "dos.csv"] {
        assert!(lab.stderr(&init(list)).contains("48 pictures"), "{list}");
    }
    lab.train("run", &["--epochs", "1"]);
    lab.fails(&["eval", "run", "--on", "a=none"], 2, &["--on", "means no images"]);
}

#[test]
fn a_damaged_log_of_metrics_is_judged_by_nobody() {
    let lab = Lab::new();
    lab.train("run", &["--epochs", "2"]);
    let path = lab.path("run/metrics.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let spoiled = |at: &[usize]| {
        let line =
            |(number, line): (usize, &&str)| if at.contains(&number) { "{\"ev".to_owned() } else { (*line).to_owned() };
        lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\n") + "\n"
    };
    let check = |words: &[&str]| {
        for command in [&["doctor", "run"][..], &["report", "run", "--out", "report"]] {
            lab.fails(command, 1, &[&["metrics.jsonl"], words].concat());
        }
    };
    std::fs::write(&path, spoiled(&[0, 2])).unwrap();
    check(&[&format!("2 of {} lines are broken (first: line 1: ", lines.len())]);
    // The last line of a run that was killed may be cut, and that of a finished one may not.
    std::fs::write(&path, spoiled(&[lines.len() - 1])).unwrap();
    check(&["ends with epoch 1, and the run with epoch 2"]);
    std::fs::write(&path, &whole).unwrap();
    lab.ok(&["doctor", "run", "--threads", "1"]);
    lab.fails(&["doctor", "run", "--threads", "2000"], 1, &["--threads", "2000", "at most 1024"]);
}

/// What a shell allows is used up: an ordinary error says what to raise.
#[test]
fn limits_of_the_shell_are_told_as_errors() {
    let lab = Lab::new();
    let line = format!("ulimit -n 4; exec {} data stats pairs.csv", env!("CARGO_BIN_EXE_roclip"));
    let output =
        std::process::Command::new("bash").args(["-c", &line]).current_dir(lab.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("ulimit -n"), "{said}");
}
