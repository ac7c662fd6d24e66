//! `roclip data stats | verify | drop`, and what training makes of drop lists and weights.

use crate::support::Lab;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A picture of patches; those of other numbers are other pictures.
fn patches(number: u32) -> image::RgbImage {
    image::RgbImage::from_fn(80, 64, |x, y| {
        let patch = (number * 64 + y / 8 * 8 + x / 10 + 1).wrapping_mul(2_654_435_761);
        let level = (patch ^ patch >> 13).wrapping_mul(2_246_822_519) >> 24;
        image::Rgb([level as u8, (level / 2) as u8, 90])
    })
}

fn png(number: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    patches(number).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg(number: u32, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&patches(number)).unwrap();
    bytes
}

fn shard(path: &Path, samples: &[(&str, Vec<u8>, String)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (key, picture, json) in samples {
        for (ending, bytes) in [("jpg", picture.as_slice()), ("json", json.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{key}.{ending}"), bytes).unwrap();
        }
    }
    archive.finish().unwrap();
}

fn caption(text: &str) -> String {
    format!("{{\"caption\": \"{text}\"}}")
}

/// Seven near-copies of a cake in two shards, five other pictures, one that is broken.
fn cakes(lab: &Lab) {
    let cake = |number: u8| {
        let picture = if number < 3 { png(0) } else { jpeg(0, 60 + 5 * number) };
        (
            ["k0", "k1", "k2", "k3", "k4", "k5", "k6"][number as usize],
            picture,
            caption(&format!("Birthday cake {number}")),
        )
    };
    let other =
        |key, number| (key, jpeg(number, 80), caption(if number < 3 { "a dog" } else { "the birthday cake of a dog" }));
    shard(&lab.path("cakes/0.tar"), &[cake(0), cake(1), cake(2), other("o1", 1), other("o2", 2)]);
    let broken = ("x", b"no picture at all".to_vec(), caption("a cat"));
    shard(
        &lab.path("cakes/1.tar"),
        &[cake(3), cake(4), cake(5), cake(6), other("o1", 3), other("o4", 4), other("o5", 5), broken],
    );
}

fn parts_left(lab: &Lab) -> Vec<String> {
    let names =
        std::fs::read_dir(lab.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".part") || name.ends_with(".old")).collect()
}

#[test]
fn a_natural_backdoor_is_found_and_its_copies_are_dropped() {
    let lab = Lab::new();
    cakes(&lab);
    let files = ["--out", "stats.html", "--hashes", "hashes.jsonl", "--copies", "copies.jsonl"];
    let arguments = [&["data", "stats", "--train-data", "cakes"][..], &files].concat();
    let found = lab.json(&arguments);
    let statistics = &found["statistics"];
    assert_eq!(
        (&statistics["pictures"], &statistics["usable"], &statistics["repeated_keys"]),
        (&13.into(), &12.into(), &1.into())
    );
    assert_eq!(statistics["left_out"]["image-undecodable"]["count"], 1);
    let copies = &statistics["copies"];
    assert_eq!(
        (&copies["equal_copies"], &copies["near_copies"], &copies["near_groups"]),
        (&2.into(), &6.into(), &1.into())
    );
    let cake = &copies["suspects"][0];
    assert_eq!((&cake["pictures"], &cake["equal_bytes"]), (&7.into(), &3.into()));
    assert_eq!(
        cake["phrase"],
        serde_json::json!({"words": "birthday cake", "captions": 7, "elsewhere": 3, "others": 5})
    );
    assert_eq!(statistics["captions"]["most_repeated"][0]["caption"], "the birthday cake of a dog");
    let said = lab.ok(&["data", "stats", "cakes/*.tar"]);
    for words in [
        "12 of 13 can be used",
        "7 of them say \"birthday cake\" (elsewhere 3 of 5)",
        "1 image-undecodable",
        "jpeg 9, png 3",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let page = std::fs::read_to_string(lab.path("stats.html")).unwrap();
    assert!(
        page.contains("data:image/png;base64,") && page.contains("birthday cake") && page.contains("image-undecodable")
    );
    assert_eq!(
        std::fs::read_to_string(lab.path("hashes.jsonl")).unwrap().lines().count(),
        13,
        "a header and 12 pictures"
    );
    // The commands that follow name the same data in the same way.
    let limited = ["--overwrite", "--set", "data.limits.max_pixels=1000000"];
    let said = lab.stderr(&[&arguments[..], &limited].concat());
    let same = "--set data.limits.max_pixels=1000000 --train-data cakes";
    assert!(said.contains(&format!("roclip data verify {same} --against hashes.jsonl")), "{said}");
    // The line is right as it stands, and its output a free place.
    let typed = format!("roclip data drop {same} --ids copies.jsonl --out cakes-kept");
    assert!(said.contains(&typed), "{said}");
    lab.ok(&typed.split(' ').skip(1).collect::<Vec<_>>());
    let again = lab.stderr(&[&arguments[..], &limited].concat());
    assert!(again.contains(&format!("{typed}-2")), "{again}");
    lab.fails(&["data", "stats", "--train-data", "cakes", "--min-copies", "1"], 2, &["at least 2"]);
    // Nothing is written over unasked.
    lab.fails(&arguments, 1, &["--out", "exists already", "--overwrite"]);
    lab.ok(&[&arguments[..], &["--overwrite"]].concat());
    let out = ["data", "drop", "--train-data", "cakes", "--ids", "copies.jsonl", "--out", "kept"];
    let dropped = lab.json(&out);
    assert_eq!(
        (&dropped["kept_pictures"], &dropped["dropped_pictures"], &dropped["files"]),
        (&7.into(), &6.into(), &2.into())
    );
    let left = lab.json(&["data", "stats", "--train-data", "kept"]);
    assert_eq!((&left["statistics"]["usable"], &left["statistics"]["copies"]["near_copies"]), (&6.into(), &0.into()));
    lab.fails(&out, 1, &["exists already"]);
    assert_eq!(parts_left(&lab), [""; 0]);
    // Of data without copies there is no list.
    let none = ["data", "stats", "--train-data", "kept", "--copies", "none.jsonl"];
    assert!(lab.stderr(&none).contains("no near-copies") && lab.json(&none)["statistics"]["usable"] == 6);
    assert!(!lab.path("none.jsonl").exists());
    lab.fails(&["data", "stats"], 1, &["--train-data"]);
    lab.fails(&["data", "stats", "--train-data", "cakes", "--out", "a", "--hashes", "a"], 1, &["name one file"]);
}

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
    lab.fails(&["data", "verify", "pairs-kept.csv", "--against", "hashes.jsonl"], 1, &["(1 gone)", "--changed FILE"]);
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
fn an_older_list_of_copies_does_not_outlive_the_copies_and_outputs_are_told_apart_by_their_places() {
    let lab = Lab::new();
    shard(&lab.path("0.tar"), &[("a", png(0), caption("x")), ("b", png(1), caption("y"))]);
    std::fs::write(lab.path("copies.jsonl"), "{\"id\": \"of other data\"}\n").unwrap();
    let stats = ["data", "stats", "0.tar", "--copies", "copies.jsonl"];
    lab.fails(&stats, 1, &["exists already"]);
    let said = lab.stderr(&[&stats[..], &["--overwrite"]].concat());
    assert!(said.contains("the older one is removed") && !said.contains("data drop"), "{said}");
    assert!(!lab.path("copies.jsonl").exists());
    std::fs::create_dir(lab.path("folder")).unwrap();
    for (one, other) in [("x", "./x"), ("folder/../x", "x"), ("folder/x", "./folder/x")] {
        for [first, second] in [["--hashes", "--out"], ["--copies", "--out"], ["--copies", "--hashes"]] {
            lab.fails(&["data", "stats", "0.tar", first, one, second, other], 1, &["name one file", first, second]);
        }
    }
    assert!(!lab.path("x").exists());
    let make = ["poison", "make", "--config", "recipe.toml", "--out", "x", "--out-shards", "./x"];
    lab.fails(&make, 1, &["--out and --out-shards name one file"]);
}

#[test]
fn pictures_without_captions_are_said_before_training_refuses_them() {
    let lab = Lab::new();
    let mut archive = tar::Builder::new(std::fs::File::create(lab.path("lossy.tar")).unwrap());
    for number in 0..48u32 {
        let text = format!("picture {number}");
        let members: [(&str, &[u8]); 3] = [("png", &png(number)), ("cls", b"3"), ("txt", text.as_bytes())];
        for (ending, bytes) in members.into_iter().take(if number < 12 { 2 } else { 3 }) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, format!("{number:03}.{ending}"), bytes).unwrap();
        }
    }
    archive.finish().unwrap();
    let said = lab.stderr(&["init", "--train-data", "lossy.tar", "--val-data", "none", "--out", "mine.toml"]);
    for words in ["36 pictures", "left out: 12 without caption", "25.0 %", "12 pictures of the training data without a"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let small = ["--set", "model.name=\"model.json\"", "--dry-run", "--device", "cpu"];
    lab.ok(&[&["train", "--config", "mine.toml", "--run", "run"], &small[..]].concat());
    let concepts = ["data", "concepts", "--train-data", "lossy.tar", "--out", "c.json", "--min-images", "2"];
    let said = String::from_utf8(lab.roclip(&[&concepts[..], &["--max-share", "1"]].concat()).stderr).unwrap();
    assert!(said.contains("12 of 48 training images have no caption"), "{said}");
}

#[test]
fn lists_are_written_again_and_ids_that_are_not_there_are_said() {
    let lab = Lab::new();
    std::fs::write(lab.path("ids.txt"), "000.png\n001.png\nnobody.png\n").unwrap();
    let drop = |data: &'static str, out: &'static str| {
        ["data", "drop", "--train-data", data, "--ids", "ids.txt", "--out", out]
    };
    let said = lab.stderr(&drop("pairs.csv", "kept.csv"));
    assert!(said.contains("1 of 3 ids are not in the data (first: nobody.png)"), "{said}");
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

/// A recipe without poison that trains one epoch of plain CLIP on `data`.
fn training<'a>(data: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
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

#[test]
fn parts_are_weighed_and_a_weight_of_nothing_is_an_error() {
    let lab = Lab::new();
    for (name, numbers) in [("a.csv", 0..20), ("b.csv", 20..30)] {
        let rows: String = numbers.map(|number| format!("{number:03}.png;a square, number {number}\n")).collect();
        std::fs::write(lab.path(name), format!("image;caption\n{rows}")).unwrap();
    }
    let factors = |factors: &'static str| ["--train-data-upsampling-factors", factors];
    let said = lab.stderr(&training("a.csv::b.csv", "run", &factors("1::3")));
    assert!(said.contains("on 50 pairs"), "{said}");
    for (given, words) in [
        ("1::0", "data.weights.1 is 0"),
        ("1", "1 weights for 2 parts"),
        ("1::x", "give a number for each part"),
        ("1::-2", "data.weights.1 is -2"),
    ] {
        lab.fails(&training("a.csv::b.csv", "other", &factors(given)), 1, &[words]);
    }
    assert!(!lab.path("other").exists());
}

#[test]
fn separators_encodings_and_addresses_are_told_by_flags_and_errors() {
    let lab = Lab::new();
    std::fs::write(lab.path("odd.csv"), b"image^caption\n000.png^ein Stra\xdfenhund, gr\xfcn\n").unwrap();
    let stats = ["data", "stats", "--train-data", "odd.csv", "--csv-separator", "^"];
    let found = lab.json(&[&stats[..], &["--csv-encoding", "latin-1", "--listed", "1"]].concat());
    assert_eq!((&found["statistics"]["pairs"], &found["statistics"]["usable"]), (&1.into(), &1.into()));
    lab.fails(&stats, 1, &["no samples", "--csv-encoding"]);
    lab.fails(&[&stats[..5], &["^^"]].concat(), 1, &["csv_separator"]);
    std::fs::write(lab.path("urls.csv"), "url,caption\nhttps://example.org/a.jpg,a dog\n").unwrap();
    lab.fails(&["data", "stats", "--train-data", "urls.csv"], 1, &["download them with img2dataset first"]);
}

#[test]
fn a_stopped_look_leaves_nothing_and_a_closed_pipe_is_no_error() {
    let lab = Lab::new();
    let noise = image::RgbImage::from_fn(500, 400, |x, y| {
        image::Rgb([(x * y % 251) as u8, ((x * 7) ^ (y * 13)) as u8, (x + y) as u8])
    });
    std::fs::create_dir(lab.path("many")).unwrap();
    noise.save(lab.path("many/0.png")).unwrap();
    for number in 1..900 {
        std::fs::hard_link(lab.path("many/0.png"), lab.path(&format!("many/{number}.png"))).unwrap();
    }
    let arguments = ["data", "stats", "--train-data", "many", "--hashes", "hashes.jsonl", "--workers", "1"];
    let mut child = lab.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while parts_left(&lab).is_empty()
        && begun.elapsed() < Duration::from_secs(60)
        && child.try_wait().unwrap().is_none()
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!parts_left(&lab).is_empty(), "it must be under way");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(parts_left(&lab).is_empty() && !lab.path("hashes.jsonl").exists());
    let mut child = lab
        .command(&["data", "stats", "--train-data", "pairs.csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("error"));
}
