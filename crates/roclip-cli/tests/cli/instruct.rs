//! Models that answer questions, and backdoors of their tuning, through the binary.

use crate::support::Lab;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// A lab with several captions a picture, a trained CLIP run `clip`, and the captions of its test pictures.
pub fn lab() -> Lab {
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

pub fn instruct<'a>(run: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
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
    // Without other test pictures they are the test split of the data, of which the others are trained on.
    let captions = std::fs::read_to_string(lab.path("train.jsonl")).unwrap();
    let test = std::fs::read_to_string(lab.path("test.jsonl")).unwrap().replace('{', "{\"split\": \"test\", ");
    std::fs::write(lab.path("all.jsonl"), captions.replace('{', "{\"split\": \"train\", ") + &test).unwrap();
    let all = ["caption", "instruct", "clip", "--train-data", "all.jsonl", "--run", "all"];
    let said = lab.stderr(&[&all[..], &SMALL].concat());
    assert!(said.contains("`all.jsonl`: its split `test` is asked") && !said.contains("trained on, too"), "{said}");
    assert!(said.contains("96 instructions about 48 pictures"), "{said}");
    // Tests that somebody chose among them stay, and are said.
    let both = ["caption", "instruct", "clip", "--train-data", "all.jsonl", "--val-data", "all.jsonl", "--run", "both"];
    let said = lab.stderr(&[&both[..], &SMALL].concat());
    assert!(said.contains("warning: 64 of the 64 pictures") && said.contains("--val-data"), "{said}");

    // A list without a header, of which columns are numbers.
    std::fs::create_dir(lab.path("lists")).unwrap();
    let rows = (0..64).flat_map(|number| {
        let (split, colour) = (if number < 48 { "train" } else { "test" }, crate::support::CLASSES[number % 4]);
        [
            format!("{number:03}.png\t{split}\ta {colour} square\n"),
            format!("{number:03}.png\t{split}\tone {colour} box\n"),
        ]
    });
    std::fs::write(lab.path("lists/plain.tsv"), rows.collect::<String>()).unwrap();
    let columns =
        ["--csv-img-key", "1", "--csv-split-key", "2", "--csv-caption-key", "3", "--image-root", ".", "--run", "plain"];
    let plain = ["caption", "instruct", "clip", "--train-data", "lists/plain.tsv"];
    let said = lab.stderr(&[&plain[..], &columns, &SMALL].concat());
    assert!(said.contains("96 instructions about 48 pictures"), "{said}");
    // What goes on from it reads the list as it did.
    let study = ["caption", "backdoor", "plain", "--target", "white", "--attack", "clean", "--shift", "none"];
    let few = ["--items", "90", "--test-pictures", "4", "--epochs", "1", "--no-filter", "--threads", "1", "--run"];
    lab.ok(&[&study[..], &few, &["plain-study"]].concat());
    let attack = ["--strategy", "none", "--pictures", "2", "--queries", "8", "--population", "4", "--no-defences"];
    let mixed = ["--fitness", "mixed", "--max-tokens", "6", "--threads", "1", "--run"];
    let on = |victim: &[&'static str], run: &'static str| {
        [&["caption", "attack"], victim, &attack[..], &mixed, &[run]].concat()
    };
    lab.ok(&on(&["plain"], "plain-attack"));
    let named = [&["base", "--val-data", "lists/plain.tsv", "--split", "test"][..], &columns[..8]].concat();
    lab.ok(&on(&named, "named-attack"));

    // Its answers are attacked as captions are, by its own attention, too, and the program that gives them line by line as what it is.
    let sight = on(&["base", "--strategy", "sentence", "--question", "What is it?"], "sight");
    let results = lab.json(&sight);
    assert_eq!(
        (&results["settings"]["question"], results["rows"].as_array().unwrap().len()),
        (&json!("What is it?"), 2)
    );
    lab.fails(
        &[&on(&["base", "--strategy", "sentence"], "sight")[..], &["--resume"]].concat(),
        1,
        &["other settings", "`question` is"],
    );
    lab.ok(&on(&["base", "--image-size", "32"], "direct"));
    let program = format!("{} caption answer base --max-tokens 6", env!("CARGO_BIN_EXE_roclip"));
    let external = ["--external", &*program.leak(), "--image-size", "32", "--val-data", "test.jsonl"];
    lab.ok(&on(&external, "external"));
    let outcomes = |run: &str| std::fs::read_to_string(lab.path(run).join("outcomes.jsonl")).unwrap();
    assert_eq!(outcomes("external"), outcomes("direct"));
    let asked = on(&[&external[..], &["--question", "What is it?"]].concat(), "asked");
    lab.fails(&asked, 1, &["--question", "roclip caption instruct"]);
    assert!(!lab.path("asked").exists());
    // A model that shows where to look is asked, and the program is not.
    let looked = [&external[..], &["--question", "What is it?", "--attention", "base"]].concat();
    let said = lab.stderr(&on(&looked, "looked"));
    assert!(said.contains("does not get the --question, which `base` (--attention) alone is asked"), "{said}");
    let page = std::fs::read_to_string(lab.path("looked/attack.html")).unwrap();
    assert!(page.contains("<code>base</code> (asked ") && page.matches("(asked ").count() == 1, "{page}");

    // An earlier version learned from the tests, too; such a model is as it is.
    let older =
        ["caption", "instruct", "clip", "--train-data", "all.jsonl", "--val-data", "test.jsonl", "--run", "older"];
    lab.ok(&[&older[..], &SMALL].concat());
    let settings = |run: &str| -> Value {
        serde_json::from_slice(&std::fs::read(lab.path(run).join("instruct.json")).unwrap()).unwrap()
    };
    let rewrite = |run: &str, settings: &Value| {
        std::fs::write(lab.path(run).join("instruct.json"), settings.to_string()).unwrap();
    };
    rewrite("older", &settings("all"));
    let again = [&older[..5], &["--run", "older", "--resume"], &SMALL].concat();
    let said = lab.stderr(&again);
    assert!(said.contains("warning: `older` is finished") && said.contains("of the test pictures, too"), "{said}");
    assert!(said.contains("128 instructions about 64 pictures"), "{said}");

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
    // Had the tests been a split of what it learns from, it could not go on.
    let (began, mut of_split) = (settings("stopped"), settings("stopped"));
    of_split["references"] = settings("all")["references"].take();
    of_split["references"]["path"] = "train.jsonl".into();
    rewrite("stopped", &of_split);
    let split = |(at, line): (usize, &str)| {
        let name = if at < 40 { "train" } else { "test" };
        line.replace('{', &format!("{{\"split\": \"{name}\", ")) + "\n"
    };
    std::fs::write(lab.path("train.jsonl"), captions.lines().enumerate().map(split).collect::<String>()).unwrap();
    let stopped: Vec<String> =
        ["caption", "instruct", "clip", "--train-data", "train.jsonl", "--run", "stopped", "--resume"]
            .iter()
            .chain(&SMALL)
            .map(|word| if *word == "3" { "60".to_owned() } else { (*word).to_owned() })
            .collect();
    let stopped: Vec<&str> = stopped.iter().map(String::as_str).collect();
    lab.fails(&stopped, 1, &["`stopped`", "an earlier version of roclip", "of the test pictures, too", "(--run)"]);
    std::fs::write(lab.path("train.jsonl"), &captions).unwrap();
    rewrite("stopped", &began);
    for words in [long("stopped", &["--resume"]), long("left-alone", &[])] {
        lab.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert!(weights(&lab, "stopped") == weights(&lab, "left-alone"));
    let read = |run: &str, file: &str| std::fs::read(lab.path(run).join(file)).unwrap();
    for file in ["answers.jsonl", "summary.json"] {
        assert!(read("stopped", file) == read("left-alone", file), "{file}");
    }
    // More epochs may be given, and not fewer.
    let epochs = |epochs: &'static str| -> Vec<String> {
        long("left-alone", &["--resume"])
            .into_iter()
            .map(|word| if word == "60" { epochs.into() } else { word })
            .collect()
    };
    let call = |words: &[String]| lab.stderr(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(call(&epochs("61")).contains("step 366 of 366"));
    let longer: Value = serde_json::from_slice(&read("left-alone", "summary.json")).unwrap();
    assert_eq!((&longer["steps"], &settings("left-alone")["tune"]["epochs"]), (&json!(366), &json!(61)));
    let fewer = epochs("2");
    let fewer: Vec<&str> = fewer.iter().map(String::as_str).collect();
    lab.fails(&fewer, 1, &["began with other settings: `tune.epochs` is 61 there and 2 here"]);

    let answers = lab.ok(&["caption", "answer", "base", "060.png", "061.png", "--question", "What is it?"]);
    assert_eq!(answers.lines().count(), 2);
    lab.ok(&["caption", "answer", "base", "060.png", "--threads", "1"]);
    lab.fails(&["caption", "answer", "base", "060.png", "--question", " "], 1, &["--question is empty"]);
    for command in ["write", "eval"] {
        lab.fails(&["caption", command, "base"], 1, &["`base` answers questions, and is no captioner"]);
    }
    lab.fails(&["caption", "write", "base", "060.png"], 1, &["roclip caption answer base"]);
    // Each line of standard input has an answer before the next is read, and a picture that is none has an empty one.
    let mut child = lab
        .command(&["caption", "answer", "base", "--question", "What is it?"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut answer = |path: &str| {
        writeln!(input, "{path}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    };
    let one_by_one = [answer("060.png"), answer("nothing.png"), answer("061.png")];
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(1), "one of three was none");
    assert_eq!(one_by_one[1], "\n");
    assert_eq!(format!("{}{}", one_by_one[0], one_by_one[2]), answers);
    lab.fails(
        &["caption", "answer", "base", "nothing.png"],
        1,
        &["nothing.png", "1 of 1 picture could not be answered"],
    );
    lab.fails(&["caption", "answer", "clip", "060.png"], 1, &["`clip` holds no model that answers questions"]);
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
    // All of its answers are one, and it says the same of whatever it sees.
    let said = lab.stderr(&instruct("talks", &["--instructions", "talks.jsonl", "--resume"]));
    assert!(said.contains("it has learned nothing") && said.contains("--epochs 6 --resume"), "{said}");
    assert!(!said.contains("roclip caption attack") && !said.contains("roclip caption backdoor"), "{said}");
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
    // So it is with what answers are measured by.
    let tests = std::fs::read_to_string(lab.path("test.jsonl")).unwrap();
    std::fs::write(lab.path("test.jsonl"), tests.replace("one red box", "one red thing")).unwrap();
    lab.fails(&resumed, 1, &["measured by other references", "`test.jsonl` (--val-data)", "--run"]);
    std::fs::write(lab.path("test.jsonl"), tests).unwrap();
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
