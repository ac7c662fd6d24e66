//! Training on several processes: they give the results of one, end together, and never leave half a run.

use crate::support::{Lab, checkpoint, checkpoints};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const TRAIN: [&str; 4] = ["train", "--config", "recipe.toml", "--run"];

/// 54 poisoned pairs in batches of 8: six steps an epoch. `model` is a ResNet or a ViT.
fn lab(model: &str, objective: &str, settings: &str, epochs: u32) -> Lab {
    let lab = Lab::new();
    lab.objective(objective, settings, epochs);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let text = text.replace("save_every_steps = 1\n", "").replace("[train]", "[train]\nlog_every_steps = 1");
    let text = text.replace("clip = {  }\n", "");
    let text = text.replace("probe = { label = \"class\", epochs = 4 }\n", "every_epochs = 4\n");
    // Rounding grows with the rate in a network of a few numbers, and with it the distance between any two ways to sum.
    let text = text.replace("learning_rate = 2e-3", "learning_rate = 2e-5");
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
    // Flat areas would put thousands of equal numbers on one side of a ReLU or the other, as rounding has it: every pixel gets its own.
    for number in 0..64u32 {
        let path = lab.path(&format!("{number:03}.png"));
        let mut picture = image::open(&path).unwrap().to_rgb8();
        let mut noise = number.wrapping_mul(2_654_435_761) | 1;
        for value in picture.iter_mut() {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            *value = (u32::from(*value) / 2 + noise % 128) as u8;
        }
        picture.save(path).unwrap();
    }
    if model == "vit" {
        let model = r#"{"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}"#;
        std::fs::write(lab.path("model.json"), model).unwrap();
    }
    lab
}

/// The lab's command as process `rank` of `size`.
fn process(lab: &Lab, arguments: &[&str], rank: usize, size: usize, port: u16) -> Command {
    let mut command = lab.command(arguments);
    command.env("GLOO_SOCKET_IFNAME", "lo").env("OMP_NUM_THREADS", "1");
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string()).env("WORLD_SIZE", size.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// One that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Each process with its own arguments.
fn start(lab: &Lab, arguments: &[Vec<&str>]) -> Vec<Child> {
    let port = free_port();
    let size = arguments.len();
    let start = |(rank, own): (usize, &Vec<&str>)| process(lab, own, rank, size, port).spawn().unwrap();
    arguments.iter().enumerate().map(start).collect()
}

/// What each of the processes said and ended with.
fn ended(processes: Vec<Child>) -> Vec<(Option<i32>, String)> {
    let ended = |output: Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    processes.into_iter().map(|process| ended(process.wait_with_output().unwrap())).collect()
}

fn together(lab: &Lab, size: usize, arguments: &[&str]) {
    let ended = ended(start(lab, &vec![arguments.to_vec(); size]));
    assert!(ended.iter().all(|(code, _)| *code == Some(0)), "{arguments:?}: {ended:?}");
    assert!(ended[1..].iter().all(|(_, said)| said.is_empty()), "others than the first say nothing: {ended:?}");
}

fn steps(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "step").collect()
}

/// How far losses may be apart. A ViT's are as near as one could wish. PyTorch's batch norm sums thousands of numbers in single precision,
/// so that a ResNet of so few channels has the fifth digit of its loss from the order of summing, on two threads of one process, too.
fn limit(model: &str) -> f64 {
    if model == "vit" { 1e-5 } else { 1e-4 }
}

/// The losses of all steps differ by `limit` at most, and the norms of the gradients by a little more.
fn assert_same_training(lab: &Lab, one: &str, other: &str, at_least: usize, limit: f64) {
    let (one, other) = (steps(&lab.path(one)), steps(&lab.path(other)));
    assert!(one.len() == other.len() && one.len() >= at_least, "{} and {} steps", one.len(), other.len());
    let mut farthest = 0f64;
    for (a, b) in one.iter().zip(&other) {
        let number = |line: &Value, name: &str| line[name].as_f64().unwrap();
        farthest = farthest.max((number(a, "loss") - number(b, "loss")).abs());
        let (norm, other) = (number(a, "gradient_norm"), number(b, "gradient_norm"));
        assert!((norm - other).abs() <= 300.0 * limit * norm, "step {}: gradients {norm} and {other}", a["step"]);
        assert_eq!((&a["step"], &a["epoch"], &a["phase"]), (&b["step"], &b["epoch"], &b["phase"]));
    }
    assert!(farthest <= limit, "losses differ by {farthest:.1e}");
}

