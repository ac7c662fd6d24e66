//! Reading what was written: regular files of a length that somebody can have meant.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Weights are the longest files that are read whole.
const FILE_LIMIT_BYTES: u64 = 64 << 30;
/// Labels, manifests and JSON of any sort; a manifest of a million rows is half of it.
const TEXT_LIMIT_BYTES: u64 = 1 << 30;

/// The bytes of a regular file. Devices and pipes are errors: a name in somebody's checkpoint may be theirs.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, FILE_LIMIT_BYTES)
}

/// The bytes of a regular file of at most `limit` bytes.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    bounded::read(path, limit).io("read", path)
}

pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read_at_most(path, TEXT_LIMIT_BYTES)?;
    String::from_utf8(bytes).map_err(|e| Error::file(path, format!("is not UTF-8 text: {e}"), "save it as UTF-8"))
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    json_of(path, &read_json_bytes(path)?)
}

/// What [`read_json`] reads, for [`json_of`].
pub fn read_json_bytes(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, TEXT_LIMIT_BYTES)
}

/// The JSON in `bytes`, which were read of `path`.
pub fn json_of<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    if bytes.trim_ascii().is_empty() {
        return Err(Error::file(path, "is empty", "bring it back, or have it written again"));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| Error::file(path, format!("not the JSON expected: {e}"), "check the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_called_so() {
        let said = json_of::<serde_json::Value>(Path::new("summary.json"), b" \n").unwrap_err().to_string();
        assert!(said.contains("summary.json") && said.contains("is empty"), "{said}");
    }
}
