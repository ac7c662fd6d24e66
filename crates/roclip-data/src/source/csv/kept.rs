//! A list without some of its rows. Those that stay are written as they stand there, byte by byte, but for ends of lines that are not those of
//! the file: behind another row than before, such a carriage return would be text.

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use crate::skip::{Skip, SkipReason};
use crate::source::csv::{Csv, parse};
use crate::source::kept::{Fate, Fates, Kept, Leave};
use crate::source::records::LineEnd;
use crate::source::rows::image_root;
use std::path::Path;

impl Csv {
    pub(super) fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        let (separator, columns) = self.sniff()?;
        let (mut records, former_encoding) = self.records(separator)?;
        let image_root = Some(image_root(&self.path, &self.config));
        let mut kept = Kept { files: 1, former_encoding, image_root, ..Kept::default() };
        artifact::write_with(out, |to| {
            let mut write = |raw: &[u8], end: LineEnd| -> Result<()> {
                let (row, end) = end.of_row(raw);
                to.write_all(row).and_then(|()| to.write_all(end)).io("write", out)
            };
            if columns.has_header
                && let Some(header) = records.next().io("read", &self.path)?
            {
                write(&header.raw, records.line_end())?;
            }
            let mut fates = Fates::new(leave);
            while let Some(record) = records.next().io("read", &self.path)? {
                if record.raw.is_empty() {
                    kept.not_copied.add(
                        &format!("line {}", record.line),
                        Skip::new(SkipReason::RowUnreadable, "it is too long to be a row"),
                    );
                    continue;
                }
                let raw = record.raw.clone();
                // A row that cannot be read is nobody's to drop.
                match parse(record, &columns).map(|row| fates.of(&row.image, &row.captions)) {
                    Ok(Fate::Dropped | Fate::Captions(_)) => {}
                    Ok(Fate::Kept) | Err(_) => write(&raw, records.line_end())?,
                }
            }
            Ok::<(), Error>(())
        })?;
        Ok(kept)
    }
}
