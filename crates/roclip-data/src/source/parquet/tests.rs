use crate::picture::ImageLimits;
use crate::sample::{ImageBytes, Sample};
use crate::shard::Shard;
use crate::skip::SkipReason;
use crate::source::parquet::test_files::{Column, texts, write};
use crate::source::{Leaving, Listing, SourceConfig, list_samples, write_kept};
use crate::table::{Cell, Table};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// `tests/golden/parquet.py` wrote the file with pyarrow.
fn golden(name: &str) -> Vec<u8> {
    let all: HashMap<String, String> =
        serde_json::from_str(include_str!("../../../../../tests/golden/parquet.json")).unwrap();
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &all[name]).unwrap()
}

fn list(path: &Path) -> crate::error::Result<Listing> {
    let path = path.display().to_string();
    list_samples(&SourceConfig { path, ..SourceConfig::default() }, ImageLimits::default())
}

/// The listing of files, `(name in a folder, golden name)`, and of other files, by the name `of`.
fn read(files: &[(&str, &str)], others: &[&str], of: &str) -> crate::error::Result<Listing> {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    files.iter().for_each(|(name, of)| place(name, &golden(of)));
    others.iter().for_each(|name| place(name, b"x"));
    list(&folder.path().join(of))
}

fn seen(listing: &Listing) -> Vec<(&str, Vec<&str>, Option<&str>)> {
    let samples = listing.samples.iter();
    samples.map(|s| (s.id.as_str(), s.captions.iter().map(String::as_str).collect(), s.class.as_deref())).collect()
}

/// A picture of one grey.
fn png(level: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([level; 3]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn levels(listing: &Listing) -> Vec<u8> {
    listing.samples.iter().map(|s| s.picture(ImageLimits::default()).unwrap().get_pixel(3, 3)[0]).collect()
}

#[test]
fn different_pictures_of_one_path_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let pictures = Column::Bytes(vec![png(10), png(20), png(10), png(30)]);
    let columns =
        [("filepath", texts(&["a.png"; 4])), ("image", pictures), ("caption", texts(&["one", "two", "three", "four"]))];
    write(&path, &columns);
    let listing = list(&path).unwrap();
    let expected = [
        ("a.png", vec!["one", "three"], None),
        ("a.png#row-2", vec!["two"], None),
        ("a.png#row-4", vec!["four"], None),
    ];
    assert_eq!((seen(&listing), levels(&listing)), (expected.to_vec(), vec![10, 20, 30]));
}

#[test]
fn a_picture_in_the_file_is_never_read_from_a_file_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    std::fs::write(folder.path().join("a.png"), png(200)).unwrap();
    let long = "x".repeat(70 << 10);
    let columns = [
        ("filepath", texts(&["a.png"; 3])),
        ("image", Column::Bytes(vec![png(10); 3])),
        ("caption", texts(&[&long, "ok", "more"])),
    ];
    write(&path, &columns);
    let listing = list(&path).unwrap();
    assert_eq!((seen(&listing), levels(&listing)), (vec![("a.png", vec!["ok", "more"], None)], vec![10]));
    assert_eq!(listing.skips.count(|reason| reason == SkipReason::CaptionTooLarge), 1);
    // Nor where the picture itself is too large.
    let config = SourceConfig { path: path.display().to_string(), ..SourceConfig::default() };
    let small = ImageLimits { max_file_bytes: 10, ..ImageLimits::default() };
    let error = list_samples(&config, small).unwrap_err().to_string();
    assert!(error.contains("3 image files too large"), "{error}");
}

/// Integers with a gap are floats to pandas.
#[test]
fn whole_floats_are_classes_and_other_labels_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let pictures = || Column::Bytes((0..4).map(|number| png(10 * number)).collect());
    let labels = || Column::Floats(vec![3.0, f64::NAN, 2.5, -1.0]);
    write(&path, &[("image", pictures()), ("caption", texts(&["a", "b", "c", "d"])), ("label", labels())]);
    let listing = list(&path).unwrap();
    let classes: Vec<_> = listing.samples.iter().map(|sample| sample.class.as_deref()).collect();
    assert_eq!(classes, [Some("3"), None, None, Some("-1")], "no names are given here that a number stands for");
    let told = listing.skips.to_jsonl();
    assert!(told.contains("its `label` is 2.5, no whole number") && listing.skips.total() == 1, "{told}");
    write(&path, &[("image", pictures()), ("label", labels())]);
    let listing = list(&path).unwrap();
    let told = listing.skips.to_jsonl();
    assert_eq!((listing.samples.len(), listing.skips.total()), (2, 2), "{told}");
    assert!(told.contains("no-class") && told.contains("row-unreadable"), "{told}");
    write(&path, &[("image", pictures()), ("label", Column::Dates(vec![1; 4]))]);
    let error = list(&path).unwrap_err().to_string();
    assert!(error.contains("4 rows cannot be read") && error.contains("a date, which is not read"), "{error}");
}

