//! Which members of a shard are one sample.
//!
//! WebDataset's key is the path up to the first dot of the file name. What stands between that dot and the ending (`a.v2.jpg`, `s.input.jpg`)
//! tells two samples apart where each has its own image and text, and is only a name for its part where the parts make one sample together.

use crate::sample::{ImageBytes, Sample, id_of};
use crate::skip::{Skip, SkipReason};
use crate::source::captions;
use crate::source::json::Texts;
use crate::source::metadata::Metadata;
use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;

/// The members that may make one sample.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub image: Option<ImageBytes>,
    pub text: Option<String>,
    pub class: Option<String>,
    pub(super) metadata: Option<Result<Metadata, String>>,
    /// Why a member of it is not here.
    pub trouble: Option<Skip>,
}

/// All members with one key.
#[derive(Debug, Default)]
pub(crate) struct Group {
    plain: Parts,
    /// By what stands between the key and the ending.
    dotted: BTreeMap<String, Parts>,
}

/// `folder/key`, what stands between the key and the ending, and the ending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub key: &'a str,
    pub middle: &'a str,
    pub extension: &'a str,
}

impl<'a> Name<'a> {
    /// None for a name without an ending, or of a hidden file.
    pub(crate) fn of(path: &'a str) -> Option<Name<'a>> {
        let path = path.trim_start_matches("./");
        let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
        let (stem, rest) = file.split_once('.').filter(|(stem, _)| !stem.is_empty())?;
        let key = path.get(..path.len() - file.len() + stem.len())?;
        let (middle, extension) = rest.rsplit_once('.').unwrap_or(("", rest));
        Some(Name { key, middle, extension })
    }
}

/// The longest key that [`can_be_key`]: members are files for who unpacks a shard, whose names have a limit.
const KEY_LIMIT_BYTES: usize = 200;

/// Whether a sample that a shard holds under `key` has this id for every reader, whatever the endings of its members.
pub(crate) fn can_be_key(key: &str) -> bool {
    let member = format!("{key}.jpg");
    let whole = Name::of(&member).is_some_and(|name| name.key == key && name.middle.is_empty());
    let clean = key.split('/').all(|part| !part.is_empty() && part != ".") && !key.contains(char::is_control);
    whole && clean && !escapes(&member) && key.len() <= KEY_LIMIT_BYTES && id_of(key) == key
}

/// Whether a member's name leads out of the archive's folder.
pub(crate) fn escapes(path: &str) -> bool {
    Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.image.is_none() && self.trouble.is_none() && !self.has_words()
    }

    fn has_words(&self) -> bool {
        self.text.is_some() || self.class.is_some() || self.metadata.is_some()
    }

    fn is_whole(&self) -> bool {
        self.image.is_some() && self.has_words()
    }

    /// Both as one, where neither has what the other has.
    fn joined(self, other: Parts) -> Option<Parts> {
        Some(Parts {
            image: either(self.image, other.image)?,
            text: either(self.text, other.text)?,
            class: either(self.class, other.class)?,
            metadata: either(self.metadata, other.metadata)?,
            trouble: self.trouble.or(other.trouble),
        })
    }

    fn overlaps(&self, other: &Parts) -> bool {
        self.image.is_some() && other.image.is_some()
            || self.text.is_some() && other.text.is_some()
            || self.class.is_some() && other.class.is_some()
            || self.metadata.is_some() && other.metadata.is_some()
    }
}

fn either<T>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
    (a.is_none() || b.is_none()).then(|| a.or(b))
}

impl Group {
    /// Where a member with this name belongs.
    pub(crate) fn parts(&mut self, middle: &str) -> &mut Parts {
        match middle {
            "" => &mut self.plain,
            _ => self.dotted.entry(middle.to_owned()).or_default(),
        }
    }

    /// The samples of the group by their keys, and the keys of parts that none of them needs.
    pub(crate) fn samples(self, key: String) -> (Vec<(String, Parts)>, Vec<String>) {
        if self.dotted.is_empty() {
            return (vec![(key, self.plain)], Vec::new());
        }
        let named = |(middle, parts): (String, Parts)| (format!("{key}.{middle}"), parts);
        let (mut samples, rest): (Vec<_>, Vec<_>) = self.dotted.into_iter().map(named).partition(|(_, p)| p.is_whole());
        if self.plain.is_whole() || rest.is_empty() {
            let unused = rest.into_iter().filter(|(_, parts)| parts.image.is_some() || parts.text.is_some());
            let unused = unused.map(|(name, _)| name).collect();
            if !self.plain.is_empty() {
                samples.push((key, self.plain));
            }
            return (samples, unused);
        }
        let mut parts: Vec<(String, Parts)> = rest;
        if !self.plain.is_empty() {
            parts.push((key.clone(), self.plain));
        }
        let apart = |parts: &[(String, Parts)]| {
            let pairs = parts.iter().enumerate();
            pairs.into_iter().all(|(at, (_, a))| parts.iter().skip(at + 1).all(|(_, b)| !a.overlaps(b)))
        };
        if parts.len() > 1 && apart(&parts) {
            let joined = parts.into_iter().try_fold(Parts::default(), |all, (_, part)| all.joined(part));
            samples.extend(joined.map(|parts| (key, parts)));
        } else {
            samples.extend(parts);
        }
        (samples, Vec::new())
    }
}

