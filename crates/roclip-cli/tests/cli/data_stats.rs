//! `roclip data stats`, and how lists and weights of data are read.

use crate::data_drop::training;
use crate::support::Lab;
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

pub fn png(number: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    patches(number).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub fn jpeg(number: u32, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&patches(number)).unwrap();
    bytes
}

pub fn shard(path: &Path, samples: &[(&str, Vec<u8>, String)]) {
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

pub fn caption(text: &str) -> String {
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

pub fn parts_left(lab: &Lab) -> Vec<String> {
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
        14,
        "a header, 12 pictures and their number"
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
        ("1", "1 weight for 2 parts"),
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
fn data_of_which_nothing_can_be_used_is_an_error_with_its_reasons() {
    let lab = Lab::new();
    std::fs::write(lab.path("broken.png"), "no picture").unwrap();
    std::fs::write(lab.path("bad.csv"), "image,caption\n../a.png,x\n../b.png,x\nbroken.png,y\nhttps://a.b/c.png,z\n")
        .unwrap();
    let words = [
        "no picture of `bad.csv` can be used: 2 images lie outside the folder of the data (first: ",
        "1 image cannot be decoded",
        "1 image is an address, which is not fetched",
        "--set data.source.outside_paths=true",
    ];
    lab.fails(&["data", "stats", "bad.csv"], 1, &words);
    let said = String::from_utf8(lab.roclip(&["data", "stats", "bad.csv"]).stdout).unwrap();
    assert!(said.contains("0 of 1 can be used"), "{said}");
    // What an earlier look wrote outlives it.
    let files = ["--hashes", "hashes.jsonl", "--copies", "copies.jsonl", "--out", "page.html"];
    let text = |file: &str| std::fs::read_to_string(lab.path(file)).ok();
    lab.fails(&[&["data", "stats", "bad.csv"], &files[..]].concat(), 1, &["(no file is written)"]);
    let written = || ["hashes.jsonl", "copies.jsonl", "page.html"].map(text);
    assert_eq!(written(), [None, None, None]);
    for file in ["hashes.jsonl", "copies.jsonl", "page.html"] {
        std::fs::write(lab.path(file), "earlier\n").unwrap();
    }
    lab.fails(&[&["data", "stats", "bad.csv", "--overwrite"], &files[..]].concat(), 1, &["(no file is written)"]);
    assert_eq!(written(), [(); 3].map(|()| Some("earlier\n".to_owned())));
    assert_eq!(parts_left(&lab), [""; 0]);
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
