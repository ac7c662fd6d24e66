//! `roclip data drop`, and what training makes of lists of what is left out.

use crate::data_stats::{caption, parts_left, png, shard};
use crate::support::Lab;
use serde_json::Value;

#[test]
fn what_the_data_lost_is_said_where_it_is_written_again() {
    let lab = Lab::new();
    let samples: Vec<(String, u32)> = (0..4).map(|number| (format!("k{number}"), number)).collect();
    let samples: Vec<(&str, Vec<u8>, String)> =
        samples.iter().map(|(key, number)| (key.as_str(), png(*number), caption("x"))).collect();
    shard(&lab.path("0.tar"), &samples);
    let whole = std::fs::read(lab.path("0.tar")).unwrap();
    std::fs::write(lab.path("0.tar"), &whole[..whole.len() - 1024]).unwrap();
    std::fs::write(lab.path("ids.txt"), "k1\n").unwrap();
    let drop = ["data", "drop", "0.tar", "--ids", "ids.txt", "--out", "kept.tar"];
    let said = lab.stderr(&drop);
    for words in ["leaves out, before anything is dropped: 1 shard is cut off", "`kept.tar` does not show any more"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let found = lab.json(&[&drop[..], &["--overwrite"]].concat());
    assert_eq!((&found["left_out"]["shard-truncated"], &found["kept_pictures"]), (&1.into(), &3.into()));
    // Cut inside its last member, of which nothing is written.
    std::fs::write(lab.path("0.tar"), &whole[..whole.len() - 1024 - 500]).unwrap();
    let cut = [&drop[..], &["--overwrite", "--set", "data.max_skip_fraction=1"]].concat();
    let found = lab.json(&cut);
    assert_eq!((&found["left_out"]["shard-truncated"], &found["kept_pictures"]), (&1.into(), &2.into()));
    assert_eq!(lab.json(&["data", "stats", "kept.tar"])["statistics"]["pictures"], 2);
    let strict = [&drop[..], &["--overwrite", "--set", "data.max_skip_fraction=0"]].concat();
    lab.fails(&strict, 1, &["0.tar", "data.max_skip_fraction"]);
}

/// A picture that its source calls as another's caption would be called is neither mistaken for it nor lost.
#[test]
fn names_that_look_like_those_of_captions_stay_apart_from_scores_to_drop_lists() {
    let lab = Lab::new();
    let colours = crate::support::CLASSES;
    let mut rows = String::new();
    for number in 0..24 {
        let captions =
            [format!("a {} square", colours[number % 4]), format!("one {} box, {number}", colours[number % 4])];
        rows += &format!("{}\n", serde_json::json!({"image": format!("{number:03}.png"), "captions": captions}));
    }
    // The same pictures under the names of captions of others.
    for number in 0..6 {
        let name = format!("{number:03}.png#0");
        std::fs::copy(lab.path(&format!("{:03}.png", number + 30)), lab.path(&name)).unwrap();
        rows +=
            &format!("{}\n", serde_json::json!({"image": name, "caption": format!("a {} thing", colours[number % 4])}));
    }
    std::fs::write(lab.path("named.jsonl"), rows).unwrap();
    let data =
        ["--train-data", "named.jsonl", "--set", "data.source.split=", "--set", "poison=", "--set", "eval.probe="];
    lab.train("model", &[&data[..], &["--preset", "clip", "--epochs", "1"]].concat());
    let detect = ["detect", "pairs", "model", "--out", "suspects", "--neighbours", "4", "--drop-fraction", "0.4"];
    lab.ok(&detect);
    let text = |name: &str| std::fs::read_to_string(lab.path(name)).unwrap();
    let scores: Vec<Value> = text("suspects/scores.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let ids: std::collections::BTreeSet<&str> = scores.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), scores.len()), (54, 54));
    assert!(ids.contains("000.png#0") && ids.contains("000.png#0#"), "{ids:?}");
    let dropped = text("suspects/drop.txt").lines().count();
    assert_eq!(dropped, 22);
    lab.train("without", &[&data[..], &["--preset", "clip", "--epochs", "1", "--drop", "suspects/drop.txt"]].concat());
    let summary: Value = serde_json::from_str(&text("without/summary.json")).unwrap();
    assert_eq!(summary["pairs"], 54 - dropped);
    // One of each, by name: the caption goes, and its namesake stays; and the other way round.
    for (ids, expected) in [("000.png#0\n", (0, 1)), ("000.png#0#\n", (1, 0))] {
        std::fs::write(lab.path("ids.txt"), ids).unwrap();
        let drop = ["data", "drop", "named.jsonl", "--ids", "ids.txt", "--out", "kept.jsonl", "--overwrite"];
        let found = lab.json(&drop);
        assert_eq!((&found["dropped_pictures"], &found["dropped_captions"]), (&expected.0.into(), &expected.1.into()));
        let kept = text("kept.jsonl");
        assert_eq!(kept.contains("000.png#0"), expected.0 == 0);
        assert_eq!(kept.contains("a red square\",\"one red box, 0\""), expected.1 == 0, "{kept:.300}");
    }
}

#[test]
fn lists_are_written_again_and_ids_that_are_not_there_are_said() {
    let lab = Lab::new();
    std::fs::write(lab.path("ids.txt"), "000.png\n001.png\nnobody.png\n").unwrap();
    let drop = |data: &'static str, out: &'static str| {
        ["data", "drop", "--train-data", data, "--ids", "ids.txt", "--out", out]
    };
    let said = lab.stderr(&drop("pairs.csv", "kept.csv"));
    assert!(said.contains("1 of 3 ids is not in the data (first: nobody.png)"), "{said}");
    let before = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let expected: String = before
        .lines()
        .filter(|line| !line.starts_with("000.") && !line.starts_with("001."))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(std::fs::read_to_string(lab.path("kept.csv")).unwrap(), expected);
    let found = lab.json(&["data", "stats", "--train-data", "kept.csv"]);
    assert_eq!((&found["statistics"]["usable"], &found["statistics"]["pairs"]), (&62.into(), &62.into()));
    lab.fails(&drop("pairs.csv", "kept.csv"), 1, &["exists already"]);
    lab.ok(&[&drop("pairs.csv", "kept.csv")[..], &["--overwrite"]].concat());
    lab.fails(&drop("pairs.csv", "kept.tsv"), 1, &["ending"]);
    lab.fails(&[&drop("pairs.csv", "pairs.csv")[..], &["--overwrite"]].concat(), 1, &["lies in the data"]);
    lab.fails(&[&drop("pairs.csv", "ids.txt")[..], &["--overwrite"]].concat(), 1, &["--out `ids.txt` is what is read"]);
    for command in [&["data", "stats", "--copies"], &["data", "index", "--out"]] {
        let arguments = [&command[..], &["pairs.csv", "--train-data", "./pairs.csv", "--overwrite"]].concat();
        lab.fails(&arguments, 1, &["`pairs.csv` is what is read"]);
    }
    assert_eq!(std::fs::read_to_string(lab.path("pairs.csv")).unwrap(), before);
    // A file of the folder that is read would be lost, and a new one would be read by the next reader.
    std::fs::create_dir(lab.path("folder")).unwrap();
    std::fs::copy(lab.path("060.png"), lab.path("folder/060.png")).unwrap();
    for (flag, name) in [("--hashes", "folder/060.png"), ("--copies", "folder/new.jsonl"), ("--out", "folder/new.html")]
    {
        let arguments = ["data", "stats", "folder", flag, name, "--overwrite"];
        lab.fails(&arguments, 1, &[flag, "lies in the data"]);
    }
    // Nor is a picture that a list names.
    for (flag, name) in [("--hashes", "063.png"), ("--copies", "./063.png"), ("--out", "063.png")] {
        lab.fails(&["data", "stats", "pairs.csv", flag, name, "--overwrite"], 1, &[flag, "picture of the data"]);
    }
    for name in ["063.png", "folder/060.png", "ids.txt"] {
        lab.fails(&["data", "index", "pairs.csv", "--out", name, "--overwrite"], 1, &["is no index"]);
    }
    assert_eq!(std::fs::read(lab.path("folder/060.png")).unwrap(), std::fs::read(lab.path("060.png")).unwrap());
    assert_eq!(std::fs::read_dir(lab.path("folder")).unwrap().count(), 1);
    // Joined data are named as they are joined.
    std::fs::create_dir(lab.path("more")).unwrap();
    for name in ["060.png", "061.png"] {
        std::fs::copy(lab.path(name), lab.path("more").join(name)).unwrap();
    }
    std::fs::write(lab.path("ids.txt"), "pairs.csv/000.png\n").unwrap();
    let said = lab.stderr(&drop("pairs.csv::more", "joined"));
    assert!(said.contains("--train-data joined/pairs.csv::joined/more --image-root"), "{said}");
    // Each list finds its own pictures, whatever is called alike elsewhere.
    std::fs::create_dir(lab.path("other")).unwrap();
    for (from, name) in [("001.png", "060.png"), ("002.png", "061.png")] {
        std::fs::copy(lab.path(from), lab.path("other").join(name)).unwrap();
    }
    std::fs::write(lab.path("other/more.csv"), "image,caption\n060.png,a square\n061.png,a box\n").unwrap();
    std::fs::write(lab.path("ids.txt"), "more.csv/061.png\n").unwrap();
    let data = "pairs.csv::other/more.csv";
    lab.ok(&["data", "stats", "--train-data", data, "--hashes", "before.jsonl"]);
    let said = lab.stderr(&drop(data, "both"));
    let next = said.lines().find_map(|line| line.split_once("roclip data stats ")).unwrap().1;
    assert_eq!(next, "--train-data both/pairs.csv::both/more.csv --image-root .::other");
    let mut verify = vec!["data", "verify", "--against", "before.jsonl", "--drop", "ids.txt"];
    verify.extend(next.split(' '));
    assert_eq!(lab.json(&verify)["verified"]["equal"]["count"], 65);
    std::fs::write(lab.path("ids.txt"), "000.png\n001.png\nnobody.png\n").unwrap();
    // Elsewhere, its paths still start from where they did.
    let said = lab.stderr(&drop("pairs.csv", "new/kept.csv"));
    assert!(said.contains("--image-root"), "{said}");
    for (list, words) in
        [("nobody.png\n", "its only id"), ("\n", "names no id"), ("{\"key\": 1}\n{\"key\": 1}\n", "line 2")]
    {
        std::fs::write(lab.path("ids.txt"), list).unwrap();
        lab.fails(&drop("pairs.csv", "other.csv"), 1, &[words]);
    }
    let all: String = (0..64).map(|number| format!("{number:03}.png\n")).collect();
    std::fs::write(lab.path("ids.txt"), all).unwrap();
    lab.fails(&drop("pairs.csv", "other.csv"), 1, &["everything"]);
    assert!(!lab.path("other.csv").exists() && parts_left(&lab).is_empty());
}

#[test]
fn a_list_that_may_be_of_other_data_is_doubted_and_one_of_a_look_at_others_refused() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("suspects")).unwrap();
    let write = |list: &str, left: Value| {
        let looked = serde_json::json!({
            "model": null, "methods": ["clip-score"], "neighbours": 5, "references": 9, "drop": "fraction 0.1",
        });
        let summary = serde_json::json!({"looked": looked, "dropped": {"left": left}});
        std::fs::write(lab.path("suspects/detect.json"), summary.to_string()).unwrap();
        std::fs::write(lab.path("suspects/drop.txt"), list).unwrap();
    };
    let drop = |ids: &'static str| ["data", "drop", "pairs.csv", "--ids", ids, "--out", "other.csv"];
    write("000.png\nx\n", serde_json::json!({}));
    let words = ["made by `roclip detect pairs` of other data", "1 of its 2 ids"];
    lab.fails(&drop("suspects/drop.txt"), 1, &words);
    lab.fails(&training("pairs.csv", "run", &["--drop", "suspects/drop.txt"]), 1, &words);
    // What a look called poison is clean where the poison is not.
    write("000.png\n001.png\n", serde_json::json!({"badnets": [3, 1]}));
    lab.fails(&drop("suspects/drop.txt"), 1, &["with poison laid over them", "--drop suspects/drop.txt"]);
    assert!(!lab.path("other.csv").exists() && !lab.path("run").exists());
    std::fs::write(lab.path("ids.txt"), "000.png\nx\ny\n").unwrap();
    let said = lab.stderr(&drop("ids.txt"));
    assert!(said.contains("warning: 2 of 3 ids are not in the data (first: x); it looks like a list of"), "{said}");
}

