//! Renders the emoji of eight drawing styles into gzip-compressed WebDataset shards: `KEY.webp` (lossless, 64x64, on
//! white) and `KEY.json` (captions, concept, style, split). The output depends on the pinned packages alone, so a second
//! run gives the same bytes; `SHA256SUMS` beside the shards is what `make emoji-verify` compares with.
//!
//! Usage: emoji-builder PACKAGES_DIR OUT_DIR

mod captions;
mod join;
mod render;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Styles in the order of the shards. The last two are never trained on: `test` is a designer's style that the model has
/// not seen, `ood` is outline art.
pub const STYLES: [(&str, &str); 8] = [
    ("noto", "train"),
    ("twemoji", "train"),
    ("fluent-emoji", "train"),
    ("fluent-emoji-flat", "train"),
    ("emojione", "train"),
    ("emojione-v1", "train"),
    ("noto-v1", "test"),
    ("openmoji", "ood"),
];
/// One training pair in twenty is kept for validation.
const VALIDATION_IN: u64 = 20;
const SHARDS: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, packages, output] = arguments.as_slice() else {
        bail!("usage: emoji-builder PACKAGES_DIR OUT_DIR");
    };
    let packages = Path::new(packages);
    let output = Path::new(output);
    fs::create_dir_all(output)?;
    let concepts = join::read_concepts(packages)?;
    let mut members: Vec<Vec<(String, Vec<u8>)>> = vec![Vec::new(); SHARDS];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (style, split) in STYLES {
        let icons = join::read_icons(packages, style)?;
        for concept in &concepts {
            let Some(body) = icons.find(concept) else { continue };
            let key = format!("{style}_{}", concept.hex.replace('-', "_"));
            let mut split = split;
            let digest = Sha256::digest(key.as_bytes());
            let draw = u64::from_le_bytes(digest[..8].try_into()?);
            if split == "train" && draw % VALIDATION_IN == 0 {
                split = "val";
            }
            let picture = render::webp(&body).with_context(|| format!("rendering {key}"))?;
            let metadata = serde_json::json!({
                "key": key, "style": style, "split": split, "concept": concept.label, "group": concept.group,
                "subgroup": concept.subgroup, "captions": captions::write(concept, &key),
            });
            let shard = (draw >> 8) as usize % SHARDS;
            members[shard].push((format!("{key}.webp"), picture));
            members[shard].push((format!("{key}.json"), serde_json::to_vec(&metadata)?));
            *counts.entry(style).or_default() += 1;
        }
        eprintln!("{style}: {}", counts[style]);
    }
    let mut sums = String::new();
    for (number, shard) in members.iter().enumerate() {
        let name = format!("emoji-{number:05}.tar.gz");
        let bytes = pack(shard)?;
        writeln!(sums, "{}  {name}", hex(&Sha256::digest(&bytes)))?;
        eprintln!("{name}: {} bytes", bytes.len());
        fs::write(output.join(&name), bytes)?;
    }
    fs::write(output.join("SHA256SUMS"), sums)?;
    eprintln!("{} pairs over {} concepts", counts.values().sum::<usize>(), concepts.len());
    Ok(())
}

/// A tar without times, owners or modes that could differ between machines, then gzip without a time stamp.
fn pack(members: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    let mut archive = tar::Builder::new(encoder);
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    Ok(archive.into_inner()?.finish()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
