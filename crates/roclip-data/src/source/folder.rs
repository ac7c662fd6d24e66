//! A folder of images: `CLASS/*.jpg` as torchvision's `ImageFolder` lays it out, `train/CLASS/*.jpg`, or images without classes. A text file of
//! the same name beside an image (`a.jpg`, `a.txt`) holds its captions, one a line.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::language::wnid_of;
use crate::progress::Task;
use crate::sample::{ImageBytes, Sample, unreadable};
use crate::skip::{Skip, SkipReason};
use crate::source::captions;
use crate::source::kept::{Kept, Leave, Leaving};
use crate::source::spelling::place;
use crate::source::tree::{READ_FORMATS, Tree, name, split_of, unused};
use crate::source::{Listing, Source};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest caption file that is read.
const TEXT_LIMIT_BYTES: u64 = 4 << 20;

pub(super) struct Folder {
    root: PathBuf,
    tree: Tree,
}

impl Folder {
    pub(super) fn new(root: PathBuf, tree: Tree) -> Self {
        Folder { root, tree }
    }
}

impl Source for Folder {
    fn places(&self) -> Vec<PathBuf> {
        vec![place(&self.root)]
    }

    fn list(&self) -> Result<Listing> {
        let source: Arc<str> = place(&self.root).to_string_lossy().into();
        let mut listing = Listing {
            skips: self.tree.skips.clone(),
            shards: self.tree.folders,
            remark: self.tree.others(),
            ..Listing::default()
        };
        unused(&mut listing.skips, &self.tree.parquets);
        let mut texts = self.tree.texts.clone();
        let mut captioned: BTreeSet<&Path> = BTreeSet::new();
        for relative in &self.tree.images {
            let id = name(relative);
            let text = relative.with_extension("txt");
            let text = self.tree.texts.contains(&text).then_some(text);
            if let Some(text) = &text {
                texts.remove(text);
                captioned.extend(relative.parent());
            }
            match self.sample(&source, relative, text.as_deref(), &id) {
                Ok((sample, without)) => {
                    if let Some(skip) = without {
                        listing.skips.add(&id, skip);
                    }
                    listing.samples.push(sample);
                }
                Err(skip) => listing.skips.add(&id, skip),
            }
        }
        for relative in &self.tree.other_images {
            let skip = Skip::new(SkipReason::ImageFormatUnknown, READ_FORMATS);
            listing.skips.add(&name(relative), skip);
            texts.remove(&relative.with_extension("txt"));
        }
        // In a folder whose images have no texts beside them, a text is something else.
        for text in texts.iter().filter(|text| text.parent().is_some_and(|folder| captioned.contains(folder))) {
            let skip = Skip::new(SkipReason::NoImage, "no picture has the name of this text");
            listing.skips.add(&name(text), skip);
        }
        listing.samples.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }

    /// Pictures and texts are copied into the new folder `out`; other files are not.
    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        if let Some(key) = leave.only_captions().next() {
            return Err(Error::setting(
                format!(
                    "the list names single captions of `{key}`, and pictures of a folder are kept or dropped whole"
                ),
                "leave single captions out while training (`roclip train --drop`), or take the line out of its text",
            ));
        }
        let leave = leave.by_key();
        let Tree { images, texts, .. } = &self.tree;
        let mut texts = texts.clone();
        let mut files: Vec<&PathBuf> = Vec::with_capacity(images.len());
        for image in images {
            match leave.get(name(image).as_str()) {
                Some(Leaving::Whole) => drop(texts.remove(&image.with_extension("txt"))),
                _ => files.push(image),
            }
        }
        artifact::write_folder(out, |folder| copy(&self.root, files.into_iter().chain(&texts), folder))
    }
}

/// Copies files of the folder `root`, named relative to it, into the folder `to`.
pub(super) fn copy<'a>(root: &Path, files: impl Iterator<Item = &'a PathBuf>, to: &Path) -> Result<Kept> {
    let mut kept = Kept::default();
    let task = Task::begin("copying files", 0, "files");
    for file in files {
        let (from, to) = (root.join(file), to.join(file));
        let (mut reader, _) = match bounded::open(&from) {
            Ok(opened) => opened,
            Err(e) => {
                kept.not_copied.add(&name(file), unreadable(&e, &from));
                continue;
            }
        };
        artifact::write_with(&to, |out| std::io::copy(&mut reader, out).io("copy", &from))?;
        kept.files += 1;
        task.advance(1);
    }
    Ok(kept)
}

