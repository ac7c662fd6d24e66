//! Checksums that hold again after a mutation, so that what lies behind them is reached. The layout is that of `roclip_data::index`.

use serde_json::Value;
use std::ops::Range;

const ENTRY_BYTES: usize = 28;
const HASHES_AT_ONCE: usize = 1 << 16;
/// Length of the facts, their checksum, the magic.
const TAIL_BYTES: usize = 20;

/// The bytes of an index with sound checksums, as far as its pieces can be found.
pub fn index(bytes: &[u8]) -> Vec<u8> {
    mended(bytes).unwrap_or_else(|| bytes.to_vec())
}

fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let (body, tail) = bytes.split_at_checked(bytes.len().checked_sub(TAIL_BYTES)?)?;
    let (length, rest) = tail.split_first_chunk::<8>()?;
    let magic = rest.get(4..)?;
    let at = body.len().checked_sub(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let (front, facts) = body.split_at_checked(at)?;
    let mut front = front.to_vec();
    let facts = match serde_json::from_slice::<Value>(facts) {
        Err(_) => facts.to_vec(),
        Ok(mut facts) => {
            hashes(&mut front, &facts);
            if let Some(directory) = place(&facts, "directory") {
                entries(&mut front, directory);
            }
            for piece in ["directory", "skips"] {
                let crc = place(&facts, piece).and_then(|place| front.get(place)).map(crc32c::crc32c);
                if let (Some(crc), Some(Value::Object(fields))) = (crc, facts.get_mut(piece)) {
                    fields.insert("crc".into(), crc.into());
                }
            }
            serde_json::to_vec(&facts).ok()?
        }
    };
    front.extend(&facts);
    front.extend((facts.len() as u64).to_le_bytes());
    front.extend(crc32c::crc32c(&facts).to_le_bytes());
    front.extend(magic);
    Some(front)
}

fn number(value: Option<&Value>) -> Option<usize> {
    usize::try_from(value?.as_u64()?).ok()
}

fn place(facts: &Value, piece: &str) -> Option<Range<usize>> {
    let piece = facts.get(piece)?;
    let from = number(piece.get("offset"))?;
    Some(from..from.checked_add(number(piece.get("length"))?)?)
}

/// The checksum of every block, in the directory.
fn entries(bytes: &mut [u8], directory: Range<usize>) {
    let starts = (directory.start..directory.end.min(bytes.len())).step_by(ENTRY_BYTES);
    for start in starts {
        let u32_at = |at: usize| {
            let four = bytes.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
            usize::try_from(u32::from_le_bytes(*four)).ok()
        };
        let (Some(from), Some(length)) = (u32_at(start), u32_at(start + 8)) else { continue };
        let Some(crc) = bytes.get(from..from.saturating_add(length)).map(crc32c::crc32c) else { continue };
        if let Some(to) = bytes.get_mut(start + 16..start + 20) {
            to.copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// The checksum behind every piece of the column of hashes.
fn hashes(bytes: &mut [u8], facts: &Value) {
    let (Some(mut from), Some(samples)) = (number(facts.get("hashes")), number(facts.get("samples"))) else { return };
    for first in (0..samples.min(1 << 24)).step_by(HASHES_AT_ONCE) {
        let to = from.saturating_add(HASHES_AT_ONCE.min(samples - first) * 8);
        let Some(crc) = bytes.get(from..to).map(crc32c::crc32c) else { return };
        let Some(place) = bytes.get_mut(to..to.saturating_add(4)) else { return };
        place.copy_from_slice(&crc.to_le_bytes());
        from = to + 4;
    }
}
