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

/// What to do about the failures that users meet; the rest are the machine's.
fn io_remedy(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
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
