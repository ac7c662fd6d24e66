use super::*;
use crate::sample::Sample;

/// Files of a temporary folder, and the joined data of some of them.
fn read(files: &[(&str, &str)], parts: &[&str]) -> Result<Listing> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let named =
        |part: &&str| if *part == "emoji" { "emoji".into() } else { format!("{}/{part}", folder.path().display()) };
    let path = parts.iter().map(named).collect::<Vec<String>>().join("::");
    list_samples(&SourceConfig { path, ..SourceConfig::default() }, ImageLimits::default())
}

fn ids(listing: &Listing) -> Vec<&str> {
    listing.samples.iter().map(|sample| sample.id.as_str()).collect()
}

const CSV: &str = "image,caption\nx.jpg,one\n,two\n";

#[test]
fn joined_data_is_told_apart_by_the_ends_of_its_paths() {
    let folders = [("p/train/cat/1.jpg", "x"), ("q/train/cat/1.jpg", "x"), ("p/a.csv", CSV), ("p/b.csv", CSV)];
    assert_eq!(ids(&read(&folders, &["p/train"]).unwrap()), ["cat/1.jpg"]);
    let joined = read(&folders, &["p/train", "q/train"]).unwrap();
    assert_eq!(ids(&joined), ["p/train/cat/1.jpg", "q/train/cat/1.jpg"]);
    assert!(!joined.samples[0].is_same(&joined.samples[1]));
    // Two lists may name one picture: it is one, with two ids.
    let lists = read(&folders, &["p/a.csv", "p/b.csv"]).unwrap();
    assert_eq!(ids(&lists), ["a.csv/x.jpg", "b.csv/x.jpg"]);
    assert!(lists.samples[0].is_same(&lists.samples[1]));
    assert!(lists.skips.names("a.csv/row 2") && lists.skips.names("b.csv/row 2"), "{}", lists.skips.to_jsonl());
    assert_eq!(lists.listed, 4);
    let mixed = read(&folders, &["p/train", "p/a.csv"]).unwrap();
    assert_eq!(ids(&mixed), ["train/cat/1.jpg", "a.csv/x.jpg"]);
}

#[test]
fn the_same_data_twice_is_refused() {
    let files = [("a/cat/1.jpg", "x"), ("a/a.csv", CSV)];
    for parts in [["a", "a"], ["a", "./a/"], ["a/a.csv", "a/a.csv"], ["a", "a/cat"], ["emoji", "emoji"]] {
        let error = read(&files, &parts).unwrap_err().to_string();
        assert!(error.contains("same data twice"), "{parts:?}: {error}");
    }
}

#[test]
fn ranges_of_shards_are_called_by_their_folders() {
    assert_eq!(part_names(&["cc3m/{0..3}.tar", "cc12m/{0..9}.tar"]), ["cc3m", "cc12m"]);
    assert_eq!(part_names(&["cc/{0..3}.tar", "cc/{4..9}.tar"]), ["{0..3}.tar", "{4..9}.tar"]);
}

#[test]
fn where_there_is_nothing_it_is_said_what_there_is() {
    let error = read(&[("d/1.hdf5", ""), ("d/2.hdf5", "")], &["d"]).unwrap_err().to_string();
    assert!(error.contains("2 files with the extension `hdf5`"), "{error}");
    let files = [("d/train/cat/1.jpg", "x")];
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("train/cat")).unwrap();
    std::fs::write(folder.path().join(files[0].0.trim_start_matches("d/")), "x").unwrap();
    let path = folder.path().display().to_string();
    let config = SourceConfig { path, split: Some("val".into()), ..SourceConfig::default() };
    let error = list_samples(&config, ImageLimits::default()).unwrap_err().to_string();
    assert!(error.contains("split `val`") && error.contains("it has `train`"), "{error}");
}

