//! Cleaning through the binary: what it trains on, what it measures, and what it refuses.

use crate::support::{Lab, checkpoint, checkpoints};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_victim_is_cleaned_on_trusted_pairs_and_measured_before_and_after() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip"]);
    let clean =
        ["clean", "victim", "--run", "cleaned", "--pairs", "32", "--batch-size", "8", "--epochs", "2", "--lr", "1e-3"];
    let said = lab.ok(&clean);
    assert!(said.contains("before") && said.contains("badnets: ASR"), "{said}");
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(lab.path(path)).unwrap()).unwrap() };
    let (victim, cleaned) = (read("victim/summary.json"), read("cleaned/summary.json"));
    assert_eq!(cleaned["before"], victim["evaluation"], "before cleaning nothing has changed");
    assert_eq!((&cleaned["pairs"], &cleaned["poisoned_pairs"]), (&Value::from(32), &Value::from(0)));
    assert_eq!(cleaned["objective"], "cleanclip");
    let state = String::from_utf8(checkpoint(&lab.path("cleaned")).pop().unwrap().1).unwrap();
    assert!(state.contains("\"provenance\": \"cleaned\""), "{state}");
    lab.ok(&["eval", "cleaned"]);
    let compared = lab.ok(&["report", "victim", "cleaned", "--out", "report"]).replace("\n   ", "");
    let words = ["points against its victim, ", "Train more seeds of every row"];
    let next = [
        "roclip train --config victim/run.toml --seed 1 --run victim-seed1",
        "roclip clean victim-seed1 --config cleaned/run.toml --method cleanclip --seed 1 --run cleaned-seed1",
    ];
    for words in words.iter().chain(&next) {
        assert!(compared.contains(words), "{words}: {compared}");
    }
    let results = std::fs::read_to_string(lab.path("report/results.json")).unwrap();
    assert!(results.contains("\"objective\": \"cleanclip\""), "{results}");
    let sweep = [
        "clean",
        "victim",
        "--run",
        "sweep",
        "--sweep",
        "clean.cleanclip.inmodal_weight=0.5,4",
        "--batch-size",
        "8",
        "--epochs",
        "1",
    ];
    // One that was stopped before it wrote anything else has left its lock.
    std::fs::create_dir_all(lab.path("sweep/inmodal_weight-0.5")).unwrap();
    std::fs::write(lab.path("sweep/inmodal_weight-0.5/lock"), "4711\n").unwrap();
    let said = lab.ok(&sweep);
    let rows: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rows[..4], ["inmodal_weight", "victim", "0.5", "4"], "{said}");
    let psr = cleaned["evaluation"]["psr"]["n"].as_u64().unwrap();
    assert!(said.contains("PSR") && said.contains(&format!("/{psr};")), "{said}");
    let reported: Value = read("sweep/results.json");
    assert_eq!(reported.as_array().map(Vec::len), Some(3), "the victim and two cells: {reported}");
    // The same command keeps what is finished, and another victim or setting is no such cell.
    let at = |cell: &str| std::fs::metadata(lab.path(cell).join("summary.json")).unwrap().modified().unwrap();
    let before = at("sweep/inmodal_weight-4");
    let again = lab.roclip(&sweep);
    let [table, kept] = [again.stdout, again.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(kept.contains("2 of 2 cells are finished, and kept") && table == said, "{kept}");
    assert_eq!(before, at("sweep/inmodal_weight-4"));
    // What nobody can have measured is in no table.
    let kept = std::fs::read(lab.path("sweep/inmodal_weight-4/summary.json")).unwrap();
    lab.impossible("sweep/inmodal_weight-4/summary.json");
    let output = lab.roclip(&sweep);
    let [table, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(said.contains("numbers that nothing measures") && table.is_empty(), "{said}{table}");
    std::fs::write(lab.path("sweep/inmodal_weight-4/summary.json"), kept).unwrap();
    lab.fails(&[&sweep[..], &["--pairs", "40"]].concat(), 1, &["a run of another recipe", "--overwrite", "--run"]);
    let step = checkpoints(&lab.path("victim")).pop().unwrap();
    let mut other = sweep;
    let named = step.display().to_string();
    other[1] = &named;
    lab.fails(&other, 1, &["inmodal_weight-0.5` cleaned another victim", "--overwrite", "--run"]);
    lab.ok(&[&sweep[..], &["--overwrite"]].concat());
    assert_ne!(before, at("sweep/inmodal_weight-4"));
    // A sweep that goes on does the same: what is finished stays, and what has not begun begins.
    std::fs::remove_dir_all(lab.path("sweep/inmodal_weight-4")).unwrap();
    let said = lab.stderr(&[&sweep[..], &["--resume"]].concat());
    assert!(said.contains("inmodal_weight-0.5` is finished at step"), "{said}");
    assert!(lab.path("sweep/inmodal_weight-4/summary.json").is_file());
    assert_ne!(
        lab.epochs("sweep/inmodal_weight-0.5"),
        lab.epochs("sweep/inmodal_weight-4"),
        "other weights, another loss"
    );
    lab.ok(&["clean", "victim", "--run", "plain", "--method", "finetune", "--batch-size", "8", "--epochs", "1"]);
    assert_eq!(read("plain/summary.json")["objective"], "finetune");
}

#[test]
fn cells_of_several_victims_stand_below_their_own_and_none_is_of_a_model_that_is_gone() {
    let lab = Lab::new();
    let train = ["--preset", "clip", "--set", "eval.probe=", "--epochs"];
    lab.train("v", &[&train[..], &["1"]].concat());
    lab.train("w", &[&train[..], &["2"]].concat());
    let clean = |victim: &'static str, more: &[&'static str]| {
        let common = ["--run", "cells", "--epochs", "1", "--batch-size", "8", "--pairs", "16", "--method", "finetune"];
        [&["clean", victim], &common[..], more].concat()
    };
    let rows = || -> usize {
        let results = std::fs::read(lab.path("cells/results.json")).unwrap();
        serde_json::from_slice::<Value>(&results).unwrap().as_array().unwrap().len()
    };
    let first = |said: &str| -> Vec<String> {
        said.lines().filter_map(|line| Some(line.trim_start().split_once("  ")?.0.to_owned())).take(5).collect()
    };
    let said = lab.ok(&clean("w", &["--sweep", "clean.victim=v,w"]));
    assert_eq!(first(&said), ["victim", "victim v", "v", "victim w", "w"], "{said}");
    assert_eq!(rows(), 4, "two victims, and a cell of each");
    // Cells that nobody asks for now stay in the report, with their victims.
    let rates = clean("v", &["--sweep", "train.learning_rate=2e-4,2e-3"]);
    lab.ok(&rates);
    assert_eq!(rows(), 6, "two victims, and four cells");
    // Somebody's own files are no run, whatever they are called.
    std::fs::create_dir(lab.path("cells/learning_rate-5e-4")).unwrap();
    std::fs::write(lab.path("cells/learning_rate-5e-4/run.toml"), "[foo]\n").unwrap();
    std::fs::write(lab.path("cells/learning_rate-5e-4/thesis.txt"), "mine").unwrap();
    let foreign = clean("v", &["--sweep", "train.learning_rate=5e-4", "--overwrite"]);
    lab.fails(&foreign, 1, &["cells/learning_rate-5e-4`", "no recipe of a run", "--run"]);
    assert_eq!(std::fs::read_to_string(lab.path("cells/learning_rate-5e-4/thesis.txt")).unwrap(), "mine");
    std::fs::remove_dir_all(lab.path("cells/learning_rate-5e-4")).unwrap();
    // A cell that cannot begin is found before the first does.
    let beyond = clean("v", &["--sweep", "train.learning_rate=3e-4,1e30"]);
    lab.fails(&beyond, 1, &["the cell learning_rate-1e30", "train.learning_rate is"]);
    let unnamed = ["clean", "--run", "new", "--epochs", "1", "--batch-size", "8", "--pairs", "16", "--sweep"];
    lab.fails(&[&unnamed[..], &["clean.victim=v,gone"]].concat(), 1, &["the cell victim-gone"]);
    lab.fails(&[&unnamed[..], &["seed=0,1"]].concat(), 1, &["which model to clean", "--sweep clean.victim="]);
    assert!(!lab.path("cells/learning_rate-3e-4").exists() && !lab.path("new").exists(), "nothing was begun");
    // Two sweeps would take away each other's folders.
    let held = std::fs::File::options().write(true).open(lab.path("cells/demo.lock")).unwrap();
    held.lock().unwrap();
    lab.fails(&rates, 1, &["another demo or sweep is at work in `cells`"]);
    drop(held);
    // Another model under the name of one that was cleaned, in a sweep that goes on and beside one that begins.
    std::fs::remove_dir_all(lab.path("cells/learning_rate-2e-3")).unwrap();
    std::fs::remove_dir_all(lab.path("v")).unwrap();
    lab.train("v", &[&train[..], &["3"]].concat());
    let said = ["is finished and would stand in one table", "`v` is no longer what it was", "--run"];
    for resumed in [clean("v", &["--sweep", "train.learning_rate=2e-4,2e-3", "--resume"]), rates] {
        lab.fails(&resumed, 1, &[&["cells/learning_rate-2e-4`"], &said[..]].concat());
    }
    // Where nothing is cleaned, the table is shown with a word of it.
    let shown = lab.stderr(&clean("v", &["--sweep", "train.learning_rate=2e-4"]));
    assert!(shown.contains("warning: what `cells/learning_rate-2e-4`") && shown.contains(said[1]), "{shown}");
    std::fs::remove_dir_all(lab.path("cells/learning_rate-2e-4")).unwrap();
    let beside = clean("w", &["--sweep", "train.learning_rate=2e-4"]);
    lab.fails(&beside, 1, &[&["cells/victim-v`"], &said[..]].concat());
    assert!(!lab.path("cells/learning_rate-2e-4").exists(), "nothing was begun");
}

