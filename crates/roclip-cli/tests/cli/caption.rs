//! Captioners through the binary: training and resuming, measuring and writing.

use crate::support::{Lab, checkpoint, checkpoints};
use serde_json::Value;
use std::process::Stdio;

/// A lab with several captions a picture, a trained CLIP run `clip`, and a recipe for captioners.
pub fn lab() -> Lab {
    let lab = Lab::new();
    let root = lab.folder.path().display().to_string();
    let mut lines = String::new();
    for number in 0..64 {
        let colour = crate::support::CLASSES[number % 4];
        let split = if number < 48 { "train" } else { "test" };
        let captions = [
            format!("a picture of a {colour} square here"),
            format!("a {colour} square on a grey wall"),
            format!("one {colour} box and nothing else"),
        ];
        let line = serde_json::json!({"image": format!("{number:03}.png"), "captions": captions, "split": split});
        lines += &format!("{line}\n");
    }
    std::fs::write(lab.path("captions.jsonl"), lines).unwrap();
    let recipe = format!(
        r#"
[data]
workers = 1
[data.source]
path = "{root}/captions.jsonl"
split = "train"
[model]
name = "{root}/model.json"
compact_vocabulary = true
[train]
epochs = 2
batch_size = 16
learning_rate = 5e-3
save_every_steps = 3
keep_checkpoints = 9
threads = 1
[eval.source]
path = "none"
[caption]
image_tower = "tuned"
[caption.model]
width = 24
attention_width = 12
layers = 1
heads = 2
[caption.search]
max_tokens = 10
[caption.references]
path = "{root}/captions.jsonl"
split = "test"
"#
    );
    std::fs::write(lab.path("caption.toml"), recipe).unwrap();
    lab
}

fn read(lab: &Lab, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lab.path(path)).unwrap()).unwrap()
}

pub const TRAIN: [&str; 5] = ["caption", "train", "--config", "caption.toml", "--run"];

