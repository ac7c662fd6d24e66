//! The manifest of a poisoning: one JSON line a poisoned pair, after a header line. It is enough to make the same bytes again.

use crate::artifact;
use crate::error::{Error, Result};
use crate::pairs::{Pair, Pairs, PoisonMark};
use crate::sample::Sample;
use crate::trigger::{Material, StoredMaterial, Trigger};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Version of the file format.
pub const FORMAT: u32 = 2;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Header {
    /// Format version of the manifest.
    pub roclip_manifest: u32,
    /// Says what this file is to anyone who opens it.
    pub state: String,
    pub tool_version: String,
    pub seed: u64,
    pub clean_pairs: usize,
    /// [`Pairs::fingerprint`] of the clean data.
    pub data_fingerprint: String,
    /// How a triggered image reaches training: nothing is re-encoded when it is applied while loading.
    pub encoding: String,
    /// Of the weights of `poison.reference`, where it had a say in what became a target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_sha256: Option<String>,
    /// Pictures and grids that triggers refer to.
    #[serde(default)]
    pub materials: Vec<StoredMaterial>,
    /// Of the lines below the header, so that a changed row is noticed.
    pub rows_sha256: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A new pair beside the clean ones.
    Added,
    /// A clean pair with another caption, and perhaps a trigger.
    Replaced,
    /// The data holds the poisoned pair already (`poison make --write`): it is marked, and nothing is applied.
    Stored,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Row {
    /// The poisoned pair's id.
    pub id: String,
    /// The attack's name, as in `asr`.
    pub attack: String,
    pub role: Role,
    /// Id of the image: a sample of the training data, or for targeted poisoning one of the evaluation data.
    pub image: String,
    /// The class of that image, where it is known.
    pub true_class: Option<String>,
    /// The class the attacker wants.
    pub target: String,
    pub caption_before: Option<String>,
    pub caption_after: String,
    pub trigger: Option<Trigger>,
    /// Of the image file.
    pub sha256_before: String,
    /// Of the 8-bit RGB pixels that training decodes, trigger included.
    pub sha256_after: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub header: Header,
    pub rows: Vec<Row>,
}

/// What every format's header begins with.
#[derive(Deserialize)]
struct Version {
    roclip_manifest: u32,
}

/// One backdoor of a manifest.
#[derive(Debug, Clone)]
pub struct Backdoor {
    pub attack: String,
    pub target: String,
    /// With the seed of its first row.
    pub trigger: Trigger,
}

impl Manifest {
    /// The manifest as a file: header, then one line a row.
    pub fn to_jsonl(&self) -> Result<String> {
        let json = |value: serde_json::Result<String>| value.map_err(|e| Error::internal(format!("manifest: {e}")));
        let mut rows = String::new();
        for row in &self.rows {
            rows += &json(serde_json::to_string(row))?;
            rows.push('\n');
        }
        let header = Header { rows_sha256: artifact::sha256_hex(rows.as_bytes()), ..self.header.clone() };
        Ok(format!("{}\n{rows}", json(serde_json::to_string(&header))?))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        artifact::write(path, self.to_jsonl()?.as_bytes())
    }

    /// Reads and checks a manifest: its version, its rows against their digest, its materials against theirs.
    pub fn read(path: &Path) -> Result<Manifest> {
        const REMEDY: &str = "make it anew with `roclip poison make`";
        let text = artifact::read_text(path)?;
        let (first, rest) = text.split_once('\n').ok_or_else(|| Error::file(path, "is empty", REMEDY))?;
        let broken = |line: usize, e: serde_json::Error| {
            Error::file(path, format!("line {line} is not a manifest's: {e}"), REMEDY)
        };
        let version: Version = serde_json::from_str(first).map_err(|e| broken(1, e))?;
        if version.roclip_manifest != FORMAT {
            let what = format!("has format {}, this program reads {FORMAT}", version.roclip_manifest);
            return Err(Error::file(path, what, REMEDY));
        }
        let header: Header = serde_json::from_str(first).map_err(|e| broken(1, e))?;
        let found = artifact::sha256_hex(rest.as_bytes());
        if found != header.rows_sha256 {
            let what = format!(
                "was changed after it was made: its rows have the sha256 {found}, the header says {}",
                header.rows_sha256
            );
            return Err(Error::file(path, what, REMEDY));
        }
        let restored = header.materials.iter().map(Material::restore).collect::<std::result::Result<Vec<_>, _>>();
        let materials = Arc::new(restored.map_err(|what| Error::file(path, what, REMEDY))?);
        let mut rows = Vec::new();
        for (number, line) in rest.lines().enumerate() {
            let mut row: Row = serde_json::from_str(line).map_err(|e| broken(number + 2, e))?;
            if let Some(trigger) = &mut row.trigger {
                trigger.materials = Arc::clone(&materials);
            }
            rows.push(row);
        }
        Ok(Manifest { header, rows })
    }

    /// `pairs` without this poison: as they are, but for poisoned pairs that the data holds already.
    pub fn leave_out(&self, pairs: &mut Pairs, others: &[Sample]) -> Result<()> {
        self.check_data(pairs, others)?;
        let stored = self.rows.iter().filter(|row| row.role == Role::Stored);
        let stored: HashSet<&str> = stored.map(|row| row.id.as_str()).collect();
        pairs.pairs.retain(|pair| !stored.contains(pair.id.as_str()));
        Ok(())
    }

    fn check_data(&self, pairs: &Pairs, others: &[Sample]) -> Result<()> {
        if pairs.fingerprint() != self.header.data_fingerprint {
            return Err(Error::setting(
                format!("the manifest was made for other data: {}", self.first_mismatch(pairs, others)),
                "use the data and caption mode it was made with, or make a new manifest",
            ));
        }
        Ok(())
    }

    /// Lays the poison over `pairs`. `others` are samples that added rows may show (the evaluation data).
    pub fn apply(&self, pairs: &mut Pairs, others: &[Sample]) -> Result<()> {
        self.check_data(pairs, others)?;
        let by_id: HashMap<String, usize> =
            pairs.pairs.iter().enumerate().map(|(at, pair)| (pair.id.clone(), at)).collect();
        let mut borrowed: BTreeMap<String, usize> = BTreeMap::new();
        for row in &self.rows {
            let mark = PoisonMark { attack: row.attack.clone(), target: row.target.clone() };
            match row.role {
                Role::Replaced => {
                    let pair = by_id.get(&row.id).and_then(|at| pairs.pairs.get_mut(*at));
                    let pair = pair.ok_or_else(|| missing(&row.id))?;
                    pair.captions = vec![row.caption_after.clone()];
                    pair.trigger.clone_from(&row.trigger);
                    pair.poison = Some(mark);
                }
                Role::Stored => {
                    let pair = by_id.get(&row.id).and_then(|at| pairs.pairs.get_mut(*at));
                    pair.ok_or_else(|| missing(&row.id))?.poison = Some(mark);
                }
                Role::Added => {
                    let sample = match borrowed.get(&row.image) {
                        Some(at) => *at,
                        None => {
                            let sample =
                                others.iter().find(|s| s.id == row.image).ok_or_else(|| missing(&row.image))?;
                            pairs.samples.push(sample.clone());
                            borrowed.insert(row.image.clone(), pairs.samples.len() - 1);
                            pairs.samples.len() - 1
                        }
                    };
                    pairs.pairs.push(Pair {
                        id: row.id.clone(),
                        sample,
                        captions: vec![row.caption_after.clone()],
                        trigger: row.trigger.clone(),
                        poison: Some(mark),
                    });
                }
            }
        }
        Ok(())
    }

    /// The first difference between the data and what the manifest was made for, in words.
    fn first_mismatch(&self, pairs: &Pairs, others: &[Sample]) -> String {
        let by_id: HashMap<&str, &Pair> = pairs.pairs.iter().map(|pair| (pair.id.as_str(), pair)).collect();
        for (number, row) in (2..).zip(&self.rows) {
            let place = format!("line {number}, `{}`", row.id);
            if row.role == Role::Added {
                if !others.iter().any(|sample| sample.id == row.image) {
                    return format!("{place}: the evaluation data has no image `{}`", row.image);
                }
                continue;
            }
            let Some(pair) = by_id.get(row.id.as_str()) else {
                return format!("{place}: the data has no such pair");
            };
            let caption = match row.role {
                Role::Stored => Some(&row.caption_after),
                _ => row.caption_before.as_ref(),
            };
            if pair.captions.first() != caption {
                return format!(
                    "{place}: its caption is {:?}, the manifest says {:?}",
                    pair.captions.first().map_or("", String::as_str),
                    caption.map_or("", String::as_str)
                );
            }
        }
        format!(
            "the poisoned pairs fit, but the others differ ({} pairs here, {} there)",
            pairs.len(),
            self.header.clean_pairs
        )
    }

    /// Ids of the images that targeted poisoning aims at, with the class wanted.
    pub fn targeted(&self) -> BTreeMap<String, String> {
        let rows = self.rows.iter().filter(|row| row.trigger.is_none());
        rows.map(|row| (row.image.clone(), row.target.clone())).collect()
    }

    /// The backdoors, by name.
    pub fn backdoors(&self) -> Vec<Backdoor> {
        let mut seen: BTreeMap<&str, Backdoor> = BTreeMap::new();
        for row in &self.rows {
            if let Some(trigger) = &row.trigger {
                seen.entry(&row.attack).or_insert_with(|| Backdoor {
                    attack: row.attack.clone(),
                    target: row.target.clone(),
                    trigger: trigger.clone(),
                });
            }
        }
        seen.into_values().collect()
    }
}

fn missing(id: &str) -> Error {
    Error::setting(format!("the manifest names `{id}`, which the data does not have"), "use the data it was made for")
}
