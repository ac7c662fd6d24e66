//! The manifest of a poisoning: one JSON line a poisoned pair, after a header line. It is enough to make the same bytes again.

use crate::artifact;
use crate::data::Pair;
use crate::data::{Pairs, Sample};
use crate::error::{Error, Result};
use crate::poison::Trigger;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

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
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A new pair beside the clean ones.
    Added,
    /// A clean pair with another caption, and perhaps a trigger.
    Replaced,
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

impl Manifest {
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        let mut line = |value: serde_json::Result<String>| -> Result<()> {
            text.push_str(&value.map_err(|e| Error::internal(format!("manifest: {e}")))?);
            text.push('\n');
            Ok(())
        };
        line(serde_json::to_string(&self.header))?;
        for row in &self.rows {
            line(serde_json::to_string(row))?;
        }
        artifact::write(path, text.as_bytes())
    }

    pub fn read(path: &Path) -> Result<Manifest> {
        let text = artifact::read_text(path)?;
        let mut lines = text.lines().enumerate();
        let broken = |line: usize, e: serde_json::Error| {
            Error::file(
                path,
                format!("line {} is not a manifest's: {e}", line + 1),
                "make it anew with `roclip poison make`",
            )
        };
        let (_, first) =
            lines.next().ok_or_else(|| Error::file(path, "is empty", "make it anew with `roclip poison make`"))?;
        let header = serde_json::from_str(first).map_err(|e| broken(0, e))?;
        let rows =
            lines.map(|(n, line)| serde_json::from_str(line).map_err(|e| broken(n, e))).collect::<Result<_>>()?;
        Ok(Manifest { header, rows })
    }

    /// Lays the poison over `pairs`. `others` are samples that added rows may show (the evaluation data).
    pub fn apply(&self, pairs: &mut Pairs, others: &[Sample]) -> Result<()> {
        let found = pairs.fingerprint();
        if found != self.header.data_fingerprint {
            return Err(Error::setting(
                format!(
                    "the manifest was made for other data: {} pairs, fingerprint {}, but this data has {} pairs, fingerprint {found}",
                    self.header.clean_pairs,
                    self.header.data_fingerprint,
                    pairs.len()
                ),
                "use the data and caption mode it was made with, or make a new manifest",
            ));
        }
        let by_id: HashMap<String, usize> =
            pairs.pairs.iter().enumerate().map(|(at, pair)| (pair.id.clone(), at)).collect();
        let mut borrowed: BTreeMap<String, usize> = BTreeMap::new();
        for row in &self.rows {
            let mark = crate::data::PoisonMark { attack: row.attack.clone(), target: row.target.clone() };
            match row.role {
                Role::Replaced => {
                    let pair = by_id.get(&row.id).and_then(|at| pairs.pairs.get_mut(*at));
                    let pair = pair.ok_or_else(|| missing(&row.id))?;
                    pair.captions = vec![row.caption_after.clone()];
                    pair.trigger.clone_from(&row.trigger);
                    pair.poison = Some(mark);
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

    /// Ids of the images that targeted poisoning aims at, with the class wanted.
    pub fn targeted(&self) -> BTreeMap<String, String> {
        let rows = self.rows.iter().filter(|row| row.role == Role::Added && row.trigger.is_none());
        rows.map(|row| (row.image.clone(), row.target.clone())).collect()
    }

    /// One row of each attack that has a trigger: `(attack, target, trigger)`.
    pub fn backdoors(&self) -> Vec<(String, String, Trigger)> {
        let mut seen = BTreeMap::new();
        for row in &self.rows {
            if let Some(trigger) = &row.trigger {
                seen.entry(row.attack.clone()).or_insert_with(|| (row.target.clone(), trigger.clone()));
            }
        }
        seen.into_iter().map(|(attack, (target, trigger))| (attack, target, trigger)).collect()
    }
}

fn missing(id: &str) -> Error {
    Error::setting(format!("the manifest names `{id}`, which the data does not have"), "use the data it was made for")
}
