//! CSV and TSV files of image paths and captions, with commas, tabs, semicolons or bars between the columns.
//!
//! Column names are sniffed from the header: open_clip (`filepath`, `title`), CleanCLIP (`image`, `caption`), the RoCLIP
//! and SafeCLIP repositories (`path`, `caption`), `metadata.csv` of image folders (`file_name`, `text`), and what others call them. A file
//! without a header is read by column numbers, or where its first row is an image and a text (Flickr's token files). All rows of one image
//! become one sample with several captions.

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use crate::escape::for_terminal;
use crate::sample::StatedHash;
use crate::skip::{Skip, SkipReason};
use crate::source::json;
use crate::source::kept::{Kept, Leave};
use crate::source::records::{Record, Records};
use crate::source::rows::{ADDRESS_NAMES, CAPTION_NAMES, CLASS_NAMES, IMAGE_NAMES, Row, Rows, addresses, is_image};
use crate::source::spelling::place;
use crate::source::text_encoding::{self, NO_TEXT};
use crate::source::{LARGE_LIST_BYTES, Listing, Rest, Source, SourceConfig, Take, captions};
use std::io::BufRead;
use std::path::{Path, PathBuf};

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

/// The rows of a file, and the encoding of their text where it is not UTF-8.
type Opened = (Records<Box<dyn BufRead>>, Option<&'static str>);

/// Column numbers from 0, and whether the first row is a header.
#[derive(Debug)]
struct Columns {
    image: usize,
    caption: Option<usize>,
    split: Option<usize>,
    class: Option<usize>,
    /// img2dataset's `sha256` and `original_width`, where they were asked for.
    stated: [Option<usize>; 2],
    has_header: bool,
    /// Columns of the header; none of a file without one.
    width: Option<usize>,
}

impl Source for Csv {
    fn places(&self) -> Vec<PathBuf> {
        vec![place(&self.path)]
    }

    fn list(&self) -> Result<Listing> {
        let mut rows = Rows::new(&self.path, &self.config, None);
        self.read(&mut rows)?;
        rows.finish()
    }

    fn worth_an_index(&self) -> Option<u64> {
        Some(LARGE_LIST_BYTES)
    }

    fn stream(&self, take: Take) -> Result<(Listing, Rest)> {
        let mut rows = Rows::new(&self.path, &self.config, Some(take));
        self.read(&mut rows)?;
        rows.finish_passing()
    }

    fn streams_distinct_ids(&self) -> bool {
        true
    }

    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        Csv::write_kept(self, leave, out)
    }
}

