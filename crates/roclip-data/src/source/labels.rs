//! Classes of images whose source does not carry them.

use crate::artifact;
use crate::error::{Error, Result};
use crate::sample::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// `image -> class`, and the class list where the file gives one.
#[derive(Debug, Default)]
pub struct Labels {
    pub classes: Vec<String>,
    by_image: BTreeMap<String, String>,
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
        if path.extension().is_some_and(|e| e == "json") {
            let file: LabelFile = artifact::read_json(path)?;
            let by_image = file.images.into_values().flatten().collect();
            return Ok(Labels { classes: file.classes, by_image });
        }
        let text = artifact::read_text(path)?;
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        let mut by_image = BTreeMap::new();
        for row in reader.deserialize::<(String, String)>() {
            let (image, label) = row.map_err(|e| Error::file(path, e.to_string(), "the columns are `image,label`"))?;
            by_image.insert(image, label);
        }
        Ok(Labels { classes: Vec::new(), by_image })
    }

    /// Sets the class of every sample that the file names, by id or by the file name in it.
    pub fn apply(&self, samples: &mut [Sample]) {
        for sample in samples {
            let name = sample.id.rsplit('/').next().unwrap_or(&sample.id);
            if let Some(class) = self.by_image.get(&sample.id).or_else(|| self.by_image.get(name)) {
                sample.class = Some(class.clone());
            }
        }
    }
}
