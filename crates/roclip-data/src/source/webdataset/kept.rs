//! Shards without some of their samples. What stays is copied member by member, with its own header.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::progress::Task;
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::kept::{Kept, Leave, Leaving};
use crate::source::members::{Name, escapes};
use crate::source::shards::{distinct_ends, is_gzip, is_shard};
use crate::source::spelling::place;
use crate::source::tree::{escaped, name};
use crate::source::webdataset::WebDataset;
use crate::source::webdataset::readers::whole;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use tar::{Entry, Header};

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
        let names = distinct_ends(&names);
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

/// Copies one shard as far as it is whole. What is lost behind that place was counted when it was listed.
fn copied(shard: &Path, leave: &Leave, out: &Path) -> Result<Kept> {
    let here = leave.of_source(&place(shard).to_string_lossy());
    let left_out = here.by_key();
    let (file, length) = bounded::open(shard).io("open", shard)?;
    let mut kept = Kept { files: 1, ..Kept::default() };
    let mut copying =
        Copying { left_out: &left_out, not_copied: &mut kept.not_copied, length: (!is_gzip(shard)).then_some(length) };
    let reader: Box<dyn Read> = match is_gzip(shard) {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(BufReader::new(file)),
    };
    artifact::write_with(out, |to| {
        match is_gzip(out) {
            true => {
                let mut packed = GzEncoder::new(to, Compression::default());
                copying.members(reader, &mut packed).io("copy", shard)?;
                packed.finish().io("write", out)?;
            }
            false => copying.members(reader, to).io("copy", shard)?,
        }
        Ok::<(), Error>(())
    })?;
    Ok(kept)
}

/// How the members of one shard are copied.
struct Copying<'a> {
    left_out: &'a HashMap<&'a str, &'a Leaving>,
    not_copied: &'a mut SkipReport,
    /// Of the file, where its members lie in it as they are.
    length: Option<u64>,
}

impl Copying<'_> {
    /// Copies members up to one that is cut off or cannot be read, and ends the new archive there.
    fn members(&mut self, reader: Box<dyn Read>, to: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Archive::new(reader);
        archive.set_ignore_zeros(true);
        let mut copy = tar::Builder::new(to);
        for entry in archive.entries()? {
            let Ok(mut entry) = entry else { break };
            let Some((header, path)) = self.kept(&entry) else { continue };
            if !self.append(&mut copy, header, &path, &mut entry)? {
                break;
            }
        }
        copy.finish()
    }

    /// The header and the name of a member that is copied.
    fn kept<R: Read>(&mut self, entry: &Entry<R>) -> Option<(Header, String)> {
        let kind = entry.header().entry_type();
        let bytes = entry.path_bytes().into_owned();
        let path = match std::str::from_utf8(&bytes) {
            Ok(path) if !escapes(path) => path.to_owned(),
            _ => {
                let skip = Skip::new(SkipReason::MemberNameRefused, "it leads out of the archive, or is not UTF-8");
                self.not_copied.add(&escaped(&bytes), skip);
                return None;
            }
        };
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return None;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            self.not_copied.add(&path, Skip::new(SkipReason::MemberIsNoFile, "links and devices are not copied"));
            return None;
        }
        // Of `a.v2.jpg` the key is `a.v2` where that is a sample of its own, else `a`.
        let dropped = Name::of(&path).is_some_and(|name| {
            let whole = format!("{}.{}", name.key, name.middle);
            let own = self.left_out.get(whole.as_str()).filter(|_| !name.middle.is_empty());
            own.or_else(|| self.left_out.get(name.key)).is_some_and(|leaving| **leaving == Leaving::Whole)
        });
        let mut header = entry.header().clone();
        header.set_size(entry.size());
        (!dropped).then_some((header, path))
    }

    /// Whether the member is whole; only then it is copied.
    fn append<R: Read>(
        &self,
        copy: &mut tar::Builder<&mut dyn Write>,
        mut header: Header,
        path: &str,
        entry: &mut Entry<R>,
    ) -> io::Result<bool> {
        let size = entry.size();
        let Some(length) = self.length else {
            // Of what is compressed only the reading tells.
            let Ok(bytes) = whole(entry, size) else { return Ok(false) };
            copy.append_data(&mut header, path, bytes.as_slice())?;
            return Ok(true);
        };
        if entry.raw_file_position().checked_add(size).is_none_or(|end| end > length) {
            return Ok(false);
        }
        copy.append_data(&mut header, path, entry)?;
        Ok(true)
    }
}
