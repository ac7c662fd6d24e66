//! The pictures of a manifest's rows: where they are found, and their digests.

use crate::artifact;
use crate::guard::contained;
use crate::pairs::{Pair, Pairs};
use crate::picture::{ImageLimits, decode};
use crate::poison::{Row, Side};
use crate::sample::Sample;
use crate::skip::Skip;
use crate::trigger::TriggerStack;
use std::borrow::Cow;
use std::collections::HashMap;

/// Training pairs by id, and evaluation images by id: both sides may use the same key, so they are never looked up together.
pub struct Images<'a> {
    training: &'a Pairs,
    /// The pairs that the rows name.
    pairs: HashMap<String, Cow<'a, Pair>>,
    evaluation: HashMap<&'a str, &'a Sample>,
}

impl<'a> Images<'a> {
    /// Those of `rows`.
    pub fn new(training: &'a Pairs, evaluation: &'a [Sample], rows: &[Row]) -> Self {
        let places = training.places(rows.iter().map(|row| row.id.as_str()));
        Images {
            training,
            pairs: places.into_iter().filter_map(|(id, at)| Some((id, training.get(at)?))).collect(),
            evaluation: evaluation.iter().map(|sample| (sample.id.as_str(), sample)).collect(),
        }
    }

    /// The training pair with this id.
    pub fn pair(&self, id: &str) -> Option<&Pair> {
        self.pairs.get(id).map(|pair| &**pair)
    }

    /// The evaluation image with this id.
    pub fn evaluated(&self, id: &str) -> Option<&'a Sample> {
        self.evaluation.get(id).copied()
    }

    /// The picture that the row shows: of a stored pair the one in the data, which carries the trigger already.
    pub fn of(&self, row: &Row) -> Option<Cow<'a, Sample>> {
        match row.shown_side() {
            Side::Evaluation => self.evaluated(&row.image).map(Cow::Borrowed),
            Side::Training => self.pair(&row.id).and_then(|pair| self.training.sample_of(pair)),
        }
    }
}

/// sha256 of the image file, and of the 8-bit RGB pixels that training decodes under `trigger`.
pub(super) fn hashes(
    sample: &Sample,
    trigger: Option<&TriggerStack>,
    limits: ImageLimits,
) -> Result<(String, String), Skip> {
    contained(|| hash_both(sample, trigger, limits))
}

fn hash_both(sample: &Sample, trigger: Option<&TriggerStack>, limits: ImageLimits) -> Result<(String, String), Skip> {
    let bytes = sample.image.read(limits.max_file_bytes)?;
    let decoded = decode(&bytes, limits)?;
    let after = match trigger {
        Some(trigger) => trigger.apply(&decoded)?,
        None => decoded,
    };
    Ok((artifact::sha256_hex(&bytes), artifact::sha256_hex(after.as_raw())))
}
