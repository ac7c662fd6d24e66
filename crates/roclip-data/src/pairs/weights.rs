//! Joined parts of the data that are seen more or less often than once an epoch.

use crate::error::{Error, Result};
use crate::pairs::Pairs;
use crate::plural::count;
use crate::random;
use rand::RngExt;

/// No pair is repeated more often.
const MOST: f64 = 1000.0;

/// Repeats the pairs of each part of the data as its weight says: 3 is three times an epoch, 0.5 is half of the pairs, and 1.5 all of them and
/// half of them once more, drawn by `seed`. A repeat has the id of its pair and `@2` and so on behind it, so that it is changed at random on
/// its own.
///
/// # Errors
/// Another number of weights than of `parts`, and a weight that is 0, below 0 or no number.
pub fn weigh_parts(pairs: &mut Pairs, weights: &[f64], parts: usize, seed: u64) -> Result<()> {
    if weights.len() != parts {
        return Err(Error::setting(
            format!("{} for {} of the training data", count(weights.len(), "weight"), count(parts, "part")),
            "give a weight for each part between `::`, in their order (data.weights, --train-data-upsampling-factors)",
        ));
    }
    if let Some(weight) = weights.iter().find(|weight| !(**weight > 0.0 && **weight <= MOST)) {
        return Err(Error::setting(
            format!("a weight of {weight} for a part of the training data"),
            format!("weights are above 0 and at most {MOST}; leave the part out of --train-data instead"),
        ));
    }
    pairs.repeat(|pair, sample| {
        let part = sample.map_or(0, |sample| sample.part as usize);
        let weight = weights.get(part).copied().unwrap_or(1.0);
        let share = weight.fract();
        let once_more =
            share > 0.0 && random::stream(seed, "weights-of-parts", 0, &pair.id).random_range(0.0..1.0) < share;
        weight.floor() as usize + usize::from(once_more)
    });
    match pairs.is_empty() {
        true => Err(Error::setting("the weights of the training data leave no pair", "raise them")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::CaptionMode;
    use crate::sample::{ImageBytes, Sample};
    use std::collections::BTreeSet;

    fn pairs() -> Pairs {
        let sample = |number: u32| Sample {
            captions: vec!["a".into()],
            part: number % 3,
            ..Sample::new("data".into(), number.to_string(), ImageBytes::Memory(Vec::new().into()))
        };
        Pairs::new((0..600).map(sample).collect(), CaptionMode::Expand)
    }

    #[test]
    fn weights_repeat_and_thin_out_whole_parts() {
        let weighed = |seed| {
            let mut pairs = pairs();
            weigh_parts(&mut pairs, &[1.0, 3.0, 0.5], 3, seed).unwrap();
            pairs
        };
        let found = weighed(0);
        let of = |part| found.iter().filter(|pair| found.sample_of(pair).unwrap().part == part).count();
        assert_eq!((of(0), of(1)), (200, 600));
        assert!((80..=120).contains(&of(2)), "{}", of(2));
        let ids: BTreeSet<String> = found.iter().map(|pair| pair.id.clone()).collect();
        assert_eq!(ids.len(), found.len(), "every pair has an id of its own");
        assert!(ids.contains("1@3") && !ids.contains("1@4"));
        assert_eq!(found.fingerprint(), weighed(0).fingerprint());
        assert_ne!(found.fingerprint(), weighed(1).fingerprint(), "which half is drawn");
        let mut same = pairs();
        weigh_parts(&mut same, &[1.0; 3], 3, 0).unwrap();
        assert_eq!(same.fingerprint(), pairs().fingerprint());
    }

    #[test]
    fn weights_that_cannot_be_are_errors() {
        let error = |weights: &[f64]| weigh_parts(&mut pairs(), weights, 3, 0).unwrap_err().to_string();
        assert!(error(&[1.0]).contains("1 weight for 3 parts"));
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(error(&[1.0, weight, 1.0]).contains("a weight of"), "{weight}");
        }
    }
}