#[test]
fn a_line_names_the_picture_that_is_called_so_with_its_blanks() {
    let lab = Lab::new();
    std::fs::write(lab.path("blanks.csv"), "image,caption\n000.png,one\n\" lead.png\",two\nlead.png,three\n").unwrap();
    for name in [" lead.png", "lead.png"] {
        std::fs::copy(lab.path("001.png"), lab.path(name)).unwrap();
    }
    for (line, gone, stays) in
        [(" lead.png\n", "two", "three"), ("lead.png\n", "three", "two"), (" 000.png \n", "one", "two")]
    {
        std::fs::write(lab.path("ids.txt"), line).unwrap();
        lab.ok(&["data", "drop", "blanks.csv", "--ids", "ids.txt", "--out", "kept.csv", "--overwrite"]);
        let kept = std::fs::read_to_string(lab.path("kept.csv")).unwrap();
        assert!(!kept.contains(gone) && kept.contains(stays), "{line:?}: {kept}");
    }
}

/// A recipe without poison that trains one epoch of plain CLIP on `data`.
pub fn training<'a>(data: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "--config", "recipe.toml", "--run", run, "--train-data", data, "--epochs", "1"];
    for setting in ["poison=", "eval.probe=", "augment.image=", "objective.name=\"clip\""] {
        all.extend(["--set", setting]);
    }
    all.extend(more);
    all
}

