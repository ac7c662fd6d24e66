//! Scalars for TensorBoard: `RUN/tensorboard/events.out.tfevents.*`, one file a session. Each record is a protobuf `Event`
//! (`tensorflow/core/util/event.proto`) framed as a TFRecord (`tensorflow/core/lib/io/record_writer.h`). Of the messages only what a scalar
//! needs is written.

use crate::error::{Error, IoContext, Result};
use roclip_data::paths::create_folder;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Numbers of fields, and whether their values are a varint, eight bytes, a length and bytes, or four bytes.
mod field {
    pub const VARINT: u64 = 0;
    pub const EIGHT_BYTES: u64 = 1;
    pub const BYTES: u64 = 2;
    pub const FOUR_BYTES: u64 = 5;

    pub const EVENT_WALL_TIME: u64 = 1 << 3 | EIGHT_BYTES;
    pub const EVENT_STEP: u64 = 2 << 3 | VARINT;
    pub const EVENT_FILE_VERSION: u64 = 3 << 3 | BYTES;
    pub const EVENT_SUMMARY: u64 = 5 << 3 | BYTES;
    pub const EVENT_SESSION_LOG: u64 = 7 << 3 | BYTES;
    pub const SUMMARY_VALUE: u64 = 1 << 3 | BYTES;
    pub const VALUE_TAG: u64 = 1 << 3 | BYTES;
    pub const VALUE_SIMPLE: u64 = 2 << 3 | FOUR_BYTES;
    pub const SESSION_STATUS: u64 = 1 << 3 | VARINT;
}

/// `SessionLog.SessionStatus.START`.
const SESSION_START: u64 = 1;

/// A file of events that grows as a run goes.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in `folder` for a session that begins behind `step`, at `seconds` since 1970. Readers then drop what earlier sessions
    /// wrote of later steps: that is TensorBoard's own rule for a run that goes on.
    pub fn create(folder: &Path, seconds: f64, step: u64) -> Result<EventFile> {
        create_folder(folder)?;
        // Readers take files by the order of their names, which the time begins.
        let name =
            |number: u32| format!("events.out.tfevents.{:010}.roclip.{}.{number}", seconds as u64, std::process::id());
        let (path, file) = (0..u32::MAX)
            .map(|number| folder.join(name(number)))
            .find_map(|path| match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => None,
                opened => Some((path, opened)),
            })
            .ok_or_else(|| Error::internal("no name is left for an event file"))?;
        let mut events = EventFile { file: file.io("create", &path)?, path };
        events.append(&event(seconds, None, field::EVENT_FILE_VERSION, b"brain.Event:2"))?;
        if step > 0 {
            let mut session = Vec::new();
            varint(&mut session, field::SESSION_STATUS);
            varint(&mut session, SESSION_START);
            events.append(&event(seconds, Some(step + 1), field::EVENT_SESSION_LOG, &session))?;
        }
        Ok(events)
    }

    /// The values of `scalars`, each under its tag, at `step`.
    pub fn write(&mut self, seconds: f64, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut one = Vec::new();
            bytes(&mut one, field::VALUE_TAG, tag.as_bytes());
            varint(&mut one, field::VALUE_SIMPLE);
            one.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, field::SUMMARY_VALUE, &one);
        }
        self.append(&event(seconds, Some(step), field::EVENT_SUMMARY, &summary))
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&framed(event)).io("append to", &self.path)
    }
}

/// An `Event` whose content is the bytes of the field `what`.
fn event(seconds: f64, step: Option<u64>, what: u64, content: &[u8]) -> Vec<u8> {
    let mut event = Vec::new();
    varint(&mut event, field::EVENT_WALL_TIME);
    event.extend(seconds.to_le_bytes());
    if let Some(step) = step {
        varint(&mut event, field::EVENT_STEP);
        varint(&mut event, step);
    }
    bytes(&mut event, what, content);
    event
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn bytes(to: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(to, field);
    varint(to, content.len() as u64);
    to.extend(content);
}

/// A TFRecord: length, its checksum, content, its checksum.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(crc32c::crc32c(&length)).to_le_bytes());
    record.extend(content);
    record.extend(masked(crc32c::crc32c(content)).to_le_bytes());
    record
}

/// A checksum of bytes that hold checksums is a poor one, so that TFRecords mask theirs.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tensorboard`'s own `EventAccumulator` reads as losses 2.5 and 1.5 at steps 10 and 20, and 1.25 at 20 after a resume at 15
    /// (`tests/golden/event_files.py` wrote these bytes with TensorBoard's own code).
    #[test]
    fn events_are_the_bytes_that_tensorboard_reads() {
        let folder = tempfile::tempdir().unwrap();
        let loss = |value| [("train/loss".to_owned(), value)];
        let mut first = EventFile::create(folder.path(), 1e9, 0).unwrap();
        first.write(1e9 + 1.0, 10, &loss(2.5)).unwrap();
        first.write(1e9 + 2.0, 20, &loss(1.5)).unwrap();
        let mut second = EventFile::create(folder.path(), 1e9 + 3.0, 15).unwrap();
        second.write(1e9 + 4.0, 20, &loss(1.25)).unwrap();
        let hex = |events: &EventFile| -> String {
            std::fs::read(&events.path).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let golden = include_str!("../../../../tests/golden/event_files.txt");
        assert_eq!(format!("{}\n{}\n", hex(&first), hex(&second)), golden);
    }

    #[test]
    fn two_sessions_of_one_second_have_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |()| EventFile::create(folder.path(), 1e9, 0).unwrap().path;
        assert_ne!(path(()), path(()));
    }
}
