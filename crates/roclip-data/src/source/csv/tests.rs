use super::*;
use crate::source::rows::{Root, image_root};
use std::path::Path;

fn read(text: &str, config: SourceConfig) -> Result<Listing> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.csv");
    std::fs::write(&path, text).unwrap();
    Csv::new(path, config).list()
}

fn seen(listing: &Listing) -> Vec<(&str, Vec<&str>)> {
    let samples = listing.samples.iter();
    samples.map(|s| (s.id.as_str(), s.captions.iter().map(String::as_str).collect())).collect()
}

#[test]
fn sniffs_dialects_and_groups_captions() {
    for text in [
        "filepath\ttitle\na.jpg\tA dog\na.jpg\tdogs, two\n",
        "filepath\ttitle\na.jpg\tA dog\na.jpg\t\"dogs, two\"\n",
        "image,caption\na.jpg,A dog\na.jpg,\"dogs, two\"\n",
        "path,caption\na.jpg,A dog\na.jpg,\"dogs, two\"",
        "\u{feff}filepath,title\r\na.jpg,A dog\r\na.jpg,\"dogs, two\"\r\n",
        "\"id, number\",\"image\",\"caption\"\n1,a.jpg,A dog\n2,a.jpg,\"dogs, two\"\n",
        "filepath;title\na.jpg;A dog\na.jpg;dogs, two\n",
        "image_name| comment_number| comment\na.jpg| 0| A dog\na.jpg| 1| dogs, two\n",
        "file_name,text\na.jpg,A dog\na.jpg,\"dogs, two\"\n",
        "Image_ID,Caption\na.jpg,A dog\na.jpg,\"dogs, two\"\n",
        "a.jpg#0\tA dog\na.jpg#1\tdogs, two\n",
    ] {
        let listing = read(text, SourceConfig::default()).unwrap();
        assert_eq!(seen(&listing), [("a.jpg", vec!["A dog", "dogs, two"])], "{text}");
        assert_eq!(listing.skips.total(), 0, "{text}");
    }
}

#[test]
fn a_missing_column_names_those_that_exist() {
    let error = read("image,words\na.jpg,x\n", SourceConfig::default()).unwrap_err().to_string();
    assert!(error.contains("`image`, `words`") && error.contains("caption_column"), "{error}");
    let utf16 = read("\u{0}", SourceConfig::default()).unwrap_err().to_string();
    assert!(utf16.contains("column"), "{utf16}");
}

#[test]
fn a_row_of_more_fields_than_the_header_is_counted() {
    let text =
        "image,caption,class\na.jpg,a dog, running on grass,dog\nb.jpg,\"a dog, running\",dog\nc.jpg,x,y,\nd.jpg,z\n";
    let listing = read(text, SourceConfig::default()).unwrap();
    assert_eq!(seen(&listing), [("b.jpg", vec!["a dog, running"]), ("c.jpg", vec!["x"]), ("d.jpg", vec!["z"])]);
    assert!(listing.skips.to_jsonl().contains("line 2 has 4 fields, the header 3"), "{}", listing.skips.to_jsonl());
    assert_eq!(listing.skips.total(), 1);
}

#[test]
fn a_column_that_stands_twice_is_refused() {
    for text in ["image,caption,caption\na.jpg,x,y\n", "image,Image,caption\na.jpg,b.jpg,y\n"] {
        let error = read(text, SourceConfig::default()).unwrap_err().to_string();
        assert!(error.contains("several columns") && error.contains("different names"), "{error}");
    }
    assert_eq!(read("image,caption,note,note\na.jpg,x,1,2\n", SourceConfig::default()).unwrap().samples.len(), 1);
}

#[test]
fn columns_by_number_mean_no_header_and_empty_captions_are_counted() {
    let config = SourceConfig {
        image_column: Some("1".into()),
        split_column: Some("2".into()),
        caption_column: Some("3".into()),
        ..SourceConfig::default()
    };
    let listing = read("a.jpg\ttrain\tone \"quoted, of, many\nb.jpg\ttest\t\n", config).unwrap();
    assert_eq!(listing.samples[0].captions, ["one \"quoted, of, many"]);
    assert_eq!(listing.samples[0].split.as_deref(), Some("train"));
    assert!(listing.skips.summary().contains("1 no caption"), "{}", listing.skips.summary());
}

