//! CSV and TSV files of image paths and captions.
//!
//! Column names are sniffed from the header: open_clip (`filepath`, `title`), CleanCLIP (`image`, `caption`) and the RoCLIP
//! and SafeCLIP repositories (`path`, `caption`). A file without a header is read by column numbers. Consecutive rows of
//! one image become one sample with several captions.

use crate::error::{Error, IoContext, Result};
use crate::sample::{ImageBytes, Sample};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::{Source, SourceConfig};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer captions are junk, and would only be cut by the tokenizer.
const CAPTION_LIMIT_BYTES: usize = 64 << 10;
const IMAGE_NAMES: [&str; 5] = ["filepath", "image", "path", "file", "image_path"];
const CAPTION_NAMES: [&str; 4] = ["title", "caption", "text", "sentence"];
const CLASS_NAMES: [&str; 3] = ["class", "label", "concept"];

pub struct Csv {
    path: PathBuf,
    config: SourceConfig,
}

impl Csv {
    pub fn new(path: PathBuf, config: SourceConfig) -> Self {
        Csv { path, config }
    }

    fn image_root(&self) -> PathBuf {
        let beside = || self.path.parent().map(Path::to_owned).unwrap_or_default();
        self.config.image_root.clone().unwrap_or_else(beside)
    }
}

/// Column numbers from 0, and whether the first row is a header.
struct Columns {
    image: usize,
    caption: Option<usize>,
    split: Option<usize>,
    class: Option<usize>,
    has_header: bool,
}

impl Source for Csv {
    fn samples(&self) -> Result<(Vec<Sample>, SkipReport)> {
        let file = File::open(&self.path).io("open", &self.path)?;
        let mut first = String::new();
        BufReader::new(file).read_line(&mut first).io("read", &self.path)?;
        if first.trim().is_empty() {
            return Err(Error::file(&self.path, "is empty", "it needs a header and at least one row"));
        }
        let separator = if first.contains('\t') { b'\t' } else { b',' };
        let header: Vec<&str> = first.trim_end().split(separator as char).map(|s| s.trim_matches('"')).collect();
        let columns = self.columns(&header)?;
        let mut reader = ::csv::ReaderBuilder::new()
            .delimiter(separator)
            .has_headers(columns.has_header)
            .flexible(true)
            .quoting(separator == b',')
            .from_path(&self.path)
            .map_err(|e| Error::file(&self.path, e.to_string(), "check the file"))?;
        let root = self.image_root();
        let source: Arc<str> = self.path.to_string_lossy().into();
        let mut samples: Vec<Sample> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut skips = SkipReport::default();
        for (number, row) in reader.records().enumerate() {
            let line = format!("row {}", number + 1);
            match row
                .map_err(|e| Skip::new(SkipReason::RowUnreadable, e.to_string()))
                .and_then(|row| parse(&row, &columns))
            {
                Ok(row) => match index.get(&row.image).and_then(|at| samples.get_mut(*at)) {
                    Some(sample) => sample.captions.extend(row.caption),
                    None => {
                        index.insert(row.image.clone(), samples.len());
                        let image = ImageBytes::File(root.join(&row.image));
                        samples.push(Sample {
                            captions: row.caption.into_iter().collect(),
                            class: row.class,
                            split: row.split,
                            ..Sample::new(Arc::clone(&source), row.image, image)
                        });
                    }
                },
                Err(skip) => skips.add(&line, skip),
            }
        }
        Ok((samples, skips))
    }
}