#[test]
fn pictures_in_the_file_are_read_and_one_picture_is_one_sample() {
    for kind in ["hugging_face", "hugging_face_zstd", "hugging_face_gzip"] {
        let listing = read(&[("pairs.parquet", kind)], &[], "pairs.parquet").unwrap();
        let expected = [
            ("a.jpg", vec!["A red one", "red"], Some("rose")),
            ("a.jpg#row-3", vec!["green"], Some("leaf")),
            ("row-4", vec!["x"], Some("leaf")),
            ("beside.jpg", vec!["y"], Some("leaf")),
        ];
        assert_eq!(seen(&listing), expected, "{kind}");
        assert!(listing.skips.names("row 6") && listing.skips.total() == 1, "{}", listing.skips.to_jsonl());
        for (sample, green) in listing.samples.iter().zip([false, true, true]) {
            let picture = sample.picture(ImageLimits::default()).unwrap();
            assert_eq!((picture.width(), picture.get_pixel(3, 3)[1] > 200), (8, green), "{kind} {}", sample.id);
        }
        assert!(!listing.samples[0].is_same(&listing.samples[1]));
    }
}

/// `datasets` writes -1 where a picture has no label.
#[test]
fn a_label_below_zero_is_none() {
    let listing = read(&[("pairs.parquet", "unlabelled")], &[], "pairs.parquet").unwrap();
    let classes: Vec<_> = listing.samples.iter().map(|sample| sample.class.as_deref()).collect();
    assert_eq!(classes, [Some("leaf")], "with neither caption nor class a row is of no use");
    assert!(listing.skips.names("row 1"), "{}", listing.skips.to_jsonl());
}

#[test]
fn lists_paths_and_what_img2dataset_fetched_are_read() {
    let lists = read(&[("pairs.parquet", "lists")], &[], "pairs.parquet").unwrap();
    assert_eq!(seen(&lists), [("row-1", vec!["A red one", "red"], None), ("row-2", vec!["green"], None)]);
    assert_eq!(lists.samples[1].split.as_deref(), Some("test"));
    let paths = read(&[("pairs.parquet", "paths")], &[], "pairs.parquet").unwrap();
    assert_eq!(seen(&paths), [("a.jpg", vec!["A dog", "dogs"], None)]);
    assert_eq!(paths.skips.count(|reason| reason == SkipReason::RowWithoutImage), 1);
    let fetched = read(&[("00000.parquet", "img2dataset")], &["00000/000000000.jpg"], "00000.parquet").unwrap();
    assert_eq!(seen(&fetched), [("00000/000000000.jpg", vec!["A dog"], None)]);
    let skips = fetched.skips.to_jsonl();
    assert!(skips.contains("failed_to_download") && skips.contains("does not lie in"), "{skips}");
}

#[test]
fn a_list_of_classes_is_a_class_where_it_names_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let lists = [vec!["cat"], vec!["cat", "dog"], vec!["dog", "dog"], vec!["cat", "dog"]];
    let lists = lists.map(|list| list.into_iter().map(str::to_owned).collect()).to_vec();
    let columns = [
        ("image", texts(&["a.jpg", "b.jpg", "c.jpg", "d.jpg"])),
        ("caption", texts(&["one", "two", "", ""])),
        ("classes", Column::Lists(lists)),
    ];
    write(&path, &columns);
    let listing = list(&path).unwrap();
    let expected = [("a.jpg", vec!["one"], Some("cat")), ("b.jpg", vec!["two"], None), ("c.jpg", vec![], Some("dog"))];
    assert_eq!(seen(&listing), expected);
    let told = listing.skips.to_jsonl();
    assert!(told.contains("b.jpg: it is of 2 classes (`cat`, `dog`)") && told.contains("d.jpg: it is"), "{told}");
    assert_eq!(listing.skips.total(), 2, "{told}");
}

#[test]
fn a_folder_of_files_has_the_splits_of_their_names() {
    let files =
        [("data/train-00000-of-00001.parquet", "lists"), ("data/test-00000-of-00001-0ab.parquet", "hugging_face")];
    let listing = read(&files, &[], "").unwrap();
    let of = |split: &str| listing.samples.iter().filter(|sample| sample.split.as_deref() == Some(split)).count();
    // The column of the first file says otherwise of one row.
    assert_eq!((of("train"), of("test")), (1, 5));
    assert!(listing.samples.iter().any(|sample| sample.id == "train-00000-of-00001.parquet/row-1"), "{listing:?}");
}