#[test]
fn losses_are_held_against_the_samples_and_the_shards() {
    let mut listing = read(&[("a.csv", CSV)], &["a.csv"]).unwrap();
    let keep = |listing: &Listing| listing.samples.clone();
    assert!(listing.check_losses(0.05, "data.source").is_ok(), "one of two is the smallest loss there is");
    assert!(
        listing.check_losses(0.0, "data.source").is_err() && listing.check_losses(f64::NAN, "data.source").is_err()
    );
    let one: Vec<Sample> = keep(&listing);
    for row in 0..2_000 {
        listing.skips.add(&format!("row {row}"), Skip::new(SkipReason::RowUnreadable, ""));
    }
    listing.listed = 2_048;
    let error = listing.check_losses(0.01, "data.source").unwrap_err().to_string();
    assert!(error.contains("2001 of 2048 samples") && error.contains("max_skip_fraction"), "{error}");
    // The picture is not there.
    let mut probed = Listing { samples: one, listed: 1, ..Listing::default() };
    probed.probe(ImageLimits::default(), 2);
    assert!(probed.samples.is_empty() && probed.skips.names("x.jpg"));
    assert!(probed.check_losses(1.0, "data.source").is_err(), "nothing is left");
}

#[test]
fn patterns_stand_for_what_lies_there_and_parts_are_numbered() {
    let files =
        [("d/a.csv", CSV), ("d/b.csv", "image,caption\ny.jpg,two\n"), ("e/cat/1.jpg", "x"), ("e/dog/1.jpg", "x")];
    for pattern in ["d/*.csv", "d/{a,b}.csv", "**/?.csv"] {
        let listing = read(&files, &[pattern]).unwrap();
        assert_eq!(ids(&listing), ["a.csv/x.jpg", "b.csv/y.jpg"], "{pattern}");
        assert!(listing.samples.iter().all(|sample| sample.part == 0));
    }
    let joined = read(&files, &["d/[ab].csv", "e"]).unwrap();
    let parts: Vec<u32> = joined.samples.iter().map(|sample| sample.part).collect();
    assert_eq!(parts, [0, 0, 1, 1]);
    assert_eq!(part_count("a::b::::c"), 3);
    assert!(read(&files, &["d/*.tsv"]).unwrap_err().to_string().contains("matches nothing"));
    assert!(read(&files, &["d/*.csv", "d/a.csv"]).unwrap_err().to_string().contains("same data twice"));
}

#[test]
fn addresses_are_to_be_downloaded_first() {
    for (name, text) in [
        ("a.csv", "url,caption\nhttps://x/1.jpg,a dog\n"),
        ("b.tsv", "URL\tTEXT\nhttps://x/1.jpg\ta dog\n"),
        ("c.csv", "image,caption\nhttps://x/1.jpg,a dog\nhttps://x/2.jpg,a cat\n"),
        ("d.jsonl", "{\"image\": \"https://x/1.jpg\", \"caption\": \"a dog\"}\n"),
        ("e.jsonl", "{\"url\": \"https://x/1.jpg\", \"caption\": \"a dog\"}\n"),
    ] {
        let error = read(&[(name, text)], &[name]).unwrap_err().to_string();
        assert!(error.contains("download them with img2dataset first"), "{name}: {error}");
    }
    // One among others is a row of its own.
    let mixed = read(&[("a.csv", "image,caption\nhttps://x/1.jpg,a dog\nb.jpg,a cat\n")], &["a.csv"]).unwrap();
    assert_eq!((ids(&mixed), mixed.skips.total()), (vec!["b.jpg"], 1));
}

/// What is left of `data` without the samples and captions of these ids, written in its own format and read again.
fn kept(folder: &Path, data: &str, left_out: &[&str], out: &str) -> Result<(Kept, Vec<(String, usize)>)> {
    let config = |path: &str| SourceConfig { path: folder.join(path).display().to_string(), ..SourceConfig::default() };
    let limits = ImageLimits::default();
    let samples = list_samples(&config(data), limits)?.samples;
    let leaving = |sample: &Sample| {
        let numbers: Vec<usize> =
            (0..sample.captions.len()).filter(|k| left_out.contains(&format!("{}#{k}", sample.id).as_str())).collect();
        match left_out.contains(&sample.id.as_str()) {
            true => Leaving::Whole,
            false if numbers.is_empty() => Leaving::Nothing,
            false => Leaving::Captions(numbers),
        }
    };
    let written = write_kept(&config(data), limits, &samples, &leaving, &folder.join(out))?;
    let found = list_samples(&config(out), limits)?.samples;
    Ok((written, found.into_iter().map(|sample| (sample.id, sample.captions.len())).collect()))
}

fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn pairs(found: &[(String, usize)]) -> Vec<(&str, usize)> {
    found.iter().map(|(id, captions)| (id.as_str(), *captions)).collect()
}

#[test]
fn a_list_is_written_again_as_it_was_without_what_is_dropped() {
    let rows = "id;filepath;title;score\r\n1;a.jpg;\"a; \"\"dog\"\"\n sits\";0.5\r\n2;b.jpg;a cat;\r\n3;a.jpg;dogs;1\r\n;;odd row\r\n4;a.jpg;third;2";
    let folder = folder_of(&[("pairs.csv", rows.as_bytes())]);
    let (written, found) = kept(folder.path(), "pairs.csv", &["b.jpg", "a.jpg#1"], "out.csv").unwrap();
    assert_eq!(pairs(&found), [("a.jpg", 2)]);
    assert_eq!((written.files, written.former_encoding), (1, None));
    let text = std::fs::read_to_string(folder.path().join("out.csv")).unwrap();
    assert_eq!(
        text,
        "id;filepath;title;score\r\n1;a.jpg;\"a; \"\"dog\"\"\n sits\";0.5\r\n;;odd row\r\n4;a.jpg;third;2\n"
    );
    let error = kept(folder.path(), "pairs.csv", &["b.jpg"], "out.tsv").unwrap_err().to_string();
    assert!(error.contains("ending"), "{error}");
    assert!(!folder.path().join("out.tsv").exists());
}

#[test]
fn lists_with_carriage_returns_are_written_so_that_the_same_rows_are_read() {
    let mac = "image,caption\ra.jpg,one\rb.jpg,two\rc.jpg,three";
    let mixed = "image,caption\na.jpg,one\rb.jpg,two\nno columns\nc.jpg,three\rmore of it\r";
    let folder = folder_of(&[("mac.csv", mac.as_bytes()), ("mixed.csv", mixed.as_bytes())]);
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for (data, out, expected) in [
        ("mac.csv", "m.csv", "image,caption\ra.jpg,one\rc.jpg,three\r"),
        // The row without columns does not become a part of the caption before it.
        ("mixed.csv", "x.csv", "image,caption\na.jpg,one\nno columns\nc.jpg,three\rmore of it\n"),
    ] {
        let (_, found) = kept(folder.path(), data, &["b.jpg"], out).unwrap();
        assert_eq!(pairs(&found), [("a.jpg", 1), ("c.jpg", 1)], "{data}");
        assert_eq!(text(out), expected);
    }
}

#[test]
fn what_is_no_caption_stays_where_a_caption_is_dropped() {
    let lines = "{\"image\": \"a.jpg\", \"caption\": [\"one\", [\"deep\"], {\"raw\": \"two\", \"id\": 3}, 7]}\n{\"image\": \"b.jpg\", \"caption\": \"x\"}\n";
    let folder = folder_of(&[("lines.jsonl", lines.as_bytes())]);
    let (_, found) = kept(folder.path(), "lines.jsonl", &["a.jpg#0"], "out.jsonl").unwrap();
    assert_eq!(pairs(&found), [("a.jpg", 2), ("b.jpg", 1)]);
    let text = std::fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    assert!(text.starts_with(r#"{"image":"a.jpg","caption":[["deep"],{"raw":"two","id":3},7]}"#), "{text}");
}

#[test]
fn json_is_written_again_in_its_layout() {
    let lines = "{\"image\": \"a.jpg\", \"caption\": [\"one\", \"two\"], \"more\": 1.50}\nno json\n{\"image\": \"b.jpg\", \"caption\": \"x\"}\n";
    let list = r#"[{"image": "a.jpg", "caption": ["one", "two"]}, {"image": "b.jpg", "caption": "x"}]"#;
    let coco = r#"{"info": {"year": 1}, "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1, "caption": "one", "id": 9}, {"image_id": 2, "caption": "x"}, {"image_id": 1, "caption": "two"}]}"#;
    let karpathy = r#"{"dataset": "x", "images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "one", "sentid": 3}, {"raw": "two"}]},
        {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "x"}]}]}"#;
    let folder = folder_of(&[
        ("lines.jsonl", lines.as_bytes()),
        ("list.json", list.as_bytes()),
        ("coco.json", coco.as_bytes()),
        ("karpathy.json", karpathy.as_bytes()),
    ]);
    for (data, out) in
        [("lines.jsonl", "out.jsonl"), ("list.json", "l.json"), ("coco.json", "c.json"), ("karpathy.json", "k.json")]
    {
        let (_, found) = kept(folder.path(), data, &["b.jpg", "a.jpg#0"], out).unwrap();
        assert_eq!(pairs(&found), [("a.jpg", 1)], "{data}");
        let text = std::fs::read_to_string(folder.path().join(out)).unwrap();
        assert!(text.contains("two") && !text.contains("b.jpg") && !text.contains("\"one\""), "{text}");
    }
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(text("out.jsonl").contains("\nno json\n") && text("out.jsonl").contains("1.5"));
    assert!(text("c.json").contains("\"year\": 1") && !text("c.json").contains("\"x\""));
    let (_, found) = kept(folder.path(), "lines.jsonl", &["b.jpg"], "whole.jsonl").unwrap();
    assert_eq!(pairs(&found), [("a.jpg", 2)]);
    assert!(text("whole.jsonl").starts_with(lines.lines().next().unwrap()), "a line that stays is not touched");
}

