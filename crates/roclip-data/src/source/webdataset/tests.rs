use super::*;
use crate::sample::Sample;
use crate::source::tree::Tree;
use crate::source::{Leaving, SourceConfig, list_samples, write_kept};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

mod damage;

const MEMORY: Memory = Memory { file_bytes: 1 << 20, gzip_bytes: 8 << 20, with_sha256: false };

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // Written by hand: the library refuses what hostile archives hold.
        let field = header.as_gnu_mut().unwrap();
        field.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn list(shards: &[(&str, Vec<u8>)]) -> Listing {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in shards {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let tree = Tree::walk(folder.path()).unwrap();
    WebDataset::of_folder(folder.path().to_owned(), &tree, MEMORY).list().unwrap()
}

fn ids(listing: &Listing) -> Vec<&str> {
    listing.samples.iter().map(|sample| sample.id.as_str()).collect()
}

const WHOLE: [(&str, &[u8]); 4] = [("a.jpg", b"A"), ("a.txt", b"one"), ("b.jpg", b"B"), ("b.txt", b"two")];

#[test]
fn members_are_read_in_place_and_from_memory() {
    let bytes = tar(&WHOLE);
    for shard in [("0.tar", bytes.clone()), ("0.tar.gz", gzip(&bytes))] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(shard.0);
        std::fs::write(&path, shard.1).unwrap();
        let listing = WebDataset::new(vec![path], MEMORY).list().unwrap();
        let read: Vec<_> = listing.samples.iter().map(|s| (s.id.as_str(), s.image.read(9).unwrap())).collect();
        assert_eq!(read, [("a", b"A".to_vec()), ("b", b"B".to_vec())]);
        assert_eq!(listing.skips.total(), 0, "{}", listing.skips.to_jsonl());
    }
}

#[test]
fn keys_that_shards_share_are_told_apart_by_the_shard() {
    let listing = list(&[("0.tar", tar(&WHOLE)), ("1.tar", tar(&WHOLE)), ("2.tar.gz", gzip(&tar(&WHOLE)))]);
    assert_eq!(ids(&listing), ["a", "b", "1/a", "1/b", "2/a", "2/b"]);
    assert!(!listing.samples[0].is_same(&listing.samples[2]));
}

#[test]
fn several_gzip_members_and_several_tars_in_a_file_are_read() {
    let bytes = tar(&WHOLE);
    let (first, last) = bytes.split_at(1024);
    let other = tar(&[("c.jpg", b"C"), ("c.txt", b"three")]);
    let listing = list(&[("0.tar.gz", [gzip(first), gzip(last)].concat()), ("1.tar", [bytes.clone(), other].concat())]);
    assert_eq!(ids(&listing), ["a", "b", "1/a", "1/b", "c"]);
    assert_eq!(listing.skips.total(), 0, "{}", listing.skips.to_jsonl());
}

#[test]
fn members_that_are_not_used_are_counted() {
    let mut members = WHOLE.to_vec();
    members.extend_from_slice(&[
        ("../c.jpg", b"C"),
        ("../c.txt", b"x"),
        ("/d.jpg", b"D"),
        ("e.avif", b"E"),
        ("e.txt", b"x"),
    ]);
    members.extend_from_slice(&[
        ("f.jpg", b"F"),
        ("g.txt", b"x"),
        ("README", b"x"),
        ("a.jpg", b"other"),
        ("h.mp3", b"x"),
    ]);
    let mut bytes = tar(&members);
    bytes.truncate(bytes.len() - 1024);
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_path("l.jpg").unwrap();
    link.set_link_name("/etc/passwd").unwrap();
    link.set_cksum();
    let mut odd = tar::Header::new_gnu();
    odd.set_size(0);
    odd.as_gnu_mut().unwrap().name[..6].copy_from_slice(b"\xff.jpg\0");
    odd.set_cksum();
    bytes.extend_from_slice(link.as_bytes());
    bytes.extend_from_slice(odd.as_bytes());
    bytes.extend_from_slice(&[0; 1024]);
    let listing = list(&[("0.tar", bytes)]);
    assert_eq!(ids(&listing), ["a", "b"]);
    assert!(matches!(listing.samples[0].image, ImageBytes::Span { length: 5, .. }), "the last one of a name is used");
    for (id, reason) in [
        ("0.tar/../c", SkipReason::MemberNameRefused),
        ("0.tar//d", SkipReason::MemberNameRefused),
        ("0.tar/\\xff", SkipReason::MemberNameRefused),
        ("0.tar/e", SkipReason::ImageFormatUnknown),
        ("0.tar/f", SkipReason::NoCaption),
        ("0.tar/g", SkipReason::NoImage),
        ("0.tar/l", SkipReason::MemberIsNoFile),
        ("0.tar/README", SkipReason::MemberUnused),
        ("0.tar/a.jpg (copy 1)", SkipReason::MemberRepeated),
    ] {
        let line = format!("\"id\":{:?},\"reason\":{}", id, serde_json::to_string(&reason).unwrap());
        let all = listing.skips.to_jsonl();
        let found = all.lines().any(|l| {
            let value: serde_json::Value = serde_json::from_str(l).unwrap();
            value["id"] == id && value["reason"] == serde_json::to_value(reason).unwrap()
        });
        assert!(found, "{line}: {all}");
    }
    assert_eq!(listing.skips.total(), 9, "{}", listing.skips.to_jsonl());
}