#[test]
fn a_captioner_learns_is_measured_and_resumes_bit_for_bit() {
    let lab = lab();
    let said = lab.ok(&[&TRAIN[..], &["attend", "--epochs", "6"]].concat());
    assert!(said.contains("CIDEr-D") && said.contains("most frequent caption"), "{said}");
    let summary = read(&lab, "attend/summary.json");
    let captions = &summary["captions"];
    assert_eq!((&summary["objective"], &summary["phase"]), (&Value::from("caption"), &Value::from("caption")));
    assert_eq!((&captions["pictures"], &captions["references"]), (&Value::from(16), &Value::from(48)));
    assert!(captions["captioner"]["bleu"]["bleu1"].as_f64().unwrap() > 0.3, "{captions}");
    assert!(captions["baselines"]["nearest picture's caption"]["cider_d"].as_f64().unwrap() >= 0.0);
    assert!(captions["baselines"].get("caption retrieval").is_none(), "these towers were never trained together");
    let lines = std::fs::read_to_string(lab.path("attend/captions.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 16);

    // Epochs have 9 steps: a run of which the last checkpoints are gone ends where the whole one did.
    let whole = checkpoint(&lab.path("attend"));
    for step in [54, 51, 48, 45] {
        std::fs::remove_dir_all(lab.path(&format!("attend/checkpoints/step_{step}"))).unwrap();
    }
    lab.ok(&["caption", "train", "--run", "attend", "--resume"]);
    assert!(checkpoint(&lab.path("attend")) == whole, "the resumed run ended elsewhere");
    assert_eq!(&read(&lab, "attend/summary.json")["captions"], captions);
    lab.fails(&[&TRAIN[..], &["attend", "--resume", "--lr", "1e-3"]].concat(), 1, &["train.learning_rate differs"]);

    let measured = lab.json(&["caption", "eval", "attend"]);
    assert_eq!(&measured, captions);
    // What is asked of a finished run is done or refused, and not passed over.
    let again = |flags: &[&'static str]| [&["caption", "train", "--run", "attend", "--resume"], flags].concat();
    lab.fails(&again(&["--beam", "1"]), 1, &["`attend` is finished", "roclip caption eval attend"]);
    lab.fails(&again(&["--architecture", "bridge"]), 1, &["caption.model.architecture differs"]);
    lab.ok(&again(&[]));
    let greedy = lab.json(&["caption", "eval", "attend", "--beam", "1", "--out", "greedy.jsonl"]);
    lab.fails(&["caption", "eval", "attend", "--out", "greedy.jsonl"], 1, &["exists already", "--overwrite"]);
    lab.fails(&["caption", "eval", "attend", "--beam", "99999999"], 2, &["--beam", "99999999 is not in 1..=1000"]);
    assert_eq!(greedy["search"]["beam"], 1);
    assert_eq!(std::fs::read_to_string(lab.path("greedy.jsonl")).unwrap().lines().count(), 16);

    // One caption an argument, or one for each line of standard input, at once.
    let written = lab.ok(&["caption", "write", "attend", "060.png", "061.png"]);
    let mut child = lab
        .command(&["caption", "write", "attend"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"060.png\nnothing.png\n\xff.png\n061.png\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "two pictures of four have no caption");
    let output = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = output.lines().collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(written.lines().collect::<Vec<_>>(), [answers[0], answers[3]]);
    assert_eq!([answers[1], answers[2]], ["", ""]);
    let some = ["caption", "write", "attend", "nothing.png", "061.png"];
    lab.fails(&some, 1, &["nothing.png", "1 of 2 pictures could not be captioned"]);
    let output = lab.command(&some).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), ["", answers[3]]);

    // What takes a CLIP takes no captioner.
    for command in [
        &["clean", "attend", "--method", "cleanclip", "--run", "wrong"][..],
        &["distil", "attend", "--run", "wrong"],
        &["eval", "attend"],
    ] {
        lab.fails(command, 1, &["`attend`", "trained a captioner", "roclip caption eval"]);
        assert!(!lab.path("wrong").exists());
    }
}

#[test]
fn references_are_of_the_data_that_is_trained_on_where_nobody_chose_others() {
    let lab = lab();
    let text = std::fs::read_to_string(lab.path("caption.toml")).unwrap();
    let (text, _) = text.split_once("[caption.references]").unwrap();
    let own = |name: &str| std::fs::write(lab.path("own.toml"), text.replace("captions.jsonl", name)).unwrap();
    let train = |run: &'static str, flags: &[&'static str]| {
        [&["caption", "train", "--config", "own.toml", "--epochs", "1", "--run", run], flags].concat()
    };
    own("captions.jsonl");
    let said = lab.stderr(&train("own", &[]));
    assert!(said.contains("the split `test` of") && !said.contains("trained on, too"), "{said}");
    assert!(said.contains(" weights of the captioner and ") && !said.contains("ln(batch)"), "{said}");
    let captions = &read(&lab, "own/summary.json")["captions"];
    assert_eq!((&captions["pictures"], &captions["references"]), (&Value::from(16), &Value::from(48)));
    assert_eq!(&lab.json(&["caption", "eval", "own"])["pictures"], &Value::from(16));
    // References that have changed under the same name are others.
    std::fs::remove_dir_all(checkpoints(&lab.path("own")).pop().unwrap()).unwrap();
    let lines = std::fs::read_to_string(lab.path("captions.jsonl")).unwrap();
    let changed = |line: &str| {
        let tests = line.contains("\"split\":\"test\"");
        format!("{}\n", if tests { line.replace("a grey wall", "grey walls") } else { line.to_owned() })
    };
    let changed: String = lines.lines().map(changed).collect();
    assert!(changed != lines);
    std::fs::write(lab.path("captions.jsonl"), changed).unwrap();
    let resume = ["caption", "train", "--run", "own", "--resume"];
    lab.fails(&resume, 1, &["caption.references = ", "captions.jsonl", "has changed since"]);
    std::fs::write(lab.path("captions.jsonl"), lines).unwrap();
    lab.ok(&resume);
    // A flag that names the data leaves the recipe's split out, and with it what kept the references out of the training.
    let said = lab.stderr(&train("all", &["--train-data", "captions.jsonl", "--dry-run"]));
    assert!(said.contains("16 of the 16 pictures that captions are measured by are trained on, too"), "{said}");
    let said = lab.stderr(&train("all", &["--set", "caption.references.path=emoji", "--dry-run"]));
    assert!(said.contains("captions are measured on the built-in emoji"), "{said}");
    // Without a test split it is that for validation; without either somebody has to say.
    let lines = std::fs::read_to_string(lab.path("captions.jsonl")).unwrap();
    for (name, split) in [("val.jsonl", "val"), ("train.jsonl", "train")] {
        std::fs::write(lab.path(name), lines.replace("\"split\":\"test\"", &format!("\"split\":\"{split}\""))).unwrap();
    }
    own("val.jsonl");
    assert!(lab.stderr(&train("val", &["--train-data", "val.jsonl"])).contains("the split `val` of"));
    let captions = || read(&lab, "val/summary.json")["captions"].clone();
    let began = captions();
    assert_eq!(began["pictures"], 16);
    // What names the data again does not choose others.
    std::fs::remove_dir_all(checkpoints(&lab.path("val")).pop().unwrap()).unwrap();
    lab.ok(&["caption", "train", "--train-data", "val.jsonl", "--run", "val", "--resume"]);
    assert_eq!(captions(), began);
    // Those that are named are taken.
    std::fs::remove_dir_all(checkpoints(&lab.path("val")).pop().unwrap()).unwrap();
    lab.ok(&["caption", "train", "--val-data", "pairs.csv", "--run", "val", "--resume"]);
    assert_eq!(captions()["pictures"], 64);
    // Those of a finished run are what its figures are of.
    let other = ["caption", "train", "--val-data", "val.jsonl", "--run", "val", "--resume"];
    lab.fails(&other, 1, &["measured by other references", "roclip caption eval val"]);
    // An older run did not keep what it was measured on, and stands beside those that name the same references alone.
    let mut older = read(&lab, "val/summary.json");
    older.as_object_mut().unwrap().remove("measured_on").unwrap();
    std::fs::write(lab.path("val/summary.json"), older.to_string()).unwrap();
    let said = lab.ok(&["report", "own", "val", "--out", "apart"]).replace("\n   ", "");
    assert!(said.contains("Data 1") && said.contains("Data 2"), "{said}");
    assert!(said.contains("measured on pairs.csv") && !said.contains("measured on none"), "{said}");
    own("train.jsonl");
    lab.fails(&train("none", &[]), 1, &["in the split `test`", "that are not trained on by --val-data"]);
    // A list that cannot be read is no list without a split.
    std::fs::write(lab.path("torn.jsonl"), "{\"image\": ").unwrap();
    own("torn.jsonl");
    let output = lab.roclip(&train("none", &[]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("torn.jsonl"), "{said}");
    assert!(!said.contains("captions are measured on"), "{said}");
}

#[test]
fn a_bridge_looks_through_a_frozen_tower() {
    let lab = lab();
    let clip = ["train", "--config", "caption.toml", "--set", "caption=", "--run", "clip", "--epochs", "1"];
    lab.ok(&clip);
    let frozen = ["--set", "caption.image_tower=frozen", "--architecture", "bridge"];
    let weights =
        |run: &str| checkpoint(&lab.path(run)).into_iter().find(|(name, _)| name == "model.safetensors").unwrap().1;
    let tensors = |bytes: Vec<u8>| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + length..].to_vec()
    };
    for (run, bridge) in [("prefix", "prefix"), ("cross", "cross-attention")] {
        let arguments = ["caption", "train", "clip", "--config", "caption.toml", "--bridge", bridge, "--run", run];
        lab.ok(&[&arguments[..], &frozen, &["--set", "caption.model.grid_stage=1"]].concat());
        let captions = &read(&lab, &format!("{run}/summary.json"))["captions"];
        assert!(captions["baselines"].get("caption retrieval").is_some(), "{captions}");
        assert!(tensors(weights("clip")) == tensors(weights(run)), "{run}: the tower moved");
    }
    // A captioner goes on with the tower that it began with.
    std::fs::remove_dir_all(checkpoints(&lab.path("prefix")).pop().unwrap()).unwrap();
    lab.ok(&[&clip[..clip.len() - 3], &["other", "--epochs", "1", "--seed", "9"]].concat());
    std::fs::rename(lab.path("clip"), lab.path("own")).unwrap();
    std::fs::rename(lab.path("other"), lab.path("clip")).unwrap();
    let resume = ["caption", "train", "--run", "prefix", "--resume"];
    lab.fails(&resume, 1, &["began with another model", "`clip` is no longer what it was"]);
    std::fs::remove_dir_all(lab.path("clip")).unwrap();
    std::fs::rename(lab.path("own"), lab.path("clip")).unwrap();
    lab.ok(&resume);
    // Attention of the victim itself, and of another captioner; the whole-picture bridge has none.
    let attack = |victim: &str, extra: &[&str]| -> Vec<String> {
        let run = format!("attack-{victim}-{}", extra.join("-"));
        let budget = [
            "--pictures",
            "2",
            "--queries",
            "14",
            "--population",
            "6",
            "--no-defences",
            "--fitness",
            "bleu4-smoothed",
            "--run",
            &run,
        ];
        [&["caption", "attack", victim], &budget[..], extra].concat().into_iter().map(str::to_owned).collect()
    };
    let words = |all: &[String]| all.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let call = |all: Vec<String>| lab.ok(&words(&all).split('\n').collect::<Vec<_>>());
    call(attack("cross", &["--strategy", "sentence"]));
    // Several strategies with a comma between them. Of defences that nobody asked for nothing is said.
    let said = call(attack("prefix", &["--strategy", "sentence,none", "--attention", "cross"]));
    assert!(said.contains("sentence/proper") && said.contains("none/proper") && !said.contains("defence"), "{said}");
    let page = lab.path("attack-prefix---strategy-sentence,none---attention-cross/attack.html");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<th>strategy</th><th>success</th><th>BLEU-4 drop</th>"), "{page}");
    assert!(!page.contains("Behind defences"), "{page}");
    call(attack("prefix", &["--strategy", "none"]));
    let blind = attack("prefix", &["--strategy", "word", "--seed", "1"]);
    lab.fails(&words(&blind).split('\n').collect::<Vec<_>>(), 1, &["`prefix` shows no attention", "--attention"]);
    assert!(!lab.path("attack-prefix---strategy-word---seed-1").exists(), "nothing was found, and nothing is left");
}

#[test]
fn what_cannot_be_is_refused_before_work() {
    let lab = lab();
    let refused = |extra: &[&str], words: &[&str]| {
        lab.fails(&[&TRAIN[..], &["run"], extra].concat(), 1, words);
        assert!(!lab.path("run").exists(), "{extra:?} left files behind");
    };
    refused(&["--set", "caption.model.grid_stage=4"], &["no grid", "grid_stage"]);
    lab.fails(&[&TRAIN[..], &["run", "--beam", "0"]].concat(), 2, &["--beam", "0 is not in 1..="]);
    refused(&["--max-tokens", "16"], &["context of 16", "at most 15"]);
    refused(&["--set", "caption.model.heads=5"], &["caption.model.heads"]);
    refused(&["--set", "model.truncate=drop-eot"], &["keep-eot"]);
    refused(&["--set", "caption.image_tower=frozen"], &["random weights", "tuned"]);
    refused(&["--set", "clean={}"], &["[clean]", "[caption]"]);
    refused(&["--val-data", "pictures.csv"], &["pictures.csv"]);
    std::fs::write(lab.path("bare.csv"), "image,caption\n000.png,\n001.png,\n").unwrap();
    refused(&["--val-data", "bare.csv"], &["bare.csv", "without caption"]);
    std::fs::write(lab.path("dots.csv"), "image,caption\n000.png,...\n001.png,?\n").unwrap();
    refused(&["--val-data", "dots.csv"], &["dots.csv", "0 pictures with references"]);
    lab.leaves_alone("captions.jsonl", &TRAIN);
    lab.fails(&["caption", "train", "--run", "run"], 1, &["nothing says what to train on"]);
    lab.fails(&["caption", "eval", "nothing"], 1, &["nothing"]);

    lab.ok(&[&TRAIN[..], &["attend", "--epochs", "1"]].concat());
    let attack = |extra: &[&str], words: &[&str]| {
        lab.fails(&[&["caption", "attack", "attend", "--run", "attack"], extra].concat(), 1, words);
        assert!(!lab.path("attack").exists(), "{extra:?} left files behind");
    };
    attack(&["--pixels", "600"], &["600 pixels", "32 x 32", "--pixels"]);
    attack(&["--image-size", "4", "--pixels", "9"], &["4 x 4"]);
    attack(&["--queries", "20"], &["20 queries"]);
    lab.fails(&["caption", "attack", "attend", "--run", "attack", "--beam", "0"], 2, &["--beam", "0 is not in 1..="]);
    attack(&["--pictures", "0"], &["--pictures is 0"]);
    for (flag, most) in [("--queries", "100000000"), ("--population", "1000000"), ("--pixels", "4194304")] {
        let command = ["caption", "attack", "attend", "--run", "attack", flag, "18446744073709551615"];
        lab.fails(&command, 2, &[flag, "18446744073709551615 is not in 0..=", most]);
    }
    attack(&["--target-caption", "zyx wvu"], &["--target-caption", "none of its words", "wvu, zyx"]);
    let towards = ["caption", "attack", "attend", "--run", "towards", "--pictures", "1", "--strategy", "none/noise"];
    let towards = [&towards[..], &["--queries", "30", "--target-caption", "a picture of a zyx square"]].concat();
    let said = lab.roclip(&towards).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("warning: --target-caption: the victim does not know zyx, so"), "{said}");
    attack(&["--val-data", "bare.csv"], &["without caption"]);
    let torn = "image,caption\n000.png,a red thing\n001.png,a thing\nabsent.png,a blue thing\ngone.png,a thing\n";
    std::fs::write(lab.path("torn.csv"), torn).unwrap();
    attack(&["--val-data", "torn.csv"], &["2 of 4", "--max-skip-fraction"]);
    lab.fails(&["caption", "eval", "attend", "--val-data", "torn.csv"], 1, &["2 of 4", "--max-skip-fraction"]);
    lab.ok(&["caption", "eval", "attend", "--val-data", "torn.csv", "--max-skip-fraction", "0.7"]);
    std::fs::write(lab.path("foreign.csv"), "image,caption\n000.png,zyx wvu tsr qpo\n").unwrap();
    lab.fails(
        &["caption", "attack", "attend", "--run", "idle", "--val-data", "foreign.csv", "--queries", "30"],
        1,
        &["none of 1 picture could be attacked", "nothing to lose"],
    );
    attack(&["--val-data", "dots.csv"], &["2 have no reference caption", "--val-data"]);
    lab.fails(&["caption", "attack", "attend", "--run", "attack", "--strategy", "eyes"], 2, &["sentence"]);
    lab.fails(&["caption", "attack", "--run", "attack"], 2, &["RUN"]);
    lab.ok(&["train", "--config", "caption.toml", "--set", "caption=", "--run", "clip", "--epochs", "1"]);
    lab.fails(&["caption", "eval", "clip"], 1, &["no captioner", "roclip caption train"]);
    lab.fails(&["caption", "train", "--run", "clip", "--resume"], 1, &["no captioner", "roclip train --resume"]);
}
