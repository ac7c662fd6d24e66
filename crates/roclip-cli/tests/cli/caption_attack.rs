//! `caption attack` through the binary: its table and how it goes on, attacks on other programs, and what is said of either.

use crate::caption::{TRAIN, lab};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn an_attack_is_a_table_that_goes_on_where_it_was_stopped() {
    let lab = lab();
    lab.ok(&[&TRAIN[..], &["attend"]].concat());
    let attack =
        ["caption", "attack", "attend", "--pictures", "3", "--queries", "26", "--population", "8", "--run", "attack"];
    let results = lab.json(&[&attack[..], &["--fitness", "mixed"]].concat());
    let rows = results["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 12);
    for row in rows {
        let noise = row["strategy"] == "none/noise";
        assert_eq!(row["queries"], if noise { 2.0 } else { 26.0 }, "{row}");
        assert!(row["l0"].as_f64().unwrap() <= 8.0, "0.78 % of 1024 pixels: {row}");
        assert_eq!(row["defended"].as_object().unwrap().len(), 3);
        let random = row["strategy"] == "none/random";
        assert_eq!(row["bleu4_drop_interval"].is_null(), row["attacked"].as_u64() < Some(2), "{row}");
        let against = &row["bleu4_drop_against_random"];
        assert_eq!(against.is_null(), random || row["bleu4_drop_interval"].is_null(), "{row}");
    }
    let page = std::fs::read_to_string(lab.path("attack/attack.html")).unwrap();
    assert!(page.contains("sentence/as-released") && page.contains("data:image/png"), "{page}");
    let next = "roclip caption attack attend --pictures 3 --queries 26 --population 8 ";
    for words in [
        "half of its BLEU-4",
        "seed 0;",
        "of the clean picture behind the same defence",
        "standard deviation",
        "Against random",
        next,
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    lab.fails(&attack, 1, &["already holds an attack", "--resume", "--run"]);
    lab.fails(&[&attack[..], &["--resume"]].concat(), 1, &["other settings"]);
    // What was written last is cut in half, and more pictures are asked for.
    let outcomes = lab.path("attack/outcomes.jsonl");
    let text = std::fs::read_to_string(&outcomes).unwrap();
    std::fs::write(&outcomes, &text[..text.len() - 40]).unwrap();
    let more = lab.json(&[&attack[..], &["--fitness", "mixed", "--resume"]].concat());
    assert_eq!(more["rows"], results["rows"]);
    // All outcomes are of one victim, of the same pictures and references, and each counts once.
    let resumed = [&attack[..], &["--fitness", "mixed", "--resume"]].concat();
    std::fs::write(&outcomes, format!("{text}{}\n", text.lines().next().unwrap())).unwrap();
    let doubled = format!("line {} has an outcome for the second time", text.lines().count() + 1);
    lab.fails(&resumed, 1, &["outcomes.jsonl", &doubled]);
    // What no attack can have ended with is named by its line.
    let third = text.lines().nth(2).unwrap();
    let mut far: Value = serde_json::from_str(third).unwrap();
    far["change"]["l2"] = 1e300.into();
    let mut asked: Value = serde_json::from_str(third).unwrap();
    asked["queries"] = 27.into();
    let mut moved: Value = serde_json::from_str(third).unwrap();
    moved["change"] = serde_json::json!({"l0": 0, "l_inf": 0, "l2": 0.0});
    moved["unattackable"] = true.into();
    moved["attacked"] = "something else".into();
    for (line, says) in [
        ("{}".to_owned(), "missing field"),
        (far.to_string(), "l2 is 1"),
        (asked.to_string(), "27 queries of 26"),
        (moved.to_string(), "no pixel did"),
    ] {
        std::fs::write(&outcomes, text.replacen(third, &line, 1)).unwrap();
        lab.fails(&resumed, 1, &["outcomes.jsonl", "line 3: ", says, "remove the line"]);
    }
    std::fs::write(&outcomes, &text).unwrap();
    let captions = std::fs::read_to_string(lab.path("captions.jsonl")).unwrap();
    std::fs::write(lab.path("captions.jsonl"), captions.replace("square here", "square there")).unwrap();
    lab.fails(&resumed, 1, &["`attack`", "was begun with other data", "references have changed"]);
    std::fs::write(lab.path("captions.jsonl"), captions).unwrap();
    lab.ok(&[&TRAIN[..], &["other", "--seed", "9"]].concat());
    std::fs::rename(lab.path("attend"), lab.path("own")).unwrap();
    std::fs::rename(lab.path("other"), lab.path("attend")).unwrap();
    lab.fails(&resumed, 1, &["was begun with another victim", "`attend`", "--run"]);
    std::fs::remove_dir_all(lab.path("attend")).unwrap();
    std::fs::rename(lab.path("own"), lab.path("attend")).unwrap();
    assert_eq!(lab.json(&resumed)["rows"], results["rows"]);
    // What the victim says and what is measured of it are settings, too.
    let other = |flags: &[&'static str]| [&resumed[..], flags].concat();
    lab.fails(&other(&["--max-tokens", "5"]), 1, &["other settings", "`search.max_tokens` is 10 there and 5 here"]);
    lab.fails(&other(&["--no-defences"]), 1, &["other settings", "`defences` is [\"median\","]);
    // An earlier version did not keep them.
    let settings = lab.path("attack/attack.json");
    let kept = std::fs::read_to_string(&settings).unwrap();
    for missing in ["search", "defences"] {
        let mut older: Value = serde_json::from_str(&kept).unwrap();
        older.as_object_mut().unwrap().remove(missing);
        std::fs::write(&settings, older.to_string()).unwrap();
        lab.fails(&resumed, 1, &["`attack`", "an earlier version of roclip", "begin anew in another folder (--run)"]);
    }
    std::fs::write(&settings, kept).unwrap();
    // A strategy that is named twice is attacked with once, and goes on.
    let named: Vec<&str> = attack.iter().map(|word| if *word == "attack" { "twice" } else { word }).collect();
    let twice = ["--strategy", "sentence", "--strategy", "sentence/proper"];
    let twice = [&["caption", "attack"], &named[2..], &["--fitness", "mixed"], &twice[..]].concat();
    assert_eq!(lab.json(&twice)["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(std::fs::read_to_string(lab.path("twice/outcomes.jsonl")).unwrap().lines().count(), 3);
    lab.ok(&[&twice[..], &["--resume"]].concat());
    // No run begins in another one.
    for (run, words) in [("attend", "already holds a run (run.toml)"), ("attend/checkpoints", "lies within the run")] {
        let inside =
            ["caption", "attack", "attend", "--pictures", "1", "--queries", "26", "--population", "8", "--run"];
        lab.fails(&[&inside[..], &[run]].concat(), 1, &[words, "--run"]);
    }
    lab.fails(&[&TRAIN[..], &["attack"]].concat(), 1, &["already holds a run of `roclip caption attack`"]);
    let target = ["--target-caption", "a blue square on a grey wall", "--fitness", "mixed", "--strategy", "sentence"];
    let targeted: Vec<&str> = attack.iter().map(|word| if *word == "attack" { "targeted" } else { word }).collect();
    let targeted = [&["caption", "attack"], &targeted[2..], &target].concat();
    let row = &lab.json(&targeted)["rows"][0];
    let reached = row["target_bleu4"].as_array().unwrap();
    assert!(reached[1].as_f64().unwrap() >= reached[0].as_f64().unwrap(), "{row}");
}

#[test]
fn a_program_is_attacked_and_what_it_does_wrong_is_said_without_losing_outcomes() {
    let lab = lab();
    lab.ok(&[&TRAIN[..], &["attend"]].concat());
    let data = [
        "--val-data",
        "captions.jsonl",
        "--split",
        "test",
        "--queries",
        "8",
        "--population",
        "4",
        "--no-defences",
        "--fitness",
        "bleu4-smoothed",
    ];
    let attack = |command: &str, extra: &[&str]| -> Vec<String> {
        let fixed = ["caption", "attack", "--external", command, "--image-size", "32", "--pictures", "2"];
        [&fixed[..], &data, extra].concat().into_iter().map(str::to_owned).collect()
    };
    let fails = |command: &str, extra: &[&str], words: &[&str]| {
        let all = attack(command, extra);
        lab.fails(&all.iter().map(String::as_str).collect::<Vec<_>>(), 1, words);
    };
    // This very program, by its own protocol, is attacked as what it is.
    let program = format!("{} caption write attend", env!("CARGO_BIN_EXE_roclip"));
    let external = attack(&program, &["--strategy", "none", "--run", "external"]);
    lab.ok(&external.iter().map(String::as_str).collect::<Vec<_>>());
    let direct = [
        "caption",
        "attack",
        "attend",
        "--image-size",
        "32",
        "--pictures",
        "2",
        "--strategy",
        "none",
        "--run",
        "direct",
    ];
    lab.ok(&[&direct[..], &data].concat());
    let outcomes = |run: &str| std::fs::read_to_string(lab.path(run).join("outcomes.jsonl")).unwrap();
    assert_eq!(outcomes("external"), outcomes("direct"));

    let one = ["--strategy", "none/noise", "--time-limit", "1", "--run"];
    fails(
        "sleep 60",
        &[&one[..], &["hangs"]].concat(),
        &["sleep 60", "0 of 1 captions within 1 seconds", "--time-limit"],
    );
    fails("sh -c 'echo no weights >&2; exit 3'", &[&one[..], &["crashes"]].concat(), &["exit status: 3", "no weights"]);
    // It answers the first picture's two questions and the second's first one.
    let few = "sh -c 'for n in 1 2 3; do read path || exit; echo a blue square on a grey wall; done'";
    fails(few, &[&one[..], &["few"]].concat(), &["0 of 1 captions", "1 outcomes so far are kept", "--resume"]);
    assert_eq!(outcomes("few").lines().count(), 1);
    let on = attack(few, &[&one[..], &["few", "--resume"]].concat());
    lab.ok(&on.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(outcomes("few").lines().count(), 2);
    // A banner behind the first outcome may have shifted the captions of that one, too: nothing is to go on with it.
    let caption = "echo a blue square on a grey wall";
    let late = format!("sh -c 'while read path; do n=x$n; {caption}; test $n = xxx && echo loading; done'");
    let doubtful = attack(&late, &[&one[..], &["late"]].concat());
    let doubtful: Vec<&str> = doubtful.iter().map(String::as_str).collect();
    lab.fails(
        &doubtful,
        1,
        &["more lines than it got pictures", "outcomes so far may be", "in another folder (--run)"],
    );
    let said = lab.roclip(&[&doubtful[..doubtful.len() - 1], &["later"]].concat()).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("in another folder") && !said.contains("--resume"), "{said}");
    // What is given is no advice.
    let silent = attack("sh -c 'while read path; do echo; done'", &[&one[..], &["silent"]].concat());
    let said = lab.roclip(&silent.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("are empty") && !said.contains("--fitness"), "{said}");
    // A signal to the attack ends the program with what it has started.
    let number = lab.path("number");
    let starts = format!("sh -c 'sleep 60 & echo $! > {}.part; mv {0}.part {0}; wait'", number.display());
    let slow = attack(&starts, &["--strategy", "none/noise", "--run", "slow"]);
    let slow: Vec<&str> = slow.iter().map(String::as_str).collect();
    let mut child = lab.command(&slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = |what: &str, over: &mut dyn FnMut() -> bool| {
        let begun = Instant::now();
        while !over() {
            assert!(begun.elapsed() < Duration::from_secs(50), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    waits("the program does not start", &mut || number.exists() || child.try_wait().unwrap().is_some());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let process = std::fs::read_to_string(&number).unwrap().trim().to_owned();
    waits("what the program has started outlives the attack", &mut || {
        let state = Command::new("ps").args(["-o", "stat=", "-p", &process]).output().unwrap().stdout;
        state.trim_ascii().is_empty() || state.trim_ascii().starts_with(b"Z")
    });
}
