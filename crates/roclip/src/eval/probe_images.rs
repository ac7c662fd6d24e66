//! The images that a probe and the nearest neighbours learn from and are asked about.

use crate::error::{Error, Result};
use crate::eval::{ProbeData, Reading};
use roclip_data::poison::Aim;
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Those of a data set of their own.
pub(super) struct ProbeImages {
    train: Vec<Sample>,
    test: Vec<Sample>,
}

impl ProbeImages {
    /// # Errors
    /// When one image of one source is to be trained and tested on.
    pub fn read(data: &ProbeData, reading: &Reading) -> Result<ProbeImages> {
        let (train, _) = reading.samples(&data.train, "eval.probe.data.train")?;
        let (test, _) = reading.samples(&data.test, "eval.probe.data.test")?;
        let tested: BTreeSet<&str> = test.iter().map(|sample| sample.id.as_str()).collect();
        // Of two folders each may have its `0001.jpg`.
        let same_source = data.train.path == data.test.path;
        let both = train.iter().find(|sample| same_source && tested.contains(sample.id.as_str()));
        match both {
            Some(both) => Err(Error::setting(
                format!("the image `{}` is in eval.probe.data's training and test images", both.id),
                "give two splits, or two sources",
            )),
            None => Ok(ProbeImages { train, test }),
        }
    }
}

/// Training and test images: those of `own`, or the images of `training` that are not `evaluated`, and `evaluated`. What an attack
/// targets is left out.
pub(super) fn choose<'a>(
    own: Option<&'a ProbeImages>,
    training: &'a [Sample],
    evaluated: &'a [Sample],
    targeted: &BTreeMap<String, BTreeSet<Aim>>,
) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
    let untargeted = |sample: &&Sample| !targeted.contains_key(&sample.id);
    match own {
        Some(data) => (data.train.iter().filter(untargeted).collect(), data.test.iter().filter(untargeted).collect()),
        None => {
            let asked: BTreeSet<&str> = evaluated.iter().map(|sample| sample.id.as_str()).collect();
            let train = training.iter().filter(|sample| !asked.contains(sample.id.as_str())).collect();
            (train, evaluated.iter().filter(untargeted).collect())
        }
    }
}
