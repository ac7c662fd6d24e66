//! The fuzz targets. A target panics when a promise is broken, and says whether it took the input.

use crate::mend;
use crate::seeds;
use anyhow::{Result, anyhow};
use roclip_data::index::Index;
use roclip_data::instruction::read_instructions;
use roclip_data::picture::{ImageLimits, decode, preprocess};
use roclip_data::poison::Manifest;
use roclip_data::source::{Labels, SourceConfig, list_samples};
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer, Truncate};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::LazyLock;

pub struct Target {
    pub name: &'static str,
    pub seeds: fn() -> Result<Vec<Vec<u8>>>,
    /// With a folder for files.
    pub run: fn(&[u8], &Path) -> bool,
}

pub const TARGETS: [Target; 15] = [
    Target { name: "picture", seeds: seeds::pictures, run: picture },
    Target { name: "tar", seeds: seeds::shards, run: shard },
    Target { name: "csv", seeds: seeds::tables, run: table },
    Target { name: "json-lines", seeds: seeds::json_lines, run: json_lines },
    Target { name: "annotations", seeds: seeds::annotations, run: annotations },
    Target { name: "parquet", seeds: seeds::parquets, run: parquet },
    Target { name: "index", seeds: seeds::indices, run: index },
    Target { name: "instructions", seeds: seeds::instructions, run: instructions },
    Target { name: "json-member", seeds: seeds::metadata, run: metadata },
    Target { name: "labels", seeds: seeds::metadata, run: labels },
    Target { name: "manifest", seeds: seeds::manifests, run: manifest },
    Target { name: "recipe", seeds: seeds::recipes, run: recipe },
    Target { name: "tokenizer", seeds: seeds::texts, run: text },
    Target { name: "vocabulary", seeds: seeds::vocabularies, run: vocabulary },
    Target { name: "safetensors", seeds: seeds::weights, run: weights },
];

pub fn named(name: &str) -> Result<&'static Target> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    TARGETS
        .iter()
        .find(|target| target.name == name)
        .ok_or_else(|| anyhow!("no target `{name}`; use one of {}", names()))
}

/// Small enough that a decoder within them is done at once.
const LIMITS: ImageLimits = ImageLimits { max_pixels: 1 << 20, max_file_bytes: 1 << 20, max_aspect_ratio: 100 };
const SIDE: u32 = 32;
const CONTEXT: usize = 77;

fn picture(bytes: &[u8], _: &Path) -> bool {
    let Ok(picture) = decode(bytes, LIMITS) else { return false };
    assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.max_pixels, "larger than allowed");
    preprocess::resize_and_crop(&picture, SIDE).is_ok_and(|small| small.dimensions() == (SIDE, SIDE))
}

/// A file of that name, as data. Every sample that is listed has an id, and its picture is read or skipped.
fn source(name: &str, bytes: &[u8], place: &Path) -> bool {
    let path = place.join(name);
    if std::fs::write(&path, bytes).is_err() {
        return false;
    }
    let config = SourceConfig { path: path.to_string_lossy().into_owned(), ..SourceConfig::default() };
    let Ok(listing) = list_samples(&config, LIMITS) else { return false };
    for sample in listing.samples.iter().take(50) {
        assert!(!sample.id.is_empty(), "a sample without an id");
        // Read or skipped: both are well.
        let _ = sample.picture(LIMITS);
    }
    listing.skips.to_jsonl().lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
}

fn shard(bytes: &[u8], place: &Path) -> bool {
    source("a.tar", bytes, place)
}

/// Writes a picture `a.png` into the folder, where it is not there yet.
fn picture_beside(place: &Path) -> bool {
    static PICTURE: LazyLock<Vec<u8>> =
        LazyLock::new(|| seeds::pictures().ok().and_then(|files| files.into_iter().next()).unwrap_or_default());
    let beside = place.join("a.png");
    beside.exists() || std::fs::write(&beside, &*PICTURE).is_ok()
}

fn table(bytes: &[u8], place: &Path) -> bool {
    picture_beside(place) && source("a.csv", bytes, place)
}

fn json_lines(bytes: &[u8], place: &Path) -> bool {
    source("a.jsonl", bytes, place)
}

fn annotations(bytes: &[u8], place: &Path) -> bool {
    source("a.json", bytes, place)
}

fn parquet(bytes: &[u8], place: &Path) -> bool {
    source("a.parquet", bytes, place)
}

