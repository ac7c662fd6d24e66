//! Whether pictures are still those that they were: by the sha256 that the data says they have, and by hashes kept of an earlier look. An
//! address of a crawl may show another picture to whoever comes later (split-view poisoning, Carlini et al. 2023).

use crate::error::Result;
use crate::pairs::DropList;
use crate::picture::ImageLimits;
use crate::progress::Task;
use crate::sample::{ImageBytes, Sample};
use crate::skip::{SkipReason, SkipReport};
use crate::statistics::hashes::HashFile;
use crate::statistics::look::{Look, each_in_order, look};
use crate::statistics::perceptual::PerceptualHash;
use serde::Serialize;
use std::collections::HashSet;

/// Examples of each kind.
const EXAMPLES: usize = 5;

/// One picture of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    pub id: String,
    /// What is to be said of it beside its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl std::fmt::Display for Example {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.detail {
            Some(detail) => write!(out, "{} ({detail})", self.id),
            None => out.write_str(&self.id),
        }
    }
}

/// What became of one kind of pictures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub count: usize,
    /// Some of them.
    pub examples: Vec<Example>,
}

impl Checked {
    fn add(&mut self, id: &str, detail: impl FnOnce() -> Option<String>) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(Example { id: id.to_owned(), detail: detail() });
        }
    }
}

/// What verifying found; each picture counts once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verified {
    pub pictures: usize,
    /// The same bytes.
    pub equal: Checked,
    /// Other bytes, the same picture by its perceptual hash.
    pub encoded_again: Checked,
    /// Another picture, or other bytes where no perceptual hash tells more.
    pub different: Checked,
    /// The data's own sha256 is of the download, and img2dataset stored another encoding of it: nothing can be compared.
    pub hash_of_download: Checked,
    /// Neither the data nor the file has a hash of it.
    pub without_hash: Checked,
    /// Cannot be read, so that nobody can say. Those that a file of hashes has could be read when it was written.
    pub unreadable: Checked,
    /// Cannot be read, and the file of hashes, which has all that could be, does not have them: unreadable then, too, or new.
    pub unreadable_before: Checked,
    /// In the file, and no longer in the data, or no longer where the data says.
    pub gone: Checked,
    /// In the file, and not among the pictures since a list leaves them out: nothing that anybody need look at.
    pub left_out: Checked,
    /// Of the different ones those whose bytes are compared with the data's own sha256.
    pub by_own_sha256: usize,
    /// Of the equal ones those that a file of hashes does not have, so that the data's own sha256 alone says it.
    pub equal_by_own_sha256: usize,
    /// Of what is not what it was, the places in the data of all that the data still names.
    #[serde(skip)]
    pub changed: Vec<usize>,
}

impl Verified {
    /// Pictures that are not what they were: different, unreadable since, or gone.
    pub fn not_what_they_were(&self) -> usize {
        self.different.count + self.unreadable.count + self.gone.count
    }
}

/// Which of the kinds a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Equal,
    EncodedAgain(u32),
    Different(Option<u32>),
    HashOfDownload,
    WithoutHash,
}