/// Of shards and tables the data are what a folder holds of them, and would hold what is written there.
#[test]
fn nothing_is_written_into_a_folder_of_shards_or_what_a_pattern_matches() {
    let mut shard = tar::Builder::new(Vec::new());
    for (name, bytes) in [("a.jpg", &b"1"[..]), ("a.txt", b"one"), ("b.jpg", b"2"), ("b.txt", b"two")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        shard.append_data(&mut header, name, bytes).unwrap();
    }
    let shard = shard.into_inner().unwrap();
    let folder = folder_of(&[("s/0.tar", &shard), ("elsewhere/x", b"")]);
    for (data, out) in [("s", "s/new"), ("s", "s/deep/new"), ("s/*", "s/new"), ("s", "elsewhere/../s/new")] {
        let error = kept(folder.path(), data, &["a"], out).unwrap_err().to_string();
        assert!(error.contains("lies in the data"), "{data} {out}: {error}");
    }
    assert!(!folder.path().join("s/new").exists());
    let (_, found) = kept(folder.path(), "s/*.tar", &["a"], "s/new").unwrap();
    assert_eq!(pairs(&found), [("b", 1)], "no pattern of shards matches a folder");
}

#[test]
fn folders_and_joined_parts_are_written_again() {
    let table = b"file_name,text\na.jpg,one\nb.jpg,two\n";
    let folder = folder_of(&[
        ("f/train/cat/1.jpg", b"1"),
        ("f/train/cat/2.jpg", b"2"),
        ("f/train/cat/2.txt", b"a cat"),
        ("f/classnames.txt", b"cat"),
        ("m/train/metadata.csv", table),
        ("m/train/a.jpg", b"a"),
        ("m/train/b.jpg", b"b"),
        ("p.csv", b"image,caption\nx.jpg,one\ny.jpg,two\n"),
    ]);
    let (written, found) = kept(folder.path(), "f", &["train/cat/2.jpg"], "f-out").unwrap();
    assert_eq!((pairs(&found), written.files), (vec![("train/cat/1.jpg", 0)], 2));
    assert!(
        folder.path().join("f-out/classnames.txt").is_file() && !folder.path().join("f-out/train/cat/2.txt").exists()
    );
    let (written, found) = kept(folder.path(), "m", &["train/a.jpg"], "m-out").unwrap();
    assert_eq!((pairs(&found), written.image_root), (vec![("train/b.jpg", 1)], None));
    assert!(!folder.path().join("m-out/train/a.jpg").exists());
    let joined = format!("f::{}", folder.path().join("p.csv").display());
    let config = SourceConfig { path: format!("{}/{joined}", folder.path().display()), ..SourceConfig::default() };
    let samples = list_samples(&config, ImageLimits::default()).unwrap().samples;
    let leaving = |sample: &Sample| match sample.id.as_str() {
        "f/train/cat/1.jpg" | "p.csv/y.jpg" => Leaving::Whole,
        _ => Leaving::Nothing,
    };
    let out = folder.path().join("both");
    let written = write_kept(&config, ImageLimits::default(), &samples, &leaving, &out).unwrap();
    assert_eq!(std::fs::read(out.join("p.csv")).unwrap(), b"image,caption\nx.jpg,one\n");
    assert!(out.join("f/train/cat/2.jpg").is_file() && !out.join("f/train/cat/1.jpg").exists());
    assert_eq!(written.path, format!("{0}/f::{0}/p.csv", out.display()));
    // Never into the data, nor over it.
    for out in ["f/new", "f", "."] {
        let error = kept(folder.path(), "f", &["train/cat/2.jpg"], out).unwrap_err().to_string();
        assert!(error.contains("in the data") || error.contains("exists already"), "{out}: {error}");
    }
    let captions = kept(folder.path(), "f", &["train/cat/2.jpg"], "f-out").unwrap_err().to_string();
    assert!(captions.contains("exists already"), "{captions}");
}

