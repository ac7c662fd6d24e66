//! Which files are shards, and what tells paths apart.

use std::path::Path;

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

/// For each path the shortest end of it, in whole components, that tells it from all the others: `a/0.tar` and `b/0.tar`, but `0.tar` and `1.tar`.
/// Equal paths keep equal ends.
pub(crate) fn distinct_ends<P: AsRef<str>>(paths: &[P]) -> Vec<String> {
    let components: Vec<Vec<&str>> = paths
        .iter()
        .map(|path| path.as_ref().split('/').filter(|part| !part.is_empty() && *part != ".").collect())
        .collect();
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