/// Reads every picture and compares it with the sha256 that the data has of it and with `earlier`. Pictures whose perceptual hashes differ
/// in at most `near_bits` of 64 bits are the same picture. What `dropped` names, and `samples` lacks, was left out on purpose.
///
/// # Errors
/// None but those of this program itself.
pub fn verify(
    samples: &[Sample],
    (earlier, dropped): (Option<&HashFile>, Option<&DropList>),
    limits: ImageLimits,
    workers: usize,
    near_bits: u32,
) -> Result<(Verified, SkipReport)> {
    let mut found = Verified { pictures: samples.len(), ..Verified::default() };
    let mut skips = SkipReport::default();
    let mut seen: HashSet<&str> = HashSet::new();
    let task = Task::begin("comparing pictures", samples.len(), "pictures");
    each_in_order(
        samples,
        workers,
        &task,
        |sample| look(sample, limits),
        |place, looked| {
            let Some(sample) = samples.get(place) else { return Ok(()) };
            if earlier.is_some_and(|earlier| earlier.of(&sample.id).is_some()) {
                seen.insert(sample.id.as_str());
            }
            let id = sample.id.as_str();
            let by_own = earlier.is_none_or(|earlier| earlier.of(id).is_none());
            match looked {
                Err(skip) => {
                    let detail = || Some(skip.reason.to_string());
                    match earlier.is_some() {
                        true if by_own => found.unreadable_before.add(id, detail),
                        true if is_missing(sample, skip.reason) => {
                            found.gone.add(id, detail);
                            found.changed.push(place);
                        }
                        _ => {
                            found.unreadable.add(id, detail);
                            found.changed.push(place);
                        }
                    }
                    skips.add(id, skip);
                }
                Ok(look) => match kind(sample, &look, earlier, near_bits) {
                    Kind::Equal => {
                        found.equal_by_own_sha256 += usize::from(by_own && earlier.is_some());
                        found.equal.add(id, || None);
                    }
                    Kind::EncodedAgain(bits) => {
                        found.encoded_again.add(id, || Some(format!("{bits} of 64 bits differ")));
                    }
                    Kind::Different(bits) => {
                        found.by_own_sha256 += usize::from(by_own);
                        found.changed.push(place);
                        found.different.add(id, || match bits {
                            Some(bits) => Some(format!("{bits} of 64 bits differ")),
                            None => Some("other bytes".to_owned()),
                        });
                    }
                    Kind::HashOfDownload => found.hash_of_download.add(id, || None),
                    Kind::WithoutHash => found.without_hash.add(id, || None),
                },
            }
            Ok::<(), crate::error::Error>(())
        },
    )?;
    if let Some(earlier) = earlier {
        let mut absent: Vec<&str> = earlier.ids().filter(|id| !seen.contains(id)).collect();
        absent.sort_unstable();
        for id in absent {
            let kind = match dropped.is_some_and(|list| list.names_absent(id)) {
                true => &mut found.left_out,
                false => &mut found.gone,
            };
            kind.add(id, || None);
        }
    }
    Ok((found, skips))
}

/// Whether a picture that cannot be read for `reason` is a file that is not there.
fn is_missing(sample: &Sample, reason: SkipReason) -> bool {
    let file = match &sample.image {
        ImageBytes::File(path) => Some(path),
        _ => None,
    };
    reason == SkipReason::ImageFileUnreadable && file.is_some_and(|path| path.symlink_metadata().is_err())
}

