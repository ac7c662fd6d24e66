//! CSV and TSV files of image paths and captions, with commas, tabs, semicolons or bars between the columns.
//!
//! Column names are sniffed from the header: open_clip (`filepath`, `title`), CleanCLIP (`image`, `caption`), the RoCLIP
//! and SafeCLIP repositories (`path`, `caption`), `metadata.csv` of image folders (`file_name`, `text`), and what others call them. A file
//! without a header is read by column numbers, or where its first row is an image and a text (Flickr's token files). All rows of one image
//! become one sample with several captions.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::progress::Task;
use crate::sample::{ImageBytes, Sample};
use crate::skip::{Skip, SkipReason};
use crate::source::records::{Record, Records};
use crate::source::tree::{Kind, kind_of};
use crate::source::{Listing, Source, SourceConfig, captions, place};
use std::collections::HashMap;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The first of them that a file has names its images, the more telling ones first.
const IMAGE_NAMES: [&str; 18] = [
    "filepath",
    "image",
    "path",
    "file",
    "image_path",
    "file_name",
    "filename",
    "image_file",
    "image_name",
    "img_path",
    "img",
    "file_path",
    "image_filename",
    "img_name",
    "img_file",
    "image_filepath",
    "name",
    "image_id",
];
const CAPTION_NAMES: [&str; 11] = [
    "title",
    "caption",
    "text",
    "sentence",
    "captions",
    "comment",
    "description",
    "image_caption",
    "alt_text",
    "alt",
    "prompt",
];
const CLASS_NAMES: [&str; 3] = ["class", "label", "concept"];
const SEPARATORS: [u8; 4] = [b'\t', b',', b';', b'|'];

pub(super) struct Csv {
    path: PathBuf,
    config: SourceConfig,
}

impl Csv {
    pub(super) fn new(path: PathBuf, config: SourceConfig) -> Self {
        Csv { path, config }
    }

    fn image_root(&self) -> PathBuf {
        let beside = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.config.image_root.clone().unwrap_or_else(|| beside.to_owned())
    }
}

/// Column numbers from 0, and whether the first row is a header.
#[derive(Debug)]
struct Columns {
    image: usize,
    caption: Option<usize>,
    split: Option<usize>,
    class: Option<usize>,
    has_header: bool,
}

impl Source for Csv {
    fn places(&self) -> Vec<PathBuf> {
        vec![place(&self.path)]
    }

    fn list(&self) -> Result<Listing> {
        let (separator, columns) = self.sniff()?;
        let mut records = self.records(separator)?;
        if columns.has_header {
            records.next().io("read", &self.path)?;
        }
        let root = Root::new(self.image_root(), self.config.outside_paths);
        let source: Arc<str> = place(&root.path).to_string_lossy().into();
        let mut listing = Listing { shards: 1, ..Listing::default() };
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut number = 0;
        let task = Task::begin("reading rows", 0, "rows");
        while let Some(record) = records.next().io("read", &self.path)? {
            number += 1;
            task.advance(1);
            let outcome = parse(record, &columns).and_then(|row| {
                if let Some(sample) = index.get(&row.image).and_then(|at| listing.samples.get_mut(*at)) {
                    return extend(sample, row);
                }
                let image = ImageBytes::File(root.image(&row.image)?);
                let mut sample = Sample {
                    class: row.class,
                    split: row.split,
                    ..Sample::new(Arc::clone(&source), row.image.as_str(), image)
                };
                if let Some(caption) = &row.caption {
                    captions::add(&mut sample.captions, caption).map_err(|skip| of_image(&row.image, skip))?;
                }
                index.insert(row.image, listing.samples.len());
                listing.samples.push(sample);
                Ok(())
            });
            if let Err(skip) = outcome {
                listing.skips.add(&format!("row {number}"), skip);
            }
        }
        Ok(listing)
    }
}

/// A further row of an image.
fn extend(sample: &mut Sample, row: Row) -> std::result::Result<(), Skip> {
    if row.split.is_some() && row.split != sample.split {
        let [earlier, here] = [&sample.split, &row.split].map(|split| split.as_deref().unwrap_or("none"));
        let detail = format!("{} is in split {earlier} by an earlier row, and in {here} by this one", row.image);
        return Err(Skip::new(SkipReason::SampleRepeated, detail));
    }
    if let Some(caption) = &row.caption {
        captions::add(&mut sample.captions, caption).map_err(|skip| of_image(&row.image, skip))?;
    }
    sample.class = sample.class.take().or(row.class);
    Ok(())
}

fn of_image(image: &str, skip: Skip) -> Skip {
    Skip { detail: format!("{image}: {}", skip.detail), ..skip }
}

/// The folder that image paths start from.
struct Root {
    path: PathBuf,
    absolute: PathBuf,
    outside: bool,
}

impl Root {
    fn new(path: PathBuf, outside: bool) -> Self {
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        Root { path, absolute, outside }
    }

