//! The library's one error type. Every message says what was wrong, where, and what to do. It names its cause, which is therefore no
//! `source` (a chain would print it twice).

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of files, settings and data: the most of them.
    #[error(transparent)]
    Data(#[from] roclip_data::error::Error),
    /// Training met numbers it must not go on with. `samples` are those of the batch; the message names some.
    #[error("{what}; {remedy}")]
    Diverged { what: String, remedy: String, samples: Vec<String> },
    /// A run was asked to end, and did so after saving a checkpoint.
    #[error("stopped after step {step}, which is saved; the run can be resumed there (run `{}`)", run.display())]
    Stopped { run: PathBuf, step: u64 },
    /// Another process of the run has ended or does not answer.
    #[error("{what}; {remedy}")]
    Lost { what: String, remedy: String },
    /// Something is wrong that puts what was found before it in doubt, too: it is not gone on with.
    #[error("{what}; {remedy}")]
    Doubtful { what: String, remedy: String },
    #[error("libtorch, while {action}: {cause}")]
    Torch { action: &'static str, cause: tch::TchError },
    #[error(transparent)]
    Bridge(#[from] torch_bridge::BridgeError),
}

impl Error {
    pub fn setting(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        roclip_data::error::Error::setting(what, remedy).into()
    }

    pub fn lost(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Lost { what: what.into(), remedy: remedy.into() }
    }

    pub fn file(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        roclip_data::error::Error::file(path, what, remedy).into()
    }

    /// `error`, found while `path` was read.
    pub fn in_file(path: &Path, error: &Error) -> Self {
        match error {
            Error::Data(roclip_data::error::Error::Setting { what, remedy }) => {
                Self::file(path, what.clone(), remedy.clone())
            }
            other => Self::file(path, other.to_string(), "give another file"),
        }
    }

    pub fn internal(what: impl Into<String>) -> Self {
        roclip_data::error::Error::internal(what).into()
    }
}

/// Names the file and what was being done when an I/O call failed.
pub trait IoContext<T> {
    fn io(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn io(self, action: &'static str, path: &Path) -> Result<T> {
        roclip_data::error::IoContext::io(self, action, path).map_err(Error::from)
    }
}

/// Says what libtorch was asked for when it failed.
pub trait TorchContext<T> {
    fn torch(self, action: &'static str) -> Result<T>;
}

impl<T> TorchContext<T> for std::result::Result<T, tch::TchError> {
    fn torch(self, action: &'static str) -> Result<T> {
        self.map_err(|cause| Error::Torch { action, cause })
    }
}
