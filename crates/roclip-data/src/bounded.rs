//! Reads that end: of regular files only, and never more bytes than expected. A device, a pipe or a file of the kernel's may give bytes for ever,
//! or none until somebody writes some.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Opens a regular file, or what a link to one leads to, and gives its length in bytes. Others are refused before they are opened.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a device, a pipe or a file of the kernel's, [`ErrorKind::IsADirectory`] for a folder.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    check(path, &fs::metadata(path)?)?;
    let file = File::open(path)?;
    let found = file.metadata()?;
    check(path, &found)?;
    Ok((file, found.len()))
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and [`ErrorKind::FileTooLarge`] for a longer one.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > limit {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it has {length} bytes, at most {limit} are read"),
        ));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(room).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(path: &Path, found: &Metadata) -> io::Result<()> {
    let refused = |what| Err(io::Error::new(ErrorKind::InvalidInput, what));
    if found.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder"));
    }
    if !found.is_file() {
        return refused("it is a device or a pipe, not a regular file");
    }
    // `/proc/kmsg` calls itself a regular file of no bytes; reading it waits for the kernel's next message.
    if found.len() == 0 && fs::canonicalize(path)?.starts_with("/proc") {
        return refused("it is a file of the kernel's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_may_never_end_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for endless in [pipe.as_path(), &link, Path::new("/dev/zero"), Path::new("/dev/tty"), Path::new("/proc/kmsg")] {
            let error = read(endless, 1 << 20).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", endless.display());
        }
        assert_eq!(read(folder.path(), 1).unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_file_longer_than_expected_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        assert_eq!(read(file.path(), 1 << 20).unwrap_err().kind(), ErrorKind::FileTooLarge);
        fs::write(file.path(), b"1234").unwrap();
        assert_eq!(read(file.path(), 4).unwrap(), b"1234");
        let link = file.path().with_extension("link");
        std::os::unix::fs::symlink(file.path(), &link).unwrap();
        assert_eq!(read(&link, 4).unwrap(), b"1234", "a link to a regular file is one");
        fs::remove_file(link).unwrap();
    }
}
