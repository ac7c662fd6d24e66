//! The run that a checkpoint belongs to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The run folder (it has a `run.toml`) that `path` is, or that holds `path` as one of its `checkpoints/`.
pub fn run_of(path: &Path) -> Option<PathBuf> {
    if path.join("run.toml").is_file() {
        return Some(path.to_owned());
    }
    let path = path.canonicalize().ok()?;
    let checkpoints = path.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "checkpoints"))?;
    checkpoints.parent().filter(|run| run.join("run.toml").is_file()).map(Path::to_owned)
}

/// The names of the runs that lie in `folder`, as a demo or a sweep leaves them.
pub fn runs_within(folder: &Path) -> impl Iterator<Item = OsString> {
    let within = std::fs::read_dir(folder).into_iter().flatten().flatten();
    within.filter(|entry| entry.path().join("run.toml").is_file()).map(|entry| entry.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_belongs_to_the_run_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let (run, step) = (folder.path().join("run"), folder.path().join("run/checkpoints/step_3"));
        std::fs::create_dir_all(&step).unwrap();
        assert_eq!(run_of(&step), None);
        std::fs::write(run.join("run.toml"), "").unwrap();
        assert_eq!(run_of(&run), Some(run.clone()));
        assert_eq!(run_of(&step), Some(run.canonicalize().unwrap()));
        assert_eq!(run_of(&run.join("checkpoints")), None);
        std::fs::create_dir(run.join("copy")).unwrap();
        assert_eq!(run_of(&run.join("copy")), None);
    }
}
