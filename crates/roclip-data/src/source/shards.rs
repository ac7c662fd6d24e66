//! Which files are the shards of a data set.

use crate::error::{Error, Result};
use crate::source::pattern;
use crate::source::spelling::{path_parts, place};
use crate::source::tree::Tree;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Whether a file is a shard, by its name.
pub(crate) fn is_shard(file: &Path) -> bool {
    [".tar", ".tar.gz", ".tgz"].iter().any(|ending| ends_with(file, ending))
}

/// Whether a shard is compressed, by its name.
pub(crate) fn is_gzip(file: &Path) -> bool {
    ends_with(file, "gz")
}

fn ends_with(file: &Path, ending: &str) -> bool {
    let name = file.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    let from = name.len().saturating_sub(ending.len());
    name.len() > ending.len() && name.get(from..).is_some_and(|end| end.eq_ignore_ascii_case(ending.as_bytes()))
}

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

/// For each path the shortest end of it, in whole components, that tells it from all the others: `a/0.tar` and `b/0.tar`, but `0.tar` and `1.tar`.
/// Equal paths keep equal ends.
pub(crate) fn distinct_ends(paths: &[&str]) -> Vec<String> {
    let components: Vec<Vec<&str>> =
        paths.iter().map(|path| path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()).collect();
    let longest = components.iter().map(Vec::len).max().unwrap_or(0);
    let ends = |length: usize| -> Vec<String> {
        components
            .iter()
            .map(|parts| parts.get(parts.len().saturating_sub(length)..).unwrap_or_default().join("/"))
            .collect()
    };
    let distinct = |names: &Vec<String>| {
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        sorted.windows(2).all(|pair| pair.first() != pair.last())
    };
    (1..longest).map(ends).find(distinct).unwrap_or_else(|| ends(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_tells_them_apart() {
        assert_eq!(distinct_ends(&["/x/a/0.tar", "/x/b/0.tar"]), ["a/0.tar", "b/0.tar"]);
        assert_eq!(distinct_ends(&["a/0.tar", "a/1.tar", "emoji"]), ["0.tar", "1.tar", "emoji"]);
        assert_eq!(distinct_ends(&["train", "./x/train"]), ["train", "x/train"]);
        assert_eq!(distinct_ends(&["a", "a/"]), ["a", "a"]);
    }

    #[test]
    fn shards_are_known_by_their_names() {
        for (name, shard) in [("a.tar", true), ("a.TAR.gz", true), ("b.tgz", true), ("tar", false), ("a.tar.xz", false)]
        {
            assert_eq!(is_shard(Path::new(name)), shard, "{name}");
        }
    }
}