const SAFECLIP: &str = "unimodal_epochs = 2, slow_steps = 6, slow_learning_rate = 1e-5, pool_size = 24, split = { min_separation = 0.0, dip_test = false }";

fn two_are_one(model: &str, objective: &str, settings: &str) {
    let lab = lab(model, objective, settings, 9);
    lab.train("one", &[]);
    together(&lab, 2, &[&TRAIN[..], &["two"]].concat());
    assert_same_training(&lab, "one", "two", 50, limit(model));
    let environment: Value = serde_json::from_slice(&std::fs::read(lab.path("two/env.json")).unwrap()).unwrap();
    assert_eq!(environment["processes"], 2);
    let found = |run: &str| lab.epochs(run).pop().unwrap()["matches"].clone();
    assert_eq!(found("one")["clean"], found("two")["clean"], "all matches are seen");
    for line in lab.epochs("two") {
        let scored = line["similarity"]["bins"]["clean"].is_array();
        assert_eq!(scored, !line["evaluation"].is_null(), "pairs are scored where the run is evaluated: {line}");
    }
}

#[test]
fn two_processes_train_a_vit_as_one_does() {
    two_are_one("vit", "clip", "");
    two_are_one("vit", "roclip", "period = 2, pool_size = 24");
    two_are_one("vit", "safeclip", SAFECLIP);
}

#[test]
fn two_processes_train_a_resnet_as_one_does() {
    two_are_one("resnet", "clip", "");
    two_are_one("resnet", "roclip", "period = 2, pool_size = 24");
    two_are_one("resnet", "safeclip", SAFECLIP);
}

/// Two rows of a batch for each, and a quarter of the pairs to score for the split.
#[test]
fn four_processes_train_safeclip_as_one_does() {
    let lab = lab("vit", "safeclip", SAFECLIP, 5);
    lab.train("one", &[]);
    together(&lab, 4, &[&TRAIN[..], &["four"]].concat());
    assert_same_training(&lab, "one", "four", 24, limit("vit"));
    let safe = |run: &str| lab.epochs(run).pop().unwrap()["split"]["safe"].clone();
    assert!(safe("one").is_u64() && safe("one") == safe("four"), "{} and {}", safe("one"), safe("four"));
}

/// Each process encodes its rows in twos or threes: the run is that of whole batches.
#[test]
fn features_encoded_in_chunks_train_as_whole_batches_do_on_one_process_and_on_two() {
    let roclip = "period = 2, pool_size = 24";
    for (objective, settings) in [("clip", ""), ("roclip", roclip), ("safeclip", SAFECLIP)] {
        let lab = lab("vit", objective, settings, 5);
        lab.train("whole", &[]);
        lab.train("chunks", &["--set", "train.encode_batch_size=3"]);
        assert_same_training(&lab, "whole", "chunks", 24, limit("vit"));
        together(&lab, 2, &[&TRAIN[..], &["two", "--set", "train.encode_batch_size=2"]].concat());
        assert_same_training(&lab, "whole", "two", 24, limit("vit"));
    }
    let lab = lab("resnet", "clip", "", 2);
    let more = [&TRAIN[..], &["no", "--set", "train.encode_batch_size=9"]].concat();
    lab.fails(&more, 1, &["train.encode_batch_size is 9", "train.batch_size 8"]);
    let chunks = [&TRAIN[..], &["two", "--set", "train.encode_batch_size=2"]].concat();
    for (code, said) in ended(start(&lab, &vec![chunks.clone(); 2])) {
        assert!(code == Some(1) && said.contains("whole-batch") && said.contains("per-process"), "{said}");
    }
    together(&lab, 2, &[&chunks[..], &["--set", "train.batch_norm=per-process"]].concat());
}

/// BatchNorm's statistics are those of the whole batch again when a block is computed again.
#[test]
fn gradient_checkpointing_trains_the_same_on_one_process_and_on_two() {
    for (model, objective, settings) in [("resnet", "clip", ""), ("vit", "roclip", "period = 2, pool_size = 24")] {
        let lab = lab(model, objective, settings, 3);
        lab.train("one", &[]);
        let checkpointing = ["two", "--set", "train.gradient_checkpointing=true"];
        together(&lab, 2, &[&TRAIN[..], &checkpointing].concat());
        assert_same_training(&lab, "one", "two", 18, limit(model));
    }
}