#[test]
fn training_leaves_out_what_a_list_names_and_goes_on_with_the_same_list_only() {
    let lab = Lab::new();
    std::fs::write(lab.path("ids.txt"), "000.png\n001.png\nnobody.png\n").unwrap();
    let drop = ["--drop", "ids.txt"];
    let said = lab.stderr(&training("pairs.csv", "run", &drop));
    assert!(said.contains("on 62 pairs (0 poisoned, 2 pictures left out by data.drop)"), "{said}");
    assert!(said.contains("1 id of data.drop is not in the data (first: nobody.png)"), "{said}");
    // The same ids in another layout are the same list; others are not.
    std::fs::write(lab.path("ids.txt"), "{\"id\": \"nobody.png\"}\n{\"id\": \"001.png\"}\n{\"id\": \"000.png\"}\n")
        .unwrap();
    let goes_on = |epochs: &'static str| ["train", "--run", "run", "--resume", "--epochs", epochs];
    lab.ok(&goes_on("2"));
    std::fs::write(lab.path("ids.txt"), "000.png\n001.png\nsomebody.png\n").unwrap();
    lab.fails(&goes_on("3"), 1, &["was trained on other data"]);
    std::fs::write(lab.path("ids.txt"), "somebody.png\n").unwrap();
    lab.fails(&training("pairs.csv", "other", &drop), 1, &["its only id"]);
    lab.fails(&training("pairs.csv", "other", &["--drop", "absent.txt"]), 1, &["absent.txt"]);
    assert!(!lab.path("other").exists());
    // A poisoning is of the data as a whole, and pairs of both kinds are left out behind it.
    std::fs::write(lab.path("ids.txt"), "000.png\n").unwrap();
    let make = |out| ["poison", "make", "--config", "recipe.toml", "--out", out, "--json"];
    let made: Value = serde_json::from_str(&lab.ok(&make("manifest.jsonl"))).unwrap();
    let same: Value = serde_json::from_str(&lab.ok(&[&make("same.jsonl")[..], &drop].concat())).unwrap();
    assert_eq!((&made["clean_pairs"], &made["clean_pairs"]), (&Value::from(45), &same["clean_pairs"]));
    let read = |name: &str| std::fs::read(lab.path(name)).unwrap();
    assert_eq!(read("manifest.jsonl"), read("same.jsonl"));
    let left = lab.json(&["data", "stats", "--train-data", "pairs.csv", "--set", "data.drop=ids.txt"]);
    assert_eq!(left["statistics"]["pictures"], 63);
}
