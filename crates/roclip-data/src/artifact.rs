//! Files that are either whole or absent: written beside the target, synced, renamed.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Weights are the longest files that are read whole.
const FILE_LIMIT_BYTES: u64 = 64 << 30;
/// Labels, manifests and JSON of any sort; a manifest of a million rows is half of it.
const TEXT_LIMIT_BYTES: u64 = 1 << 30;

/// Writes `bytes` so that a crash at any moment leaves either the old file or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).io("create the folder", folder)?;
    let mut name = path.file_name().ok_or_else(|| Error::file(path, "is not a file name", "name a file"))?.to_owned();
    name.push(".part");
    let beside = path.with_file_name(name);
    let mut file = File::create(&beside).io("create", &beside)?;
    file.write_all(bytes).io("write", &beside)?;
    file.sync_all().io("sync", &beside)?;
    drop(file);
    fs::rename(&beside, path).io("rename into place", path)?;
    File::open(folder).and_then(|f| f.sync_all()).io("sync the folder", folder)
}

/// Fills a new folder so that it appears whole or not at all: `fill` writes beside it, and the result is renamed into place.
/// An unfinished folder of an earlier call is removed.
pub fn write_folder<T, E: From<Error>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    if folder.exists() {
        return Err(Error::file(folder, "exists already", "name a new folder").into());
    }
    replace_folder(folder, fill)
}

/// [`write_folder`] where an older folder of that name may stand; it is removed once the new one is whole.
pub fn replace_folder<T, E: From<Error>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let beside = folder.with_file_name(name);
    if beside.exists() {
        fs::remove_dir_all(&beside).io("remove the unfinished", &beside)?;
    }
    fs::create_dir_all(&beside).io("create the folder", &beside)?;
    match fill(&beside) {
        Ok(value) => {
            if folder.exists() {
                fs::remove_dir_all(folder).io("replace", folder)?;
            }
            fs::rename(&beside, folder).io("rename into place", folder)?;
            Ok(value)
        }
        Err(error) => {
            // The first error is the one to report; a folder left behind is removed by the next call.
            let _ = fs::remove_dir_all(&beside);
            Err(error)
        }
    }
}

pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    text.push(b'\n');
    write(path, &text)
}

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
    serde_json::from_slice(&read_at_most(path, TEXT_LIMIT_BYTES)?)
        .map_err(|e| Error::file(path, format!("not the JSON expected: {e}"), "check the file"))
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
