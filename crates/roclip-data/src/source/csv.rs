//! CSV and TSV files of image paths and captions, with commas, tabs, semicolons or bars between the columns.
//!
//! Column names are sniffed from the header: open_clip (`filepath`, `title`), CleanCLIP (`image`, `caption`), the RoCLIP
//! and SafeCLIP repositories (`path`, `caption`), `metadata.csv` of image folders (`file_name`, `text`), and what others call them. A file
//! without a header is read by column numbers, or where its first row is an image and a text (Flickr's token files). All rows of one image
//! become one sample with several captions.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::skip::{Skip, SkipReason};
use crate::source::records::{Record, Records};
use crate::source::rows::{CAPTION_NAMES, CLASS_NAMES, IMAGE_NAMES, Row, Rows, is_image};
use crate::source::{Listing, Source, SourceConfig, captions, place};
use std::io::{BufReader, Read};
use std::path::PathBuf;

/// What of a file shows how its lines end.
const START_BYTES: u64 = 1 << 16;
/// Columns of addresses, as lists for img2dataset have them.
const ADDRESSES: [&str; 5] = ["url", "image_url", "img_url", "image_link", "link"];
const SEPARATORS: [u8; 4] = [b'\t', b',', b';', b'|'];

pub(super) struct Csv {
    path: PathBuf,
    config: SourceConfig,
}

impl Csv {
    pub(super) fn new(path: PathBuf, config: SourceConfig) -> Self {
        Csv { path, config }
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
    /// Columns of the header; none of a file without one.
    width: Option<usize>,
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
        let mut rows = Rows::new(&self.path, &self.config);
        let mut number = 0;
        while let Some(record) = records.next().io("read", &self.path)? {
            number += 1;
            rows.add(&format!("row {number}"), parse(record, &columns));
        }
        Ok(rows.finish())
    }
}

impl Csv {
    fn records(&self, separator: u8) -> Result<Records<BufReader<std::fs::File>>> {
        let (file, _) = bounded::open(&self.path).io("open", &self.path)?;
        Ok(Records::new(BufReader::new(file), separator))
    }

    /// The first separator that makes sense of the first row, and the columns it gives.
    fn sniff(&self) -> Result<(u8, Columns)> {
        self.check_line_ends()?;
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

    /// # Errors
    /// Where lines end as on old Macintoshes, which would make one row of all.
    fn check_line_ends(&self) -> Result<()> {
        let (file, _) = bounded::open(&self.path).io("open", &self.path)?;
        let mut start = Vec::new();
        file.take(START_BYTES).read_to_end(&mut start).io("read", &self.path)?;
        // A last byte that is a return may have its line feed behind it.
        let returns = start.iter().rev().skip(1).filter(|byte| **byte == b'\r').count();
        match returns > 0 && !start.contains(&b'\n') {
            true => Err(Error::file(
                &self.path,
                "ends its lines with a carriage return alone, as old Macintoshes did",
                "write it anew with line feeds: tr '\\r' '\\n' < OLD > NEW",
            )),
            false => Ok(()),
        }
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
            return Ok(Columns {
                image: 0,
                caption: Some(1),
                split: None,
                class: None,
                has_header: false,
                width: None,
            });
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
        let image = find(&config.image_column, &IMAGE_NAMES)?.ok_or_else(|| {
            let address = header.iter().find(|name| ADDRESSES.iter().any(|known| name.eq_ignore_ascii_case(known)));
            match address {
                Some(address) => Error::file(
                    &self.path,
                    format!(
                        "has addresses of pictures (column `{address}`) and no pictures, and roclip downloads nothing"
                    ),
                    "fetch them with img2dataset (--output_format webdataset), and name the folder of its shards",
                ),
                None => self.missing("with images", header),
            }
        })?;
        let caption = find(&config.caption_column, &CAPTION_NAMES)?;
        let split = find(&config.split_column, &["split"])?;
        let class = find(&config.class_column, &CLASS_NAMES)?;
        if caption.is_none() && class.is_none() {
            return Err(self.missing("with captions", header));
        }
        let by_name = [Some(image), caption, split, class].into_iter().flatten().filter(|_| !numbered);
        for name in by_name.filter_map(|at| header.get(at)) {
            if header.iter().filter(|column| column.eq_ignore_ascii_case(name)).count() > 1 {
                let shown: String = name.chars().take(80).collect();
                return Err(Error::file(
                    &self.path,
                    format!("has several columns `{shown}`, of which only one would be used"),
                    "give them different names",
                ));
            }
        }
        let width = (!numbered).then_some(header.len());
        Ok(Columns { image, caption, split, class, has_header: !numbered, width })
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

fn parse(record: Record, columns: &Columns) -> std::result::Result<Row, Skip> {
    let fields = record.fields.map_err(|what| Skip::new(SkipReason::RowUnreadable, what))?;
    // More fields than names shift all behind them.
    if let Some(width) = columns.width.filter(|width| fields.iter().skip(*width).any(|field| !field.trim().is_empty()))
    {
        let (line, count) = (record.line, fields.len());
        let detail = format!(
            "line {line} has {count} fields, the header {width}; put a text that holds the separator in quotes"
        );
        return Err(Skip::new(SkipReason::RowUnreadable, detail));
    }
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
    let captions = caption.into_iter().collect();
    Ok(Row { image, bytes: None, captions, split: field(columns.split), class: field(columns.class) })
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

#[cfg(test)]
mod tests;