#[test]
fn a_sweep_that_overwrites_goes_on_without_the_flag_where_it_was_stopped() {
    let lab = Lab::new();
    for (victim, epochs) in [("v", "1"), ("w", "2")] {
        lab.train(victim, &["--preset", "clip", "--set", "eval.probe=", "--epochs", epochs]);
    }
    let clean = |victim: &'static str, more: &[&'static str]| {
        let common = ["--run", "cells", "--epochs", "1", "--batch-size", "8", "--pairs", "16", "--method", "finetune"];
        [&["clean", victim], &common[..], &["--sweep", "train.learning_rate=2e-4,2e-3"], more].concat()
    };
    lab.ok(&clean("v", &[]));
    let mut overwrites = lab.command(&clean("w", &["--overwrite"]));
    let mut child = overwrites.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (first, second) = (lab.path("cells/learning_rate-2e-4/summary.json"), lab.path("cells/learning_rate-2e-3"));
    let started = Instant::now();
    while second.exists() && started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let before_the_first = !second.exists() && !first.exists();
    let _ = child.kill();
    child.wait().unwrap();
    assert!(before_the_first, "the cells of the other victim go before the first one is cleaned");
    lab.ok(&clean("w", &[]));
    let recipe = std::fs::read_to_string(second.join("run.toml")).unwrap();
    assert!(recipe.contains("victim = \"w\""), "{recipe}");
}