#[test]
fn paths_out_of_the_folder_are_counted_unless_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.csv");
    let inside = folder.path().join("b.jpg").display().to_string();
    let text =
        format!("image,caption\n/etc/a.jpg,x\n../a.jpg,x\n{inside},x\nc/../../a.jpg,x\nhttps://a.b/c.jpg,x\nd.jpg,x\n");
    std::fs::write(&path, text).unwrap();
    let list = |config| Csv::new(path.clone(), config).list().unwrap();
    let strict = list(SourceConfig::default());
    assert_eq!(strict.samples.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), [&inside, "d.jpg"]);
    assert_eq!(strict.skips.count(|reason| reason == SkipReason::ImageOutsideFolder), 3);
    assert_eq!(strict.skips.count(|reason| reason == SkipReason::ImageIsAddress), 1);
    let said = strict.skips.to_jsonl();
    assert!(said.contains("--set data.source.outside_paths=true") && said.contains("--image-root"), "{said}");
    let open = list(SourceConfig { outside_paths: true, ..SourceConfig::default() });
    assert_eq!((open.samples.len(), open.skips.total()), (5, 1));
    // A list in the current folder.
    assert!(
        Root::new(image_root(Path::new("pairs.csv"), &SourceConfig::default()), false).image("/etc/a.jpg").is_err()
    );
    let rooted = list(SourceConfig { image_root: Some("/etc".into()), ..SourceConfig::default() });
    assert!(rooted.samples.iter().any(|s| s.id == "/etc/a.jpg"));
}

#[test]
fn rows_that_make_no_sense_are_counted_one_by_one() {
    let text = format!(
        "image,caption,split\na.jpg,x,train\n,y,train\nb.jpg,,train\na.jpg,z,test\nc.jpg,\"open,train\nd.jpg,{},\ne.jpg,w,\n",
        "long ".repeat(20_000)
    );
    let listing = read(&text, SourceConfig::default()).unwrap();
    assert_eq!(seen(&listing), [("a.jpg", vec!["x"]), ("e.jpg", vec!["w"])]);
    let lines = listing.skips.to_jsonl();
    for row in 2..=6 {
        assert!(lines.contains(&format!("\"row {row}\"")), "{row}: {lines}");
    }
    assert_eq!(listing.skips.total(), 5, "{lines}");
}

#[test]
fn one_image_may_have_a_thousand_captions() {
    let rows: String = (0..1_500).map(|n| format!("a.jpg,text {n}\n")).collect();
    let listing = read(&format!("image,caption\n{rows}"), SourceConfig::default()).unwrap();
    assert_eq!((listing.samples[0].captions.len(), listing.skips.total()), (1_000, 500));
}

#[test]
fn pictures_may_lie_in_the_one_folder_beside_their_list() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("captions.txt", "image,caption\na.jpg,A dog\nb.jpg,x\n");
    write("Images/a.jpg", "x");
    let list = || Csv::new(folder.path().join("captions.txt"), SourceConfig::default()).list().unwrap().samples;
    let file = |sample: &crate::sample::Sample| match &sample.image {
        crate::sample::ImageBytes::File(path) => path.clone(),
        _ => PathBuf::new(),
    };
    assert_eq!(file(&list()[1]), folder.path().join("Images/b.jpg"));
    // Two folders do not say which is meant.
    write("Thumbs/a.jpg", "x");
    assert_eq!(file(&list()[0]), folder.path().join("a.jpg"));
}

