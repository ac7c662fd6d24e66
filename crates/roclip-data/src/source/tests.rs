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
