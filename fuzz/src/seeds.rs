//! Small sound files, which the mutations begin with.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};
use roclip_data::picture::ImageLimits;
use roclip_data::source::SourceConfig;
use std::collections::BTreeMap;
use std::io::Cursor;

type Files = Result<Vec<Vec<u8>>>;

/// Pictures of 23 x 17 and of 1 x 60 pixels.
pub fn pictures() -> Files {
    let mut files = Vec::new();
    for (width, height) in [(23, 17), (1, 60)] {
        let rgb = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 9) as u8, (y * 13) as u8, (x * y) as u8]));
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let mut bytes = Cursor::new(Vec::new());
            rgb.write_to(&mut bytes, format)?;
            files.push(bytes.into_inner());
        }
        let mut bytes = Cursor::new(Vec::new());
        image::DynamicImage::from(rgb).to_luma16().write_to(&mut bytes, ImageFormat::Png)?;
        files.push(bytes.into_inner());
    }
    files.extend(kept_jpegs()?);
    files.extend(kept(include_str!("../../tests/golden/formats.json"), "data")?);
    Ok(files)
}

/// The kinds of JPEG that the golden file has: progressive, CMYK, with restart markers and so on.
fn kept_jpegs() -> Files {
    kept(include_str!("../../tests/golden/jpeg.json"), "jpeg")
}

/// The field `name` of every row of a golden file.
fn kept(golden: &str, name: &str) -> Files {
    let golden: Vec<serde_json::Value> = serde_json::from_str(golden)?;
    let texts = golden.iter().filter_map(|row| row.get(name).and_then(serde_json::Value::as_str));
    texts.map(|text| Ok(STANDARD.decode(text)?)).collect()
}

/// Parquet files of every kind that the golden file has.
pub fn parquets() -> Files {
    let golden: BTreeMap<String, String> = serde_json::from_str(include_str!("../../tests/golden/parquet.json"))?;
    golden.values().map(|text| Ok(STANDARD.decode(text)?)).collect()
}

