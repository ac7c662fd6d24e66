//! The files that a path names.

use crate::error::{Error, Result};
use crate::source::pattern;
use crate::source::spelling::{path_parts, place};
use crate::source::tree::Tree;
use std::collections::HashSet;
use std::path::PathBuf;

/// The files that `path` joins, patterns written out, and the shards of folders in their place.
///
/// # Errors
/// A pattern that nothing matches, a folder that cannot be listed or has no shard, and a file that is named twice.
pub(crate) fn files_of(path: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for part in path_parts(path) {
        for path in pattern::expand(part)? {
            match path.is_dir() {
                true => {
                    let shards = Tree::walk(&path)?.shards;
                    if shards.is_empty() {
                        let remedy = "name files, or a folder of *.tar, *.tar.gz or *.tgz";
                        return Err(Error::file(&path, "holds no shards", remedy));
                    }
                    files.extend(shards.iter().map(|shard| path.join(shard)));
                }
                false => files.push(path),
            }
        }
    }
    let mut places = HashSet::new();
    match files.iter().find(|file| !places.insert(place(file))) {
        Some(twice) => Err(Error::setting(
            format!("`{path}` names `{}` twice", twice.display()),
            "name it once; each of its records would be two",
        )),
        None => Ok(files),
    }
}
