//! A manifest laid over the data it was made for, or left out of it.

use crate::artifact;
use crate::error::{Error, Result};
use crate::escape::for_terminal;
use crate::pairs::{Pair, Pairs, PoisonMark};
use crate::picture::ImageLimits;
use crate::poison::images::Images;
use crate::poison::{Manifest, Role};
use crate::sample::Sample;
use std::collections::{HashMap, HashSet};

impl Manifest {
    /// Lays the poison over `pairs`. `others` are samples that added rows may show (the evaluation data).
    pub fn apply(&self, pairs: &mut Pairs, others: &[Sample]) -> Result<()> {
        self.check_data(pairs, others)?;
        let by_id = pairs.places(self.rows.iter().map(|row| row.id.as_str()));
        let evaluation: HashMap<&str, &Sample> = others.iter().map(|sample| (sample.id.as_str(), sample)).collect();
        let mut borrowed: HashMap<&str, usize> = HashMap::new();
        for row in &self.rows {
            let mark = PoisonMark { attack: row.attack.clone(), target: row.target.clone() };
            let known = by_id.get(&row.id).copied();
            match (row.role, known) {
                (Role::Added, Some(_)) => {
                    return Err(Error::setting(
                        format!(
                            "the data has a pair called `{}`, as the manifest calls one that it adds",
                            for_terminal(&row.id)
                        ),
                        "rename the pair, or give the attack another name",
                    ));
                }
                (Role::Added, None) => {
                    let sample = match borrowed.get(row.image.as_str()) {
                        Some(at) => *at,
                        None => {
                            let sample = evaluation.get(row.image.as_str()).ok_or_else(|| missing(&row.image))?;
                            let number = pairs.push_sample((*sample).clone());
                            borrowed.insert(&row.image, number);
                            number
                        }
                    };
                    pairs.push(Pair {
                        id: row.id.clone(),
                        sample,
                        captions: row.captions(),
                        trigger: row.trigger.clone(),
                        poison: Some(mark),
                    });
                }
                (Role::Replaced, Some(at)) => pairs.change(at, |pair| {
                    pair.captions = row.captions();
                    pair.trigger.clone_from(&row.trigger);
                    pair.poison = Some(mark);
                }),
                (Role::Stored, Some(at)) => pairs.change(at, |pair| pair.poison = Some(mark)),
                (Role::Replaced | Role::Stored, None) => return Err(missing(&row.id)),
            }
        }
        Ok(())
    }

    /// `pairs` without this poison: as they are, but for poisoned pairs that the data holds already.
    pub fn leave_out(&self, pairs: &mut Pairs, others: &[Sample]) -> Result<()> {
        self.check_data(pairs, others)?;
        self.leave_out_stored(pairs);
        Ok(())
    }

    /// Takes the poisoned pairs that a written set holds out of `pairs`, which may be that set, a part of it, or other data. A pair is
    /// known by its sample's id and by one of its captions. The number of pairs that were left out.
    pub fn leave_out_stored(&self, pairs: &mut Pairs) -> usize {
        let stored = self.rows.iter().filter(|row| row.role == Role::Stored);
        let stored: HashMap<&str, HashSet<&str>> = stored
            .map(|row| {
                let captions = std::iter::once(&row.caption_after).chain(&row.more_captions);
                (row.id.as_str(), captions.map(|caption| caption.trim()).collect())
            })
            .collect();
        let poisoned = |sample: &Sample| {
            // The set's name stands before the key when it is read beside others.
            let captions = sample.id.rsplit('/').next().and_then(|key| stored.get(key));
            captions.is_some_and(|known| sample.captions.iter().any(|caption| known.contains(caption.trim())))
        };
        let before = pairs.len();
        if !stored.is_empty() {
            pairs.retain(|_, sample| !sample.is_some_and(poisoned));
        }
        before - pairs.len()
    }

    /// Whether the image files that the poison is laid on are still those that it was made of. Every picture is read once and none
    /// decoded; one that cannot be read is left to training, which counts it. Of a written set the data's fingerprint says it.
    ///
    /// # Errors
    /// The first file that differs.
    pub fn check_pictures(&self, pairs: &Pairs, others: &[Sample], limits: ImageLimits) -> Result<()> {
        let images = Images::new(pairs, others, &self.rows);
        let mut read = HashSet::new();
        for (number, row) in (2..).zip(&self.rows).filter(|(_, row)| row.role != Role::Stored) {
            if !read.insert((row.side, row.image.as_str())) {
                continue;
            }
            let Some(Ok(bytes)) = images.of(row).map(|sample| sample.image.read(limits.max_file_bytes)) else {
                continue;
            };
            let found = artifact::sha256_hex(&bytes);
            if found != row.sha256_before {
                return Err(Error::setting(
                    format!(
                        "the image file of `{}` was changed after the manifest was made (line {number}): it has the sha256 {found}, the manifest says {}",
                        for_terminal(&row.image),
                        row.sha256_before
                    ),
                    "bring the file back, or make a new manifest with `roclip poison make`",
                ));
            }
        }
        Ok(())
    }

    fn check_data(&self, pairs: &Pairs, others: &[Sample]) -> Result<()> {
        self.check_is_of_pairs()?;
        if pairs.fingerprint() != self.header.data_fingerprint {
            let remedy = match self.is_of_written() {
                true => {
                    "name the shards as `poison make --out-shards` wrote them, beside this manifest; where pairs were taken out of them \
                     (`data drop`), name the whole ones, and leave the same pairs out while training: --train-data WHOLE --drop LIST \
                     with this --manifest. Without --manifest the rest is trained on as it is, poison included"
                }
                false => {
                    "use the data and caption mode it was made with (pairs are left out of them with --drop LIST, behind the manifest), \
                     or make a new manifest"
                }
            };
            return Err(Error::setting(
                format!("the manifest was made for other data: {}", self.first_mismatch(pairs, others)),
                remedy,
            ));
        }
        Ok(())
    }

    /// The first difference between the data and what the manifest was made for, in words.
    fn first_mismatch(&self, pairs: &Pairs, others: &[Sample]) -> String {
        let images = Images::new(pairs, others, &self.rows);
        for (number, row) in (2..).zip(&self.rows) {
            let place = format!("line {number}, `{}`", for_terminal(&row.id));
            if row.role == Role::Added {
                if images.evaluated(&row.image).is_none() {
                    return format!("{place}: the evaluation data has no image `{}`", for_terminal(&row.image));
                }
                continue;
            }
            let Some(pair) = images.pair(&row.id) else {
                return format!("{place}: the data has no such pair");
            };
            let caption = match row.role {
                Role::Stored => Some(row.caption_after.trim()),
                _ => row.caption_before.as_deref(),
            };
            if let Some(other) = other_caption(pair, caption) {
                return format!("{place}: {other}");
            }
        }
        let stored = self.rows.iter().filter(|row| row.role == Role::Stored).count();
        format!(
            "the poisoned pairs fit, but captions, ids or pictures of the data differ ({} pairs here, {} there)",
            pairs.len(),
            self.header.clean_pairs + stored
        )
    }
}

/// What is to be said where the first caption of `pair` is not the one that the manifest says.
pub(super) fn other_caption(pair: &Pair, said: Option<&str>) -> Option<String> {
    let found = pair.captions.first().map(String::as_str);
    let words =
        || format!("its caption is {:?}, the manifest says {:?}", found.unwrap_or_default(), said.unwrap_or_default());
    (found != said).then(words)
}

fn missing(id: &str) -> Error {
    Error::setting(
        format!("the manifest names `{}`, which the data does not have", for_terminal(id)),
        "use the data it was made for",
    )
}
