//! The data and settings that a plan is drawn from.

use crate::pairs::Pairs;
use crate::picture::ImageLimits;
use crate::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// The data and settings that a plan is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub seed: u64,
    /// The clean training pairs.
    pub pairs: &'a Pairs,
    /// Whether the caption of a pair is its label: then an attack changes labels.
    pub labelled: bool,
    /// The labelled images that targets come from.
    pub candidates: Candidates<'a>,
    /// Prompts with `{}` for the class.
    pub templates: &'a [String],
    /// The frame of triggers that say none, in pixels.
    pub image_size: u32,
    /// Limits of pictures that are poisoned, and of the files that triggers name.
    pub limits: ImageLimits,
}

/// Labelled images outside the training data.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    pub samples: &'a [Sample],
    /// The images and classes that `poison.reference` rules out; none when absent.
    pub screen: Option<&'a Screen>,
    /// For [`CaptionRule::WordRead`]: each training caption's class, as `poison.reference` reads it.
    pub read_as: Option<&'a BTreeMap<String, String>>,
}

/// Which targets a model that was never attacked rules out. Ours: a weak model takes some pictures for the attacker's class by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Screen {
    /// Ids of the images that it classifies rightly; no other becomes a target.
    ReadRightly(BTreeSet<String>),
    /// By image id, its first guesses; none of them becomes the image's adversarial class.
    Guesses(BTreeMap<String, BTreeSet<String>>),
}

impl Screen {
    pub(super) fn admits(&self, image: &Sample) -> bool {
        match self {
            Screen::ReadRightly(ids) => ids.contains(&image.id),
            Screen::Guesses(_) => true,
        }
    }

    pub(super) fn admits_class(&self, image: &Sample, class: &str) -> bool {
        match self {
            Screen::ReadRightly(_) => true,
            Screen::Guesses(guesses) => guesses.get(&image.id).is_none_or(|first| !first.contains(class)),
        }
    }

    /// After "labelled images" in a message.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Screen::ReadRightly(_) => " that poison.reference classifies rightly",
            Screen::Guesses(_) => ", adversarial classes beyond the first guesses of poison.reference",
        }
    }
}