#[test]
fn what_cannot_be_cleaned_is_refused() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip"]);
    let fails = |extra: &[&str], code: i32, words: &[&str]| {
        let arguments = [&["clean", "victim", "--run", "cleaned"], extra].concat();
        lab.fails(&arguments, code, words);
        assert!(!lab.path("cleaned").exists(), "{extra:?} left files behind");
    };
    fails(&["--sweep", "train.epochs"], 2, &["train.epochs", "KEY=VALUE,VALUE"]);
    fails(&["--sweep", "train.epochs="], 2, &["train.epochs=", "the list of values is empty"]);
    let clean = |extra: &[&str], words: &[&str]| fails(extra, 1, words);
    clean(&["--sweep", "clean.weight=1"], &["`clean.weight=1`", "unknown field"]);
    clean(&["--pairs", "500"], &["clean.pairs is 500", "48 pairs"]);
    clean(&["--pairs", "6"], &["batch size 64 is larger than the data (6 pairs)"]);
    lab.fails(&["clean", "nothing", "--run", "cleaned"], 1, &["find the model `nothing`"]);
    lab.fails(&["clean", "nothing", "--config", "recipe.toml", "--run", "cleaned"], 1, &["find the model `nothing`"]);
    // A checkpoint whose weights are no CLIP's.
    let step = checkpoints(&lab.path("victim")).pop().unwrap();
    std::fs::write(step.join("model.safetensors"), b"not weights").unwrap();
    clean(&["--batch-size", "8"], &["model.safetensors", "checksum"]);
}

