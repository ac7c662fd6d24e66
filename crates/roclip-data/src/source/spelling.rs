//! Different spellings of one path, and of several that are joined.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Where something lies, however it was named; the path as it is where that cannot be told.
pub(super) fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// How many parts a path joins with `::`.
pub fn part_count(path: &str) -> usize {
    path_parts(path).count()
}

pub(super) fn path_parts(path: &str) -> impl Iterator<Item = &str> {
    path.split("::").filter(|part| !part.is_empty())
}

/// A path without what leads nowhere: `./img//a.png` is `img/a.png`, and the same picture. What leads upwards stays, for a folder may be a link;
/// so does an address.
pub(super) fn plain_path(path: &str) -> Cow<'_, str> {
    let leads_nowhere = |part: &&str| part.is_empty() || *part == ".";
    let (root, rest) = match path.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => ("", path),
    };
    if path.contains("://") || !rest.split('/').any(|part| leads_nowhere(&part)) {
        return Cow::Borrowed(path);
    }
    let parts: Vec<&str> = rest.split('/').filter(|part| !leads_nowhere(part)).collect();
    match parts.is_empty() {
        true => Cow::Borrowed(path),
        false => Cow::Owned(format!("{root}{}", parts.join("/"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (odd, plain) in [
            ("./img/a.png", "img/a.png"),
            ("img//a.png", "img/a.png"),
            ("./img/././/a.png", "img/a.png"),
            ("//data/./a.png", "/data/a.png"),
            ("./../a.png", "../a.png"),
        ] {
            assert_eq!(plain_path(odd), plain);
        }
        for own in
            ["img/a.png", "a.png", "/data/a.png", "../a.png", "img/..a.png", ".a/b.png", "https://x//a.png", ".", "/"]
        {
            assert!(matches!(plain_path(own), Cow::Borrowed(same) if same == own), "{own}");
        }
    }
}