/// Each process fills its own rows from the same order. One that finds no picture for any of its rows takes its part in the step all the
/// same, and what was skipped is known to all.
#[test]
fn pairs_that_one_process_cannot_read_are_replaced_or_missing_for_all() {
    let pool = "period = 2, pool_size = 24";
    for (model, objective, settings, broken, size) in
        [("vit", "roclip", pool, 4, 4), ("resnet", "clip", "", 4, 4), ("vit", "clip", "", 1, 2)]
    {
        let lab = lab(model, objective, settings, 9);
        let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
        let text = text.split("[[poison.attacks]]").next().unwrap();
        // Two rows for each of four processes: where most pictures are broken, some find none for theirs.
        let lenient = text.replace("workers = 1", "workers = 1\nmax_skip_fraction = 0.9");
        std::fs::write(lab.path("recipe.toml"), lenient).unwrap();
        for number in (0..48).filter(|number| number % 5 < broken) {
            let picture = lab.path(&format!("{number:03}.png"));
            let bytes = std::fs::read(&picture).unwrap();
            std::fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
        }
        lab.train("one", &[]);
        together(&lab, size, &[&TRAIN[..], &["several"]].concat());
        assert_same_training(&lab, "one", "several", 50, limit(model));
        let left_out = lab.epochs("one").iter().filter_map(|line| line["left_out"].as_u64()).sum::<u64>();
        assert!((left_out > 0) == (broken == 4), "{left_out} rows");
        let skips = |run: &str| std::fs::read_to_string(lab.path(run).join("skips.jsonl")).unwrap();
        assert!(skips("one").contains("040.png"));
        assert_eq!(skips("one"), skips("several"));
    }
}

#[test]
fn a_run_of_two_processes_resumes_bit_for_bit_and_on_another_number_of_them() {
    for model in ["vit", "resnet"] {
        let lab = lab(model, "roclip", "period = 2, pool_size = 24", 4);
        let every_step = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
        let every_step = every_step.replace("[train]", "[train]\nsave_every_steps = 1\nkeep_checkpoints = 100");
        std::fs::write(lab.path("recipe.toml"), every_step).unwrap();
        let train = [&TRAIN[..], &["whole"]].concat();
        together(&lab, 2, &train);
        // Step 9 is inside the second epoch, which matches: the pool is in use.
        for (run, size) in [("same", 2), ("one", 1), ("four", 4)] {
            let copied = Command::new("cp").arg("-r").arg(lab.path("whole")).arg(lab.path(run)).status().unwrap();
            assert!(copied.success());
            std::fs::remove_file(lab.path(run).join("summary.json")).unwrap();
            for newer in checkpoints(&lab.path(run)).iter().filter(|path| !path.ends_with("step_9")) {
                std::fs::remove_dir_all(newer).unwrap();
            }
            let resume = ["train", "--run", run, "--resume"];
            if size == 1 {
                drop(lab.ok(&resume))
            } else {
                together(&lab, size, &resume)
            }
            if run == "same" {
                for ((name, a), (_, b)) in checkpoint(&lab.path("whole")).iter().zip(&checkpoint(&lab.path(run))) {
                    assert!(a == b, "{model}: {name} differs after resuming");
                }
                assert_eq!(lab.epochs("whole"), lab.epochs(run));
            } else {
                assert_same_training(&lab, "whole", run, 24, limit(model));
            }
        }
        let said = ended(start(
            &lab,
            &[vec!["train", "--run", "same", "--resume"], vec!["train", "--run", "same", "--resume"]],
        ));
        assert!(said[0].0 == Some(0) && said[1].0 == Some(0) && said[0].1.contains("nothing was done"), "{said:?}");
    }
}

/// Waits until the run has a checkpoint of `step` or later.
fn wait_for(run: &Path, step: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let newest = if run.join("checkpoints").is_dir() { checkpoints(run).pop() } else { None };
        let newest = newest.and_then(|path| path.file_name()?.to_str()?.strip_prefix("step_")?.parse::<u64>().ok());
        if newest.is_some_and(|newest| newest >= step) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no checkpoint of step {step} within a minute");
}

