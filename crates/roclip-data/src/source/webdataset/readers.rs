//! How the bytes of shards are read.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use tar::Entry;

/// Read at once of a tar that is read in place.
const AHEAD_BYTES: usize = 8 << 10;

/// Why a member could not be read. The reader of tars quotes what stands where a number should, which may be anything.
pub(super) fn cause(error: &io::Error) -> String {
    let said = error.to_string();
    match said.contains(" when getting ") || said.contains("checksum mismatch") {
        true => "what stands there is no header of a member".to_owned(),
        false => said,
    }
}

/// All bytes of a member.
pub(crate) fn whole<R: Read>(entry: &mut Entry<R>, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let room = usize::try_from(size).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(room).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    entry.read_to_end(&mut bytes)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(io::Error::new(ErrorKind::UnexpectedEof, "the file ends inside a member")),
    }
}

pub(super) fn too_large(limit: u64) -> io::Error {
    let what = format!(
        "gzip shards are held in memory, and unpack to more than {} MiB: use uncompressed *.tar, which are read in place, or raise gzip_memory_mib",
        limit >> 20
    );
    io::Error::new(ErrorKind::FileTooLarge, what)
}

/// Reads a little ahead, and keeps it where the place that is sought lies within: the texts of a sample, and the headers before and behind
/// them, are one call of the system then.
pub(super) struct Ahead {
    reader: io::BufReader<File>,
    /// Of the next byte. The reader would ask the system.
    place: u64,
}

impl Ahead {
    pub(super) fn new(file: File) -> Self {
        Ahead { reader: io::BufReader::with_capacity(AHEAD_BYTES, file), place: 0 }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.place += count as u64;
        Ok(count)
    }
}

impl Seek for Ahead {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.place = match to {
            SeekFrom::Current(by) => {
                let place = self.place.checked_add_signed(by).ok_or(ErrorKind::InvalidInput)?;
                self.reader.seek_relative(by)?;
                place
            }
            other => self.reader.seek(other)?,
        };
        Ok(self.place)
    }
}

/// Counts what was read, and ends with an error after `limit` bytes.
pub(crate) struct Metered<R> {
    pub inner: R,
    pub read: u64,
    pub limit: u64,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read > self.limit {
            return Err(too_large(self.limit));
        }
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}