/// Pictures of one name in several folders stay those of their own lists.
#[test]
fn joined_lists_that_are_written_elsewhere_lead_to_the_pictures_that_they_led_to() {
    let list = b"image,caption\nx.jpg,one\ny.jpg,two\n";
    let folder = folder_of(&[
        ("a/p.csv", list),
        ("a/x.jpg", b"ax"),
        ("a/y.jpg", b"ay"),
        // Found in the only folder beside the list that has them.
        ("b/p.csv", list),
        ("b/Images/x.jpg", b"bx"),
        ("b/Images/y.jpg", b"by"),
        // Pictures that come along.
        ("m/metadata.csv", b"file_name,text\nx.jpg,one\ny.jpg,two\n"),
        ("m/x.jpg", b"mx"),
        ("m/y.jpg", b"my"),
        ("n/metadata.csv", list),
        ("n/Images/x.jpg", b"nx"),
        ("n/Images/y.jpg", b"ny"),
        ("q/Images/x.jpg", b"qx"),
        ("q/Images/y.jpg", b"qy"),
    ]);
    let columns: [(&str, &[&str]); 2] = [("image", &["x.jpg", "y.jpg"]), ("caption", &["one", "two"])];
    super::parquet::write_texts(&folder.path().join("q/p.parquet"), &columns);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let read = |config: &SourceConfig| -> Vec<(String, Vec<u8>)> {
        let samples = list_samples(config, ImageLimits::default()).unwrap().samples;
        samples.iter().map(|sample| (sample.id.clone(), sample.image.read(99).unwrap())).collect()
    };
    for parts in [
        &["a/p.csv", "b/p.csv", "m", "q/p.parquet"][..],
        &["a/p.csv", "b/p.csv"],
        &["a/p.csv", "m"],
        &["b/p.csv"],
        &["n"],
        &["q/p.parquet"],
    ] {
        let path = parts.iter().map(|part| at(part)).collect::<Vec<_>>().join("::");
        let config = SourceConfig { path, ..SourceConfig::default() };
        let mut before = read(&config);
        let samples = list_samples(&config, ImageLimits::default()).unwrap().samples;
        let dropped = &samples[0].id;
        let leaving = |sample: &Sample| if sample.id == *dropped { Leaving::Whole } else { Leaving::Nothing };
        let ending = parts[0].rsplit_once('.').map_or("folder", |(_, ending)| ending);
        let out = at(&format!("out-{}.{ending}", parts.join("-").replace(['/', '.'], "")));
        let written = write_kept(&config, ImageLimits::default(), &samples, &leaving, Path::new(&out)).unwrap();
        before.retain(|(id, _)| id != dropped);
        let after = SourceConfig { path: written.path, image_root: written.image_root, ..SourceConfig::default() };
        assert_eq!(read(&after), before, "{parts:?}: {:?}", after.image_root);
        let skips = list_samples(&after, ImageLimits::default()).unwrap().skips;
        assert_eq!(skips.total(), 0, "{parts:?}: {}", skips.to_jsonl());
    }
}