#[test]
fn every_method_cleans_and_the_rebound_is_measured() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip", "--epochs", "2"]);
    let weights =
        |run: &str| checkpoint(&lab.path(run)).into_iter().find(|(name, _)| name == "model.safetensors").unwrap().1;
    lab.recipe("rebound.toml", "[clean.rebound]\nsteps = [0, 3]\n[clean.abd]\npatch_epochs = 2\n");
    for (method, objective) in [
        ("supervised", "supervised"),
        ("ta-cleaner", "ta-cleaner"),
        ("abd", "abd"),
        ("par", "par"),
        ("cleanclip", "cleanclip"),
    ] {
        let arguments = ["clean", "victim", "--config", "rebound.toml", "--method", method, "--run", method];
        let said = lab.ok(&[arguments.as_slice(), &["--epochs", "1", "--lr", "1e-3"]].concat());
        assert!(said.contains("after harmless steps") && said.contains("rebound +"), "{said}");
        let rebound = said.split("after harmless steps").nth(1).unwrap();
        assert!(rebound.contains("badnets: ASR") && rebound.contains("badnets: base rate"), "{method}: {rebound}");
        let summary: Value =
            serde_json::from_slice(&std::fs::read(lab.path(method).join("summary.json")).unwrap()).unwrap();
        assert_eq!(summary["objective"], objective);
        assert!(weights("victim") != weights(method), "{method} changed nothing");
        let steps: Vec<&Value> = summary["rebound"].as_array().unwrap().iter().map(|point| &point["step"]).collect();
        assert_eq!(steps, [0, 3], "{method}");
        let first = &summary["rebound"][0];
        // The rebound asks class prompts, the supervised method its classifier.
        if method != "supervised" {
            assert_eq!(first["asr"], summary["evaluation"]["asr"], "{method}: step 0 is the cleaned model");
        }
        assert_eq!(lab.path(method).join("patch.png").exists(), method == "abd");
    }
    let patch = image::open(lab.path("abd/patch.png")).unwrap();
    assert_eq!((patch.width(), patch.height()), (5, 5), "3 % of 32 x 32");

    let model = std::fs::read_to_string(lab.path("model.json")).unwrap();
    std::fs::write(lab.path("other.json"), model.replace("\"embed_dim\": 16", "\"embed_dim\": 24")).unwrap();
    // Models of clean data: of another size, and of the victim's.
    let clean = ["--preset", "clip", "--epochs", "1", "--set", "poison="];
    lab.train("other", &[&clean[..], &["--model", "other.json"]].concat());
    lab.train("clean", &clean);
    let abd = ["clean", "victim", "--config", "rebound.toml", "--method", "abd", "--epochs", "1", "--run", "referred"];
    let with = |reference: &'static str| [abd.as_slice(), &["--set", reference]].concat();
    lab.fails(&with("clean.abd.reference=other"), 1, &["`other`", "24 dimensions", "clean.abd.reference"]);
    lab.fails(&with("clean.abd.reference=nothing"), 1, &["nothing"]);
    lab.fails(&with("clean.abd.reference=victim"), 1, &["`victim`", "is poisoned", "clean.abd.reference"]);
    // All cells are looked at before the first is cleaned.
    let swept = ["clean", "victim", "--config", "rebound.toml", "--method", "abd", "--epochs", "1", "--run", "swept"];
    lab.fails(
        &[&swept[..], &["--sweep", "clean.abd.reference=clean,other"]].concat(),
        1,
        &["`other`", "24 dimensions"],
    );
    assert!(!lab.path("swept").exists());
    lab.ok(&with("clean.abd.reference=clean"));
    assert!(image::open(lab.path("referred/patch.png")).unwrap() != patch, "the reference changed nothing");
    // A patch that lies there before the run is somebody else's picture; that of a run that never saved is searched again.
    std::fs::create_dir(lab.path("early")).unwrap();
    std::fs::copy(lab.path("abd/patch.png"), lab.path("early/patch.png")).unwrap();
    let early = [&abd[..abd.len() - 1], &["early", "--set", "clean.abd.reference=clean"]].concat();
    lab.fails(&early, 1, &["`early`", "patch.png", "another's files", "--run"]);
    for name in ["run.toml", "env.json"] {
        std::fs::copy(lab.path("referred").join(name), lab.path("early").join(name)).unwrap();
    }
    lab.ok(&early);
    let found = |run: &str| image::open(lab.path(run).join("patch.png")).unwrap();
    assert!(found("early") == found("referred"));
    // A patch is of the reference that it was searched with.
    lab.ok(&["train", "--run", "clean", "--resume", "--epochs", "2"]);
    let resume = ["clean", "--run", "referred", "--resume", "--epochs", "2"];
    lab.fails(&resume, 1, &["clean.abd.reference = ", "has changed since"]);
    // A run that goes on does not need it any more.
    std::fs::remove_dir_all(lab.path("clean/checkpoints")).unwrap();
    lab.ok(&resume);
}