impl Folder {
    fn sample(
        &self,
        source: &Arc<str>,
        relative: &Path,
        text: Option<&Path>,
        id: &str,
    ) -> std::result::Result<(Sample, Option<Skip>), Skip> {
        let (captions, without) = match text {
            None => (Vec::new(), None),
            Some(text) => {
                let bytes = bounded::read(&self.root.join(text), TEXT_LIMIT_BYTES)
                    .map_err(|e| Skip::new(SkipReason::CaptionUnreadable, e.to_string()))?;
                let text = std::str::from_utf8(&bytes)
                    .map_err(|_| Skip::new(SkipReason::CaptionUnreadable, "its text is no UTF-8"))?;
                captions::bounded(text.lines())
            }
        };
        if let Some(skip) = without.clone().filter(|_| captions.is_empty()) {
            return Err(skip);
        }
        let split = split_of(relative);
        let mut folders = relative.parent().into_iter().flat_map(Path::components);
        let class = folders.nth(usize::from(split.is_some())).map(|folder| name(folder.as_ref()));
        // ImageNet's pictures carry their class in their own name, too.
        let of_name = || {
            let stem = relative.file_stem()?.to_str()?;
            wnid_of(stem).filter(|(_, rest)| !rest.is_empty()).map(|(wnid, _)| wnid.to_owned())
        };
        // img2dataset numbers its folders.
        let numbered = |folder: &String| folder.len() >= 5 && folder.bytes().all(|byte| byte.is_ascii_digit());
        let class = class.filter(|folder| captions.is_empty() || !numbered(folder)).or_else(of_name);
        let image = ImageBytes::File(self.root.join(relative));
        let split = split.map(str::to_owned);
        Ok((Sample { captions, class, split, ..Sample::new(Arc::clone(source), id, image) }, without))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn list(root: &Path) -> Listing {
        Folder::new(root.to_owned(), Tree::walk(root).unwrap()).list().unwrap()
    }

    fn write(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }

    #[test]
    fn folders_are_classes_and_texts_are_captions() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["dog/b.png", "dog/a.JPG", "cat/c.webp", "loose.png", "dog/notes.md"]);
        fs::write(root.path().join("dog/b.txt"), "one\n\n two \n").unwrap();
        let Listing { samples, skips, .. } = list(root.path());
        let seen: Vec<_> = samples.iter().map(|s| (s.id.as_str(), s.class.as_deref(), s.captions.len())).collect();
        let expected = [
            ("cat/c.webp", Some("cat"), 0),
            ("dog/a.JPG", Some("dog"), 0),
            ("dog/b.png", Some("dog"), 2),
            ("loose.png", None, 0),
        ];
        assert_eq!((seen.as_slice(), skips.total()), (expected.as_slice(), 0));
    }

    #[test]
    fn numbered_folders_of_captioned_pictures_are_no_classes() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["00000/000000000.jpg", "00000/000000000.txt", "00001/a.jpg"]);
        let samples = list(root.path()).samples;
        let classes: Vec<_> = samples.iter().map(|s| s.class.as_deref()).collect();
        assert_eq!(classes, [None, Some("00001")]);
    }

    #[test]
    fn folders_named_as_splits_are_splits() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["train/dog/a.png", "test/cat/deep/b.png", "val/c.png"]);
        write(root.path(), &["test/n01440764_10.JPEG"]);
        let samples = list(root.path()).samples;
        let seen: Vec<_> = samples.iter().map(|s| (s.split.as_deref(), s.class.as_deref())).collect();
        assert_eq!(
            seen,
            [
                (Some("test"), Some("cat")),
                (Some("test"), Some("n01440764")),
                (Some("train"), Some("dog")),
                (Some("val"), None)
            ]
        );
    }

    #[test]
    fn what_is_not_used_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        write(
            root.path(),
            &["a.jpg", "a.txt", "moving.avif", "moving.txt", "lone.txt", "pets/README.txt", "pets/p.png"],
        );
        write(root.path(), &["blobs/1"]);
        symlink(at("blobs/1"), at("linked.jpg")).unwrap();
        symlink(at("nowhere"), at("dangling.jpg")).unwrap();
        symlink("/dev/zero", at("device.jpg")).unwrap();
        symlink("/dev/zero", at("linked.txt")).unwrap();
        symlink(root.path(), at("loop")).unwrap();
        for number in [0xffu8, 0xfe] {
            fs::write(root.path().join(std::ffi::OsStr::from_bytes(&[b'n', number, b'.', b'p', b'n', b'g'])), b"x")
                .unwrap();
        }
        assert!(Command::new("mkfifo").arg(at("pipe.png")).status().unwrap().success());
        let listing = list(root.path());
        let ids: Vec<&str> = listing.samples.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids, ["a.jpg", "linked.jpg", "n\\xfe.png", "n\\xff.png", "pets/p.png"]);
        for (id, reason) in [
            ("moving.avif", SkipReason::ImageFormatUnknown),
            ("lone.txt", SkipReason::NoImage),
            ("dangling.jpg", SkipReason::ImageFileUnreadable),
            ("device.jpg", SkipReason::ImageNotRegularFile),
            ("pipe.png", SkipReason::ImageNotRegularFile),
            ("loop", SkipReason::ShardUnreadable),
        ] {
            assert!(listing.skips.names(id), "{id}");
            assert!(listing.skips.count(|r| r == reason) > 0, "{reason}");
        }
        assert_eq!(listing.skips.total(), 6, "{}", listing.skips.to_jsonl());
    }
}