/// Two files whose names differ by blanks are two pictures; blanks that no file has are whoever's that wrote the list.
#[test]
fn blanks_around_a_name_are_part_of_it_where_a_file_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.jpg", " a.jpg", "a.jpg ", "b.jpg"];
    names.iter().for_each(|name| std::fs::write(folder.path().join(name), name).unwrap());
    let written = ["a.jpg", " a.jpg", "a.jpg ", " a.jpg ", " b.jpg ", "b.jpg"];
    let rows = |row: &dyn Fn(usize, &str) -> String| -> String {
        written.iter().enumerate().map(|(number, name)| row(number, name)).collect()
    };
    let json = rows(&|number, name| format!("{}\n", serde_json::json!({"image": name, "caption": number.to_string()})));
    let csv = format!("image,caption\n{}", rows(&|number, name| format!("\"{name}\",{number}\n")));
    let plain = format!("image,caption\n{}", rows(&|number, name| format!("{name},{number}\n")));
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("p.jsonl", json);
    write("p.csv", csv);
    write("q.csv", plain);
    let columns: [(&str, &[&str]); 2] = [("image", &written), ("caption", &["0", "1", "2", "3", "4", "5"])];
    super::parquet::write_texts(&folder.path().join("p.parquet"), &columns);
    for name in ["p.jsonl", "p.csv", "q.csv", "p.parquet"] {
        let path = folder.path().join(name);
        let config = |path: &Path| SourceConfig {
            path: path.display().to_string(),
            image_root: Some(folder.path().to_owned()),
            ..SourceConfig::default()
        };
        let seen = |listing: &Listing| -> Vec<(String, String)> {
            listing.samples.iter().map(|s| (s.id.clone(), s.captions.join("+"))).collect()
        };
        let listing = list_samples(&config(&path), ImageLimits::default()).unwrap();
        let expected = [("a.jpg", "0+3"), (" a.jpg", "1"), ("a.jpg ", "2"), ("b.jpg", "4+5")];
        let of = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            expected.iter().map(|(id, captions)| ((*id).to_owned(), (*captions).to_owned())).collect()
        };
        assert_eq!(seen(&listing), of(&expected), "{name}");
        let read = listing.samples.iter().map(|s| String::from_utf8(s.image.read(99).unwrap()).unwrap());
        assert!(read.eq(["a.jpg", " a.jpg", "a.jpg ", "b.jpg"].map(str::to_owned)), "{name}");
        // What is dropped of a list is the same picture.
        for left_out in 0..expected.len() {
            let out = folder.path().join(format!("kept-{left_out}-{name}"));
            let leaving = |sample: &Sample| match sample.id == expected[left_out].0 {
                true => Leaving::Whole,
                false => Leaving::Nothing,
            };
            write_kept(&config(&path), ImageLimits::default(), &listing.samples, &leaving, &out).unwrap();
            let mut rest = expected.to_vec();
            rest.remove(left_out);
            let again = list_samples(&config(&out), ImageLimits::default()).unwrap();
            assert_eq!(seen(&again), of(&rest), "{name} without {left_out}");
        }
    }
}

/// All rows of one picture are one sample, however its path is spelled.
#[test]
fn spellings_of_one_path_are_one_sample_in_every_list() {
    let coco = r#"{"images": [{"id": 1, "file_name": "./img/a.png"}, {"id": 2, "file_name": "img//a.png"}, {"id": 3, "file_name": "img/a.png"}],
        "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 2, "caption": "y"}, {"image_id": 3, "caption": "z"}]}"#;
    for (name, text) in [
        ("pairs.csv", "image,caption\n./img/a.png,x\nimg//a.png,y\nimg/a.png,z\n"),
        (
            "pairs.jsonl",
            "{\"image\": \"./img/a.png\", \"caption\": \"x\"}\n{\"image\": \"img//a.png\", \"caption\": \"y\"}\n\
             {\"image\": \"img/a.png\", \"caption\": \"z\"}\n",
        ),
        ("captions.json", coco),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let config = SourceConfig { path: path.display().to_string(), ..SourceConfig::default() };
        let listing = list_samples(&config, ImageLimits::default()).unwrap();
        let found: Vec<_> = listing.samples.iter().map(|sample| (sample.id.as_str(), sample.captions.len())).collect();
        assert_eq!(found, [("img/a.png", 3)], "{name}");
        // What is left out of it is left out of every row.
        let out = folder.path().join(format!("kept-{name}"));
        let rows = || std::fs::read_to_string(&out).unwrap().matches("a.png").count();
        write_kept(&config, ImageLimits::default(), &listing.samples, &|_| Leaving::Whole, &out).unwrap();
        assert_eq!(rows(), 0, "{name}");
    }
}
