//! WebDataset tar shards in img2dataset's layout: members that share a key up to the first dot of the file name are one
//! sample (`000123.jpg`, `000123.txt`, `000123.json`).
//!
//! Plain tars are read in place at the offsets found in one pass over the headers, which gives exact global shuffling
//! without a shuffle buffer. Gzip shards are held in memory. Nothing is ever unpacked to disk, and links, devices,
//! absolute and `..` names are ignored: a data set must not be able to write or read elsewhere. `pipe:` URLs are
//! deliberately absent, since they run a shell.

use crate::error::{Error, IoContext, Result};
use crate::sample::{ImageBytes, Sample};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::Source;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The longest text or JSON member read: a caption of a megabyte is junk, and must not exhaust memory in numbers.
const TEXT_LIMIT_BYTES: u64 = 4 << 20;
/// What a gzip shard may grow to in memory.
const GZIP_SHARD_LIMIT_BYTES: u64 = 1 << 30;

pub struct WebDataset {
    shards: Vec<PathBuf>,
}

impl WebDataset {
    pub fn new(shards: Vec<PathBuf>) -> Self {
        WebDataset { shards }
    }
}

/// Whether a file is a shard, by its name.
pub fn is_shard(file: &Path) -> bool {
    let name = file.to_string_lossy().to_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

/// A folder, a single shard or one brace range (`shard-{000..015}.tar`) as a sorted list of shards.
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    if path.is_dir() {
        let mut shards = Vec::new();
        for entry in std::fs::read_dir(path).io("list", path)? {
            let file = entry.io("list", path)?.path();
            if is_shard(&file) {
                shards.push(file);
            }
        }
        shards.sort();
        return Ok(shards);
    }
    let shards = match braces(pattern) {
        Some(shards) => shards,
        None if pattern.contains('{') => {
            return Err(Error::setting(
                format!("`{pattern}` is not a brace range"),
                "write it as `shard-{000..015}.tar`",
            ));
        }
        None => vec![path.to_owned()],
    };
    for shard in &shards {
        std::fs::metadata(shard).io("find the shard", shard)?;
    }
    Ok(shards)
}

fn braces(pattern: &str) -> Option<Vec<PathBuf>> {
    let (head, rest) = pattern.split_once('{')?;
    let (range, tail) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (from <= to && to - from < 1_000_000)
        .then(|| (from..=to).map(|n| PathBuf::from(format!("{head}{n:0width$}{tail}", width = first.len()))).collect())
}

/// The fields of a sample's JSON that mean something here; img2dataset writes many more.
#[derive(Deserialize, Default)]
struct Metadata {
    caption: Option<String>,
    #[serde(default)]
    captions: Vec<String>,
    concept: Option<String>,
    class: Option<String>,
    subgroup: Option<String>,
    group: Option<String>,
    split: Option<String>,
}

#[derive(Default)]
struct Parts {
    image: Option<ImageBytes>,
    text: Option<String>,
    class: Option<String>,
    metadata: Option<std::result::Result<Metadata, String>>,
    oversized: Option<String>,
}

impl Source for WebDataset {
    fn samples(&self) -> Result<(Vec<Sample>, SkipReport)> {
        let mut samples = Vec::new();
        let mut skips = SkipReport::default();
        for shard in &self.shards {
            let source: Arc<str> = shard.to_string_lossy().into();
            let parts = read_shard(shard)?;
            for (key, part) in parts {
                match assemble(&source, &key, part) {
                    Ok(sample) => samples.push(sample),
                    Err(skip) => skips.add(&key, skip),
                }
            }
        }
        Ok((samples, skips))
    }
}