pub fn json_lines() -> Files {
    Ok([
        "{\"image\": \"a.png\", \"caption\": \"a red apple\"}\n{\"image\": {\"path\": \"b.png\"}, \"text\": [\"x\", {\"raw\": \"y\"}], \"score\": NaN}\n",
        "\u{feff}{\"file_name\": \"a.png\", \"label\": 3, \"split\": \"train\"}\r\n\r\n{\"file_name\": \"a.png\", \"text\": \"caf\u{e9}\", \"split\": \"val\"}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec())
}

pub fn annotations() -> Files {
    Ok([
        r#"{"info": {}, "images": [{"id": 1, "file_name": "a.png"}, {"id": "2", "file_name": "b.png"}], "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": "2", "caption": "y"}, {"image_id": 9, "caption": "z"}]}"#,
        r#"{"dataset": "coco", "images": [{"filepath": "val", "filename": "a.png", "split": "test", "sentences": [{"raw": "a dog"}, {"raw": "dogs"}]}]}"#,
        r#"[{"image": "a.png", "caption": ["a dog", "dogs"]}, {"image": "b.png", "caption": "x"}]"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec())
}

/// WebDataset shards.
pub fn shards() -> Files {
    let picture = pictures()?.swap_remove(0);
    let json = br#"{"caption": "a dog", "captions": ["a dog", "two dogs"], "class": "dog", "split": "train"}"#;
    let members: [(&str, &[u8]); 7] = [
        ("000.png", &picture),
        ("000.txt", b"a red apple"),
        ("001.png", &picture),
        ("001.json", json),
        ("a/b.002.png", &picture),
        ("a/b.002.txt", "caf\u{e9}".as_bytes()),
        ("001.cls", b"3"),
    ];
    Ok(vec![shard(&members)?, shard(members.get(..2).unwrap_or_default())?])
}

/// Indices of a shard and of a table.
pub fn indices() -> Files {
    let folder = tempfile::tempdir()?;
    let sound = [("a.tar", shards()?.into_iter().next()), ("a.csv", tables()?.into_iter().next())];
    let mut files = Vec::new();
    for (name, bytes) in sound {
        let (path, out) = (folder.path().join(name), folder.path().join(format!("{name}.index")));
        std::fs::write(&path, bytes.unwrap_or_default())?;
        std::fs::write(folder.path().join("a.png"), pictures()?.swap_remove(0))?;
        let source = SourceConfig { path: path.to_string_lossy().into_owned(), ..SourceConfig::default() };
        roclip_data::index::make(&source, ImageLimits::default(), Some(&out), 1)?;
        files.push(std::fs::read(out)?);
    }
    Ok(files)
}

/// Instructions in LLaVA's layout.
pub fn instructions() -> Files {
    Ok([
        r#"[{"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}, {"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "Red."}]}]"#,
        "{\"image\": \"a.png\", \"conversations\": [{\"from\": \"human\", \"value\": \"Name it. <image>\"}, {\"from\": \"gpt\", \"value\": \"caf\u{e9}\"}]}\n{\"id\": 3, \"conversations\": []}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec())
}

pub fn shard(members: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes)?;
    }
    Ok(archive.into_inner()?)
}

pub fn tables() -> Files {
    Ok([
        "image,caption\na.png,a red apple\nb.png,\"two \"\"big\"\" dogs\nin a row\"\n",
        "filepath\ttitle\tsplit\nmissing.jpg\tone\ttrain\na.png\tcaf\u{e9}\tval\n",
        "\u{feff}image,caption,class\r\na.png,\"a, b\",c\r\n",
        "a.png;a dog\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec())
}

/// Members of a shard that hold metadata, and files with labels.
pub fn metadata() -> Files {
    Ok([
        r#"{"caption": "a dog", "captions": ["a dog", "two \ud83d\ude00 dogs"], "class": "dog", "group": "animals", "split": "train"}"#,
        r#"{"key": "000", "status": "success", "url": "http://x/y.jpg", "width": 256, "exif": "{}", "caption": null, "captions": null, "class": 3}"#,
        r#"{"classes": ["cat", "dog"], "images": {"train": {"000.png": "cat", "a/b.002.png": "dog"}, "val": {}}}"#,
        "image,label\n000.png,cat\n001.png,dog\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec())
}

pub fn manifests() -> Files {
    let header = r#"{"roclip_manifest":3,"state":"poison","tool_version":"0.1.0","seed":0,"clean_pairs":3,"data_fingerprint":"00","encoding":"none","materials":[],"file_sha256":""}"#;
    let row = |layers: &str| {
        format!(
            r#"{{"id":"p","attack":"badnets","role":"replaced","image":"000","side":"training","true_class":"cat","target":"dog","caption_before":"a","caption_after":"b","trigger":{{"frame_pixels":32,"image_seed":7,"layers":[{layers}],"jpeg_quality":75}},"sha256_before":"00","sha256_after":"00"}}"#
        )
    };
    let badnets = serde_json::to_string(&roclip_data::trigger::TriggerKind::Badnets(Default::default()))?;
    let sig = serde_json::to_string(&roclip_data::trigger::TriggerKind::Sig(Default::default()))?;
    let triangles = serde_json::to_string(&roclip_data::trigger::TriggerKind::Triangles(Default::default()))?;
    let all = [badnets.clone(), sig.clone(), triangles.clone(), format!("{badnets},{sig},{triangles}")];
    Ok(all.iter().map(|layers| format!("{header}\n{}\n", row(layers)).into_bytes()).collect())
}

pub fn recipes() -> Files {
    let mut texts = vec![
        include_str!("../../recipes/emoji-small.toml").to_owned(),
        include_str!("../../recipes/emoji-attacks.toml").to_owned(),
        include_str!("../../recipes/emoji-safeclip.toml").to_owned(),
    ];
    texts.push(roclip::recipe::Recipe::default().to_toml()?);
    Ok(texts.into_iter().map(String::into_bytes).collect())
}

pub fn texts() -> Files {
    Ok([
        "a photo of a red apple, 2021 <start_of_text>",
        "It\u{2019}s Stra\u{df}e \u{130}stanbul &amp;eacute; &#x1F600; voil\u{c3}\u{a0}",
        "\u{65e5}\u{672c}\u{8a9e} \u{1f468}\u{200d}\u{1f469} e\u{301} \u{fb01} \u{ff26}\u{ff35} \u{200b}\u{feff} \u{1b}[31m",
        "\u{e2}\u{20ac}\u{153}quoted\u{e2}\u{20ac}\u{9d} \u{c3}\u{192}\u{c2}\u{a9}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec())
}

pub fn vocabularies() -> Files {
    Ok([r#"{"kept":[320,321,1929,49405]}"#, r#"{"kept":[]}"#].map(|text| text.as_bytes().to_vec()).to_vec())
}

pub fn weights() -> Files {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    Ok(vec![
        file(
            r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}"#,
            32,
        ),
        file(r#"{"__metadata__":{"provenance":"clean"},"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}"#, 8),
        file("{}", 0),
    ])
}
