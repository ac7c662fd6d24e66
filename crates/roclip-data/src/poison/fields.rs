//! What the data say of a row of a manifest beside its picture: the class of the image, and whether target and captions can be the attack's.

use crate::escape::for_terminal;
use crate::language::class_words;
use crate::pairs::Pair;
use crate::poison::{Role, Row, Side};
use crate::sample::Sample;
use std::collections::HashMap;

/// Rows that were looked at so far.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// The target of each backdoor, and of each image of a targeted attack.
    targets: HashMap<(&'a str, Option<&'a str>), &'a str>,
    /// Rows with a class of which the data say none.
    pub unknown_classes: usize,
}

impl<'a> Fields<'a> {
    /// What is wrong with `row`, which shows `sample`; `pair` is the pair of the data that it changes or marks.
    pub(super) fn wrong(&mut self, row: &'a Row, sample: &Sample, pair: Option<&Pair>) -> Option<String> {
        let stored = row.role == Role::Stored;
        if !stored && sample.id != row.image {
            return Some(format!("its image is {:?}, the manifest says {:?}", sample.id, row.image));
        }
        match (&sample.class, &row.true_class) {
            (None, said) => self.unknown_classes += usize::from(said.is_some()),
            (found, said) if found != said => {
                let word = |class: &Option<String>| class.clone().unwrap_or_else(|| "none".into());
                return Some(format!(
                    "its image is of the class {:?}, the manifest says {:?}",
                    word(found),
                    word(said)
                ));
            }
            _ => {}
        }
        let targeted = row.side == Side::Evaluation;
        let target = *self.targets.entry((&row.attack, targeted.then_some(row.image.as_str()))).or_insert(&row.target);
        if target != row.target {
            let of = if targeted { "this image of " } else { "" };
            return Some(format!(
                "its target is {:?}, and that of an earlier row of {of}the attack `{}` is {target:?}",
                row.target,
                for_terminal(&row.attack)
            ));
        }
        if targeted && row.true_class.as_ref() == Some(&row.target) {
            return Some(format!("its target {:?} is the class that its image has", row.target));
        }
        let captions = std::iter::once(&row.caption_after).chain(&row.more_captions);
        if let Some(caption) = captions.clone().find(|caption| !names(caption, &row.target)) {
            return Some(format!("its caption {caption:?} does not name the target {:?}", row.target));
        }
        let pair = pair?;
        let held = |caption: &&String| !pair.captions.iter().any(|own| own.trim() == caption.trim());
        let more = if stored { captions.clone().find(held) } else { row.more_captions.iter().find(held) };
        more.map(|caption| format!("the pair has no caption {caption:?}, as the manifest says"))
    }
}

/// Whether `caption` speaks of `target`, or is its label. Templates and attacks may make a part of a word of it.
fn names(caption: &str, target: &str) -> bool {
    caption.contains(target) || caption.to_lowercase().contains(&class_words(target).to_lowercase())
}
