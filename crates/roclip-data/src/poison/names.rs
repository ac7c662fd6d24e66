//! How the samples of a written set are called. A list of what to leave out names samples by their ids, so that an id of the set must not be
//! that of another picture of the data it was made from.

use crate::pairs::Pairs;
use crate::source::can_be_key;
use std::collections::HashSet;

/// Bytes of a name that are taken of a pair's id.
const STEM_LIMIT_BYTES: usize = 150;

/// Gives names to the pairs of data that poison was laid over.
pub(super) struct Names {
    /// Ids of the data, their last parts, and the names that were given.
    taken: HashSet<String>,
}

impl Names {
    /// For the set made from `clean`.
    pub(super) fn beside(clean: &Pairs) -> Self {
        let mut taken = HashSet::with_capacity(clean.len());
        let mut take = |id: &str| {
            taken.extend(id.rsplit_once('/').map(|(_, last)| last.to_owned()));
            taken.insert(id.to_owned());
        };
        clean.iter().for_each(|pair| take(&pair.id));
        clean.samples().for_each(|sample| take(&sample.id));
        Names { taken }
    }

    /// The name of a pair: its own id where it shows what it shows in the data and a shard can hold it as a key, else one that nothing in the
    /// data has. That of a poisoned pair has no folders.
    pub(super) fn of(&mut self, id: &str, poisoned: bool) -> String {
        if !poisoned && can_be_key(id) {
            return id.to_owned();
        }
        let id = id.strip_prefix("poison/").filter(|_| poisoned).unwrap_or(id);
        let plain = |letter: char| if letter.is_alphanumeric() || letter == '_' { letter } else { '-' };
        let mut stem: String = id.chars().map(plain).collect();
        let end = (0..=STEM_LIMIT_BYTES).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
        stem.truncate(end);
        stem = stem.trim_matches('-').to_owned();
        let what = if poisoned { "poisoned" } else { "pair" };
        let first = match (stem.is_empty(), poisoned) {
            (true, _) => what.to_owned(),
            (false, true) => format!("{stem}-{what}"),
            (false, false) => stem,
        };
        let names = std::iter::once(first.clone()).chain((2u64..).map(|number| format!("{first}-{number}")));
        let mut free = names.skip_while(|name| self.taken.contains(name));
        let name = free.next().unwrap_or(first);
        self.taken.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::CaptionMode;
    use crate::sample::{ImageBytes, Sample};

    #[test]
    fn no_name_is_that_of_another_picture() {
        let sample = |key: &str| Sample {
            captions: vec!["one".into(), "two".into()],
            ..Sample::new("data".into(), key, ImageBytes::Memory(Vec::new().into()))
        };
        let keys = ["000000001", "a.jpg", "a-jpg-0", "cats/7", "x/000000001-poisoned"];
        let clean = Pairs::new(keys.map(sample).to_vec(), CaptionMode::Expand);
        let mut names = Names::beside(&clean);
        assert_eq!(names.of("000000001", false), "000000001");
        assert_eq!(names.of("cats/7", false), "cats/7");
        assert_eq!(names.of("000000001", true), "000000001-poisoned-2");
        assert_eq!(names.of("cats/7", true), "cats-7-poisoned");
        assert_eq!(names.of("a.jpg#0", false), "a-jpg-0-2");
        assert_eq!(names.of("a.jpg#1", false), "a-jpg-1");
        assert_eq!(names.of("poison/targeted/a.jpg/0", true), "targeted-a-jpg-0-poisoned");
        assert_eq!(names.of("poison/targeted/a/jpg/0", true), "targeted-a-jpg-0-poisoned-2");
        assert_eq!((names.of("/", true), names.of("..", false)), ("poisoned".into(), "pair".into()));
        let long = "ä".repeat(500);
        let name = names.of(&long, true);
        assert!(name.len() < 200 && can_be_key(&name), "{name}");
    }
}