#[test]
fn what_is_no_table_of_pictures_is_refused_or_counted() {
    let addresses = read(&[("pairs.parquet", "addresses")], &[], "pairs.parquet").unwrap_err().to_string();
    assert!(addresses.contains("`url`, `caption`") && addresses.contains("img2dataset"), "{addresses}");
    let bytes = golden("hugging_face");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    for percent in 0..100 {
        std::fs::write(&path, &bytes[..bytes.len() * percent / 100]).unwrap();
        let error = list(&path).unwrap_err().to_string();
        assert!(error.contains("shard or folder cannot be read"), "{percent}: {error}");
    }
    // Damage within is an error, a loss that is counted, or other pictures; it is never a panic.
    for at in (4..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x5a;
        std::fs::write(&path, &damaged).unwrap();
        let _ = list(&path);
    }
}

/// The footer says where every group of rows is.
#[test]
fn groups_behind_a_damaged_one_are_read_and_the_lost_rows_are_counted() {
    let sound = golden("groups");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    std::fs::write(&path, &sound).unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [13, 13, 13, 1]);
    // Its pages, of all columns.
    let span = |group: usize| {
        let columns = groups[group].columns().iter().map(|column| column.byte_range());
        columns.fold((u64::MAX, 0), |(from, to), (at, length)| (from.min(at), to.max(at + length)))
    };
    let ids = |damaged: &[usize]| {
        let mut bytes = sound.clone();
        for group in damaged {
            let (from, to) = span(*group);
            bytes[from as usize..to as usize].fill(0xff);
        }
        std::fs::write(&path, bytes).unwrap();
        list(&path).map(|listing| {
            let ids: Vec<String> = listing.samples.iter().map(|sample| sample.id.clone()).collect();
            let pictures = listing.samples.iter().map(|sample| sample.picture(ImageLimits::default()).unwrap());
            assert!(pictures.zip(&ids).all(|(picture, id)| {
                let number: i32 = id.trim_start_matches("row-").parse().unwrap();
                (i32::from(picture.get_pixel(3, 3)[0]) - 6 * (number - 1)).abs() < 9
            }));
            (ids, listing.lost_samples, listing.skips.to_jsonl())
        })
    };
    let rows = |ranges: &[std::ops::RangeInclusive<usize>]| -> Vec<String> {
        ranges.iter().cloned().flatten().map(|number| format!("row-{number}")).collect()
    };
    assert_eq!(ids(&[]).unwrap().0, rows(&[1..=40]));
    for (damaged, expected, lost, words) in [
        (&[1][..], rows(&[1..=13, 27..=40]), 13, "rows 14 to 26 are damaged"),
        (&[0, 2], rows(&[14..=26, 40..=40]), 26, "so are rows of 1 further group; 26 samples with it"),
        (&[3], rows(&[1..=39]), 1, "rows 40 to 40 are damaged"),
    ] {
        let (found, samples, said) = ids(damaged).unwrap();
        assert_eq!((&found, samples), (&expected, lost), "{damaged:?} {said}");
        assert!(said.contains(words) && said.contains("shard-truncated"), "{said}");
    }
    let said = ids(&[0, 1, 2, 3]).unwrap_err().to_string();
    assert!(said.contains("rows 1 to 13 are damaged"), "{said}");
}

/// Pictures of which a limit of memory holds none are those that it holds; in any order and from several threads.
#[test]
fn pictures_that_memory_does_not_hold_are_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let listed = |gzip_memory_mib| {
        let config = SourceConfig { path: path.display().to_string(), gzip_memory_mib, ..SourceConfig::default() };
        list_samples(&config, ImageLimits::default()).unwrap().samples
    };
    for kind in
        ["hugging_face", "hugging_face_zstd", "hugging_face_gzip", "lists", "groups", "delta", "delta_v2", "fixed"]
    {
        std::fs::write(&path, golden(kind)).unwrap();
        let (held, in_place) = (listed(1), listed(0));
        assert_eq!(held.len(), in_place.len());
        assert!(kind != "groups" || held.len() == 40, "{}", held.len());
        let in_file = |sample: &&Sample| !matches!(sample.image, ImageBytes::File(_));
        assert!(
            in_place.iter().filter(in_file).all(|sample| matches!(sample.image, ImageBytes::Cell { .. })),
            "{kind}"
        );
        let same = |(a, b): (&Sample, &Sample)| {
            let bytes = [a, b].map(|sample| sample.image.read(1 << 20).ok());
            assert!(bytes[0] == bytes[1], "{kind} {}", a.id);
            assert!(a.is_same(b) && a.image.probe(ImageLimits::default()) == b.image.probe(ImageLimits::default()));
        };
        std::thread::scope(|scope| {
            for step in [1, 7, 39] {
                let (held, in_place) = (&held, &in_place);
                let at = move |number: usize| number * step % held.len();
                scope
                    .spawn(move || (0..held.len()).for_each(|number| same((&held[at(number)], &in_place[at(number)]))));
            }
        });
        same((&held[0], &in_place[0]));
    }
    // Another file in its place is no picture.
    let before = listed(0);
    std::fs::write(&path, &golden("groups")[1..]).unwrap();
    std::thread::spawn(move || before[0].image.read(1 << 20).unwrap_err()).join().unwrap();
}

