//! Which pairs were looked at, and beside which trusted ones: what a page and `detect.json` say of the data.

use crate::recipe::Recipe;
use roclip_data::pairs::Pairs;
use roclip_data::sample::{PictureDigest, Sample};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;

/// The data of a look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LookedAt {
    /// As the recipe names it.
    pub train_data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<TrustedPairs>,
}

/// Pairs that are known to be clean.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrustedPairs {
    /// As it was named.
    pub path: String,
    /// That can be read.
    pub pairs: usize,
    /// Pictures among them that are looked at, too.
    pub also_looked_at: usize,
}

impl LookedAt {
    /// The data of `recipe`, without trusted pairs.
    pub fn of(recipe: &Recipe) -> LookedAt {
        LookedAt { train_data: recipe.data.source.path.clone(), manifest: recipe.manifest.clone(), trusted: None }
    }
}

/// What tells one picture from others: its bytes where it was probed, and else its name and captions.
#[derive(PartialEq, Eq, Hash)]
enum Picture<'a> {
    Bytes(PictureDigest),
    Named(&'a str, &'a [String]),
}

fn named(sample: &Sample) -> Picture<'_> {
    Picture::Named(&sample.id, &sample.captions)
}

/// How many of the pictures of `trusted` are among those of `looked_at`.
pub fn also_looked_at(looked_at: &Pairs, trusted: &Pairs) -> usize {
    let samples = trusted.all_samples();
    let mut places: HashMap<Picture, Vec<usize>> = HashMap::new();
    for (place, sample) in samples.iter().enumerate() {
        let bytes = sample.digest.map(Picture::Bytes);
        for picture in bytes.into_iter().chain([named(sample)]) {
            places.entry(picture).or_default().push(place);
        }
    }
    let mut found = vec![false; samples.len()];
    // One at a time: of a large index all together are what it keeps out of memory.
    for pair in looked_at.iter() {
        let Some(own) = looked_at.sample_of(&pair) else { continue };
        let picture = own.digest.map_or_else(|| named(&own), Picture::Bytes);
        for place in places.get(&picture).into_iter().flatten() {
            if let (Some(found), Some(sample)) = (found.get_mut(*place), samples.get(*place)) {
                // Of pictures whose bytes are known on both sides these decide.
                *found |= own.digest.is_none() || sample.digest == own.digest;
            }
        }
    }
    found.into_iter().filter(|found| *found).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::pairs::CaptionMode;
    use roclip_data::sample::ImageBytes;

    #[test]
    fn trusted_pictures_that_are_looked_at_are_counted_by_bytes_and_else_by_name() {
        let sample = |id: &str, caption: &str| Sample {
            captions: vec![caption.to_owned()],
            ..Sample::new("test".into(), id, ImageBytes::Memory(Vec::new().into()))
        };
        let pairs = |samples: Vec<Sample>| Pairs::new(samples, CaptionMode::Expand);
        let own = pairs(vec![sample("a", "one"), sample("b", "two"), sample("c", "three")]);
        let others = pairs(vec![sample("a", "one"), sample("b", "other"), sample("d", "three")]);
        assert_eq!((also_looked_at(&own, &others), also_looked_at(&own, &own)), (1, 3));
        let with = |id: &str, byte: u8| Sample { digest: Some([byte; 16]), ..sample(id, "one") };
        // One name may be of two pictures, and one picture have two names.
        let probed = pairs(vec![with("a", 1), with("b", 2)]);
        let trusted = pairs(vec![with("a", 3), with("x", 2), with("y", 2)]);
        assert_eq!(also_looked_at(&probed, &trusted), 2);
    }
}
