//! Proof that a manifest's poison is, byte for byte, what it says: every picture is made again and its digest compared.

use crate::error::{Error, Result};
use crate::escape::for_terminal;
use crate::pairs::Pairs;
use crate::picture::ImageLimits;
use crate::poison::apply::other_caption;
use crate::poison::fields::Fields;
use crate::poison::images::{Images, hashes};
use crate::poison::{Manifest, Role, Row};
use crate::progress::Task;
use crate::sample::Sample;
use crate::skip::SkipReport;
use std::collections::{BTreeMap, HashMap};

const REMEDY: &str = "this is not the same poison; use the data and the program version it was made with";

/// What was made again.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Rows of each attack.
    pub rows: BTreeMap<String, usize>,
    /// sha256 over all row digests, to compare two machines at a glance.
    pub digest: String,
    /// Rows whose picture could not be read: of these nothing is proved.
    pub skips: SkipReport,
    /// What else than pictures was found to be as the manifest says.
    pub proved: Vec<String>,
    /// What the manifest says and the data do not tell.
    pub unproved: Vec<String>,
}

/// What no data tell of a manifest of pairs.
const UNTOLD: [&str; 2] = ["which pairs the attack's seed draws", "the wording of captions"];

/// Makes every poisoned picture again from `pairs` (the clean data, or the stored data of a stored manifest) and `others` (the
/// evaluation images). The error names the first row that differs.
pub fn verify(manifest: &Manifest, pairs: &Pairs, others: &[Sample], limits: ImageLimits) -> Result<Verified> {
    // Ids, captions and all pictures of the data. A poisoned picture that differs is the better answer, so this one waits.
    let mut fits = manifest.apply(&mut pairs.clone(), others);
    let images = Images::new(pairs, others, &manifest.rows);
    // A targeted image stands in a hundred rows and more.
    let mut untriggered: HashMap<&str, (String, String)> = HashMap::new();
    let mut verified = Verified {
        rows: BTreeMap::new(),
        digest: String::new(),
        skips: SkipReport::default(),
        proved: Vec::new(),
        unproved: UNTOLD.map(str::to_owned).to_vec(),
    };
    let mut fields = Fields::default();
    let mut digests = String::new();
    let task = Task::begin("making poison again", manifest.rows.len(), "pairs");
    for (number, row) in (2..).zip(&manifest.rows) {
        task.advance(1);
        let Some(sample) = images.of(row) else {
            std::mem::replace(&mut fits, Ok(()))?;
            return Err(Error::internal(format!("no image for `{}`", row.id)));
        };
        let stored = row.role == Role::Stored;
        let trigger = row.trigger.as_ref().filter(|_| !stored);
        let shared = row.role == Role::Added && trigger.is_none();
        let hashed = match untriggered.get(row.image.as_str()).filter(|_| shared) {
            Some(known) => Ok(known.clone()),
            None => hashes(&sample, trigger, limits),
        };
        let (before, after) = match hashed {
            Ok(both) => both,
            Err(skip) => {
                verified.skips.add(&row.id, skip);
                continue;
            }
        };
        if shared {
            untriggered.insert(&row.image, (before.clone(), after.clone()));
        }
        let place = row_in_manifest(number, row);
        // What became of the caption is the attacker's to say; what it was is not.
        if row.role == Role::Replaced
            && fits.is_ok()
            && let Some(other) =
                images.pair(&row.id).and_then(|pair| other_caption(pair, row.caption_before.as_deref()))
        {
            return Err(Error::setting(format!("{place}: {other}"), REMEDY));
        }
        if !stored {
            same_digest(&place, "the image file", &before, &row.sha256_before)?;
        }
        same_digest(&place, "the poisoned picture", &after, &row.sha256_after)?;
        if fits.is_ok()
            && let Some(wrong) = fields.wrong(row, &sample, images.pair(&row.id))
        {
            return Err(Error::setting(format!("{place}: {wrong}"), REMEDY));
        }
        digests += &after;
        *verified.rows.entry(row.attack.clone()).or_default() += 1;
    }
    if verified.skips.total() == 0 {
        fits?;
        check_clean_pairs(manifest, pairs.len())?;
    }
    verified.proved =
        ["the class of each image", "one target an attack (of targeted ones, an image)", "that captions name it"]
            .map(str::to_owned)
            .to_vec();
    verified.proved.push("the number of clean pairs".into());
    let told = if manifest.header.rows.is_some() { &mut verified.proved } else { &mut verified.unproved };
    told.push("the number of rows".into());
    if fields.unknown_classes > 0 {
        verified.unproved.push(format!("the class of {} images, of which the data say none", fields.unknown_classes));
    }
    if manifest.is_of_written() {
        verified.unproved.push("what stored pictures were before, and which trigger they carry".into());
    }
    Ok(Verified { digest: crate::artifact::sha256_hex(digests.as_bytes()), ..verified })
}

/// # Errors
/// Where the header says another number of clean pairs than the data, which have `pairs`, have beside the poison.
fn check_clean_pairs(manifest: &Manifest, pairs: usize) -> Result<()> {
    let stored = manifest.rows.iter().filter(|row| row.role == Role::Stored).count();
    let (found, said) = (pairs.saturating_sub(stored), manifest.header.clean_pairs);
    if found == said {
        return Ok(());
    }
    Err(Error::setting(format!("the data have {found} clean pairs, and the manifest says {said}"), REMEDY))
}

/// How a message names the row on line `number` of a manifest.
pub fn row_in_manifest(number: usize, row: &Row) -> String {
    format!("line {number} of the manifest, `{}`", for_terminal(&row.id))
}

/// # Errors
/// Where what was found at `place` is not what the manifest says.
pub fn same_digest(place: &str, what: &str, found: &str, expected: &str) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => {
            Err(Error::setting(format!("{place}: {what} has the sha256 {found}, the manifest says {expected}"), REMEDY))
        }
    }
}