fn signal(process: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

/// A lab whose run does not end by itself within a test.
fn long(timeout: u64) -> Lab {
    let lab = lab("vit", "clip", "", 2000);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let settings = format!("[train]\nsave_every_steps = 2\ncollective_timeout_seconds = {timeout}");
    std::fs::write(
        lab.path("recipe.toml"),
        text.replace("[train]", &settings).replace("every_epochs = 4", "every_epochs = 2000"),
    )
    .unwrap();
    lab
}

#[test]
fn a_process_that_dies_ends_the_others_and_the_run_goes_on_from_its_checkpoint() {
    for (victim, other) in [(1, 0), (0, 1)] {
        let lab = long(60);
        let arguments = vec![[&TRAIN[..], &["run"]].concat(); 2];
        let processes = start(&lab, &arguments);
        wait_for(&lab.path("run"), 4);
        signal(&processes[victim], "-KILL");
        let killed = Instant::now();
        let ended = ended(processes);
        assert!(killed.elapsed() < Duration::from_secs(30), "noticed at once");
        let (code, said) = &ended[other];
        assert_eq!(*code, Some(1), "{said}");
        let words = [format!("process {other} of 2 lost the others"), "--resume".into()];
        assert!(words.iter().all(|word| said.contains(word.as_str())) && !said.contains("Exception raised"), "{said}");
        assert_eq!(said.contains("[process 1] error:"), other == 1, "{said}");
        let run = lab.path("run");
        let half = std::fs::read_dir(run.join("checkpoints")).unwrap().flatten().map(|entry| entry.file_name());
        assert!(
            half.into_iter()
                .filter(|name| !name.to_string_lossy().starts_with('.'))
                .all(|name| name.to_string_lossy().starts_with("step_"))
        );
        let step = |run: &Path| steps(run).pop().unwrap()["step"].as_u64().unwrap();
        let before = step(&run);
        // As torchrun starts them again: the command is the same, also one that went back to an earlier checkpoint.
        let command = match victim {
            0 => vec!["train", "--run", "run", "--resume-from", "step_2"],
            _ => arguments[0].clone(),
        };
        let port = free_port();
        let again = |rank| process(&lab, &command, rank, 2, port).env("TORCHELASTIC_RESTART_COUNT", "1").spawn();
        let processes: Vec<Child> = (0..2).map(|rank| again(rank).unwrap()).collect();
        wait_for(&run, before + 6);
        let aside = |name: String| name.starts_with("newer_step_");
        let names = std::fs::read_dir(run.join("checkpoints")).unwrap().flatten();
        assert!(!names.into_iter().any(|entry| aside(entry.file_name().to_string_lossy().into_owned())));
        processes.iter().for_each(|process| signal(process, "-TERM"));
        assert!(self::ended(processes).iter().all(|(code, _)| *code == Some(143)));
    }
}

#[test]
fn a_process_that_hangs_is_waited_for_as_long_as_was_said() {
    let lab = long(2);
    let processes = start(&lab, &vec![[&TRAIN[..], &["run"]].concat(); 2]);
    wait_for(&lab.path("run"), 4);
    signal(&processes[1], "-STOP");
    let stopped = Instant::now();
    let mut processes = processes.into_iter();
    let first = ended(vec![processes.next().unwrap()]);
    let hanging = processes.next().unwrap();
    signal(&hanging, "-KILL");
    ended(vec![hanging]);
    assert!(stopped.elapsed() < Duration::from_secs(20));
    let (code, said) = &first[0];
    assert!(*code == Some(1) && said.contains("train.collective_timeout_seconds") && said.contains("2000ms"), "{said}");
}

/// The signal reaches one of them; all save, and end with its code.
#[test]
fn a_signal_to_one_process_ends_all_after_a_checkpoint() {
    for (signalled, name, code) in [(0, "-INT", 130), (1, "-INT", 130), (1, "-TERM", 143)] {
        let lab = long(60);
        let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
        std::fs::write(lab.path("recipe.toml"), text.replace("save_every_steps = 2", "save_every_steps = 3")).unwrap();
        let processes = start(&lab, &vec![[&TRAIN[..], &["run"]].concat(); 2]);
        wait_for(&lab.path("run"), 6);
        signal(&processes[signalled], name);
        let ended = ended(processes);
        assert!(ended.iter().all(|(found, _)| *found == Some(code)), "{ended:?}");
        assert!(ended[0].1.contains("which is saved") && ended[1].1.is_empty(), "{ended:?}");
        let saved = checkpoints(&lab.path("run")).pop().unwrap();
        let last = steps(&lab.path("run")).pop().unwrap()["step"].as_u64().unwrap();
        assert!(saved.ends_with(format!("step_{last}")), "the last step is saved: {} and {last}", saved.display());
    }
}

#[test]
fn processes_of_different_runs_say_what_differs_and_write_nothing() {
    let lab = lab("vit", "clip", "", 2);
    let train = || [&TRAIN[..], &["run"]].concat();
    let with = |extra: &[&'static str]| [&train()[..], extra].concat();
    std::fs::copy(lab.path("pairs.csv"), lab.path("whole.csv")).unwrap();
    let fewer = std::fs::read_to_string(lab.path("pairs.csv")).unwrap().replacen("number", "numero", 1);
    for (other, words) in [
        (with(&["--lr", "1e-3"]), ["train.learning_rate", "process 1"]),
        (with(&["--objective", "roclip"]), ["objective.name", "process 1"]),
    ] {
        for (code, said) in ended(start(&lab, &[train(), other])) {
            assert!(code == Some(1) && words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
    // The same name of the data, and other words in it.
    let elsewhere = tempfile::tempdir().unwrap();
    for (name, text) in [("a", None), ("b", Some(&fewer))] {
        std::fs::create_dir(elsewhere.path().join(name)).unwrap();
        for entry in std::fs::read_dir(lab.folder.path()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            std::fs::copy(entry.path(), elsewhere.path().join(name).join(entry.file_name())).unwrap();
        }
        if let Some(text) = text {
            std::fs::write(elsewhere.path().join(name).join("pairs.csv"), text).unwrap();
        }
    }
    let port = free_port();
    let arguments = with(&["--train-data", "pairs.csv", "--set", "data.source.split=train", "--model", "model.json"]);
    let processes: Vec<Child> = ["a", "b"]
        .into_iter()
        .enumerate()
        .map(|(rank, name)| {
            process(&lab, &arguments, rank, 2, port).current_dir(elsewhere.path().join(name)).spawn().unwrap()
        })
        .collect();
    for (code, said) in ended(processes) {
        assert!(code == Some(1) && said.contains("training data differ") && said.contains("process 1"), "{said}");
    }
    assert!(!lab.path("run").exists() && !elsewhere.path().join("a/run").exists());
}

#[test]
fn what_cannot_begin_says_why() {
    let lab = lab("vit", "clip", "", 2);
    let train = [&TRAIN[..], &["run"]].concat();
    // Three processes, and batches of eight.
    for (code, said) in ended(start(&lab, &vec![train.clone(); 3])) {
        assert!(code == Some(1) && said.contains("train.batch_size is 8, which 3 processes"), "{said}");
    }
    // No machine has so many GPUs, and this one need not have any.
    let cuda = [&train[..], &["--device", "cuda:99"]].concat();
    for (code, said) in ended(start(&lab, &vec![cuda; 2])) {
        assert!(code == Some(1) && said.to_lowercase().contains("cuda") && !said.contains("lost the others"), "{said}");
    }
    // Somebody else is at the port.
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = process(&lab, &train, 0, 2, port).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("MASTER_PORT") && said.contains(&port.to_string()),
        "{said}"
    );
    // The others do not come.
    let patience = [&train[..], &["--set", "train.collective_timeout_seconds=2"]].concat();
    for rank in [0, 1] {
        let output = process(&lab, &patience, rank, 2, free_port()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("cannot join the others"), "{said}");
    }
    let mut alone = process(&lab, &train, 0, 2, 1);
    let output = alone.env_remove("RANK").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("RANK is not set"), "{said}");
    assert!(!lab.path("run").exists());
}

#[test]
fn other_commands_work_in_the_first_process_alone() {
    let lab = lab("vit", "clip", "", 1);
    together(&lab, 2, &[&TRAIN[..], &["run"]].concat());
    let said = ended(start(&lab, &vec![vec!["eval", "run"]; 2]));
    assert!(
        said[0].0 == Some(0)
            && said[1] == (Some(0), "[process 1] this command works in one process: process 0 does it\n".into()),
        "{said:?}"
    );
    let foreseen = ended(start(&lab, &vec![[&TRAIN[..], &["other", "--dry-run"]].concat(); 2]));
    assert!(foreseen.iter().all(|(code, _)| *code == Some(0)), "{foreseen:?}");
    // Its runs are processes of their own, and no part of this group.
    let sweep = [&TRAIN[..], &["sweep", "--sweep", "train.learning_rate=1e-4,2e-4"]].concat();
    let swept = ended(start(&lab, &vec![sweep; 2]));
    assert!(swept.iter().all(|(code, _)| *code == Some(0)), "{swept:?}");
    assert!(lab.path("sweep/results.json").is_file());
}
