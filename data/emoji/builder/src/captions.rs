//! Captions as people would write them: a sentence around the label, some of the tags, sometimes the category.

use crate::join::Concept;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Captions per image; a training run takes one an epoch or all of them as pairs.
const CAPTIONS: usize = 6;
const TEMPLATES: [&str; 6] =
    ["{}", "a picture of {}", "an emoji of {}", "a drawing of {}", "an icon showing {}", "a small image of {}"];

/// `CAPTIONS` distinct captions, drawn from a stream that depends on the image's key alone.
pub fn write(concept: &Concept, key: &str) -> Vec<String> {
    let mut random = ChaCha8Rng::from_seed(Sha256::digest(format!("captions {key}")).into());
    let mut captions: Vec<String> = Vec::with_capacity(CAPTIONS);
    let tags: Vec<&String> = concept.tags.iter().filter(|tag| tag.to_lowercase() != concept.label).collect();
    for _ in 0..CAPTIONS * 20 {
        if captions.len() == CAPTIONS {
            break;
        }
        let template = TEMPLATES.choose(&mut random).copied().unwrap_or("{}");
        let mut caption = template.replace("{}", &concept.label);
        let mut shuffled = tags.clone();
        shuffled.shuffle(&mut random);
        let count = random.random_range(1..=3);
        for tag in shuffled.into_iter().take(count) {
            caption = format!("{caption}, {}", tag.to_lowercase());
        }
        match random.random_range(0..100) {
            0..20 => caption = format!("{caption}, {}", concept.subgroup),
            20..35 => caption = format!("{caption}, {}", concept.group),
            _ => {}
        }
        if !captions.contains(&caption) {
            captions.push(caption);
        }
    }
    captions
}
