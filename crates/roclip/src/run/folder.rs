//! The folder of a run, and the lock that keeps a second writer out of it.

use crate::error::{Error, IoContext, Result};
use crate::run::kind::{LOCK, RUN_FLAG, RunKind};
use roclip_data::artifact;
use roclip_data::paths::create_folder;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A run folder that this process alone writes in, until the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl RunFolder {
    /// Takes the folder `path` for a run of `kind`; it is made where it does not exist.
    ///
    /// # Errors
    /// Those of [`RunKind::check`]; fails when another process writes in it.
    pub fn take(path: &Path, kind: RunKind) -> Result<RunFolder> {
        kind.check(path, RUN_FLAG)?;
        create_folder(path)?;
        let file = path.join(LOCK);
        let mut lock = open_lock(&file, "a run")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let process = match lock.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                    _ => "another process".to_owned(),
                };
                return Err(Error::file(
                    path,
                    format!("is being written by {process}"),
                    "wait for it to end, or name another folder with --run",
                ));
            }
            // Some network file systems have no locks; a run there is as safe as its user is careful.
            Err(TryLockError::Error(cause)) if cause.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(cause)) => return Err(cause).io("lock", &file),
        }
        lock.set_len(0).io("write", &file)?;
        writeln!(lock, "{}", std::process::id()).io("write", &file)?;
        Ok(RunFolder { path: path.to_owned(), _lock: lock })
    }

    /// [`RunFolder::take`] of a folder that a run has been in; none where none has.
    ///
    /// # Errors
    /// Those of [`RunFolder::take`]; what may not be in the folder is found before any work.
    pub fn take_existing(path: &Path, kind: RunKind) -> Result<Option<RunFolder>> {
        kind.check(path, RUN_FLAG)?;
        if path.join(LOCK).is_file() { Self::take(path, kind).map(Some) } else { Ok(None) }
    }

    /// Gives back a folder in which nothing was written: it is removed where it holds the lock only.
    pub fn give_back(self) {
        artifact::remove_unused(&self.path, LOCK);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// # Errors
    /// Fails when the folder was removed or replaced since the run began; writing on would leave half a run.
    pub fn check_there(&self) -> Result<()> {
        if self.file("run.toml").is_file() {
            return Ok(());
        }
        Err(Error::file(
            &self.path,
            "was removed or emptied while the run wrote in it",
            "start the run again; what it had learned is lost",
        ))
    }
}

/// Opens the file whose lock `holder` takes; it is made where it does not exist.
///
/// # Errors
/// What is no regular file. A link would have another file written, and a pipe would be waited for.
pub fn open_lock(file: &Path, holder: &str) -> Result<File> {
    if std::fs::symlink_metadata(file).is_ok_and(|found| !found.is_file()) {
        return Err(Error::file(file, "is no regular file", format!("remove it: {holder} keeps its lock there")));
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).io("open", file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_a_pipe_or_a_folder_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, inner) = (folder.path().join("pipe"), folder.path().join("inner"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::create_dir(&inner).unwrap();
        for place in [&pipe, &inner] {
            let refused = open_lock(place, "a sweep").unwrap_err().to_string();
            assert!(refused.contains("no regular file") && refused.contains("remove it: a sweep"), "{refused}");
        }
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_what_it_points_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (run, elsewhere) = (folder.path().join("run"), folder.path().join("elsewhere"));
        std::fs::create_dir(&run).unwrap();
        std::fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, run.join("lock")).unwrap();
        let refused = RunFolder::take(&run, RunKind::Training).unwrap_err().to_string();
        assert!(refused.contains("no regular file"), "{refused}");
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "mine");
    }

    #[test]
    fn a_second_writer_is_told_which_process_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let kind = RunKind::Training;
        assert!(RunFolder::take_existing(&run, kind).unwrap().is_none() && !run.exists());
        let first = RunFolder::take(&run, kind).unwrap();
        let error = RunFolder::take(&run, kind).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()) && error.contains("--run"), "{error}");
        drop(first);
        assert!(RunFolder::take_existing(&run, kind).unwrap().is_some());
    }
}
