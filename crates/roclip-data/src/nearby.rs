//! Opening many files one after the other, most of which lie in the folder of the one before: that folder stays open, and the system looks up
//! one name in it instead of a whole path.

use crate::bounded;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Opens files as [`bounded::open`] does. A thread that opens many has one of its own.
#[derive(Default)]
pub(crate) struct Opener {
    /// Of the last file.
    folder: PathBuf,
    /// Open from the second file of the folder on: to open it for a single file costs more than it saves.
    handle: Option<OwnedFd>,
}

impl Opener {
    /// Opens a regular file, or what a link to one leads to, and gives its length in bytes. Others are refused before they are opened.
    ///
    /// # Errors
    /// As [`bounded::open`].
    pub(crate) fn open(&mut self, path: &Path) -> io::Result<(File, u64)> {
        match self.open_nearby(path) {
            Some(opened) => Ok(opened),
            // Links, empty files, what is no file, and whatever says why there is none.
            None => bounded::open(path),
        }
    }

    fn open_nearby(&mut self, path: &Path) -> Option<(File, u64)> {
        let (folder, name) = (path.parent()?, path.file_name()?);
        // `a.jpg/` and `a.jpg/.` have this name, too, and are no files.
        if !path.as_os_str().as_bytes().ends_with(name.as_bytes()) {
            return None;
        }
        if self.folder.as_os_str() != folder.as_os_str() {
            self.handle = None;
            folder.clone_into(&mut self.folder);
            return open_in(CWD, path.as_os_str());
        }
        if self.handle.is_none() {
            let named = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            self.handle = openat(CWD, named, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        }
        open_in(self.handle.as_ref()?.as_fd(), name)
    }
}

/// The regular file `name`, from a folder on, and its length; none for a link, for an empty file, which may be one of the kernel's, and for what
/// cannot be opened.
fn open_in(folder: BorrowedFd, name: &OsStr) -> Option<(File, u64)> {
    let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let length = u64::try_from(found.st_size).ok().filter(|length| *length > 0)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return None;
    }
    // A pipe that has taken its place meanwhile is not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Some((File::from(openat(folder, name, flags, Mode::empty()).ok()?), length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{ErrorKind, Read};
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn content(opener: &mut Opener, path: &Path) -> Result<String, ErrorKind> {
        let (mut file, length) = opener.open(path).map_err(|e| e.kind())?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| e.kind())?;
        assert_eq!(text.len() as u64, length);
        Ok(text)
    }

    #[test]
    fn files_are_opened_and_others_refused_whatever_was_opened_before() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        [&a, &b].iter().for_each(|folder| fs::create_dir(folder).unwrap());
        for (folder, text) in [(&a, "of a"), (&b, "of b")] {
            ["1", "2"].iter().for_each(|name| fs::write(folder.join(name), text).unwrap());
            fs::write(folder.join("empty"), "").unwrap();
            fs::create_dir(folder.join("folder")).unwrap();
            symlink("1", folder.join("link")).unwrap();
            symlink("/dev/zero", folder.join("endless")).unwrap();
            symlink("absent", folder.join("broken")).unwrap();
            assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
        }
        let mut opener = Opener::default();
        // Twice, so that each name is asked of a folder that is open already, and of one that is not.
        for (folder, text) in [(&a, "of a"), (&a, "of a"), (&b, "of b"), (&a, "of a")] {
            for (name, expected) in [
                ("1", Ok(text)),
                ("2", Ok(text)),
                ("link", Ok(text)),
                ("empty", Ok("")),
                ("absent", Err(ErrorKind::NotFound)),
                ("broken", Err(ErrorKind::NotFound)),
                ("folder", Err(ErrorKind::IsADirectory)),
                ("pipe", Err(ErrorKind::InvalidInput)),
                ("endless", Err(ErrorKind::InvalidInput)),
                ("1/", Err(ErrorKind::NotADirectory)),
                ("1/.", Err(ErrorKind::NotADirectory)),
                ("folder/..", Err(ErrorKind::IsADirectory)),
            ] {
                let found = content(&mut opener, &folder.join(name));
                assert_eq!(found, expected.map(str::to_owned), "{name} in {}", folder.display());
            }
        }
        let kernel = Path::new("/proc/kmsg");
        (0..2).for_each(|_| assert_eq!(content(&mut opener, kernel), Err(ErrorKind::InvalidInput)));
    }
}
