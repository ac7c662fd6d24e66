//! What of a source is written again when some of it is left out.

use crate::artifact;
use crate::sample::{ImageBytes, Sample};
use crate::skip::SkipReport;
use crate::source::captions;
use crate::source::spelling::{place, plain_path};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is left out of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    Nothing,
    Whole,
    /// These of its captions, from 0.
    Captions(Vec<usize>),
}

/// What was written besides the samples that are kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// How the data without what was left out are named: `a::b` where they are joined, as they were.
    pub path: String,
    pub files: usize,
    /// Parts that belong to no sample and are not copied.
    pub not_copied: SkipReport,
    /// The encoding that a text had before it was written as UTF-8.
    pub former_encoding: Option<&'static str>,
    /// The folder that the paths in a list start from, where the list may lie elsewhere now; of joined data as `SourceConfig::image_root` has
    /// them, one for each part where not all have the same.
    pub image_root: Option<PathBuf>,
}

impl Kept {
    /// Adds what was written of another part. Where the pictures of both lie is for the caller to say.
    pub(super) fn append(&mut self, other: Kept) {
        self.files += other.files;
        self.not_copied.merge(other.not_copied);
        self.former_encoding = self.former_encoding.or(other.former_encoding);
    }

    /// Of a list with these samples, written to `out`: their pictures may lie in a folder of the one that is named, where they were found because
    /// the list lay beside it.
    pub(super) fn with_pictures_of(mut self, samples: &[&Sample], out: &Path) -> Kept {
        let beside = artifact::folder_of(out);
        if let Some(root) = self.image_root.take_if(|root| place(beside) != place(root)) {
            let files = samples.iter().filter(|sample| matches!(sample.image, ImageBytes::File(_)));
            let mut folders = files.map(|sample| &*sample.source);
            let first = folders.next().filter(|first| folders.all(|folder| folder == *first)).map(PathBuf::from);
            self.image_root = Some(first.filter(|first| *first != place(&root)).unwrap_or(root));
        }
        self
    }
}

/// Samples of one source of which something is left out.
#[derive(Debug, Default)]
pub(super) struct Leave {
    samples: Vec<(Arc<str>, String, Leaving)>,
}

impl Leave {
    pub(super) fn add(&mut self, sample: &Sample, leaving: Leaving) {
        // In a shard `a.v2` may stay where `a` goes.
        // A name with blanks around it is that of this picture, and not of the one without.
        let may_belong_to_another = match sample.image {
            ImageBytes::File(_) => captions::tidy(&sample.key) != sample.key,
            _ => sample.key.contains('.'),
        };
        if leaving != Leaving::Nothing || may_belong_to_another {
            self.samples.push((Arc::clone(&sample.source), sample.key.clone(), leaving));
        }
    }

    /// Those whose source is this one.
    pub(super) fn of_source(&self, source: &str) -> Leave {
        Leave { samples: self.samples.iter().filter(|(of, ..)| **of == *source).cloned().collect() }
    }

    /// Those of a list whose paths start from the folder `root`, or from the one in it that its pictures were found in; `others` are the places
    /// of the sources of other lists.
    pub(super) fn of_list(&self, root: &Path, others: &HashSet<PathBuf>) -> Leave {
        let root = place(root);
        let is_own =
            |source: &Path| source == root || source.parent() == Some(root.as_path()) && !others.contains(source);
        Leave { samples: self.samples.iter().filter(|(of, ..)| is_own(Path::new(&**of))).cloned().collect() }
    }

    /// Those of both.
    pub(super) fn and(mut self, other: Leave) -> Leave {
        self.samples.extend(other.samples);
        self
    }

    /// Source and key of those that are left out whole.
    pub(super) fn whole(&self) -> impl Iterator<Item = (&str, &str)> {
        let whole = self.samples.iter().filter(|(.., leaving)| *leaving == Leaving::Whole);
        whole.map(|(source, key, _)| (&**source, key.as_str()))
    }

    /// By their keys.
    pub(super) fn by_key(&self) -> HashMap<&str, &Leaving> {
        self.samples.iter().map(|(_, key, leaving)| (key.as_str(), leaving)).collect()
    }

    /// The keys of those of which only captions are left out.
    pub(super) fn only_captions(&self) -> impl Iterator<Item = &str> {
        self.samples
            .iter()
            .filter(|(.., leaving)| matches!(leaving, Leaving::Captions(_)))
            .map(|(_, key, _)| key.as_str())
    }
}

/// What becomes of a row of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Dropped,
    /// With these captions only.
    Captions(Vec<String>),
}

/// Decides on the rows of a list in their order: captions are numbered over all rows of a picture.
pub(super) struct Fates<'a> {
    leave: HashMap<&'a str, &'a Leaving>,
    /// The captions so far of those pictures of which some are left out.
    numbered: HashMap<String, Vec<String>>,
}

impl<'a> Fates<'a> {
    pub(super) fn new(leave: &'a Leave) -> Self {
        Fates { leave: leave.by_key(), numbered: HashMap::new() }
    }

    /// Of a row with these captions of the picture `image`.
    pub(super) fn of(&mut self, image: &str, captions: &[String]) -> Fate {
        let tidy = if self.leave.contains_key(image) { image } else { captions::tidy(image) };
        let plain = plain_path(tidy);
        let image = if self.leave.contains_key(tidy) { tidy } else { &plain };
        let left_out = match self.leave.get(image) {
            None | Some(Leaving::Nothing) => return Fate::Kept,
            Some(Leaving::Whole) => return Fate::Dropped,
            Some(Leaving::Captions(numbers)) => numbers,
        };
        let earlier = self.numbered.entry(image.to_owned()).or_default();
        let mut kept = Vec::new();
        for caption in captions {
            let number = earlier.len();
            // One that was not taken has no number.
            let taken = captions::add(earlier, caption).is_ok() && earlier.len() > number;
            if !taken || !left_out.contains(&number) {
                kept.push(caption.clone());
            }
        }
        match kept.len() {
            all if all == captions.len() => Fate::Kept,
            0 => Fate::Dropped,
            _ => Fate::Captions(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;

    #[test]
    fn captions_are_numbered_over_the_rows_of_a_picture() {
        let sample = |key: &str| Sample::new("data".into(), key, ImageBytes::Memory(Vec::new().into()));
        let mut leave = Leave::default();
        leave.add(&sample("a"), Leaving::Captions(vec![1, 2]));
        leave.add(&sample("b"), Leaving::Whole);
        leave.add(&sample("c"), Leaving::Nothing);
        leave.add(&sample("b.c"), Leaving::Nothing);
        let mut fates = Fates::new(&leave);
        let mut of = |image: &str, captions: &[&str]| {
            fates.of(image, &captions.iter().map(|caption| (*caption).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of("a", &["0"]), Fate::Kept);
        assert_eq!((of("b", &["0"]), of("c", &["0"])), (Fate::Dropped, Fate::Kept));
        assert_eq!(of("b.c", &["0"]), Fate::Kept);
        assert_eq!(of("a", &[" "]), Fate::Kept, "an empty one has no number");
        assert_eq!(of("a", &["1"]), Fate::Dropped);
        assert_eq!(of("a", &["2", "3"]), Fate::Captions(vec!["3".into()]));
        assert_eq!(of("a", &["4"]), Fate::Kept);
    }
}