impl Csv {
    fn columns(&self, header: &[&str]) -> Result<Columns> {
        let numbered = |wanted: &Option<String>| wanted.as_ref().is_some_and(|w| w.parse::<usize>().is_ok());
        let has_header = !numbered(&self.config.image_column);
        let find = |wanted: &Option<String>, names: &[&str]| -> Result<Option<usize>> {
            let Some(wanted) = wanted else {
                return Ok(if has_header {
                    header.iter().position(|h| names.contains(&h.to_lowercase().as_str()))
                } else {
                    None
                });
            };
            if let Ok(number) = wanted.parse::<usize>() {
                return if (1..=header.len()).contains(&number) {
                    Ok(Some(number - 1))
                } else {
                    Err(self.missing(&format!("number {number}"), header))
                };
            }
            header
                .iter()
                .position(|h| h == wanted)
                .map(Some)
                .ok_or_else(|| self.missing(&format!("`{wanted}`"), header))
        };
        let image =
            find(&self.config.image_column, &IMAGE_NAMES)?.ok_or_else(|| self.missing("with images", header))?;
        let caption = find(&self.config.caption_column, &CAPTION_NAMES)?;
        let split = find(&self.config.split_column, &["split"])?;
        let class = find(&self.config.class_column, &CLASS_NAMES)?;
        if caption.is_none() && class.is_none() {
            return Err(self.missing("with captions", header));
        }
        Ok(Columns { image, caption, split, class, has_header })
    }

    fn missing(&self, which: &str, header: &[&str]) -> Error {
        Error::file(
            &self.path,
            format!("there is no column {which} among `{}`", header.join("`, `")),
            "set image_column and caption_column (a name, or a number from 1 when there is no header)",
        )
    }
}

struct Row {
    image: String,
    caption: Option<String>,
    split: Option<String>,
    class: Option<String>,
}

fn parse(row: &::csv::StringRecord, columns: &Columns) -> std::result::Result<Row, Skip> {
    let field =
        |at: Option<usize>| at.and_then(|at| row.get(at)).map(|s| s.trim().to_owned()).filter(|s| !s.is_empty());
    let image = field(Some(columns.image)).ok_or_else(|| Skip::new(SkipReason::RowWithoutImage, ""))?;
    let caption = field(columns.caption);
    if columns.caption.is_some() && caption.is_none() {
        return Err(Skip::new(SkipReason::NoCaption, image));
    }
    if caption.as_ref().is_some_and(|c| c.len() > CAPTION_LIMIT_BYTES) {
        return Err(Skip::new(SkipReason::CaptionTooLarge, format!("{image}: more than {CAPTION_LIMIT_BYTES} bytes")));
    }
    Ok(Row { image, caption, split: field(columns.split), class: field(columns.class) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, config: SourceConfig) -> Result<(Vec<Sample>, SkipReport)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.csv");
        std::fs::write(&path, text).unwrap();
        Csv::new(path, config).samples()
    }

    #[test]
    fn sniffs_the_three_dialects_and_groups_captions() {
        for text in [
            "filepath\ttitle\na.jpg\tA dog\na.jpg\tdogs, two\n",
            "image,caption\na.jpg,A dog\na.jpg,\"dogs, two\"\n",
            "path,caption\na.jpg,A dog\na.jpg,\"dogs, two\"\n",
        ] {
            let (samples, skips) = read(text, SourceConfig::default()).unwrap();
            assert_eq!(samples.len(), 1);
            assert_eq!(samples[0].captions, ["A dog", "dogs, two"]);
            assert_eq!(skips.total(), 0);
        }
    }

    #[test]
    fn a_missing_column_names_those_that_exist() {
        let error = read("image,words\na.jpg,x\n", SourceConfig::default()).unwrap_err().to_string();
        assert!(error.contains("`image`, `words`") && error.contains("caption_column"), "{error}");
    }

    #[test]
    fn columns_by_number_mean_no_header_and_empty_captions_are_counted() {
        let config = SourceConfig {
            image_column: Some("1".into()),
            split_column: Some("2".into()),
            caption_column: Some("3".into()),
            ..SourceConfig::default()
        };
        let (samples, skips) = read("a.jpg\ttrain\tone \"quoted\nb.jpg\ttest\t\n", config).unwrap();
        assert_eq!(samples[0].captions, ["one \"quoted"]);
        assert_eq!(samples[0].split.as_deref(), Some("train"));
        assert!(skips.summary().contains("1 no caption"), "{}", skips.summary());
    }
}
