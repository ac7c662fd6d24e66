//! Shards without some of their samples. What stays is copied member by member, with its own header.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::progress::Task;
use crate::skip::{Skip, SkipReason};
use crate::source::kept::{Kept, Leave, Leaving};
use crate::source::members::{Name, escapes};
use crate::source::place;
use crate::source::shards::{distinct_ends, is_gzip, is_shard};
use crate::source::tree::{escaped, name};
use crate::source::webdataset::WebDataset;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

impl WebDataset {
    /// Writes the shards to the new folder `out`, under the names that they have; or to the file `out`, where it is one shard and `out` has a
    /// shard's name.
    pub(super) fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        if let Some(key) = leave.only_captions().next() {
            return Err(Error::setting(
                format!("the list names single captions of `{key}`, and samples of shards are kept or dropped whole"),
                "leave single captions out while training (`roclip train --drop`), or name the sample itself",
            ));
        }
        if let [shard] = self.shards.as_slice()
            && is_shard(out)
        {
            return copied(&self.root.join(shard), leave, out);
        }
        let names: Vec<String> = self.shards.iter().map(|shard| name(shard)).collect();
        let names = distinct_ends(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let task = Task::begin("writing shards", self.shards.len(), "shards");
        artifact::write_folder(out, |folder| {
            let mut kept = Kept::default();
            for (shard, name) in self.shards.iter().zip(&names) {
                kept.append(copied(&self.root.join(shard), leave, &folder.join(name))?);
                task.advance(1);
            }
            Ok(kept)
        })
    }
}

/// Copies one shard.
fn copied(shard: &Path, leave: &Leave, out: &Path) -> Result<Kept> {
    let here = leave.of_source(&place(shard).to_string_lossy());
    let left_out = here.by_key();
    let (file, _) = bounded::open(shard).io("open", shard)?;
    let mut kept = Kept { files: 1, ..Kept::default() };
    let reader: Box<dyn Read> = match is_gzip(shard) {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(BufReader::new(file)),
    };
    artifact::write_with(out, |to| {
        match is_gzip(out) {
            true => {
                let mut packed = GzEncoder::new(to, Compression::default());
                members(reader, &left_out, &mut packed, &mut kept).io("copy", shard)?;
                packed.finish().io("write", out)?;
            }
            false => members(reader, &left_out, to, &mut kept).io("copy", shard)?,
        }
        Ok::<(), Error>(())
    })?;
    Ok(kept)
}

fn members(
    reader: Box<dyn Read>,
    left_out: &HashMap<&str, &Leaving>,
    to: &mut dyn Write,
    kept: &mut Kept,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_ignore_zeros(true);
    let mut copy = tar::Builder::new(to);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let bytes = entry.path_bytes().into_owned();
        let path = match std::str::from_utf8(&bytes) {
            Ok(path) if !escapes(path) => path.to_owned(),
            _ => {
                let skip = Skip::new(SkipReason::MemberNameRefused, "it leads out of the archive, or is not UTF-8");
                kept.not_copied.add(&escaped(&bytes), skip);
                continue;
            }
        };
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            kept.not_copied.add(&path, Skip::new(SkipReason::MemberIsNoFile, "links and devices are not copied"));
            continue;
        }
        // Of `a.v2.jpg` the key is `a.v2` where that is a sample of its own, else `a`.
        let dropped = Name::of(&path).is_some_and(|name| {
            let whole = format!("{}.{}", name.key, name.middle);
            let own = left_out.get(whole.as_str()).filter(|_| !name.middle.is_empty());
            own.or_else(|| left_out.get(name.key)).is_some_and(|leaving| **leaving == Leaving::Whole)
        });
        if dropped {
            continue;
        }
        let mut header = entry.header().clone();
        header.set_size(entry.size());
        copy.append_data(&mut header, &path, &mut entry)?;
    }
    copy.finish()
}