#[test]
fn a_resumed_cleaning_is_the_one_that_would_have_been() {
    let lab = Lab::new();
    lab.fails(&["clean", "--run", "nothing", "--resume"], 1, &["holds no cleaning run"]);
    lab.train("victim", &["--preset", "clip", "--epochs", "2"]);
    lab.fails(&["clean", "--run", "victim", "--resume"], 1, &["not a cleaning run", "roclip train --resume"]);
    lab.recipe("keep.toml", "");
    let text = std::fs::read_to_string(lab.path("keep.toml")).unwrap();
    std::fs::write(lab.path("keep.toml"), text.replace("warmup_steps = 5", "warmup_steps = 5\nkeep_checkpoints = 9"))
        .unwrap();
    for method in ["cleanclip", "ta-cleaner", "abd", "par", "supervised"] {
        let arguments =
            ["clean", "victim", "--config", "keep.toml", "--method", method, "--run", method, "--epochs", "2"];
        lab.ok(&arguments);
        let whole = checkpoint(&lab.path(method));
        // 48 pairs in batches of 8: the second epoch ends at step 12.
        let last = lab.path(method).join("checkpoints/step_12");
        assert!(last.is_dir(), "{method}");
        std::fs::remove_dir_all(last).unwrap();
        let other = if method == "par" { "abd" } else { "par" };
        for (changed, key) in [
            (["--inmodal-weight", "3"], "clean.cleanclip.inmodal_weight"),
            (["--method", other], "clean.method"),
            (["--pairs", "20"], "clean.pairs"),
            (["--rebound-lr", "0.1"], "clean.rebound"),
            (["--set", "clean.abd.patch_area=0.5"], "clean.abd.patch_area"),
            (["--batch-size", "4"], "train.batch_size"),
        ] {
            let words = [&format!("{key} differs"), "began with", "leave out what sets it"];
            lab.fails(&[&["clean", "--run", method, "--resume"], &changed[..]].concat(), 1, &words);
        }
        lab.ok(&["clean", "--run", method, "--resume", "--method", method]);
        assert!(checkpoint(&lab.path(method)) == whole, "{method}: the resumed run ended elsewhere");
    }
    // What was replaced under the same name is noticed: the victim, its manifest, and the pictures that are measured.
    std::fs::remove_dir_all(lab.path("par/checkpoints/step_12")).unwrap();
    let resume = ["clean", "--run", "par", "--resume"];
    lab.train("other", &["--preset", "clip", "--epochs", "2", "--seed", "9"]);
    let swap = || {
        for (from, to) in [("victim", "aside"), ("other", "victim"), ("aside", "other")] {
            std::fs::rename(lab.path(from), lab.path(to)).unwrap();
        }
    };
    swap();
    lab.fails(&resume, 1, &["cleans another victim", "`victim` is no longer what it was", "--run"]);
    swap();
    let manifest = std::fs::read(lab.path("victim/manifest.jsonl")).unwrap();
    std::fs::copy(lab.path("other/manifest.jsonl"), lab.path("victim/manifest.jsonl")).unwrap();
    lab.fails(&resume, 1, &["`par`", "began with another manifest", "victim/manifest.jsonl"]);
    std::fs::write(lab.path("victim/manifest.jsonl"), manifest).unwrap();
    let picture = std::fs::read(lab.path("060.png")).unwrap();
    std::fs::copy(lab.path("061.png"), lab.path("060.png")).unwrap();
    lab.fails(&resume, 1, &["was measured on other pictures", "pairs.csv"]);
    std::fs::write(lab.path("060.png"), picture).unwrap();
    let said = lab.ok(&resume);
    // A summary that nobody can have measured is made again, and what the victim was measured at is not believed.
    lab.impossible("par/summary.json");
    assert_eq!(lab.ok(&resume), said);
    std::fs::remove_file(lab.path("par/summary.json")).unwrap();
    lab.impossible("par/before.json");
    lab.fails(&resume, 1, &["before.json", "numbers that nothing measures"]);
}

