//! The one error type of the data crate. Every message says what was wrong, where, and what to do. It names its cause, which is therefore no
//! `source` (a chain would print it twice).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} `{}`: {cause}; {}", path.display(), io_remedy(cause))]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    /// A file that exists but does not hold what it should.
    #[error("`{}`: {what}; {remedy}", path.display())]
    File { path: PathBuf, what: String, remedy: String },
    /// A setting, or a combination of settings, that cannot work.
    #[error("{what}; {remedy}")]
    Setting { what: String, remedy: String },
    #[error("internal: {what}; please report this")]
    Internal { what: String },
}

/// The codes of Linux and macOS for too many open files, of the system and of this process.
const TOO_MANY_FILES: [i32; 2] = [23, 24];

/// What to do where no file can be opened since too many are open; none for other failures.
pub fn too_many_files(cause: &std::io::Error) -> Option<&'static str> {
    let is_limit = cause.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code));
    is_limit.then_some("raise the files that may be open at once (`ulimit -n`), or lower --workers (data.workers)")
}

/// What to do about the failures that users meet; the rest are the machine's.
fn io_remedy(cause: &std::io::Error) -> &'static str {
    if let Some(remedy) = too_many_files(cause) {
        return remedy;
    }
    match cause.kind() {
        ErrorKind::OutOfMemory => "free some memory, or raise what this shell may use (`ulimit -v`)",
        ErrorKind::NotFound => "check the path (relative ones start at the current folder)",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "check the permissions, or name another place",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some disk space",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => "name another path",
        ErrorKind::InvalidInput => "name a regular file",
        ErrorKind::FileTooLarge => "check that it is the file that you mean",
        _ => "check the disk or the file and try again",
    }
}

impl Error {
    pub fn setting(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Setting { what: what.into(), remedy: remedy.into() }
    }

    pub fn file(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::File { path: path.to_owned(), what: what.into(), remedy: remedy.into() }
    }

    pub fn internal(what: impl Into<String>) -> Self {
        Error::Internal { what: what.into() }
    }
}

/// Names the file and what was being done when an I/O call failed.
pub trait IoContext<T> {
    fn io(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn io(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|cause| Error::Io { action, path: path.to_owned(), cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_told_with_what_to_raise() {
        let said =
            |code| Err::<(), _>(std::io::Error::from_raw_os_error(code)).io("open", Path::new("a.tar")).unwrap_err();
        for code in TOO_MANY_FILES {
            assert!(said(code).to_string().contains("ulimit -n"), "{}", said(code));
        }
        assert!(said(12).to_string().contains("ulimit -v"), "{}", said(12));
    }
}
