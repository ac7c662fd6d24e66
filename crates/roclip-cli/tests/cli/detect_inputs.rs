//! `roclip detect inputs` beside pictures that are known to be clean.

use crate::support::Lab;
use serde_json::Value;
use std::collections::BTreeSet;

fn text(lab: &Lab, file: &str) -> String {
    std::fs::read_to_string(lab.path(file)).unwrap()
}

fn scores(lab: &Lab) -> Vec<Value> {
    text(lab, "found/inputs.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A poisoned run, `inbox/` with the 16 test pictures and nothing else, and the 48 others in `trusted.csv`.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip", "--epochs", "1"]);
    std::fs::create_dir(lab.path("inbox")).unwrap();
    for number in 48..64 {
        let name = format!("{number:03}.png");
        std::fs::copy(lab.path(&name), lab.path("inbox").join(&name)).unwrap();
    }
    let pairs = text(&lab, "pairs.csv");
    let trusted: Vec<&str> = pairs.lines().filter(|line| !line.contains(",test,")).collect();
    std::fs::write(lab.path("trusted.csv"), trusted.join("\n")).unwrap();
    lab
}

const DETECT: [&str; 7] = ["detect", "inputs", "victim", "--out", "found", "--val-data", "inbox"];
const TRUSTED: [&str; 2] = ["--trusted-data", "trusted.csv"];