#[test]
fn separators_and_encodings_can_be_named() {
    let named = |separator: &str| SourceConfig { csv_separator: Some(separator.into()), ..SourceConfig::default() };
    // A caption with more commas than the list has columns.
    let text = "image^caption\na.jpg^a, b, c\n";
    assert_eq!(seen(&read(text, named("^")).unwrap()), [("a.jpg", vec!["a, b, c"])]);
    for tab in ["tab", "\\t", "\t"] {
        assert_eq!(seen(&read("image\tcaption\na.jpg\tx,y\n", named(tab)).unwrap()), [("a.jpg", vec!["x,y"])]);
    }
    for wrong in ["", "ab", "a", "\"", "\n", "é"] {
        let error = read(text, named(wrong)).unwrap_err().to_string();
        assert!(error.contains("csv_separator"), "{wrong:?}: {error}");
    }
    assert!(read("image,caption\na.jpg,x\n", named(";")).is_err(), "the one that is named is the one that is used");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.csv");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    let encoded = |encoding: Option<&str>| {
        Csv::new(path.clone(), SourceConfig { csv_encoding: encoding.map(str::to_owned), ..SourceConfig::default() })
            .list()
    };
    write(b"image,caption\na.jpg,a caf\xe9\nb.jpg,plain\n");
    assert_eq!(seen(&encoded(Some("latin-1")).unwrap()), [("a.jpg", vec!["a café"]), ("b.jpg", vec!["plain"])]);
    let listing = encoded(None).unwrap();
    assert_eq!(seen(&listing), [("b.jpg", vec!["plain"])]);
    assert!(listing.skips.to_jsonl().contains("--csv-encoding"), "{}", listing.skips.to_jsonl());
    let listing = encoded(Some("utf-8")).unwrap();
    assert!(listing.skips.to_jsonl().contains("line 2 holds bytes"), "{}", listing.skips.to_jsonl());
    let utf16: Vec<u8> =
        "\u{feff}image,caption\na.jpg,ein Straßenhund\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(&utf16);
    assert_eq!(seen(&encoded(None).unwrap()), [("a.jpg", vec!["ein Straßenhund"])]);
    assert!(encoded(Some("klingon")).unwrap_err().to_string().contains("no encoding"));
}

#[test]
fn a_picture_of_two_classes_keeps_the_first_and_is_counted() {
    let text =
        "image,class,caption\na.jpg,one,red\na.jpg,two,blue\na.jpg,one,green\na.jpg,,more\nb.jpg,,x\nb.jpg,two,y\n";
    let listing = read(text, SourceConfig::default()).unwrap();
    assert_eq!(seen(&listing), [("a.jpg", vec!["red", "green", "more"]), ("b.jpg", vec!["x", "y"])]);
    let classes: Vec<_> = listing.samples.iter().map(|sample| sample.class.as_deref()).collect();
    assert_eq!(classes, [Some("one"), Some("two")]);
    let told = listing.skips.to_jsonl();
    assert!(told.contains("a.jpg is of class one by an earlier row, and of two by this one"), "{told}");
    assert_eq!(listing.skips.total(), 1, "{told}");
}

#[test]
fn carriage_returns_are_text_or_ends_of_rows_and_nothing_is_lost() {
    let text = "filepath,title\n0.png,a red\rvery long second half\n1.png,b\r2.png,c\n3.png,\"quoted d\rkept\"\n";
    let listing = read(text, SourceConfig::default()).unwrap();
    let expected = [
        ("0.png", vec!["a red\rvery long second half"]),
        ("1.png", vec!["b"]),
        ("2.png", vec!["c"]),
        ("3.png", vec!["quoted d\rkept"]),
    ];
    assert_eq!((seen(&listing), listing.skips.total()), (expected.to_vec(), 0));
    let mac = read("filepath,title\r0.png,a\rno row\r1.png,b", SourceConfig::default()).unwrap();
    assert_eq!(seen(&mac), [("0.png", vec!["a"]), ("1.png", vec!["b"])]);
    assert_eq!(mac.skips.count(|reason| reason == SkipReason::NoCaption), 1);
}

#[test]
fn a_list_of_classes_is_a_class_where_it_names_one() {
    let text = "image,caption,classes\na.jpg,x,\"[\"\"cat\"\"]\"\nb.jpg,y,\"[\"\"cat\"\", \"\"dog\"\"]\"\nc.jpg,,\"[1, 2]\"\nd.jpg,z,[odd\n";
    let listing = read(text, SourceConfig::default()).unwrap();
    let classes: Vec<_> = listing.samples.iter().map(|s| (s.id.as_str(), s.class.as_deref())).collect();
    assert_eq!(classes, [("a.jpg", Some("cat")), ("b.jpg", None), ("d.jpg", Some("[odd"))]);
    let told = listing.skips.to_jsonl();
    assert!(told.contains("b.jpg: it is of 2 classes (`cat`, `dog`)") && told.contains("c.jpg: it is"), "{told}");
    assert_eq!(listing.skips.total(), 2, "{told}");
}
