//! Proof that a manifest's poison is, byte for byte, what it says: every picture is made again and its digest compared.

use crate::error::{Error, Result};
use crate::pairs::{Pair, Pairs};
use crate::poison::plan::hashes;
use crate::poison::{Manifest, Role};
use crate::sample::Sample;
use std::collections::{BTreeMap, HashMap};

/// What was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Rows of each attack.
    pub rows: BTreeMap<String, usize>,
    /// sha256 over all row digests, to compare two machines at a glance.
    pub digest: String,
}

/// Makes every poisoned picture again from `pairs` (the clean data, or the stored data of a stored manifest) and `others` (the
/// evaluation images). The error names the first row that differs.
pub fn verify(manifest: &Manifest, pairs: &Pairs, others: &[Sample]) -> Result<Verified> {
    // Captions and ids are compared here; only pictures remain.
    manifest.apply(&mut pairs.clone(), others)?;
    let samples: HashMap<&str, &Sample> = pairs.samples.iter().chain(others).map(|s| (s.id.as_str(), s)).collect();
    let by_id: HashMap<&str, &Pair> = pairs.pairs.iter().map(|p| (p.id.as_str(), p)).collect();
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    let mut digests = String::new();
    for (number, row) in (2..).zip(&manifest.rows) {
        let stored = row.role == Role::Stored;
        let sample = match stored {
            true => by_id.get(row.id.as_str()).and_then(|pair| pairs.sample_of(pair)),
            false => samples.get(row.image.as_str()).copied(),
        };
        let sample = sample.ok_or_else(|| Error::internal(format!("no image for `{}`", row.id)))?;
        let trigger = row.trigger.as_ref().filter(|_| !stored);
        let (before, after) = hashes(sample, trigger)?;
        let differs = |what: &str, found: &str, expected: &str| {
            Error::setting(
                format!(
                    "line {number} of the manifest, `{}`: {what} has the sha256 {found}, the manifest says {expected}",
                    row.id
                ),
                "this is not the same poison; use the data and the program version it was made with",
            )
        };
        if !stored && before != row.sha256_before {
            return Err(differs("the image file", &before, &row.sha256_before));
        }
        if after != row.sha256_after {
            return Err(differs("the poisoned picture", &after, &row.sha256_after));
        }
        digests += &after;
        *rows.entry(row.attack.clone()).or_default() += 1;
    }
    Ok(Verified { rows, digest: crate::artifact::sha256_hex(digests.as_bytes()) })
}