#[test]
fn pictures_without_labels_are_flagged_beside_trusted_ones_at_a_stated_level() {
    let lab = lab();
    let detect = [&DETECT[..], &TRUSTED].concat();
    let said = lab.ok(&[&detect[..], &["--level", "0.9"]].concat());
    assert!(said.contains("16 images looked at, beside 48 trusted ones: 24 say how clean ones vary, 24"), "{said}");
    assert!(said.contains("flagged at --level 0.9") && said.contains("badnets: "), "{said}");
    let twice = "whitened-direction and combined are scored twice, alone and beside each attack";
    assert!(said.contains(twice), "{said}");
    let (plain, triggered): (Vec<Value>, Vec<Value>) =
        scores(&lab).into_iter().partition(|line| line["attack"].is_null());
    assert!(plain.len() == 16 && !triggered.is_empty());
    let p = |line: &Value, method: &str| line["p_values"][method].as_f64().unwrap();
    let methods = ["blur", "combined", "growing-masks", "jpeg", "whitened-direction", "whitened-norm"];
    for line in plain.iter().chain(&triggered) {
        let own: Vec<&String> = line["scores"].as_object().unwrap().keys().collect();
        assert_eq!(own, methods, "nobody described classes");
        let flagged: BTreeSet<&str> = line["flagged"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for method in methods {
            // Of 24 held-out pictures and the one itself.
            assert!((0.04..=1.0).contains(&p(line, method)), "{line}");
            assert_eq!(p(line, method) <= 0.9, flagged.contains(method), "{method}: {line}");
        }
    }
    assert!(plain.iter().all(|line| line["beside"]["badnets"]["p_values"]["combined"].is_f64()), "{}", plain[0]);
    let flagged: Vec<&str> =
        plain.iter().filter(|line| p(line, "combined") <= 0.9).map(|line| line["id"].as_str().unwrap()).collect();
    assert!(!flagged.is_empty());
    assert_eq!(text(&lab, "found/flagged.txt").lines().collect::<Vec<_>>(), flagged);
    let summary: Value = serde_json::from_str(&text(&lab, "found/inputs.json")).unwrap();
    assert_eq!(summary["trusted"], serde_json::json!({"statistics": 24, "held_out": 24, "copies": 0, "level": 0.9}));
    assert_eq!(summary["methods"][5], serde_json::json!({"method": "combined", "flagged": flagged.len()}));
    let judged = summary["judged"].as_array().unwrap();
    assert_eq!(judged.len(), 6, "{summary}");
    for judged in judged {
        let rate = judged["clean_flagged"].as_f64().unwrap() / 16.0;
        assert!((judged["false_positive_rate"].as_f64().unwrap() - rate).abs() < 1e-9, "{judged}");
    }
    let page = text(&lab, "found/inputs.html");
    for words in ["The most suspicious", "data:image/png", "<svg", "flagged: combined", "(flagged.txt)", twice] {
        assert!(page.contains(words), "{words}");
    }
    // One method is asked alone, and its list takes the place of the other.
    lab.ok(&[&detect[..], &["--level", "0.9", "--methods", "jpeg,jpeg"]].concat());
    let summary: Value = serde_json::from_str(&text(&lab, "found/inputs.json")).unwrap();
    assert_eq!(summary["methods"].as_array().unwrap().len(), 1, "it is named twice, and has one vote: {summary}");
    let alone = scores(&lab);
    assert_eq!(alone[0]["scores"].as_object().unwrap().keys().collect::<Vec<_>>(), ["jpeg"]);
    assert_eq!(alone[0]["scores"]["jpeg"], plain[0]["scores"]["jpeg"]);
    // Classes that a file describes need no labelled pictures.
    let all = crate::support::CLASSES.map(|class| format!("\"{class}\": [\"a square of a colour\"]")).join(",");
    std::fs::write(lab.path("words.json"), format!("{{{all}}}")).unwrap();
    let said = lab.stderr(&[&detect[..], &["--descriptions", "words.json"]].concat());
    assert!(said.contains("those that the file describes are taken"), "{said}");
    assert!(scores(&lab)[0]["scores"]["descriptions"].is_f64());
    // Nothing is flagged without trusted pictures, whatever an earlier look has flagged.
    lab.ok(&[&detect[..], &["--level", "0.9"]].concat());
    assert!(lab.path("found/flagged.txt").is_file());
    let said = lab.ok(&DETECT[..5]);
    assert!(said.contains("8 images looked at, 8 others, a random half"), "{said}");
    assert!(!lab.path("found/flagged.txt").exists());
    let first = &scores(&lab)[0];
    assert!(
        first["p_values"].is_null() && first["flagged"].is_null() && first["scores"]["combined"].is_f64(),
        "{first}"
    );
}

#[test]
fn what_trusted_pictures_cannot_say_is_refused() {
    let lab = lab();
    let detect = [&DETECT[..], &TRUSTED].concat();
    let few = ["--level 0.01 beside 48 trusted pictures", "24 are held out", "at least 197 with --trusted-data"];
    lab.fails(&[&detect[..], &["--level", "0.01"]].concat(), 1, &few);
    lab.fails(&[&detect[..], &["--level", "1"]].concat(), 1, &["--level 1", "less than 1"]);
    lab.fails(&[&DETECT[..], &["--level", "0.1"]].concat(), 2, &["--trusted-data"]);
    lab.fails(&[&detect[..], &["--methods", "magic"]].concat(), 2, &["magic"]);
    let silent = ["nothing describes the classes: the pictures have no classes", "--descriptions"];
    lab.fails(&[&detect[..], &["--methods", "descriptions"]].concat(), 1, &silent);
    let words = ["--methods", "jpeg", "--descriptions", "words.json"];
    std::fs::write(lab.path("words.json"), r#"{"red": ["a red square"]}"#).unwrap();
    lab.fails(&[&detect[..], &words].concat(), 1, &["words.json", "--methods does not name"]);
    lab.fails(
        &[&DETECT[..5], &["--val-data", "none"], &TRUSTED].concat(),
        1,
        &["no pictures to look at", "--val-data"],
    );
    lab.fails(&DETECT, 1, &["no picture of `inbox` has a class", "--trusted-data"]);
    let same = ["--trusted-data", "inbox", "--level", "0.2", "--methods", "jpeg"];
    let said = lab.stderr(&[&DETECT[..], &same].concat());
    assert!(said.contains("16 pictures of --trusted-data are among those that are looked at"), "{said}");
    for name in ["inputs.html", "flagged.txt"] {
        lab.leaves_alone(name, &["detect", "inputs", "victim", "--out"]);
    }
}

#[test]
fn pictures_that_cannot_be_read_are_named_and_copies_of_trusted_ones_count_once() {
    let lab = lab();
    let all = std::fs::read(lab.path("inbox/050.png")).unwrap();
    // The header can be read, and the rest cannot.
    let cut = |name: &str| std::fs::write(lab.path(name), &all[..all.len() / 2]).unwrap();
    cut("inbox/050.png");
    std::fs::create_dir(lab.path("copies")).unwrap();
    for number in 0..60 {
        // Of 60 pictures six are different.
        let name = format!("{:03}.png", number % 6);
        std::fs::copy(lab.path(&name), lab.path(&format!("copies/{number}.png"))).unwrap();
    }
    let detect = [&DETECT[..], &["--methods", "jpeg", "--trusted-data", "copies"]].concat();
    let few = ["--level 0.05 beside 6 trusted pictures (54 copies of them do not count)", "at least 37"];
    lab.fails(&detect, 1, &few);
    let said = lab.stderr(&[&detect[..], &["--level", "0.3"]].concat());
    for words in ["left out: 54 copies of others", "(6 stay)", "warning: left out: 1 image", "inputs.jsonl names"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let summary: Value = serde_json::from_str(&text(&lab, "found/inputs.json")).unwrap();
    assert_eq!(
        summary["trusted"],
        serde_json::json!({"statistics": 3, "held_out": 3, "copies": 54, "level": 0.3}),
        "{summary}"
    );
    assert_eq!((&summary["looked_at"], &summary["unreadable"]), (&16.into(), &1.into()));
    let lines = scores(&lab);
    let unread: Vec<&Value> = lines.iter().filter(|line| line["unreadable"].is_string()).collect();
    assert!(unread.len() == 1 && unread[0]["id"] == "050.png" && unread[0]["scores"].is_null(), "{unread:?}");
    // One of sixteen may be lost, and no more.
    cut("inbox/051.png");
    let many = ["2 of 16 pictures could not be read", "data.max_skip_fraction"];
    lab.fails(&[&detect[..], &["--level", "0.3"]].concat(), 1, &many);
    assert!(lab.path("found/inputs.json").is_file(), "an earlier look stays");
    lab.ok(&[&detect[..], &["--level", "0.3", "--set", "data.max_skip_fraction=0.5"]].concat());
}