#[test]
fn a_cleaning_that_moves_nothing_names_rates_to_try_and_other_classes_are_no_error() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip"]);
    let clean = ["clean", "victim", "--epochs", "1", "--batch-size", "8", "--run"];
    // The released warm-up takes 50 steps: no rate is to blame for what so few steps do.
    let said = lab.stderr(&[&clean[..], &["short", "--lr", "1e-5", "--pairs", "40"]].concat());
    let next = "roclip clean victim --batch-size 8 --lr 1e-5 --pairs 40 --epochs 20 --warmup 0.1 --run short-longer";
    for words in ["next to nothing", "5 steps, and the learning rate rises over the first 50", "to 10 % of 1e-5", next]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("released") && !said.contains("try --lr"), "{said}");
    let still = ["clean", "victim", "--epochs", "3", "--warmup", "0", "--batch-size", "8", "--run", "still"];
    let said = lab.stderr(&[&still[..], &["--lr", "1e-9", "--pairs", "40"]].concat());
    let next = "roclip clean victim --epochs 3 --warmup 0 --batch-size 8 --pairs 40 \
                --sweep train.learning_rate=1e-5,3e-5,1e-4 --run still-sweep";
    for words in ["next to nothing", "After 1e-9 try --lr 1e-5, which cleanclip was released with", next] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Where more steps would move nothing, either, the rate is not tried again.
    let said = lab.stderr(&[&clean[..], &["tiny", "--lr", "1e-9", "--pairs", "40"]].concat());
    let next = "roclip clean victim --batch-size 8 --pairs 40 --epochs 20 --warmup 0.1 \
                --sweep train.learning_rate=1e-5,3e-5,1e-4 --run tiny-sweep";
    for words in ["next to nothing", "More steps alone", "After 1e-9 try --lr 1e-5", next] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // A sweep says so of its cells, in the table, on stderr and in the report; and each warning once.
    let sweep = [&clean[..], &["rates", "--pairs", "40", "--sweep", "train.learning_rate=1e-8,2e-8"]].concat();
    let output = lab.roclip(&sweep);
    let [table, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let heading = table.lines().next().unwrap();
    for column in [" moved ", " badnets: ASR ", " base rate ", " turned"] {
        assert!(heading.contains(column), "{column}: {heading}");
    }
    for line in table.lines().skip(2).take(2) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words[1].parse::<f64>().unwrap() < 0.1 && words[2] == "%", "how far the weights moved: {line}");
    }
    let next = "roclip clean victim --batch-size 8 --pairs 40 --epochs 20 --warmup 0.1 \
                --sweep train.learning_rate=1e-5,3e-5,1e-4 --run rates-sweep";
    let cells = "is still its victim (learning_rate-1e-8, learning_rate-2e-8)";
    for words in ["warning: this cleaned next to nothing", cells, "After 2e-8 try --lr 1e-5", next] {
        assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
    }
    assert_eq!(said.matches("warning: the warm-up of 50 steps never ends").count(), 1, "{said}");
    for cell in ["rates/learning_rate-1e-8", "rates/learning_rate-2e-8"] {
        let log = std::fs::read_to_string(lab.path(cell).join("log.jsonl")).unwrap();
        assert!(log.contains("the warm-up of 50 steps never ends"), "{cell} keeps its own warning");
    }
    let page = std::fs::read_to_string(lab.path("rates/report.html")).unwrap();
    assert!(page.contains("this cleaned next to nothing") && page.contains("<th>moved</th>"));
    // Labelled pictures of two classes, of which none is the backdoor's target.
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let some = csv.lines().enumerate().filter(|(at, line)| *at == 0 || line.ends_with("red") || line.ends_with("blue"));
    std::fs::write(lab.path("two.csv"), some.map(|(_, line)| format!("{line}\n")).collect::<String>()).unwrap();
    let other = [&clean[..], &["other", "--val-data", "two.csv"]].concat();
    let output = lab.roclip(&other);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("attack success of `badnets` is not measured: its target `white` is not among"), "{said}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("top-5"), "two classes have no five guesses");
}
