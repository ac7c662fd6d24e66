//! Folders as people type them: `runs/a/` and `runs/a/.` are `runs/a`.

use crate::error::{Error, IoContext, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// `folder` without what says nothing: slashes at its end or one behind another, and `.` behind its first part.
pub fn plain(folder: &Path) -> PathBuf {
    folder.components().collect()
}

/// The name of `folder` with `-what` behind it: a folder beside it, however it was typed. One that is typed without its name (`.`, `a/..`) is
/// looked up.
pub fn beside(folder: &Path, what: impl AsRef<OsStr>) -> PathBuf {
    let typed = plain(folder);
    let named = match typed.file_name() {
        Some(_) => typed,
        None => typed.canonicalize().unwrap_or(typed),
    };
    let mut name = named.into_os_string();
    name.push("-");
    name.push(what);
    name.into()
}

/// Makes the folder `path` and those above it, where they are not there.
///
/// # Errors
/// What cannot be made, and those of [`check_links`].
pub fn create_folder(path: &Path) -> Result<()> {
    check_links(path)?;
    std::fs::create_dir_all(path).io("create the folder", path)
}

/// # Errors
/// A link on the way to the folder `path`, or in its place, that leads nowhere: of a folder that is to be made there the system says that the
/// file exists, or that it is no folder.
pub fn check_links(path: &Path) -> Result<()> {
    match path.ancestors().find(|place| place.is_symlink() && !place.exists()) {
        Some(link) => Err(Error::file(link, "is a link that leads nowhere", "bring back what it led to, or remove it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_no_place_for_a_folder() {
        let lab = tempfile::tempdir().unwrap();
        let link = lab.path().join("link");
        std::os::unix::fs::symlink(lab.path().join("gone"), &link).unwrap();
        for path in [link.clone(), link.join("a/b")] {
            let said = create_folder(&path).unwrap_err().to_string();
            assert!(said.contains("link`") && said.contains("is a link that leads nowhere"), "{said}");
        }
        std::fs::create_dir(lab.path().join("gone")).unwrap();
        create_folder(&link.join("a/b")).unwrap();
        assert!(lab.path().join("gone/a/b").is_dir());
    }

    #[test]
    fn a_folder_is_the_same_however_it_is_typed() {
        for typed in ["runs/a", "runs/a/", "runs//a//", "runs/a/.", "runs/./a/./"] {
            assert_eq!(plain(Path::new(typed)).as_os_str(), "runs/a", "{typed}");
            assert_eq!(beside(Path::new(typed), "seed1").as_os_str(), "runs/a-seed1", "{typed}");
        }
        assert_eq!(beside(Path::new("./a/"), "b").as_os_str(), "./a-b");
        let lab = tempfile::tempdir().unwrap();
        let run = lab.path().canonicalize().unwrap().join("run");
        std::fs::create_dir_all(run.join("inner")).unwrap();
        assert_eq!(beside(&run.join("inner/.."), "new"), run.with_file_name("run-new"));
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let mut expected = here.into_os_string();
        expected.push("-new");
        assert_eq!(beside(Path::new("."), "new").as_os_str(), expected);
    }
}
