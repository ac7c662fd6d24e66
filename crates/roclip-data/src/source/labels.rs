//! Classes of images whose source does not carry them.

use crate::artifact;
use crate::error::{Error, Result};
use crate::sample::Sample;
use crate::source::json;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// `image -> class`, and the class list where the file gives one.
#[derive(Debug)]
pub struct Labels {
    pub classes: Vec<String>,
    /// For each image: the split that the file lists it in (where it has splits) and the class.
    by_image: BTreeMap<String, Vec<(Option<String>, String)>>,
}

/// The JSON form of a labels file.
#[derive(Debug, Serialize, Deserialize)]
pub struct LabelFile {
    #[serde(default)]
    pub classes: Vec<String>,
    /// Split to image to class.
    pub images: BTreeMap<String, BTreeMap<String, String>>,
}

impl Labels {
    /// JSON `{"classes": [...], "images": {SPLIT: {IMAGE: CLASS}}}` or CSV with the header `image,label`.
    pub fn read(path: &Path) -> Result<Labels> {
        let mut labels = Labels { classes: Vec::new(), by_image: BTreeMap::new() };
        if path.extension().is_some_and(|e| e == "json") {
            let text = artifact::read_text(path)?;
            let expected = |what: String| Error::file(path, format!("not the JSON expected: {what}"), "check the file");
            let json::Parsed { value, repeated } = json::parse(&text).map_err(expected)?;
            if let Some(repeated) = repeated.first() {
                return Err(Error::file(path, repeated.within(0), "leave one of them in"));
            }
            let file: LabelFile = serde_json::from_value(value).map_err(|e| expected(e.to_string()))?;
            labels.classes = file.classes;
            for (split, images) in file.images {
                for (image, class) in images {
                    labels.by_image.entry(image).or_default().push((Some(split.clone()), class));
                }
            }
            return Ok(labels);
        }
        let text = artifact::read_text(path)?;
        let mut reader = ::csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        for row in reader.deserialize::<(String, String)>() {
            let (image, class) = row.map_err(|e| Error::file(path, e.to_string(), "the columns are `image,label`"))?;
            labels.by_image.entry(image).or_default().push((None, class));
        }
        Ok(labels)
    }

    /// Sets the class of every sample that the file `path` names: by id, by key, or by the file name where only one image has it.
    ///
    /// # Errors
    /// When the file names none of the samples, or one image in two classes.
    pub fn apply(&self, samples: &mut [Sample], path: &Path) -> Result<()> {
        let mut bearers: HashMap<&str, usize> = HashMap::new();
        for sample in samples.iter() {
            *bearers.entry(file_name(sample)).or_default() += 1;
        }
        let shared: BTreeSet<String> =
            bearers.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name.to_owned()).collect();
        let mut named = 0;
        for sample in samples.iter_mut() {
            let name = file_name(sample);
            let by_name = || {
                let found = self.by_image.get(name)?;
                // A bare file name that two images share labels neither, unless the splits tell them apart.
                let meant =
                    !shared.contains(name) || found.iter().any(|(split, _)| split.is_some() && *split == sample.split);
                meant.then_some(found)
            };
            let found = self.by_image.get(&sample.id).or_else(|| self.by_image.get(&sample.key)).or_else(by_name);
            if let Some(found) = found {
                sample.class = Some(one_class(found, sample, path)?);
                named += 1;
            }
        }
        if named > 0 || samples.is_empty() {
            return Ok(());
        }
        let (theirs, ours) = (self.by_image.keys().next(), samples.first().map(|sample| sample.id.as_str()));
        Err(Error::file(
            path,
            format!(
                "names none of the {} images: it has {} (first: `{}`), the data begins with `{}`",
                samples.len(),
                self.by_image.len(),
                theirs.map_or("", String::as_str),
                ours.unwrap_or_default()
            ),
            "name images as the data does, with their folders where two have one file name",
        ))
    }
}

fn file_name(sample: &Sample) -> &str {
    sample.key.rsplit('/').next().unwrap_or(&sample.key)
}

/// The class among `found` that is meant for `sample`.
fn one_class(found: &[(Option<String>, String)], sample: &Sample, path: &Path) -> Result<String> {
    let own: Vec<&String> =
        found.iter().filter(|(split, _)| split.is_some() && *split == sample.split).map(|(_, class)| class).collect();
    let meant = if own.is_empty() { found.iter().map(|(_, class)| class).collect() } else { own };
    match meant.iter().collect::<BTreeSet<_>>().len() {
        1 => Ok(meant.first().map(|class| (*class).clone()).unwrap_or_default()),
        _ => Err(Error::file(
            path,
            format!("has two classes for the image `{}`", sample.id),
            "leave one of them in, or give the data the splits of the file",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;
    use std::sync::Arc;

    fn samples(images: &[(&str, Option<&str>)]) -> Vec<Sample> {
        let image = || ImageBytes::Memory(Arc::from(Vec::new()));
        let sample = |(key, split): &(&str, Option<&str>)| Sample {
            split: split.map(str::to_owned),
            ..Sample::new("data".into(), *key, image())
        };
        images.iter().map(sample).collect()
    }

    fn classes(file: &str, text: &str, images: &[(&str, Option<&str>)]) -> Result<Vec<Option<String>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        let mut samples = samples(images);
        Labels::read(&path)?.apply(&mut samples, &path)?;
        Ok(samples.into_iter().map(|sample| sample.class).collect())
    }

    #[test]
    fn equal_file_names_keep_their_own_classes() {
        let both = [("train/a.jpg", Some("train")), ("test/a.jpg", Some("test")), ("test/b.jpg", Some("test"))];
        let json = r#"{"images": {"train": {"a.jpg": "dog"}, "test": {"a.jpg": "cat", "b.jpg": "cow"}}}"#;
        let expected = ["dog", "cat", "cow"].map(|class| Some(class.to_owned()));
        assert_eq!(classes("labels.json", json, &both).unwrap(), expected);
        let csv = "\u{feff}image,label\ntrain/a.jpg,dog\ntest/a.jpg,cat\nb.jpg,cow\n";
        assert_eq!(classes("labels.csv", csv, &both).unwrap(), expected);
        // A bare name that two images have is no label of either.
        let bare = classes("labels.csv", "image,label\na.jpg,dog\nb.jpg,cow\n", &both).unwrap();
        assert_eq!(bare, [None, None, Some("cow".into())]);
    }

    #[test]
    fn labels_that_say_nothing_or_two_things_are_refused() {
        let one = [("a.jpg", None)];
        let nothing = classes("labels.csv", "image,label\nb.jpg,dog\n", &one).unwrap_err().to_string();
        assert!(nothing.contains("none of the 1 images") && nothing.contains("b.jpg"), "{nothing}");
        let json = r#"{"images": {"train": {"a.jpg": "dog"}, "test": {"a.jpg": "cat"}}}"#;
        assert!(classes("labels.json", json, &one).unwrap_err().to_string().contains("two classes"));
        let twice = r#"{"images": {"train": {"a.jpg": "dog", "a.jpg": "cat"}}}"#;
        let twice = classes("labels.json", twice, &one).unwrap_err().to_string();
        assert!(twice.contains("images.train.a.jpg` twice"), "{twice}");
        assert!(classes("labels.csv", "image,label\na.jpg,dog\na.jpg,cat\n", &one).is_err());
        assert_eq!(classes("labels.csv", "image,label\na.jpg,dog\na.jpg,dog\n", &one).unwrap(), [Some("dog".into())]);
    }
}
