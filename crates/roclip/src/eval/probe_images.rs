//! The images that a probe and the nearest neighbours learn from and are asked about.

use crate::error::{Error, Result};
use crate::eval::{ProbeData, Reading};
use roclip_data::artifact;
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
        let tested: BTreeSet<(&str, &str)> = test.iter().map(Sample::identity).collect();
        let both = train.iter().find(|sample| tested.contains(&sample.identity()));
        match both {
            Some(both) => Err(Error::setting(
                format!("the image `{}` is in eval.probe.data's training and test images", both.id),
                "give two splits, or two sources",
            )),
            None => Ok(ProbeImages { train, test }),
        }
    }
}

impl ProbeImages {
    /// Of the training and of the test images, each with its class: wherever they lie and whatever they are called.
    pub fn digests(&self) -> [String; 2] {
        [&self.train, &self.test].map(|samples| {
            let mut lines: Vec<String> =
                samples.iter().map(|sample| format!("{:02x?} {:?}\n", sample.digest, sample.class)).collect();
            lines.sort_unstable();
            artifact::sha256_hex(lines.concat().as_bytes())
        })
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
            let asked: BTreeSet<(&str, &str)> = evaluated.iter().map(Sample::identity).collect();
            let train = training.iter().filter(|sample| !asked.contains(&sample.identity())).collect();
            (train, evaluated.iter().filter(untargeted).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;
    use std::sync::Arc;

    /// Every folder has its `0001.jpg`.
    #[test]
    fn a_training_image_is_left_out_when_it_is_the_same_picture_and_not_for_its_name() {
        let sample = |source: &str| Sample::new(source.into(), "0001.jpg", ImageBytes::Memory(Arc::from(Vec::new())));
        let training = [sample("a"), sample("b")];
        let evaluated = [sample("b")];
        let (train, test) = choose(None, &training, &evaluated, &BTreeMap::new());
        assert_eq!((train.len(), test.len()), (1, 1));
        assert!(train[0].is_same(&training[0]));
    }
}