impl Csv {
    fn read(&self, rows: &mut Rows) -> Result<()> {
        let (separator, columns) = self.sniff()?;
        let (mut records, _) = self.records(separator)?;
        if columns.has_header {
            records.next().io("read", &self.path)?;
        }
        let mut number = 0;
        while let Some(record) = records.next().io("read", &self.path)? {
            number += 1;
            rows.add(&|| format!("row {number}"), parse(record, &columns));
            if rows.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn records(&self, separator: u8) -> Result<Opened> {
        let (reader, encoding) = text_encoding::open(&self.path, self.config.csv_encoding.as_deref())?;
        Ok((Records::new(reader, separator), encoding))
    }

    /// What may stand between two columns.
    fn separators(&self) -> Result<Vec<u8>> {
        let Some(named) = &self.config.csv_separator else { return Ok(SEPARATORS.to_vec()) };
        let byte = match named.as_str() {
            "tab" | "\\t" => Some(b'\t'),
            one => one.bytes().next().filter(|_| one.len() == 1),
        };
        let usable = byte.filter(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte));
        usable.map(|byte| vec![byte]).ok_or_else(|| {
            let what = format!("csv_separator is `{}`", crate::escape::for_terminal(named));
            Error::setting(what, "give one character, as in --csv-separator ',', or `tab`")
        })
    }

    /// The first separator that makes sense of the first row, and the columns it gives.
    fn sniff(&self) -> Result<(u8, Columns)> {
        // What the separator that divides the row most would have needed.
        let mut best: Option<(usize, Error)> = None;
        for separator in self.separators()? {
            let Some(record) = self.records(separator)?.0.next().io("read", &self.path)? else {
                return Err(Error::file(&self.path, "is empty", "it needs a header and at least one row"));
            };
            let fields = record.fields.map_err(|what| {
                let utf8 =
                    "name its encoding with --csv-encoding (latin-1, windows-1252, utf-16, ...), or save it as UTF-8";
                Error::file(&self.path, format!("has no header: {what}"), utf8)
            })?;
            let fields: Vec<String> = fields.iter().map(|name| captions::tidy(name).to_owned()).collect();
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
            return Ok(Columns {
                image: 0,
                caption: Some(1),
                split: None,
                class: None,
                stated: [None; 2],
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
        let Some(image) = find(&config.image_column, &IMAGE_NAMES)? else {
            let address = header.iter().find(|name| ADDRESS_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)));
            if let Some(address) = address {
                return Err(addresses(
                    &self.path,
                    format!("its pictures are addresses (column `{}`)", for_terminal(address)),
                ));
            }
            return Err(self.missing("with images", header));
        };
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
        let stated =
            ["sha256", "original_width"].map(|name| known(&[name]).filter(|_| config.with_sha256 && !numbered));
        Ok(Columns { image, caption, split, class, stated, has_header: !numbered, width })
    }

    fn missing(&self, which: &str, header: &[String]) -> Error {
        let shown: Vec<String> = header.iter().take(20).map(|name| name.chars().take(80).collect()).collect();
        Error::file(
            &self.path,
            format!("there is no column {which} among `{}`", shown.join("`, `")),
            "set image_column and caption_column (a name, or a number from 1 when there is no header)",
        )
    }
}

fn parse(record: Record, columns: &Columns) -> std::result::Result<Row, Skip> {
    let fields = record.fields.map_err(|what| Skip::new(SkipReason::RowUnreadable, what))?;
    if fields.iter().any(|field| field.contains(NO_TEXT)) {
        let detail = format!("line {} holds bytes that are no text of the encoding (--csv-encoding)", record.line);
        return Err(Skip::new(SkipReason::RowUnreadable, detail));
    }
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
    let image = fields.get(columns.image).filter(|image| !captions::tidy(image).is_empty()).cloned();
    let image = image.ok_or_else(|| Skip::new(SkipReason::RowWithoutImage, format!("line {line}")))?;
    let caption = field(columns.caption);
    let (class, several) = json::one_or_several(class_of(field(columns.class)), &image);
    if caption.is_none() && class.is_none() {
        match several {
            Some(several) => return Err(Skip::new(SkipReason::NoClass, several.detail)),
            None if columns.caption.is_some() => return Err(Skip::new(SkipReason::NoCaption, image)),
            None => {}
        }
    }
    let bare = captions::tidy(&image);
    let path = without_number(bare);
    let image = if path == bare { image } else { path.to_owned() };
    let captions = caption.into_iter().collect();
    let [sha256, original_width] = columns.stated.map(field);
    let stated = sha256
        .and_then(|hex| artifact::sha256_of_hex(&hex))
        .map(|sha256| StatedHash { sha256, of_download: original_width.is_some() });
    let split = field(columns.split);
    Ok(Row { image, captions, left_out: several, split, class, stated, ..Row::default() })
}

/// The class that a field names, which may be a list of JSON.
///
/// # Errors
/// A skip for a list of several.
fn class_of(field: Option<String>) -> std::result::Result<Option<String>, Skip> {
    let list = field.as_deref().filter(|text| text.starts_with('[')).and_then(|text| json::parse(text).ok());
    list.map_or(Ok(field), |list| json::class(Some(&list.value)))
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

mod kept;

#[cfg(test)]
mod tests;