fn read_shard(path: &Path) -> Result<BTreeMap<String, Parts>> {
    let mut parts = BTreeMap::new();
    let name = path.to_string_lossy().to_lowercase();
    let file = File::open(path).io("open", path)?;
    if name.ends_with("gz") {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file)
            .take(GZIP_SHARD_LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .io("unpack", path)?;
        if bytes.len() as u64 > GZIP_SHARD_LIMIT_BYTES {
            return Err(Error::file(
                path,
                "unpacks to more than 1 GiB",
                "use uncompressed *.tar for large shards: they are read in place",
            ));
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().io("read", path)? {
            add(&mut parts, entry.io("read the tar", path)?, path, None)?;
        }
    } else {
        let reader = File::open(path).io("open", path)?;
        let shared = (Arc::new(file), Arc::<Path>::from(path));
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries_with_seek().io("read", path)? {
            add(&mut parts, entry.io("read the tar", path)?, path, Some(&shared))?;
        }
    }
    Ok(parts)
}

fn add<R: Read>(
    parts: &mut BTreeMap<String, Parts>,
    mut entry: tar::Entry<R>,
    shard: &Path,
    shared: Option<&(Arc<File>, Arc<Path>)>,
) -> Result<()> {
    if !entry.header().entry_type().is_file() {
        return Ok(());
    }
    let name = entry.path().io("read a name in", shard)?.into_owned();
    let Some((key, extension)) = split_key(&name) else { return Ok(()) };
    let size = entry.size();
    match extension.as_str() {
        "jpg" | "jpeg" | "png" | "webp" => {
            let image = match shared {
                Some((archive, path)) => ImageBytes::Span {
                    archive: Arc::clone(archive),
                    path: Arc::clone(path),
                    offset: entry.raw_file_position(),
                    length: size,
                },
                None => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).io("read", shard)?;
                    ImageBytes::Memory(bytes.into())
                }
            };
            parts.entry(key).or_default().image = Some(image);
        }
        "txt" | "json" | "cls" if size > TEXT_LIMIT_BYTES => {
            parts.entry(key).or_default().oversized =
                Some(format!("{extension} of {size} bytes, at most {TEXT_LIMIT_BYTES}"));
        }
        "txt" | "json" | "cls" => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).io("read", shard)?;
            let part = parts.entry(key).or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match extension.as_str() {
                "txt" => part.text = Some(text),
                "cls" => part.class = Some(text.trim().to_owned()),
                _ => part.metadata = Some(serde_json::from_str(&text).map_err(|e| e.to_string())),
            }
        }
        _ => {}
    }
    Ok(())
}

/// WebDataset's rule: the key is the path up to the first dot of the file name.
fn split_key(name: &Path) -> Option<(String, String)> {
    if name.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return None;
    }
    let text = name.to_str()?.trim_start_matches("./");
    let (folder, file) = text.rsplit_once('/').map_or(("", text), |(folder, file)| (folder, file));
    let (stem, extension) = file.split_once('.')?;
    let key = if folder.is_empty() { stem.to_owned() } else { format!("{folder}/{stem}") };
    Some((key, extension.to_lowercase()))
}

fn assemble(source: &Arc<str>, key: &str, parts: Parts) -> std::result::Result<Sample, Skip> {
    if let Some(detail) = parts.oversized {
        return Err(Skip::new(SkipReason::CaptionTooLarge, detail));
    }
    let metadata = match parts.metadata {
        Some(Ok(metadata)) => metadata,
        Some(Err(detail)) => return Err(Skip::new(SkipReason::CaptionUnreadable, detail)),
        None => Metadata::default(),
    };
    let image = parts.image.ok_or_else(|| Skip::new(SkipReason::NoImage, "the key has no jpg, png or webp member"))?;
    let mut captions = metadata.captions;
    if captions.is_empty() {
        captions.extend(parts.text.or(metadata.caption).map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()));
    }
    let class = metadata.class.or(metadata.concept).or(parts.class);
    if captions.is_empty() && class.is_none() {
        return Err(Skip::new(SkipReason::NoCaption, "neither a txt member nor `caption` or `captions` in the JSON"));
    }
    Ok(Sample {
        captions,
        class,
        group: metadata.subgroup.or(metadata.group),
        split: metadata.split,
        ..Sample::new(Arc::clone(source), key, image)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_webdataset_and_refuse_escapes() {
        let key = |name: &str| split_key(Path::new(name));
        assert_eq!(key("a/b.c.jpg"), Some(("a/b".into(), "c.jpg".into())));
        assert_eq!(key("./000.TXT"), Some(("000".into(), "txt".into())));
        assert_eq!(key("../x.jpg"), None);
        assert_eq!(key("/etc/x.jpg"), None);
    }

    #[test]
    fn brace_ranges_keep_their_zeros() {
        let names = braces("s-{008..010}.tar").unwrap();
        assert_eq!(names, ["s-008.tar", "s-009.tar", "s-010.tar"].map(PathBuf::from));
        assert!(braces("s-{10..2}.tar").is_none());
    }
}