/// Lengths are packed as differences, behind a count of them that made the decoder ask for terabytes, which ends a process.
#[test]
fn a_page_that_claims_more_lengths_than_it_has_values_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    let head = [0x80, 0x01, 4, 12];
    for kind in ["delta", "delta_v2"] {
        let sound = golden(kind);
        let places: Vec<usize> = (0..sound.len()).filter(|at| sound[*at..].starts_with(&head)).collect();
        assert!(places.len() >= 3, "{places:?}");
        for at in places {
            for count in [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], &[0x80, 0x80, 0x80, 0x80, 0x01], &[13]] {
                let mut bytes = sound.clone();
                bytes[at + 3..at + 3 + count.len()].copy_from_slice(count);
                std::fs::write(&path, bytes).unwrap();
                let said = match list(&path) {
                    Ok(listing) => listing.skips.to_jsonl(),
                    Err(error) => error.to_string(),
                };
                assert!(said.contains("claims") || said.contains("cut off"), "{kind} {at}: {said}");
            }
        }
    }
}

/// A place that some other index names is no picture, and never a panic.
#[test]
fn cells_that_are_not_there_are_skips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    std::fs::write(&path, golden("groups")).unwrap();
    let table = Arc::new(Table::new(Arc::new(Shard::open(&path).unwrap().0)));
    let sound = Cell { column: 0, group: 1, row: 2, length: 0 };
    for cell in [
        sound,
        Cell { column: 90, ..sound },
        Cell { column: 2, ..sound },
        Cell { group: 90, ..sound },
        Cell { row: 90, ..sound },
        Cell { row: u32::MAX, length: u64::MAX, ..sound },
    ] {
        assert!(table.read(&cell).is_err(), "{cell:?}");
    }
}

#[test]
fn a_dictionary_that_claims_more_than_it_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.parquet");
    // It made the reader ask for 25 GB.
    std::fs::write(&path, include_bytes!("../../../../../tests/golden/parquet_dictionary.bin")).unwrap();
    let error = list(&path).unwrap_err().to_string();
    assert!(error.contains("a dictionary claims"), "{error}");
}

#[test]
fn parquet_is_written_again_without_some_rows_and_with_all_columns() {
    for kind in ["hugging_face", "hugging_face_zstd", "hugging_face_gzip"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("pairs.parquet"), folder.path().join("out.parquet"));
        std::fs::write(&path, golden(kind)).unwrap();
        let config = SourceConfig { path: path.display().to_string(), ..SourceConfig::default() };
        let before = list(&path).unwrap();
        let leaving = |sample: &Sample| match sample.id.as_str() {
            "row-4" => Leaving::Whole,
            "a.jpg" => Leaving::Captions(vec![1]),
            _ => Leaving::Nothing,
        };
        write_kept(&config, ImageLimits::default(), &before.samples, &leaving, &out).unwrap();
        let after = list(&out).unwrap();
        // The rows behind have other numbers now.
        let expected = [
            ("a.jpg", vec!["A red one"], Some("rose")),
            ("a.jpg#row-2", vec!["green"], Some("leaf")),
            ("beside.jpg", vec!["y"], Some("leaf")),
        ];
        assert_eq!(seen(&after), expected, "{kind}");
        for (one, other) in [(0, 0), (1, 1)] {
            let bytes = |listing: &Listing, at: usize| listing.samples[at].image.read(1 << 20).unwrap();
            assert_eq!(bytes(&before, one), bytes(&after, other));
        }
        let columns = |path: &Path| {
            let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
            let groups: i64 = reader.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
            (reader.metadata().file_metadata().schema().clone(), groups)
        };
        assert_eq!(columns(&path).0, columns(&out).0);
        assert_eq!(columns(&out).1, columns(&path).1 - 2);
    }
}
