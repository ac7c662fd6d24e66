//! `roclip data verify`: are the pictures what they were?

use crate::data_stats::{caption, jpeg, png, shard};
use crate::support::Lab;
use serde_json::Value;
use std::process::Command;

#[test]
fn pictures_that_somebody_changed_are_found() {
    let lab = Lab::new();
    let stated = |bytes: &[u8], more: &str| {
        let file = lab.path("picture");
        std::fs::write(&file, bytes).unwrap();
        let output = Command::new("sha256sum").arg(&file).output().unwrap();
        let digest = String::from_utf8(output.stdout).unwrap();
        format!("{{\"caption\": \"a\", \"sha256\": \"{}\"{more}}}", &digest[..64])
    };
    let good = ("a", png(0), stated(&png(0), ""));
    let changed = ("b", png(1), stated(&png(2), ""));
    let resized = ("c", png(2), stated(&png(3), ", \"original_width\": 900"));
    shard(&lab.path("data/0.tar"), &[good.clone(), resized.clone(), ("d", png(3), caption("x"))]);
    let said = lab.ok(&["data", "verify", "--train-data", "data"]);
    assert!(
        said.contains("1  equal") && said.contains("1  cannot be compared") && said.contains("1  without a hash"),
        "{said}"
    );
    lab.ok(&["data", "stats", "--train-data", "data", "--hashes", "hashes.jsonl"]);
    let verify = ["data", "verify", "--train-data", "data", "--against", "hashes.jsonl"];
    assert_eq!(lab.json(&verify)["verified"]["equal"]["count"], 3);
    // One encoded again, one another picture, one gone, one new whose own sha256 does not fit.
    shard(&lab.path("data/0.tar"), &[("a", jpeg(0, 70), caption("a")), ("c", png(9), caption("a")), changed]);
    let output = lab.roclip(&verify);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in
        ["1  encoded again", "2  DIFFERENT: b (other bytes), c (", "1  gone: in the file of hashes, and no longer"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("3 of 4 pictures are not what they were"));
    // The list of them is what the next command reads, and leaves nothing that is not what it was.
    let output = lab.roclip(&[&verify[..], &["--changed", "changed.jsonl", "--json"]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let example = &found["verified"]["different"]["examples"][0];
    assert_eq!((&example["id"], &example["detail"]), (&"b".into(), &"other bytes".into()));
    let typed = "roclip data drop --train-data data --ids changed.jsonl --out data-kept";
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(typed) && said.contains("leave them out as above"), "{said}");
    lab.ok(&typed.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(lab.json(&["data", "stats", "data-kept"])["statistics"]["usable"], 1);
    lab.fails(
        &[&verify[..], &["--changed", "changed.jsonl"]].concat(),
        1,
        &["--changed", "exists already", "--overwrite"],
    );
    lab.fails(&[&verify[..], &["--changed", "hashes.jsonl", "--overwrite"]].concat(), 1, &["is what is read"]);
    let other = ["data", "verify", "--train-data", "pairs.csv", "--against", "hashes.jsonl"];
    lab.fails(&other, 1, &["of other data"]);
    lab.fails(&["data", "verify", "--train-data", "pairs.csv"], 1, &["sha256", "--hashes FILE"]);
    let cut = std::fs::read(lab.path("hashes.jsonl")).unwrap();
    std::fs::write(lab.path("hashes.jsonl"), &cut[..cut.len() - 20]).unwrap();
    lab.fails(&verify, 1, &["line 4"]);
    let lines: Vec<&[u8]> = cut.split_inclusive(|byte| *byte == b'\n').collect();
    std::fs::write(lab.path("hashes.jsonl"), lines[..3].concat()).unwrap();
    lab.fails(&verify, 1, &["hashes.jsonl", "cut off behind line 3"]);
}

#[test]
fn what_could_not_be_read_then_is_unchanged_and_lists_are_kept_beside_themselves() {
    let lab = Lab::new();
    std::fs::write(lab.path("060.png"), "x").unwrap();
    std::fs::remove_file(lab.path("061.png")).unwrap();
    lab.ok(&["data", "stats", "pairs.csv", "--hashes", "hashes.jsonl"]);
    let verify = ["data", "verify", "pairs.csv", "--against", "hashes.jsonl"];
    let said = lab.ok(&verify);
    assert!(said.contains("2  unreadable, and not in the file of hashes: unreadable then, too"), "{said}");
    std::fs::remove_file(lab.path("062.png")).unwrap();
    let output = lab.roclip(&[&verify[..], &["--changed", "changed.jsonl"]].concat());
    let [table, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(table.contains("1  gone: in the file of hashes") && table.contains(": 062.png ("), "{table}");
    assert!(said.contains("1 of ") && said.contains("(1 gone)"), "{said}");
    assert_eq!(std::fs::read_to_string(lab.path("changed.jsonl")).unwrap(), "{\"id\":\"062.png\"}\n");
    let typed = "roclip data drop --train-data pairs.csv --ids changed.jsonl --out pairs-kept.csv";
    assert!(said.contains(typed), "{said}");
    lab.ok(&typed.split(' ').skip(1).collect::<Vec<_>>());
    // What is gone can be left out no more: it was left out on purpose, or is to be brought back.
    let kept = ["data", "verify", "pairs-kept.csv", "--against", "hashes.jsonl"];
    let renew = "roclip data stats --train-data pairs-kept.csv --hashes hashes.jsonl --overwrite";
    let words = ["1 of 64 pictures is not what it was (1 gone)", "bring back", "--drop FILE", renew];
    lab.fails(&kept, 1, &words);
    let listed = [&kept[..], &["--changed", "gone.jsonl"]].concat();
    lab.fails(&listed, 1, &[&words[..], &["there are no pictures in the data that are not what they were"]].concat());
    let said = String::from_utf8(lab.roclip(&listed).stderr).unwrap();
    assert!(!said.contains("leave them out") && !lab.path("gone.jsonl").exists(), "{said}");
    // The list by which it was left out says so.
    let said = lab.ok(&[&kept[..], &["--drop", "changed.jsonl"]].concat());
    assert!(said.contains("1  left out on purpose") && said.contains("names it: 062.png"), "{said}");
    assert!(!said.contains("gone"), "{said}");
    let found = lab.json(&[&kept[..], &["--set", "data.drop=\"changed.jsonl\""]].concat());
    assert_eq!((&found["verified"]["left_out"]["count"], &found["verified"]["gone"]["count"]), (&1.into(), &0.into()));
    std::fs::write(lab.path("other.txt"), "nobody.png\n").unwrap();
    lab.fails(&[&kept[..], &["--drop", "other.txt"]].concat(), 1, &["other.txt", "nobody.png", "not in the data"]);
    // And so do new hashes, as they are advised.
    lab.ok(&renew.split(' ').skip(1).collect::<Vec<_>>());
    lab.ok(&kept);
}

/// `data drop` takes a picture out whole where a list names all its captions.
#[test]
fn pictures_that_were_dropped_by_all_their_captions_were_left_out_on_purpose() {
    let lab = Lab::new();
    let several = |key| (key, format!("{{\"caption\": [\"{key} one\", \"{key} two\"]}}"));
    let samples = [several("a"), several("b"), ("c", caption("three"))];
    let of = |(number, (key, json)): (u32, &(&'static str, String))| (*key, png(number), json.clone());
    shard(&lab.path("data/0.tar"), &(0..).zip(&samples).map(of).collect::<Vec<_>>());
    lab.ok(&["data", "stats", "data", "--hashes", "hashes.jsonl"]);
    let ids = std::fs::read_to_string(lab.path("hashes.jsonl")).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    let ids: Vec<String> = ids.lines().filter(|line| line.starts_with("{\"id\"")).map(id).collect();
    std::fs::write(lab.path("captions.txt"), format!("{0}#0\n{0}#1\n", ids[0])).unwrap();
    lab.ok(&["data", "drop", "data", "--ids", "captions.txt", "--out", "kept"]);
    let verify = ["data", "verify", "kept", "--against", "hashes.jsonl", "--drop", "captions.txt"];
    let said = lab.ok(&verify);
    assert!(said.contains("2  equal") && said.contains(&format!("names it: {}", ids[0])), "{said}");
    // Without the list it is gone.
    lab.fails(&verify[..5], 1, &["(1 gone)"]);
    std::fs::write(lab.path("all.txt"), ids.join("\n")).unwrap();
    let all = ["data", "verify", "data", "--against", "hashes.jsonl", "--drop", "all.txt"];
    lab.fails(&all, 1, &["all.txt", "names everything in the data"]);
}

/// Whoever changes a picture can change what the data says of it, too.
#[test]
fn hashes_kept_apart_win_over_those_in_the_data() {
    let lab = Lab::new();
    let stated = |number: u32| {
        let mut json = caption("a");
        std::fs::write(lab.path("picture"), png(number)).unwrap();
        let digest = Command::new("sha256sum").arg(lab.path("picture")).output().unwrap().stdout;
        json.insert_str(1, &format!("\"sha256\": \"{}\", ", std::str::from_utf8(&digest[..64]).unwrap()));
        json
    };
    shard(&lab.path("data/0.tar"), &[("a", png(0), stated(0)), ("b", png(1), stated(1))]);
    lab.ok(&["data", "stats", "data", "--hashes", "hashes.jsonl"]);
    shard(&lab.path("data/0.tar"), &[("a", png(0), stated(0)), ("b", png(9), stated(9)), ("c", png(2), stated(2))]);
    assert_eq!(lab.json(&["data", "verify", "data"])["verified"]["equal"]["count"], 3);
    let output = lab.roclip(&["data", "verify", "data", "--against", "hashes.jsonl"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["2  equal", "1  of these by the data's own sha256 alone", "1  DIFFERENT: b ("] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