/// The checksums are mended first: what lies behind them is of interest.
fn index(bytes: &[u8], place: &Path) -> bool {
    let path = place.join("a.roclip-index");
    if std::fs::write(&path, mend::index(bytes)).is_err() {
        return false;
    }
    let Ok(index) = Index::open(&path) else { return false };
    let _ = (index.skips(), index.stale());
    let ids: Vec<String> = (0..index.samples().min(200)).filter_map(|at| index.sample(at)).map(|one| one.id).collect();
    for at in 0..index.captions().min(200) {
        let Some(place) = index.caption_place(at) else { continue };
        assert!(place.sample < index.samples(), "a caption of a sample that is not there");
        let before = index.captions_before(place.sample);
        assert!(before.is_none_or(|before| before + place.caption == at), "a caption has two places");
    }
    let found = index.find(ids.iter().map(String::as_str)).is_ok();
    found && index.intact().is_ok()
}

fn instructions(bytes: &[u8], place: &Path) -> bool {
    let path = place.join("a.json");
    if !picture_beside(place) || std::fs::write(&path, bytes).is_err() {
        return false;
    }
    let Ok(found) = read_instructions(&path, None, LIMITS, 1) else { return false };
    assert!(!found.items.is_empty(), "nothing, and no error");
    !found.fingerprint().is_empty()
}

fn metadata(bytes: &[u8], place: &Path) -> bool {
    seeds::shard(&[("000.png", b"not read"), ("000.json", bytes)]).is_ok_and(|tar| source("json.tar", &tar, place))
}

fn labels(bytes: &[u8], place: &Path) -> bool {
    let name = if bytes.first() == Some(&b'{') { "labels.json" } else { "labels.csv" };
    let path = place.join(name);
    std::fs::write(&path, bytes).is_ok() && Labels::read(&path).is_ok()
}

/// The digest is mended first: what lies behind it is of interest.
fn manifest(bytes: &[u8], place: &Path) -> bool {
    const KEY: &str = "\"file_sha256\":\"";
    let text = String::from_utf8_lossy(bytes);
    let (header, rows) = text.split_once('\n').unwrap_or((&text, ""));
    let (front, behind) = header.split_once(KEY).unwrap_or((header, ""));
    let rest = behind.split_once('"').map_or("", |(_, rest)| rest);
    let digest = Sha256::digest(format!("{front}{KEY}\"{rest}\n{rows}"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let header = format!("{front}{KEY}{digest}\"{rest}");
    let path = place.join("manifest.jsonl");
    if std::fs::write(&path, format!("{header}\n{rows}")).is_err() {
        return false;
    }
    let Ok(manifest) = Manifest::read(&path, LIMITS) else { return false };
    let again = manifest.to_jsonl().is_ok();
    let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([90; 3]));
    let triggers = manifest.rows.iter().filter_map(|row| row.trigger.as_ref());
    // How large a frame may be is the settings' matter; a large one costs what it costs.
    for trigger in triggers.filter(|trigger| trigger.frame_pixels <= 512).take(3) {
        let _ = trigger.apply(&picture);
    }
    again
}

fn recipe(bytes: &[u8], place: &Path) -> bool {
    let path = place.join("recipe.toml");
    if std::fs::write(&path, bytes).is_err() {
        return false;
    }
    let Ok(recipe) = roclip::recipe::Recipe::read(&path) else { return false };
    if let Some(image) = &recipe.augment.image {
        let _ = image.check("augment.image");
    }
    recipe.to_toml().is_ok()
}

fn text(bytes: &[u8], _: &Path) -> bool {
    static TOKENIZER: LazyLock<Option<Tokenizer>> = LazyLock::new(|| Tokenizer::new(CONTEXT, Truncate::KeepEot).ok());
    let Some(tokenizer) = &*TOKENIZER else { return false };
    let ids = tokenizer.encode(&String::from_utf8_lossy(bytes));
    assert!((2..=CONTEXT).contains(&ids.len()), "{} ids", ids.len());
    assert_eq!((ids.first(), ids.last()), (Some(&49_406), Some(&49_407)));
    assert!(ids.iter().all(|id| (0..49_408).contains(id)));
    true
}

fn vocabulary(bytes: &[u8], _: &Path) -> bool {
    let Ok(vocabulary) = serde_json::from_slice::<CompactVocabulary>(bytes) else { return false };
    let size = vocabulary.size() as i64;
    let ids = [0, 320, 1929, 49_405, 49_406, 49_407].map(|id| vocabulary.map(id));
    assert!(ids.iter().all(|id| (0..size).contains(id)), "{ids:?} of {size}");
    true
}

fn weights(bytes: &[u8], place: &Path) -> bool {
    let path = place.join("model.safetensors");
    std::fs::write(&path, bytes).is_ok() && roclip::model::read_safetensors(&path).is_ok()
}
