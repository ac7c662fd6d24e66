//! The poisoned set written out as WebDataset shards, for programs that cannot lay poison on while loading.

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use crate::guard::contained;
use crate::pairs::{Pair, Pairs};
use crate::picture::{ImageLimits, decode, jpeg};
use crate::poison::names::Names;
use crate::poison::{Header, Manifest, Role, Row};
use crate::probe::Probe;
use crate::progress::Task;
use crate::random;
use crate::sample::{ImageBytes, PictureDigest, Sample};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::POISON_FIELD;
use image::{ImageFormat, RgbImage};
use rand::seq::SliceRandom;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone, Copy)]
pub struct StoreConfig {
    /// JPEG of this quality for triggered pictures; none = PNG, which keeps every bit.
    pub jpeg_quality: Option<u8>,
    /// At least 1.
    pub pairs_per_shard: usize,
    pub limits: ImageLimits,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Stored {
    pub shards: usize,
    pub pairs: usize,
    pub poisoned: usize,
    /// Triggered pictures in a format that no other picture of the set has, which tells them apart without a look at them.
    pub told_by_format: usize,
    /// Pairs whose picture cannot be read: they are in no shard.
    pub skips: SkipReport,
}

/// Writes all pairs of `pairs` with the poison of `manifest` to the new folder `folder`: shards, and a `manifest.jsonl` for
/// them. Clean images are copied unchanged. Poisoned pairs are shuffled in, since their place would give them away, and classes
/// are written where all of the data have one, for the same reason. Every poisoned sample's JSON says so. Clean pairs keep their
/// ids where a shard can hold them; other ids are those of no picture of the data. Pairs whose picture cannot be read are left out and counted. Nothing is left behind on an error.
pub fn store(
    manifest: &Manifest,
    pairs: &Pairs,
    others: &[Sample],
    folder: &Path,
    config: StoreConfig,
) -> Result<Stored> {
    if config.pairs_per_shard == 0 {
        return Err(Error::setting("0 pairs a shard", "set --pairs-per-shard to 1 or more"));
    }
    artifact::write_folder(folder, |beside| write_all(manifest, pairs, others, beside, config))
}

fn write_all(
    manifest: &Manifest,
    clean: &Pairs,
    others: &[Sample],
    folder: &Path,
    config: StoreConfig,
) -> Result<Stored> {
    let mut pairs = clean.clone();
    manifest.apply(&mut pairs, others)?;
    let rows: HashMap<&str, &Row> = manifest.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.shuffle(&mut random::stream(manifest.header.seed, "store-order", 0, ""));
    let mut stored_rows = Vec::with_capacity(rows.len());
    let mut names = Names::beside(clean);
    let classed = clean.samples().all(|sample| sample.class.is_some());
    let mut listed = Vec::new();
    let mut formats: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut shards = Shards { folder, pairs_per_shard: config.pairs_per_shard, written: 0, open: None };
    let mut skips = SkipReport::default();
    let task = Task::begin("writing pairs", order.len(), "pairs");
    for place in order {
        task.advance(1);
        let Some(pair) = pairs.get(place) else { break };
        let pair = &*pair;
        let sample =
            &*pairs.sample_of(pair).ok_or_else(|| Error::internal(format!("pair `{}` has no sample", pair.id)))?;
        let member = match contained(|| encode(sample, pair, &config)) {
            Ok(member) => member,
            Err(skip) => {
                skips.add(&pair.id, skip);
                continue;
            }
        };
        let captions: Vec<String> = pair.captions.iter().map(|c| c.trim().to_owned()).collect();
        let row = rows.get(pair.id.as_str());
        let known = |what: &Option<String>| what.clone().filter(|_| classed);
        let metadata = json!({
            "captions": captions, "class": known(&sample.class), "group": known(&sample.group), "split": "train",
            "source_id": pair.id, POISON_FIELD: row.map(|row| json!({"attack": row.attack, "target": row.target})),
        });
        let key = names.of(&pair.id, row.is_some());
        let (text, metadata) = (captions.join("\n"), metadata.to_string());
        let members = [(member.extension, &*member.bytes), ("txt", text.as_bytes()), ("json", metadata.as_bytes())];
        let shard = shards.add(&key, &members)?;
        let [others, triggered] = formats.entry(member.extension).or_default();
        *(if pair.trigger.is_some() { triggered } else { others }) += 1;
        if let Some(row) = row {
            stored_rows.push(Row {
                id: key.clone(),
                role: Role::Stored,
                sha256_after: artifact::sha256_hex(member.decoded.as_raw()),
                ..(*row).clone()
            });
        }
        // Whoever lists the shards looks at the pictures that lie there.
        let digest = Some(Probe::digest_of(&member.bytes));
        listed.push((shard, key, captions, digest));
    }
    let shards = shards.finish()?;
    // A shard is read in the order of its keys.
    listed.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let listed = as_read(listed);
    let told_by_format = formats.values().filter(|[others, _]| *others == 0).map(|[_, triggered]| triggered).sum();
    let encoding = match config.jpeg_quality {
        Some(quality) => format!("jpeg, quality {quality}: triggered pictures are re-encoded, and decoded by training"),
        None => "png: triggered pictures are stored bit by bit".into(),
    };
    let header = Header {
        clean_pairs: listed.len() - stored_rows.len(),
        rows: Some(stored_rows.len()),
        data_fingerprint: listed.fingerprint(),
        encoding,
        ..manifest.header.clone()
    };
    let stored = Stored { shards, pairs: listed.len(), poisoned: stored_rows.len(), told_by_format, skips };
    Manifest { header, rows: stored_rows }.write(&folder.join("manifest.jsonl"))?;
    Ok(stored)
}

/// The pairs of a written set, each with its shard, key, captions and the digest of its picture, as whoever reads the set sees them.
fn as_read(listed: Vec<(usize, String, Vec<String>, Option<PictureDigest>)>) -> Pairs {
    let mut pairs = Pairs::of(Vec::new(), Vec::new());
    for (_, key, captions, digest) in listed {
        let image = ImageBytes::Memory(Arc::from(Vec::new()));
        let sample = pairs.push_sample(Sample { digest, ..Sample::new("stored".into(), key.as_str(), image) });
        pairs.push(Pair { id: key, sample, captions, trigger: None, poison: None });
    }
    pairs
}

struct Member {
    extension: &'static str,
    bytes: Vec<u8>,
    /// What a reader of `bytes` sees.
    decoded: RgbImage,
}

fn encode(sample: &Sample, pair: &Pair, config: &StoreConfig) -> std::result::Result<Member, Skip> {
    let limits = config.limits;
    let bytes = sample.image.read(limits.max_file_bytes)?;
    let decoded = decode(&bytes, limits)?;
    let Some(trigger) = &pair.trigger else {
        let extension = match image::guess_format(&bytes) {
            Ok(ImageFormat::Jpeg) => "jpg",
            Ok(ImageFormat::WebP) => "webp",
            Ok(ImageFormat::Png) => "png",
            // Readers of shards look for the three alone.
            _ => return Ok(Member { extension: "png", bytes: png(&decoded)?, decoded }),
        };
        return Ok(Member { extension, bytes, decoded });
    };
    let triggered = trigger.apply(&decoded)?;
    match config.jpeg_quality {
        Some(quality) => {
            let bytes = jpeg(&triggered, quality)?;
            Ok(Member { extension: "jpg", decoded: decode(&bytes, limits)?, bytes })
        }
        None => Ok(Member { extension: "png", bytes: png(&triggered)?, decoded: triggered }),
    }
}

fn png(picture: &RgbImage) -> std::result::Result<Vec<u8>, Skip> {
    let mut out = Cursor::new(Vec::new());
    let written = picture.write_to(&mut out, ImageFormat::Png);
    written.map_err(|e| Skip::new(SkipReason::ImageUnencodable, e.to_string()))?;
    Ok(out.into_inner())
}

/// Shards that are filled one after the other.
struct Shards<'a> {
    folder: &'a Path,
    pairs_per_shard: usize,
    /// Samples of all shards.
    written: usize,
    open: Option<(PathBuf, tar::Builder<File>)>,
}

impl Shards<'_> {
    /// Writes the members of the sample `key`, given by extension. The number of its shard.
    fn add(&mut self, key: &str, members: &[(&str, &[u8])]) -> Result<usize> {
        let shard = self.written / self.pairs_per_shard;
        if self.written.is_multiple_of(self.pairs_per_shard) {
            self.close()?;
            let path = self.folder.join(format!("pairs-{shard:06}.tar"));
            let archive = tar::Builder::new(File::create(&path).io("create", &path)?);
            self.open = Some((path, archive));
        }
        let (path, archive) = self.open.as_mut().ok_or_else(|| Error::internal("no shard is open"))?;
        for (extension, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0); // Two writes give the same bytes.
            header.set_cksum();
            archive.append_data(&mut header, format!("{key}.{extension}"), *bytes).io("write to", path)?;
        }
        self.written += 1;
        Ok(shard)
    }

    fn close(&mut self) -> Result<()> {
        let Some((path, archive)) = self.open.take() else { return Ok(()) };
        archive.into_inner().and_then(|file| file.sync_all()).io("finish", &path)
    }

    /// The number of shards.
    fn finish(mut self) -> Result<usize> {
        self.close()?;
        Ok(self.written.div_ceil(self.pairs_per_shard))
    }
}