    /// Where the image of a row lies.
    fn image(&self, image: &str) -> std::result::Result<PathBuf, Skip> {
        if image.contains("://") {
            let detail = format!("{image}: addresses are not fetched; download the pictures first (img2dataset does)");
            return Err(Skip::new(SkipReason::ImageOutsideFolder, detail));
        }
        let named = Path::new(image);
        let climbs = named.components().any(|part| part == Component::ParentDir);
        let inside = !climbs && (named.is_relative() || named.starts_with(&self.absolute));
        if !inside && !self.outside {
            let detail = format!(
                "{image} is not in {}: set image_root to a folder that holds all images, or outside_paths = true (of the source)",
                self.path.display()
            );
            return Err(Skip::new(SkipReason::ImageOutsideFolder, detail));
        }
        // A list in the current folder has no folder in front of its images.
        Ok(if self.path == Path::new(".") { named.to_owned() } else { self.path.join(named) })
    }
}

impl Csv {
    fn records(&self, separator: u8) -> Result<Records<BufReader<std::fs::File>>> {
        let (file, _) = bounded::open(&self.path).io("open", &self.path)?;
        Ok(Records::new(BufReader::new(file), separator))
    }

    /// The first separator that makes sense of the first row, and the columns it gives.
    fn sniff(&self) -> Result<(u8, Columns)> {
        // What the separator that divides the row most would have needed.
        let mut best: Option<(usize, Error)> = None;
        for separator in SEPARATORS {
            let Some(record) = self.records(separator)?.next().io("read", &self.path)? else {
                return Err(Error::file(&self.path, "is empty", "it needs a header and at least one row"));
            };
            let fields = record.fields.map_err(|what| {
                let utf16 = "save it as UTF-8, with the names of its columns in the first line";
                Error::file(&self.path, format!("has no header: {what}"), utf16)
            })?;
            match self.columns(&fields) {
                Ok(columns) => return Ok((separator, columns)),
                Err(error) if best.as_ref().is_none_or(|(most, _)| fields.len() > *most) => {
                    best = Some((fields.len(), error))
                }
                Err(_) => {}
            }
        }
        Err(best.map_or_else(|| Error::internal("no separator was tried"), |(_, error)| error))
    }

    fn columns(&self, header: &[String]) -> Result<Columns> {
        let config = &self.config;
        let numbered = config.image_column.as_ref().is_some_and(|wanted| wanted.parse::<usize>().is_ok());
        let named = config.image_column.is_some() || config.caption_column.is_some();
        let known = |names: &[&str]| {
            names.iter().find_map(|name| header.iter().position(|column| column.eq_ignore_ascii_case(name)))
        };
        if !named
            && known(&IMAGE_NAMES).is_none()
            && let [image, _] = header
            && is_image(image)
        {
            return Ok(Columns { image: 0, caption: Some(1), split: None, class: None, has_header: false });
        }
        let find = |wanted: &Option<String>, names: &[&str]| -> Result<Option<usize>> {
            let Some(wanted) = wanted else {
                return Ok(if numbered { None } else { known(names) });
            };
            match wanted.parse::<usize>() {
                Ok(number) if (1..=header.len()).contains(&number) => Ok(Some(number - 1)),
                Ok(number) => Err(self.missing(&format!("number {number}"), header)),
                Err(_) => match header.iter().position(|column| column == wanted) {
                    Some(at) => Ok(Some(at)),
                    None => Err(self.missing(&format!("`{wanted}`"), header)),
                },
            }
        };
        let image = find(&config.image_column, &IMAGE_NAMES)?.ok_or_else(|| self.missing("with images", header))?;
        let caption = find(&config.caption_column, &CAPTION_NAMES)?;
        let split = find(&config.split_column, &["split"])?;
        let class = find(&config.class_column, &CLASS_NAMES)?;
        if caption.is_none() && class.is_none() {
            return Err(self.missing("with captions", header));
        }
        Ok(Columns { image, caption, split, class, has_header: !numbered })
    }

    fn missing(&self, which: &str, header: &[String]) -> Error {
        let shown: Vec<&str> = header.iter().take(20).map(|name| name.get(..80).unwrap_or(name)).collect();
        Error::file(
            &self.path,
            format!("there is no column {which} among `{}`", shown.join("`, `")),
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

fn parse(record: Record, columns: &Columns) -> std::result::Result<Row, Skip> {
    let fields = record.fields.map_err(|what| Skip::new(SkipReason::RowUnreadable, what))?;
    let field = |at: Option<usize>| {
        at.and_then(|at| fields.get(at)).map(|text| captions::tidy(text).to_owned()).filter(|text| !text.is_empty())
    };
    let line = record.line;
    let image =
        field(Some(columns.image)).ok_or_else(|| Skip::new(SkipReason::RowWithoutImage, format!("line {line}")))?;
    let caption = field(columns.caption);
    if columns.caption.is_some() && caption.is_none() && field(columns.class).is_none() {
        return Err(Skip::new(SkipReason::NoCaption, image));
    }
    let image = without_number(&image).to_owned();
    Ok(Row { image, caption, split: field(columns.split), class: field(columns.class) })
}

/// Flickr's token files number the captions of an image: `a.jpg#3`.
fn without_number(image: &str) -> &str {
    match image.rsplit_once('#') {
        Some((path, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && is_image(path) => {
            path
        }
        _ => image,
    }
}

fn is_image(name: &str) -> bool {
    let name = name.rsplit_once('#').map_or(name, |(path, _)| path);
    kind_of(Path::new(name)) == Kind::Image
}

#[cfg(test)]
mod tests;