/// A sample of its parts, and what of them it does without.
pub(super) fn assemble(source: &Arc<str>, key: &str, parts: Parts) -> Result<(Sample, Option<Skip>), Skip> {
    let Some(image) = parts.image else {
        return Err(parts.trouble.unwrap_or_else(|| Skip::new(SkipReason::NoImage, "no jpg, png or webp member")));
    };
    let (broken, mut metadata) = match parts.metadata {
        Some(Ok(mut metadata)) => (metadata.ambiguous.take(), metadata),
        Some(Err(detail)) => (Some(format!("it is not JSON: {detail}")), Metadata::default()),
        None => (None, Metadata::default()),
    };
    let broken = broken.map(|detail| Skip::new(SkipReason::MetadataUnreadable, detail));
    let text = Texts { texts: parts.text.into_iter().collect(), odd: 0 };
    let (mut captions, mut left_out) = (Vec::new(), None);
    for found in [&metadata.captions, &text, &metadata.caption] {
        if captions.is_empty() {
            let (taken, skip) = captions::bounded(found.texts.iter().map(String::as_str));
            (captions, left_out) = (taken, skip.or_else(|| found.left_out(key)).or(left_out));
        }
    }
    let class = metadata.class.or(parts.class);
    let several = metadata.several.take().filter(|_| class.is_none());
    // A part that was lost could have held the caption, so it is the reason.
    let lost = left_out.or(parts.trouble);
    if captions.is_empty() && (class.is_none() || lost.is_some()) {
        if let Some(several) = several {
            return Err(lost.unwrap_or_else(|| Skip::new(SkipReason::NoClass, several.detail)));
        }
        let detail = match &broken {
            Some(skip) => format!("no txt member, and metadata that cannot be used: {}", skip.detail),
            None => "neither a txt member nor `caption` or `captions` in the JSON".into(),
        };
        return Err(lost.unwrap_or_else(|| Skip::new(SkipReason::NoCaption, detail)));
    }
    // The sample is there all the same.
    let lost = lost.map(|skip| match skip.reason {
        SkipReason::TooManyCaptions => skip,
        reason => Skip::new(SkipReason::MetadataUnreadable, format!("{reason}: {}", skip.detail)),
    });
    let sample = Sample {
        captions,
        class,
        group: metadata.group,
        split: metadata.split,
        stated: metadata.stated.map(Box::new),
        poison: metadata.poison.map(Box::new),
        ..Sample::new(Arc::clone(source), key, image)
    };
    Ok((sample, lost.or(broken).or(several)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_webdataset_and_escapes_are_seen() {
        let name = |path| Name::of(path).map(|n| (n.key, n.middle, n.extension));
        assert_eq!(name("a/b.c.jpg"), Some(("a/b", "c", "jpg")));
        assert_eq!(name("./000.TXT"), Some(("000", "", "TXT")));
        assert_eq!(name("a.b/c.v1.0.png"), Some(("a.b/c", "v1.0", "png")));
        assert_eq!((name("README"), name("a/._c.jpg")), (None, None));
        assert!(escapes("../x.jpg") && escapes("/etc/x.jpg") && escapes("a/../../x.jpg") && !escapes("./a/x.jpg"));
    }

    #[test]
    fn keys_are_those_that_every_reader_takes_for_one() {
        assert!(["000000123", "cats/7", "a#x", "a b", "ä", "a.b/c"].iter().all(|key| can_be_key(key)));
        for key in ["", "a.jpg", "a#2", ".a", "../a", "/a", "a//b", "./a", "a/./b", "a\n", &"a".repeat(201)] {
            assert!(!can_be_key(key), "{key:?}");
        }
    }

    fn keys(members: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut group = Group::default();
        for member in members {
            let name = Name::of(member).unwrap();
            let parts = group.parts(name.middle);
            match name.extension {
                "txt" => parts.text = Some("a text".into()),
                "json" => parts.metadata = Some(Metadata::read("{}")),
                _ => parts.image = Some(ImageBytes::Memory(Arc::from(Vec::new()))),
            }
        }
        let (samples, unused) = group.samples("a".into());
        let usable = |(key, parts): (String, Parts)| match assemble(&"s".into(), &key, parts) {
            Ok(_) => key,
            Err(skip) => format!("{key}: {}", skip.reason),
        };
        (samples.into_iter().map(usable).collect(), unused)
    }

    #[test]
    fn dots_in_names_make_one_sample_or_several_but_lose_none() {
        let expect = |members: &[&str], samples: &[&str], unused: &[&str]| {
            let (found, left) = keys(members);
            assert_eq!(
                (found.as_slice(), left.as_slice()),
                (&strings(samples)[..], &strings(unused)[..]),
                "{members:?}"
            );
        };
        expect(&["a.jpg", "a.txt"], &["a"], &[]);
        expect(&["a.v1.0.jpg", "a.v1.0.txt"], &["a.v1.0"], &[]);
        expect(&["a.jpg", "a.txt", "a.v2.jpg", "a.v2.txt"], &["a.v2", "a"], &[]);
        expect(&["a.input.jpg", "a.output.txt"], &["a"], &[]);
        expect(&["a.jpg", "a.output.txt"], &["a"], &[]);
        expect(&["a.jpg", "a.txt", "a.seg.png", "a.meta.json"], &["a"], &["a.seg"]);
        expect(&["a.jpg", "a.txt", "a.v2.jpg"], &["a"], &["a.v2"]);
        expect(&["a.v2.jpg"], &["a.v2: no caption"], &[]);
        let (one, other) = ("a.left: no caption", "a.right: no caption");
        expect(&["a.left.jpg", "a.right.jpg", "a.txt"], &[one, other, "a: no image"], &[]);
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}
