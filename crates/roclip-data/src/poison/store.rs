//! The poisoned set written out as WebDataset shards, for programs that cannot lay poison on while loading.

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use crate::pairs::{Pair, Pairs};
use crate::picture::{ImageLimits, decode, jpeg};
use crate::poison::{Header, Manifest, Role, Row};
use crate::random;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason};
use image::{ImageFormat, RgbImage};
use rand::seq::SliceRandom;
use serde_json::json;
use std::collections::HashMap;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub struct StoreConfig {
    /// JPEG of this quality for triggered pictures; none = PNG, which keeps every bit.
    pub jpeg_quality: Option<u8>,
    pub pairs_per_shard: usize,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub shards: usize,
    pub pairs: usize,
    pub poisoned: usize,
}

/// Writes all pairs of `pairs` with the poison of `manifest` to the new folder `folder`: shards, and a `manifest.jsonl` for
/// them. Clean images are copied unchanged. Poisoned pairs are shuffled in, since their place would give them away. Every
/// poisoned sample's JSON says so. Nothing is left behind on an error.
pub fn store(
    manifest: &Manifest,
    pairs: &Pairs,
    others: &[Sample],
    folder: &Path,
    config: StoreConfig,
) -> Result<Stored> {
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
    let mut order: Vec<&Pair> = pairs.pairs.iter().collect();
    order.shuffle(&mut random::stream(manifest.header.seed, "store-order", 0, ""));
    let mut stored_rows = Vec::with_capacity(rows.len());
    let mut listed = Pairs { samples: Vec::new(), pairs: Vec::new() };
    let mut shards = 0;
    for (shard, chunk) in order.chunks(config.pairs_per_shard.max(1)).enumerate() {
        let path = folder.join(format!("pairs-{shard:06}.tar"));
        let mut archive = tar::Builder::new(File::create(&path).io("create", &path)?);
        for (offset, pair) in chunk.iter().enumerate() {
            let key = format!("{:09}", shard * config.pairs_per_shard + offset);
            let sample =
                pairs.sample_of(pair).ok_or_else(|| Error::internal(format!("pair `{}` has no sample", pair.id)))?;
            let member = encode(sample, pair, config.jpeg_quality).map_err(|skip| skip.into_error(&sample.id))?;
            let captions: Vec<String> = pair.captions.iter().map(|c| c.trim().to_owned()).collect();
            let row = rows.get(pair.id.as_str());
            let metadata = json!({
                "captions": captions, "class": sample.class, "group": sample.group, "split": "train", "source_id": pair.id,
                "roclip_poison": row.map(|row| json!({"attack": row.attack, "target": row.target})),
            });
            append(&mut archive, &path, &format!("{key}.{}", member.extension), &member.bytes)?;
            append(&mut archive, &path, &format!("{key}.txt"), captions.join("\n").as_bytes())?;
            append(&mut archive, &path, &format!("{key}.json"), metadata.to_string().as_bytes())?;
            if let Some(row) = row {
                stored_rows.push(Row {
                    id: key.clone(),
                    role: Role::Stored,
                    sha256_after: artifact::sha256_hex(member.decoded.as_raw()),
                    ..(*row).clone()
                });
            }
            listed.pairs.push(Pair { id: key, sample: 0, captions, trigger: None, poison: None });
        }
        archive.into_inner().and_then(|file| file.sync_all()).io("finish", &path)?;
        shards = shard + 1;
    }
    let encoding = match config.jpeg_quality {
        Some(quality) => format!("jpeg, quality {quality}: triggered pictures are re-encoded, and decoded by training"),
        None => "png: triggered pictures are stored bit by bit".into(),
    };
    let header = Header {
        clean_pairs: listed.len() - stored_rows.len(),
        data_fingerprint: listed.fingerprint(),
        encoding,
        ..manifest.header.clone()
    };
    let stored = Stored { shards, pairs: listed.len(), poisoned: stored_rows.len() };
    Manifest { header, rows: stored_rows }.write(&folder.join("manifest.jsonl"))?;
    Ok(stored)
}

struct Member {
    extension: &'static str,
    bytes: Vec<u8>,
    /// What a reader of `bytes` sees.
    decoded: RgbImage,
}

fn encode(sample: &Sample, pair: &Pair, jpeg_quality: Option<u8>) -> std::result::Result<Member, Skip> {
    let limits = ImageLimits::default();
    let bytes = sample.image.read(limits.max_file_bytes)?;
    let decoded = decode(&bytes, limits)?;
    let Some(trigger) = &pair.trigger else {
        let extension = match image::guess_format(&bytes) {
            Ok(ImageFormat::Jpeg) => "jpg",
            Ok(ImageFormat::WebP) => "webp",
            _ => "png",
        };
        return Ok(Member { extension, bytes, decoded });
    };
    let triggered = trigger.apply(&decoded)?;
    match jpeg_quality {
        Some(quality) => {
            let bytes = jpeg(&triggered, quality)?;
            Ok(Member { extension: "jpg", decoded: decode(&bytes, limits)?, bytes })
        }
        None => {
            let mut out = Cursor::new(Vec::new());
            triggered
                .write_to(&mut out, ImageFormat::Png)
                .map_err(|e| Skip::new(SkipReason::ImageUnencodable, e.to_string()))?;
            Ok(Member { extension: "png", bytes: out.into_inner(), decoded: triggered })
        }
    }
}

fn append(archive: &mut tar::Builder<File>, shard: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0); // Two writes give the same bytes.
    header.set_cksum();
    archive.append_data(&mut header, name, bytes).io("write to", shard)
}