#[test]
fn odd_metadata_costs_no_pair() {
    let json = [
        r#"{"similarity": NaN}"#,
        r#"{"class": 7}"#,
        r#"{"captions": null, "caption": null}"#,
        r#"{"captions": ["", "  "]}"#,
        "{broken",
        "[]",
        "",
    ];
    for json in json {
        let listing = list(&[("0.tar", tar(&[("a.jpg", b"A"), ("a.txt", b"one"), ("a.json", json.as_bytes())]))]);
        assert_eq!(listing.samples[0].captions, ["one"], "{json}");
        assert_eq!(listing.skips.count(SkipReason::loses_sample), 0, "{json}");
    }
    let listing = list(&[("0.tar", tar(&[("a.jpg", b"A"), ("a.txt", b" \n"), ("a.json", br#"{"caption": "two"}"#)]))]);
    assert_eq!(listing.samples[0].captions, ["two"]);
    let long = "x".repeat(5 << 20);
    let listing = list(&[("0.tar", tar(&[("a.jpg", b"A"), ("a.txt", b"one"), ("a.json", long.as_bytes())]))]);
    assert_eq!((listing.samples.len(), listing.skips.count(SkipReason::loses_sample)), (1, 0));
    assert_eq!(listing.skips.total(), 1);
}

#[test]
fn captions_in_json_are_read_as_those_of_json_lines_and_odd_ones_are_counted() {
    let read = |json: &str| {
        let listing = list(&[("0.tar", tar(&[("a.jpg", b"A"), ("a.json", json.as_bytes())]))]);
        let captions = listing.samples.first().map(|sample| sample.captions.clone()).unwrap_or_default();
        (captions, listing.skips.to_jsonl())
    };
    let (captions, told) = read(r#"{"captions": ["a", 7, {"raw": "b"}]}"#);
    assert_eq!((captions, told.as_str()), (vec!["a".to_owned(), "7".into(), "b".into()], ""));
    let (captions, told) = read(r#"{"caption": ["a", ["deep"], "b"]}"#);
    assert_eq!(captions, ["a", "b"]);
    assert!(told.contains("metadata-unreadable") && told.contains("1 of its 3 captions are no text"), "{told}");
    for (json, words) in [
        (r#"{"caption": [["deep"]]}"#, "1 of its 1 captions are no text"),
        (r#"{"caption": "a", "caption": "b"}"#, "it has `caption` twice"),
        (r#"{"caption": "a", "Caption": "b"}"#, "it has `caption` and `Caption`"),
        (r#"{"captions": [{"raw": "a", "raw": "b"}]}"#, "it has `captions.0.raw` twice"),
        ("[]", "it is no object"),
    ] {
        let (captions, told) = read(json);
        assert!(captions.is_empty() && told.contains(words), "{json}: {told}");
    }
    // With a text beside it the pair is used.
    let twice = br#"{"class": "x", "class": "y"}"#;
    let listing = list(&[("0.tar", tar(&[("a.jpg", b"A"), ("a.txt", b"one"), ("a.json", twice)]))]);
    assert_eq!((listing.samples[0].class.as_deref(), listing.skips.total()), (None, 1));
    assert_eq!(listing.skips.count(SkipReason::loses_sample), 0);
}

#[test]
fn memory_is_bounded_by_picture_and_by_all_gzip_shards() {
    let (picture, long) = (vec![1u8; 900 << 10], vec![1u8; 3 << 20]);
    let shard =
        |key: &str, bytes: &[u8]| gzip(&tar(&[(&format!("{key}.png"), bytes), (&format!("{key}.txt"), b"one")]));
    let listing = list(&[("0.tar.gz", shard("a", &long))]);
    assert_eq!(listing.skips.count(|reason| reason == SkipReason::ImageFileTooLarge), 1);
    let shards: Vec<_> = (0..12).map(|n| (format!("{n:02}.tar.gz"), shard(&format!("k{n}"), &picture))).collect();
    let shards: Vec<_> = shards.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let listing = list(&shards);
    assert_eq!(listing.samples.len(), 9, "8 MiB hold nine pictures of 900 KiB");
    assert_eq!(listing.skips.count(|reason| reason == SkipReason::ShardTooLarge), 3);
    // A member that is passed over is unpacked all the same, but not without end.
    let zeros = list(&[("0.tar.gz", shard("a", &vec![0; 20 << 20]))]);
    assert_eq!(zeros.skips.count(|reason| reason == SkipReason::ShardTooLarge), 1, "{}", zeros.skips.to_jsonl());
}

#[test]
fn what_lies_beside_the_shards_is_counted_and_folders_of_shards_are_found() {
    let shard = || tar(&WHOLE);
    let deeper = list(&[("train/0.tar", shard()), ("test/0.tar", shard()), ("notes.parquet", Vec::new())]);
    let splits: Vec<_> = deeper.samples.iter().map(|s| s.split.as_deref()).collect();
    assert_eq!(splits, [Some("test"), Some("test"), Some("train"), Some("train")]);
    assert_eq!(ids(&deeper), ["a", "b", "train/0/a", "train/0/b"]);
    let beside = list(&[("0.tar", shard()), ("old/1.tar", shard()), ("x/y.png", Vec::new())]);
    assert_eq!((beside.samples.len(), beside.skips.count(|r| r == SkipReason::MemberUnused)), (2, 2));
}

#[test]
fn shards_are_written_again_without_some_samples_and_with_all_their_other_members() {
    let first = tar(&[
        ("a.jpg", b"1"),
        ("a.txt", b"one"),
        ("a.v2.jpg", b"2"),
        ("a.v2.txt", b"two"),
        ("b.jpg", b"3"),
        ("b.txt", b"three"),
        ("b.seg.npy", b"4"),
        ("c.jpg", b"5"),
        ("c.json", b"{\"caption\": \"four\"}"),
        ("c.other", b"6"),
    ]);
    let second = gzip(&tar(&[("a.jpg", b"7"), ("a.txt", b"again"), ("d.jpg", b"8"), ("d.txt", b"five")]));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("0.tar"), first).unwrap();
    std::fs::write(data.join("1.tar.gz"), second).unwrap();
    let config = |path: &Path| SourceConfig { path: path.display().to_string(), ..SourceConfig::default() };
    let limits = crate::picture::ImageLimits::default();
    let samples = list_samples(&config(&data), limits).unwrap().samples;
    assert_eq!(samples.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["a.v2", "a", "b", "c", "1/a", "d"]);
    let leaving = |sample: &Sample| match sample.id.as_str() {
        "a" | "b" | "d" => Leaving::Whole,
        _ => Leaving::Nothing,
    };
    let out = folder.path().join("out");
    let written = write_kept(&config(&data), limits, &samples, &leaving, &out).unwrap();
    assert_eq!((written.files, written.not_copied.total()), (2, 0));
    let left = list_samples(&config(&out), limits).unwrap().samples;
    assert_eq!(left.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["a.v2", "c", "a"]);
    let bytes = |sample: &Sample| sample.image.read(99).unwrap();
    assert_eq!(left.iter().map(bytes).collect::<Vec<_>>(), [b"2", b"5", b"7"]);
    let mut archive = tar::Archive::new(std::fs::File::open(out.join("0.tar")).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, ["a.v2.jpg", "a.v2.txt", "c.jpg", "c.json", "c.other"]);
    // One shard may become one file.
    let one = folder.path().join("one.tar");
    write_kept(&config(&data.join("0.tar")), limits, &samples[..4], &leaving, &one).unwrap();
    assert_eq!(list_samples(&config(&one), limits).unwrap().samples.len(), 2);
    let captions = |_: &Sample| Leaving::Captions(vec![0]);
    let error =
        write_kept(&config(&data), limits, &samples, &captions, &folder.path().join("x")).unwrap_err().to_string();
    assert!(error.contains("single captions") && !folder.path().join("x").exists(), "{error}");
}

#[test]
fn what_a_shard_says_of_its_pictures_is_kept_where_it_is_asked_for() {
    let digest = crate::artifact::sha256_hex(b"1");
    let json = format!("{{\"caption\": \"one\", \"sha256\": \"{digest}\", \"original_width\": 4}}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tar");
    std::fs::write(&path, tar(&[("a.jpg", b"1"), ("a.json", json.as_bytes())])).unwrap();
    for with_sha256 in [false, true] {
        let config = SourceConfig { path: path.display().to_string(), with_sha256, ..SourceConfig::default() };
        let samples = list_samples(&config, crate::picture::ImageLimits::default()).unwrap().samples;
        assert_eq!(samples[0].stated.as_ref().map(|stated| stated.of_download), with_sha256.then_some(true));
    }
}

/// A shard of `count` samples named after `shard`.
fn shard_of(shard: &str, count: usize) -> Vec<u8> {
    let members: Vec<(String, &[u8])> = (0..count)
        .flat_map(|number| {
            [(format!("{shard}-{number}.jpg"), &b"J"[..]), (format!("{shard}-{number}.txt"), &b"text"[..])]
        })
        .collect();
    tar(&members.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect::<Vec<_>>())
}

/// Members of any size are found where they are, whatever was read ahead.
#[test]
fn members_longer_and_shorter_than_what_is_read_ahead_are_found() {
    let lengths = [0usize, 1, 511, 512, 513, 7_000, 8_192, 8_193, 20_000, 100_000, 3];
    let pictures: Vec<Vec<u8>> = lengths.iter().map(|length| vec![*length as u8; *length]).collect();
    let names: Vec<String> = (0..lengths.len()).map(|number| format!("{number:02}")).collect();
    let files: Vec<(String, &[u8])> = names
        .iter()
        .zip(&pictures)
        .flat_map(|(name, picture)| {
            [(format!("{name}.jpg"), picture.as_slice()), (format!("{name}.txt"), name.as_bytes())]
        })
        .collect();
    let members: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0.tar"), tar(&members)).unwrap();
    let tree = Tree::walk(folder.path()).unwrap();
    let listing = WebDataset::of_folder(folder.path().to_owned(), &tree, MEMORY).list().unwrap();
    assert_eq!((listing.samples.len(), listing.skips.total()), (lengths.len(), 0), "{}", listing.skips.to_jsonl());
    for (sample, (name, picture)) in listing.samples.iter().zip(names.iter().zip(&pictures)) {
        assert_eq!((&sample.captions[0], &sample.image.read(1 << 20).unwrap()), (name, picture));
    }
}

#[test]
fn a_list_of_classes_is_a_class_where_it_names_one() {
    let shard = tar(&[
        ("a.jpg", b"A"),
        ("a.json", br#"{"caption": "one", "classes": ["cat"]}"#),
        ("b.jpg", b"B"),
        ("b.json", br#"{"caption": "two", "label": ["cat", "dog"]}"#),
        ("c.jpg", b"C"),
        ("c.json", br#"{"class": ["cat", "dog"]}"#),
        ("d.jpg", b"D"),
        ("d.json", br#"{"class": ["cat", "dog"]}"#),
        ("d.cls", b"dog"),
    ]);
    let listing = list(&[("0.tar", shard)]);
    let found: Vec<_> = listing.samples.iter().map(|s| (s.id.as_str(), s.class.as_deref())).collect();
    assert_eq!(found, [("a", Some("cat")), ("b", None), ("d", Some("dog"))]);
    let told = listing.skips.to_jsonl();
    assert!(told.contains(r#""reason":"several-classes""#) && told.contains("of 2 classes (`cat`, `dog`)"), "{told}");
    assert_eq!(listing.skips.count(SkipReason::loses_sample), 1, "{told}");
    assert_eq!(listing.skips.count(|reason| reason == SkipReason::NoClass), 1, "{told}");
}
