//! A folder of images: `CLASS/*.jpg` as torchvision's `ImageFolder` lays it out, or images without classes. A text file of the
//! same name beside an image (`a.jpg`, `a.txt`) holds its captions, one a line.

use crate::error::{IoContext, Result};
use crate::sample::{ImageBytes, Sample};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest caption file that is read.
const TEXT_LIMIT_BYTES: u64 = 4 << 20;

pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: PathBuf) -> Self {
        Folder { root }
    }
}

impl Source for Folder {
    fn samples(&self) -> Result<(Vec<Sample>, SkipReport)> {
        let (mut samples, mut skips) = (Vec::new(), SkipReport::default());
        let mut waiting = vec![PathBuf::new()];
        while let Some(inside) = waiting.pop() {
            let folder = self.root.join(&inside);
            for entry in fs::read_dir(&folder).io("list", &folder)? {
                let entry = entry.io("list", &folder)?;
                let relative = inside.join(entry.file_name());
                let kind = entry.file_type().io("look at", &folder)?;
                // Links are not followed: a loop would never end.
                if kind.is_dir() {
                    waiting.push(relative);
                } else if kind.is_file() && is_image(&relative) {
                    let id = relative.to_string_lossy().into_owned();
                    match sample(&self.root, &relative, &id) {
                        Ok(sample) => samples.push(sample),
                        Err(skip) => skips.add(&id, skip),
                    }
                }
            }
        }
        samples.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((samples, skips))
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| ["jpg", "jpeg", "png", "webp"].contains(&e.as_str()))
}

fn sample(root: &Path, relative: &Path, id: &str) -> std::result::Result<Sample, Skip> {
    let text = root.join(relative).with_extension("txt");
    let captions = match fs::metadata(&text) {
        Ok(found) if found.len() > TEXT_LIMIT_BYTES => {
            return Err(Skip::new(SkipReason::CaptionTooLarge, format!("{} bytes", found.len())));
        }
        Ok(_) => {
            let words =
                fs::read_to_string(&text).map_err(|e| Skip::new(SkipReason::CaptionUnreadable, e.to_string()))?;
            words.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
        }
        Err(_) => Vec::new(),
    };
    let class = match relative.components().count() {
        0 | 1 => None,
        _ => relative.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()),
    };
    let image = ImageBytes::File(root.join(relative));
    Ok(Sample { captions, class, ..Sample::new(root.to_string_lossy().into(), id, image) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_classes_and_texts_are_captions() {
        let root = tempfile::tempdir().unwrap();
        for name in ["dog/b.png", "dog/a.JPG", "cat/c.webp", "loose.png", "dog/notes.md"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        fs::write(root.path().join("dog/b.txt"), "one\n\n two \n").unwrap();
        let (samples, skips) = Folder::new(root.path().to_owned()).samples().unwrap();
        let seen: Vec<_> = samples.iter().map(|s| (s.id.as_str(), s.class.as_deref(), s.captions.len())).collect();
        let expected = [
            ("cat/c.webp", Some("cat"), 0),
            ("dog/a.JPG", Some("dog"), 0),
            ("dog/b.png", Some("dog"), 2),
            ("loose.png", None, 0),
        ];
        assert_eq!((seen.as_slice(), skips.total()), (expected.as_slice(), 0));
    }
}