/// Hashes that were kept apart from the data win over those in it, which whoever changes a picture can change with it.
fn kind(sample: &Sample, look: &Look, earlier: Option<&HashFile>, near_bits: u32) -> Kind {
    let earlier = earlier.and_then(|earlier| earlier.of(&sample.id));
    let own = sample.stated.as_deref();
    match (earlier, own) {
        (Some(earlier), _) if earlier.sha256 == look.sha256 => Kind::Equal,
        (None, Some(own)) if own.sha256 == look.sha256 => Kind::Equal,
        (Some(earlier), _) => match (earlier.hash, look.hash) {
            (Some(before), Some(now)) => match PerceptualHash::distance(before, now) {
                bits if bits <= near_bits => Kind::EncodedAgain(bits),
                bits => Kind::Different(Some(bits)),
            },
            // Two pictures of one colour may be of two colours.
            _ => Kind::Different(None),
        },
        (None, Some(own)) if own.of_download => Kind::HashOfDownload,
        (None, Some(_)) => Kind::Different(None),
        (None, None) => Kind::WithoutHash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::StatedHash;
    use image::{ImageFormat, Rgb, RgbImage};
    use std::io::{Cursor, Write};

    fn bytes(shift: f32, format: ImageFormat) -> Vec<u8> {
        let level = |x: f32, y: f32| 120.0 + 60.0 * (x * 9.0 + shift).sin() + 50.0 * (x * y * 12.0 + shift).cos();
        let picture = RgbImage::from_fn(90, 70, |x, y| Rgb([level(x as f32 / 90.0, y as f32 / 70.0) as u8; 3]));
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn sample(id: &str, bytes: Vec<u8>) -> Sample {
        Sample::new("data".into(), id, ImageBytes::Memory(bytes.into()))
    }

    fn file(samples: &[Sample]) -> HashFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut text = Vec::new();
        HashFile::begin(&mut text).unwrap();
        for sample in samples {
            HashFile::add(&mut text, sample, &look(sample, ImageLimits::default()).unwrap()).unwrap();
        }
        HashFile::end(&mut text, samples.len()).unwrap();
        file.as_file().write_all(&text).unwrap();
        HashFile::read(file.path()).unwrap()
    }

    #[test]
    fn every_kind_is_counted_once() {
        let before = [
            sample("same", bytes(0.0, ImageFormat::Png)),
            sample("again", bytes(0.3, ImageFormat::Png)),
            sample("other", bytes(0.6, ImageFormat::Png)),
            sample("broken", bytes(0.9, ImageFormat::Png)),
            sample("gone", bytes(1.2, ImageFormat::Png)),
        ];
        let now = [
            before[0].clone(),
            sample("again", bytes(0.3, ImageFormat::Jpeg)),
            sample("other", bytes(2.6, ImageFormat::Png)),
            sample("broken", b"x".to_vec()),
            sample("new", bytes(0.0, ImageFormat::Png)),
        ];
        let hashes = file(&before);
        for workers in [1, 3] {
            let (found, skips) = verify(&now, (Some(&hashes), None), ImageLimits::default(), workers, 4).unwrap();
            let counts = [&found.equal, &found.encoded_again, &found.different, &found.unreadable, &found.without_hash];
            assert_eq!(counts.map(|kind| kind.count), [1; 5]);
            assert_eq!((found.gone.count, found.pictures, skips.total()), (1, 5, 1));
            let Example { id, detail } = &found.different.examples[0];
            assert_eq!((id.as_str(), found.gone.examples[0].id.as_str()), ("other", "gone"));
            assert!(detail.as_ref().unwrap().contains("of 64 bits differ"), "{detail:?}");
            assert_eq!((found.changed, found.unreadable_before.count), (vec![2, 3], 0));
        }
    }

    #[test]
    fn what_a_list_leaves_out_is_not_gone() {
        let before = [0.0, 0.3, 0.6].map(|shift| sample(&format!("{shift}"), bytes(shift, ImageFormat::Png)));
        let hashes = file(&before);
        let list = tempfile::NamedTempFile::new().unwrap();
        // A picture that the list names and the data still has is looked at all the same.
        list.as_file().write_all(b"0\n0.3\nnobody\n").unwrap();
        let list = DropList::read(list.path()).unwrap();
        let earlier = (Some(&hashes), Some(&list));
        let (found, _) = verify(&before[..1], earlier, ImageLimits::default(), 1, 4).unwrap();
        assert_eq!((found.equal.count, found.left_out.count, found.gone.count), (1, 1, 1));
        assert_eq!((found.left_out.examples[0].id.as_str(), found.gone.examples[0].id.as_str()), ("0.3", "0.6"));
        assert_eq!(found.not_what_they_were(), 1);
        // A picture of several captions goes with the last of them.
        let list = tempfile::NamedTempFile::new().unwrap();
        list.as_file().write_all(b"0.3#0\n0.3#1\n0.6#1\n").unwrap();
        let list = DropList::read(list.path()).unwrap();
        let (found, _) = verify(&before[..1], (Some(&hashes), Some(&list)), ImageLimits::default(), 1, 4).unwrap();
        assert_eq!((found.left_out.count, found.gone.count), (1, 1));
        assert_eq!((found.left_out.examples[0].id.as_str(), found.gone.examples[0].id.as_str()), ("0.3", "0.6"));
    }

    #[test]
    fn what_could_not_be_read_then_is_unchanged_and_what_is_deleted_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let of = |id: &str| Sample::new("data".into(), id, ImageBytes::File(folder.path().join(id)));
        std::fs::write(folder.path().join("a"), bytes(0.0, ImageFormat::Png)).unwrap();
        std::fs::write(folder.path().join("b"), bytes(0.3, ImageFormat::Png)).unwrap();
        std::fs::write(folder.path().join("broken"), b"x").unwrap();
        let hashes = file(&[of("a"), of("b")]);
        let all = ["a", "b", "broken", "missing"].map(of);
        let found = || verify(&all, (Some(&hashes), None), ImageLimits::default(), 2, 4).unwrap().0;
        let unchanged = found();
        assert_eq!((unchanged.equal.count, unchanged.unreadable_before.count), (2, 2));
        assert_eq!((unchanged.not_what_they_were(), unchanged.changed), (0, vec![]));
        std::fs::remove_file(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("b"), b"x").unwrap();
        let changed = found();
        assert_eq!((changed.gone.count, changed.unreadable.count, changed.unreadable_before.count), (1, 1, 2));
        assert_eq!((changed.gone.examples[0].id.as_str(), changed.changed.as_slice()), ("a", &[0, 1][..]));
        // Without a file of hashes nobody knows that they were ever readable.
        let (alone, _) = verify(&all, (None, None), ImageLimits::default(), 1, 4).unwrap();
        assert_eq!((alone.unreadable.count, alone.unreadable_before.count), (4, 0));
    }

    #[test]
    fn the_datas_own_sha256_tells_without_a_file() {
        let good = bytes(0.0, ImageFormat::Png);
        let look = look(&sample("a", good.clone()), ImageLimits::default()).unwrap();
        let with = |sha256: [u8; 32]| Sample {
            stated: Some(Box::new(StatedHash { sha256, of_download: sha256 == [2; 32] })),
            ..sample("a", good.clone())
        };
        let (found, _) = verify(&[with([2; 32])], (None, None), ImageLimits::default(), 1, 4).unwrap();
        assert_eq!((found.hash_of_download.count, found.different.count), (1, 0));
        let samples = [with(look.sha256), Sample { id: "b".into(), ..with([1; 32]) }];
        let (found, _) = verify(&samples, (None, None), ImageLimits::default(), 2, 4).unwrap();
        assert_eq!((found.equal.count, found.different.count, found.by_own_sha256), (1, 1, 1));
        // What was encoded again since is the picture that was looked at then.
        let earlier = file(&[sample("b", good.clone())]);
        let (found, _) = verify(&samples[1..], (Some(&earlier), None), ImageLimits::default(), 1, 4).unwrap();
        assert_eq!(found.equal.count, 1);
    }

    /// Split-view poisoning with the metadata rewritten, too.
    #[test]
    fn the_file_of_hashes_wins_over_the_datas_own_sha256() {
        let stated = |id: &str, bytes: Vec<u8>| {
            let sha256 = look(&sample(id, bytes.clone()), ImageLimits::default()).unwrap().sha256;
            Sample { stated: Some(Box::new(StatedHash { sha256, of_download: false })), ..sample(id, bytes) }
        };
        let png = |shift| bytes(shift, ImageFormat::Png);
        let earlier = file(&[sample("a", png(0.0)), sample("b", png(0.3)), sample("c", png(0.6))]);
        let now = [
            stated("a", png(0.0)),
            stated("b", png(2.6)),
            stated("c", bytes(0.6, ImageFormat::Jpeg)),
            stated("new", png(0.9)),
        ];
        let (found, _) = verify(&now, (Some(&earlier), None), ImageLimits::default(), 2, 4).unwrap();
        assert_eq!((found.equal.count, found.encoded_again.count, found.different.count), (2, 1, 1));
        assert_eq!(found.different.examples[0].id, "b");
        assert_eq!((found.equal_by_own_sha256, found.by_own_sha256), (1, 0));
    }
}
